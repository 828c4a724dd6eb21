"""The comparison as one JSON document: what `--json` prints, `results.json` holds and the report is drawn from."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from . import models, profile, splits
from .calibration import Bins
from .gradients import EDGES
from .retrieval import measures, splitting
from .snippet import snippet
from .statistics import Difference, Estimate
from .study import Study, machine, versions
from .summary import Comparison, Row, caveat, class_groups

PARTS = ("training", "validation", "test")


def document(comparison: Comparison, command: str, report: str, saved: str | None = None) -> dict[str, Any]:
    """Everything there is to know about a comparison, in types that JSON has.

    Args:
        comparison: the answer.
        command: the command line that asked for it.
        report: the path of the report.
        saved: where the winner was saved, if it was.
    """
    study = comparison.study
    return {
        "verdict": list(comparison.verdict),
        "caveat": caveat(study),
        "metric": study.metric,
        "larger_is_better": study.larger_is_better,
        "winner": comparison.winner,
        "candidates": [_candidate(row, study) for row in comparison.rows],
        "data": {**about_data(study), "effective_numbers": _effective_numbers(study)},
        "problem": _problem(study),
        "protocol": protocol(study, comparison.seeds, comparison.workers),
        "code": snippet(comparison),
        "saved": None if saved is None else {"path": saved, "name": comparison.winner},
        **circumstances(command, report),
    }


def protocol(study: Study, seeds: int, workers: int) -> dict[str, Any]:
    """How the trainings were run."""
    validation_share, test_share = splits.shares(study.problem, study.order)
    return {
        **asdict(study.plan),
        "model_in_words": models.describe(study.plan.model),
        "seeds": list(range(seeds)),
        "trials": [each.as_json() for each in study.settings],
        "validation_share": validation_share,
        "test_share": test_share,
        "split": _split(study),
        "split_column": None if study.order is None else study.order.column,
        **_of_retrieval(study),
        "workers": workers,
    }


def circumstances(command: str, report: str) -> dict[str, Any]:
    """When, where and by what command."""
    return {
        "command": command,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "machine": machine(),
        "report": report,
    }


def _of_retrieval(study: Study) -> dict[str, Any]:
    """What there is to say of the protocol where whole classes are split."""
    if study.problem.kind != "retrieval":
        return {}
    return {
        "classes": dict(zip(PARTS, splitting.shares(len(study.problem.classes)), strict=True)),
        "embedding": study.problem.num_outputs,
        "most_per_class": measures.MOST_PER_CLASS,
        "most_queries": measures.MOST_QUERIES,
    }


def _split(study: Study) -> str:
    """How the rows are split: `stratified`, by `group`, by `time`, or by `class`."""
    if study.problem.kind == "retrieval":
        return "class"
    return "stratified" if study.order is None else study.order.by


def _candidate(row: Row, study: Study) -> dict[str, Any]:
    candidate = study.candidates[row.name]
    tuned = row.seconds is not None or candidate.trained_as != row.name  # there is a model, its own or another's
    return {
        "name": row.name,
        "summary": row.summary,
        "plain": row.plain,
        "values": list(row.values),
        "metrics": {name: estimate(each) for name, each in row.metrics.items()},
        "difference": None if row.difference is None else difference(row.difference),
        "recall": dict(zip(study.problem.classes, map(estimate, row.recall), strict=True)),
        "groups": {name: None if each is None else estimate(each) for name, each in row.groups.items()},
        "seconds": row.seconds,
        "milliseconds_per_step": row.milliseconds_per_step,
        "chosen": row.chosen.as_json() if tuned else None,
        "trials": len(candidate.tried(study.settings)) if tuned else 0,
        "curve": row.curve,
        "calibration": _calibration(row.calibration),
        "gradient_norms": None if row.gradient_norms is None else {"edges": EDGES, **row.gradient_norms},
    }


def estimate(found: Estimate) -> dict[str, Any]:
    """A mean with its interval."""
    return {"mean": found.mean, "low": found.low, "high": found.high, "seeds": found.seeds}


def difference(found: Difference) -> dict[str, Any]:
    """A difference to a reference, with its verdict."""
    names = ("p", "p_adjusted", "detectable", "verdict", "sign")
    return {**estimate(found), **{name: getattr(found, name) for name in names}}


def _calibration(bins: Bins) -> dict[str, Any] | None:
    """The mean confidence and the share that came true, per bin; None in an empty one, and where all are empty."""
    if not any(bins.rows):
        return None

    def means(sums: list[float]) -> list[float | None]:
        return [total / rows if rows else None for total, rows in zip(sums, bins.rows, strict=True)]

    return {
        "confidence": means(bins.confidence),
        "accuracy": means([float(hits) for hits in bins.hits]),
        "rows": bins.rows,
    }


def about_data(study: Study) -> dict[str, Any]:
    """The table, its columns, and what to know about it."""
    return {
        "name": study.source_name,
        "sha256": study.fingerprint,
        "rows": study.total_rows,
        "rows_used": len(study.problem.rows),
        "kinds": dict(Counter(column.kind for column in study.table.columns).most_common()),
        "missing": sum(column.missing for column in study.table.columns),
        "columns": [asdict(column) for column in study.table.columns],
        "notes": list(study.notes),
        "warnings": list(study.warnings),
    }


def _effective_numbers(study: Study) -> dict[str, float]:
    classes, counts = study.problem.classes, study.problem.counts
    if study.problem.kind == "retrieval":  # a class counts by its rows there
        return {}
    return dict(zip(classes, profile.effective_numbers(counts), strict=True))


def _problem(study: Study) -> dict[str, Any]:
    problem = study.problem
    classes = zip(problem.classes, problem.counts, study.test_rows, class_groups(study), strict=True)
    return {
        "kind": problem.kind,
        "target": list(problem.target),
        "target_reason": study.target_reason,
        "classes": [
            {
                "name": name,
                "rows": rows,
                "test_rows": test_rows,
                "group": group,
                "excluded": position not in study.counted,
            }
            for position, (name, rows, test_rows, group) in enumerate(classes)
        ],
        "imbalance": max(problem.counts) / min(problem.counts),
    }
