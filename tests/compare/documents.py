"""Made-up documents of comparisons, of the same keys as real ones: a long tail, two classes, many classes, one seed."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

LOSSES = (
    "prior_corrected",
    "class_balanced_softmax_focal",
    "inverse_frequency",
    "class_balanced_sigmoid_focal",
    "softmax_focal",
    "ghm_c",
)
LONG = (
    "an adverse outcome of category {} recorded by the officer in charge, including all those not elsewhere specified"
)
EPOCHS, BINS = 12, 20


def long_tailed() -> dict[str, Any]:
    """Eight classes from 42,116 rows down to 9: what `equipoise compare` is made for."""
    names = ["Fatal injury (K)", "No apparent injury (O)", "Suspected minor injury (B)", "Suspected serious injury (A)"]
    names += ["Possible injury (C)", "Unknown/Not reported", "Injured, severity unknown", "Died prior to crash*"]
    return _document(names, [42_116, 27_409, 13_201, 12_780, 3_877, 1_300, 276, 9], "balanced_accuracy")


def binary() -> dict[str, Any]:
    """Two classes, a metric between 0 and 1, the decision threshold among the candidates, no loss that helps."""
    document = _document(
        ["no", "yes"], [9_421, 579], "average_precision", losses=("threshold", "sigmoid_focal", "ghm_c")
    )
    scales = (1.0, 1.0, 3.9e-3, 2.3e-5)  # of losses that divide by much
    for each, scale in zip(document["candidates"], scales, strict=True):
        if each["curve"]:
            each["curve"]["train_loss"] = [scale * value for value in each["curve"]["train_loss"]]
    for each in document["candidates"][1:]:
        each["difference"].update(mean=0.002, low=-0.011, high=0.015, verdict="no evidence")
    return document


def many_classes() -> dict[str, Any]:
    """Sixty classes whose names are sentences, one of them a single long word in another script."""
    names = [LONG.format(number) for number in range(59)] + ["Verkehrsunfall" * 8 + "交通事故" * 6]
    return _document(names, [int(20_000 * 0.87**rank) + 4 for rank in range(60)], "balanced_accuracy")


def one_seed() -> dict[str, Any]:
    """One seed and an older document: no intervals, and all that may be absent is absent or null."""
    document = copy.deepcopy(long_tailed())
    document["verdict"] = ["One seed gives no interval: these numbers show what one split gave."]
    document["protocol"]["seeds"] = [0]
    for key in ("trials", "split", "split_column", "device"):
        del document["protocol"][key]
    for key in ("larger_is_better", "winner"):
        del document[key]
    for number, each in enumerate(document["candidates"]):
        for key in ("plain", "groups", "milliseconds_per_step", "chosen", "trials"):
            del each[key]
        each.update(curve=None, calibration=None, gradient_norms=None)
        for estimate in (*each["metrics"].values(), *each["recall"].values(), each["difference"] or {}):
            estimate.update(low=None, high=None, seeds=1)
        if number:
            each["difference"] = {"mean": each["difference"]["mean"], "low": None, "high": None, "seeds": 1}
    document["candidates"][2]["metrics"]["balanced_accuracy"] = dict.fromkeys(("mean", "low", "high"), None) | {
        "seeds": 0
    }
    document["candidates"][2]["difference"] = dict.fromkeys(("mean", "low", "high"), None) | {"seeds": 0}
    for each in document["problem"]["classes"]:
        del each["test_rows"], each["group"], each["excluded"]
    for key in ("warnings", "effective_numbers"):
        del document["data"][key]
    for key in ("saved", "code"):
        del document[key]
    return document


def tasks() -> dict[str, Any]:
    """Three tasks, one of them without a class, nine ways to weigh them, and the single-task models to compare with."""
    document = long_tailed()
    names = {
        "cancelled": ("average_precision", 0.14),
        "arr_delay": ("rmse", 40.2),
        "carrier": ("balanced_accuracy", 0.6),
    }
    generator = np.random.default_rng(3)
    gains = {
        "uncertainty_weighting": 2.1,
        "equal_weights": 0.4,
        "constant_weighting": 0.3,
        "random_loss_weighting": -0.2,
    }
    gains |= {"dynamic_task_prioritization": -0.9, "dynamic_weight_average": -1.1, "grad_norm": -4.7}
    document.update(
        metric="delta_m",
        winner="uncertainty_weighting",
        candidates=[_way("single_task", 0.0, names, generator)]
        + [_way(name, gain, names, generator) for name, gain in gains.items()],
        problem={
            "kind": "tasks",
            "target": list(names),
            "target_reason": "as asked",
            "tasks": [_task(name, metric) for name, (metric, _) in names.items()],
        },
        verdict=[
            "Constant weights will do: no balancer is shown to do better. One network with equal_weights does +0.4 ±"
            " 0.3 % better than single-task models (Δm).",
            "Against single-task models, helps: uncertainty_weighting; hurts: grad_norm.",
        ],
    )
    return document


ALL = {
    "long-tailed": long_tailed,
    "binary": binary,
    "many-classes": many_classes,
    "one-seed": one_seed,
    "tasks": tasks,
}


def _task(name: str, metric: str) -> dict[str, Any]:
    kind = {"average_precision": "binary", "rmse": "regression"}.get(metric, "multiclass")
    classes = {"binary": 2, "multiclass": 16}.get(kind, 0)
    return {
        "name": name,
        "kind": kind,
        "loss": "squared_error" if kind == "regression" else "cross_entropy",
        "metric": metric,
        "metric_in_words": metric.replace("_", " ").replace("rmse", "RMSE"),
        "larger_is_better": metric != "rmse",
        "rows": 99_000,
        "missing": 1_000 if kind == "regression" else 0,
        "amounts": None if classes else {"median": -5.0, "least": -86.0, "most": 1_272.0},
        "classes": [
            {
                "name": f"class {number}",
                "rows": 9_000 - 500 * number,
                "test_rows": 90 - 5 * number,
                "excluded": number > 14,
            }
            for number in range(classes)
        ],
    }


def _way(name: str, gain: float, names: dict[str, tuple[str, float]], generator: np.random.Generator) -> dict[str, Any]:
    single = name == "single_task"
    half = 0.4 + generator.random()
    verdict = "no evidence" if abs(gain) < half else "helps" if gain > 0 else "hurts"
    difference = {**_estimate(gain, half), "p": 0.003, "p_adjusted": 0.02, "detectable": 1.4 * half, "verdict": verdict}
    by_task = {}
    for each, (metric, value) in names.items():
        further = {"rmse": ("mae", "r2")}.get(metric, ("macro_f1", "log_loss", "brier", "calibration_error"))
        classes = [found["name"] for found in _task(each, metric)["classes"]]
        by_task[each] = {
            "metrics": {metric: _estimate(value, 0.02 * value), **{other: _estimate(0.4, 0.01) for other in further}},
            "change": _estimate(0.0 if single else generator.normal(gain, 2), 2 * half),
            "recall": {found: _estimate(generator.random(), 0.02) for found in classes},
        }
    steps = np.arange(1, EPOCHS + 1)
    weights = {each: (1 + number * (1 - np.exp(-steps / 4))).tolist() for number, each in enumerate(names)}
    return {
        "name": name,
        "summary": f"what {name} is, in a line",
        "plain": name in ("equal_weights", "constant_weighting"),
        "values": [gain] * 5,
        "metrics": {"delta_m": _estimate(gain, half)},
        "tasks": by_task,
        "difference": None if single else difference,
        "against_constant": None if single or name in ("equal_weights", "constant_weighting") else difference,
        "seconds": 3.1,
        "milliseconds_per_step": 2.2,
        "chosen": {"learning_rate": 0.003, "weight_decay": 0.0001},
        "trials": 3,
        "curve": None if single else _curve(gain / 50, generator),
        "weights": None if single else weights,
    }


def _document(names: list[str], rows: list[int], metric: str, losses: tuple[str, ...] = LOSSES) -> dict[str, Any]:
    generator = np.random.default_rng(len(names))
    lifts = dict(zip(losses, [0.101, 0.074, 0.070, 0.067, 0.004, -0.045], strict=False))
    classes = [
        _class(name, count, rank / len(names)) for rank, (name, count) in enumerate(zip(names, rows, strict=True))
    ]
    yardstick = _candidate("cross_entropy", 0.0, classes, metric, generator)
    candidates = [yardstick, *(_candidate(name, lift, classes, metric, generator) for name, lift in lifts.items())]
    return {
        "verdict": [
            "Plain cross-entropy with prior correction will do: no loss is shown to do better. It reaches a balanced"
            " accuracy of 0.646, the best trained loss, class_balanced_softmax_focal, 0.619 (difference -0.027 ±"
            " 0.068).",
            "Against plain cross-entropy alone, helps: prior_corrected, class_balanced_softmax_focal,"
            " inverse_frequency; hurts: ghm_c; no evidence: softmax_focal.",
            "Left out of averages over classes, with fewer than 20 test rows: 'Died prior to crash*'.",
        ],
        "metric": metric,
        "larger_is_better": True,
        "winner": losses[0],
        "candidates": candidates,
        "data": _data(names, rows),
        "problem": {
            "kind": "binary" if len(names) == 2 else "multiclass",
            "target": ["severity_of_the_injury"],
            "target_reason": "the last column",
            "classes": classes,
            "imbalance": rows[0] / rows[-1],
        },
        "protocol": {
            "model": "mlp",
            "model_in_words": "one hidden layer of 64",
            "epochs": EPOCHS,
            "batch_size": 512,
            "device": "cpu",
            "trials": [{"learning_rate": rate, "weight_decay": 0.0001} for rate in (0.003, 0.03, 0.0009)],
            "split": "stratified",
            "split_column": None,
            "seeds": [0, 1, 2, 3, 4],
            "validation_share": 0.2,
            "test_share": 0.2,
            "workers": 2,
        },
        "command": "equipoise compare fars --seeds 5",
        "finished": "2026-11-24T09:30:00+00:00",
        "versions": {"equipoise": "0.1.0", "python": "3.11.2", "torch": "2.13.0"},
        "machine": {"processor": "AMD EPYC", "cores": 2, "system": "Linux"},
        "report": "report/index.html",
        "saved": {"path": "winner", "name": "class_balanced_softmax_focal"},
        "code": "import equipoise\n\ncriterion = equipoise.ClassBalancedSoftmaxFocalLoss.from_labels("
        "labels, num_classes=8, beta=0.999, gamma=1.0)\nloss = criterion(scores, labels)\n",
    }


def _class(name: str, rows: int, rank: float) -> dict[str, Any]:
    group = ("head", "middle", "tail")[int(3 * rank)]
    return {"name": name, "rows": rows, "test_rows": rows // 5, "group": group, "excluded": rows // 5 < 20}


def _data(names: list[str], rows: list[int]) -> dict[str, Any]:
    column = {"name": "age_of_the_person_in_years", "kind": "number", "missing": 1_712, "distinct": 104, "note": ""}
    return {
        "name": "fars",
        "sha256": "9f2b" * 16,
        "rows": sum(rows) + 211,
        "rows_used": sum(rows),
        "kinds": {"number": 1, "category": 1},
        "missing": 1_712,
        "columns": [
            column,
            {**column, "name": "rest_use", "kind": "category", "missing": 0, "note": "9 rare values joined"},
        ],
        "notes": ["211 rows without a target are left out"],
        "warnings": [
            "3,214 rows are copies of another row: if they belong to one accident, give its column by --group.",
            "The class Died prior to crash* has 9 rows: its recall says little.",
        ],
        "effective_numbers": {name: 1e4 * (1 - 0.9999**count) for name, count in zip(names, rows, strict=True)},
    }


def _mean_recall(recall: Any) -> dict[str, Any] | None:
    return _estimate(float(recall.mean()), 0.01) if len(recall) else None


def _estimate(mean: float, half: float) -> dict[str, Any]:
    return {"mean": mean, "low": mean - half, "high": mean + half, "seeds": 5}


def _candidate(
    name: str, lift: float, classes: list[dict[str, Any]], metric: str, generator: np.random.Generator
) -> dict[str, Any]:
    trained = name not in ("prior_corrected", "threshold")
    half = 0.073 if name == "prior_corrected" else 0.009 + 0.004 * generator.random()
    recall = np.clip(np.linspace(0.92, 0.12 + 4 * lift, len(classes)) + generator.normal(0, 0.03, len(classes)), 0, 1)
    names = dict.fromkeys([metric, "balanced_accuracy", "macro_f1", "average_precision", "log_loss", "brier"])
    metrics = {each: _estimate(generator.uniform(0.3, 0.6), 0.01) for each in names}
    metrics |= {metric: _estimate(0.545 + lift, half), "calibration_error": _estimate(abs(lift) + 0.02, 0.004)}
    difference = {**_estimate(lift, half), "p": 0.003, "p_adjusted": 0.015, "detectable": 1.4 * half}
    verdict = "no evidence" if abs(lift) < half else "helps" if lift > 0 else "hurts"
    return {
        "name": name,
        "summary": f"what {name} is, in a line",
        "plain": not trained,
        "values": [0.545 + lift] * 5,
        "metrics": metrics,
        "difference": None if name == "cross_entropy" else {**difference, "verdict": verdict},
        "recall": {each["name"]: _estimate(float(value), 0.02) for each, value in zip(classes, recall, strict=True)},
        "groups": dict(zip(("head", "middle", "tail"), map(_mean_recall, np.array_split(recall, 3)), strict=True)),
        "seconds": 2.0 if trained else None,
        "milliseconds_per_step": 1.31 if trained else None,
        "chosen": {"learning_rate": 0.01, "weight_decay": 0.0001},
        "trials": 3,
        "curve": _curve(lift, generator) if trained else None,
        "calibration": _calibration(lift),
        "gradient_norms": _gradient_norms(lift) if trained else None,
    }


def _curve(lift: float, generator: np.random.Generator) -> dict[str, Any]:
    steps = np.arange(1, EPOCHS + 1)
    validation = 0.545 + lift - 0.3 * np.exp(-steps / 2) + generator.normal(0, 0.004, EPOCHS)
    loss = 0.4 + 1.2 * np.exp(-steps / 3)
    return {"epoch": steps.tolist(), "train_loss": loss.tolist(), "validation": validation.tolist()}


def _calibration(lift: float) -> dict[str, Any]:
    confidence: list[float | None] = [0.05 + 0.1 * place for place in range(10)]
    accuracy: list[float | None] = [max(0.0, each - 2 * lift * each) for each in confidence if each is not None]
    rows = [0, 12, 400, 2_100, 3_900, 4_100, 5_000, 6_300, 9_400, 21_000]
    return {"confidence": [None, *confidence[1:]], "accuracy": [None, *accuracy[1:]], "rows": rows}


def _gradient_norms(lift: float) -> dict[str, Any]:
    middle = (np.arange(BINS) + 0.5) / BINS
    share = np.exp(-9 * middle) + 0.01 * np.exp(6 * (middle - 1))
    mass = share * middle ** (1 + 8 * max(0.0, lift))
    return {
        "edges": np.linspace(0, 1, BINS + 1).tolist(),
        "share": (share / share.sum()).tolist(),
        "mass": (mass / mass.sum()).tolist(),
    }
