"""The signaling app as the engine sees it: settings, presets, and how data, model and objective come together."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from isometry.app import App, Data
from isometry.cli import script
from isometry.fit import FitSettings
from isometry.optim import OptimSettings
from isometry.run_settings import RunSettings
from pydantic import PositiveInt

from isometry_signaling.dataset import Cells, CellTable, Names, collate
from isometry_signaling.findings import findings
from isometry_signaling.measured import read_tables
from isometry_signaling.model import ModelSettings, SignalingModel, is_along_time
from isometry_signaling.objective import LossSettings, objective_of
from isometry_signaling.predict import predict
from isometry_signaling.sources import SourceSettings, cells_of
from isometry_signaling.symmetries import symmetries

_log = logging.getLogger(__name__)

LOW = 0.1  # share of the cells, below whose size a column is taken as it is
SMALLEST_VARIANCE = 1e-4  # of the largest: below, a direction of the ligand is not blown up


class SignalingSettings(RunSettings):
    """A run of the signaling app."""

    threads: PositiveInt | None = 1
    """Threads of one process on a CPU. None: torch's choice."""
    data: SourceSettings = SourceSettings()
    model: ModelSettings = ModelSettings()
    loss: LossSettings = LossSettings()


def data(settings: SignalingSettings) -> Data:
    found = cells_of(settings.data, settings.seed)
    sets = [
        None if table is None else _cells(table, found.names, settings, 3 * settings.seed + i)
        for i, table in enumerate((found.train, found.valid, found.test))
    ]
    train = sets[0]
    assert train is not None
    if is_along_time(settings.model) and train.table.ligand.shape[1] == 1:
        raise ValueError(
            f"model.encoder {settings.model.encoder} reads a time course, and these data have one moment; choose "
            "linear or mlp, or say --data.is-course if the outputs are moments"
        )
    counts = ", ".join(
        f"{len(of)} to {name}" for name, of in zip(("train", "validate", "test"), sets, strict=True) if of
    )
    return Data(train, sets[1], sets[2], found.checksums, (f"cells: {counts}", *found.notes))


def _cells(table: CellTable, names: Names, settings: SignalingSettings, seed: int) -> Cells:
    return Cells(table, names, settings.model.n_draws or 1, settings.model.n_state, seed)


def learn(settings: SignalingSettings, data: Data) -> SignalingSettings:
    """Shapes and names of the columns, the environments and how often they are met, means and scales."""
    train = data.train
    assert isinstance(train, Cells)
    table, names = train.table, train.names
    is_classes = bool(names.labels)
    share = table.weight @ table.environment / table.weight.sum()
    changes: dict[str, Any] = {
        "environment": "classes" if is_classes else "numbers",
        "length": table.ligand.shape[1],
        "n_channels": table.ligand.shape[2],
        "n_numbers": 0 if is_classes else table.environment.shape[1],
        "prior": tuple(share.tolist()) if is_classes else (),
        "labels": names.labels,
        "input": names.environment,
        "ligands": names.ligands,
        "genes": names.genes,
    }
    if names.genes:
        means, scales = np.nanmean(table.genes, 0), np.nanstd(table.genes, 0)
        changes |= {"gene_means": tuple(means.tolist())}
        changes |= {"gene_scales": tuple(np.where(scales > 0, scales, 1.0).tolist())}
    low = low_values(table) if settings.model.is_compressed else None
    shift, whitening = standardised(table, is_along_time(settings.model), low)
    changes |= {"low": () if low is None else tuple(low.tolist())}
    changes |= {"shift": tuple(shift.tolist()), "whitening": tuple(map(tuple, whitening.tolist()))}
    return settings.changed(model=changes)


def low_values(table: CellTable) -> np.ndarray:
    """[n] the size that a tenth of the cells stay below, of what cells meet."""
    sizes = np.abs(table.ligand.reshape(len(table), -1))
    low = np.quantile(sizes, LOW, axis=0)
    return np.where(low > 0, low, np.where(sizes.max(0) > 0, sizes.max(0), 1.0))


