"""What a comparison says in words, the answer first, and no more than its numbers do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from . import metrics, remedies, statistics
from .retrieval.candidates import RAW
from .study import Study

if TYPE_CHECKING:
    from .summary import Row

PLAIN = {
    remedies.YARDSTICK: "plain cross-entropy",
    remedies.PRIOR_CORRECTED: "plain cross-entropy with prior correction",
    remedies.THRESHOLD: "plain cross-entropy with a tuned threshold",
    RAW: "search by the features as they are",
}


def metric_in_words(study: Study) -> str:
    """`balanced accuracy`, `macro average precision`, `MAP@R`."""
    if study.metric in metrics.SPELLED:
        return metrics.SPELLED[study.metric]
    several = study.metric == "average_precision" and study.problem.kind != "binary"
    words = study.metric.replace("_", " ").replace("macro f1", "macro F1").replace("brier", "Brier score")
    return f"macro {words}" if several else words


def goodness(row: Row, study: Study) -> float:
    """The mean of the headline metric, larger for better; a row without one comes last."""
    mean = row.metrics[study.metric].mean
    return -math.inf if mean is None else mean if study.larger_is_better else -mean


def judge(rows: Sequence[Row], study: Study, seeds: int, asked_seeds: int) -> tuple[list[str], str]:
    """The sentences, and the name of the candidate to use.

    Args:
        rows: the yardstick first, then from best to worst.
        study: what was compared.
        seeds: how many seeds count.
        asked_seeds: how many were asked for.
    """
    yardstick, *others = rows
    short = [f"The time budget ended after {seeds} of {asked_seeds} seeds."] if seeds < asked_seeds else []
    trained = [row for row in others if not row.plain]
    if seeds < 2:
        one = "One seed gives no interval: these numbers show what one split gave, not which loss is better."
        return [one, *short, *_left_out(study)], yardstick.name
    strongest = _strongest(rows, study)
    better = _better(trained, _bars(rows, study), study)
    first = _helps(better, strongest, study) if better else _as_good(trained, yardstick, strongest, study)
    sentences = [first, *_against_plain(others), *_about_decisions(others, study), *_power(others)]
    failed = [row.name for row in rows if None in row.values]
    if failed:
        what = f"Without a {metric_in_words(study)} on some seeds (not defined, or training diverged)"
        sentences.append(f"{what}: {', '.join(failed)}.")
    return [*sentences, *short, *_left_out(study)], (better[0] if better else strongest).name


def _helping(rows: Sequence[Row]) -> list[Row]:
    """Those that beat plain cross-entropy."""
    return [row for row in rows if row.difference is not None and row.difference.sign > 0]


def _model_free(row: Row, study: Study) -> bool:
    """Whether it needs no model at all, not even plain cross-entropy's."""
    return row.plain and study.candidates[row.name].trained_as == row.name


def _bars(rows: Sequence[Row], study: Study) -> list[Row]:
    """The plain answers that a loss has to beat beside plain cross-entropy.

    They are the best by its mean, whether or not it is shown to help, the best that is, and what needs no model.
    """
    yardstick, *others = rows
    plain = [row for row in others if row.plain]
    above = [row for row in plain if None not in row.values and goodness(row, study) > goodness(yardstick, study)]
    bars = [*above[:1], *_helping(plain)[:1], *(row for row in plain if _model_free(row, study))]
    return [row for place, row in enumerate(bars) if row not in bars[:place]]


def _strongest(rows: Sequence[Row], study: Study) -> Row:
    """The plain answer to use unless a loss does better.

    It is plain cross-entropy, the best of its remedies that help, the best by its mean where losses help and none is
    shown to beat that one, or what needs no model and is not shown to be worse than what was trained.
    """
    yardstick, *others = rows
    helping = _helping([row for row in others if row.plain])
    if helping:
        return helping[0]
    trained = [yardstick, *(row for row in others if not row.plain)]
    for row in others:
        if _model_free(row, study) and all(gap.sign <= 0 for gap in _against(trained, row, study).values()):
            return row
    losses = [row for row in others if not row.plain]
    best = next((row for row in others if row.plain and None not in row.values), yardstick)
    if _helping(losses) and goodness(best, study) > goodness(yardstick, study) and not _better(losses, [best], study):
        return best
    return yardstick


def _better(trained: Sequence[Row], bars: Sequence[Row], study: Study) -> list[Row]:
    """The losses that beat plain cross-entropy, and each of the other bars, too."""
    helping = _helping(trained)
    for bar in bars if helping else ():
        against = _against(trained, bar, study)
        helping = [row for row in helping if against[row.name].sign > 0]
    return helping


