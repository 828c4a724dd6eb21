"""Cross-entropy, balanced cross-entropy and focal loss on independent yes/no scores.

Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017: p_t is eq. 2, alpha-balanced cross-entropy eq. 3, focal
loss eq. 4, alpha-balanced focal loss eq. 5, the derivative appendix B. Cross-entropy is eq. 1. All are eq. 5 with or
without alpha and with gamma = 0 or not; soft targets, smoothing and `pos_weight` are the project's.
"""

import numpy as np

from .basics import log_add, log_sigmoid, option, power, ratio, sigmoid, vector


def focal(z, y, not_y, gamma, alpha, pos_weight):
    """Value and derivative at each score; `not_y` is 1 - y, computed without cancellation by the caller."""
    # eq. 1, with torch's pos_weight on the positive term.
    cross_entropy = -pos_weight * y * log_sigmoid(z) - not_y * log_sigmoid(-z)
    d_cross_entropy = -pos_weight * y * sigmoid(-z) + not_y * sigmoid(z)

    # q = 1 - p_t = y sigma(-z) + (1-y) sigma(z), from eq. 2 read with a soft y.
    with np.errstate(divide="ignore"):  # log 0 = -inf is meant: that term is absent
        log_q = log_add(np.log(y) + log_sigmoid(-z), np.log(not_y) + log_sigmoid(z))

    # d log q / dz = (1-2y) sigma(z) sigma(-z) / q, and
    # sigma(z) sigma(-z) / q = 1 / (y / sigma(z) + (1-y) / sigma(-z)) = 1 / (1 + y e^-z + (1-y) e^z).
    with np.errstate(over="ignore", invalid="ignore"):  # an overflow makes the quotient 0, which it is
        growth = np.where(y > 0, y * np.exp(-z), 0.0) + np.where(not_y > 0, not_y * np.exp(z), 0.0)
    d_log_q = (not_y - y) / (1.0 + growth)

    alpha_t = 1.0 if alpha is None else alpha * y + (1.0 - alpha) * not_y
    modulator = power(log_q, gamma)
    value = alpha_t * modulator * cross_entropy  # eq. 5
    # Product rule. For y = 1 it is appendix B: (1-p)^gamma (gamma p log p + p - 1).
    gradient = alpha_t * modulator * (d_cross_entropy + gamma * cross_entropy * d_log_q)
    return value, gradient


def kept(input, target, options):
    """Scores, targets and the mask of elements that count; what the mask drops is replaced by a harmless 0."""
    z = np.asarray(input, dtype=np.float64)
    y = np.asarray(target, dtype=np.float64)
    keep = np.broadcast_to(np.asarray(option(options, "mask", True), dtype=bool), z.shape)
    return np.where(keep, z, 0.0), np.where(keep, y, 0.0), keep


def elements(input, target, options, *, gamma, alpha):
    z, y, keep = kept(input, target, options)
    smoothing = float(option(options, "label_smoothing", 0.0))
    smooth_y = y * (1.0 - smoothing) + smoothing / 2
    smooth_not_y = (1.0 - y) * (1.0 - smoothing) + smoothing / 2
    value, gradient = focal(z, smooth_y, smooth_not_y, gamma, alpha, vector(options, "pos_weight"))
    weight = np.where(keep, vector(options, "weight"), 0.0)
    return np.where(keep, weight * value, 0.0), np.where(keep, weight * gradient, 0.0)


def sigmoid_cross_entropy(input, target, options):
    return elements(input, target, options, gamma=0.0, alpha=None)


def balanced_cross_entropy(input, target, options):
    return elements(input, target, options, gamma=0.0, alpha=np.asarray(options["alpha"], dtype=np.float64))


def sigmoid_focal(input, target, options):
    alpha = None if options.get("alpha") is None else vector(options, "alpha")
    return elements(input, target, options, gamma=float(option(options, "gamma", 2.0)), alpha=alpha)


def reduce_elements(values, input, target, options):
    """`mean` divides by the number of kept elements, `mean_positive` by max(1, sum of kept, unsmoothed targets)."""
    _, y, keep = kept(input, target, options)
    divisors = {"sum": 1.0, "mean": keep.sum(), "mean_positive": max(1.0, y.sum())}
    return ratio(np.sum(values), divisors[options["reduction"]])
