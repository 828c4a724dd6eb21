"""Balancers of several tasks, from their papers, in NumPy float64, one step after another.

Each takes the losses of the tasks that are there, `{name: value}`, and gives the total, the weight of each loss (the
derivative of the total), and for those that learn by gradients the derivative with respect to each parameter.
"""

import math
from statistics import NormalDist

import numpy as np


class Constant:
    def __init__(self, tasks, weights=1.0):
        self.weights = dict(zip(tasks, np.broadcast_to(weights, len(tasks)), strict=True))

    def __call__(self, losses):
        weights = {name: float(self.weights[name]) for name in losses}
        return sum(weights[name] * losses[name] for name in losses), weights, {}


class Uncertainty:
    """Kendall, Gal, Cipolla 2018: eq. 5 (gaussian), eq. 10 (softmax), the negative log-likelihood of a Laplace density;
    Liebel, Koerner 2018, eq. 3 (log1p). s is what is learned, `parameters`, and where it began, `start`.
    """

    def __init__(self, tasks, regularizer="log", init="zero", clamp=(-10.0, 10.0)):
        self.kinds, self.regularizer, self.init, self.clamp = tasks, regularizer, init, clamp
        self.parameters = dict.fromkeys(tasks, 0.0)
        self.start = {}

    def begin(self, name, loss):
        if loss <= 0:
            return 0.0
        if self.regularizer == "log1p":  # 0 = -L/(2 v^2) + 1/(1 + v)
            return math.log((loss + math.sqrt(loss**2 + 8 * loss)) / 4)
        return math.log({"gaussian": loss, "softmax": 2 * loss, "laplace": loss}[self.kinds[name]])

    def __call__(self, losses):
        total, weights, gradient = 0.0, {}, {}
        for name, loss in losses.items():
            if self.init == "first_batch" and name not in self.start:
                self.start[name] = self.begin(name, loss)
            raw = self.start.get(name, 0.0) + self.parameters[name]
            s = min(max(raw, self.clamp[0]), self.clamp[1])
            half = self.regularizer == "log1p" or self.kinds[name] == "gaussian"
            weights[name] = (0.5 if half else 1.0) * math.exp(-s)
            slope = 1.0 if self.kinds[name] == "laplace" else 0.5
            cost, steep = (
                (slope * s, slope) if self.regularizer == "log" else (np.logaddexp(0, s), 1 / (1 + np.exp(-s)))
            )
            total += weights[name] * loss + cost
            gradient[name] = steep - weights[name] * loss
            outward = (raw > self.clamp[1] and gradient[name] < 0) or (raw < self.clamp[0] and gradient[name] > 0)
            gradient[name] = 0.0 if outward else gradient[name]
        return total, weights, gradient


class Impartial:
    """Liu et al. 2021, section 3.2."""

    def __init__(self, tasks):
        self.parameters = dict.fromkeys(tasks, 0.0)

    def __call__(self, losses):
        weights = {name: math.exp(self.parameters[name]) for name in losses}
        gradient = {name: weights[name] * losses[name] - 1 for name in losses}
        return sum(weights[name] * losses[name] - self.parameters[name] for name in losses), weights, gradient


class Priority:
    """Guo et al. 2018, eq. 1-5; the first indicator starts the average."""

    def __init__(self, tasks, gamma=1.0, alpha=0.1, normalize=False):
        self.gamma = dict(zip(tasks, np.broadcast_to(gamma, len(tasks)), strict=True))
        self.alpha, self.normalize, self.average = alpha, normalize, {}

    def update(self, kpis):
        for name, kpi in kpis.items():
            correct, count = kpi if isinstance(kpi, tuple) else (kpi, 1)
            if count > 0:
                new = correct / count
                old = self.average.get(name, new)
                self.average[name] = self.alpha * new + (1 - self.alpha) * old

    def weight(self, name):
        if name not in self.average:
            return 1.0
        kpi = min(max(self.average[name], 1e-6), 1.0)
        return -((1 - kpi) ** float(self.gamma[name])) * math.log(kpi)

    def __call__(self, losses):
        weights = {name: self.weight(name) for name in losses}
        if self.normalize:
            factor = len(weights) / sum(weights.values())
            weights = {name: weight * factor for name, weight in weights.items()}
        return sum(weights[name] * losses[name] for name in losses), weights, {}


class Average:
    """Liu, Johns, Davison 2019, eq. 7."""

    def __init__(self, tasks, temperature=2.0):
        self.temperature = temperature
        self.epoch = {name: [] for name in tasks}
        self.means = {name: [] for name in tasks}

    def end_epoch(self):
        for name, losses in self.epoch.items():
            if losses:
                self.means[name].append(sum(losses) / len(losses))
                losses.clear()

    def __call__(self, losses):
        rates = {}
        for name, loss in losses.items():
            self.epoch[name].append(loss)
            means = self.means[name]
            rates[name] = means[-1] / means[-2] if len(means) > 1 else 1.0
        raised = {name: math.exp(rate / self.temperature) for name, rate in rates.items()}
        weights = {name: len(losses) * each / sum(raised.values()) for name, each in raised.items()}
        return sum(weights[name] * losses[name] for name in losses), weights, {}


