"""The ranking losses by their definitions: loops over pairs and triplets, NumPy float64, gradients in closed form.

`RANKING[card name](inputs, target, options)` takes the differentiable inputs by name and gives an `Answer`.
"""

from dataclasses import dataclass

import numpy as np

from .basics import option


@dataclass
class Answer:
    """Values (one a term, in order, or None where there is no "none"), their sum, divisors of the means, gradients.

    Attributes:
        values: what `reduction="none"` gives, None where the loss has none.
        total: the sum.
        divisors: what each mean divides by.
        gradients: of the sum, by input.
    """

    values: np.ndarray | None
    total: float
    divisors: dict
    gradients: dict

    def reduced(self, reduction):
        """Value and gradients under a reduction; a mean over nothing is 0."""
        if reduction == "sum":
            return self.total, self.gradients
        divisor = self.divisors[reduction]
        factor = 1 / divisor if divisor else 0.0
        value = self.total * factor if divisor else 0.0
        return value, {name: gradient * factor for name, gradient in self.gradients.items()}


# ---- distances ---------------------------------------------------------------------------------------------


def cosine(a, b):
    """Cos of two vectors and its gradients (0 where a vector is)."""
    length_a, length_b = np.linalg.norm(a), np.linalg.norm(b)
    if length_a == 0 or length_b == 0:
        return 0.0, np.zeros_like(a), np.zeros_like(b)
    cos = np.clip(a @ b / (length_a * length_b), -1.0, 1.0)  # rounding may pass the bounds
    to_a = (b / length_b - cos * a / length_a) / length_a
    to_b = (a / length_a - cos * b / length_b) / length_b
    return cos, to_a, to_b


def distance(a, b, kind):
    """The distance of two vectors, and its gradients."""
    if kind == "cosine":
        cos, to_a, to_b = cosine(a, b)
        return 1 - cos, -to_a, -to_b
    difference = a - b
    square = float(difference @ difference)
    if kind == "squared_euclidean":
        return square, 2 * difference, -2 * difference
    length = np.sqrt(square)
    direction = difference / length if length > 0 else np.zeros_like(difference)
    return length, direction, -direction


def unit(x):
    length = np.linalg.norm(x)
    return x / length if length > 0 else np.zeros_like(x)


def through_unit(x, gradient):
    """The gradient with respect to x from that with respect to x / |x|."""
    length = np.linalg.norm(x)
    if length == 0:
        return np.zeros_like(x)
    u = x / length
    return (gradient - u * (u @ gradient)) / length


def softplus(x):
    return np.logaddexp(0.0, x)


def sigmoid(x):
    return np.exp(-softplus(-x))


# ---- pairs and triplets that are given ---------------------------------------------------------------------


def each_row(inputs, evaluate):
    """Applies `evaluate(index, *vectors)` to each row; rows may lie in several dimensions."""
    arrays = list(inputs.values())
    shape = arrays[0].shape[:-1]
    values = np.zeros(shape)
    gradients = {name: np.zeros_like(array) for name, array in inputs.items()}
    for index in np.ndindex(shape):
        values[index], slopes = evaluate(index, *(array[index] for array in arrays))
        for name, slope in zip(inputs, slopes, strict=True):
            gradients[name][index] = slope
    return Answer(values, values.sum(), {"mean": values.size}, gradients)


def contrastive_terms(d, margin, power):
    """Value and slope of a pair that is similar, and of one that is not."""
    pull = d**power, power * d ** (power - 1)
    gap = max(0.0, margin - d)
    push = gap**power, -power * gap ** (power - 1) if gap > 0 else 0.0
    return pull, push


def contrastive(inputs, target, options):
    margin, power = option(options, "margin", 1.0), option(options, "power", 2.0)
    kind = option(options, "distance", "euclidean")

    def pair(index, a, b):
        d, to_a, to_b = distance(a, b, kind)
        (pull, pull_slope), (push, push_slope) = contrastive_terms(d, margin, power)
        y = float(target[index])
        slope = y * pull_slope + (1 - y) * push_slope
        return y * pull + (1 - y) * push, (slope * to_a, slope * to_b)

    return each_row(inputs, pair)


