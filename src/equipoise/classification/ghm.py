"""Gradient harmonizing. Li, Liu, Wang, "Gradient Harmonized Single-stage Detector", AAAI 2019."""

from __future__ import annotations

from torch import Tensor

from .. import checks
from ..card import Card, Identity
from ..checks import Scalar, Vector
from ._ghm import GHMLoss, ghm_pipeline
from .cross_entropy import sigmoid_cross_entropy


def ghm_c_loss(
    input: Tensor,
    target: Tensor,
    *,
    bins: int = 10,
    normalizer: str = "nonempty",
    weight: Vector | Scalar | None = None,
    mask: Tensor | None = None,
    reduction: str = "mean",
    sync: bool = False,
) -> Tensor:
    r"""Sigmoid cross-entropy, each element weighed against the crowd of elements with a gradient like its own.

    $\ell_i = \beta_i\, \mathrm{CE}(z_i, y_i)$ with $\beta_i = N / (R_{b(i)} M)$: the gradient norms $g = |\sigma(z) -
    y|$ of the N kept elements fall into equal bins of [0, 1], $R_{b(i)}$ of them into the bin of element i, and M bins
    are not empty. Crowds (very easy examples, and outliers that are hopeless) are turned down. $\beta$ is a constant
    for the gradient.

    Args:
        input: scores (logits) of any shape, floating-point.
        target: numbers in [0, 1] in the input's shape; floating-point, integer or boolean.
        bins: the number of bins. Default: `10`.
        normalizer: what M counts: `"nonempty"` bins, as in the authors' code, or `"all"` bins, as in the paper.
            Default: `"nonempty"`.
        weight: weight of each element, broadcastable to the input. It enters neither the bins nor a divisor.
            Default: `None`.
        mask: boolean, broadcastable to the input; True keeps an element. Default: `None`.
        reduction: `"none"`; `"sum"`; `"mean"`: the sum divided by N. Default: `"mean"`.
        sync: whether the histogram and N are global over the process group; scalars are then scaled so that their
            average over ranks, which DDP takes, is that of one process on the joined batch. Default: `False`.

    Returns:
        A scalar, or the input's shape for `"none"`; float32 for half-precision input. 0 where no element is kept.

    Raises:
        TypeError: if `input` is not a floating-point tensor, `target` not a tensor or `mask` not boolean.
        ValueError: if shapes do not fit, a value leaves its range, or `target` requires a gradient.

    Example:
        >>> import torch
        >>> from equipoise import ghm_c_loss
        >>> score = torch.tensor([-4.0, -4.0, -4.0, 3.0])  # a crowd of easy negatives, one hard one
        >>> ghm_c_loss(score, torch.zeros(4), reduction="none")
        tensor([0.0121, 0.0121, 0.0121, 6.0972])

    Differs from:
        The paper, where M counts all bins (`normalizer="all"`). The authors' code compares g with float32 edges, the
        last one at 1 + 1e-6; here the edges are float64 and the last bin is closed at 1.

    References:
        Li, Liu, Wang, "Gradient Harmonized Single-stage Detector", AAAI 2019, section "GHM-C Loss".
    """
    return ghm_pipeline(
        input,
        target,
        mu=0.0,
        state=None,
        bins=bins,
        normalizer=normalizer,
        weight=weight,
        mask=mask,
        reduction=reduction,
        sync=sync,
    )


