"""`python -m benchmarks.linear`: losses of a linear layer beside torch's, time and memory.

Float32, forward and backward, gradients of features and weight. Times are taken in turn, A B A B; peak memory in a
process of its own for each side. A run of some contests (`--only`) replaces those in the results file and leaves the
others, so that a long measurement can be cut in pieces.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import LinearCrossEntropyOptions, functional

from equipoise import linear_sigmoid_focal_loss, linear_softmax_focal_loss, softmax_cross_entropy

from . import machine, memory, timing
from .ranking import RESULTS
from .report import table

LossFunction = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Size:
    """N rows of D features, C classes; `labels` of them for each row, or one."""

    rows: int
    features: int
    classes: int
    labels: int | None = None

    def make(self) -> tuple[Tensor, Tensor, Tensor]:
        """Features, weight and target, the same at every call."""
        draw = torch.Generator().manual_seed(0)
        features = torch.randn(self.rows, self.features, generator=draw) / self.features**0.5
        weight = torch.randn(self.classes, self.features, generator=draw)
        shape = (self.rows,) if self.labels is None else (self.rows, self.labels)
        return features, weight, torch.randint(self.classes, shape, generator=draw)


HEAD = Size(4096, 512, 32768)
MANY_LABELS = Size(2048, 512, 100_000, 16)
SMALL = Size(64, 16, 128)
SMALL_LABELS = Size(64, 16, 128, 3)


# ---- contenders: a loss of features, weight and target; those of many labels get zeros and ones made beforehand ----


def whole(input: Tensor, linear_weight: Tensor, target: Tensor) -> Tensor:
    """Plain cross-entropy of all scores."""
    return functional.cross_entropy(functional.linear(input, linear_weight), target)


def chunked(input: Tensor, linear_weight: Tensor, target: Tensor) -> Tensor:
    """Plain cross-entropy as torch computes it in chunks."""
    return functional.linear_cross_entropy(input, linear_weight, target, options=LinearCrossEntropyOptions())


def whole_sigmoid(input: Tensor, linear_weight: Tensor, target: Tensor) -> Tensor:
    """Plain binary cross-entropy of all scores against zeros and ones."""
    return functional.binary_cross_entropy_with_logits(functional.linear(input, linear_weight), target)


def products(input: Tensor, linear_weight: Tensor, _: Tensor) -> Tensor:
    """The three matrix products alone, in the same chunks: what no loss of this layer can be quicker than."""
    with torch.no_grad():
        rows = max(64, 2**25 // (4 * len(linear_weight)))
        scores = input.new_empty(rows, len(linear_weight))
        for first in range(0, len(input), rows):
            part = input[first : first + rows]
            torch.mm(part, linear_weight.t(), out=scores[: len(part)])
            torch.mm(scores[: len(part)], linear_weight, out=_gradient(input)[first : first + rows])
            _gradient(linear_weight).addmm_(scores[: len(part)].t(), part, beta=0 if first == 0 else 1)
    return (input.sum() * 0).requires_grad_()


def _gradient(leaf: Tensor) -> Tensor:
    if leaf.grad is None:
        leaf.grad = torch.empty_like(leaf)
    return leaf.grad


def of_scores(loss: Callable[..., Tensor], **options: Any) -> LossFunction:
    """A loss of scores, which the features are here."""
    return lambda input, _, target: loss(input, target, **options)


FOCAL = partial(linear_softmax_focal_loss, gamma=2.0)
PLAIN = partial(linear_softmax_focal_loss, gamma=0.0)
ANOTHER = "gamma 2 beside plain"


@dataclass(frozen=True)
class Contest:
    """Our loss beside a peer.

    Attributes:
        name: what `--only` is matched against.
        size: what both are given.
        ours: our side.
        peer: the peer's name.
        theirs: the other side.
        time: the goal for the ratio of times, None: none.
        memory: the goal for the ratio of extra memory, None: none.
        differs: why the two compute different things; None: they must agree.
    """

    name: str
    size: Size
    ours: LossFunction
    peer: str
    theirs: LossFunction
    time: float | None = None
    memory: float | None = None
    differs: str | None = None


def adjusted(name: str, rows: int, classes: int) -> Contest:
    """What a logit adjustment costs a loss of scores, beside torch's plain loss."""
    ours = of_scores(softmax_cross_entropy, logit_adjustment=torch.arange(1, classes + 1))
    size, peer = Size(rows, classes, classes), of_scores(functional.cross_entropy)
    return Contest(name, size, ours, "torch cross_entropy, not adjusted", peer, differs="adjusted beside plain")


