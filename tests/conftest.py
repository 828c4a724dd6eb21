"""Settings of all tests."""

import os

import hypothesis
import torch

# On a GPU where one is asked for, else in Triton's interpreter, which must be chosen before anything imports Triton.
if os.environ.get("EQUIPOISE_TEST_DEVICE", "cpu") == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"

# pytest-xdist runs one process per core; a thread pool in each would make them wait for each other
torch.set_num_threads(1)

# The same examples in every run. `--hypothesis-profile=explore` goes looking for new ones.
hypothesis.settings.register_profile("fixed", deadline=None, max_examples=60, derandomize=True, database=None)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=2000)
hypothesis.settings.load_profile("fixed")
