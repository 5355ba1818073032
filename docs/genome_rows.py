"""What tables of the genome app are made of: runs, scores of one number for each record, and rows as cells."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
from isometry.app import Data, load_app
from isometry.loaded import load
from isometry.story import train
from isometry_genome.model import GenomeModel
from isometry_genome.scores import class_scores

Row = dict[str, Any]


def trained(
    preset: str, name: str, seed: int, runs: Path, changes: Row
) -> tuple[GenomeModel, Data, dict[str, float], float]:
    return trained_as(load_app("genome").presets[preset].changed(seed=seed, **changes), name, runs)


def trained_as(settings: Any, name: str, runs: Path) -> tuple[GenomeModel, Data, dict[str, float], float]:
    """The best weights of a run, its data, the scores of its test set, and the CPU seconds of all that."""
    before, app = time.process_time(), load_app("genome")
    done = train(app, settings, runs / name, is_quiet=True)
    seconds = time.process_time() - before
    model = load(app, done.folder).model
    assert isinstance(model, GenomeModel)
    return model.eval(), app.data(settings), done.scores["test"], seconds


def of_values(values: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Scores of one number for each record, positive for the second class."""
    scores, said = class_scores(np.stack([-values, values], 1) / 2, labels), values > 0
    sides = {"sensitivity": said[labels == 1].mean(), "specificity": (~said[labels == 0]).mean()}
    return {key: scores[key] for key in ("auroc", "mcc")} | {key: float(value) for key, value in sides.items()}


def groups(rows: list[Row], key: str) -> list[tuple[Any, list[Row]]]:
    """In the order of their first rows; contexts rise."""
    names = list(dict.fromkeys(row[key] for row in rows))
    return [(n, [row for row in rows if row[key] == n]) for n in (sorted(names) if key == "context" else names)]


def mean(rows: list[Row], key: str) -> float:
    return statistics.mean(row[key] for row in rows)


def spread(rows: list[Row], key: str, digits: int = 3) -> str:
    """Mean, and standard deviation over folds and seeds."""
    values = [row[key] for row in rows]
    around = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(rows, key):.{digits}f}{around}"