CONTESTS = (
    Contest("softmax/chunked", HEAD, FOCAL, "torch linear_cross_entropy, chunked", chunked, 0.65, None, ANOTHER),
    Contest("softmax/whole", HEAD, FOCAL, "torch linear and cross_entropy", whole, 1.0, 0.1, ANOTHER),
    Contest("softmax/plain", HEAD, PLAIN, "torch linear and cross_entropy", whole),
    Contest("softmax/gamma", HEAD, FOCAL, "ours with gamma 0", PLAIN, 1.03, None, ANOTHER),
    Contest("softmax/products", HEAD, FOCAL, "the three matrix products alone", products, differs="no loss at all"),
    Contest(
        "sigmoid/whole",
        MANY_LABELS,
        linear_sigmoid_focal_loss,
        "torch linear and binary_cross_entropy_with_logits",
        whole_sigmoid,
        0.8,
        0.05,
        ANOTHER,
    ),
    adjusted("adjusted/4096x1000", 4096, 1000),
    adjusted("adjusted/1024x32000", 1024, 32000),
)


class Side:
    """One loss with its own copies of features and weight."""

    def __init__(self, loss: LossFunction, size: Size, scored: bool = True) -> None:
        features, weight, target = size.make() if scored else _scores(size)
        self.loss = loss
        self.leaves = features.requires_grad_(), weight.requires_grad_(scored)
        self.target = target
        if loss is whole_sigmoid:
            self.target = torch.zeros(size.rows, size.classes).scatter_(1, target, 1.0)

    def step(self) -> Tensor:
        """Forward and backward, to fresh gradients."""
        for leaf in self.leaves:
            leaf.grad = None
        value = self.loss(*self.leaves, self.target)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    def seconds(self) -> float:
        """The time of one step."""
        start = time.perf_counter()
        self.step()
        return time.perf_counter() - start


def _scores(size: Size) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    scores = torch.randn(size.rows, size.classes, generator=draw)
    return scores, torch.zeros(1), torch.randint(size.classes, (size.rows,), generator=draw)


def _side(contest: Contest, loss: LossFunction, size: Size | None = None) -> Side:
    return Side(loss, size or contest.size, not contest.name.startswith("adjusted"))


def timed(contest: Contest, rounds: int) -> dict[str, Any]:
    """Times of both sides and the ratios of neighbours."""
    ours, peer = _side(contest, contest.ours), _side(contest, contest.theirs)
    values = [side.step().detach() for side in (ours, peer)]  # warm-up
    result: dict[str, Any] = {}
    if contest.differs is None:
        gradients = [
            (mine.grad, theirs.grad)
            for mine, theirs in zip(ours.leaves, peer.leaves, strict=True)
            if mine.grad is not None and theirs.grad is not None
        ]
        result["disagreement"] = timing.apart([(values[0], values[1]), *gradients])
        if result["disagreement"] > timing.TOLERANCE:
            return {**result, "status": f"not timed: results lie {result['disagreement']:.1e} apart"}
    times = [(ours.seconds(), peer.seconds()) for _ in range(rounds)]
    mine, theirs = ([pair[place] for pair in times] for place in (0, 1))
    return {**result, "status": "timed", **timing.summary(mine, theirs)}


