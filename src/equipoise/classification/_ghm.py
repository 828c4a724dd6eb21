"""What gradient harmonizing does in classification and regression alike: the histogram and its running average."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import checks, distributed
from ..checks import Scalar, Vector
from ..loss import Loss
from ..ops import histogram
from ..reduction import check_reduction
from ._sigmoid import checked_pair, element_weight

NORMALIZERS = ("nonempty", "all")


class GHMLoss(Loss):
    """What both GHM modules share: their options, and the running average of the histogram.

    With `momentum` α > 0 each finite, non-empty batch in training mode moves every bin,
    `ema <- α ema + (1 - α) R`, `steps <- steps + 1`, and the density used is the bias-corrected `ema / (1 - α^steps)`.
    In `eval()` the state rests and the density is `max(ema / (1 - α^steps), (1 - α) R)`, so that a bin never seen in
    training has a finite weight. Before the first step it is R.
    """

    ema: Tensor
    steps: Tensor
    weight: Tensor | float | None

    def __init__(
        self,
        *,
        bins: int,
        momentum: float,
        normalizer: str,
        weight: Vector | Scalar | None,
        reduction: str,
        sync: bool,
    ) -> None:
        super().__init__()
        self.bins = checks.whole("bins", bins, 1)
        self.momentum = checks.number("momentum", momentum, 0, 1)
        if self.momentum == 1:
            raise ValueError("`momentum` must lie in [0, 1), got 1: the histogram would never move")
        self.normalizer = checks.choice("normalizer", normalizer, NORMALIZERS)
        self._hold("weight", weight)
        self.reduction = check_reduction(reduction)
        self.sync = sync
        self.register_buffer("ema", torch.zeros(self.bins, dtype=torch.float32))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def density(self, counts: Tensor, finite: Tensor) -> Tensor:
        """The density of each bin, and in training mode the step of the running average.

        Args:
            counts: R, the kept elements per bin in this batch (of all ranks with `sync`).
            finite: whether every kept loss of the batch is finite, a 0-d boolean tensor.

        Returns:
            float64 `[bins]`.
        """
        batch, ema = counts.to(torch.float64), self.ema.to(torch.float64)
        if self.momentum == 0:
            return batch
        if not self.training:
            return torch.where(self.steps > 0, torch.maximum(self._unbiased(ema), (1 - self.momentum) * batch), batch)
        moves = finite & (counts.sum() > 0)
        ema = self.momentum * ema + (1 - self.momentum) * batch
        self.steps.add_(moves)
        self.ema.copy_(torch.where(moves, ema, self.ema))
        return self._unbiased(ema)

    def _harmonize(self, input: Tensor, target: Tensor, mask: Tensor | None, mu: Scalar) -> Tensor:
        """The loss under this module's options and state."""
        return ghm_pipeline(
            input,
            target,
            mu=mu,
            state=self,
            bins=self.bins,
            normalizer=self.normalizer,
            weight=self.weight,
            mask=mask,
            reduction=self.reduction,
            sync=self.sync,
        )

    def _unbiased(self, ema: Tensor) -> Tensor:
        """The average without the pull of its start at 0."""
        return ema / (1 - self.momentum ** self.steps.clamp_min(1).to(torch.float64))


def ghm_pipeline(
    input: Tensor,
    target: Tensor,
    *,
    mu: Scalar,
    state: GHMLoss | None,
    bins: int,
    normalizer: str,
    weight: Vector | Scalar | None,
    mask: Tensor | None,
    reduction: str,
    sync: bool,
) -> Tensor:
    """The loss of `ops.histogram` with all options of the family; `mu` 0 is classification.

    The histogram is counted first, on its own, where more than this batch on this rank decides the weights.
    """
    check_reduction(reduction)
    checked_pair(input, target, mask)
    bins = checks.whole("bins", bins, 1)
    checks.choice("normalizer", normalizer, NORMALIZERS)
    element_weights = element_weight("weight", weight, input)
    all_bins = normalizer == "all"
    factor = divisor = None
    moving = state is not None and state.momentum > 0
    if moving or distributed.world_size(sync) > 1:
        with torch.no_grad():
            totals = distributed.sum_over_ranks(histogram.histogram(input, target, mask, mu, bins), sync)
            counts, finite = totals[:-1], totals[-1] == 0
            density = counts if state is None else state.density(counts, finite)
            factor = histogram.bin_factor(counts, density, all_bins=all_bins)
            divisor = counts.sum() if reduction == "mean" else None
    scale = 1.0 if reduction == "none" else float(distributed.world_size(sync))
    return histogram.ghm_loss(
        input, (target, mask, element_weights, factor, divisor), (mu, bins, all_bins, reduction, scale)
    )