def standardised(table: CellTable, is_along_time: bool, low: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Mean [n], and the matrix [n, n] that gives what cells meet unit covariance, or unit variance at each moment."""
    x = table.ligand.reshape(len(table), -1)
    x = x if low is None else np.arcsinh(x / low)
    share = table.weight / table.weight.sum()
    mean = share @ x
    covariance = (x - mean).T * share @ (x - mean)
    if is_along_time:
        deviation = np.sqrt(np.diagonal(covariance))
        return mean, np.diag(1 / np.where(deviation > 0, deviation, 1.0))
    variances, directions = np.linalg.eigh(covariance)
    least = max(SMALLEST_VARIANCE * variances[-1], np.finfo(float).tiny)
    return mean, directions.T / np.sqrt(np.maximum(variances, least))[:, None]


def read(settings: SignalingSettings, files: Sequence[Path]) -> Cells:
    """Files with the columns that the network was trained on; environment and genes may be missing."""
    of = settings.model
    names = Names(of.ligands, of.genes, of.input, of.labels)
    table, notes = read_tables(files, names, of.length, of.n_numbers)
    for note in notes:
        _log.warning(note)
    return _cells(table, names, settings, settings.seed)


# Presets

OPTIM = OptimSettings(rate=1e-2, decay=0.0, clip=10.0)

CASCADE = SignalingSettings(
    model=ModelSettings(n_state=2),
    loss=LossSettings(beta=8.0),
    optim=OPTIM,
    fit=FitSettings(epochs=40, batch_size=512, average=0.99),
)
TABLE = FitSettings(epochs=600, batch_size=256, average=0.99, evaluate_every=50)
LINEAR = ModelSettings(encoder="linear", n_state=4, noise="shared", n_components=0, n_draws=None, decoder=0)
GAUSSIAN = SignalingSettings(
    data=SourceSettings(source="gaussian", is_exact=True, n_train=65_536, n_valid=2000, n_test=16_384),
    model=LINEAR,
    loss=LossSettings(beta=30.0),
    optim=OPTIM.changed(rate=2e-2),
    fit=TABLE.changed(average=0.95),
)

PRESETS = {
    "tiny": CASCADE.changed(data={"n_train": 4000, "n_test": 8000}, fit={"epochs": 25}),
    "cascade": SignalingSettings(
        data=SourceSettings(is_exact=True, n_train=1, n_valid=2, n_test=2),
        model=ModelSettings(state="categorical", n_state=48, decoder=0, n_draws=1),
        loss=LossSettings(beta=3.0),
        optim=OPTIM,
        fit=TABLE,
    ),
    "gaussian": GAUSSIAN,
    "pathway": SignalingSettings(
        data=SourceSettings(source="nfkb"),
        model=ModelSettings(width=16, n_layers=1, noise="shared", n_draws=4, decoder=16, is_compressed=True),
        loss=LossSettings(beta=20.0),
        optim=OPTIM,
        fit=FitSettings(epochs=30, batch_size=256, average=0.99),
    ),
    "course": SignalingSettings(
        data=SourceSettings(source="course", n_train=8000, n_test=32_768),
        model=ModelSettings(encoder="convolution", width=16, noise="shared", n_components=0, decoder=0),
        loss=LossSettings(beta=20.0),
        optim=OPTIM.changed(rate=5e-3),
        fit=FitSettings(epochs=30, batch_size=256, average=0.99),
    ),
}
"""tiny: drawn cells of the simulated cascade; cascade: its exact table and a state of kinds; gaussian: a linear network
on jointly Gaussian variables; pathway: real cells; course: a convolution along a time course."""

APP = App(
    name="signaling",
    settings=SignalingSettings,
    presets=PRESETS,
    data=data,
    learn=learn,
    collate=collate,
    model=lambda settings: SignalingModel(settings.model),
    objective=lambda settings: objective_of(settings.loss, settings.model.environment),
    read=read,
    predict=predict,
    report=findings,
    symmetries=symmetries,
)

if __name__ == "__main__":
    script("signaling")