def triplet(inputs, target, options):
    margin, kind = option(options, "margin", 1.0), option(options, "distance", "euclidean")

    def one(index, a, p, n):
        near, near_a, near_p = distance(a, p, kind)
        far, far_a, far_n = distance(a, n, kind)
        far_p = np.zeros_like(p)
        if option(options, "swap", False):
            other, other_p, other_n = distance(p, n, kind)
            if other < far:
                far, far_a, far_n, far_p = other, np.zeros_like(a), other_n, other_p
        value, slope = triplet_term(near, far, margin, option(options, "soft", False))
        return value, (slope * (near_a - far_a), slope * (near_p - far_p), -slope * far_n)

    return each_row(inputs, one)


def triplet_term(near, far, margin, soft):
    """Value, and its slope with respect to near - far."""
    if soft:
        return softplus(near - far), sigmoid(near - far)
    value = max(0.0, near - far + margin)
    return value, float(value > 0)


def margin_ranking(inputs, target, options):
    margin = option(options, "margin", 0.0)
    first, second = inputs.values()
    raw = -target * (first - second) + margin
    values = np.maximum(0.0, raw)
    slope = np.where(raw > 0, -target.astype(float), 0.0)
    names = list(inputs)
    return Answer(values, values.sum(), {"mean": values.size}, {names[0]: slope, names[1]: -slope})


def cosine_embedding(inputs, target, options):
    margin = option(options, "margin", 0.0)

    def pair(index, a, b):
        cos, to_a, to_b = cosine(a, b)
        if target[index] == 1:
            return 1 - cos, (-to_a, -to_b)
        keep = float(cos > margin)
        return keep * (cos - margin), (keep * to_a, keep * to_b)

    return each_row(inputs, pair)


# ---- groups ------------------------------------------------------------------------------------------------


def group_rows(array, num_neg):
    return np.asarray(array, dtype=float).reshape(-1, num_neg + 1)


def rank_hinge(inputs, target, options):
    num_neg, margin = option(options, "num_neg", 1), option(options, "margin", 1.0)
    name, array = next(iter(inputs.items()))
    each = option(options, "negatives", "each") == "each"
    values, gradient = [], []
    for scores in group_rows(array, num_neg):
        slope = np.zeros_like(scores)
        hinges = []
        for others in [[k] for k in range(1, num_neg + 1)] if each else [list(range(1, num_neg + 1))]:
            raw = margin - (scores[0] - np.mean(scores[others]))
            hinges.append(max(0.0, raw))
            if raw > 0:
                slope[0] -= 1
                slope[others] += 1 / len(others)
        values.append(hinges if each else hinges[0])
        gradient.append(slope)
    values = np.array(values, dtype=float).reshape(-1, num_neg) if each else np.array(values, dtype=float)
    gradient = np.array(gradient, dtype=float).reshape(array.shape)
    return Answer(values, values.sum(), {"mean": values.size}, {name: gradient})


def rank_cross_entropy(inputs, target, options):
    num_neg = option(options, "num_neg", 1)
    name, array = next(iter(inputs.items()))
    groups = group_rows(array, num_neg)
    weights = np.eye(1, num_neg + 1).repeat(len(groups), 0) if target is None else group_rows(target, num_neg)
    values, gradient = np.zeros(len(groups)), np.zeros_like(groups)
    for i, (scores, weight) in enumerate(zip(groups, weights, strict=True)):
        for j in range(num_neg + 1):
            if weight[j] == 0:
                continue
            others = np.delete(scores, j)
            whole = others.max() + np.log(np.exp(others - others.max()).sum())
            values[i] += weight[j] * softplus(whole - scores[j])
            share = weight[j] * sigmoid(whole - scores[j]) * np.exp(others - whole)
            gradient[i] += np.insert(share, j, -weight[j] * sigmoid(whole - scores[j]))
    return Answer(values, values.sum(), {"mean": len(groups)}, {name: gradient.reshape(array.shape)})


# ---- all pairs and triplets of a batch ---------------------------------------------------------------------


