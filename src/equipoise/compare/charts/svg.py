"""What all charts are drawn with: SVG elements as text, scales, and labels that know how much room they need.

Two ways to be read at any width. A chart of rows has no `viewBox`: its places are per cent and its letters keep their
size, and whatever is laid out side by side fits at `NARROW` pixels. A panel has a `viewBox` and scales as a whole.
Colours are the page's variables, so that one drawing serves light and dark.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape

NARROW = 328
"""The least width in pixels at which a chart of rows is shown."""
LONGEST = 200
"""No more letters than these can be seen of any name."""

Number = float | int


def element(name: str, content: str = "", **attributes: str | Number | None) -> str:
    """An element; `_` in an attribute's name stands for `-`, and None leaves the attribute out.

    Args:
        name: its name.
        content: SVG, or text that is escaped already.
        attributes: escaped here.
    """
    given = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items() if value is not None}
    written = "".join(f' {key}="{escape(_short(value))}"' for key, value in given.items())
    return f"<{name}{written}>{content}</{name}>" if content else f"<{name}{written}/>"


def _short(value: str | Number) -> str:
    return value if isinstance(value, str) else f"{round(value, 2):g}"


def text(words: str, x: str | Number, y: Number, *, anchor: str | None = None, look: str | None = None) -> str:
    """A label."""
    return element("text", escape(words), x=x, y=y, text_anchor=anchor, class_=look)


def picture(
    identity: str, name: str, description: str, content: Iterable[str], *, height: Number, width: Number | None = None
) -> str:
    """A whole chart, with the name and the description that a screen reader says.

    Args:
        identity: unique in the page.
        name: what it is.
        description: what it shows, in words.
        content: what is drawn.
        height: in pixels.
        width: in the same unit; None for a chart whose places are per cent.
    """
    names = element("title", escape(name), id=f"{identity}-name")
    says = element("desc", escape(description), id=f"{identity}-says")
    size = {"width": "100%", "height": height} if width is None else {"viewBox": f"0 0 {width:g} {height:g}"}
    return element(
        "svg",
        names + says + "".join(content),
        id=identity,
        class_="rows" if width is None else "panel",
        role="img",
        aria_labelledby=f"{identity}-name",
        aria_describedby=f"{identity}-says",
        **size,
    )


def percent(value: float, low: float, high: float) -> str:
    """Where `value` stands between `low` and `high`, from `0%` to `100%`."""
    return f"{100 * (value - low) / (high - low):.2f}%"


def polyline(points: Sequence[tuple[float, float | None]], look: str) -> str:
    """A line through the points, broken where a value is missing; a point between two gaps is a dot."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for x, y in points:
        if y is None:
            pieces.append([])
        else:
            pieces[-1].append((x, y))
    drawn = []
    for piece in filter(None, pieces):
        if len(piece) == 1:
            drawn.append(element("circle", cx=piece[0][0], cy=piece[0][1], r=2, class_=f"{look} dot"))
        else:
            drawn.append(element("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in piece), class_=look))
    return "".join(drawn)


def ticks(low: float, high: float, most: int) -> list[float]:
    """At most `most` round numbers from `low` to `high`, evenly spaced."""
    if not high > low:
        return [low]
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    for factor in (1, 2, 5, 10, 20, 50, 100):
        first, last = math.ceil(low / (step * factor) - 1e-9), math.floor(high / (step * factor) + 1e-9)
        if last - first < most:
            return [round(step * factor * each, 12) for each in range(first, last + 1)]
    raise AssertionError("the largest factor leaves one tick")


def digits(spaced: Sequence[float]) -> int:
    """How many digits after the point tell evenly spaced numbers apart."""
    step = abs(spaced[1] - spaced[0]) if len(spaced) > 1 else 1.0
    return max(0, -math.floor(math.log10(step) + 1e-9))


def signed(value: float, places: int = 3) -> str:
    """`+0.101`, `−0.045`, and 0 without a sign."""
    written = f"{value:+.{places}f}"
    return written[1:] if not float(written) else written.replace("-", "−")


def letters(words: str, size: float) -> float:
    """How wide `words` is at a font size, rather too wide than too narrow: the font is the reader's."""
    return size * sum(map(_letter, words))


def _letter(letter: str) -> float:
    if unicodedata.east_asian_width(letter) in "WF":
        return 1.05
    if letter in "iljtfrI.,:;'|!()[]/ ":
        return 0.42
    return 0.92 if letter.isupper() or letter in "mwMW@%—…→▲▼" else 0.66


def fitted(words: str, size: float, room: float) -> str:
    """`words`, its middle left out where it is too wide: names that begin alike often differ at the end."""
    if letters(words, size) <= room:
        return words
    if len(words) > LONGEST:
        words = words[: LONGEST // 2] + words[-LONGEST // 2 :]
    kept = len(words) - 1
    while kept > 2 and letters(words[: kept - kept // 2] + "…" + words[len(words) - kept // 2 :], size) > room:
        kept -= 1
    return words[: kept - kept // 2].rstrip() + "…" + words[len(words) - kept // 2 :].lstrip()


def told_apart(names: Sequence[str], size: float, rooms: Sequence[float]) -> list[str]:
    """The names, each fitted to its room; those that would look alike lose what they begin with in common."""
    shown = [fitted(name, size, room) for name, room in zip(names, rooms, strict=True)]
    alike = {words for words, times in Counter(shown).items() if times > 1}
    for words in alike:
        places = [place for place, each in enumerate(shown) if each == words]
        start = _in_common([names[place] for place in places])
        for place in places if start else ():
            shown[place] = fitted("…" + names[place][start:], size, rooms[place])
    return shown


def _in_common(names: Sequence[str]) -> int:
    """With how many equal letters all names begin, not counting those of a word that goes on differently."""
    first, last = min(names), max(names)
    same = next((place for place, letter in enumerate(first) if letter != last[place]), len(first))
    while same and first[same - 1].isalnum():
        same -= 1
    return same
