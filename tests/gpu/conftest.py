"""Tests of the Triton kernels: on a GPU with EQUIPOISE_TEST_DEVICE=cuda, else in Triton's interpreter.

Either way through the public losses: in the interpreter the kernels stand in for those of the CPU.
"""

import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from equipoise.kernels import native
from equipoise.kernels import triton as gpu
from equipoise.ops import elementwise, histogram, products, rowwise
from equipoise.ranking import _forms, _mine

sys.path.append(str(Path(__file__).parents[1] / "kernels"))  # the calls with every option, in `both`

import both
from device import DEVICE, ON_GPU


def pytest_collection_modifyitems(items):
    reason = None
    if find_spec("triton") is None:
        reason = "Triton is not installed (it has wheels for Linux alone)"
    elif ON_GPU and not torch.cuda.is_available():
        reason = "EQUIPOISE_TEST_DEVICE=cuda, and torch sees no GPU"
    for item in items:
        if reason and Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def kernels_in_use(monkeypatch):
    """In the interpreter every loss on the CPU runs the kernels that it would run on a GPU."""
    if ON_GPU:
        monkeypatch.setattr(gpu, "takes", refuse_to_fall_back(gpu.takes))
        return
    monkeypatch.setattr(native, "_loaded", True)
    for module in (elementwise, rowwise, histogram):
        interpreted = replace(module.KERNEL, implementation=module.KERNEL.on_gpu)
        monkeypatch.setattr(module, "KERNEL", interpreted)
    monkeypatch.setattr(histogram, "COUNT", histogram._counts_on_gpu)
    monkeypatch.setattr(gpu, "takes", lambda input: input.dtype in gpu.DTYPES and not native.is_eager())
    monkeypatch.setattr(products, "_multiply_half", multiply_half)
    modules = {"sigmoid": elementwise, "softmax": rowwise, "ghm": histogram}
    for module in (_forms, _mine):
        monkeypatch.setattr(module, "is_native", lambda anchors: False)
    monkeypatch.setattr(both, "KERNELS", {family: module.KERNEL for family, module in modules.items()})


def refuse_to_fall_back(takes):
    """Were the kernels not in use, the tests would compare plain torch with itself."""

    def asked(input):
        taken = takes(input)
        assert taken or native.is_eager() or not input.is_cuda or input.dtype == torch.float64
        return taken

    return asked


def multiply_half(rows, columns, out, add):
    """What CUDA alone can do: products of half precision, summed in float32."""
    product = rows.float() @ columns.float()
    out.copy_(out + product if add else product)


@pytest.fixture
def device():
    return DEVICE
