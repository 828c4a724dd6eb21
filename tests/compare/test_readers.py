"""Reading files: what is read is all there, what cannot be read ends in one line."""

from __future__ import annotations

import io
import string
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from equipoise.compare import data, readers
from equipoise.compare.errors import CompareError
from equipoise.compare.features import Features, Preprocessing
from equipoise.compare.preparation import prepare
from equipoise.compare.splits import Split, split
from equipoise.compare.study import Request, Study


def read(path: Path, content: str | bytes) -> readers.Read:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return readers.read(path)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_csv_separators(tmp_path: Path, separator: str) -> None:
    found = read(tmp_path / "a.csv", f"x{separator}y\n1.5{separator}a b\n2{separator}\n")
    assert list(found.frame.columns) == ["x", "y"]
    assert list(found.frame["x"]) == [1.5, 2.0]
    assert found.frame["y"].isna().tolist() == [False, True]


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ('"len, in cm, left";"b, x";"y"', ["len, in cm, left", "b, x", "y"]),
        ('"a, b, c, d";"e, f, g, h"', ["a, b, c, d", "e, f, g, h"]),
        ('"a;b;c;d",  "e"', ["a;b;c;d", "e"]),
        ('"a,\nb,\nc";y', ["a,\nb,\nc", "y"]),
        ('a "cm";b;"c" d', ['a "cm"', "b", "c d"]),
        ("\tx\ty, in cm", ["column_1", "x", "y, in cm"]),
    ],
)
def test_separators_inside_quotes_do_not_count(tmp_path: Path, line: str, names: list[str]) -> None:
    assert list(read(tmp_path / "a.csv", f"\n{line}\n").frame.columns) == names


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_csv_encodings(tmp_path: Path, encoding: str) -> None:
    found = read(tmp_path / "a.csv", "größe,y\n1,ä\n2,ö\n".encode(encoding))
    assert list(found.frame.columns) == ["größe", "y"]
    assert list(found.frame["y"]) == ["ä", "ö"]
    assert found.notes == (("the file is not UTF-8: read as Latin-1",) if encoding == "latin-1" else ())


def test_csv_quotes_line_breaks_and_blank_lines(tmp_path: Path) -> None:
    found = read(tmp_path / "a.csv", '\r\nx,y\r\n"a, ""b""\nc",1\r\n\r\nd,2\r\n')
    assert found.frame.to_dict("list") == {"x": ['a, "b"\nc', "d"], "y": [1, 2]}


def test_csv_missing_values_are_the_usual_ones_but_not_the_word_none(tmp_path: Path) -> None:
    found = read(tmp_path / "a.csv", "x,y\nNA,None\n?,none\n3,Mild\n")
    assert found.frame["x"].isna().tolist() == [True, True, False]
    assert list(found.frame["y"]) == ["None", "none", "Mild"]


def test_csv_without_a_line_of_names(tmp_path: Path) -> None:
    found = read(tmp_path / "a.csv", "1,2\n3,4\n")
    assert found.frame.to_dict("list") == {"column_1": [1, 3], "column_2": [2, 4]}
    assert "the first row holds numbers only" in found.notes[0]


@pytest.mark.parametrize("first", ["0.3,,0", ",0.3,0", "NA,,0"])
def test_a_first_row_of_numbers_and_missing_cells_is_data(tmp_path: Path, first: str) -> None:
    found = read(tmp_path / "a.csv", f"{first}\n1,2,3\n")
    assert list(found.frame.columns) == ["column_1", "column_2", "column_3"]
    assert len(found.frame) == 2


def test_the_numbers_that_pandas_writes_for_names_are_names(tmp_path: Path) -> None:
    pd.DataFrame([[0.5, 1.5, 0], [2.5, 3.5, 1]]).to_csv(tmp_path / "a.csv")
    found = readers.read(tmp_path / "a.csv").frame
    assert list(found.columns) == ["column_1", "0", "1", "2"]
    assert len(found) == 2


@pytest.mark.parametrize("code", ["01", "-01", "00", "007", "01.5"])
def test_codes_with_leading_zeros_are_no_numbers(tmp_path: Path, code: str) -> None:
    found = read(tmp_path / "a.csv", f"x,y\n0.5,{code}\n-0.5,1\n0,\n")
    assert found.frame["y"].tolist()[:2] == [code, "1"]
    assert found.frame["y"].isna().tolist() == [False, False, True]
    assert found.frame["x"].tolist() == [0.5, -0.5, 0]