def _against(trained: Sequence[Row], strongest: Row, study: Study) -> dict[str, statistics.Difference]:
    values = {row.name: row.values for row in trained}
    return statistics.differences(values, strongest.values, study.overlap, study.larger_is_better)


def _helps(better: Sequence[Row], strongest: Row, study: Study) -> str:
    """At least one loss is worth its while."""
    best, *more = better
    gap = _against([best], strongest, study)[best.name]
    so_do = f"; so {'does' if len(more) == 1 else 'do'} {', '.join(row.name for row in more)}" if more else ""
    return (
        f"{best.name} helps: {metric_in_words(study)} {_number(best, study)} against {_number(strongest, study)} for"
        f" {PLAIN[strongest.name]}, a difference of {signed(gap)}{so_do}."
    )


def _as_good(trained: Sequence[Row], yardstick: Row, strongest: Row, study: Study) -> str:
    """No loss is shown to do better than plain cross-entropy, with or without a remedy that costs no training."""
    name, metric = PLAIN[strongest.name].capitalize(), metric_in_words(study)
    if _model_free(strongest, study):  # plain cross-entropy is then one of the losses to be trained or not
        trained = sorted([yardstick, *trained], key=lambda row: -goodness(row, study))
    if not trained:
        if not strongest.plain:
            return f"{name} alone was trained, and nothing that was done to its scores is shown to help in {metric}."
        return f"{name} helps: {metric} {signed(strongest.difference)} over leaving its scores as they are."
    best = trained[0]
    gap = _against([best], strongest, study)[best.name]
    # Clear of 0 by itself, but not once all losses are allowed for: say why it does not count.
    among = ", no evidence among so many candidates" if gap.sign > 0 else ""
    return (
        f"{name} will do: no loss is shown to do better. Its {metric} is {_number(strongest, study)}, that of the best"
        f" trained loss, {best.name}, {_number(best, study)} (difference {signed(gap)}{among})."
    )


def _against_plain(others: Sequence[Row]) -> list[str]:
    """What each candidate does to plain cross-entropy alone."""
    found = {
        verdict: [row.name for row in others if row.difference is not None and row.difference.verdict == verdict]
        for verdict in ("helps", "hurts", "no evidence")
    }
    if not found["helps"] and not found["hurts"]:
        return []
    parts = [f"{verdict}: {', '.join(names)}" for verdict, names in found.items() if names]
    return [f"Against plain cross-entropy alone, {'; '.join(parts)}."]


def _about_decisions(others: Sequence[Row], study: Study) -> list[str]:
    if (
        study.metric != "average_precision"
        or study.problem.kind == "multiclass"
        or not any(row.plain for row in others)
    ):
        return []
    what = "Prior correction and the threshold move" if study.problem.kind == "binary" else "Prior correction moves"
    return [f"{what} decisions, which {metric_in_words(study)} does not see; macro F1 and balanced accuracy do."]


def _power(others: Sequence[Row]) -> list[str]:
    """How small a difference could have been found."""
    found = [row.difference.detectable for row in others if row.difference and row.difference.detectable is not None]
    if not found:
        return []
    least, most = min(found), max(found)
    size = f"{least:.3f}" if f"{least:.3f}" == f"{most:.3f}" else f"{least:.3f} to {most:.3f}, depending on the loss"
    return [f"The smallest difference that this run would have found in 8 of 10 cases is {size}; more seeds find less."]


def _left_out(study: Study) -> list[str]:
    """The classes that the averages leave out, by name."""
    names = [name for position, name in enumerate(study.problem.classes) if position not in study.counted]
    if not names:
        return []
    shown = ", ".join(map(repr, names[:10])) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
    whole = f" Their rows are in the {metric_in_words(study)}." if study.metric in metrics.SMALLER_IS_BETTER else ""
    return [f"Left out of averages over classes, with fewer than 20 test rows: {shown}.{whole}"]


def _number(row: Row, study: Study) -> str:
    mean = row.metrics[study.metric].mean
    return "-" if mean is None else f"{mean:.3f}"


def signed(gap: statistics.Estimate | None, places: int = 3) -> str:
    """`+0.012 ± 0.034`."""
    if gap is None or gap.mean is None:
        return "not defined"
    mean = f"{0.0 if abs(gap.mean) < 0.5 * 10**-places else gap.mean:+.{places}f}"
    return mean if gap.half_width is None else f"{mean} ± {gap.half_width:.{places}f}"
