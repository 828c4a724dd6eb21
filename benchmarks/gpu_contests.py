"""What `benchmarks.gpu` measures: our losses, their inputs, their peers, and the goals that the project set itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

import equipoise

from . import formulas, machine
from .linear import chunked, whole

LossFunction = Callable[..., Tensor]

SIZES = {torch.float32: 4, torch.bfloat16: 2}


@dataclass(frozen=True)
class Problem:
    """What a loss is given.

    Attributes:
        leaves: the tensors that a gradient is wanted of.
        target: what follows them.
        scores: how many scores there are, made or not.
    """

    leaves: tuple[Tensor, ...]
    target: Tensor
    scores: int


@dataclass(frozen=True)
class Peer:
    """Another loss of the same.

    Attributes:
        name: with what it computes, if that is less.
        loss: takes what ours takes; None: it is not installed.
        faster: how many times ours is to be faster; None: no goal.
        memory: the goal for the ratio of memory; None: no goal.
        agrees: whether it computes the same, to the precision of its type.
    """

    name: str
    loss: LossFunction | None
    faster: float | None = None
    memory: float | None = None
    agrees: bool = False


@dataclass(frozen=True)
class Contest:
    """Our loss beside its peers.

    Attributes:
        name: the loss and its input, what `--only` is matched against.
        make: the problem; given True, a small one.
        ours: the loss.
        bytes: that forward and backward must move for each score, targets included; None: nobody has counted.
        instructions: of one lane for each score, as compiled for sm_90 (tests/gpu/test_ahead_of_time.py).
        operations: of matrix products for each score.
        peers: the others.
        fraction: of the copy bandwidth that is to be reached; None: no goal.
        milliseconds: in which a step is to be done; None: no goal.
        waits: whether a step may wait for the GPU.
    """

    name: str
    make: Callable[[bool], Problem]
    ours: LossFunction
    bytes: float | None = None
    instructions: float | None = None
    operations: float | None = None
    peers: tuple[Peer, ...] = ()
    fraction: float | None = None
    milliseconds: float | None = None
    waits: bool = False


# ---- inputs ------------------------------------------------------------------------------------------------------


def elements(dtype: torch.dtype, small: bool) -> Problem:
    """Scores of a half-trained model and one positive in ten."""
    size = 2**12 if small else 2**26
    return Problem((torch.randn(size).mul_(2).to(dtype),), (torch.rand(size) < 0.1).to(dtype), size)


def rows(dtype: torch.dtype, classes: int, small: bool) -> Problem:
    """As many rows as make 2^27 scores."""
    count = 4 if small else 2**27 // classes
    classes = min(classes, 64) if small else classes
    return Problem((torch.randn(count, classes).to(dtype),), torch.randint(classes, (count,)), count * classes)


def embeddings(size: int, small: bool) -> Problem:
    """Embeddings of 128 numbers, eight of each class."""
    size = 64 if small else size
    return Problem((torch.randn(size, 128),), torch.arange(size) // 8, size * size)


def head(small: bool) -> Problem:
    """Features and head of a language model with a vocabulary of 128,256, in bfloat16."""
    count, features, classes = (16, 32, 64) if small else (16384, 4096, 128256)
    rows = torch.randn(count, features).div_(features**0.5).bfloat16()
    weight = torch.randn(classes, features).bfloat16()
    return Problem((rows, weight), torch.randint(classes, (count,)), count * classes)


# ---- peers of the head -------------------------------------------------------------------------------------------


def liger(**options: Any) -> LossFunction | None:
    """Plain cross-entropy as Liger-Kernel computes it, which has the head and the features the other way about."""
    if machine.installed("liger-kernel") is None:
        return None
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

    loss = LigerFusedLinearCrossEntropyLoss(**options)
    return lambda input, linear_weight, target: loss(linear_weight, input, target)


def products(input: Tensor, linear_weight: Tensor, _: Tensor) -> Tensor:
    """The three matrix products alone, 1,024 rows at a time: what no loss of this layer can be quicker than."""
    with torch.no_grad():
        gradients = []
        sums = torch.zeros_like(linear_weight)
        for part in input.split(1024):
            scores = part @ linear_weight.t()
            gradients.append(scores @ linear_weight)
            sums.addmm_(scores.t(), part)
        return (torch.cat(gradients)[0, 0] + sums[0, 0]).requires_grad_()


# ---- contests ----------------------------------------------------------------------------------------------------


def passes(dtype: torch.dtype, target: float) -> float:
    """The bytes of a score: read and its gradient written; in half precision read once more, in the backward pass."""
    size = SIZES[dtype]
    return 2 * size + target if dtype == torch.float32 else 3 * size + 2 * target


def contests(rehearsal: bool) -> Iterator[Contest]:
    """All of them."""
    yield from of_elements(rehearsal)
    yield from of_rows()
    yield Contest(
        "ghm_c, 64 M, float32, 30 bins",
        partial(elements, torch.float32),
        partial(equipoise.ghm_c_loss, bins=30),
        bytes=5 * 4,  # scores and targets to count, both again to weigh, the gradient
        instructions=105.0,
        peers=(Peer("mmdet's loop", formulas.mmdet_ghm_c, 20.0, agrees=True),),
    )
    yield from of_heads()
    yield Contest(
        "batch_triplet, all, N=32768",
        partial(embeddings, 32768),
        partial(equipoise.batch_triplet_loss, normalize=True),
        bytes=39.6,  # products 5, distances 8, pairs 8, sums 8, products of the gradient 10.2; the rest once a row
        instructions=91.0,  # of pairs 11.4 and 8.4 for each of seven positives, of distances 21
        operations=6 * 128,
        milliseconds=200.0,
        waits=True,
    )


def of_elements(rehearsal: bool) -> Iterator[Contest]:
    """Sigmoid focal loss, bound by memory."""
    compiled = torch.compile(formulas.torchvision_focal, backend="eager" if rehearsal else "inductor")
    for dtype, instructions in ((torch.float32, 51.0), (torch.bfloat16, 87.0)):
        yield Contest(
            f"sigmoid_focal, 64 M, {named(dtype)}",
            partial(elements, dtype),
            partial(equipoise.sigmoid_focal_loss, alpha=0.25),
            bytes=passes(dtype, SIZES[dtype]),
            instructions=instructions,
            peers=(
                Peer("torchvision's formula", formulas.torchvision_focal, 8.0, agrees=True),
                Peer("the same, torch.compile", compiled, 1.5, agrees=True),
                Peer("binary_cross_entropy_with_logits", functional.binary_cross_entropy_with_logits),
            ),
            fraction=0.85,
        )


def of_rows() -> Iterator[Contest]:
    """Softmax focal loss from few classes to very many."""
    for dtype in SIZES:
        for classes in (8, 128, 1024, 4096, 32768, 131072, 262144):
            blocks = classes > 16384
            yield Contest(
                f"softmax_focal, C={classes}, {named(dtype)}",
                partial(rows, dtype, classes),
                equipoise.softmax_focal_loss,
                bytes=passes(dtype, 8 / classes),
                instructions=(50.0 if blocks else 45.0) if dtype == torch.float32 else (81.0 if blocks else 78.0),
                peers=(Peer("cross_entropy", functional.cross_entropy, 1.0),),
                fraction=0.8 if classes <= 32768 else None,
            )


def of_heads() -> Iterator[Contest]:
    """A linear layer and its loss in one, beside those who do the same for plain cross-entropy."""
    accurate = liger(accum_dtype=torch.float32)
    for gamma in (2.0, 0.0):
        plain = gamma == 0
        yield Contest(
            f"linear_softmax_focal, gamma {gamma:g}, N=16384, D=4096, C=128256, bfloat16",
            head,
            partial(equipoise.linear_softmax_focal_loss, gamma=gamma),
            bytes=4 + 2 * 4 + 2 + 2 * 2,  # scores written, read twice; their gradient written, and read by two products
            instructions=51.0,
            operations=6 * 4096,
            peers=(
                # its sums are as good as ours; by default they are those of the weight's own bfloat16
                Peer("Liger-Kernel, plain, sums in float32", accurate, 0.95, 1.0, agrees=plain),
                Peer("Liger-Kernel, plain", liger(), 0.95, None, agrees=plain),
                Peer("torch's linear_cross_entropy, plain", chunked, agrees=plain),
                Peer("cross_entropy of linear, plain", whole, agrees=plain),
                Peer("the three products alone", products),
            ),
        )


def named(dtype: torch.dtype) -> str:
    """The type without its module."""
    return str(dtype).removeprefix("torch.")
