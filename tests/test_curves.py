"""`equipoise curves`: the points are those of closed forms, and the file is what its name says."""

from __future__ import annotations

import csv
import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.catalog import CARDS, find
from equipoise.cli import main
from equipoise.plots import Curve, CurveError, curves, gammas, write

OF_SCORES = [card for card in CARDS if card.kind in ("elementwise", "rows")]
each_card = pytest.mark.parametrize("card", OF_SCORES, ids=lambda card: card.name)


def points(curve: Curve) -> Any:
    """p, loss and gradient as arrays."""
    assert curve.probability is not None
    return curve.probability.numpy(), curve.loss.numpy(), curve.gradient.numpy()


def focal(p: Any, gamma: float) -> tuple[Any, Any]:
    """Focal loss of a right answer of probability p and its gradient by the logit (Lin et al., appendix B)."""
    q = 1 - p
    return -(q**gamma) * np.log(p), q**gamma * (gamma * p * np.log(p) - q)


def close(ours: Any, closed_form: Any) -> None:
    np.testing.assert_allclose(ours, closed_form, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["sigmoid_focal", "softmax_focal"])
@given(gamma=st.floats(0, 8))
def test_focal_loss_of_any_gamma(name: str, gamma: float) -> None:
    (curve,) = curves([find(name)], [gamma])
    p, loss, gradient = points(curve)
    close(loss, focal(p, gamma)[0])
    close(gradient, focal(p, gamma)[1])
    assert len(p) == 641
    assert p[0] < 0.001 < 0.999 < p[-1]


@pytest.mark.parametrize("name", ["sigmoid_cross_entropy", "softmax_cross_entropy"])
def test_cross_entropy_weighs_all_alike(name: str) -> None:
    (curve,) = curves([find(name)])
    p, loss, gradient = points(curve)
    close(loss, -np.log(p))
    close(gradient, p - 1)
    close(curve.weight, np.ones_like(p))


def test_a_loss_that_sides_has_a_curve_for_each_side() -> None:
    positives, negatives = curves([find("balanced_cross_entropy")])
    assert (positives.name, negatives.name) == (
        "balanced_cross_entropy (positives)",
        "balanced_cross_entropy (negatives)",
    )
    for curve, alpha in ((positives, 0.75), (negatives, 0.25)):
        p, loss, gradient = points(curve)
        close(loss, -alpha * np.log(p))
        close(gradient, alpha * (p - 1))


