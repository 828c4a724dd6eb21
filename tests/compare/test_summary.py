"""The verdict: the answer first, and no more than the corrected intervals say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from small_table import table

from equipoise.compare.engine import Outcome
from equipoise.compare.preparation import prepare
from equipoise.compare.snippet import snippet
from equipoise.compare.study import Request, Study
from equipoise.compare.summary import Comparison, class_groups, summarize

PLAIN = [0.50, 0.52, 0.51, 0.49, 0.53]
NOISE = [0.012, -0.011, 0.008, -0.009, 0.0]
OTHER_NOISE = [-0.004, 0.013, -0.006, 0.01, -0.012]
BINS = {"rows": [0] * 9 + [4], "confidence": [0.0] * 9 + [3.9], "hits": [0] * 9 + [3]}


def results(*values: float | None, trained: bool = True) -> list[dict[str, Any]]:
    """Results of a candidate with these values of every metric that is an average over classes."""
    return [
        {
            "seconds": 1.5 if trained else None,
            "steps": 300 if trained else None,
            "curve": {"epoch": [1, 2], "train_loss": [value, 0.5], "validation": [None, 0.25]} if trained else None,
            "gradient_norms": {"share": [0.5, 0.5], "mass": [value or 0.0, 1 - (value or 0.0)]} if trained else None,
            "test": {
                "by_class": {"recall": [1, value, None]}
                | {name: [value] * 3 for name in ("balanced_accuracy", "macro_f1", "average_precision")},
                "overall": {"log_loss": value, "brier": 0.2, "calibration_error": 0.1},
                "bins": None if value is None else BINS,
            },
        }
        for value in values
    ]


def shifted(by: float, noise: Sequence[float] = NOISE, trained: bool = True) -> list[dict[str, Any]]:
    return results(*(value + by + each for value, each in zip(PLAIN, noise, strict=True)), trained=trained)


def verdict(study: Study, asked_seeds: int | None = None, **candidates: list[dict[str, Any]]) -> Comparison:
    """The comparison of plain cross-entropy with the candidates."""
    found = {"cross_entropy": results(*PLAIN)} | candidates
    chosen = dict.fromkeys(found, study.settings[0])
    return summarize(study, Outcome(found, chosen, len(found["cross_entropy"])), 1, asked_seeds)


def test_a_loss_that_helps_is_the_first_sentence_and_the_winner(study: Study) -> None:
    comparison = verdict(study, softmax_focal=shifted(0.1))
    assert comparison.verdict[0] == (
        "softmax_focal helps: balanced accuracy 0.610 against 0.510 for plain cross-entropy, a difference of +0.100 ±"
        " 0.021."
    )
    assert comparison.winner == "softmax_focal"
    assert comparison.rows[1].difference is not None
    assert comparison.rows[1].difference.verdict == "helps"


def test_where_nothing_is_shown_to_help_plain_cross_entropy_is_the_answer(study: Study) -> None:
    comparison = verdict(study, softmax_focal=shifted(0.005), prior_corrected=shifted(0.004, OTHER_NOISE, False))
    assert comparison.verdict[0] == (
        "Plain cross-entropy will do: no loss is shown to do better. Its balanced accuracy is 0.510, that of the best"
        " trained loss, softmax_focal, 0.515 (difference +0.005 ± 0.021)."
    )
    assert comparison.winner == "cross_entropy"
    assert not [sentence for sentence in comparison.verdict if sentence.startswith("Against")]


@pytest.mark.parametrize("trained", [0.05, 0.1, 0.105])
def test_prior_correction_that_is_as_good_is_the_first_sentence(study: Study, trained: float) -> None:
    comparison = verdict(study, softmax_focal=shifted(trained), prior_corrected=shifted(0.1, OTHER_NOISE, False))
    assert comparison.verdict[0].startswith("Plain cross-entropy with prior correction will do: no loss is shown to do")
    assert comparison.winner == "prior_corrected"
    assert comparison.verdict[1] == "Against plain cross-entropy alone, helps: softmax_focal, prior_corrected." or (
        comparison.verdict[1] == "Against plain cross-entropy alone, helps: prior_corrected, softmax_focal."
    )


def test_a_loss_must_beat_prior_correction_too(study: Study) -> None:
    comparison = verdict(study, softmax_focal=shifted(0.2), prior_corrected=shifted(0.1, OTHER_NOISE, False))
    assert comparison.verdict[0].startswith(
        "softmax_focal helps: balanced accuracy 0.710 against 0.610 for plain cross-entropy with prior correction"
    )
    assert comparison.winner == "softmax_focal"


def test_a_difference_that_is_clear_alone_but_not_among_many_says_so(study: Study) -> None:
    many = {f"loss{index}": shifted(0, OTHER_NOISE) for index in range(6)}
    crowd = replace(study, candidates=dict.fromkeys(many, study.candidates["softmax_focal"]) | study.candidates)
    comparison = verdict(crowd, softmax_focal=shifted(0.022), **many)
    assert comparison.verdict[0].endswith("(difference +0.022 ± 0.021, no evidence among so many candidates).")


def test_a_threshold_is_a_plain_answer(csv: Any) -> None:
    binary = prepare(Request(data=str(csv), target="flag", metric="macro_f1"))
    comparison = verdict(binary, threshold=shifted(0.1, OTHER_NOISE, False), sigmoid_focal=shifted(0.09))
    assert comparison.verdict[0].startswith("Plain cross-entropy with a tuned threshold will do")
    assert "macro F1" in comparison.verdict[0]
    assert [row.plain for row in comparison.rows] == [False, True, False]


def test_rows_come_with_the_yardstick_first_then_from_best_to_worst(study: Study) -> None:
    comparison = verdict(study, softmax_focal=shifted(-0.1), prior_corrected=shifted(0.1, trained=False))
    assert [row.name for row in comparison.rows] == ["cross_entropy", "prior_corrected", "softmax_focal"]
    assert [row.difference and row.difference.sign for row in comparison.rows] == [None, 1, -1]
    assert comparison.rows[2].metrics["balanced_accuracy"].mean == pytest.approx(0.41)
    assert [each.mean for each in comparison.rows[0].recall] == [1, pytest.approx(0.51), None]
    assert "hurts: softmax_focal" in comparison.verdict[1]


def test_of_a_loss_the_smaller_is_the_better(study: Study) -> None:
    by_loss = replace(study, metric="log_loss")
    comparison = verdict(by_loss, softmax_focal=shifted(-0.1), prior_corrected=shifted(0.1, trained=False))
    assert [row.name for row in comparison.rows] == ["cross_entropy", "softmax_focal", "prior_corrected"]
    assert comparison.verdict[0].startswith("softmax_focal helps: log loss 0.410 against 0.510")


def test_a_remedy_that_is_better_but_noisy_is_a_plain_answer_all_the_same(study: Study) -> None:
    """A loss has to beat it, too, though it is not shown to help."""
    wide = [0.1 * (-1) ** seed for seed in range(len(NOISE))]
    comparison = verdict(
        study, softmax_focal=shifted(0.05, OTHER_NOISE), prior_corrected=shifted(0.07, wide, trained=False)
    )
    rows = {row.name: row for row in comparison.rows}
    assert rows["softmax_focal"].difference.sign == 1
    assert rows["prior_corrected"].difference.sign == 0
    assert comparison.winner == "prior_corrected"
    assert comparison.verdict[0].startswith("Plain cross-entropy with prior correction will do: no loss is shown")


def test_a_loss_that_diverged_on_a_seed_is_not_said_to_help(study: Study) -> None:
    values = [value + 0.1 + each for value, each in zip(PLAIN, OTHER_NOISE, strict=True)]
    comparison = verdict(study, softmax_focal=results(None, *values[1:]))
    row = next(row for row in comparison.rows if row.name == "softmax_focal")
    assert row.difference.verdict == "no evidence"
    assert comparison.winner == "cross_entropy"


def test_what_is_shown_beside_the_headline(study: Study) -> None:
    row = verdict(study, softmax_focal=shifted(0.1)).rows[0]
    assert row.milliseconds_per_step == 5
    assert row.curve == {"epoch": [1, 2], "train_loss": [pytest.approx(0.51), 0.5], "validation": [None, 0.25]}
    assert row.gradient_norms is not None
    assert row.gradient_norms["mass"] == pytest.approx([0.51, 0.49])
    assert row.calibration.rows == [0] * 9 + [20]
    assert row.calibration.hits[-1] == 15
    assert row.groups["head"].mean == 1  # type: ignore[union-attr]
    assert row.groups["middle"].mean == pytest.approx(0.51)  # type: ignore[union-attr]
    assert row.groups["tail"].mean is None  # type: ignore[union-attr]


def test_ranking_metrics_do_not_see_decisions_and_this_is_said(csv: Any) -> None:
    binary = prepare(Request(data=str(csv), target="flag"))
    same = results(*PLAIN, trained=False)
    comparison = verdict(binary, prior_corrected=same, threshold=same)
    assert comparison.verdict[0].startswith("Plain cross-entropy alone was trained, and nothing that was done")
    assert comparison.verdict[1].startswith(
        "Prior correction and the threshold move decisions, which average precision"
    )


def test_one_seed_says_nothing(study: Study) -> None:
    comparison = verdict(study, cross_entropy=results(0.5), softmax_focal=results(0.9))
    assert comparison.verdict[0].startswith("One seed gives no interval")
    assert comparison.winner == "cross_entropy"


def test_a_diverged_training_and_a_short_time_are_named(study: Study) -> None:
    comparison = verdict(study, 9, softmax_focal=results(0.6, 0.62, None, 0.59, 0.63))
    assert "Without a balanced accuracy on some seeds (not defined, or training diverged): softmax_focal." in (
        comparison.verdict
    )
    assert "The time budget ended after 5 of 9 seeds." in comparison.verdict
    assert comparison.rows[1].metrics["balanced_accuracy"].seeds == 4


def test_classes_left_out_of_the_averages_are_named(study: Study) -> None:
    comparison = verdict(replace(study, counted=(0, 1)), softmax_focal=shifted(0.1))
    assert comparison.verdict[-1] == "Left out of averages over classes, with fewer than 20 test rows: 'rare'."


@pytest.mark.parametrize(
    ("counts", "groups"),
    [
        ((9, 5), ["head", "tail"]),
        ((5, 9), ["tail", "head"]),
        ((9, 5, 3), ["head", "middle", "tail"]),
        ((9, 8, 7, 6, 5, 4, 3), ["head"] * 3 + ["middle"] * 2 + ["tail"] * 2),
    ],
)
def test_head_middle_and_tail_are_thirds_by_rank(study: Study, counts: tuple[int, ...], groups: list[str]) -> None:
    classes = tuple(map(str, range(len(counts))))
    problem = replace(study.problem, counts=counts, classes=classes)
    assert class_groups(replace(study, problem=problem)) == groups


@pytest.mark.parametrize("target", ["label", "flag", "flag,other"])
def test_the_code_to_paste_runs_for_every_candidate(csv: Any, target: str) -> None:
    frame = table().assign(other=lambda rows: np.arange(len(rows)) % 2)
    frame["flag"] = frame["flag"].astype(int)
    frame.to_csv(csv, index=False)
    study = prepare(Request(data=str(csv), target=target))
    labels = study.targets(np.arange(len(study.problem.labels)))
    outputs = study.problem.num_outputs
    for name in study.candidates:
        found = {"cross_entropy": results(*PLAIN), name: results(*PLAIN)}
        comparison = summarize(study, Outcome(found, dict.fromkeys(found, study.settings[1]), 5), 1)
        model = torch.nn.Linear(3, outputs)
        namespace: dict[str, Any] = {"labels": labels, "model": model, "features": torch.randn(len(labels), 3)}
        code = snippet(replace(comparison, winner=name))
        exec(code, namespace)
        namespace["loss"].backward()
        make = study.candidates[study.candidates[name].trained_as].make
        assert make is not None
        scores = model(namespace["features"])
        torch.testing.assert_close(namespace["loss"], make(labels, outputs)(scores, labels), rtol=1e-5, atol=1e-6)
        assert f"lr={study.settings[1].learning_rate:g}" in code
