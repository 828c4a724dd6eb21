"""The answer as Python to paste into one's own training."""

from __future__ import annotations

from . import remedies
from .retrieval import snippet as retrieval
from .study import Study
from .summary import Comparison, Row

SETUP = """import torch
import equipoise

# labels: {labels}
# model: gives raw scores {scores}"""


def snippet(comparison: Comparison) -> str:
    """Code that builds the winner's loss and optimizer, and says what to do with the scores after training."""
    study = comparison.study
    if study.problem.kind == "retrieval":
        return retrieval.snippet(comparison)
    row = next(row for row in comparison.rows if row.name == comparison.winner)
    classes = study.problem.num_outputs
    labels, scores = {
        "multiclass": ("of the training rows, class indices [N]", f"[N, {classes}]"),
        "binary": ("of the training rows, zeros and ones [N, 1], float", "[N, 1]"),
        "multilabel": (f"of the training rows, zeros and ones [N, {classes}], float", f"[N, {classes}]"),
    }[study.problem.kind]
    lines = [
        SETUP.format(labels=labels, scores=scores),
        *_criterion(study, row),
        f"optimizer = torch.optim.AdamW(model.parameters(), lr={row.chosen.learning_rate:g},"
        f" weight_decay={row.chosen.weight_decay:g})",
        "loss = criterion(model(features), labels)",
        *_afterwards(study, row),
    ]
    return "\n".join(lines) + "\n"


def _criterion(study: Study, row: Row) -> list[str]:
    """The line or two that build the loss, as `candidates` does."""
    if row.name == remedies.INVERSE_FREQUENCY:
        if study.problem.kind == "multiclass":
            return [
                f"counts = equipoise.class_counts(labels, {study.problem.num_outputs})",
                "criterion = equipoise.SoftmaxCrossEntropyLoss(weight=equipoise.inverse_frequency_weights(counts))",
            ]
        return [
            "positives = labels.sum(dim=0)",
            "criterion = equipoise.SigmoidCrossEntropyLoss(pos_weight=(len(labels) - positives) / positives)",
        ]
    card = study.candidates[study.candidates[row.name].trained_as].card
    assert card is not None  # the yardstick and every loss of the catalogue have one
    name = card.module.__name__
    if hasattr(card.module, "from_labels"):
        return [f"criterion = equipoise.{name}.from_labels(labels, {study.problem.num_outputs})"]
    return [f"criterion = equipoise.{name}()"]


def _afterwards(study: Study, row: Row) -> list[str]:
    if row.name == remedies.THRESHOLD:
        return ["# after training: choose the threshold on validation rows, and call scores above it positive"]
    if row.name != remedies.PRIOR_CORRECTED:
        return []
    if study.problem.kind == "multiclass":
        counts = f"equipoise.class_counts(labels, {study.problem.num_outputs})"
        return [
            "# after training: take the class frequencies out of the scores",
            f"scores = model(features) - {counts}.log()",
        ]
    return [
        "# after training: take the frequency of positives out of the scores",
        "scores = model(features) - torch.logit(labels.mean(dim=0))",
    ]
