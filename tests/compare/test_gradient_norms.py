"""Where a loss's gradient sits, against what its formula says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from equipoise import GHMCLoss, SigmoidCrossEntropyLoss, SigmoidFocalLoss, SoftmaxCrossEntropyLoss
from equipoise.compare.calibration import BINS as CONFIDENCE_BINS
from equipoise.compare.calibration import Bins, calibration_error
from equipoise.compare.gradients import BINS, EDGES, gradient_norms

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(5000, 1, generator=GENERATOR) * 3
LABELS = (torch.rand(5000, 1, generator=GENERATOR) < LOGITS.sigmoid()).float()


def norms(loss: nn.Module) -> dict[str, np.ndarray]:
    found = gradient_norms(loss, LOGITS, LABELS, "binary", False)
    assert found is not None
    return {name: np.array(values) for name, values in found.items()}


def test_the_mass_of_cross_entropy_is_the_distance_from_the_label() -> None:
    distance = (LOGITS.sigmoid() - LABELS).abs().double().numpy().ravel()
    count, _ = np.histogram(distance, EDGES)
    mass, _ = np.histogram(distance, EDGES, weights=distance)
    found = norms(SigmoidCrossEntropyLoss())
    assert found["share"] == pytest.approx(count / 5000)
    assert found["mass"] == pytest.approx(mass / mass.sum(), abs=1e-6)


def test_focal_loss_moves_the_mass_to_the_hard_and_ghm_levels_it() -> None:
    plain, focal, ghm = (norms(each)["mass"] for each in (SigmoidCrossEntropyLoss(), SigmoidFocalLoss(), GHMCLoss()))
    hard = BINS // 2
    assert focal[hard:].sum() > plain[hard:].sum() + 0.1
    # GHM divides by the density: what a bin pulls no longer follows how many are in it.
    share = norms(GHMCLoss())["share"]
    assert abs(np.corrcoef(ghm, share)[0, 1]) < abs(np.corrcoef(plain / (np.arange(BINS) + 0.5), share)[0, 1])


def test_softmax_measures_the_probability_of_the_true_class() -> None:
    logits, labels = torch.randn(400, 4, generator=GENERATOR), torch.randint(4, (400,), generator=GENERATOR)
    found = gradient_norms(SoftmaxCrossEntropyLoss(), logits, labels, "multiclass", False)
    assert found is not None
    distance = 1 - logits.double().softmax(1)[torch.arange(400), labels]
    assert found["share"] == pytest.approx((np.histogram(distance.numpy(), EDGES)[0] / 400).tolist())
    gradient = (logits.double().softmax(1) - nn.functional.one_hot(labels, 4)).norm(dim=1).numpy()
    mass, _ = np.histogram(distance.numpy(), EDGES, weights=gradient)
    assert found["mass"] == pytest.approx((mass / mass.sum()).tolist(), abs=1e-6)


def test_the_state_of_a_loss_is_left_alone_and_scores_that_are_not_finite_have_no_picture() -> None:
    loss = GHMCLoss(momentum=0.5)
    norms(loss)
    assert loss.steps == 0
    assert gradient_norms(SigmoidCrossEntropyLoss(), LOGITS * torch.inf, LABELS, "binary", False) is None


def test_a_model_that_knows_its_odds_is_calibrated_and_one_that_boasts_is_not() -> None:
    generator = np.random.default_rng(0)
    confidence = generator.random(100_000)
    hit = generator.random(100_000) < confidence
    assert calibration_error(Bins.of(confidence, hit)) == pytest.approx(0, abs=0.01)
    assert calibration_error(Bins.of(np.ones(100_000), hit)) == pytest.approx(0.5, abs=0.01)
    assert calibration_error(Bins.pooled([])) is None


def test_pooled_bins_are_those_of_all_predictions() -> None:
    generator = np.random.default_rng(1)
    confidence, hit = generator.random(300), generator.random(300) < 0.5
    pooled = Bins.pooled([Bins.of(confidence[:100], hit[:100]), Bins.of(confidence[100:], hit[100:])])
    whole = Bins.of(confidence, hit)
    assert (pooled.rows, pooled.hits) == (whole.rows, whole.hits)
    assert pooled.confidence == pytest.approx(whole.confidence)
    assert sum(Bins.of(np.array([0.0, 1.0]), np.array([True, True])).rows) == 2
    assert len(whole.rows) == CONFIDENCE_BINS
