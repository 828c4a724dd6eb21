"""Writes the README's catalogue from the cards. `--check` only says whether it is up to date."""

import sys
from pathlib import Path

from equipoise.catalog import CARDS

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- catalogue -->\n", "<!-- /catalogue -->"


def catalogue() -> str:
    """The table of all losses, one row a card."""
    rows = ["| loss | for | what it does | paper |", "| --- | --- | --- | --- |"]
    for card in CARDS:
        names = f"`{card.module.__name__}`" + (f", `{card.function.__name__}`" if card.function else "")
        rows.append(f"| {names} | {', '.join(sorted(card.problems))} | {card.summary} | {card.paper} |")
    return "\n".join(rows) + "\n"


def updated(text: str) -> str:
    """`text` with the table between its markers."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + catalogue() + END + rest.split(END, 1)[1]


def main() -> int:
    """Rewrites or checks the README."""
    text = README.read_text(encoding="utf-8")
    if "--check" in sys.argv[1:]:
        return int(text != updated(text))
    README.write_text(updated(text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
