"""The few functions that every formula is made of, each in the form that keeps its relative accuracy in the tails."""

import numpy as np


def sigmoid(x):
    """sigma(x) = 1 / (1 + exp(-x)), written with the exponential that does not overflow."""
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1.0) / (1.0 + e)


def log_add(a, b):
    """log(exp(a) + exp(b))."""
    with np.errstate(invalid="ignore"):  # a NaN goes through without a warning
        return np.logaddexp(a, b)


def log_sigmoid(x):
    """Log sigma(x) = -log(1 + exp(-x))."""
    return -log_add(0.0, -x)


def power(log_q, gamma):
    """q^gamma from log q, with 0^0 = 1 (gamma = 0 means no modulation, however easy the example)."""
    return np.exp(gamma * log_q) if gamma > 0 else np.ones_like(log_q)


def option(options, name, default):
    """The option as given, or its default where it is absent or None."""
    given = options.get(name)
    return default if given is None else given


def vector(options, name, default=1.0):
    """A numeric option as float64, ready to broadcast."""
    return np.asarray(option(options, name, default), dtype=np.float64)


def ratio(total, divisor):
    """Total / divisor, and 0 for a divisor of 0: an empty or fully ignored batch has loss 0."""
    return total / divisor if divisor > 0 else 0.0
