"""Results do not depend on threads, forks or the width of an index."""

import subprocess
import sys

import pytest
import torch
from both import Draw, natively

from equipoise.kernels import calls

WHOLE = {
    "sigmoid": ((300, 1000), (0.25, 0.75, 2.0, 0.0, "mean", 1.0), 7),
    "softmax": ((3000, 100), (2.0, 0.1, -100, "mean", 1.0), 6),
    "ghm": ((300, 1000), (0.0, 30, False, "mean", 1.0), 5),
}


@pytest.mark.parametrize("family", WHOLE)
def test_the_same_bits_for_any_number_of_threads(family, threads):
    shape, options, count = WHOLE[family]
    draw = Draw(0, torch.float32)
    scores = draw.scores(*shape)
    target = draw.classes(100, shape[0]) if family == "softmax" else draw.yes_or_no(*shape)
    found = []
    for number in (1, 2, 3, 7):
        threads(number)
        found.append(natively(family, scores, (target, *(None,) * (count - 1)), options))
    for value, gradient in found[1:]:
        assert torch.equal(value, found[0][0])
        assert torch.equal(gradient, found[0][1])


def test_torch_says_how_many_threads():
    """One thread: the pool is not used. Two: the work is shared. Counted by the threads that ran, not by time."""
    code = """
import pathlib, sys, torch, equipoise
def threads():
    entries = pathlib.Path("/proc/self/task").iterdir()
    return {entry.name: int((entry / "stat").read_text().rpartition(")")[2].split()[11]) for entry in entries}
torch.set_num_threads(int(sys.argv[1]))
scores, target = torch.randn(4_000_000), torch.ones(4_000_000)
equipoise.sigmoid_focal_loss(scores, target)
before = threads()
for _ in range(60):
    equipoise.sigmoid_focal_loss(scores, target)
after = threads()
print(sum(after[name] - before.get(name, 0) >= 5 for name in after))
"""
    for number in (1, 2):
        command = [sys.executable, "-c", code, str(number)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        assert int(done.stdout) == number


def test_in_the_workers_of_a_data_loader():
    """Forked workers have none of the parent's threads, and must not wait for them."""
    code = """
import torch, equipoise
from torch.utils.data import DataLoader, Dataset
torch.set_num_threads(2)
scores, target = torch.randn(4, 200_000), (torch.rand(4, 200_000) < 0.1).float()
class Losses(Dataset):
    def __len__(self): return 4
    def __getitem__(self, row): return equipoise.sigmoid_focal_loss(scores[row], target[row])
expected = torch.stack([Losses()[row] for row in range(4)])
loader = DataLoader(Losses(), batch_size=4, num_workers=2, timeout=60, multiprocessing_context="fork")
for batch in loader:
    assert torch.equal(batch, expected), (batch, expected)
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], timeout=180, check=True)


BEYOND = 2**31 + 3  # one more than an int32 holds, and no multiple of anything


def test_more_elements_than_an_int32_counts():
    """Half-precision zeros that take no memory until they are written, the last ones apart from the others."""
    scores = torch.zeros(BEYOND, dtype=torch.bfloat16)
    scores[-2:] = torch.tensor([4.0, -2.0])
    loss = torch.empty(())
    calls.sigmoid(scores, loss, None, torch.ones(()), *(None,) * 7, 1.0, 1.0, 0.0, 0.0, "sum", 1.0)
    last = torch.nn.functional.softplus(torch.tensor([-4.0, 2.0], dtype=torch.float64)).sum()
    expected = (BEYOND - 2) * torch.tensor(2.0, dtype=torch.float64).log() + last
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=0)

    counts = torch.empty(5, dtype=torch.int64)
    calls.ghm_counts(scores, counts, torch.ones(()), None, 0.0, 4)
    assert counts.tolist() == [1, 0, BEYOND - 2, 1, 0]


def test_more_scores_in_rows_than_an_int32_counts():
    classes = 2**16 + 1
    scores = torch.zeros(2**15 + 1, classes, dtype=torch.bfloat16)
    scores[-1, -1] = 8.0
    target = torch.full(scores.shape[:1], classes - 1)
    loss = torch.empty(len(scores))
    calls.softmax(scores, loss, None, target, *(None,) * 5, 0.0, 0.0, -100, "none", 1.0)
    uniform = torch.tensor(float(classes), dtype=torch.float64).log()
    sure = torch.log1p((classes - 1) * torch.tensor(-8.0, dtype=torch.float64).exp())
    torch.testing.assert_close(loss[:-1].double(), uniform.expand(len(loss) - 1), rtol=1e-6, atol=0)
    torch.testing.assert_close(loss[-1].double(), sure, rtol=1e-6, atol=0)
