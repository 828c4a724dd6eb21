"""Writes the README's catalogue from the cards. `--check` only says whether it is up to date."""

import sys
from pathlib import Path

from equipoise.catalog import CARDS
from equipoise.listing import entry

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- catalogue -->\n", "<!-- /catalogue -->"


def catalogue() -> str:
    """The table of all losses, one row a card."""
    rows = ["| loss | for | what it does | paper |", "| --- | --- | --- | --- |"]
    for each in map(entry, CARDS):
        calls = ", ".join(f"`{call}`" for call in each.calls)
        rows.append(f"| `{each.name}`: {calls} | {each.problems} | {each.summary} | {each.paper} |")
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
