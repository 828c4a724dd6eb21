"""Class-balanced focal losses. Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019.

Eq. 4: (1 - beta) / (1 - beta^n_y) times any loss L(p, y), the weights normalised as in its section 4. Its sections 4.1
to 4.3 put it before softmax cross-entropy, sigmoid cross-entropy and focal loss; the last two sum over a sample's
classes. Multi-label rows and probabilities are the project's extension: class c is weighed by its own count.
"""

import numpy as np

from .basics import option, ratio
from .sigmoid import reduce_elements, sigmoid_focal
from .softmax import reduce_samples, softmax_focal
from .weights import effective_number_weights


def class_weight(options):
    return effective_number_weights(options["counts"], float(option(options, "beta", 0.9999)))


def split_indices(target, options):
    """Which samples count, and their classes (0 where they do not)."""
    target = np.asarray(target)
    keep = target != option(options, "ignore_index", -100)
    return keep, np.where(keep, target, 0)


def is_spread(input, target):
    """Whether the target has a number for each class (multi-label rows, probabilities), not one class index."""
    return np.ndim(input) == np.ndim(target)


def class_balanced_sigmoid_focal(input, target, options):
    """Input [..., C]; class indices [...] weigh a sample's whole row, multi-label rows [..., C] weigh each column."""
    weight = class_weight(options)
    if is_spread(input, target):
        return sigmoid_focal(input, target, {**options, "weight": weight})
    keep, index = split_indices(target, options)
    one_hot = index[..., None] == np.arange(len(weight))
    row_options = {**options, "weight": weight[index][..., None], "mask": keep[..., None]}
    values, gradient = sigmoid_focal(input, one_hot, row_options)
    return values.sum(axis=-1), gradient


def class_balanced_softmax_focal(input, target, options):
    """Input [N, C, ...]; class indices [N, ...] weigh a sample, probabilities [N, C, ...] weigh each class's term."""
    if is_spread(input, target):
        return softmax_focal(input, target, {**options, "weight": class_weight(options)})
    _, index = split_indices(target, options)
    return softmax_focal(input, target, {**options, "sample_weight": class_weight(options)[index]})


def reduce_sigmoid(values, input, target, options):
    """`mean` divides by the number of kept samples, for multi-label rows by the number of kept elements."""
    return (reduce_elements if is_spread(input, target) else reduce_indices)(values, input, target, options)


def reduce_softmax(values, input, target, options):
    """`mean` divides by the number of kept samples, whatever their weights."""
    return (reduce_samples if is_spread(input, target) else reduce_indices)(values, input, target, options)


def reduce_indices(values, input, target, options):
    keep, _ = split_indices(target, options)
    return ratio(np.sum(values), {"sum": 1.0, "mean": keep.sum()}[options["reduction"]])
