"""`python -m benchmarks.ranking`: the losses over whole batches of embeddings beside named peers, time and memory.

Embeddings of 128 numbers, 8 of each class unless the contest says otherwise, forward and backward, float32. Times are
taken in turn, A B A B; peak memory in a process of its own for each side.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from equipoise import batch_contrastive_loss, batch_triplet_loss, info_nce_loss, supcon_loss

from . import machine, memory, timing
from .report import table
from .timing import Patience, Side

LossFunction = Callable[[Tensor, Tensor], Tensor]

WIDTH = 128
RESULTS = Path(__file__).parent / "results"
PATIENCE = Patience(20.0, 3, 60)
PACKAGES = ("pytorch-metric-learning", "sentence-transformers")


@dataclass(frozen=True)
class Batch:
    """So many embeddings, so many of each class."""

    size: int
    each: int = 8

    def make(self) -> tuple[Tensor, Tensor]:
        """Embeddings and labels, the same at every call."""
        generator = torch.Generator().manual_seed(0)
        label = torch.arange(self.size) // self.each
        order = torch.randperm(self.size, generator=generator)
        return torch.randn(self.size, WIDTH, generator=generator), label[order]


@dataclass(frozen=True)
class Contest:
    """Our loss beside a peer.

    Attributes:
        name: what `--only` is matched against.
        batch: what both are given.
        ours: the loss.
        peer: the peer's name, or None: ours alone.
        build: makes the peer's loss; ImportError says that its package is not installed.
        time: the goal for the ratio of times, None: none.
        memory: the goal for the ratio of extra memory, None: none.
        differs: why the two compute different things; None: they must agree.
        agrees_in: what the results are compared in. Which of two negatives at nearly one distance is the semi-hard one
            is up to the rounding in float32, and with it where the gradient goes.
    """

    name: str
    batch: Batch
    ours: LossFunction
    peer: str | None = None
    build: Callable[[], LossFunction] | None = None
    time: float | None = None
    memory: float | None = None
    differs: str | None = None
    agrees_in: torch.dtype = torch.float32


# ---- ours, on embeddings scaled to length 1, as the peers do ------------------------------------------------

ALL = partial(batch_triplet_loss, normalize=True)
HARD = partial(batch_triplet_loss, normalize=True, mining="hard")
SEMIHARD = partial(batch_triplet_loss, normalize=True, mining="semihard")
CONTRASTIVE = partial(batch_contrastive_loss, normalize=True, power=1.0, reduction="sum")


def key_of_query(embedding: Tensor, _: Tensor) -> Tensor:
    """InfoNCE of the first half as queries and the second as keys."""
    query, key = embedding.chunk(2)
    return info_nce_loss(query, key)


# ---- peers -------------------------------------------------------------------------------------------------


def metric_learning(loss: str, miner: str | None = None, **options: Any) -> LossFunction:
    """A loss of pytorch-metric-learning, on the triplets of a miner where one is named."""
    from pytorch_metric_learning import losses, miners

    function = getattr(losses, loss)(**options)
    if miner is None:
        evaluate: LossFunction = function
        return evaluate
    found = miners.BatchHardMiner() if miner == "hard" else miners.TripletMarginMiner(0.2, type_of_triplets=miner)

    def mined(embedding: Tensor, label: Tensor) -> Tensor:
        value: Tensor = function(embedding, label, found(embedding, label))
        return value

    return mined


def sentence_transformers(loss: str, **options: Any) -> LossFunction:
    """A loss of sentence-transformers on embeddings scaled to length 1; the two halves where it compares two."""
    from sentence_transformers.sentence_transformer import losses

    function = getattr(losses, loss)(None, **options)

    def evaluate(embedding: Tensor, label: Tensor) -> Tensor:
        rows = functional.normalize(embedding, dim=1)
        given = rows.chunk(2) if loss.startswith("MultipleNegatives") else [rows]
        value: Tensor = function.compute_loss_from_embeddings(list(given), label)
        return value

    return evaluate


def addons_semihard() -> LossFunction:
    """TensorFlow Addons' `triplet_semihard_loss`, from its definition, with its tensor of all triplets."""

    def loss(embedding: Tensor, label: Tensor) -> Tensor:
        rows = functional.normalize(embedding, dim=1)
        square = (rows[:, None] - rows).square().sum(2)
        apart = torch.where(square > 0, square.clamp_min(1e-16).sqrt(), 0.0)
        alike = label[:, None] == label
        negative = ~alike[:, None, :] & (apart[:, None, :] > apart[:, :, None])  # [a, p, n]
        beyond = apart[:, None, :].masked_fill(~negative, torch.inf).amin(2)
        farthest = apart.masked_fill(alike, -torch.inf).amax(1, keepdim=True)
        chosen = torch.where(beyond.isfinite(), beyond, farthest)
        pairs = alike & ~torch.eye(len(label), dtype=torch.bool)
        return functional.relu(apart - chosen + 0.2)[pairs].mean()

    return loss


