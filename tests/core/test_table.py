"""A table holds every row and column, in a known format, whole or not at all."""

import builtins
import csv
import json
from pathlib import Path

import pytest
from isometry.table import check_not_read, check_table_path, print_rows, write_table

ROWS = [{"name": 'a, "b"', "energy_ev": -1.25e-17, "n": 3}, {"name": "é\nx", "force": 0.1 + 0.2}]
COLUMNS = ["name", "energy_ev", "n", "force"]


@pytest.mark.parametrize(("ending", "delimiter"), [(".csv", ","), (".tsv", "\t")])
def test_separated_values_come_back_exactly(tmp_path, ending, delimiter):
    write_table(tmp_path / f"t{ending}", ROWS)
    with open(tmp_path / f"t{ending}", newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file, delimiter=delimiter))
    assert list(found[0]) == COLUMNS
    assert [row["name"] for row in found] == [row["name"] for row in ROWS]
    assert float(found[0]["energy_ev"]) == ROWS[0]["energy_ev"]
    assert float(found[1]["force"]) == ROWS[1]["force"]
    assert found[1]["n"] == ""


def test_json_lines_come_back_exactly(tmp_path):
    write_table(tmp_path / "t.jsonl", ROWS)
    assert [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()] == ROWS


def test_no_rows_are_an_empty_table(tmp_path):
    for ending in (".csv", ".jsonl"):
        write_table(tmp_path / f"t{ending}", [])
        assert (tmp_path / f"t{ending}").read_text().strip() == ""
    write_table(tmp_path / "t.csv", [], ("n", "name"))
    assert (tmp_path / "t.csv").read_text() == "n,name\n"


def test_parquet_without_its_library_says_what_to_install(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr("isometry.table.find_spec", lambda _name: None)
    with pytest.raises(ValueError, match="needs pyarrow"):
        check_table_path(tmp_path / "t.parquet")
    with pytest.raises(ValueError, match=r"needs pyarrow: pip install 'isometry\[parquet\]', or choose \.csv"):
        write_table(tmp_path / "t.parquet", ROWS)
    assert list(tmp_path.iterdir()) == []


def test_parquet_comes_back_exactly(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is an extra")
    write_table(tmp_path / "t.parquet", ROWS)
    found = parquet.read_table(tmp_path / "t.parquet").to_pylist()
    assert found == [{column: row.get(column) for column in COLUMNS} for row in ROWS]


def test_what_cannot_be_written_leaves_the_old_table(tmp_path):
    path = tmp_path / "t.jsonl"
    write_table(path, ROWS)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_table(path, [{"x": object()}])
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["t.jsonl"]


def test_an_unknown_ending_or_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"ending '\.xls'; expected one of \.csv, \.tsv, \.jsonl, \.parquet"):
        check_table_path(tmp_path / "t.xls")
    with pytest.raises(FileNotFoundError, match="does not exist; create it first"):
        check_table_path(tmp_path / "no" / "t.csv")
    check_table_path(tmp_path / "t.extxyz", own_formats=(".extxyz",))


def test_a_place_where_nothing_can_be_written_is_refused_before_work_begins(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "t.csv").mkdir()
    with pytest.raises(NotADirectoryError, match="is a file, expected a folder"):
        check_table_path(tmp_path / "file" / "t.csv")
    with pytest.raises(IsADirectoryError, match=r"t\.csv: is a folder, expected a file"):
        check_table_path(tmp_path / "t.csv")
    with pytest.raises(OSError, match=r"/proc/t\.csv: cannot be written in the folder /proc .*; choose a folder"):
        check_table_path(Path("/proc/t.csv"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "t.csv"]


WIDE = [{f"column_{i}": 1000.5 + i for i in range(30)}] * 3


def test_a_file_that_is_read_is_not_written_over(tmp_path):
    (tmp_path / "in.csv").write_text("x\n1\n")
    check_not_read(tmp_path / "out.csv", [tmp_path / "in.csv"])
    with pytest.raises(ValueError, match=r"in\.csv: is one of the files to read"):
        check_not_read(tmp_path / ".." / tmp_path.name / "in.csv", [tmp_path / "in.csv"])


def test_elsewhere_than_on_a_terminal_no_column_is_folded_or_left_out(capsys):
    print_rows(WIDE)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[0].split() == list(WIDE[0])


def test_a_terminal_gets_the_columns_that_fit(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    print_rows(WIDE, n_shown=2)
    *lines, last = capsys.readouterr().out.splitlines()
    assert len(lines) == 3, "nothing is folded"
    assert last == "… and 1 more rows and 24 more columns; a file written by --out has all of them"
