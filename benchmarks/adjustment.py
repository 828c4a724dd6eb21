"""`python -m benchmarks.adjustment`: what `logit_adjustment` does for rare classes, beside what else is simple.

scikit-learn's digits cut to a long tail: 110 training rows of the first class, two thirds of it of each next one, at
least 3. A network of one hidden layer, the same start and steps for each loss; balanced accuracy on 600 rows that are
not cut, over ten splits. Afterwards corrected: the log of the classes' shares is subtracted from the plain scores.
"""

from __future__ import annotations

import statistics
import sys

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from equipoise import SoftmaxCrossEntropyLoss, class_counts, inverse_frequency_weights, log_priors

SPLITS, CLASSES, TEST_ROWS, STEPS = 10, 10, 600, 150


def long_tail(label: Tensor, rows: Tensor) -> Tensor:
    """Those of the rows that are left to train with."""
    parts = [rows[label[rows] == each][: max(3, int(110 * 0.66**each))] for each in range(CLASSES)]
    return torch.cat(parts)


def trained(loss: nn.Module, features: Tensor, label: Tensor, seed: int) -> nn.Module:
    """A network trained with a loss."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, CLASSES))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss(model(features), label).backward()
        optimizer.step()
    return model


def balanced_accuracy(scores: Tensor, label: Tensor) -> float:
    """The mean of the classes' recalls."""
    right = scores.argmax(1) == label
    return statistics.mean(float(right[label == each].float().mean()) for each in range(CLASSES))


def split(seed: int) -> dict[str, float]:
    """The balanced accuracy of each way on one split."""
    images, digits = load_digits(return_X_y=True)
    features, label = torch.tensor(images / 16).float(), torch.tensor(digits)
    order = torch.randperm(len(label), generator=torch.Generator().manual_seed(seed))
    test, train = order[:TEST_ROWS], long_tail(label, order[TEST_ROWS:])
    counts = class_counts(label[train], CLASSES)
    losses = {
        "plain": SoftmaxCrossEntropyLoss(),
        "weighted by inverse frequency": SoftmaxCrossEntropyLoss(weight=inverse_frequency_weights(counts)),
        "adjusted": SoftmaxCrossEntropyLoss(logit_adjustment=counts),
    }
    scores = {
        name: trained(loss, features[train], label[train], seed)(features[test]).detach()
        for name, loss in losses.items()
    }
    scores["corrected afterwards"] = scores["plain"] - log_priors(counts).float()
    return {name: balanced_accuracy(each, label[test]) for name, each in scores.items()}


def main() -> int:
    """Prints the mean of each way, and its difference to the correction with a 95 % interval."""
    results = [split(seed) for seed in range(SPLITS)]
    for name in results[0]:
        ahead = [result[name] - result["corrected afterwards"] for result in results]
        error = 2.262 * statistics.stdev(ahead) / SPLITS**0.5  # Student's t, 9 degrees of freedom
        mean = statistics.mean(result[name] for result in results)
        sys.stdout.write(f"{name:<30} {mean:.3f}   to the correction {statistics.mean(ahead):+.3f} ± {error:.3f}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