class Crowd:
    """Anchors against candidates: who is positive, who is negative, all distances, and the way back."""

    def __init__(self, inputs, target, options, kind, normalize):
        self.anchors = inputs["embedding"]
        self.reference = inputs.get("reference", option(options, "reference", None))
        parts = [self.anchors] + ([] if self.reference is None else [self.reference])
        self.candidates = np.concatenate(parts)
        self.kind, self.normalize = kind, normalize
        n, m = len(self.anchors), len(self.candidates)
        if target is not None:
            labels = np.concatenate([target, option(options, "reference_label", np.zeros(0, int))])
            alike = np.asarray(target)[:, None] == labels[None]
            self.positive, self.negative = alike.copy(), ~alike
        else:
            self.positive = np.array(options["positive"])
            self.negative = np.array(option(options, "negative", ~self.positive))
        for a in range(n):
            self.positive[a, a] = self.negative[a, a] = False
        self.distances = np.zeros((n, m))
        self.slopes = {}
        for a in range(n):
            for k in range(m):
                self.distances[a, k], *self.slopes[a, k] = self.between(self.anchors[a], self.candidates[k])

    def between(self, a, b):
        seen = (unit(a), unit(b)) if self.normalize else (a, b)
        if self.kind == "product":
            value, to_a, to_b = seen[0] @ seen[1], seen[1], seen[0]
        else:
            value, to_a, to_b = distance(*seen, self.kind)
        if self.normalize:
            to_a, to_b = through_unit(a, to_a), through_unit(b, to_b)
        return value, to_a, to_b

    def gradients(self, weight, inputs):
        """The gradients of the inputs from the derivative with respect to each distance."""
        gradient = np.zeros_like(self.candidates)
        for (a, k), (to_a, to_k) in self.slopes.items():
            gradient[a] += weight[a, k] * to_a
            gradient[k] += weight[a, k] * to_k
        n = len(self.anchors)
        found = {"embedding": gradient[:n]}
        return found | ({"reference": gradient[n:]} if "reference" in inputs else {})


def batch_contrastive(inputs, target, options):
    kind = option(options, "distance", "euclidean")
    crowd = Crowd(inputs, target, options, kind, option(options, "normalize", False))
    weight, total, count = np.zeros_like(crowd.distances), 0.0, 0.0
    n, m = crowd.distances.shape
    for a in range(n):
        for k in range(m):
            share = 0.5 if k < n else 1.0  # a pair of the batch is met from either end
            if not (crowd.positive[a, k] or crowd.negative[a, k]):
                continue
            pull, push = contrastive_terms(
                crowd.distances[a, k], option(options, "margin", 1.0), option(options, "power", 2.0)
            )
            value, slope = pull if crowd.positive[a, k] else push
            total += share * value
            weight[a, k] += share * slope
            count += share
    return Answer(None, total, {"mean": count}, crowd.gradients(weight, inputs))


def mined(crowd, mining):
    """The triplets (a, p, n)."""
    for a, row in enumerate(crowd.distances):
        positives, negatives = np.flatnonzero(crowd.positive[a]), np.flatnonzero(crowd.negative[a])
        if not (len(positives) and len(negatives)):
            continue
        if mining == "all":
            yield from ((a, p, n) for p in positives for n in negatives)
        elif mining == "hard":
            yield a, positives[np.argmax(row[positives])], negatives[np.argmin(row[negatives])]
        else:
            for p in positives:
                beyond = [n for n in negatives if row[n] > row[p]]
                if beyond:
                    yield a, p, min(beyond, key=lambda n: (row[n], n))
                else:
                    yield a, p, negatives[np.argmax(row[negatives])]


def batch_triplet(inputs, target, options):
    kind = option(options, "distance", "euclidean")
    crowd = Crowd(inputs, target, options, kind, option(options, "normalize", False))
    mining, soft = option(options, "mining", "all"), option(options, "soft", False)
    weight, total, count, active = np.zeros_like(crowd.distances), 0.0, 0, 0
    for a, p, n in mined(crowd, mining):
        near, far = crowd.distances[a, p], crowd.distances[a, n]
        value, slope = triplet_term(near, far, option(options, "margin", 0.2), soft)
        total += value
        weight[a, p] += slope
        weight[a, n] -= slope
        count += 1
        active += 1 if soft or mining != "all" else value > 0
    divisors = {"mean": count, "mean_active": active}
    return Answer(None, total, divisors, crowd.gradients(weight, inputs))


