"""Class weights from class counts, in 60-digit decimal arithmetic: nothing can cancel."""

import decimal
import math

import numpy as np

DIGITS = decimal.Context(prec=60)


def normalized(weights, counts, normalize):
    """Scaled to sum to the number of classes that occur (Cui et al., section 4: "sum to C")."""
    with decimal.localcontext(DIGITS):
        total = sum(weights, decimal.Decimal(0))
        if normalize and total:
            seen = sum(count > 0 for count in counts)
            weights = [weight * seen / total for weight in weights]
    return np.array([float(weight) for weight in weights])


def effective_number_weights(counts, beta=0.9999, normalize=True):
    """1 / E_n with E_n = (1 - beta^n) / (1 - beta): Cui et al., CVPR 2019, proposition 1 and eq. 4; 0 for n = 0."""
    counts = [decimal.Decimal(count) for count in np.asarray(counts).tolist()]
    weights = []
    with decimal.localcontext(DIGITS):
        beta = decimal.Decimal(float(beta))
        for n in counts:
            if n == 0:
                weights.append(decimal.Decimal(0))
            elif beta == 1:
                weights.append(1 / n)  # the limit: E_n = 1 + beta + ... + beta^(n-1) = n
            else:
                weights.append((1 - beta) / (1 - beta**n))
    return normalized(weights, counts, normalize)


def inverse_frequency_weights(counts, power=1.0, normalize=True):
    counts = [decimal.Decimal(count) for count in np.asarray(counts).tolist()]
    with decimal.localcontext(DIGITS):
        exponent = -decimal.Decimal(float(power))
        weights = [n**exponent if n > 0 else decimal.Decimal(0) for n in counts]
    return normalized(weights, counts, normalize)


def class_counts(labels, num_classes, multilabel=False, ignore_index=-100):
    """How often each class occurs: a loop over indices, or column sums of multi-label rows [..., C]."""
    counts = [0] * num_classes
    labels = np.asarray(labels)
    if multilabel:
        for row in labels.reshape(-1, num_classes):
            for c in range(num_classes):
                counts[c] += int(row[c])
    else:
        for label in labels.reshape(-1):
            if label != ignore_index:
                counts[label] += 1
    return np.array(counts, dtype=np.int64)


def balancing_alpha(target, per_class=False):
    """Alpha / (1 - alpha) = negatives / positives; one class alone has nothing to balance: 1/2."""
    target = np.asarray(target, dtype=np.float64)
    if per_class:
        return np.array([balancing_alpha(target[..., c]) for c in range(target.shape[-1])])
    positives = sum(target.reshape(-1).tolist())
    negatives = target.size - positives
    return negatives / (negatives + positives) if positives > 0 and negatives > 0 else 0.5


def prior_bias(pi=0.01):
    """Lin et al., section 4.1: b = -log((1 - pi) / pi)."""
    return -math.log((1 - pi) / pi)
