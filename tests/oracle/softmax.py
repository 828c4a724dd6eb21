"""Softmax cross-entropy and softmax focal loss over the classes of a sample.

The focal loss is eq. 4 of Lin et al. (ICCV 2017) with p_t the softmax probability of the target class, summed over
classes for probability targets: -sum_c y_c w_c (1-p_c)^gamma log p_c. With S_c = sum_{k != c} exp(z_k - z_c),
p_c = 1 / (1 + S_c) and 1 - p_c = S_c / (1 + S_c): no subtraction, hence no cancellation however sure the model is.
"""

import numpy as np

from .basics import log_sigmoid, option, power, ratio, sigmoid, vector


def class_terms(z, c, gamma):
    """(1-p_c)^gamma (-log p_c) for each row of z [N, C], and its gradient [N, C]."""
    others = np.delete(z, c, axis=1)
    largest = np.max(others, axis=1, keepdims=True, initial=-np.inf)
    shift = np.where(np.isneginf(largest), 0.0, largest)  # no other class, or every other logit -inf: S_c = 0
    scaled = np.exp(others - shift)
    total = scaled.sum(axis=1)
    with np.errstate(divide="ignore"):
        log_s = shift[:, 0] - z[:, c] + np.log(total)

    log_p, log_q = log_sigmoid(-log_s), log_sigmoid(log_s)
    p, q = sigmoid(-log_s), sigmoid(log_s)
    p_log_p = np.where(p == 0.0, 0.0, p * np.where(p == 0.0, 0.0, log_p))
    modulator = power(log_q, gamma)
    value = modulator * -log_p
    # With d = -log S_c, d value / dd is Lin et al., appendix B at y = 1;
    # dd/dz_c = 1, dd/dz_k = -exp(z_k) / sum_{j != c} exp(z_j).
    slope = modulator * (gamma * p_log_p - q)
    share = scaled / np.where(total == 0.0, 1.0, total)[:, None]
    return value, np.insert(-slope[:, None] * share, c, slope, axis=1)


def as_rows(input, target, options):
    """Logits [N, C], target probabilities [N, C], and which samples count; ignored samples become harmless zeros."""
    z = np.asarray(input, dtype=np.float64)
    class_axis = 0 if z.ndim == 1 else 1
    classes = z.shape[class_axis]
    z = np.moveaxis(z, class_axis, -1)
    target = np.asarray(target)
    if np.issubdtype(target.dtype, np.floating):
        keep = np.ones(z.shape[:-1], dtype=bool)
        y = np.moveaxis(target.astype(np.float64), class_axis, -1)
    else:
        keep = target != option(options, "ignore_index", -100)
        y = (np.where(keep, target, 0)[..., None] == np.arange(classes)).astype(np.float64)
    z = np.where(keep[..., None], z, 0.0)
    return z.reshape(-1, classes), y.reshape(-1, classes), keep


def adjustment(options, classes):
    """What Menon et al. (ICLR 2021, eq. 10) add to the scores: log pi_y, from integer counts or as it is given."""
    given = np.asarray(option(options, "logit_adjustment", np.zeros(classes)))
    return np.log(given / given.sum()) if np.issubdtype(given.dtype, np.integer) else given


def samples(input, target, options, *, gamma, class_weight, sample_weight):
    z, y, keep = as_rows(input, target, options)
    classes = z.shape[1]
    z = z + adjustment(options, classes)
    smoothing = float(option(options, "label_smoothing", 0.0))
    y = y * (1.0 - smoothing) + smoothing / classes
    class_weight = np.broadcast_to(class_weight, (classes,))
    row_weight = np.where(keep, sample_weight, 0.0).reshape(-1)

    values, gradient = np.zeros(len(z)), np.zeros(z.shape)
    for c in range(classes):
        coefficient = row_weight * class_weight[c] * y[:, c]
        present = coefficient != 0.0  # 0 times an infinite term is no term
        value, slope = class_terms(z[present], c, gamma)
        values[present] += coefficient[present] * value
        gradient[present] += coefficient[present, None] * slope

    shape = np.shape(input)
    gradient = gradient.reshape(*keep.shape, classes)
    return values.reshape(keep.shape), np.moveaxis(gradient, -1, 0 if len(shape) == 1 else 1)


def softmax_focal(input, target, options):
    return samples(
        input,
        target,
        options,
        gamma=float(option(options, "gamma", 2.0)),
        class_weight=vector(options, "weight"),
        sample_weight=vector(options, "sample_weight"),
    )


def softmax_cross_entropy(input, target, options):
    return softmax_focal(input, target, {**options, "gamma": 0.0})


def reduce_samples(values, input, target, options):
    """`mean` divides as torch's cross_entropy: by sum of weight[target] for indices, by samples for probabilities."""
    _, y, keep = as_rows(input, target, options)
    if np.issubdtype(np.asarray(target).dtype, np.floating):
        mean_divisor = keep.size
    else:
        mean_divisor = np.sum((y * vector(options, "weight")).sum(axis=1) * keep.reshape(-1))
    return ratio(np.sum(values), {"sum": 1.0, "mean": mean_divisor}[options["reduction"]])
