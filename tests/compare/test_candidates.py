"""Which losses are compared, and how they are built from the training labels."""

from __future__ import annotations

import re

import pytest
import torch

import equipoise
from equipoise.catalog import CARDS
from equipoise.compare.candidates import candidates, choose, log_prior
from equipoise.compare.errors import CompareError
from equipoise.compare.problem import KINDS, Kind
from equipoise.compare.remedies import PRIOR_CORRECTED, THRESHOLD, YARDSTICK

LABELS = {
    "multiclass": torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, 2]),
    "binary": torch.tensor([[0.0], [0.0], [0.0], [1.0]]),
    "multilabel": torch.tensor([[0.0, 1, 0], [0, 1, 0], [1, 0, 0], [0, 1, 0]]),
}
OUTPUTS = {"multiclass": 3, "binary": 1, "multilabel": 3}
PLAIN = {kind: "softmax_cross_entropy" if kind == "multiclass" else "sigmoid_cross_entropy" for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_every_card_that_fits_is_a_candidate_with_the_yardstick_first(kind: Kind) -> None:
    names = list(candidates(kind))
    assert names[0] == YARDSTICK
    last = ["inverse_frequency", PRIOR_CORRECTED, *([THRESHOLD] if kind == "binary" else [])]
    assert names[-len(last) :] == last
    assert set(names[1 : -len(last)]) == {
        card.name for card in CARDS if kind in card.problems and card.kind != "heads"
    } - {PLAIN[kind]}


@pytest.mark.parametrize("kind", KINDS)
def test_every_candidate_trains_on_targets_of_its_kind(kind: Kind) -> None:
    for candidate in candidates(kind).values():
        if candidate.make is None:
            assert candidate.name in (PRIOR_CORRECTED, THRESHOLD)
            assert candidate.trained_as == YARDSTICK
            continue
        loss = candidate.make(LABELS[kind], OUTPUTS[kind])
        scores = torch.zeros(len(LABELS[kind]), OUTPUTS[kind], requires_grad=True)
        value = loss(scores, LABELS[kind])
        value.backward()
        assert value.isfinite()
        assert scores.grad is not None
        assert scores.grad.abs().sum() > 0


def test_scores_are_questions_of_their_own_where_a_sigmoid_loss_trains_them() -> None:
    """A softmax over them would call other probabilities the model's."""
    labels = LABELS["multiclass"]
    for candidate in candidates("multiclass").values():
        if candidate.make is not None:
            scores = torch.zeros(len(labels), 3, requires_grad=True)
            candidate.make(labels, 3)(scores, labels).backward()
            assert scores.grad is not None
            is_softmax = torch.allclose(scores.grad.sum(dim=1), torch.zeros(len(labels)), atol=1e-7)
            assert candidate.independent != is_softmax, candidate.name


@pytest.mark.parametrize("kind", KINDS)
def test_the_yardstick_is_plain_cross_entropy(kind: Kind) -> None:
    make = candidates(kind)[YARDSTICK].make
    assert make is not None
    scores, labels = torch.randn(len(LABELS[kind]), OUTPUTS[kind]), LABELS[kind]
    function = torch.nn.functional
    expected = function.cross_entropy if kind == "multiclass" else function.binary_cross_entropy_with_logits
    assert make(labels, OUTPUTS[kind])(scores, labels) == pytest.approx(float(expected(scores, labels)))


def test_losses_that_need_the_labels_get_them() -> None:
    made = {name: each.make and each.make(LABELS["multiclass"], 3) for name, each in candidates("multiclass").items()}
    counts = torch.tensor([6, 2, 1])
    expected = equipoise.effective_number_weights(counts)
    torch.testing.assert_close(made["class_balanced_softmax_focal"].class_weight, expected)
    torch.testing.assert_close(made["inverse_frequency"].weight, equipoise.inverse_frequency_weights(counts))


@pytest.mark.parametrize(("kind", "weights"), [("binary", [3.0]), ("multilabel", [3.0, 1 / 3, 1.0])])
def test_inverse_frequency_balances_each_label(kind: Kind, weights: list[float]) -> None:
    make = candidates(kind)["inverse_frequency"].make
    assert make is not None
    assert make(LABELS[kind], OUTPUTS[kind]).pos_weight.tolist() == pytest.approx(weights)  # type: ignore[union-attr]


def test_prior_correction_takes_the_prior_out_of_scores_that_know_nothing_else() -> None:
    prior = torch.tensor([6 / 9, 2 / 9, 1 / 9]).double()
    assert log_prior(LABELS["multiclass"], 3, "multiclass") == pytest.approx(prior.log())
    (positives,) = LABELS["binary"].sum(dim=0)
    share = (positives + 0.5) / (len(LABELS["binary"]) + 1)
    assert float(log_prior(LABELS["binary"], 1, "binary")) == pytest.approx(float(share.logit()))


def test_prior_correction_of_a_class_that_no_training_row_has_stays_finite() -> None:
    assert log_prior(LABELS["multilabel"], 3, "multilabel").isfinite().all()
    assert log_prior(LABELS["multiclass"], 4, "multiclass").isfinite().all()


def test_names_are_chosen_in_any_order_always_with_the_plain_answers() -> None:
    chosen = choose("multiclass", " prior_corrected, softmax_focal,")
    assert list(chosen) == [YARDSTICK, "softmax_focal", PRIOR_CORRECTED]
    assert list(choose("multiclass", "softmax_focal")) == [YARDSTICK, "softmax_focal", PRIOR_CORRECTED]
    assert list(choose("multiclass", "softmax_cross_entropy")) == [YARDSTICK, PRIOR_CORRECTED]
    assert list(choose("binary", "cross_entropy")) == [YARDSTICK, PRIOR_CORRECTED, THRESHOLD]
    assert choose("binary", None).keys() == candidates("binary").keys()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("softmax_focl", "there is no loss 'softmax_focl'; did you mean 'softmax_focal'"),
        ("zzz", "there is no loss 'zzz'; choose from cross_entropy, "),
        ("ghm_c", "the loss 'ghm_c' does not train a multiclass problem; choose from cross_entropy, "),
    ],
)
def test_unknown_and_unfit_names_are_refused_with_a_hint(names: str, message: str) -> None:
    with pytest.raises(CompareError, match=re.escape(message)):
        choose("multiclass", names)
