"""Settings of all tests."""

import os
import sys

import hypothesis
import pytest
import torch

# On a GPU where one is asked for, else in Triton's interpreter, which must be chosen before anything imports Triton.
if os.environ.get("EQUIPOISE_TEST_DEVICE", "cpu") == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"

# pytest-xdist runs one process per core; a thread pool in each would make them wait for each other
torch.set_num_threads(1)

# Nearly the same examples in every run: Hypothesis mixes in constants of modules that happen to be loaded.
# `--hypothesis-profile=explore` goes looking for new ones.
hypothesis.settings.register_profile("fixed", deadline=None, max_examples=60, derandomize=True, database=None)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=2000)
hypothesis.settings.load_profile("fixed")

# What runs the same lines for every card, option and precision: to count them each time takes longer than the tests do.
REPEATED = (
    "tests/contract/",
    "tests/gpu/test_equals_eager.py",
    "tests/gpu/test_linear.py",
    "tests/gpu/test_pairs.py::test_triplets",
    "tests/gpu/test_pairs.py::test_any_number_of_candidates",
)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Runs the test without the tracer that counts lines, where they are counted elsewhere."""
    if not item.nodeid.startswith(REPEATED):
        return (yield)
    tracer = sys.gettrace()
    sys.settrace(None)
    try:
        return (yield)
    finally:
        sys.settrace(tracer)
