"""Where the kernels run, and calls in which nobody may wait for the GPU."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from cases import Case

DEVICE = torch.device(os.environ.get("EQUIPOISE_TEST_DEVICE", "cpu"))
ON_GPU = DEVICE.type == "cuda"

# The interpreter cuts a number's bits off where a GPU rounds.
ROUNDING = {torch.float32: 0.0, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8 if ON_GPU else 2.0**-7}


def placed(value: Any) -> Any:
    """Tensors on the device, in dictionaries and tuples too; everything else as it is."""
    if isinstance(value, Tensor):
        return value.to(DEVICE)
    if isinstance(value, dict):
        return {name: placed(each) for name, each in value.items()}
    if isinstance(value, tuple):
        return tuple(map(placed, value))
    return value


@contextmanager
def nobody_waits() -> Iterator[None]:
    """On a GPU it is an error to wait for it."""
    if not ON_GPU:
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def called(loss: Callable[..., Tensor], scores: Tensor, *tensors: Any, **keywords: Any) -> tuple[Tensor, Tensor]:
    """The loss, and the gradient of its sum with respect to the scores, on the CPU."""
    scores, tensors, keywords = placed(scores), placed(tensors), placed(keywords)
    scores = scores.detach().requires_grad_()
    with nobody_waits():
        value = loss(scores, *tensors, **keywords)
        (gradient,) = torch.autograd.grad(value.sum(), scores)
    return value.detach().cpu(), gradient.cpu()


def call(loss: Callable[..., Tensor], case: Case) -> tuple[Tensor, Tensor]:
    """`called`, of a case of the contract."""
    return called(loss, case.input, case.target, **case.batch)


def thinned(case: Case, step: int) -> Case:
    """Every so many-th row of a case."""
    return replace(case, input=case.input[::step], target=case.target[::step])