def ghm_r_loss(
    input: Tensor,
    target: Tensor,
    *,
    mu: Scalar = 0.02,
    bins: int = 10,
    normalizer: str = "nonempty",
    weight: Vector | Scalar | None = None,
    mask: Tensor | None = None,
    reduction: str = "mean",
    sync: bool = False,
) -> Tensor:
    r"""A smooth absolute error, each element weighed against the crowd of elements with a gradient like its own.

    $\ell_i = \beta_i (\sqrt{d_i^2 + \mu^2} - \mu)$ with the residual $d = \text{input} - \text{target}$ and $\beta_i =
    N / (R_{b(i)} M)$ as in `ghm_c_loss`, from the gradient norms $g = |d| / \sqrt{d^2 + \mu^2}$. $\beta$ is a constant
    for the gradient.

    Args:
        input: predictions of any shape, floating-point.
        target: real numbers in the input's shape.
        mu: $\mu > 0$, in the target's unit: below it the error is quadratic, above it linear. Default: `0.02`.
        bins: the number of bins. Default: `10`.
        normalizer: what M counts: `"nonempty"` bins, as in the authors' code, or `"all"` bins, as in the paper.
            Default: `"nonempty"`.
        weight: weight of each element, broadcastable to the input. It enters neither the bins nor a divisor.
            Default: `None`.
        mask: boolean, broadcastable to the input; True keeps an element. Default: `None`.
        reduction: `"none"`; `"sum"`; `"mean"`: the sum divided by N. Default: `"mean"`.
        sync: whether the histogram and N are global over the process group; scalars are then scaled so that their
            average over ranks, which DDP takes, is that of one process on the joined batch. Default: `False`.

    Returns:
        A scalar, or the input's shape for `"none"`; float32 for half-precision input. 0 where no element is kept.

    Raises:
        TypeError: if `input` is not a floating-point tensor, `target` not a tensor or `mask` not boolean.
        ValueError: if shapes do not fit, `mu` is not positive, or `target` requires a gradient.

    Example:
        >>> import torch
        >>> from equipoise import ghm_r_loss
        >>> ghm_r_loss(torch.tensor([0.0, 0.0, 0.5, 5.0]), torch.zeros(4), reduction="none")
        tensor([0.0000, 0.0000, 0.4804, 4.9800])

    Differs from:
        The paper, where M counts all bins (`normalizer="all"`).

    References:
        Li, Liu, Wang, "Gradient Harmonized Single-stage Detector", AAAI 2019, section "GHM-R Loss".
    """
    return ghm_pipeline(
        input,
        target,
        mu=_positive_mu(mu),
        state=None,
        bins=bins,
        normalizer=normalizer,
        weight=weight,
        mask=mask,
        reduction=reduction,
        sync=sync,
    )


