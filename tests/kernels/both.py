"""Calls of the three families with every option, natively and in plain torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from equipoise import kernels
from equipoise.ops import elementwise, fused, histogram, rowwise

Tensors = tuple[Tensor | None, ...]
Options = tuple[Any, ...]

KERNELS = {"sigmoid": elementwise.KERNEL, "softmax": rowwise.KERNEL, "ghm": histogram.KERNEL}


def natively(family: str, input: Tensor, tensors: Tensors, options: Options) -> tuple[Tensor, Tensor]:
    """Value, and gradient of its sum, by the kernels; an error where they do not take the call."""
    scores = input.detach().requires_grad_()
    value = fused.run(KERNELS[family], scores, tensors, options)
    assert value is not None, "the kernels did not take the call"
    (gradient,) = torch.autograd.grad(value.sum(), scores)
    with torch.no_grad():
        alone = fused.run(KERNELS[family], input, tensors, options)
    assert torch.equal(alone.nan_to_num(), value.detach().nan_to_num()), (
        "the value depends on whether a gradient is asked for"
    )
    return value.detach(), gradient


def eagerly(family: str, input: Tensor, tensors: Tensors, options: Options) -> tuple[Tensor, Tensor]:
    """The same in plain torch."""
    scores = input.detach().requires_grad_()
    with kernels.eager():
        value = KERNELS[family].eager(scores, *tensors, *options)
    (gradient,) = torch.autograd.grad(value.sum(), scores)
    return value.detach(), gradient


def assert_same(family: str, input: Tensor, tensors: Tensors, options: Options, what: str = "") -> None:
    """Native equals eager: to 1e-12 in float64; else to 1e-5 of the eager form in float64, of the largest in a row."""
    value, gradient = natively(family, input, tensors, options)
    if input.dtype == torch.float64:
        expected, slope = eagerly(family, input, tensors, options)
        torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12, msg=lambda text: f"{what} value: {text}")
        torch.testing.assert_close(gradient, slope, rtol=1e-12, atol=1e-12, msg=lambda text: f"{what} gradient: {text}")
        return
    expected, slope = eagerly(family, input.double(), tuple(map(widened, tensors)), options)
    assert value.dtype == torch.float32
    assert gradient.dtype == input.dtype
    own = {torch.float32: 1e-5, torch.bfloat16: 2**-8, torch.float16: 2**-10}[input.dtype]
    scale = slope.abs().max() if slope.numel() else 0.0
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-7, msg=lambda text: f"{what} value: {text}")
    least = 2.0**-24 if input.dtype == torch.float16 else 0.0  # its smallest step
    torch.testing.assert_close(
        gradient.double(),
        slope,
        rtol=own,
        atol=float(1e-5 * scale + least),
        msg=lambda text: f"{what} gradient: {text}",
    )


def widened(tensor: Tensor | None) -> Tensor | None:
    return tensor.double() if tensor is not None and tensor.is_floating_point() else tensor


class Draw:
    """Random tensors, the same for the same name."""

    def __init__(self, seed: int, dtype: torch.dtype = torch.float64) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.dtype = dtype

    def scores(self, *shape: int) -> Tensor:
        return (4 * torch.randn(shape, generator=self.generator, dtype=torch.float64)).to(self.dtype)

    def weights(self, *shape: int) -> Tensor:
        own = torch.float64 if self.dtype == torch.float64 else torch.float32
        return 2 * torch.rand(shape, generator=self.generator, dtype=own)

    def yes_or_no(self, *shape: int) -> Tensor:
        return torch.randint(2, shape, generator=self.generator)

    def soft(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator, dtype=torch.float64)

    def mask(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator) < 0.8

    def classes(self, number: int, *shape: int) -> Tensor:
        return torch.randint(number, shape, generator=self.generator)


REDUCTIONS = ("none", "sum", "mean")
GAMMAS = (0.0, 1.0, 2.0, 0.5, 3.7)


def sigmoid_calls(draw: Draw, shape: tuple[int, ...]) -> Iterator[tuple[str, Tensor, Tensors, Options]]:
    """Name, scores, tensors and options of calls that together use everything of the sigmoid family."""
    last = shape[-1:]
    scores, target = draw.scores(*shape), draw.yes_or_no(*shape)
    plain: Tensors = (target.to(scores.dtype), None, None, None, None, None, None)
    for gamma in GAMMAS:
        yield f"gamma {gamma}", scores, plain, (0.25, 0.75, gamma, 0.0, "mean", 1.0)
    for reduction in (*REDUCTIONS, "mean_positive"):
        yield reduction, scores, plain, (1.0, 1.0, 2.0, 0.0, reduction, 1.0)
    for dtype in (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float32):
        yield f"{dtype} target", scores, (target.to(dtype), *plain[1:]), (1.0, 1.0, 2.0, 0.0, "mean", 1.0)
    everything: Tensors = (
        target,
        draw.mask(*shape),
        draw.weights(*shape),
        draw.weights(*last),
        draw.weights(*last),
        draw.weights(*last),
        None,
    )
    for gamma in GAMMAS:
        for reduction in ("none", "mean", "mean_positive"):
            yield f"everything, {gamma}, {reduction}", scores, everything, (1.0, 1.0, gamma, 0.0, reduction, 1.0)
            yield f"smoothed, {gamma}, {reduction}", scores, everything, (1.0, 1.0, gamma, 0.1, reduction, 1.0)
        soft = draw.soft(*shape).to(scores.dtype)
        yield f"soft, {gamma}", scores, (soft, *plain[1:]), (0.3, 0.7, gamma, 0.0, "mean", 1.0)
        mixed = torch.where(draw.mask(*shape), target.double(), soft.double()).to(scores.dtype)
        yield (
            f"mixed, {gamma}",
            scores,
            (mixed, None, None, draw.weights(*last), *plain[4:]),
            (1.0, 1.0, gamma, 0.0, "sum", 1.0),
        )
    divisor = torch.tensor(7.0)
    yield "a divisor and a scale", scores, (*plain[:6], divisor), (1.0, 1.0, 2.0, 0.0, "mean", 3.0)
    if len(shape) > 1:
        for name, size in (("first", (shape[0], *(1 for _ in shape[1:]))), ("one", (1,) * len(shape)), ("none", ())):
            rows = (target, draw.mask(*size), draw.weights(*size), *plain[3:])
            yield f"broadcast along the {name}", scores, rows, (1.0, 1.0, 2.0, 0.0, "mean", 1.0)
    if len(shape) > 2:
        middle = (1, shape[1], *(1 for _ in shape[2:]))
        rows = (
            target,
            draw.mask(*middle),
            draw.weights(shape[0], 1, *shape[2:]),
            draw.weights(*middle[1:]),
            *plain[4:],
        )
        yield "broadcast along the middle", scores, rows, (1.0, 1.0, 2.0, 0.0, "mean", 1.0)


def softmax_calls(draw: Draw, shape: tuple[int, ...]) -> Iterator[tuple[str, Tensor, Tensors, Options]]:
    """The same of the softmax family."""
    classes = shape[1]
    rows = (shape[0], *shape[2:])
    scores, target = draw.scores(*shape), draw.classes(classes, *rows)
    ignored = torch.where(draw.mask(*rows), target, torch.full_like(target, -100))
    plain: Tensors = (target, None, None, None, None, None)
    for gamma in GAMMAS:
        for smoothing in (0.0, 0.1):
            yield f"gamma {gamma}, smoothing {smoothing}", scores, plain, (gamma, smoothing, -100, "mean", 1.0)
    added = -3 * draw.weights(classes)
    weighed: Tensors = (ignored, draw.weights(classes), draw.weights(classes), draw.weights(*rows), None, added)
    for reduction in REDUCTIONS:
        for smoothing in (0.0, 0.3):
            yield (
                f"weighed, {reduction}, smoothing {smoothing}",
                scores,
                weighed,
                (2.0, smoothing, -100, reduction, 1.0),
            )
    for dtype in (torch.uint8, torch.int8, torch.int16, torch.int32):
        some = (target % 100).to(dtype)
        yield f"{dtype} target", scores, (some, *plain[1:]), (2.0, 0.0, 3, "mean", 1.0)
    yield "a divisor and a scale", scores, (*plain[:4], torch.tensor(7.0), None), (1.7, 0.0, -100, "mean", 3.0)
    for smoothing in (0.0, 0.1):
        yield f"adjusted, smoothing {smoothing}", scores, (*plain[:5], added), (2.0, smoothing, -100, "mean", 1.0)


def ghm_calls(draw: Draw, shape: tuple[int, ...]) -> Iterator[tuple[str, Tensor, Tensors, Options]]:
    """The same of gradient harmonizing."""
    scores, target = draw.scores(*shape), draw.yes_or_no(*shape)
    real = draw.scores(*shape)
    for mu in (0.0, 0.02):
        wanted = (target if mu == 0 else real).to(scores.dtype)
        for bins in (1, 10, 30, 1000):
            yield f"mu {mu}, {bins} bins", scores, (wanted, None, None, None, None), (mu, bins, False, "mean", 1.0)
        weighed = (wanted, draw.mask(*shape), draw.weights(*shape[-1:]), None, None)
        for reduction in REDUCTIONS:
            yield f"mu {mu}, {reduction}", scores, weighed, (mu, 10, True, reduction, 1.0)
        factor = draw.soft(10)
        yield f"mu {mu}, factors", scores, (wanted, None, None, factor, torch.tensor(9)), (mu, 10, False, "mean", 2.0)
    yield "soft", scores, (draw.soft(*shape), None, None, None, None), (0.0, 10, False, "mean", 1.0)


CALLS: dict[str, Callable[[Draw, tuple[int, ...]], Iterator[tuple[str, Tensor, Tensors, Options]]]] = {
    "sigmoid": sigmoid_calls,
    "softmax": softmax_calls,
    "ghm": ghm_calls,
}
