"""The contract runs over native and eager alike: every test of a loss that has kernels runs once on each path."""

import contextlib

import pytest

from equipoise import kernels

PATHS = ("native", "eager") if kernels.status().active == "native" else ("eager",)
WITH_KERNELS = ("elementwise", "rowwise", "histogram", "linear")
# Of the losses over tiles what the kernels decide: all the rest is the same code on both paths.
OF_TILES = ("test_ranking_values", "test_ranking_gradients")


@pytest.fixture(autouse=True)
def path(request):
    """The path that the losses take in this test."""
    chosen = getattr(request, "param", "eager")
    with kernels.eager() if chosen == "eager" else contextlib.nullcontext():
        assert kernels.status().active == chosen
        yield chosen


def pytest_generate_tests(metafunc):
    if "card" in metafunc.fixturenames:
        metafunc.parametrize("path", PATHS, indirect=True)


def pytest_collection_modifyitems(config, items):
    """A loss without kernels has one path alone."""
    once = [item for item in items if _is_twice_the_same(item)]
    if once:
        config.hook.pytest_deselected(items=once)
        items[:] = [item for item in items if item not in set(once)]


def _is_twice_the_same(item):
    parameters = getattr(item, "callspec", None) and item.callspec.params
    card = (parameters or {}).get("card")
    if card is None or parameters.get("path") != "native":
        return False
    if card.op_family == "tiles":
        return item.path.stem not in OF_TILES
    return card.op_family not in WITH_KERNELS
