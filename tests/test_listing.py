"""What `equipoise losses` says is what the cards, the docstrings and the README say."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from equipoise.catalog import CARDS, find
from equipoise.cli import main
from equipoise.compare.candidates import candidates
from equipoise.compare.problem import KINDS
from equipoise.compare.remedies import REMEDIES
from equipoise.formulas import readable, readable_text
from equipoise.listing import entry, options

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
each_card = pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the command prints at a width, its lines joined."""

    def run(*arguments: str, columns: int = 80) -> str:
        monkeypatch.setenv("COLUMNS", str(columns))
        assert main(["losses", *arguments]) == 0
        return capsys.readouterr().out

    return run


def joined(text: str) -> str:
    return " ".join(text.split())


@each_card
def test_one_loss_in_full(said: Any, card: Any) -> None:
    output = joined(said(card.name))
    for words in (
        card.summary,
        card.paper,
        card.use_when,
        card.avoid_when,
        readable(card.formula.split(r", \quad")[0]),
    ):
        assert joined(words) in output
    for words in (*card.differs, *(identity.statement for identity in card.identities)):
        assert f"- {words}" in output
    for name, parameter in inspect.signature(card.module).parameters.items():
        default = "required" if parameter.default is inspect.Parameter.empty else repr(parameter.default)
        assert f"{name} {default} " in output


@each_card
def test_every_card_says_when_to_use_it_and_when_not(card: Any) -> None:
    assert card.use_when
    assert card.avoid_when
    assert not card.use_when.endswith(".")


@each_card
@pytest.mark.parametrize("columns", [80, 120])
def test_no_line_is_wider_than_the_terminal_or_ends_in_blanks(said: Any, card: Any, columns: int) -> None:
    for line in said(card.name, columns=columns).splitlines():
        assert len(line) <= columns
        assert line == line.rstrip()


@each_card
def test_options_are_explained(card: Any) -> None:
    assert all(meaning and "Default" not in meaning for _, _, meaning in options(card))


@each_card
def test_a_loss_is_found_by_any_of_its_names(card: Any) -> None:
    for name in entry(card).calls:
        assert find(name) is find(name.upper()) is card


def test_an_unknown_loss_is_one_line_with_names_like_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["losses", "sigmoid_focl"]) == 2
    output, errors = capsys.readouterr()
    assert (output, errors.count("\n")) == ("", 1)
    assert "there is no loss 'sigmoid_focl'; did you mean 'sigmoid_focal'" in errors


def test_the_list_and_the_readme_say_the_same(said: Any) -> None:
    output = joined(said(columns=120))
    for card in CARDS:
        each = entry(card)
        assert joined(f"{each.name} ({each.problems}) {each.summary} {', '.join(each.calls)} {each.paper}") in output
        assert f"| {each.problems} | {each.summary} | {each.paper} |" in README
        assert f"| `{each.name}`: " in README


# --------------------------------------------------------------------------------------------------------- formulas


@each_card
def test_formulas_are_plain_letters(card: Any) -> None:
    for text in (readable(card.formula), readable_text((card.function or card.module).__doc__)):
        assert not re.search(r"[\\$\0]|[\^_]{|{}", text)  # braces of a set may stay


@pytest.mark.parametrize(
    ("latex", "plain"),
    [
        (r"\frac{1 - \beta}{1 - \beta^{n_c}}", "(1 - β) / (1 - β^n_c)"),
        (r"\frac{N}{R_{b} M} \left(\sqrt{d^2 + \mu^2} - \mu\right)", "N / (R_b M) · (√(d^2 + μ^2) - μ)"),
        (r"\frac12 e^{-s} L + \frac{1}{2} s", "1 / 2 · e^-s L + 1 / 2 · s"),
        (r"\max(0,\, m - d)^2", "max(0, m - d)^2"),
        (r"e^{-(a + b)}", "e^(-(a + b))"),
        (r"\bar\kappa \le 1", "κ̄ ≤ 1"),
        (r"\mathrm{softmax}(z)", "softmax(z)"),
        (r"w_t \lVert\nabla_W L_t\rVert \to \bar G", "w_t ‖∇_W L_t‖ → G\u0304"),
        (r"\alpha\beta\gamma\mu\sigma", "αβγμσ"),
    ],
)
def test_a_formula_reads_as_it_is_meant(latex: str, plain: str) -> None:
    assert readable(latex) == plain


def test_a_narrow_terminal_is_no_reason_to_fail(said: Any) -> None:
    assert "gamma" in said("softmax_focal", columns=10)


@pytest.mark.parametrize("kind", KINDS)
def test_every_line_of_a_comparison_can_be_looked_up(said: Any, kind: Any) -> None:
    overview = said(columns=120)
    for name, candidate in candidates(kind).items():
        alone = joined(said(name))
        assert f"{name} (" in overview
        if candidate.card is None:
            assert kind in REMEDIES[name].problems
            for words in (candidate.summary, REMEDIES[name].recipe, REMEDIES[name].use_when, REMEDIES[name].avoid_when):
                assert words in alone