def whole_cross_entropy() -> LossFunction:
    """The symmetric cross-entropy of the matrix of all products, as CLIP's code computes it."""

    def loss(embedding: Tensor, _: Tensor) -> Tensor:
        query, key = functional.normalize(embedding, dim=1).chunk(2)
        scores = query @ key.t() / 0.07
        place = torch.arange(len(query))
        return (functional.cross_entropy(scores, place) + functional.cross_entropy(scores.t(), place)) / 2

    return loss


def all_pairs_in_torch() -> LossFunction:
    """The contrastive loss with the matrix of all distances, in plain torch."""

    def loss(embedding: Tensor, label: Tensor) -> Tensor:
        apart = functional.pdist(functional.normalize(embedding, dim=1))
        first, second = torch.triu_indices(len(label), len(label), 1)
        return torch.where(label[first] == label[second], apart, functional.relu(1 - apart)).sum()

    return loss


PML_TRIPLET = partial(metric_learning, "TripletMarginLoss", margin=0.2)
RANGE = "another definition: every negative within the margin beyond the positive, not the nearest"

CONTESTS = (
    Contest("all/2048", Batch(2048), ALL, "pytorch-metric-learning TripletMarginLoss", PML_TRIPLET, 0.05, 0.03),
    Contest(
        "semihard/2048",
        Batch(2048),
        SEMIHARD,
        "pytorch-metric-learning TripletMarginMiner(semihard)",
        partial(PML_TRIPLET, miner="semihard"),
        0.06,
        0.025,
        RANGE,
    ),
    Contest(
        "semihard/512",
        Batch(512),
        SEMIHARD,
        "TensorFlow Addons' algorithm (transcribed)",
        addons_semihard,
        agrees_in=torch.float64,
    ),
    Contest(
        "hard/2048",
        Batch(2048),
        HARD,
        "pytorch-metric-learning BatchHardMiner",
        partial(PML_TRIPLET, miner="hard"),
        0.20,
    ),
    Contest(
        "supcon/8192",
        Batch(8192),
        supcon_loss,
        "pytorch-metric-learning SupConLoss",
        partial(metric_learning, "SupConLoss", temperature=0.1),
        0.20,
        0.05,
    ),
    *(
        Contest(
            f"{mining}/2048, sentence-transformers",
            Batch(2048),
            ours,
            f"sentence-transformers {loss}",
            partial(sentence_transformers, loss, margin=0.2),
            agrees_in=torch.float64 if mining == "semihard" else torch.float32,
        )
        for mining, ours, loss in (
            ("all", ALL, "BatchAllTripletLoss"),
            ("semihard", SEMIHARD, "BatchSemiHardTripletLoss"),
            ("hard", HARD, "BatchHardTripletLoss"),
        )
    ),
    Contest(
        "info_nce/8192, sentence-transformers",
        Batch(16384),
        key_of_query,
        "sentence-transformers MultipleNegativesSymmetricRankingLoss",
        partial(sentence_transformers, "MultipleNegativesSymmetricRankingLoss", scale=1 / 0.07),
    ),
    Contest("contrastive/4096", Batch(4096), CONTRASTIVE, "torch's pdist", all_pairs_in_torch),
    Contest("info_nce/8192", Batch(16384), key_of_query, "torch's cross_entropy of all products", whole_cross_entropy),
    Contest("all/2044, 4 classes", Batch(2044, 511), ALL),
    Contest("all/8192", Batch(8192), ALL),
    Contest("all/16384", Batch(16384), ALL),
    Contest("all/32768", Batch(32768), ALL),
    Contest("semihard/8192", Batch(8192), SEMIHARD),
)


def timed(contest: Contest) -> dict[str, Any]:
    """Times of both sides and their ratio, or why there are none; ours alone where there is no peer."""
    data = contest.batch.make()
    ours = Side(contest.ours, *data)
    if contest.build is None:
        ours.step()
        seconds = [ours.seconds(1) for _ in range(3)]
        return {"status": "timed", "ours_ms": 1e3 * sorted(seconds)[1]}
    try:
        peer = Side(contest.build(), *data)
        result: dict[str, Any] = {}
        if contest.differs is None:
            scores = data[0].to(contest.agrees_in)
            compared = (Side(side.loss, scores, data[1]) for side in (ours, peer))
            result["disagreement"] = timing.disagreement(*compared)
            if result["disagreement"] > timing.TOLERANCE:
                return {**result, "status": f"not timed: results lie {result['disagreement']:.1e} apart"}
        mine, theirs, _ = timing.time_in_turn(ours.seconds, peer.seconds, PATIENCE)
    except ImportError as missing:
        return {"status": f"not installed: {missing}"}
    return {**result, "status": "timed", **timing.summary(mine, theirs)}


