"""Compiled without a GPU for two architectures: nothing spills, memory moves 16 bytes at a time, instructions are few.

On an H100 3.35 TB/s beside 30e12 instructions of a lane a second leave 9 of these for each byte: 107 for an element of
float32 (scores and target read, gradient written), 89 for one of bfloat16, whose two passes read it twice.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SIZES = {"float32": 4, "bfloat16": 2}

# Instructions per element, a tenth above what was found, whichever of Triton 3.6, 3.7 (which comes with torch 2.13 for
# CUDA) and 3.9 takes most; of a row of several blocks: per element of a block, all its passes. Where a name is left out
# the kernel runs once a call.
BUDGET = {
    "sigmoid soft 0 float32: sigmoid_kernel": 41,
    "sigmoid soft 2 float32: sigmoid_kernel": 56,
    "sigmoid soft 0.5 float32: sigmoid_kernel": 105,
    "sigmoid hard 2 float32: sigmoid_kernel": 51,
    "sigmoid hard 2 bfloat16 value: sigmoid_kernel": 36,
    "sigmoid hard 2 bfloat16: sigmoid_kernel": 50,
    "sigmoid soft 2 bfloat16 value: sigmoid_kernel": 42,
    "sigmoid soft 2 bfloat16: sigmoid_kernel": 58,
    "softmax [512, 1024] float32: softmax_kernel": 50,
    "softmax class by class float32: softmax_kernel": 72,
    "softmax smooth [512, 1024] float32: softmax_kernel": 86,
    "softmax [512, 1024] bfloat16: softmax_kernel": 54,
    "softmax class by class bfloat16: softmax_kernel": 92,
    "softmax smooth [512, 1024] bfloat16: softmax_kernel": 88,
    "softmax [4096, 8] bfloat16: softmax_kernel": 51,
    "softmax [64, 16384] bfloat16: softmax_kernel": 43,
    "softmax [4, 262144] bfloat16: softmax_kernel": 59,
    "softmax smooth [4, 262144] float32: softmax_kernel": 118,
    "softmax adjusted [512, 1024] float32: softmax_kernel": 65,
    "softmax adjusted [4, 262144] float32: softmax_kernel": 77,
    "softmax head [4, 128256] float32: softmax_kernel": 58,
    "sigmoid head 2 float32: sigmoid_kernel": 48,
    "ghm hard float32: count_kernel": 62,
    "ghm hard float32: weigh_kernel": 55,
    "ghm soft bfloat16: count_kernel": 65,
    "ghm soft bfloat16: weigh_kernel": 58,
    "ghm regression float32: count_kernel": 80,
    "ghm regression float32: weigh_kernel": 66,
    # with one positive of the anchor; each further one takes 8.4 more, with the soft margin 23.4
    "hinge rooted [3, 512] float32: pairs_kernel": 30,
    "hinge rooted [3, 32768] float32: pairs_kernel": 34,
    "hinge [3, 32768] float32: pairs_kernel": 27,
    "hinge rooted masked [3, 32768] float32: pairs_kernel": 38,
    "soft margin rooted [3, 32768] float32: pairs_kernel": 49,
    "distances [3, 32768] float32: distances_kernel": 23,
    "distances scaled [3, 32768] float32: distances_kernel": 25,
    "cosines [3, 32768] float32: distances_kernel": 13,
}
# How often a row's scores are read: once where it fits a block, and once more where they are adjusted.
READS = {
    "softmax [4, 262144]": 2,
    "softmax smooth [4, 262144]": 3,
    "softmax class by class": 2,
    "softmax adjusted [512, 1024]": 2,
    "softmax adjusted [4, 262144]": 3,
    "softmax head [4, 128256]": 2,
}


@pytest.fixture(scope="module", params=[80, 90])
def compiled(request, tmp_path_factory):
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path_factory.mktemp("triton"))
    process = subprocess.run(
        [sys.executable, Path(__file__).with_name("ahead_of_time.py"), str(request.param)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


def test_what_was_compiled(compiled):
    assert {name for name in compiled if ":" in name} == set(BUDGET)
    for name, found in compiled.items():
        # nothing spills
        assert (found["local_bytes"], found["local_accesses"]) == (0, 0), name
        if name not in BUDGET:
            continue
        kernel = name.rpartition(" ")[2]
        found = {**found, **{place: {int(w): n for w, n in found[place].items()} for place in ("loads", "stores")}}
        scores = found["elements"] * SIZES[re.search("float32|bfloat16$|bfloat16", name)[0]]

        assert found["instructions"] / found["elements"] <= BUDGET[name], name

        # whatever there is one of per element is read and written 16 bytes at a time
        targets = found["elements"] if " hard " in name or " head " in name else scores
        reads = {"softmax_kernel": scores * reads_of(name), "pairs_kernel": scores}.get(kernel, scores + targets)
        reads = scores if name.startswith("cosines") else reads
        assert 16 * found["loads"].get(16, 0) >= reads, name
        writes = 0 if "value" in name or kernel == "count_kernel" else scores
        writes = writes // 2 if " head " in name else writes  # the gradient is of half precision
        assert 16 * found["stores"].get(16, 0) == writes, name
        narrow = sum(number for width, number in found["loads"].items() if width < 16)
        # a row's target and own score; an element's factor is looked up by its bin; an anchor's positives, its square
        singles = {"softmax_kernel": 5, "weigh_kernel": found["elements"] + 1, "pairs_kernel": 6, "distances_kernel": 1}
        assert narrow <= singles.get(kernel, 0), name
        # of an anchor: what is no negative, its value and count, and its positives' weights
        assert sum(n for width, n in found["stores"].items() if width < 16) <= {"pairs_kernel": 7}.get(kernel, 1), name


def reads_of(name):
    return next((number for start, number in READS.items() if name.startswith(start)), 1)


def test_stores_of_other_threads_are_waited_for(compiled):
    """Places of no negatives are marked before a row is read, and positives' weights come after the row's."""
    assert compiled["hinge rooted [3, 512] float32: pairs_kernel"]["barriers"] == 2  # one warp needs no others
