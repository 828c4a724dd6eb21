"""The point functions: value and derivative at one logit, or at what one row adds up to.

The twins of csrc/sigmoid.h, csrc/softmax.h and csrc/histogram.cpp. `focus` is the focusing exponent where that is 0, 1
or 2, which need no power, else `POWER`.
"""

import triton
import triton.language as tl

from .lossmath import exp_of_minus, log1p_of_unit, reciprocal, zero_wins

POWER = tl.constexpr(3)
CERTAIN = tl.constexpr(1e4)  # a margin at which the loss and its gradient are exactly 0


@triton.jit
def sigmoid_parts(distance):
    """From |z|: exp(-|z|), the probability of the class voted for and of the other, log(1 + exp(-|z|))."""
    e = exp_of_minus(distance)
    near = reciprocal(1.0 + e)
    return e, near, e * near, log1p_of_unit(e)


@triton.jit
def hard_focal(w, gamma, focus: tl.constexpr):
    """q^gamma * -log(1 - q) and its derivative, where q = sigmoid(w) and w is the score of the wrong class."""
    _e, near, far, log_norm = sigmoid_parts(tl.abs(w))
    wrong = w >= 0
    q = tl.where(wrong, near, far)
    p = tl.where(wrong, far, near)
    ce = tl.maximum(w, 0.0) + log_norm
    if focus == 0:
        value = ce
        slope = q
    elif focus == 1:
        value = q * ce
        slope = q * (q + zero_wins(p, ce))
    elif focus == 2:
        value = (q * q) * ce
        slope = (q * q) * (q + 2.0 * zero_wins(p, ce))
    else:
        modulator = exp_of_minus(gamma * (tl.maximum(-w, 0.0) + log_norm))
        value = modulator * ce
        slope = modulator * (q + gamma * zero_wins(p, ce))
    return value, slope


@triton.jit
def soft_focal(z, positive, negative, pos_weight, gamma, focus: tl.constexpr, weighed: tl.constexpr):
    """q^gamma * cross-entropy, q the probability given to the wrong class, for any target; positive + negative = 1.

    Everything is written for the class that is voted for, with `against` the target of the other one: the derivative is
    turned once, at the end. `weighed` says whether `pos_weight` is anything but 1.
    """
    votes_positive = z >= 0
    distance = tl.abs(z)
    e, near, far, log_norm = sigmoid_parts(distance)
    against = tl.where(votes_positive, negative, positive)
    with_it = 1.0 - against
    if weighed:
        heavy = pos_weight * positive
        costs = tl.where(votes_positive, negative, heavy)
        ce = tl.fma(heavy + negative, log_norm, tl.maximum(costs * distance, 0.0))
        ce_slope = tl.fma(costs, near, -tl.where(votes_positive, heavy, negative) * far)
    else:
        ce = tl.maximum(against * distance, 0.0) + log_norm  # the maximum: 0 times infinity is 0 here
        ce_slope = against - far  # near + far = 1
    if focus == 0:
        value = ce
        slope = ce_slope
    else:
        q = tl.fma(against, near - far, far)
        turn = 2.0 * against - 1.0  # dq/d|z| = turn * near * far
        if focus == 1:
            value = q * ce
            slope = tl.fma(q, ce_slope, turn * zero_wins(near * far, ce))
        elif focus == 2:
            value = (q * q) * ce
            slope = q * tl.fma(q, ce_slope, (2.0 * turn) * zero_wins(near * far, ce))
        else:
            minus_log_q = log_norm - tl.log(tl.fma(with_it, e, against))
            ratio = tl.where(q > 0.0, near * (far / q), 1.0)  # near * far / q
            modulator = exp_of_minus(gamma * minus_log_q)
            value = modulator * ce
            slope = modulator * tl.fma(gamma * turn, zero_wins(ratio, ce), ce_slope)
    return value, tl.where(votes_positive, slope, -slope)


@triton.jit
def minor_term(p, minus_log_p, gamma, focus: tl.constexpr):
    """f(p) = -(1-p)^gamma log p and -df/dlog p of one class, for p <= 1/2, where 1 - p keeps its digits."""
    q = 1.0 - p
    if focus == 0:
        value = minus_log_p
        change = tl.zeros_like(p) + 1.0
    elif focus == 1:
        value = q * minus_log_p
        change = q + zero_wins(p, minus_log_p)
    elif focus == 2:
        value = (q * q) * minus_log_p
        change = q * (q + 2.0 * zero_wins(p, minus_log_p))
    else:
        modulator = exp_of_minus(gamma * -tl.log(q))
        value = modulator * minus_log_p
        change = modulator * (1.0 + gamma * zero_wins(p, minus_log_p) / q)
    return value, change


@triton.jit
def top_class(odds, gamma, focus: tl.constexpr):
    """The class with the largest score: p, 1 - p, -log p, and f(p) and -df/dlog p; `odds` = (1 - p) / p."""
    likely = odds <= 1.0
    e = tl.where(likely, odds, 1.0 / odds)
    near = reciprocal(1.0 + e)
    far = e * near
    log_norm = log1p_of_unit(e)
    log_odds = tl.log(odds)
    p = tl.where(likely, near, far)
    q = tl.where(likely, far, near)
    minus_log_p = tl.where(likely, 0.0, log_odds) + log_norm
    if focus == 0:
        value = minus_log_p
        change = tl.zeros_like(p) + 1.0
    else:
        if focus == 1:
            modulator = q
        elif focus == 2:
            modulator = q * q
        else:
            modulator = exp_of_minus(gamma * (log_norm - tl.where(likely, log_odds, 0.0)))
            modulator = tl.where(odds == 0.0, 0.0, modulator)
        ratio = tl.where(likely, tl.where(odds == 0.0, 1.0, log_norm / e), e * minus_log_p)  # p * -log p / q
        value = modulator * minus_log_p
        change = modulator * (1.0 + gamma * ratio)
    return p, q, minus_log_p, value, change


@triton.jit
def smooth_absolute(d, mu):
    """sqrt(d^2 + mu^2) - mu and its derivative, however large or small the residual d."""
    size = tl.abs(d)
    larger = tl.maximum(size, mu)
    ratio = tl.minimum(size, mu) / larger
    radius = larger * tl.sqrt(tl.fma(ratio, ratio, 1.0))
    return d * (d / (radius + mu)), d / radius
