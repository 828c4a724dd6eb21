"""Tests of the compiled kernels; without a library there is nothing to test, and the reason is shown."""

import pytest
import torch

from equipoise import kernels
from equipoise.kernels import native

LEVELS = ("baseline", "avx2", "avx512")


def pytest_collection_modifyitems(items):
    if kernels.status().active != "native":
        reason = pytest.mark.skip(reason=f"no kernels: {kernels.status().reason}")
        for item in items:
            if "tests/kernels" in item.path.as_posix():
                item.add_marker(reason)


def available_levels():
    """The instruction levels that this library has and this CPU knows."""
    best = kernels.status().level
    return LEVELS[: LEVELS.index(best) + 1] if best else LEVELS[:1]


@pytest.fixture(params=available_levels())
def level(request):
    """Runs the test once per instruction level."""
    assert native.library.equipoise_set_level(LEVELS.index(request.param))
    yield request.param
    assert native.library.equipoise_set_level(LEVELS.index(available_levels()[-1]))


@pytest.fixture
def threads():
    """Lets the test set the number of torch's threads, and sets it back."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)
