"""What `import equipoise` gives, and what it costs."""

import subprocess
import sys

import equipoise
from equipoise.catalog import CARDS


def test_every_public_name_exists_and_is_listed():
    assert len(set(equipoise.__all__)) == len(equipoise.__all__)
    for name in equipoise.__all__:
        assert getattr(equipoise, name).__name__ == name
        assert name in dir(equipoise)


def test_every_loss_is_public():
    for card in CARDS:
        assert getattr(equipoise, card.module.__name__) is card.module
        if card.function is not None:
            assert getattr(equipoise, card.function.__name__) is card.function


def test_every_public_loss_has_a_card():
    """But for one that is part of a balancer's card: the exact form of what uncertainty weighting approximates."""
    losses_of = [card for card in CARDS if card.kind != "balancer"]
    cards = {card.module for card in losses_of} | {card.function for card in losses_of}
    losses = {
        getattr(equipoise, name) for name in equipoise.__all__ if name.lower().endswith(("loss", "cross_entropy"))
    }
    assert losses - {equipoise.scaled_softmax_cross_entropy} == cards - {None}
    assert len({card.name for card in CARDS}) == len(CARDS)


def test_the_import_does_not_load_torch():
    code = "import sys, equipoise; assert 'torch' not in sys.modules; equipoise.prior_bias(0.5); import torch"
    subprocess.run([sys.executable, "-c", code], check=True)
