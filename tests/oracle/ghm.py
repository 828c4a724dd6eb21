"""Gradient harmonizing. Li, Liu, Wang, "Gradient Harmonized Single-stage Detector", AAAI 2019.

From its sections, in order: the gradient norm g ("Problem Description"), the density GD(g) and the harmonizing
parameter beta_i = N / GD(g_i) ("Gradient Density"), GHM-C ("GHM-C Loss"), GD by a histogram of M unit regions,
R_ind(g) * M ("Unit Region Approximation"), the moving average S of the counts R ("EMA"), ASL1 and its g ("GHM-R Loss").
"""

import numpy as np

from .basics import option, ratio, sigmoid, vector
from .sigmoid import focal, kept


def bin_of(g, bins):
    """Bin j holds j/bins <= g < (j+1)/bins; the last one also holds g = 1."""
    edges = [j / bins for j in range(1, bins)]
    return np.searchsorted(edges, g, side="right")


def classification_base(z, y, options):
    """Cross-entropy, its derivative, and g = |sigma(z) - y|, which for hard targets is the wrong class's sigma."""
    del options
    value, gradient = focal(z, y, 1.0 - y, 0.0, None, 1.0)
    soft = np.abs(sigmoid(z) - y)
    return value, gradient, np.where(y == 1, sigmoid(-z), np.where(y == 0, sigmoid(z), soft))


def regression_base(x, y, options):
    """ASL1 = sqrt(d^2 + mu^2) - mu, multiplied out against cancellation; its derivative; g = |d| / sqrt(d^2 + mu^2)."""
    mu = float(option(options, "mu", 0.02))
    d = x - y
    root = np.hypot(d, mu)
    return d * d / (root + mu), d / root, np.abs(d) / root


def harmonize(input, target, options, base, density):
    """Base loss times beta_i = N / (R_{b(i)} M); `density(R, N, finite)` says which counts stand for R."""
    x, y, keep = kept(input, target, options)
    bins = int(option(options, "bins", 10))
    value, gradient, g = base(x, y, options)

    counts = np.zeros(bins)
    for j in bin_of(g[keep], bins):
        counts[min(j, bins - 1)] += 1  # a NaN sorts past every edge
    n = keep.sum()
    m = np.count_nonzero(counts) if option(options, "normalizer", "nonempty") == "nonempty" else bins

    used = density(counts, n, bool(np.all(np.isfinite(x)) and np.all(np.isfinite(y))))
    beta = n / (np.where(used > 0, used, 1.0) * max(m, 1))
    scale = np.where(keep, vector(options, "weight") * beta[np.minimum(bin_of(g, bins), bins - 1)], 0.0)
    return np.where(keep, scale * value, 0.0), np.where(keep, scale * gradient, 0.0)


def current_counts(counts, n, finite):
    """No moving average: the batch alone. A fresh module's first batch is the same, whatever its momentum."""
    del n, finite
    return counts


def ghm_c(input, target, options):
    return harmonize(input, target, options, classification_base, current_counts)


def ghm_r(input, target, options):
    return harmonize(input, target, options, regression_base, current_counts)


class MovingGHM:
    """GHM whose counts are averaged over batches, with the corrections that the project's formulas name.

    S_j <- a S_j + (1-a) R_j for every bin, used as S / (1 - a^t). It moves on finite, non-empty training batches only;
    before the first of them R itself is used, and in evaluation max(S_j / (1 - a^t), (1-a) R_j).
    """

    def __init__(self, base, options):
        self.base, self.options = {"ghm_c": classification_base, "ghm_r": regression_base}[base], options
        self.momentum = float(option(options, "momentum", 0.0))
        self.ema = np.zeros(int(option(options, "bins", 10)))
        self.steps = 0
        self.training = True

    def density(self, counts, n, finite):
        a = self.momentum
        if a == 0.0:
            return counts
        if self.training and finite and n > 0:
            self.ema = a * self.ema + (1 - a) * counts
            self.steps += 1
        if self.steps == 0:
            return counts
        unbiased = self.ema / (1 - a**self.steps)
        return unbiased if self.training and finite else np.maximum(unbiased, (1 - a) * counts)

    def __call__(self, input, target, mask=None):
        return harmonize(input, target, {**self.options, "mask": mask}, self.base, self.density)


def reduce_harmonized(values, input, target, options):
    """`mean` divides by the number of kept elements."""
    _, _, keep = kept(input, target, options)
    return ratio(np.sum(values), {"sum": 1.0, "mean": keep.sum()}[options["reduction"]])
