"""Real pathways as sources, compressed responses, and the checkpoints that are shipped."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from isometry import story
from isometry.information.decoded import decode
from isometry_data.signaling import read_signaling_set
from isometry_signaling.dataset import CellTable
from isometry_signaling.pathways import PATHWAYS, equally_often
from isometry_signaling.train import APP, PRESETS, low_values
from isometry_signaling.truth import truth_of

EXAMPLE = Path(__file__).parents[3] / "examples" / "cells.csv"
SAME = 1e-6
needs_data = pytest.mark.skipif(
    not (Path(os.environ.get("ISOMETRY_DATA", "")) / "signaling" / "nfkb_tnf_jetka2019.csv.gz").is_file(),
    reason="ISOMETRY_DATA names no folder with signaling sets",
)


def cells_with(ligand: np.ndarray, stratum: np.ndarray) -> CellTable:
    n = len(stratum)
    return CellTable(ligand[:, None], np.eye(2)[stratum], np.empty((n, 0)), np.ones(n), stratum)


def test_doses_are_equally_often_however_many_cells_have_them() -> None:
    table = equally_often(cells_with(np.zeros((8, 1)), np.array([0] * 6 + [1] * 2)))
    np.testing.assert_allclose(table.weight @ table.environment, [4, 4])


def test_compression_is_linear_below_a_low_value_and_logarithmic_above() -> None:
    table = cells_with(np.concatenate([np.full((20, 1), -2.0), np.full((80, 1), 5.0)]), np.zeros(100, dtype=int))
    np.testing.assert_allclose(low_values(table), [2.0])
    settings = PRESETS["tiny"].changed(model={"low": (2.0,), "ligands": ("x",), "environment": "classes"})
    model, noise = APP.model(settings), torch.zeros(3, 2, 2)
    seen: list[torch.Tensor] = []
    model.encoder.register_forward_pre_hook(lambda _module, given: seen.append(given[0]))
    model.keep(torch.tensor([0.002, 2e4, 4e4]).view(3, 1, 1), noise)  # type: ignore[operator]
    small, large, twice = seen[0].flatten().tolist()
    assert small == pytest.approx(0.001, rel=SAME)
    assert twice - large == pytest.approx(np.log(2), rel=1e-5)


@needs_data
@pytest.mark.parametrize("name", PATHWAYS)
def test_cells_of_a_real_pathway_are_split_by_dose(name: str) -> None:
    settings = PRESETS["pathway"].changed(data={"source": name})
    data = APP.data(settings)
    settings = APP.learn(settings, data)
    n = len(settings.model.labels)
    np.testing.assert_allclose(settings.model.prior, np.full(n, 1 / n))
    assert len(data.test) > 1000  # type: ignore[arg-type]
    assert truth_of(settings.data) is None


@pytest.mark.parametrize(("name", "column"), [("cell", "dose"), ("nfkb", "dose_ng_ml")])
def test_a_shipped_checkpoint_says_how_likely_each_dose_is(name: str, column: str, tmp_path: Path) -> None:
    loaded = story.load(APP, name, device="cpu")
    file = EXAMPLE
    if name == "nfkb":
        file = tmp_path / "cells.csv"
        file.write_text("response_3,response_21,response_90,response_120\n0.4,0.5,0.3,0.3\n0.4,1.9,0.6,0.5\n", "utf-8")
    rows = story.predict(loaded, [file], tmp_path / "out.csv")
    labels = loaded.settings.model.labels
    assert all(sum(row[f"p_{label}"] for label in labels) == pytest.approx(1, abs=1e-5) for row in rows)
    assert float(rows[0][column]) < float(rows[1 if name == "nfkb" else -1][column])


@needs_data
@pytest.mark.slow
def test_long_time_courses_tell_more_in_the_proportion_of_their_directions() -> None:
    """A network of whitened directions reaches 0.92 bits, one made for these cells 0.978; of dealt inputs, none."""
    cells = read_signaling_set("nfkb-macrophage")
    ligand, course = cells.inputs.codes, cells.responses
    assert decode(ligand, course).capacity().value > 0.978
    dealt = np.random.default_rng(0).permutation(ligand)
    assert decode(dealt, course).capacity(0).value == pytest.approx(0, abs=0.01)
