"""Two hundred files that a person might pass by mistake, each with a name that says what is wrong with it.

Always the same ones. Some are sound, only odd: what they have in common is that the tool must end in an answer or in
one readable line.
"""

from __future__ import annotations

import gzip
import io
import random
import zipfile
from collections.abc import Iterator
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

Case = tuple[str, str, bytes]
Cells = list[list[str]]

ROWS = 40
ODD_NUMBERS = [
    "nan",
    "NaN",
    "inf",
    "-inf",
    "Infinity",
    "1e308",
    "-1e308",
    "1e400",
    "1e-320",
    "5e-324",
    "1e30",
    "123456789012345678901234567890",
    "9223372036854775808",
    "0x1F",
    "1_000",
    "1.000,5",
    "−5",
    "5%",
    "$5",
    "1+2j",
    "007",
    ".5",
    "5.",
    "+5",
    "-0.0",
    "1e5e5",
    "١٢",
    "½",
    "∞",
    "None",
    "null",
    "#REF!",
    "TRUE",
]
ODD_DATES = [
    "2024-02-30",
    "2024-13-01",
    "0000-00-00",
    "0001-01-01",
    "9999-12-31",
    "99999-01-01",
    "1677-09-20",
    "2024-01-01T25:00",
    "24-1-1",
    "01/02/2024",
    "2024-W05",
    "2024-01-01T00:00:00+99:00",
    "2024-06-01T12:00:00Z",
    "1700000000",
    "12:30",
]
ODD_NAMES = [
    "",
    " ",
    "x",
    "y",
    "3",
    "NaN",
    "a" * 10_000,
    "é",
    "数",
    "\N{PILE OF POO}",
    "<b>x</b>",
    "[red]x[/red]",
    "{{ 7*7 }}",
    "a\nb",
    "a,b",
    '"',
    "'; DROP TABLE x",
    "..",
    "\x00",
    "\x1b[31m",
    "__index_level_0__",
    "rtl \u202e x",
]
ENCODINGS = [
    "utf-8-sig",
    "utf-16",
    "utf-16-le",
    "utf-16-be",
    "utf-32",
    "utf-7",
    "latin-1",
    "cp1252",
    "cp437",
    "koi8-r",
    "shift_jis",
    "gb18030",
    "euc-kr",
    "cp037",
]
SIZES = (0, 1, 2, 3, 4, 5, 6, 9, 15)


def table(rows: int = ROWS) -> Cells:
    """A line of names, then rows of a number, a word, a date and one of two classes."""
    draw = random.Random(0)
    return [
        ["x", "word", "day", "y"],
        *(
            [f"{draw.gauss(0, 1):.3f}", draw.choice("abc"), f"2024-01-{row % 28 + 1:02}", draw.choice(["no", "yes"])]
            for row in range(rows)
        ),
    ]


def text(cells: Cells, separator: str = ",", end: str = "\n") -> str:
    """Cells as CSV, quoted where they must be."""

    def quoted(cell: str) -> str:
        return '"' + cell.replace('"', '""') + '"' if set(cell) & set(',"\n\r') else cell

    return "".join(separator.join(map(quoted, row)) + end for row in cells)


def column(cells: Cells, position: int, values: list[str]) -> Cells:
    """The table with other values in a column, in turn."""
    names, *rows = cells
    return [names, *([*row[:position], values[at % len(values)], *row[position + 1 :]] for at, row in enumerate(rows))]


def csv(name: str, content: str | bytes) -> Case:
    return name, ".csv", content.encode(errors="surrogatepass") if isinstance(content, str) else content


def encodings() -> Iterator[Case]:
    cells = column(table(), 1, ["größe", "naïve", "x"])
    for encoding in ENCODINGS:
        yield csv(f"written as {encoding}", text(cells).encode(encoding, errors="replace"))
    yield csv("two byte order marks", b"\xef\xbb\xbf" * 2 + text(cells).encode())
    yield csv("half a character at the end", text(cells).encode() + "ö".encode()[:1])
    yield csv("UTF-8 with a line of Latin-1", text(cells).encode() + "1,größe,2024-01-01,no\n".encode("latin-1"))
    yield csv("UTF-16 cut in the middle of a character", text(cells).encode("utf-16")[:-1])


