"""Tables of cells become checked records, and every mistake in one is told with file, place and remedy."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from isometry_data.catalogue import datasets
from isometry_data.cell_tables import check_counts, read_cells
from isometry_data.signaling import READINGS, read_signaling_set
from isometry_data.units import unit, unit_of_header

FOLDER = os.environ.get("ISOMETRY_DATA", "")
needs_data = pytest.mark.skipif(
    not (Path(FOLDER) / "signaling").is_dir(), reason="ISOMETRY_DATA has no folder signaling"
)
SMALL = "dose,response_a,response_b,well\n0,1.5,2,A\n10,2.5,,B\n10,3.5,4,B\n0.1,1,1,A\n"


@pytest.fixture
def table(tmp_path):
    def write(text: str, name: str = "cells.csv") -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def rows(doses: list[str], header: str = "dose,response_a") -> str:
    return "\n".join([header, *(f"{dose},{i % 7}.5" for i, dose in enumerate(doses))]) + "\n"


def test_doses_are_in_order_and_zero_is_one_of_them(table):
    cells = read_cells(table(SMALL), inputs=["dose"], group="well", unit="ng/mL")
    np.testing.assert_array_equal(cells.inputs.amounts, [0, 0.1, 10])
    np.testing.assert_array_equal(cells.inputs.codes, [0, 2, 2, 1])
    assert cells.inputs.unit == "ng/mL"
    assert cells.inputs.labels == ("0", "0.1", "10")
    np.testing.assert_array_equal(cells.responses, [[1.5, 2], [2.5, np.nan], [3.5, 4], [1, 1]])
    np.testing.assert_array_equal(cells.is_complete, [True, False, True, True])
    np.testing.assert_array_equal(cells.group, [0, 1, 1, 0])
    assert cells.response_names == ("response_a", "response_b")


def test_every_format_gives_the_same_records(table, tmp_path):
    anndata, pandas = pytest.importorskip("anndata"), pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    path = table(SMALL)
    (tmp_path / "packed.csv.gz").write_bytes(gzip.compress(SMALL.encode()))
    table(SMALL.replace(",", "\t"), "cells.tsv")
    frame = pandas.read_csv(path)
    frame.to_parquet(tmp_path / "cells.parquet")
    values = anndata.AnnData(
        frame[["response_a", "response_b"]].to_numpy(),
        obs=frame[["dose", "well"]].astype({"well": "category"}).set_index(frame.index.astype(str)),
        var=pandas.DataFrame(index=["response_a", "response_b"]),
    )
    values.write_h5ad(tmp_path / "cells.h5ad")
    expected = read_cells(path, inputs=["dose"], batch="well")
    for name in ("packed.csv.gz", "cells.tsv", "cells.parquet", "cells.h5ad"):
        found = read_cells(tmp_path / name, inputs=["dose"], batch="well")
        np.testing.assert_array_equal(found.responses, expected.responses, err_msg=name)
        np.testing.assert_array_equal(found.inputs.codes, expected.inputs.codes, err_msg=name)
        np.testing.assert_array_equal(found.batch, expected.batch, err_msg=name)
        assert (found.inputs.labels, found.batch_names) == (expected.inputs.labels, ("A", "B"))


def test_parquet_is_read_where_pandas_is_not_installed(tmp_path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    names = pyarrow.array(["0 ng/mL", None, "10 ng/mL", "10 ng/mL"]).dictionary_encode()
    counts = pyarrow.array([1, None, 3, 4])
    parquet.write_table(pyarrow.table({"dose": names, "count": counts}), tmp_path / "cells.parquet")
    code = (
        "import sys\n"
        "from importlib.abc import MetaPathFinder\n"
        "class WithoutPandas(MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'pandas': raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, WithoutPandas())\n"
        "from isometry_data.columns import read_columns\n"
        "table = read_columns(sys.argv[1])\n"
        "print(table.texts('dose'), table.numbers('count'))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "cells.parquet")]
    said = subprocess.run(command, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True)
    assert said.stdout.decode().split("\n")[0] == "['0 ng/mL', '', '10 ng/mL', '10 ng/mL'] [ 1. nan  3.  4.]", said


def test_units_of_one_kind_are_converted(table):
    cells = read_cells(table(rows(["0", "100 pg/mL", "10ng/ml", "1 ug/mL"])), inputs=["dose"])
    np.testing.assert_allclose(cells.inputs.amounts, [0, 100, 1e4, 1e6])
    assert cells.inputs.unit == "pg/mL"


def test_a_unit_is_read_from_the_end_of_a_columns_name():
    assert [unit_of_header(name) for name in ("dose_ng_ml", "iptg_uM", "dose (nM)", "dose", "tnf ng/mL")] == [
        *("ng/mL", "uM", "nM", "", "ng/mL")
    ]
    assert unit("µM").size == 1e3 * unit("nM").size
    assert unit("ng/mL").size == unit("ug/L").size


def test_several_columns_make_one_input_and_each_name_has_a_unit_of_its_own(table):
    text = "ligand,dose,response_a\nTNF,1ng,1\nCpG,10nM,2\nTNF,100pg,3\nCpG,1uM,4\n"
    cells = read_cells(table(text), inputs=["ligand", "dose"])
    assert cells.inputs.labels == ("CpG 10 nM", "CpG 1000 nM", "TNF 0.1 ng", "TNF 1 ng")
    assert cells.inputs.amounts is None


def test_a_columns_name_may_have_brackets(table):
    assert read_cells(table("dose,p [a.u.]\n0,1\n1,2\n"), inputs=["dose"], responses=["p [a.u.]"]).response_names == (
        "p [a.u.]",
    )


def test_names_are_inputs(table):
    cells = read_cells(table("ligand,response_a\nTNF,1\nLPS,2\nTNF,3\n"), inputs=["ligand"])
    assert cells.inputs.labels == ("LPS", "TNF")


def test_chosen_cells_keep_only_their_inputs(table):
    cells = read_cells(table(SMALL), inputs=["dose"]).chosen(np.array([False, True, True, True]), "why")
    assert cells.inputs.labels == ("0.1", "10")
    assert cells.left_out == ("why",)
    np.testing.assert_array_equal(cells.inputs.codes, [1, 1, 0])


def test_rows_without_any_response_are_cells_that_were_not_measured(table):
    cells = read_cells(table("dose,response_a\n0,1\n1,2\n1,\n0,NaN\n"), inputs=["dose"])
    np.testing.assert_array_equal(cells.is_complete, [True, True, False, False])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (rows(["10"] * 30), ["'dose'", "'10' in every row", "one dose only", "control"]),
        ("dose,response_a\n0,3.5\n1,3.5\n", ["'response_a'", "3.5 in every row", "constant", "leave it out"]),
        ("dose,response_a\n0,1\nNaN,2\n", ["line 3", "'dose'", "input is missing", "0 for a control"]),
        ("dose,response_a\n0,1\n1,inf\n", ["line 3", "'response_a'", "infinite", "empty"]),
        ("dose,response_a\n0,1\n1,high\n", ["line 3", "'response_a'", "'high'", "expected a number"]),
        ("dose,response_a\n0,1\nhigh,2\n", ["line 3", "'dose'", "'high'", "expected a number"]),
        ("dose;response_a\n0;1\n1,5;2\n", ["line 3", "'dose'", "'1,5'", "expected a number", "with a point"]),
        ("dose;response_a\n0,1;1\n0,5 nM;2\n", ["line 2", "'dose'", "'0,1'", "comma in all", "with a point"]),
        ("dose,response_a\n0,1\n-2,2\n", ["line 3", "'-2'", "0 or more", "logarithms"]),
        (rows(["10 ng/mL", "10 nM"]), ["line 3", "'10 nM'", "line 2", "'ng/mL'", "one kind", "molar mass"]),
        (rows(["10 ng/mL", "10"]), ["line 3", "'10'", "line 2", "'ng/mL'", "write the unit"]),
        ("dose,response_a,response_a\n0,1,2\n", ["columns 2 and 3", "'response_a'", "rename"]),
        ("dose,response_a\n0,1\n1,2,3\n", ["line 3", "3 fields", "expected 2"]),
        ("dose,response_a\n", ["without rows", "one row per cell"]),
        ("dose,signal\n0,1\n1,2\n", ["no column is called", "'response_*'", "dose, signal"]),
        ("doze,response_a\n0,1\n1,2\n", ["no column 'dose'", "did you mean 'doze'?"]),
        ("dose,response_a,response_b\n0,1,\n1,2,\n", ["'response_b' is empty", "leave it out"]),
    ],
)
def test_a_mistake_is_told_with_place_and_remedy(table, text, told):
    path = table(text)
    with pytest.raises(ValueError, match=told[0]) as raised:
        read_cells(path, inputs=["dose"])
    message = str(raised.value)
    assert "\n" not in message
    assert [word for word in (str(path), *told) if word not in message] == []


def test_ten_cells_are_too_few(table):
    cells = read_cells(table(rows(["0"] * 5 + ["1"] * 5)), inputs=["dose"])
    with pytest.raises(
        ValueError, match=r"too few cells of 2 of 2 inputs.*0 \(5\), 1 \(5\); expected 10.*measure more"
    ):
        check_counts(cells)


def test_a_row_filter_that_leaves_nothing_names_what_there_is(table):
    with pytest.raises(ValueError, match="no row has well = 'C'; found A, B"):
        read_cells(table(SMALL), inputs=["dose"], where={"well": "C"})


def test_what_is_no_table_of_its_ending_is_told(tmp_path):
    pytest.importorskip("pyarrow"), pytest.importorskip("anndata")
    for name, word in (("a.parquet", "not a Parquet table"), ("a.h5ad", "not an AnnData file")):
        (tmp_path / name).write_text("dose,response\n")
        with pytest.raises(ValueError, match=word):
            read_cells(tmp_path / name, inputs=["dose"])
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_cells(tmp_path / "none.parquet", inputs=["dose"])


@needs_data
@pytest.mark.parametrize(
    ("name", "where", "n", "n_inputs"),
    [
        ("nfkb-tnf", {}, 15632, 11),
        ("jak-stat", {"stim_type": "IFNG", "time": "15", "nuclearity": "single-nuclear"}, 9308, 4),
        ("jak-stat", {"stim_type": "OSM", "time": "30", "nuclearity": "single-nuclear"}, 863, 4),
        ("nfkb-macrophage", {}, 1140, 5),
    ],
)
def test_real_sets_are_read(name, where, n, n_inputs):
    cells = read_signaling_set(name, where=where)
    assert (len(cells), len(cells.inputs.labels)) == (n, n_inputs)
    check_counts(cells)


def test_every_signaling_set_is_in_the_catalogue():
    assert set(READINGS) <= set(datasets())
