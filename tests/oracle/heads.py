"""The losses of a linear layer: the scores are W x + b, and the chain rule takes the gradient of the scores on.

The losses of scores are those of `softmax.py` and `sigmoid.py`. The derivative of z = W x + b is: dL/dW = (dL/dz)^T x,
dL/dx = (dL/dz) W, dL/db = the sum of dL/dz over rows.
"""

import numpy as np

from .ranking import Answer
from .sigmoid import kept, reduce_elements, sigmoid_focal
from .softmax import reduce_samples, softmax_focal

SOFTMAX = {"gamma", "weight", "sample_weight", "logit_adjustment", "label_smoothing", "ignore_index"}
SIGMOID = {"gamma", "alpha", "weight", "pos_weight", "label_smoothing", "mask"}
HARMLESS = {"chunk_rows", "chunk_labels"}


def linear_softmax_focal(inputs, target, options):
    options = {"gamma": 0.0, **known(options, SOFTMAX)}
    if not np.issubdtype(target.dtype, np.floating):
        ignored = target == options.get("ignore_index", -100)
        inputs = {**inputs, "input": np.where(ignored[..., None], 0.0, inputs["input"])}
    scores = scored(inputs)
    rows = target.reshape(-1, *target.shape[inputs["input"].ndim - 1 :])
    if options.get("sample_weight") is not None:
        options["sample_weight"] = options["sample_weight"].reshape(-1)
    values, slopes = softmax_focal(scores, rows, options)
    mean = reduce_samples(np.ones(1), scores, rows, {**options, "reduction": "mean"})
    return answer(inputs, values, slopes, {"mean": mean}, values.reshape(inputs["input"].shape[:-1]))


def linear_sigmoid_focal(inputs, target, options):
    options = known(options, SIGMOID)
    scores = scored(inputs)
    shape = (*inputs["input"].shape[:-1], scores.shape[1])
    scores = scores.reshape(shape)
    if np.issubdtype(target.dtype, np.integer):
        target = switched_on(target, shape)
    values, slopes = sigmoid_focal(scores, target, options)
    factors = {
        mean: reduce_elements(np.ones(1), scores, target, {**options, "reduction": mean})
        for mean in ("mean", "mean_positive")
    }
    keep = kept(scores, target, options)[2]
    inputs = {**inputs, "input": np.where(keep.any(-1)[..., None], inputs["input"], 0.0)}
    return answer(inputs, values, slopes.reshape(-1, shape[-1]), factors, values)


def known(options, names):
    """An option that the oracle does not know would be "proved" by ignoring it."""
    if unknown := set(options) - names - HARMLESS:
        raise KeyError(f"the oracle knows no {sorted(unknown)}")
    return {name: value for name, value in options.items() if name in names}


def scored(inputs):
    """The scores of all rows."""
    features = inputs["input"].reshape(-1, inputs["input"].shape[-1])
    return features @ inputs["linear_weight"].T + inputs.get("linear_bias", 0.0)


def switched_on(labels, shape):
    """Zeros and ones from the indices of the labels that are on; numbers below 0 are none."""
    dense = np.zeros(shape)
    for place in np.ndindex(shape[:-1]):
        for label in labels[place]:
            if label >= 0:
                dense[(*place, label)] = 1.0
    return dense


def answer(inputs, values, slopes, factors, shaped):
    features = inputs["input"].reshape(-1, inputs["input"].shape[-1])
    gradients = {
        "input": (slopes @ inputs["linear_weight"]).reshape(inputs["input"].shape),
        "linear_weight": slopes.T @ features,
        "linear_bias": slopes.sum(0),
    }
    gradients = {name: gradients[name] for name in inputs}
    divisors = {mean: 1 / factor if factor else 0.0 for mean, factor in factors.items()}
    return Answer(shaped, np.sum(values), divisors, gradients)


HEADS = {"linear_softmax_focal": linear_softmax_focal, "linear_sigmoid_focal": linear_sigmoid_focal}