def softmax_anchors(scores, positive, kept):
    """Sum of the anchors' losses, derivative with respect to the scores, and the number of anchors with a positive."""
    weight, total, count = np.zeros_like(scores), 0.0, 0
    for a, row in enumerate(scores):
        positives, among = np.flatnonzero(positive[a]), np.flatnonzero(kept[a])
        if not len(positives):
            continue
        count += 1
        whole = row[among].max() + np.log(np.exp(row[among] - row[among].max()).sum())
        for p in positives:
            total += (whole - row[p]) / len(positives)
            weight[a, p] -= 1 / len(positives)
        weight[a, among] += np.exp(row[among] - whole)
    return total, weight, count


def supcon(inputs, target, options):
    temperature = float(option(options, "temperature", 0.1))
    crowd = Crowd(inputs, target, options, "product", option(options, "normalize", True))
    scores = crowd.distances / temperature
    total, weight, count = softmax_anchors(scores, crowd.positive, crowd.positive | crowd.negative)
    return Answer(None, total, {"mean": count}, crowd.gradients(weight / temperature, inputs))


def info_nce(inputs, target, options):
    temperature, normalize = float(option(options, "temperature", 0.07)), option(options, "normalize", True)
    query, key = inputs["query"], inputs["key"]
    label = np.asarray(option(options, "label", np.arange(len(query))))
    seen = [np.array([unit(x) for x in each]).reshape(each.shape) if normalize else each for each in (query, key)]
    scores = seen[0] @ seen[1].T / temperature
    positive, kept = label[:, None] == label, np.ones_like(scores, dtype=bool)
    total, weight, count = softmax_anchors(scores, positive, kept)
    if option(options, "symmetric", True):
        back, back_weight, _ = softmax_anchors(scores.T, positive, kept)
        total, weight = (total + back) / 2, (weight + back_weight.T) / 2
    to_query, to_key = weight @ seen[1] / temperature, weight.T @ seen[0] / temperature
    if normalize:
        to_query = np.array([through_unit(x, g) for x, g in zip(query, to_query, strict=True)]).reshape(query.shape)
        to_key = np.array([through_unit(x, g) for x, g in zip(key, to_key, strict=True)]).reshape(key.shape)
    return Answer(None, total, {"mean": count}, {"query": to_query, "key": to_key})


COMMON = {"reduction", "sync"}
BATCH = COMMON | {"positive", "negative", "reference", "reference_label", "normalize", "memory_mb"}

# name: (answer, the options it knows)
RANKING = {
    "contrastive": (contrastive, COMMON | {"margin", "distance", "power"}),
    "triplet": (triplet, COMMON | {"margin", "distance", "swap", "soft"}),
    "margin_ranking": (margin_ranking, COMMON | {"margin"}),
    "cosine_embedding": (cosine_embedding, COMMON | {"margin"}),
    "batch_contrastive": (batch_contrastive, BATCH | {"margin", "distance", "power"}),
    "batch_triplet": (batch_triplet, BATCH | {"margin", "distance", "soft", "mining"}),
    "supcon": (supcon, BATCH | {"temperature"}),
    "info_nce": (info_nce, COMMON | {"temperature", "symmetric", "label", "normalize", "memory_mb"}),
    "rank_hinge": (rank_hinge, COMMON | {"num_neg", "margin", "negatives"}),
    "rank_cross_entropy": (rank_cross_entropy, COMMON | {"num_neg"}),
}


def answer(name, inputs, target, options):
    """The truth about a call; an option that the oracle does not know would be "proved" by ignoring it."""
    evaluate, known = RANKING[name]
    if unknown := set(options) - known:
        raise KeyError(f"the oracle of {name} knows no {sorted(unknown)}")
    return evaluate(inputs, target, options)