class GHMCLoss(GHMLoss):
    r"""Gradient harmonized classification; the module of `ghm_c_loss`, with a running average of the histogram.

    $\ell_i = \beta_i\, \mathrm{CE}(z_i, y_i)$ with $\beta_i = N / (R_{b(i)} M)$

    Args:
        bins: the number of bins. Default: `10`.
        momentum: α in [0, 1): how much of the running histogram each batch keeps; 0 uses the batch alone. The authors
            train detectors with 30 bins and 0.75. Default: `0.0`.
        normalizer: what M counts: `"nonempty"` or `"all"` bins. Default: `"nonempty"`.
        weight: weight of each element, broadcastable to the input. Default: `None`.
        reduction: `"none"`, `"sum"`, or `"mean"` over kept elements. Default: `"mean"`.
        sync: whether the histogram and N are global over the process group. Default: `False`.

    Shape:
        `input` and `target` of one shape; the result is a scalar, or that shape for `"none"`.

    Example:
        >>> import torch
        >>> from equipoise import GHMCLoss
        >>> criterion = GHMCLoss(bins=30, momentum=0.75)
        >>> criterion(torch.tensor([-4.0, -4.0, 3.0]), torch.zeros(3))
        tensor(1.5334)

    Differs from:
        The authors' code: the average is bias-corrected (theirs starts at 0, which makes the first losses too large),
        moves for empty bins too, rests in `eval()` and ignores non-finite batches.

    References:
        See `ghm_c_loss`; sections "Unit Region Approximation" and "EMA" of the paper.
    """

    def __init__(
        self,
        *,
        bins: int = 10,
        momentum: float = 0.0,
        normalizer: str = "nonempty",
        weight: Vector | Scalar | None = None,
        reduction: str = "mean",
        sync: bool = False,
    ) -> None:
        super().__init__(
            bins=bins, momentum=momentum, normalizer=normalizer, weight=weight, reduction=reduction, sync=sync
        )

    def forward(self, input: Tensor, target: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """The loss of `input` against `target`; `mask` keeps elements where True."""
        return self._harmonize(input, target, mask, mu=0.0)


class GHMRLoss(GHMLoss):
    r"""Gradient harmonized regression; the module of `ghm_r_loss`, with a running average of the histogram.

    $\ell_i = \beta_i (\sqrt{d_i^2 + \mu^2} - \mu)$ with $\beta_i = N / (R_{b(i)} M)$

    Args:
        mu: $\mu > 0$, in the target's unit: below it the error is quadratic, above it linear. Default: `0.02`.
        bins: the number of bins. Default: `10`.
        momentum: α in [0, 1): how much of the running histogram each batch keeps; 0 uses the batch alone. The authors
            train detectors with 0.7, and multiply the loss by 10. Default: `0.0`.
        normalizer: what M counts: `"nonempty"` or `"all"` bins. Default: `"nonempty"`.
        weight: weight of each element, broadcastable to the input. Default: `None`.
        reduction: `"none"`, `"sum"`, or `"mean"` over kept elements. Default: `"mean"`.
        sync: whether the histogram and N are global over the process group. Default: `False`.

    Shape:
        `input` and `target` of one shape; the result is a scalar, or that shape for `"none"`.

    Example:
        >>> import torch
        >>> from equipoise import GHMRLoss
        >>> criterion = GHMRLoss(mu=0.02, momentum=0.7)
        >>> criterion(torch.tensor([0.0, 0.01, 5.0]), torch.zeros(3))
        tensor(1.6608)

    Differs from:
        The authors' code, as `GHMCLoss` does.

    References:
        See `ghm_r_loss`.
    """

    def __init__(
        self,
        *,
        mu: Scalar = 0.02,
        bins: int = 10,
        momentum: float = 0.0,
        normalizer: str = "nonempty",
        weight: Vector | Scalar | None = None,
        reduction: str = "mean",
        sync: bool = False,
    ) -> None:
        super().__init__(
            bins=bins, momentum=momentum, normalizer=normalizer, weight=weight, reduction=reduction, sync=sync
        )
        self.mu = float(_positive_mu(mu))

    def forward(self, input: Tensor, target: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """The loss of `input` against `target`; `mask` keeps elements where True."""
        return self._harmonize(input, target, mask, mu=self.mu)


def _positive_mu(mu: Scalar) -> Scalar:
    value = checks.scalar("mu", mu, 0)
    unreadable = isinstance(value, Tensor) and not checks.can_read_values(value)
    if not unreadable and value == 0:
        raise ValueError("`mu` must be > 0, got 0")
    return value


CLASSIFICATION_CARD = Card(
    name="ghm_c",
    summary="turns crowds of like gradients down: the very easy and the hopeless",
    module=GHMCLoss,
    function=ghm_c_loss,
    family="Gradient harmonizing",
    kind="elementwise",
    problems=frozenset({"binary", "multilabel"}),
    op_family="histogram",
    paper='Li, Liu, Wang, "Gradient Harmonized Single-stage Detector", AAAI 2019, section "GHM-C Loss"',
    formula=r"\frac{N}{R_{b} M} \, \mathrm{CE}(z, y), \quad g = |\sigma(z) - y|",
    use_when="a crowd of easy examples and some outliers or wrong labels disturb at once, as in one-stage detection",
    avoid_when=(
        "batches are small and momentum is 0 (the histogram is then noise), hard examples are rare because they "
        "matter, or the probabilities have to be calibrated"
    ),
    samples=({}, {"normalizer": "all"}, {"bins": 30, "momentum": 0.75}),
    module_only=frozenset({"momentum"}),
    identities=(
        Identity(
            statement="bins=1 equals sigmoid_cross_entropy",
            options={"bins": 1},
            other=sigmoid_cross_entropy,
        ),
    ),
    differs=(
        "M counts non-empty bins as in the authors' code; the paper's M is all bins (normalizer='all')",
        "the running histogram is bias-corrected, moves for empty bins, rests in eval and ignores non-finite batches",
    ),
)

REGRESSION_CARD = Card(
    name="ghm_r",
    summary="a smooth absolute error that turns crowds of like gradients down, outliers among them",
    module=GHMRLoss,
    function=ghm_r_loss,
    family="Gradient harmonizing",
    kind="elementwise",
    problems=frozenset({"regression"}),
    op_family="histogram",
    paper='Li, Liu, Wang, "Gradient Harmonized Single-stage Detector", AAAI 2019, section "GHM-R Loss"',
    formula=r"\frac{N}{R_{b} M} \left(\sqrt{d^2 + \mu^2} - \mu\right), \quad g = |d| / \sqrt{d^2 + \mu^2}",
    use_when="a regression, as of boxes, whose many small errors or few outliers drown the rest",
    avoid_when=(
        "batches are small and momentum is 0 (the histogram is then noise), or the mean of the target is wanted: "
        "that is the squared error's"
    ),
    samples=({}, {"mu": 0.5, "normalizer": "all"}, {"momentum": 0.7}),
    module_only=frozenset({"momentum"}),
    differs=("M counts non-empty bins as in the authors' code; the paper's M is all bins (normalizer='all')",),
)