@pytest.mark.parametrize("name", ["class_balanced_softmax_focal", "class_balanced_sigmoid_focal"])
def test_a_class_balanced_loss_has_a_curve_for_the_first_and_the_last_class(name: str) -> None:
    counts = np.array(find(name).required["counts"])
    weights = 1 / (1 - 0.9999**counts)
    weights *= len(counts) / weights.sum()
    drawn = curves([find(name)], [2.0])
    assert [curve.name.partition(" (")[2] for curve in drawn] == ["class of 3,000 rows)", "class of 5 rows)"]
    for curve, weight in zip(drawn, (weights[0], weights[-1]), strict=True):
        p, loss, gradient = points(curve)
        np.testing.assert_allclose(loss, weight * focal(p, 2.0)[0], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(gradient, weight * focal(p, 2.0)[1], rtol=1e-9, atol=1e-12)


def harmonized(norm: Any) -> Any:
    """N / (R M) of each element, counted with NumPy (Li, Liu, Wang, with the authors' M)."""
    inside = np.minimum((norm * 10).astype(int), 9)
    counts = np.bincount(inside, minlength=10)
    return len(norm) / (counts[inside] * (counts > 0).sum())


def test_the_weight_of_gradient_harmonizing_is_that_of_its_batch() -> None:
    (curve,) = curves([find("ghm_c")])
    p, loss, gradient = points(curve)
    expected = harmonized(1 / (1 + np.exp(curve.score.numpy())))
    close(curve.weight, expected)
    close(loss, -expected * np.log(p))
    close(gradient, expected * (p - 1))
    assert len(set(expected.round(9))) > 5, "the batch fills the bins unevenly"


def test_the_weight_of_harmonized_regression_is_that_of_its_batch() -> None:
    (curve,) = curves([find("ghm_r")])
    residual = curve.score.numpy()
    norm = np.abs(residual) / np.hypot(residual, 0.02)
    assert curve.probability is None
    close(curve.norm, norm)
    close(curve.weight, harmonized(norm))
    close(curve.loss, harmonized(norm) * (np.hypot(residual, 0.02) - 0.02))


def test_the_gammas_are_those_of_the_paper_unless_others_are_given() -> None:
    assert [curve.name for curve in curves([find("softmax_focal"), find("softmax_cross_entropy")])] == [
        *(f"softmax_focal, gamma={gamma}" for gamma in ("0", "0.5", "1", "2", "5")),
        "softmax_cross_entropy",
    ]
    assert gammas("2, 0.5,2") == (2.0, 0.5)
    assert gammas(None) is None
    for wrong in ("x", "-1", "inf", "nan", "", ","):
        with pytest.raises(CurveError, match="gamma must be numbers"):
            gammas(wrong)


# ------------------------------------------------------------------------------------------------------------ files


@each_card
def test_every_loss_of_scores_is_drawn(tmp_path: Path, card: Any) -> None:
    out = tmp_path / "curves.svg"
    write(curves([card]), str(out))
    assert ElementTree.parse(out).getroot().tag.endswith("svg")
    assert card.name in out.read_text(encoding="utf-8")


def test_a_picture_is_the_same_each_time(tmp_path: Path) -> None:
    for suffix, start in ((".svg", b"<?xml"), (".png", b"\x89PNG")):
        files = [tmp_path / f"{number}{suffix}" for number in range(2)]
        for file in files:
            write(curves([find("softmax_focal")], [2.0]), str(file))
        assert files[0].read_bytes() == files[1].read_bytes()
        assert files[0].read_bytes().startswith(start)


def test_the_numbers_come_in_full(tmp_path: Path) -> None:
    out = tmp_path / "curves.CSV"
    drawn = curves([find("softmax_focal"), find("ghm_c")], [1.0, 2.0])
    write(drawn, str(out))
    rows = list(csv.DictReader(out.read_text(encoding="utf-8").splitlines()))
    assert len(rows) == sum(len(curve.score) for curve in drawn)
    for curve in drawn:
        mine = [row for row in rows if row["curve"] == curve.name]
        for name, values in (("loss", curve.loss), ("gradient", curve.gradient), ("weight", curve.weight)):
            assert [float(row[name]) for row in mine] == values.tolist()


def test_the_command_ends_with_the_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "focal.csv"
    assert main(["curves", "softmax_focal", "--gamma", "0,2", "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert out.read_text().count("softmax_focal, gamma=2") == 641


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("softmax_focl", "there is no loss 'softmax_focl'; did you mean 'softmax_focal'"),
        ("softmax_focal --gamma 1,x", "separated by commas, got 'x'"),
        ("ghm_c --gamma 2", "none of these losses takes gamma: ghm_c"),
        ("ghm_r softmax_focal", "do not go into one figure"),
        ("softmax_focal --out curves.pdf", "must end in .png, .svg or .csv, got 'curves.pdf'"),
        ("softmax_focal --out /nowhere/curves.csv", "/nowhere/curves.csv"),
        ("softmax_focal --out /nowhere/curves.png", "/nowhere/curves.png"),
        ("", "NAME"),
    ],
)
def test_every_trouble_is_one_line(arguments: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["curves", *arguments.split()]) == 2
    output, errors = capsys.readouterr()
    assert (output, errors.count("\n")) == ("", 1)
    assert message in errors


def test_a_defect_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("nonsense")

    monkeypatch.setattr("equipoise.plots.curves", fail)
    with pytest.raises(ValueError, match="nonsense"):
        main(["curves", "softmax_focal", "--out", "a.csv"])


def test_a_loss_of_pairs_has_no_curve() -> None:
    pairs = dataclasses.replace(find("softmax_focal"), kind="embeddings")  # type: ignore[arg-type]
    with pytest.raises(CurveError, match="softmax_focal is no function of one score"):
        curves([pairs])


def test_without_matplotlib_there_are_numbers_and_a_line_that_says_what_to_install(tmp_path: Path) -> None:
    code = """
import sys
sys.modules["matplotlib"] = None
from equipoise.cli import main
sys.exit(main(["curves", "softmax_focal", "--out", "a.csv"]) or main(["curves", "softmax_focal"]))
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    expected = 'matplotlib is not installed; pictures of curves need: pip install "equipoise[compare,plots]"'
    assert (run.returncode, run.stdout, run.stderr) == (2, "a.csv\n", f"equipoise: {expected}\n")
    assert [each.name for each in tmp_path.iterdir()] == ["a.csv"]
