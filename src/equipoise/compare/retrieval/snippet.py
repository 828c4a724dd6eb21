"""The answer as Python to paste into one's own training of an embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..candidates import YARDSTICK
from .candidates import RAW, options_of, takes_keys

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
# features, labels: a batch of {batch}
"""
SOFTMAX = """head = torch.nn.Linear({width}, num_classes)  # of the training classes; left away after training
criterion = equipoise.SoftmaxCrossEntropyLoss()
parameters = [*model.parameters(), *head.parameters()]
optimizer = torch.optim.AdamW(parameters, lr={rate:g}, weight_decay={decay:g})
loss = criterion(head(model(features)), labels)
"""
RANKING = """criterion = equipoise.{loss}({options})
optimizer = torch.optim.AdamW(model.parameters(), lr={rate:g}, weight_decay={decay:g})
embedding = model(features)
loss = criterion({arguments})
"""
AFTERWARDS = "# after training: rows of one class are near each other by the cosine\n"


def snippet(comparison: Comparison) -> str:
    """Code that builds the winner's loss and optimizer, and searches with what comes out."""
    study = comparison.study
    row = next(row for row in comparison.rows if row.name == comparison.winner)
    if row.name == RAW:
        return RAW_SETUP + SEARCH.format(embedding="features") + "\n"
    width, chosen = study.problem.num_outputs, row.chosen
    settings = {"width": width, "rate": chosen.learning_rate, "decay": chosen.weight_decay}
    candidate = study.candidates[row.name]
    assert candidate.card is not None
    keys = row.name != YARDSTICK and takes_keys(candidate.card)
    batch = "about {} rows, some of each of some classes{}".format(
        study.plan.batch_size, ", two rows of a class always side by side" if keys else ""
    )
    if row.name == YARDSTICK:
        body = SOFTMAX.format(**settings)
    else:
        options = {**options_of(candidate), **dict(chosen.options)}
        body = RANKING.format(
            loss=candidate.card.module.__name__,
            options=", ".join(f"{name}={value!r}" for name, value in options.items()),
            arguments="embedding[0::2], embedding[1::2], label=labels[0::2]" if keys else "embedding, labels",
            **settings,
        )
    return (
        SETUP.format(width=width, batch=batch) + body + AFTERWARDS + SEARCH.format(embedding="model(features)") + "\n"
    )
