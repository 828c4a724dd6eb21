"""The catalogue in words: what `equipoise losses` shows and what the README's table is made of."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.text import Text

from .card import Card
from .catalog import CARDS
from .compare.remedies import REMEDIES, Remedy
from .formulas import readable, readable_text

INDENT = "  "
NARROWEST, WIDEST = 60, 100
"""Lines are as wide as the terminal, but not wider than is good to read."""


@dataclass(frozen=True)
class Entry:
    """What the catalogue says about a loss, wherever it is shown.

    Attributes:
        name: the short name.
        calls: the module and, where there is one, the function.
        problems: what it can train.
        summary: what it does.
        paper: where it comes from.
    """

    name: str
    calls: tuple[str, ...]
    problems: str
    summary: str
    paper: str


def entry(card: Card) -> Entry:
    """The catalogue's line for a loss."""
    calls = (card.module.__name__, *([card.function.__name__] if card.function else []))
    return Entry(card.name, calls, ", ".join(sorted(card.problems)), card.summary, card.paper)


def show_all(to: Console) -> None:
    """All losses, family by family."""
    width, family = _width(to), None
    for card in CARDS:
        if card.family != family:
            family = card.family
            _print(family, to, "bold underline")
            _print("", to)
        each = entry(card)
        _print(f"{each.name} ({each.problems})", to, "bold")
        for words in (each.summary, ", ".join(each.calls), each.paper):
            _print(_wrapped(words, width), to)
        _print("", to)
    _print("also in a comparison", to, "bold underline")
    _print("", to)
    for remedy in REMEDIES.values():
        _print(_title(remedy), to, "bold")
        _print(_wrapped(remedy.summary, width), to)
        _print("", to)
    _print("`equipoise losses NAME` shows one in full.", to, "dim")


def show_one(card: Card, to: Console) -> None:
    """One loss in full."""
    each, width = entry(card), _width(to)
    _print(f"{each.name} ({each.problems})", to, "bold")
    for words in (each.summary, ", ".join(f"equipoise.{call}" for call in each.calls)):
        _print(_wrapped(words, width), to)
    for title, lines in _sections(card):
        _print(f"\n{title}", to, "bold")
        for start, words in lines:
            _print(_wrapped(words, width, start), to)


def show_remedy(remedy: Remedy, to: Console) -> None:
    """What is compared beside the losses, in full."""
    width = _width(to)
    _print(_title(remedy), to, "bold")
    _print(_wrapped(remedy.summary, width), to)
    sections = (
        ("How", remedy.recipe),
        ("Use it when", remedy.use_when),
        ("Do without it when", remedy.avoid_when),
        ("Paper", remedy.paper),
    )
    for title, words in sections:
        if words:
            _print(f"\n{title}", to, "bold")
            _print(_wrapped(words, width), to)


def _title(remedy: Remedy) -> str:
    return f"{remedy.name} ({', '.join(remedy.problems)})"


Lines = list[tuple[str, str]]
"""Paragraphs, each with what its first line begins with; the others are indented as far."""


def _sections(card: Card) -> Iterator[tuple[str, Lines]]:
    """What is said of a loss, under its titles; what there is nothing to say of is left out."""
    first, *others = re.split(r",?\s*\\q?quad\s*", card.formula)
    rows = options(card)
    wide = [max(len(row[column]) for row in rows) for column in (0, 1)]
    sections: list[tuple[str, Lines]] = [
        ("Formula", [("", readable(first)), *(("", f"with {readable(other)}") for other in others)]),
        ("In words", [("", explanation(card))]),
        ("Options", [(f"{name:<{wide[0]}}  {default:<{wide[1]}}  ", words) for name, default, words in rows]),
        ("Use it when", [("", card.use_when)]),
        ("Do without it when", [("", card.avoid_when)]),
        ("Identities", [("- ", identity.statement) for identity in card.identities]),
        ("Differs from the paper or other code", [("- ", sentence) for sentence in card.differs]),
        ("Paper", [("", card.paper)]),
    ]
    for title, lines in sections:
        if any(words for _, words in lines):
            yield title, lines


def _width(to: Console) -> int:
    return max(NARROWEST, min(to.width, WIDEST))


def _wrapped(words: str, width: int, start: str = "") -> str:
    """Indented lines that break nothing but between words."""
    indent = INDENT + " " * len(start)
    lines = textwrap.wrap(words, width - len(indent), break_long_words=False, break_on_hyphens=False)
    return f"\n{indent}".join([f"{INDENT}{start}{lines[0] if lines else ''}", *lines[1:]])


def _print(words: str, to: Console, style: str = "") -> None:
    to.print(Text(words, style), soft_wrap=True)


def explanation(card: Card) -> str:
    """The paragraph of the docstring that names every symbol."""
    paragraphs = inspect.cleandoc((card.function or card.module).__doc__ or "").split("\n\n")
    return readable_text(paragraphs[1]) if len(paragraphs) > 1 and not paragraphs[1].startswith("Args:") else ""


def options(card: Card) -> list[tuple[str, str, str]]:
    """Name, default and meaning of each option of the module."""
    section = re.search(
        r"^Args:\n((?:^[ ]+.*\n|^\n)+)", inspect.cleandoc(card.module.__doc__ or "") + "\n", re.MULTILINE
    )
    entries = re.split(r"^(\w+): ", textwrap.dedent(section[1]), flags=re.MULTILINE)[1:] if section else []
    said = dict(zip(entries[::2], entries[1::2], strict=True))
    signature = inspect.signature(card.module).parameters.values()
    return [(each.name, _default(each), _meaning(said.get(each.name, ""))) for each in signature]


def _default(parameter: inspect.Parameter) -> str:
    value: Any = parameter.default
    return "required" if value is inspect.Parameter.empty else repr(value)


def _meaning(said: str) -> str:
    """What a docstring says of an argument, without the default that has a column of its own."""
    return re.sub(r"\s*Default: `[^`]*`\.", "", readable_text(said)).strip()
