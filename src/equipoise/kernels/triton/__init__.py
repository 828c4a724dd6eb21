"""Kernels in Triton for NVIDIA GPUs: whether they are in use, and why not.

Triton comes with torch for CUDA and is imported when the first loss on a GPU asks for it. Without it, or on a GPU that
it does not know, the losses compute in plain torch there.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import native

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
MOST_BINS = 1023  # with one place for what is masked, what a program can count at a time
OLDEST = (8, 0)  # the compute capability that Triton asks for

_found = importlib.util.find_spec("triton") is not None


@dataclass(frozen=True)
class Status:
    """Which path the losses take on the GPU.

    Attributes:
        active: `triton`, `eager`, or `none` where there is no GPU.
        reason: why, in one sentence.
        device: the GPU's name; None where there is none.
        version: the version of Triton; None where it is not in use.
    """

    active: str
    reason: str
    device: str | None = None
    version: str | None = None


def takes(input: Tensor) -> bool:
    """Whether a loss of these scores may call the kernels, here and now: not in float64, which eager computes in."""
    if not (_found and input.is_cuda and input.dtype in DTYPES) or native.is_eager():
        return False
    # what torch.compile traces on a GPU needs Triton itself, and could not be traced through the question
    return torch.compiler.is_compiling() or _obstacle(input.device) is None


def multiply(gradient: Tensor, upstream: Tensor) -> None:
    """Multiplies a gradient in place by one number on the GPU, which nobody waits for."""
    from . import launch

    launch.multiply(gradient, upstream)


def status() -> Status:
    """Which path the losses take on the current GPU, here and now, and why.

    Example:
        >>> from equipoise import kernels
        >>> kernels.gpu_status().active in ("triton", "eager", "none")
        True
    """
    if not torch.cuda.is_available():
        return Status("none", "torch sees no CUDA GPU")
    device = torch.device("cuda", torch.cuda.current_device())
    name = torch.cuda.get_device_name(device)
    if native.is_eager():
        return Status("eager", "plain torch is asked for (EQUIPOISE_EAGER, or equipoise.kernels.eager())", name)
    obstacle = _obstacle(device)
    if obstacle is not None:
        return Status("eager", obstacle, name)
    version = importlib.import_module("triton").__version__
    return Status("triton", f"Triton {version} compiles the kernels when they are first called", name, version)


@functools.cache
def _obstacle(device: torch.device) -> str | None:
    """Why the kernels cannot run on this GPU, or None."""
    if not _found:
        return "Triton is not installed (it comes with torch for CUDA on Linux)"
    if torch.version.hip is not None:
        return "the kernels are written for NVIDIA GPUs"
    capability = torch.cuda.get_device_capability(device)
    if capability < OLDEST:
        return f"Triton needs compute capability {OLDEST[0]}.{OLDEST[1]}, this GPU has {capability[0]}.{capability[1]}"
    try:
        importlib.import_module(f"{__name__}.launch")
    except Exception as error:  # a broken installation may raise anything
        return f"Triton cannot be imported: {' '.join(str(error).split())}"
    return None