@pytest.mark.parametrize(
    ("content", "names", "note"),
    [
        ("x,y,\n1,a,\n2,b,\n", ["x", "y"], "the last column has no name and no cells"),
        ("x,y,,\n1,a,,\n2,b,,\n", ["x", "y"], "the last 2 columns have no name and no cells"),
        ("1,2,\n3,4,\n", ["column_1", "column_2"], "the last column has no name and no cells"),
    ],
)
def test_separators_at_the_end_of_all_lines_make_no_column(
    tmp_path: Path, content: str, names: list[str], note: str
) -> None:
    found = read(tmp_path / "a.csv", content)
    assert list(found.frame.columns) == names
    assert note in found.notes[0]
    assert len(found.frame) == 2


@pytest.mark.parametrize("content", ["x,y,\n1,a,\n2,b,c\n", "x,y,z\n1,a,\n2,b,\n"])
def test_a_last_column_with_a_name_or_a_cell_stays(tmp_path: Path, content: str) -> None:
    assert read(tmp_path / "a.csv", content).frame.shape == (2, 3)


def test_names_become_distinct_and_this_is_said(tmp_path: Path) -> None:
    found = read(tmp_path / "a.csv", "x,x,,x_2\n1,2,3,4\n")
    assert list(found.frame.columns) == ["x", "x_2", "column_3", "x_2_2"]
    assert found.notes == ("columns without a name of their own were renamed: x_2, column_3, x_2_2",)


def test_names_that_are_numbers_stay_as_they_are_written(tmp_path: Path) -> None:
    assert list(read(tmp_path / "a.csv", "x,007,1.50\na,1,2\n").frame.columns) == ["x", "007", "1.50"]


@pytest.mark.parametrize(
    ("line", "number"), [("51.9,Brno,1,0", "'51.9'"), ("a,7,7", "'7'"), ("a,0,1", None), ("id,2019,2021", None)]
)
def test_names_like_cells_are_pointed_out(tmp_path: Path, line: str, number: str | None) -> None:
    """A file without a line of names would lose its first row unseen."""
    found = read(tmp_path / "a.csv", f"{line}\n{line}\n")
    assert any("the first row may be data" in note for note in found.notes) == (number is not None)
    assert number is None or number in found.notes[0]


def test_parquet_with_repeated_names_and_an_index(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": [1, 2], "y": pd.Categorical(["a", "b"])}, index=[7, 9])
    frame.to_parquet(tmp_path / "a.parquet")
    found = readers.read(tmp_path / "a.parquet").frame
    assert list(found.columns) == ["__index_level_0__", "x", "y"]
    assert list(found["y"]) == ["a", "b"]

    pq.write_table(pa.table([[1], [2]], names=["x", "x"]), tmp_path / "b.parquet")
    assert list(readers.read(tmp_path / "b.parquet").frame.columns) == ["x", "x_2"]


def test_npz_with_matrices(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", X=np.ones((3, 2)), y=np.array(["a", "b", "a"]), feature_names=np.array(["u", "v"]))
    found = readers.read(tmp_path / "a.npz")
    assert list(found.frame.columns) == ["u", "v", "y"]
    assert found.targets == ("y",)
    assert list(found.frame["y"]) == ["a", "b", "a"]


def test_npz_with_images_and_several_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", X=np.ones((3, 2, 2)), y=np.eye(3, dtype=int))
    found = readers.read(tmp_path / "a.npz")
    assert found.frame.shape == (3, 7)
    assert found.targets == ("y0", "y1", "y2")
    assert "flattened" in found.notes[0]


def test_npz_with_one_array_per_column(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", age=np.arange(3), label=np.array([1, 0, 1]))
    assert readers.read(tmp_path / "a.npz").frame.to_dict("list") == {"age": [0, 1, 2], "label": [1, 0, 1]}


def npz(**arrays: object) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def truncated_parquet() -> bytes:
    return pd.DataFrame({"x": range(100)}).to_parquet()[:-20]


def zip_of(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "a.csv is empty"),
        ("a.csv", b"\n\n", "a.csv is empty"),
        ("a.csv", b"x,y\n", "has no rows"),
        ("a.csv", b"x\n1\n2\n", "one column"),
        ("a.csv", b"x,y\n1,2\n1,2,3\n", "as CSV: line 3 has 3 cells, the line of names 2$"),
        ("a.csv", b'x,y\n"1,2\n', "as CSV: a quote that opens in line 2 is never closed$"),
        ("a.csv", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "as CSV: it holds bytes that no text has$"),
        ("a.csv", b"x:y\n1:2\n", r"one column, .* \(known separators: comma, semicolon, tab, \|\)$"),
        ("a.npz", npz(x=np.zeros(3)), "has one column, expected features and a target$"),
        ("a.parquet", b"PAR1 nonsense", "as Parquet"),
        ("a.parquet", truncated_parquet(), "as Parquet"),
        ("a.npz", b"nonsense", "as NPZ"),
        ("a.npz", zip_of("x.npy", b"\x93NUMPY nonsense"), "as NPZ"),
        ("a.npz", zip_of("x.txt", b"nonsense"), r"x.txt \[\]; expected"),
        ("a.npz", npz(X=np.array([{}, {}], object), y=np.zeros(2)), "pickled"),
        ("a.npz", npz(X=np.zeros((3, 2)), y=np.zeros(4)), r"X \[3, 2\] and y \[4\]"),
        ("a.npz", npz(X=np.zeros((3, 2)), y=np.zeros(3), feature_names=np.zeros(3)), "feature_names"),
        ("a.npz", npz(a=np.zeros(3), b=np.zeros(4)), r"a \[3\], b \[4\]; expected"),
        ("a.npz", npz(), "no arrays"),
        ("a.xlsx", b"x", "expected a name that ends in .csv, .tsv, .parquet, .npz"),
    ],
)
def test_unreadable_files_end_in_one_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CompareError, match=message) as caught:
        data.load(str(path))
    assert "\n" not in str(caught.value)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(CompareError, match=r"there is no file .*a\.csv$"):
        readers.read(tmp_path / "a.csv")
    (tmp_path / "patients.csv").touch()
    with pytest.raises(CompareError, match=r"there is no file .*pateints.csv; did you mean '.*patients\.csv'\?$"):
        readers.read(tmp_path / "pateints.csv")
    with pytest.raises(CompareError, match="no built-in table"):
        readers.read(tmp_path / "farz")
    with pytest.raises(CompareError, match="is a folder"):
        readers.read(tmp_path)
    with pytest.raises(CompareError, match=r"cannot read x+\.csv: File name too long"):
        readers.read(Path("x" * 300 + ".csv"))