def shapes() -> Iterator[Case]:
    names, *rows = table()
    for position in (0, 1, ROWS // 2, ROWS - 1):
        yield csv(f"row {position} short", text([names, *rows[:position], rows[position][:2], *rows[position + 1 :]]))
        yield csv(f"row {position} long", text([names, *rows[:position], rows[position] * 2, *rows[position + 1 :]]))
        yield csv(f"row {position} blank", text([names, *rows[:position], [], *rows[position + 1 :]]))
    yield csv("names short", text([names[:2], *rows]))
    yield csv("names long", text([[*names, "z", "w"], *rows]))
    yield csv("separators at the end of rows alone", text([names, *([*row, ""] for row in rows)]))
    yield csv("rows of separators", text([names, *([[""] * 4] * ROWS)]))
    yield csv("names alone", text([names]))
    yield csv("names twice", text([names, names, *rows]))
    yield csv("names at the end", text([*rows, names]))
    yield csv("no names", text(rows))
    yield csv("a comment before the names", "# made by hand\n" + text([names, *rows]))
    yield csv("a total after the rows", text([names, *rows]) + "total,40\n")
    for size in SIZES:
        yield csv(f"{size} rows", text(table(size)))
    wide = [["1"] * 10_000 + ["ab"[row % 2]] for row in range(10)]
    yield csv("10,000 columns", text([[*(f"c{at}" for at in range(10_000)), "y"], *wide]))
    for character in ("\r", "\r\n", "\n\r", "\n\n", "\v", "\x1e", "\u2028"):
        yield csv(f"lines end in {character!r}", text(table(), end=character))
    for separator in (";", "\t", "|", " ", ":", "::", "\x01", "~"):
        yield csv(f"separated by {separator!r}", text(table(), separator))


def quotes() -> Iterator[Case]:
    sound = text(table())
    for name, old, new in [
        ("a quote that is never closed", ",a,", ',"a,'),
        ("a quote inside a cell", ",a,", ',a"b,'),
        ("text after a quote", ",a,", ',"a"b,'),
        ("single quotes", ",a,", ",'a,b',"),
        ("a line break in quotes", ",a,", ',"a\nb",'),
        ("a NUL in a cell", ",a,", ",a\0b,"),
        ("NULs in place of numbers", "0.", "\0."),
        ("an end-of-file sign", ",c,", ",\x1a,"),
        ("an escape sequence", ",a,", ",\x1b[2J,"),
        ("a lone surrogate", ",a,", ",\ud800,"),
    ]:
        yield csv(name, sound.replace(old, new))
        yield csv(f"{name}, once", sound.replace(old, new, 1))


def cells() -> Iterator[Case]:
    for odd in ODD_NUMBERS:
        yield csv(f"the number {odd}", text(column(table(), 0, ["1.5", odd, "2", "-3"])))
    yield csv("numbers of every size", text(column(table(), 0, ["1e300", "1e-300", "-1e300", "0"])))
    yield csv("all odd numbers", text(column(table(), 0, ODD_NUMBERS)))
    for odd in ODD_DATES:
        yield csv(f"the date {odd}", text(column(table(), 2, ["2024-01-01", odd, "2024-05-05"])))
    yield csv("all odd dates", text(column(table(), 2, ODD_DATES)))
    for name, values in [("constant", ["1"]), ("missing", [""]), ("text", [f"{at} free text" for at in range(ROWS)])]:
        every = table()
        for position in range(3):
            every = column(every, position, values)
        yield csv(f"all features {name}", text(every))


def names() -> Iterator[Case]:
    for odd in ODD_NAMES:
        first, *rows = table()
        yield csv(f"a column called {odd[:12]!r}", text([[odd, *first[1:]], *rows]))
        yield csv(f"a target called {odd[:12]!r}", text([[*first[:3], odd], *rows]))
    yield csv("all columns of one name", text([["x"] * 4, *table()[1:]]))
    yield csv("no column has a name", text([[""] * 4, *table()[1:]]))


def targets() -> Iterator[Case]:
    for name, values in [
        ("one class", ["a"]),
        ("one class and blanks", ["a", ""]),
        ("nothing", [""]),
        ("a class per row", [f"c{at}" for at in range(ROWS)]),
        ("real numbers", [f"{at / 7:.4f}" for at in range(ROWS)]),
        ("infinite numbers", ["inf", "1", "2"]),
        ("numbers and words", ["1", "one", "2", "1.0"]),
        ("classes that differ by case", ["Yes", "yes", "YES", "no"]),
        ("classes that differ by blanks", ["yes", "yes ", "no"]),
        ("dates", ["2024-01-01", "2024-01-02"]),
        ("a class of one row", ["a"] * (ROWS - 1) + ["b"]),
        ("thirteen classes of three", [f"c{at % 13}" for at in range(ROWS)]),
        ("long class names", ["a" * 5000, "b" * 5000]),
        ("markup", ["<script>1</script>", "{{ 1 }}", "[bold]"]),
        ("the word None", ["None", "none", "nan"]),
        ("booleans and numbers", ["True", "0", "1", "False"]),
    ]:
        yield csv(f"a target of {name}", text(column(table(), 3, values)))


def foreign() -> Iterator[Case]:
    sound = text(table()).encode()
    draw = random.Random(1)
    for size in (1, 2, 100, 5000):
        for ending in (".csv", ".tsv", ".parquet", ".npz"):
            yield f"{size} random bytes as {ending}", ending, draw.randbytes(size)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("t.csv", sound)
    for name, content in [
        ("gzip", gzip.compress(sound)),
        ("zip", archive.getvalue()),
        ("a PDF", b"%PDF-1.7\n1 0 obj\n<</Type/Catalog>>\nendobj\n"),
        ("a picture", b"\x89PNG\r\n\x1a\n" + bytes(100)),
        ("JSON", b'[{"x": 1, "y": "a"}, {"x": 2, "y": "b"}]'),
        ("a page", b"<!doctype html><html><body>404, not found</body></html>"),
        ("nothing but blanks", b" \n \n\t\n"),
        ("nothing but a byte order mark", b"\xef\xbb\xbf"),
        ("zeros", bytes(4096)),
    ]:
        yield csv(f"{name} for a CSV", content)
        yield f"{name} for Parquet", ".parquet", content
        yield f"{name} for NPZ", ".npz", content


def parquet() -> Iterator[Case]:
    label = ["ab"[row % 2] for row in range(ROWS)]
    integers = list(range(ROWS))
    for name, values in {
        "lists": [[1, 2]] * ROWS,
        "records": [{"a": 1}] * ROWS,
        "decimals": [Decimal("1.10") * each for each in integers],
        "bytes": [bytes([each, 255]) for each in integers],
        "nulls": pa.nulls(ROWS),
        "moments with a zone": pa.array(integers, pa.timestamp("ns", "Europe/Berlin")),
        "durations": pa.array(integers, pa.duration("us")),
        "times of day": pa.array(integers, pa.time64("us")),
        "large whole numbers": pa.array([2**64 - 1 - each for each in integers], pa.uint64()),
        "half floats": pa.array(np.linspace(0, 1, ROWS).astype(np.float16)),
        "a dictionary": pa.array(["u", "v"] * (ROWS // 2)).dictionary_encode(),
        "days before all calendars": pa.array([-(10**7) + each for each in integers], pa.date32()),
    }.items():
        for position, names in enumerate((["x", "y"], ["y", "x"])):
            sink = io.BytesIO()
            columns = [values, label] if position == 0 else [label, values]
            pq.write_table(pa.table(columns, names=names), sink)
            yield f"Parquet of {name} as the {'feature' if position == 0 else 'target'}", ".parquet", sink.getvalue()
    for name, made in [("no rows", pa.table({"x": [], "y": []})), ("no columns", pa.table({}))]:
        sink = io.BytesIO()
        pq.write_table(made, sink)
        yield f"Parquet of {name}", ".parquet", sink.getvalue()


def npz() -> Iterator[Case]:
    x, y = np.random.default_rng(0).normal(size=(ROWS, 2)), np.arange(ROWS) % 2
    for name, arrays in {
        "a feature of one dimension": {"X": x[:, 0], "y": y},
        "a target of three dimensions": {"X": x, "y": np.zeros((ROWS, 2, 2))},
        "complex numbers": {"X": x + 1j, "y": y},
        "objects": {"X": x.astype(object), "y": y},
        "bytes": {"X": x.astype("S8"), "y": y.astype("S1")},
        "records": {"X": np.zeros(ROWS, [("a", int), ("b", float)]), "y": y},
        "moments": {"X": x.astype("M8[s]"), "y": y},
        "no rows": {"X": x[:0], "y": y[:0]},
        "no features": {"X": x[:, :0], "y": y},
        "a target that is missing": {"X": x, "y": np.full(ROWS, np.nan)},
        "infinite features": {"X": np.full((ROWS, 2), np.inf), "y": y},
        "one number": {"X": np.float64(1), "y": np.int64(1)},
        "names that repeat": {"X": x, "y": y, "feature_names": np.array(["y", "y"])},
    }.items():
        sink = io.BytesIO()
        np.savez(sink, **arrays)
        yield f"NPZ of {name}", ".npz", sink.getvalue()


def every() -> list[Case]:
    """All of them."""
    parts = (encodings, shapes, quotes, cells, names, targets, foreign, parquet, npz)
    return [case for part in parts for case in part()]
