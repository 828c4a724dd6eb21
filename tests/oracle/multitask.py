"""The balancers as their papers write them: NumPy float64, one task after the other, state in plain dictionaries.

Each is called with the losses of a step by task (an absent task has none) and gives the total and the weights.
`follow` says what the learned numbers are, where the balancer has any.
"""

from __future__ import annotations

import math

import numpy as np


def shares(values):
    """Softmax of a dictionary's values."""
    top = max(values.values())
    powers = {name: math.exp(value - top) for name, value in values.items()}
    return {name: power / sum(powers.values()) for name, power in powers.items()}


class Constant:
    def __init__(self, tasks, weights=None):
        self.constants = dict(zip(tasks, weights or [1.0] * len(tasks), strict=True))

    def __call__(self, losses):
        weights = {name: self.constants[name] for name in losses}
        return sum(weights[name] * loss for name, loss in losses.items()), weights


class Uncertainty:
    """Kendall et al. 2018, eq. 5-10; Liebel and Koerner 2018, eq. 3."""

    def __init__(self, tasks, regularizer="log", init="zero"):
        self.kinds, self.regularizer, self.init = tasks, regularizer, init
        self.s = dict.fromkeys(tasks, 0.0)
        self.started = set()

    def __call__(self, losses):
        total, weights = 0.0, {}
        for name, loss in losses.items():
            if self.init == "first_batch" and name not in self.started:
                self.s[name] = math.log(self.best(name, loss)) if loss > 0 else 0.0
                self.started.add(name)
            s, kind = self.s[name], self.kinds[name]
            if self.regularizer == "log1p":
                weights[name], cost = math.exp(-s) / 2, math.log(1 + math.exp(s))
            elif kind == "gaussian":
                weights[name], cost = math.exp(-s) / 2, s / 2
            elif kind == "softmax":
                weights[name], cost = math.exp(-s), s / 2
            else:
                weights[name], cost = math.exp(-s), s
            total += weights[name] * loss + cost
        return total, weights

    def best(self, name, loss):
        if self.regularizer == "log1p":
            return (loss + math.sqrt(loss**2 + 8 * loss)) / 4
        return 2 * loss if self.kinds[name] == "softmax" else loss


class Impartial:
    """Liu et al. 2021, section 3.2."""

    def __init__(self, tasks):
        self.s = dict.fromkeys(tasks, 0.0)

    def __call__(self, losses):
        weights = {name: math.exp(self.s[name]) for name in losses}
        return sum(weights[name] * loss - self.s[name] for name, loss in losses.items()), weights


class Priority:
    """Guo et al. 2018, eq. 3-6."""

    def __init__(self, tasks, gamma=1.0, alpha=0.1, normalize=False):
        self.gamma = dict(zip(tasks, gamma, strict=True)) if isinstance(gamma, list) else dict.fromkeys(tasks, gamma)
        self.alpha, self.normalize, self.average = alpha, normalize, {}

    def __call__(self, losses, kpis=()):
        for name, (correct, count) in dict(kpis).items():
            if count and name in losses:
                kpi = correct / count
                old = self.average.get(name, kpi)
                self.average[name] = self.alpha * kpi + (1 - self.alpha) * old
        weights = {}
        for name in losses:
            kpi = min(max(self.average.get(name, math.nan), 1e-6), 1.0)
            weights[name] = 1.0 if name not in self.average else -((1 - kpi) ** self.gamma[name]) * math.log(kpi)
        if self.normalize and sum(weights.values()):
            weights = {name: weight * len(weights) / sum(weights.values()) for name, weight in weights.items()}
        return sum(weights[name] * loss for name, loss in losses.items()), weights


class Average:
    """Liu, Johns, Davison 2019, eq. 7."""

    def __init__(self, tasks, temperature=2.0):
        self.temperature = temperature
        self.epoch = {name: [] for name in tasks}
        self.means = {name: [] for name in tasks}

    def __call__(self, losses):
        for name, loss in losses.items():
            self.epoch[name].append(loss)
        ratios = {}
        for name in losses:
            means = self.means[name]
            ratios[name] = (means[-1] / means[-2] if len(means) > 1 else 1.0) / self.temperature
        weights = {name: len(losses) * share for name, share in shares(ratios).items()}
        return sum(weights[name] * loss for name, loss in losses.items()), weights

    def end_epoch(self):
        for name, values in self.epoch.items():
            if values:
                self.means[name].append(np.mean(values))
            self.epoch[name] = []


class Famo:
    """Liu et al. 2023, algorithm 1, with Adam as Kingma and Ba 2015, algorithm 1; weight decay joins the gradient."""

    def __init__(self, tasks, lr=0.025, gamma=0.01):
        self.lr, self.gamma = lr, gamma
        self.xi = dict.fromkeys(tasks, 0.0)
        self.m, self.v, self.t = dict.fromkeys(tasks, 0.0), dict.fromkeys(tasks, 0.0), dict.fromkeys(tasks, 0)
        self.before = {}

    def __call__(self, losses):
        logs = {name: math.log(loss + 1e-8) for name, loss in losses.items()}
        both = [name for name in losses if name in self.before]
        if both:
            z = shares({name: self.xi[name] for name in both})
            fall = {name: self.before[name] - logs[name] for name in both}
            mean = sum(z[name] * fall[name] for name in both)
            for name in both:
                slope = z[name] * (fall[name] - mean) + self.gamma * self.xi[name]
                self.t[name] += 1
                self.m[name] = 0.9 * self.m[name] + 0.1 * slope
                self.v[name] = 0.999 * self.v[name] + 0.001 * slope**2
                first = self.m[name] / (1 - 0.9 ** self.t[name])
                second = self.v[name] / (1 - 0.999 ** self.t[name])
                self.xi[name] -= self.lr * first / (math.sqrt(second) + 1e-8)
        self.before = logs
        z = shares({name: self.xi[name] for name in losses})
        over = {name: z[name] / (loss + 1e-8) for name, loss in losses.items()}
        weights = {name: value / sum(over.values()) for name, value in over.items()}
        return sum(weights[name] * loss for name, loss in losses.items()), weights
