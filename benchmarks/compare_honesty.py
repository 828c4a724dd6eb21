"""Does `equipoise compare` tell the truth? The real tool, many times over, on tables whose answer is known.

`python -m benchmarks.compare_honesty [--runs N] [--workers N]` writes `benchmarks/results/compare_honesty.json`, with
`--retrieval` the third part `compare_honesty_retrieval.json` beside it.

* **Nothing to find.** The labels are drawn without a look at the features, so that every loss reaches a balanced
  accuracy of 1/2 on average: a loss that is said to help is a mistake, which should happen in at most 5 % of runs.
* **A planted effect.** Two normal classes of unequal frequency. Plain cross-entropy learns the likelier class,
  weighting by inverse frequency the balanced rule; both have a balanced accuracy that can be computed, and so has the
  difference (the mean over runs is beside it: a model learns from 1,200 rows, not from all there could be). It should
  be found in 80 % of runs where it is as large as what the tool calls detectable. Prior correction is the balanced
  rule, too: no loss is better, and the first sentence should say so.
* **Nothing to retrieve.** Classes that the features know nothing of: every embedding finds a row's like by chance, and
  no loss should be said to help, nor the features as they are.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr

from equipoise.cli import main
from equipoise.compare.study import machine, versions

RESULT = Path(__file__).with_name("results") / "compare_honesty.json"
ROWS, FEATURES, SEEDS = 2000, 4, 5
OPTIONS = ["--metric=balanced_accuracy", "--model=linear", "--trials=1", "--workers=1", "--json"]
RETRIEVAL_RESULT = RESULT.with_name("compare_honesty_retrieval.json")
RETRIEVED, CLASSES = 480, 24
RETRIEVAL_OPTIONS = ["--problem=retrieval", "--model=linear", "--trials=1", "--workers=1", "--json"]
NULL = "sigmoid_focal,balanced_cross_entropy,ghm_c,inverse_frequency"
PLANTED = "inverse_frequency"
DISTANCE = 1.5
RARE_SHARES = (0.4, 0.3, 0.2, 0.15, 0.1)


def table(run: int, rare: float, distance: float) -> str:
    """A CSV: normal features, the rare class's first one further by `distance`."""
    generator = np.random.default_rng([run, round(1000 * rare), round(1000 * distance)])
    labels = (generator.random(ROWS) < rare).astype(int)
    numbers = generator.normal(size=(ROWS, FEATURES))
    numbers[:, 0] += distance * labels
    return as_csv(numbers, labels)


def noise(run: int) -> str:
    """A CSV: normal features, and classes drawn without a look at them."""
    generator = np.random.default_rng(run)
    numbers = generator.normal(size=(RETRIEVED, 2 * FEATURES))
    return as_csv(numbers, [f"class {label}" for label in generator.integers(CLASSES, size=RETRIEVED)])


def as_csv(numbers: NDArray[np.float64], labels: Iterable[Any]) -> str:
    """Features x0, x1, ... and the label y."""
    names = ",".join([*(f"x{index}" for index in range(numbers.shape[1])), "y"])
    rows = (",".join([*(f"{each:.6f}" for each in row), str(y)]) for row, y in zip(numbers, labels, strict=True))
    return "\n".join([names, *rows]) + "\n"


def difference_at_convergence(rare: float) -> float:
    """The balanced accuracy of the balanced rule, less that of the rule for the likelier class."""

    def balanced_accuracy(cut: float) -> float:
        return float(ndtr(cut) + ndtr(DISTANCE - cut)) / 2

    likelier = brentq(lambda cut: DISTANCE * cut - DISTANCE**2 / 2 - np.log((1 - rare) / rare), -20, 20)
    return balanced_accuracy(DISTANCE / 2) - balanced_accuracy(float(likelier))


