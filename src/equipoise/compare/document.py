"""The comparison as one JSON document: what `--json` prints, `results.json` holds and the report is drawn from."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from . import models, splits
from .statistics import Estimate
from .study import Study, machine, versions
from .summary import CAVEAT, Comparison, Row


def document(comparison: Comparison, command: str, report: str) -> dict[str, Any]:
    """Everything there is to know about a comparison, in types that JSON has.

    Args:
        comparison: the answer.
        command: the command line that asked for it.
        report: the path of the report.
    """
    study = comparison.study
    return {
        "verdict": list(comparison.verdict),
        "caveat": CAVEAT,
        "metric": comparison.metric,
        "candidates": [_candidate(row, study) for row in comparison.rows],
        "data": _data(study),
        "problem": _problem(study),
        "protocol": {
            **asdict(study.plan),
            "model_in_words": models.describe(study.plan.model),
            "seeds": list(range(comparison.seeds)),
            "validation_share": splits.VALIDATION,
            "test_share": splits.TEST,
            "workers": comparison.workers,
        },
        "command": command,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "machine": machine(),
        "report": report,
    }


def _candidate(row: Row, study: Study) -> dict[str, Any]:
    return {
        "name": row.name,
        "summary": row.summary,
        "values": list(row.values),
        "metrics": {name: _estimate(each) for name, each in row.metrics.items()},
        "difference": None if row.difference is None else {**_estimate(row.difference), "sign": row.difference.sign},
        "recall": dict(zip(study.problem.classes, map(_estimate, row.recall), strict=True)),
        "seconds": row.seconds,
    }


def _estimate(estimate: Estimate) -> dict[str, Any]:
    return {"mean": estimate.mean, "low": estimate.low, "high": estimate.high, "seeds": estimate.seeds}


def _data(study: Study) -> dict[str, Any]:
    return {
        "name": study.source_name,
        "sha256": study.fingerprint,
        "rows": study.total_rows,
        "rows_used": len(study.problem.rows),
        "kinds": dict(Counter(column.kind for column in study.table.columns).most_common()),
        "missing": sum(column.missing for column in study.table.columns),
        "columns": [asdict(column) for column in study.table.columns],
        "notes": list(study.notes),
    }


def _problem(study: Study) -> dict[str, Any]:
    problem = study.problem
    return {
        "kind": problem.kind,
        "target": list(problem.target),
        "target_reason": study.target_reason,
        "classes": [{"name": name, "rows": rows} for name, rows in zip(problem.classes, problem.counts, strict=True)],
        "imbalance": max(problem.counts) / min(problem.counts),
    }
