"""Measured cells: reading, setting apart, predicting, and the errors a user meets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from isometry import story
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
    ],
)
def test_a_wrong_table_is_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        APP.data(settings_of(written(tmp_path / "cells.csv", text=text)))


def test_no_file_is_named() -> None:
    with pytest.raises(ValueError, match=r"data\.train names none"):
        APP.data(PRESETS["tiny"].changed(data={"source": "files"}))