def remembered(contest: Contest, side: str, threads: int) -> dict[str, Any]:
    """Extra memory of one side in bytes, from a process of its own."""
    command = [sys.executable, "-m", "benchmarks.ranking", "--memory", contest.name, side, "--threads", str(threads)]
    done = subprocess.run(command, cwd=memory.PROJECT, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def step_of(name: str, side: str) -> dict[str, Any]:
    """What `remembered` reads: the peak of one step beyond the embeddings and their gradient."""
    contest = next(contest for contest in CONTESTS if contest.name == name)
    loss = contest.ours if side == "ours" or contest.build is None else contest.build()
    Side(loss, *Batch(64, 4).make()).step()
    subject = Side(loss, *contest.batch.make())
    memory._give_back_free_memory()
    before = memory._reset()
    subject.step()
    assert subject.scores.grad is not None
    return {"extra": memory._peak() - before - subject.scores.grad.nbytes}


def measure(contests: list[Contest], threads: int) -> dict[str, Any]:
    """Runs the contests; what the JSON file holds."""
    torch.set_num_threads(threads)
    entries = []
    for contest in contests:
        entry = {"name": contest.name, "peer": contest.peer, "differs": contest.differs, **timed(contest)}
        for side in ("ours", *(["peer"] if contest.peer and entry["status"] == "timed" else [])):
            entry[f"{side}_memory"] = remembered(contest, side, threads)
        entry["goals"] = {"time": contest.time, "memory": contest.memory}
        entries.append(entry)
        sys.stderr.write(f"{json.dumps(entry)}\n")
    described = machine.described(threads)
    described["peers"] = {name: machine.installed(name) for name in PACKAGES}
    return {"format": 1, "machine": described, "width": WIDTH, "contests": entries}


def markdown(results: dict[str, Any]) -> str:
    """The tables, from nothing but what the JSON file holds."""
    box = results["machine"]
    rows, goals = [], []
    for entry in results["contests"]:
        ratio = entry.get("ratio")
        shown = f"{ratio['median']:.3f} [{ratio['low']:.3f}, {ratio['high']:.3f}]" if ratio else entry["status"]
        mine, theirs = _megabytes(entry, "ours"), _megabytes(entry, "peer")
        share = mine / theirs if mine is not None and theirs else None
        times = [f"{entry[key]:.4g} ms" if key in entry else "" for key in ("ours_ms", "peer_ms")]
        peer = (entry["peer"] or "") + (f" ({entry['differs']})" if entry["differs"] else "")
        sizes = [f"{value:.1f} MiB" if value is not None else "" for value in (mine, theirs)]
        rows.append((entry["name"], peer, shown if entry["peer"] else "", *times, *sizes))
        for what, limit, found in (
            ("time", entry["goals"]["time"], ratio and ratio["median"]),
            ("memory", entry["goals"]["memory"], share),
        ):
            if limit is not None:
                verdict = (
                    "not measured"
                    if found is None
                    else "met"
                    if found <= limit
                    else f"missed: {found / limit:.2f} times"
                )
                goals.append((entry["name"], what, f"<= {limit:g}", "" if found is None else f"{found:.3f}", verdict))
    peers = ", ".join(f"{name} {found or 'not installed'}" for name, found in box["peers"].items())
    head = (
        f"# Losses over whole batches: time and memory\n\n{box['cpu']}, {box['cores']} cores, {box['threads']} threads;"
        f" torch {box['torch']}, {peers}; {box['date']}."
        f" Embeddings [N, {results['width']}], float32, forward and backward."
    )
    columns = (
        "loss / N",
        "peer",
        "ratio of times",
        "time of ours",
        "time of the peer",
        "memory of ours",
        "of the peer",
    )
    return (
        "\n\n".join(
            [
                head,
                "## Goals\n\nOurs over the peer's.",
                table(("loss / N", "of", "limit", "measured", "verdict"), goals),
                "## All\n\nRatio: the median and the middle half. Memory: the peak of one step in a fresh process"
                " beyond the embeddings and their gradient.",
                table(columns, rows),
            ]
        )
        + "\n"
    )


def _megabytes(entry: dict[str, Any], side: str) -> float | None:
    extra = entry.get(f"{side}_memory", {}).get("extra")
    return None if extra is None else extra / 2**20


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints and writes; exit status 1 where a contest was not timed though its peer is installed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ranking", description="Losses over whole batches.")
    parser.add_argument("--only", metavar="PATTERN", help="contests whose name holds PATTERN")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="threads of torch (default: 2)")
    parser.add_argument(
        "--out", type=Path, default=RESULTS, metavar="DIR", help="where to write (default: %(default)s)"
    )
    parser.add_argument("--memory", nargs=2, metavar=("NAME", "SIDE"), help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.memory:
        torch.set_num_threads(chosen.threads)
        sys.stdout.write(json.dumps(step_of(*chosen.memory)) + "\n")
        return 0
    contests = [contest for contest in CONTESTS if not chosen.only or chosen.only in contest.name]
    if not contests:
        parser.error(f"no contest's name holds {chosen.only!r}")
    results = measure(contests, chosen.threads)
    name = f"ranking-{machine.slug(results['machine'])}" + ("-part" if chosen.only else "")
    chosen.out.mkdir(parents=True, exist_ok=True)
    (chosen.out / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (chosen.out / f"{name}.md").write_text(markdown(results), encoding="utf-8")
    sys.stdout.write(markdown(results))
    return int(any(entry["status"].startswith("not timed") for entry in results["contests"]))


if __name__ == "__main__":
    sys.exit(main())
