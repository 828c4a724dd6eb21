"""The oracle: every loss straight from its paper, naive, in NumPy float64, sharing no code with the project.

`ORACLES[card name](input, target, options)` gives the values (reduction "none") and the gradient of their sum with
respect to the input, in closed form. `reduce` gives the reduction that the options ask for. `options` are the module's:
those of the constructor and of `forward` together.
"""

from .class_balanced import class_balanced_sigmoid_focal, class_balanced_softmax_focal, reduce_sigmoid, reduce_softmax
from .ghm import MovingGHM, ghm_c, ghm_r, reduce_harmonized
from .sigmoid import balanced_cross_entropy, reduce_elements, sigmoid_cross_entropy, sigmoid_focal
from .softmax import reduce_samples, softmax_cross_entropy, softmax_focal

__all__ = ["ORACLES", "MovingGHM", "reduce"]

COMMON = {"reduction", "sync"}
SIGMOID = COMMON | {"weight", "pos_weight", "label_smoothing", "mask"}
SOFTMAX = COMMON | {"weight", "sample_weight", "logit_adjustment", "ignore_index", "label_smoothing"}
GHM = COMMON | {"bins", "momentum", "normalizer", "weight", "mask"}
BALANCED = COMMON | {"counts", "beta", "gamma", "label_smoothing", "ignore_index"}

# name: (values and gradient, reduction, the options it knows)
TABLE = {
    "sigmoid_cross_entropy": (sigmoid_cross_entropy, reduce_elements, SIGMOID),
    "balanced_cross_entropy": (balanced_cross_entropy, reduce_elements, SIGMOID | {"alpha"}),
    "sigmoid_focal": (sigmoid_focal, reduce_elements, SIGMOID | {"gamma", "alpha"}),
    "softmax_cross_entropy": (softmax_cross_entropy, reduce_samples, SOFTMAX),
    "softmax_focal": (softmax_focal, reduce_samples, SOFTMAX | {"gamma"}),
    "class_balanced_sigmoid_focal": (class_balanced_sigmoid_focal, reduce_sigmoid, BALANCED | {"alpha", "mask"}),
    "class_balanced_softmax_focal": (class_balanced_softmax_focal, reduce_softmax, BALANCED),
    "ghm_c": (ghm_c, reduce_harmonized, GHM),
    "ghm_r": (ghm_r, reduce_harmonized, GHM | {"mu"}),
}


def oracle(name):
    evaluate, _, known = TABLE[name]

    def checked(input, target, options):
        # An option that the oracle does not know would be "proved" by ignoring it.
        if unknown := set(options) - known:
            raise KeyError(f"the oracle of {name} knows no {sorted(unknown)}")
        return evaluate(input, target, options)

    return checked


ORACLES = {name: oracle(name) for name in TABLE}


def reduce(name, values, input, target, options):
    """The reduction named by `options` (default: mean) of the oracle's values; divide the gradient alike."""
    options = {"reduction": "mean", **options}
    if options["reduction"] == "none":
        return values
    return TABLE[name][1](values, input, target, options)