class Random:
    """Lin et al. 2022: a softmax of normal numbers. They come from a hash of seed, step and place, in 32 bits."""

    def __init__(self, tasks, seed=0):
        self.seed, self.step = seed, 0

    def __call__(self, losses):
        drawn = [math.exp(normal(self.seed, self.step, place)) for place in range(len(losses))]
        self.step += 1
        weights = {name: each / sum(drawn) for name, each in zip(losses, drawn, strict=True)}
        return sum(weights[name] * losses[name] for name in losses), weights, {}


def mixed(number):
    number = (number + 0x9E3779B9) % 2**32
    number = (number ^ number >> 16) * 0x21F0AAAD % 2**32
    number = (number ^ number >> 15) * 0x735A2D97 % 2**32
    return number ^ number >> 15


def normal(seed, step, place):
    bits = mixed(mixed(mixed(seed % 2**32) ^ step) ^ place) // 2**8
    return NormalDist().inv_cdf((bits + 0.5) / 2**24)


class Adam:
    """Kingma, Ba 2015, algorithm 1, for one number."""

    def __init__(self):
        self.first = self.second = 0.0
        self.steps = 0

    def step(self, gradient, rate):
        self.steps += 1
        self.first = 0.9 * self.first + 0.1 * gradient
        self.second = 0.999 * self.second + 0.001 * gradient**2
        first, second = self.first / (1 - 0.9**self.steps), self.second / (1 - 0.999**self.steps)
        return -rate * first / (math.sqrt(second) + 1e-8)


class Famo:
    """Liu et al. 2023, algorithm 1, with the losses of the next call for those after the step."""

    def __init__(self, tasks, lr=0.025, gamma=0.01, min_losses=0.0):
        self.rate, self.decay = lr, gamma
        self.low = dict(zip(tasks, np.broadcast_to(min_losses, len(tasks)), strict=True))
        self.logits, self.adam, self.before = dict.fromkeys(tasks, 0.0), {name: Adam() for name in tasks}, {}

    def shares(self, names):
        raised = {name: math.exp(self.logits[name]) for name in names}
        return {name: each / sum(raised.values()) for name, each in raised.items()}

    def __call__(self, losses):
        above = {name: loss - float(self.low[name]) + 1e-8 for name, loss in losses.items()}
        seen = [name for name in losses if name in self.before]
        z = self.shares(seen)
        fell = {name: self.before[name] - math.log(above[name]) for name in seen}
        mean = sum(z[name] * fell[name] for name in seen)
        for name in seen:
            slope = z[name] * (fell[name] - mean) + self.decay * self.logits[name]
            self.logits[name] += self.adam[name].step(slope, self.rate)
        self.before |= {name: math.log(each) for name, each in above.items()}
        z = self.shares(losses)
        c = 1 / sum(z[name] / above[name] for name in losses)
        total = c * sum(z[name] * math.log(above[name]) for name in losses)
        return total, {name: c * z[name] / above[name] for name in losses}, {}


class Norms:
    """Chen et al. 2018, eq. 1-2 and algorithm 1; `norms` gives each loss's gradient norm on the shared parameters."""

    def __init__(self, tasks, alpha=1.5, lr=0.025):
        self.alpha, self.rate, self.norms = alpha, lr, None
        self.weights, self.adam, self.first = dict.fromkeys(tasks, 1.0), {name: Adam() for name in tasks}, {}

    def __call__(self, losses):
        weights = {name: self.weights[name] for name in losses}
        self.first = {**losses, **self.first}
        fallen = {name: losses[name] / self.first[name] for name in losses}
        mean = sum(fallen.values()) / len(losses)
        sizes = {name: weights[name] * self.norms[name] for name in losses}
        average = sum(sizes.values()) / len(losses)
        moved = {}
        for name in losses:
            off = sizes[name] - average * (fallen[name] / mean) ** self.alpha
            slope = np.sign(off) * self.norms[name]
            moved[name] = max(weights[name] + self.adam[name].step(slope, self.rate), 1e-3)
        factor = sum(weights.values()) / sum(moved.values())
        self.weights |= {name: each * factor for name, each in moved.items()}
        return sum(weights[name] * losses[name] for name in losses), weights, {}


BALANCERS = {
    "constant_weighting": Constant,
    "uncertainty_weighting": Uncertainty,
    "dynamic_task_prioritization": Priority,
    "dynamic_weight_average": Average,
    "random_loss_weighting": Random,
    "impartial_loss_weighting": Impartial,
    "famo": Famo,
    "grad_norm": Norms,
}
