"""Bad input of a ranking loss raises an error of the documented type that names the argument."""

from dataclasses import replace

import pytest
import torch

import equipoise
from cases import parameters
from harness import applies
from ranking_cases import RANKED, build, call_named, invoke

LINE = "bad input raises the documented error"

BAD_OPTIONS = [
    ("margin", torch.nan, ValueError),
    ("margin", torch.inf, ValueError),
    ("margin", "wide", TypeError),
    ("margin", torch.tensor([1.0, 2.0]), ValueError),
    ("power", 0.5, ValueError),
    ("power", "two", TypeError),
    ("distance", "manhattan", ValueError),
    ("mining", "easy", ValueError),
    ("negatives", "some", ValueError),
    ("temperature", 0.0, ValueError),
    ("temperature", -1.0, ValueError),
    ("temperature", "hot", TypeError),
    ("temperature", torch.tensor(0.0), ValueError),
    ("num_neg", 0, ValueError),
    ("num_neg", 1.5, TypeError),
    ("memory_mb", 0.0, ValueError),
    ("memory_mb", "much", TypeError),
    ("reduction", "average", ValueError),
    ("reduction", "mean_positive", ValueError),
]


def option_errors():
    for card in RANKED:
        for name, value, error in BAD_OPTIONS:
            if name in parameters(card.module):
                yield applies(LINE, card, name, value, error, name=f"{name}={value}")
        if card.kind == "embeddings":
            yield applies(LINE, card, "reduction", "none", ValueError, name="reduction=none")
        if card.name in ("contrastive", "triplet", "batch_contrastive", "batch_triplet", "rank_hinge"):
            yield applies(LINE, card, "margin", -0.1, ValueError, name="margin=-0.1")


@pytest.mark.parametrize(("card", "name", "value", "error"), list(option_errors()))
def test_a_bad_option_is_named(card, name, value, error):
    call = call_named(card, "typical")
    with pytest.raises(error, match=f"`{name}`"):
        invoke(build(card, {name: value}), call)
    with pytest.raises(error, match=f"`{name}`"):
        invoke(lambda *tensors, **batch: card.function(*tensors, **batch, **{name: value}), call)


def spoilt_inputs(card):
    """Each input in turn as a list, as integers, and in another shape."""
    call = call_named(card, "typical")
    for name, tensor in call.inputs.items():
        for what, bad, error in (
            ("a list", tensor.tolist(), TypeError),
            ("integers", tensor.long(), TypeError),
            ("one too long", torch.cat([tensor, tensor[:1]]), ValueError),
        ):
            if what == "one too long" and card.kind == "embeddings" and name == "query":
                continue  # then the key is the one that does not fit
            blamed = name
            if what == "one too long" and name in ("input1", "anchor"):
                blamed = {"input1": "input2", "anchor": "positive"}[name]
            if what == "one too long" and name == "embedding":
                blamed = "label"
            yield f"{name}: {what}", replace(call, inputs={**call.inputs, name: bad}), blamed, error


def spoilt_targets(card):
    call = call_named(card, "typical")
    if call.target is None:
        return
    name = "label" if card.kind == "embeddings" else "target"
    yield "target: a list", replace(call, target=call.target.tolist()), name, TypeError
    yield "target: a gradient", replace(call, target=call.target.double().requires_grad_()), name, ValueError
    yield "target: too few", replace(call, target=call.target[:-1]), name, ValueError
    if card.kind == "embeddings":
        yield "label: fractions", replace(call, target=call.target.double()), name, TypeError
        yield "label: booleans", replace(call, target=call.target > 0), name, TypeError
    else:
        yield "target: 3", replace(call, target=torch.full_like(call.target, 3)), name, ValueError
        yield "target: NaN", replace(call, target=call.target * torch.nan), name, ValueError


def call_errors():
    for card in RANKED:
        for what, call, blamed, error in (*spoilt_inputs(card), *spoilt_targets(card)):
            yield applies(LINE, card, call, blamed, error, name=what)


@pytest.mark.parametrize(("card", "call", "blamed", "error"), list(call_errors()))
def test_a_bad_tensor_is_named(card, call, blamed, error):
    with pytest.raises(error, match=f"`{blamed}`"):
        invoke(build(card, {}), call)
    with pytest.raises(error, match=f"`{blamed}`"):
        invoke(card.function, call)


ROWS, LABEL = torch.randn(6, 3, dtype=torch.float64), torch.arange(6) // 2
MASK = LABEL[:, None] == LABEL
BANK, BANK_LABEL = torch.randn(4, 3, dtype=torch.float64), torch.arange(4)

BAD_BATCHES = {
    "neither labels nor masks": ("label", ValueError, {}),
    "labels and masks": ("label", ValueError, {"label": LABEL, "positive": MASK}),
    "labels and negatives": ("label", ValueError, {"label": LABEL, "negative": ~MASK}),
    "negatives alone": ("label", ValueError, {"negative": ~MASK}),
    "a mask of numbers": ("positive", TypeError, {"positive": MASK.double()}),
    "a mask of another width": ("positive", ValueError, {"positive": MASK[:, :-1]}),
    "both positive and negative": ("negative", ValueError, {"positive": MASK, "negative": MASK}),
    "a reference without labels": ("reference_label", ValueError, {"label": LABEL, "reference": BANK}),
    "labels of no reference": ("reference_label", ValueError, {"label": LABEL, "reference_label": BANK_LABEL}),
    "labels of a masked reference": (
        "reference_label",
        ValueError,
        {"positive": torch.ones(6, 10).bool(), "reference": BANK, "reference_label": BANK_LABEL},
    ),
    "a reference of another width": (
        "reference",
        ValueError,
        {"label": LABEL, "reference": BANK[:, :2], "reference_label": BANK_LABEL},
    ),
    "too few labels of the reference": (
        "reference_label",
        ValueError,
        {"label": LABEL, "reference": BANK, "reference_label": BANK_LABEL[1:]},
    ),
}


@pytest.mark.parametrize(("blamed", "error", "arguments"), BAD_BATCHES.values(), ids=BAD_BATCHES)
@pytest.mark.parametrize("loss", ["batch_contrastive_loss", "batch_triplet_loss", "supcon_loss"])
def test_a_bad_batch_is_named(loss, blamed, error, arguments):
    with pytest.raises(error, match=f"`{blamed}`"):
        getattr(equipoise, loss)(ROWS, **arguments)


@pytest.mark.parametrize("loss", ["rank_hinge_loss", "rank_cross_entropy_loss"])
@pytest.mark.parametrize("shape", [(7,), (7, 1), (4, 2), (2, 3, 1), ()])
def test_scores_that_make_no_groups_are_refused(loss, shape):
    """A length that does not divide is no matter for rounding down: the pairs would be wrong from there on."""
    with pytest.raises(ValueError, match="`input`"):
        getattr(equipoise, loss)(torch.zeros(shape), num_neg=2)


@pytest.mark.parametrize("value", [0, -1])
def test_a_memory_has_a_size(value):
    with pytest.raises(ValueError, match="`size`"):
        equipoise.CrossBatchMemory(value)