def remembered(contest: Contest, side: str, threads: int) -> dict[str, Any]:
    """Extra memory of one side in bytes, from a process of its own."""
    command = [sys.executable, "-m", "benchmarks.linear", "--memory", contest.name, side, "--threads", str(threads)]
    done = subprocess.run(command, cwd=memory.PROJECT, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def step_of(name: str, side: str) -> dict[str, Any]:
    """What `remembered` reads: the peak of one step beyond the inputs and the gradients."""
    contest = next(contest for contest in CONTESTS if contest.name == name)
    loss = contest.ours if side == "ours" else contest.theirs
    _side(contest, loss, SMALL if contest.size.labels is None else SMALL_LABELS).step()
    subject = _side(contest, loss)
    memory._give_back_free_memory()
    before = memory._reset()
    subject.step()
    gradients = sum(leaf.grad.nbytes for leaf in subject.leaves if leaf.grad is not None)
    return {"extra": memory._peak() - before - gradients}


def measure(contest: Contest, threads: int, rounds: int, memory_too: bool) -> dict[str, Any]:
    """One contest; an entry of the JSON file, without times for 0 rounds."""
    entry = {"name": contest.name, "peer": contest.peer, "differs": contest.differs}
    entry |= timed(contest, rounds) if rounds else {}
    entry["size"] = [contest.size.rows, contest.size.features, contest.size.classes]
    for side in ("ours", "peer") if contest.memory is not None and memory_too else ():
        entry[f"{side}_memory"] = remembered(contest, side, threads)
    entry["goals"] = {"time": contest.time, "memory": contest.memory}
    sys.stderr.write(f"{json.dumps(entry)}\n")
    return entry


def markdown(results: dict[str, Any]) -> str:
    """The tables, from nothing but what the JSON file holds."""
    box = results["machine"]
    rows, goals = [], []
    for entry in results["contests"]:
        ratio = entry.get("ratio")
        shown = f"{ratio['median']:.3f} [{ratio['low']:.3f}, {ratio['high']:.3f}]" if ratio else entry.get("status", "")
        sizes = [entry.get(f"{side}_memory", {}).get("extra") for side in ("ours", "peer")]
        times = [f"{entry[key] / 1e3:.3g} s" if key in entry else "" for key in ("ours_ms", "peer_ms")]
        peer = entry["peer"] + (f" ({entry['differs']})" if entry["differs"] else "")
        rows.append(
            (
                entry["name"],
                peer,
                shown,
                *times,
                *(f"{each / 2**20:.0f} MiB" if each is not None else "" for each in sizes),
            )
        )
        share = sizes[0] / sizes[1] if all(each is not None for each in sizes) else None
        for what, found in (("time", ratio and ratio["median"]), ("memory", share)):
            limit = entry["goals"][what]
            if limit is not None and found is not None:
                verdict = "met" if found <= limit else f"missed: {found / limit:.2f} times"
                goals.append((entry["name"], entry["peer"], what, f"<= {limit:g}", f"{found:.3f}", verdict))
    head = (
        f"# Losses of a linear layer: time and memory\n\n{box['cpu']}, {box['cores']} cores, {box['threads']} threads; "
        f"torch {box['torch']}; {box['date']}. Float32, forward and backward; softmax: 4,096 rows of 512 features and "
        "32,768 classes, sigmoid: 2,048 rows of 512 features and 100,000 labels; adjusted: scores of that shape."
    )
    columns = ("contest", "peer", "ratio of times", "time of ours", "time of the peer", "memory of ours", "of the peer")
    return (
        "\n\n".join(
            [
                head,
                "## Goals\n\nOurs over the peer's.",
                table(("contest", "peer", "of", "limit", "measured", "verdict"), goals),
                "## All\n\nRatio: the median and the middle half. Memory: the peak of one step in a fresh process"
                " beyond inputs, zeros and ones, and gradients.",
                table(columns, rows),
            ]
        )
        + "\n"
    )


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints and writes; exit status 1 where a contest was not timed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.linear", description="Losses of a linear layer.")
    parser.add_argument("--only", metavar="PATTERN", help="contests whose name holds PATTERN")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="threads of torch (default: 2)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="steps of each side; 0: memory alone")
    parser.add_argument("--no-memory", action="store_true", help="times alone")
    parser.add_argument(
        "--out", type=Path, default=RESULTS, metavar="DIR", help="where to write (default: %(default)s)"
    )
    parser.add_argument("--memory", nargs=2, metavar=("NAME", "SIDE"), help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    if chosen.memory:
        sys.stdout.write(json.dumps(step_of(*chosen.memory)) + "\n")
        return 0
    contests = [contest for contest in CONTESTS if not chosen.only or chosen.only in contest.name]
    if not contests:
        parser.error(f"no contest's name holds {chosen.only!r}")
    described = machine.described(chosen.threads)
    described.pop("peers")
    file = chosen.out / f"linear-{machine.slug(described)}.json"
    known = json.loads(file.read_text(encoding="utf-8"))["contests"] if file.exists() and chosen.only else []
    entries = {entry["name"]: entry for entry in known}
    for contest in contests:
        found = measure(contest, chosen.threads, chosen.rounds, not chosen.no_memory)
        entries[contest.name] = {**entries.get(contest.name, {}), **found}
    order = [contest.name for contest in CONTESTS if contest.name in entries]
    results = {"format": 1, "machine": described, "contests": [entries[name] for name in order]}
    chosen.out.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    file.with_suffix(".md").write_text(markdown(results), encoding="utf-8")
    sys.stdout.write(markdown(results))
    return int(any(entries[contest.name].get("status", "timed") != "timed" for contest in contests))


if __name__ == "__main__":
    sys.exit(main())
