"""What gradient harmonizing does in classification and regression alike: the histogram and its running average."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import checks, distributed
from ..checks import Scalar, Vector
from ..loss import Loss
from ..ops import histogram
from ..reduction import check_reduction, keep, reduce

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

    def _unbiased(self, ema: Tensor) -> Tensor:
        """The average without the pull of its start at 0."""
        return ema / (1 - self.momentum ** self.steps.clamp_min(1).to(torch.float64))


def harmonize(
    base: Tensor,
    norm: Tensor,
    kept: Tensor | None,
    weight: Tensor | None,
    state: GHMLoss | None,
    bins: int,
    normalizer: str,
    reduction: str,
    sync: bool,
) -> Tensor:
    """Weighs `base` by the density of gradient norms, masks and reduces it."""
    bins = checks.whole("bins", bins, 1)
    checks.choice("normalizer", normalizer, NORMALIZERS)
    check_reduction(reduction)
    with torch.no_grad():
        index = histogram.bin_index(norm, bins)
        broken = (~torch.isfinite(keep(base, kept))).sum()
        totals = torch.cat([histogram.bin_counts(index, kept, bins), broken.view(1)])
        totals = distributed.sum_over_ranks(totals, sync)
        counts, finite = totals[:-1], totals[-1] == 0
        density = counts.to(torch.float64) if state is None else state.density(counts, finite)
        beta = histogram.harmonizing_weight(index, counts, density, normalizer=normalizer, dtype=base.dtype)
    values = keep(base * (beta if weight is None else beta * weight), kept)
    return reduce(values, counts.sum, reduction=reduction, sync=sync)