def compare(text: str, options: Sequence[str]) -> dict[str, Any]:
    """The document of one run of the tool."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        path.write_text(text)
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            status = main(["compare", str(path), *options, "--out", folder + "/out"])
        if status:
            raise RuntimeError(f"a run ended with status {status}")
        document: dict[str, Any] = json.loads(output.getvalue())
        return document


def many(texts: Iterable[str], workers: int, options: Sequence[str]) -> list[dict[str, Any]]:
    """Documents of many runs."""
    return list(joblib.Parallel(n_jobs=workers)(joblib.delayed(compare)(text, options) for text in texts))


def differences(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The difference of each candidate to plain cross-entropy."""
    return {each["name"]: each["difference"] for each in document["candidates"] if each["difference"]}


def nothing_to_find(runs: int, workers: int, seeds: int) -> dict[str, Any]:
    """How often the tool finds what is not there."""
    texts = (table(run, 0.5, 0.0) for run in range(runs))
    found = [differences(each) for each in many(texts, workers, [f"--losses={NULL}", f"--seeds={seeds}", *OPTIONS])]
    return found_by_mistake(found, seeds)


def nothing_to_retrieve(runs: int, workers: int, seeds: int) -> dict[str, Any]:
    """The same of embeddings."""
    documents = many(map(noise, range(runs)), workers, [f"--seeds={seeds}", *RETRIEVAL_OPTIONS])
    return found_by_mistake([differences(each) for each in documents], seeds)


def found_by_mistake(found: Sequence[dict[str, dict[str, Any]]], seeds: int) -> dict[str, Any]:
    """How often some candidate was said to differ, where none does."""
    covered = [gap["low"] <= 0 <= gap["high"] for each in found for gap in each.values() if gap["low"] is not None]
    return {
        "losses": sorted(found[0]),
        "seeds": seeds,
        "runs": len(found),
        "some_loss_helps": _share([any(gap["verdict"] == "helps" for gap in each.values()) for each in found]),
        "some_loss_hurts": _share([any(gap["verdict"] == "hurts" for gap in each.values()) for each in found]),
        "intervals_that_hold_0": _share(covered),
    }


def planted(runs: int, workers: int, rare: float, seeds: int) -> dict[str, Any]:
    """How often the tool finds what is there, and says what is the simplest answer."""
    texts = (table(run, rare, DISTANCE) for run in range(runs))
    documents = many(texts, workers, [f"--losses={PLANTED}", f"--seeds={seeds}", *OPTIONS])
    gaps = [differences(each)[PLANTED] for each in documents]
    return {
        "loss": PLANTED,
        "rare_share": rare,
        "seeds": seeds,
        "runs": runs,
        "difference_at_convergence": difference_at_convergence(rare),
        "mean_difference": float(np.mean([gap["mean"] for gap in gaps])),
        "median_detectable": float(np.median([gap["detectable"] for gap in gaps if gap["detectable"] is not None])),
        "said_to_help": _share([gap["verdict"] == "helps" for gap in gaps]),
        "plain_answer_first": _share([each["verdict"][0].startswith("Plain cross-entropy") for each in documents]),
    }


def _share(hits: Sequence[bool]) -> dict[str, float]:
    """A share with its standard error."""
    share = float(np.mean(hits))
    return {"share": share, "standard_error": float(np.sqrt(share * (1 - share) / len(hits)))}


def run(arguments: Sequence[str]) -> None:
    """Measure, and write the result."""
    parser = argparse.ArgumentParser(description="How honest `equipoise compare` is, on data with a known answer.")
    parser.add_argument(
        "--runs", type=int, default=120, help="with nothing to find; half as many for each planted effect"
    )
    parser.add_argument("--workers", type=int, default=joblib.cpu_count())
    parser.add_argument("--retrieval", action="store_true", help="embeddings, and not the other parts")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    result: dict[str, Any] = {}
    if options.retrieval:
        result["nothing_to_retrieve"] = nothing_to_retrieve(options.runs, options.workers, SEEDS)
    else:
        result["nothing_to_find"] = nothing_to_find(options.runs, options.workers, SEEDS)
        result["planted"] = [planted(options.runs // 2, options.workers, rare, SEEDS) for rare in RARE_SHARES]
    result |= {"versions": versions(), "machine": machine()}
    out = options.out or (RETRIEVAL_RESULT if options.retrieval else RESULT)
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    run(sys.argv[1:])
