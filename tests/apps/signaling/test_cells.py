"""Measured cells: reading, setting apart, predicting, and the errors a user meets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from isometry import story
from isometry_signaling.readings import joined, readings_of
from isometry_signaling.train import APP, PRESETS, SignalingSettings, read

HEADER = "cell,dose,response_1,response_2,gene_a\n"


def written(path: Path, n: int = 60, text: str | None = None) -> Path:
    rng = np.random.default_rng(0)
    doses = ["0", "1.0", "10"] * (n // 3)
    rows = [f"{i},{dose},{float(dose) + rng.normal():.4f},{rng.normal():.4f},{i % 7}" for i, dose in enumerate(doses)]
    path.write_text(HEADER + "\n".join(rows) + "\n" if text is None else text, encoding="utf-8")
    return path


def settings_of(file: Path, **data: object) -> SignalingSettings:
    source = {"source": "files", "train": (file,), "outputs": ("response_*",), "genes": ("gene_*",)}
    return PRESETS["tiny"].changed(
        data=source | data, model={"width": 8, "n_draws": 2}, fit={"epochs": 2, "batch_size": 16}, device="cpu"
    )


def test_measured_cells_are_split_by_environment_and_weighted_as_in_training(tmp_path: Path) -> None:
    data = APP.data(settings_of(written(tmp_path / "cells.csv")))
    settings = APP.learn(settings_of(tmp_path / "cells.csv"), data)
    assert settings.model.labels == ("0", "1", "10")
    assert settings.model.ligands == ("response_1", "response_2")
    assert (len(data.train), len(data.valid), len(data.test)) == (39, 9, 12)  # type: ignore[arg-type]
    share = data.test.table.weight @ data.test.table.environment  # type: ignore[union-attr]
    np.testing.assert_allclose(share / share.sum(), settings.model.prior)


def test_a_trained_network_predicts_a_row_for_each_cell(tmp_path: Path) -> None:
    file = written(tmp_path / "cells.csv")
    story.train(APP, settings_of(file), tmp_path / "run", is_quiet=True)
    bare = tmp_path / "bare.csv"
    lines = [line.split(",") for line in file.read_text(encoding="utf-8").splitlines()]
    bare.write_text("\n".join(",".join(line[2:4]) for line in lines), encoding="utf-8")
    rows = story.predict(story.load(APP, tmp_path / "run", device="cpu"), [bare], tmp_path / "out.csv")
    assert len(rows) == 60
    assert sum(rows[0][f"p_{label}"] for label in ("0", "1", "10")) == pytest.approx(1, abs=1e-5)
    assert {"cell", "state_1", "state_2", "dose", "gene_a", "paid_bits", "gained_bits"} <= set(rows[0])
    assert all(row["paid_bits"] > -1 for row in rows)
    loaded = story.load(APP, tmp_path / "run", device="cpu")
    assert story.evaluate(loaded, [file])["accuracy"] > 0
    with pytest.raises(ValueError, match="no record has a label"):
        story.evaluate(loaded, [bare])


def test_a_cell_with_a_missing_value_is_left_out_and_told(tmp_path: Path) -> None:
    file = written(tmp_path / "cells.csv")
    file.write_text(file.read_text(encoding="utf-8") + "60,1.0,,0.3,2\n", encoding="utf-8")
    assert any("1 of 61 cells left out" in note for note in APP.data(settings_of(file)).notes)


def test_cells_keep_their_numbers_where_others_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "cells.csv"
    file.write_text("response_a\n1\nnan\n2\n", encoding="utf-8")
    part = readings_of(file, ["response_a"], [], "dose", is_labelled=False)
    np.testing.assert_array_equal(joined([part, part]).numbers, [1, 3, 4, 6])


def test_a_number_beyond_float32_is_told_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "cells.csv"
    file.write_text("response_a\n1\n1e300\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"line 3, column 'response_a': found 1e\+300"):
        readings_of(file, ["response_a"], [], "dose", is_labelled=False)


def test_outputs_in_the_order_of_time_are_a_course(tmp_path: Path) -> None:
    settings = settings_of(written(tmp_path / "cells.csv"), is_course=True).changed(model={"encoder": "recurrent"})
    data = APP.data(settings)
    settings = APP.learn(settings, data)
    assert (settings.model.length, settings.model.n_channels) == (2, 1)
    table = read(settings, [tmp_path / "cells.csv"]).table
    np.testing.assert_allclose(table.ligand[:39].shape, (39, 2, 1))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("dose,response_1,gene_a\n" + "1,2,3\n" * 30, "expected at least two environments"),
        ("dose,response_1,gene_a\n" + "".join(f"{i},2,3\n" for i in range(30)), "10 cells of each"),
        ("dose,response_1,gene_a\n" + "1,2,3\n0,high,3\n" * 20, "line 3.*'high', expected a number"),
        ("dose,response_1,response_1\n" + "1,2,3\n" * 20, "response_1"),
        ("amount,response_1,gene_a\n" + "1,2,3\n" * 20, "no column 'dose'"),
        ("dose,signal,gene_a\n" + "1,2,3\n" * 20, "response_"),
        ("dose,response_1,gene_a\n" + "1,,3\n0,,2\n" * 20, "no cell has a number"),
        ("dose,response_1,gene_a\n" + "1,4,3\n0,4,2\n" * 20, "'response_1' is 4 in every cell.*leave it out"),
        ("dose,response_1,gene_a\n" + "1,2,3\n0,3,2\n" * 5, r"values of 'dose': 0 \(5\), 1 \(5\).*measure more"),
        ("dose,response_1,gene_a\n" + "1,2,3\n0,3,2\n" * 20 + "5,1,1\n", r"too few cells of 1 of 3.*5 \(1\)"),
        ("dose,response_1,gene_a\n" + "1 ng/mL,2,3\n1 nM,3,2\n" * 20, "line 3, column 'dose': found '1 nM'.*units"),
        ("dose,response_1,gene_a\n" + "1 ng/mL,2,3\n5,3,2\n" * 20, "line 3, column 'dose': found '5'.*units"),
        ("dose,response_1,gene_a\n" + "1,2,3\n,3,2\n" * 20, "line 3, column 'dose': found nothing.*leave the row"),
        ("dose,response_1,gene_a\n" + "1,2,3\n0,inf,2\n" * 20, "line 3, column 'response_1': found an infinite"),
    ],
)
def test_a_wrong_table_is_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        APP.data(settings_of(written(tmp_path / "cells.csv", text=text)))


def test_an_input_among_the_outputs_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="name the input 'dose', too"):
        APP.data(settings_of(written(tmp_path / "cells.csv"), outputs=("dose", "response_*")))


def test_doses_of_one_kind_of_unit_are_one_dose(tmp_path: Path) -> None:
    text = "dose,response_1,gene_a\n" + "0,1,3\n1 ng/mL,2,3\n1000 pg/mL,3,2\n" * 20
    settings = settings_of(written(tmp_path / "cells.csv", text=text))
    assert APP.learn(settings, APP.data(settings)).model.labels == ("0 ng/mL", "1 ng/mL")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("response_1,other\n1,2\n", "no column 'response_2'"),
        ("response_1,response_2\n1,high\n", "line 2, column 'response_2': found 'high', expected a number"),
        ("response_1,response_2\n,2\nnan,1\n", "no cell has a number in each of response_1, response_2"),
        ("response_1,response_2,response_2\n1,2,3\n", "columns 2 and 3 have one name, 'response_2'; rename"),
    ],
)
def test_cells_that_cannot_be_predicted_are_named(tmp_path: Path, text: str, says: str) -> None:
    settings = settings_of(written(tmp_path / "cells.csv"))
    settings = APP.learn(settings, APP.data(settings))
    with pytest.raises(ValueError, match=says):
        read(settings, [written(tmp_path / "new.csv", text=text)])


def test_no_file_is_named() -> None:
    with pytest.raises(ValueError, match=r"data\.train names none"):
        APP.data(PRESETS["tiny"].changed(data={"source": "files"}))