CELL = {
    "number": st.one_of(st.floats(allow_nan=True, allow_infinity=True).map(repr), st.just("")),
    "whole": st.integers(-(10**20), 10**20).map(str),
    "word": st.sampled_from(["a", "b", "", "NA", "None", "é", '"', "a\nb"]),
    "boolean": st.sampled_from(["True", "False", ""]),
    "date": st.sampled_from(["2024-02-29", "2024-02-30", "1999-12-31 23:59", ""]),
    "text": st.text(string.printable, max_size=8),
    "constant": st.just("same"),
    "nothing": st.just(""),
}
NAME = st.one_of(st.sampled_from(["x", "x", "", "y", "3"]), st.text(max_size=6))


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    """Columns of mixed kinds under odd and repeated names, and a target of two or three classes with gaps."""
    kinds = draw(st.lists(st.sampled_from(sorted(CELL)), min_size=1, max_size=4))
    rows = draw(st.integers(1, 40))
    columns = [draw(st.lists(CELL[kind], min_size=rows, max_size=rows)) for kind in kinds]
    columns.append(draw(st.lists(st.sampled_from(["u", "v", "w", ""]), min_size=rows, max_size=rows)))
    names = [draw(NAME) for _ in kinds]
    return pd.DataFrame(dict(enumerate(columns))).set_axis([*names, "target"], axis=1)


def prepare_features(study: Study, cut: Split) -> tuple[Features, ...]:
    fitted = Preprocessing.fit(study.table, cut.train)
    return tuple(fitted.apply(study.table, part) for part in (cut.train, cut.validation, cut.test))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tables())
def test_any_table_is_prepared_consistently_or_refused_in_words(tmp_path: Path, frame: pd.DataFrame) -> None:
    path = tmp_path / "table.csv"
    frame.to_csv(path, index=False)
    try:
        study = prepare(Request(data=str(path), epochs=1))
    except CompareError:
        return
    rows = len(study.problem.labels)
    assert rows == len(study.problem.rows) == sum(study.problem.counts) <= len(frame)
    assert study.table.numeric.shape[0] == study.table.codes.shape[0] == rows
    assert not np.isinf(study.table.numeric).any()
    used = [column for column in study.table.columns if column.kind != "left out"]
    assert study.table.numeric.shape[1] + study.table.codes.shape[1] == len(used)
    assert len({column.name for column in study.table.columns}) == len(study.table.columns) == frame.shape[1] - 1
    cut = split(study.problem, seed=0)
    for part, prepared in zip((cut.train, cut.validation, cut.test), prepare_features(study, cut), strict=True):
        dense = prepared.dense(slice(None))
        assert dense.shape == (len(part), prepared.width)
        assert dense.isfinite().all()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300), st.sampled_from([".csv", ".parquet", ".npz"]))
def test_any_bytes_are_read_or_refused_in_words(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"bytes{suffix}"
    path.write_bytes(content)
    try:
        frame = data.load(str(path)).frame
    except CompareError:
        return
    assert frame.shape[0] > 0
    assert frame.columns.is_unique
