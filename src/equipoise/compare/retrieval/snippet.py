"""The answer as Python to paste into one's own training of an embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..remedies import YARDSTICK
from .batches import shape
from .candidates import RAW, options_of, takes_keys
from .splitting import shares

if TYPE_CHECKING:
    from ..summary import Comparison

SEARCH = """unit = torch.nn.functional.normalize({embedding}, dim=1)
nearest = (unit @ unit.T).fill_diagonal_(-1).topk(5).indices  # of each row the five most alike"""
RAW_SETUP = """import torch

# features: [N, F], each with mean 0 and standard deviation 1 over the rows that you have
"""
SETUP = """import torch
import equipoise

# model: gives embeddings [B, {width}] of features [B, F]
# all_features [N, F], all_labels [N]: of the training rows
members = [torch.nonzero(all_labels == each)[:, 0] for each in all_labels.unique()]
"""
# Rows two by two, as the comparison drew them.
BATCH = """# in each step some rows of each of some classes, two by two
chosen = [members[each] for each in torch.randperm(len(members))[:{classes}]]
rows = torch.cat([each[torch.randperm(len(each))[: min({rows}, len(each) // 2 * 2)]] for each in chosen])
features, labels = all_features[rows], all_labels[rows]
"""
SOFTMAX = """all_labels = torch.unique(all_labels, return_inverse=True)[1]
head = torch.nn.Linear({width}, len(members))  # left away after training
criterion = equipoise.SoftmaxCrossEntropyLoss()
parameters = [*model.parameters(), *head.parameters()]
optimizer = torch.optim.AdamW(parameters, lr={rate:g}, weight_decay={decay:g})
{batch}loss = criterion(head(model(features)), labels)
"""
RANKING = """criterion = equipoise.{loss}({options})
optimizer = torch.optim.AdamW(model.parameters(), lr={rate:g}, weight_decay={decay:g})
{batch}embedding = model(features)
loss = criterion({arguments})
"""
AFTERWARDS = "# after training, of any rows: those of one class are near each other by the cosine\n"


def snippet(comparison: Comparison) -> str:
    """Code that builds the winner's loss and optimizer, and searches with what comes out."""
    study = comparison.study
    row = next(row for row in comparison.rows if row.name == comparison.winner)
    if row.name == RAW:
        return RAW_SETUP + SEARCH.format(embedding="features") + "\n"
    candidate, chosen = study.candidates[row.name], row.chosen
    settings: dict[str, Any] = {
        "width": study.problem.num_outputs,
        "rate": chosen.learning_rate,
        "decay": chosen.weight_decay,
    }
    train, _, _ = shares(len(study.problem.classes))
    classes, rows = shape(train, study.plan.batch_size)
    settings["batch"] = BATCH.format(classes=classes, rows=rows)
    assert candidate.card is not None  # every loss has one
    if row.name == YARDSTICK:
        body = SOFTMAX.format(**settings)
    else:
        keys = takes_keys(candidate.card)
        options = {**options_of(candidate), **dict(chosen.options)}
        body = RANKING.format(
            loss=candidate.card.module.__name__,
            options=", ".join(f"{name}={value!r}" for name, value in options.items()),
            arguments="embedding[0::2], embedding[1::2], label=labels[0::2]" if keys else "embedding, labels",
            **settings,
        )
    search = SEARCH.format(embedding="model(all_features)")
    return f"{SETUP.format(**settings)}{body}{AFTERWARDS}{search}\n"
