"""A trained model, found by the name of its run, read, and scored."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from isometry.app import App, find_app
from isometry.checkpoint import MANIFEST, Checkpoint, Vault, read_checkpoint
from isometry.evaluate import evaluate
from isometry.fleet import Fleet, FleetSettings, choose_device
from isometry.order import Records
from isometry.precision import Precision, PrecisionSettings
from isometry.runfolder import RunFolder
from isometry.settings import differences, validated

NO_LABEL = (
    "no record has a label to compare with; name files with labels, as training reads them, or ask `isometry predict`, "
    "which needs none"
)


@dataclass(frozen=True)
class Loaded:
    """A trained model, ready to use."""

    app: App
    settings: Any
    model: nn.Module
    checkpoint: Checkpoint
    precision: Precision


def load(app: App, run: str | Path, *, device: str = "auto", dtype: str = "fp32") -> Loaded:
    """The model of a run folder (its best checkpoint), of a checkpoint folder, or of a checkpoint shipped with the app.

    Raises:
        FileNotFoundError: there is none of these under that name.
        ValueError: the checkpoint is damaged, of another app, or of a newer format.
    """
    checkpoint = find_checkpoint(app, run)
    settings = validated(app.settings, checkpoint.settings, f"{checkpoint.path}/{MANIFEST}, settings")
    precision = Precision(PrecisionSettings(dtype=dtype), choose_device(device))  # type: ignore[arg-type]
    model = app.model(settings)
    load_weights(model, checkpoint)
    model.to(device=precision.device, dtype=precision.parameter_dtype).eval()
    return Loaded(app, settings, model, checkpoint, precision)


def strided(loaded: Loaded, n: int | None) -> Loaded:
    """The same model, to read long records by windows that begin n apart; None: as the app does by itself.

    Raises ValueError for an app without such windows, and for n that is none.
    """
    if n is None:
        return loaded
    app = loaded.app
    if app.strided is None:
        raise ValueError(f"--stride {n}: the app {app.name} does not read records by windows; leave it out")
    if n < 1:
        raise ValueError(f"--stride {n}: windows cannot begin {n} apart; expected 1 or more")
    return replace(loaded, settings=app.strided(loaded.settings, n))


def shipped_checkpoints(app_name: str) -> list[str]:
    """Names of the checkpoints that come with an app."""
    folder = find_app(app_name).folder / "checkpoints"
    return sorted(path.parent.name for path in folder.glob(f"*/{MANIFEST}"))


def scored(
    loaded: Loaded, records: Records, fleet: Fleet | None = None
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Scores of a data set, and the measured rows they come from."""
    return evaluate(
        loaded.model,
        loaded.app.objective(loaded.settings),
        records,
        loaded.app.collate,
        batch_size=loaded.settings.fit.batch_size,
        tokens=loaded.settings.fit.tokens,
        precision=loaded.precision,
        fleet=fleet or Fleet(0, 1, loaded.precision.device, FleetSettings().shard),
    )


def own_test_set(loaded: Loaded) -> Records:
    """Raises ValueError if there is none, or if the data changed since the run: another split may hold known data."""
    app = loaded.app
    known = loaded.checkpoint.manifest["data"]
    if app.tested is not None:
        test, checksums = app.tested(loaded.settings)
        strange = [name for name, found in checksums.items() if not _is_of(name, found, known)]
        changed = [f"{name}: {checksums[name]!r} is none of theirs" for name in strange]
    else:
        data = app.data(loaded.settings)
        test, changed = data.test, differences(known, data.checksums)
    if changed:
        raise ValueError(
            f"the data are not those this model was trained on ({'; '.join(changed[:3])}); name files instead"
        )
    if test is None:
        raise ValueError(f"app {app.name}: these settings give no test set; name files to evaluate on")
    return test


def _is_of(name: str, checksum: str, known: dict[str, str]) -> bool:
    """Whether a file is one of those of a run. Among others the run may have had to name its folder, too."""
    return any(checksum == own and Path(name).name == Path(file).name for file, own in known.items())


def find_checkpoint(app: App, run: str | Path) -> Checkpoint:
    path = Path(run)
    if (path / MANIFEST).is_file():
        return read_checkpoint(path, app.name)
    if path.is_dir():
        return _best_of_run(app, RunFolder.existing(path))
    shipped = find_app(app.name).folder / "checkpoints" / str(run)
    if len(path.parts) == 1 and (shipped / MANIFEST).is_file():
        return read_checkpoint(shipped, app.name)
    names = ", ".join(shipped_checkpoints(app.name)) or "none"
    raise FileNotFoundError(f"{run}: no run folder, no checkpoint folder and no shipped checkpoint (shipped: {names})")


def _best_of_run(app: App, run: RunFolder) -> Checkpoint:
    newest = Vault(run.checkpoints).newest()
    if newest is None:
        raise FileNotFoundError(f"{run.path}: this run has no checkpoint yet")
    if newest.app != app.name:
        raise ValueError(f"{run.path}: a run of the app '{newest.app}', expected '{app.name}'")
    settings = validated(app.settings, newest.settings, f"{newest.path}/{MANIFEST}, settings")
    best = Vault(run.checkpoints, better=app.objective(settings).better).best()
    return best if best is not None else newest


def load_weights(model: nn.Module, checkpoint: Checkpoint) -> None:
    try:
        model.load_state_dict(checkpoint.weights())
    except RuntimeError as error:
        raise ValueError(f"{checkpoint.path}: the weights do not fit the model: {_second_line(error)}") from None


def _second_line(error: RuntimeError) -> str:
    return " ".join(str(error).split("\n")[1:2]).strip()
