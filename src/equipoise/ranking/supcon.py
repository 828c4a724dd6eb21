"""Supervised contrastive loss. Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020, eq. 2."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from .. import checks
from ..card import Card
from ..checks import Scalar
from ..loss import Loss
from ..reduction import check_reduction
from ._batch import batch, swept
from ._temperature import hold_temperature, temperature_of


def supcon_loss(
    embedding: Tensor,
    label: Tensor | None = None,
    *,
    positive: Tensor | None = None,
    negative: Tensor | None = None,
    reference: Tensor | None = None,
    reference_label: Tensor | None = None,
    temperature: Scalar = 0.1,
    normalize: bool = True,
    reduction: str = "mean",
    memory_mb: Scalar = 16.0,
    sync: bool = False,
) -> Tensor:
    r"""Asks each embedding to tell those of its own label from all others, as a softmax over the batch.

    $\ell_a = -\frac{1}{|P_a|} \sum_{p \in P_a} \log \frac{e^{s_{ap} / τ}}{\sum_{k \ne a} e^{s_{ak} / τ}}$ with the
    inner products s of the embeddings, the positives $P_a$ of the anchor a (the same label, not a itself) and the
    temperature τ. In memory that grows with the batch and not with its pairs.

    Args:
        embedding: `[N, D]`, floating-point. Each is an anchor.
        label: `[N]`, integers. Default: `None`.
        positive: in place of `label`, boolean `[N, M]`: True where a candidate (column) is a positive of an anchor
            (row). The candidates are the batch, with `sync` of all ranks, then the references; an anchor is never its
            own. Default: `None`.
        negative: boolean `[N, M]`, what else stands in the denominator; None: all other candidates. Default: `None`.
        reference: `[R, D]`, further candidates, such as a memory bank. Default: `None`.
        reference_label: `[R]`, their labels. Default: `None`.
        temperature: τ > 0, a number or a 0-d tensor, which may ask for a gradient. Default: `0.1`.
        normalize: whether embeddings are scaled to length 1 first. Default: `True`.
        reduction: `"sum"`, or `"mean"`: the sum divided by the number of anchors that have a positive. Default:
            `"mean"`.
        memory_mb: budget for the tiles in which products are computed, in millions of bytes; beyond 8,192
            candidates it grows with them, up to four times. Default: `16.0`.
        sync: whether the embeddings of all ranks make one batch; the average over ranks, which DDP takes, of the losses
            and their gradients is then that of one process on the joined batch. Default: `False`.

    Returns:
        A scalar; float32 for half-precision input. 0 where no anchor has a positive.

    Raises:
        TypeError: if `embedding` is not a floating-point tensor, `label` no integers or a mask not boolean.
        ValueError: if shapes do not fit, a value leaves its range, or both or neither of `label` and `positive` come.

    Example:
        >>> import torch
        >>> from equipoise import supcon_loss
        >>> supcon_loss(torch.eye(4), torch.tensor([0, 0, 1, 1]))  # all alike: log 3
        tensor(1.0986)

    Differs from:
        The authors' code, which scales the loss by temperature / 0.07 and takes views as a dimension of their own;
        here views are rows with the label of their sample.

    References:
        Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020, eq. 2 (L_out).
    """
    check_reduction(reduction, ("sum", "mean"))
    here = batch(embedding, label, positive, negative, reference, reference_label, normalize=normalize, sync=sync)
    here = replace(here, anchors=here.anchors / temperature_of(temperature, here.anchors))
    return swept(here, "softmax", "similarity", reduction=reduction, memory_mb=memory_mb, sync=sync)


class SupConLoss(Loss):
    r"""Supervised contrastive loss of a labelled batch; the module of `supcon_loss`.

    $\ell_a = -\frac{1}{|P_a|} \sum_{p \in P_a} \log \frac{e^{s_{ap} / τ}}{\sum_{k \ne a} e^{s_{ak} / τ}}$

    Args:
        temperature: τ > 0; a `torch.nn.Parameter` is learned. Default: `0.1`.
        normalize: whether embeddings are scaled to length 1 first. Default: `True`.
        reduction: `"sum"`, or `"mean"`: divided by the number of anchors that have a positive. Default: `"mean"`.
        memory_mb: budget for the tiles in which products are computed, in millions of bytes; beyond 8,192
            candidates it grows with them, up to four times. Default: `16.0`.
        sync: whether the embeddings of all ranks make one batch. Default: `False`.

    Shape:
        `embedding` `[N, D]`, `label` `[N]`; a scalar.

    Example:
        >>> import torch
        >>> from equipoise import SupConLoss
        >>> criterion = SupConLoss(temperature=torch.nn.Parameter(torch.tensor(0.1)))
        >>> criterion(torch.eye(4), torch.tensor([0, 0, 1, 1])).detach()
        tensor(1.0986)

    References:
        See `supcon_loss`.
    """

    temperature: Tensor | float

    def __init__(
        self,
        *,
        temperature: Scalar = 0.1,
        normalize: bool = True,
        reduction: str = "mean",
        memory_mb: Scalar = 16.0,
        sync: bool = False,
    ) -> None:
        super().__init__()
        self.temperature = hold_temperature(temperature)
        self.normalize = normalize
        self.reduction = check_reduction(reduction, ("sum", "mean"))
        self.memory_mb = float(checks.above_zero("memory_mb", memory_mb))
        self.sync = sync

    def forward(
        self,
        embedding: Tensor,
        label: Tensor | None = None,
        *,
        positive: Tensor | None = None,
        negative: Tensor | None = None,
        reference: Tensor | None = None,
        reference_label: Tensor | None = None,
    ) -> Tensor:
        """The loss of the anchors `embedding`."""
        return supcon_loss(
            embedding,
            label,
            positive=positive,
            negative=negative,
            reference=reference,
            reference_label=reference_label,
            temperature=self.temperature,
            normalize=self.normalize,
            reduction=self.reduction,
            memory_mb=self.memory_mb,
            sync=self.sync,
        )


CARD = Card(
    name="supcon",
    summary="a softmax over the batch that tells embeddings of one label from all others",
    module=SupConLoss,
    function=supcon_loss,
    family="Pairs and ranking",
    kind="embeddings",
    problems=frozenset({"embeddings"}),
    op_family="tiles",
    paper='Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020, eq. 2',
    formula=r"-\frac{1}{|P_a|} \sum_{p} \log \frac{e^{s_{ap} / τ}}{\sum_{k \ne a} e^{s_{ak} / τ}}",
    use_when="batches are large and hold several rows of each label",
    avoid_when="most labels stand once in a batch: there is then nothing to pull together",
    samples=({}, {"temperature": 1.0}, {"normalize": False, "temperature": 0.5}),
    differs=("the authors' code scales the loss by temperature / 0.07",),
)
