"""`isometry capacity`: a table of cells in, bits, tables and a figure out; mistakes told in one line."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from isometry.cli import main
from isometry.information.channels import gaussian
from isometry_data.cell_tables import read_cells
from isometry_signaling.capacity import measure_capacity
from isometry_signaling.capacity_pictures import N_LEVELS, ZERO_APART, dose_places, levels_of

DOSES = ("0", "1", "10")
CHANNEL = gaussian([0.0, 2.0, 5.0])
NEAR = 0.12  # bits, from 210 cells
NOTHING = 0.04  # bits
FOLDER = os.environ.get("ISOMETRY_DATA", "")
needs_data = pytest.mark.skipif(
    not (Path(FOLDER) / "signaling").is_dir(), reason="ISOMETRY_DATA has no folder signaling"
)


def write_cells(path: Path, n_per_dose: int = 70, missing: int = 0) -> Path:
    x, y = CHANNEL.sample(n_per_dose, seed=2)
    day = np.arange(len(x)) % 2
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["dose_ng_ml", "day", "response_0", "response_1"])
        for i in range(len(x)):
            second = "" if i < missing else f"{np.sin(7.0 * i):.4f}"
            writer.writerow([DOSES[x[i]], "ab"[day[i]], f"{y[i, 0]:.4f}", second])
    return path


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """What the command said as JSON, and the folder that it wrote."""
    folder = tmp_path_factory.mktemp("capacity")
    path = write_cells(folder / "cells.csv", missing=20)
    with pytest.MonkeyPatch.context() as patch:
        said: list[str] = []
        patch.setattr("builtins.print", lambda *words, **_: said.append(" ".join(map(str, words))))
        arguments = ["--input", "dose_ng_ml", "--output", "response_*", "--batch", "day", "--json"]
        assert main(["capacity", str(path), *arguments, "--out", str(folder / "out")]) == 0
    return json.loads(said[-1]), folder / "out"


def test_capacity_and_information_come_with_intervals(measured):
    told, _ = measured
    truth = CHANNEL.capacity()
    for name, bits in (("capacity_bits", truth.bits), ("information_bits_uniform", CHANNEL.information())):
        found = told[name]
        assert set(found) == {"value", "low", "high"}
        assert found["low"] < found["value"] < found["high"]
        assert found["value"] == pytest.approx(bits, abs=NEAR)
    assert told["information_bits"]["value"] == pytest.approx(CHANNEL.information(), abs=NEAR)
    assert "lower bound" in told["bound"]
    assert abs(told["shuffled_capacity_bits"]["value"]) < NOTHING


def test_inputs_confusion_and_estimators_are_told(measured):
    told, _ = measured
    assert told["input"] == {"name": "dose_ng_ml", "unit": "ng/mL", "values": [0, 1, 10]}
    assert sum(told["optimal_inputs"].values()) == pytest.approx(1)
    confusion = np.array(told["confusion"])
    np.testing.assert_allclose(confusion.sum(axis=1), 1)
    assert (confusion.argmax(axis=1) == [0, 1, 2]).all()
    names = [row["estimator"] for row in told["estimators"]]
    for name in ("cross-fitted decoder", "nearest neighbours", "logistic regression, in sample", "histogram"):
        assert name in names


def test_what_was_left_out_and_its_pattern_are_told(measured):
    told, _ = measured
    assert told["n_cells"] == sum(told["n_cells_by_input"]) == 190
    assert told["left_out"] == ["20 cells with a missing response"]
    assert told["missing"]["pattern_capacity_bits"]["value"] > 0.05  # all of them had no dose


def test_a_batch_without_effect_is_told_as_nothing(measured):
    told, _ = measured
    assert abs(told["batch"]["information_bits"]["value"]) < NOTHING
    assert {name: of["n_cells"] for name, of in told["batch"]["capacity_bits_within"].items()} == {"a": 95, "b": 95}


def test_a_folder_gets_tables_numbers_and_the_figure(measured):
    told, folder = measured
    assert sorted(path.name for path in folder.iterdir()) == [
        "capacity.json",
        "capacity.png",
        "estimators.csv",
        "inputs.csv",
    ]
    assert json.loads((folder / "capacity.json").read_text()) == told
    rows = list(csv.DictReader((folder / "inputs.csv").open()))
    assert [row["dose_ng_ml"] for row in rows] == ["0.0", "1.0", "10.0"]
    assert (folder / "capacity.png").read_bytes().startswith(b"\x89PNG")


def test_zero_stands_left_of_the_lowest_dose_on_a_log_axis():
    places = dose_places(np.array([0, 0.1, 10.0]), 3)
    np.testing.assert_allclose(places, [-1 - ZERO_APART, -1, 1])
    np.testing.assert_array_equal(dose_places(None, 3), [0, 1, 2])


@pytest.mark.parametrize("step", [1.0, 0.25])
@pytest.mark.parametrize("mean", [3.0, 40.0, 900.0])
def test_each_level_of_a_map_holds_as_many_counts(mean, step):
    counts = np.random.default_rng(0).poisson(mean, 4000)
    levels = levels_of(step * counts) / step
    assert 2 <= len(levels) <= N_LEVELS + 1
    held = np.histogram(np.arange(counts.max() + 1), levels)[0]
    assert held.min() == held.max() >= 1
    assert ((counts > levels[0]) & (counts < levels[-1])).mean() > 0.99


def test_a_map_of_measured_values_has_even_levels():
    y = np.random.default_rng(0).normal(size=4000)
    levels = levels_of(np.append(y, np.nan))
    assert len(levels) == N_LEVELS + 1
    np.testing.assert_allclose(levels[[0, -1]], np.quantile(y, [0.002, 0.998]), atol=0.1)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--input", "dose"], "no column 'dose'; did you mean 'dose_ng_ml'?"),
        (["--input", "dose_ng_ml", "--output", "x*"], "no column is called 'x*'"),
        (["--input", "dose_ng_ml", "--where", "day=c"], "no row has day = 'c'"),
        (["--input", "dose_ng_ml", "--seed", "-1"], "--seed -1: expected 0 or more"),
        (["--input", "dose_ng_ml", "--where", "day"], "expected COLUMN=VALUE"),
        (["--input", "dose_ng_ml", "--where", "dose_ng_ml=10"], "one dose only"),
        (["--input", "dose_ng_ml", "--output", "dose*"], "name a column of what was measured"),
        (["--input", "dose_ng_ml", "--out", "/proc/bits"], "/proc/bits: cannot be written in the folder /proc"),
        (["--input", "dose_ng_ml", "--out", "/proc/bits.csv"], "cannot be written in the folder /proc"),
        (["--input", "dose_ng_ml", "--out", "bits.xls"], "no format is known by the ending '.xls'"),
        (["--input", "dose_ng_ml"], "too few cells of 3 of 3 inputs"),
        (["--input", "dose_ng_ml", "--group", "day"], "too few cells"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, capsys, arguments, told):
    path = write_cells(tmp_path / "cells.csv", n_per_dose=4)
    assert main(["capacity", str(path), *arguments]) == 1
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert sorted(child.name for child in tmp_path.iterdir()) == ["cells.csv"]


@pytest.mark.parametrize(
    ("name", "out", "told"),
    [
        ("cells.csv", "cells.csv", "is one of the files to read"),
        ("inputs.csv", ".", "is one of the files to read"),
        ("cells", "cells/out", "is a file, expected a folder"),
    ],
)
def test_no_table_is_lost_to_its_own_results(tmp_path, capsys, name, out, told):
    path = write_cells(tmp_path / name, n_per_dose=10)
    before = path.read_bytes()
    arguments = ["capacity", str(path), "--input", "dose_ng_ml", "--out", str(tmp_path / out)]
    assert main(arguments) != 0
    assert told in capsys.readouterr().err
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_too_few_groups_of_a_dose_are_told_with_the_dose(tmp_path):
    cells = read_cells(write_cells(tmp_path / "cells.csv", 20), inputs=["dose_ng_ml"], group="day")
    with pytest.raises(ValueError, match=r"dose_ng_ml = 0 come from 2 group\(s\), expected 3.*--group"):
        measure_capacity(cells)


def test_batches_that_are_groups_do_not_end_the_analysis(tmp_path):
    cells = read_cells(write_cells(tmp_path / "cells.csv", 30), inputs=["dose_ng_ml"])
    well = np.arange(len(cells)) % 5
    cells = replace(cells, batch=well, batch_names=tuple("abcde"), group=well)
    found = measure_capacity(cells, n_steps=20)
    assert found.batch is None
    assert found.within == {}


def test_no_complete_cell_names_the_way_out(tmp_path):
    cells = read_cells(write_cells(tmp_path / "cells.csv", 4, missing=10), inputs=["dose_ng_ml"])
    with pytest.raises(ValueError, match=r"no cell has all 2 responses.*--missing keep"):
        measure_capacity(cells.chosen(~cells.is_complete))


@needs_data
@pytest.mark.slow
def test_the_published_capacity_of_a_real_pathway_is_reached(capsys):
    """Jetka et al. 2019 by SLEMI: 0.971 bits 21 min after TNF."""
    path = Path(FOLDER) / "signaling" / "nfkb_tnf_jetka2019.csv.gz"
    assert main(["capacity", str(path), "--input", "dose_ng_ml", "--output", "response_21", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["capacity_bits"]["value"] > 0.96
    assert abs(told["shuffled_capacity_bits"]["value"]) < 0.01
