"""What an app is: a record of functions and a settings class. Nothing to inherit, nothing to register.

A package called `isometry_<name>` with the files of an app (see `APP_FILES`) is an app, wherever it is installed from;
its `train.py` holds the record under the name `APP`.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:  # `isometry apps` answers without loading torch
    from matplotlib.figure import Figure
    from torch import nn

    from isometry.objective import Objective
    from isometry.order import Records
    from isometry.run_settings import RunSettings
    from isometry.symmetry import Symmetry

PREFIX = "isometry_"
APP_FILES = ("dataset.py", "model.py", "objective.py", "train.py", "predict.py")


@dataclass(frozen=True)
class Data:
    """A run's data sets and what identifies them."""

    train: Records
    valid: Records | None
    test: Records | None
    checksums: dict[str, str]
    """sha256 of each file that was read, by name; stored with every checkpoint."""
    notes: tuple[str, ...] = ()
    """What a user should know about the data: counts, what was left out and why."""


@dataclass(frozen=True)
class Findings:
    """What an app adds to a run's report."""

    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    figures: dict[str, Figure] = field(default_factory=dict)


@dataclass(frozen=True)
class App:
    """A scientific question as the engine sees it. `S` below is the app's settings class."""

    name: str
    settings: type[RunSettings]
    presets: Mapping[str, RunSettings]
    """Ready-made settings by name; `tiny` (embedded data, under a minute) must be among them."""
    data: Callable[[Any], Data]
    """`data(settings)`: reads and splits."""
    learn: Callable[[Any, Data], Any]
    """`learn(settings, data)`: the settings, completed by what the training data say (means, scales, sizes)."""
    collate: Callable[[list[Any]], Any]
    """Items of a data set -> a batch."""
    model: Callable[[Any], nn.Module]
    """`model(settings)`: a freshly initialised network."""
    objective: Callable[[Any], Objective]
    """`objective(settings)`: loss and scores."""
    read: Callable[[Any, Sequence[Path]], Records]
    """`read(settings, files)`: a user's files as records; labels may be missing."""
    predict: Callable[[nn.Module, Any, Any, Path | None], list[dict[str, Any]]]
    """`predict(model, settings, records, out)`: one row of results per record or part of it. Formats of the field that
    `out` asks for by its ending are written here; tables are written by the engine."""
    to_predict: Callable[[Any, Sequence[Path]], Records] | None = None
    """`to_predict(settings, files)`: as `read`, without labels, where they take time to make. None: `read`."""
    own_formats: tuple[str, ...] = ()
    """Endings of `out` that `predict` writes itself, such as ".extxyz"."""
    report: Callable[[Any, Any, Data], Findings] | None = None
    """`report(model, settings, data)`: tables and figures beside the curves."""
    together: Callable[[Sequence[nn.Module]], nn.Module] | None = None
    """`together(models)`: one network whose predictions are the means of theirs. None: rows of results are averaged."""
    tested: Callable[[Any], tuple[Records | None, dict[str, str]]] | None = None
    """`tested(settings)`: `data`'s test set and the checksums of the files that it alone needs. None: `data`."""
    strided: Callable[[Any, int], Any] | None = None
    """`strided(settings, n)`: the settings with which `predict` reads long records by windows that begin n apart. None:
    it has no such windows."""
    symmetries: Callable[[Any], Sequence[Symmetry]] = lambda settings: ()
    """`symmetries(settings)`: what holds for every model of the app, whatever its weights; the doctor measures it."""


class AppEntry(NamedTuple):
    """An installed app as the command line lists it."""

    name: str
    package: str
    folder: Path
    summary: str


def find_apps() -> dict[str, AppEntry]:
    """Every installed package `isometry_<name>` that has an app's files, by name; none of them is imported."""
    entries = {}
    for module in pkgutil.iter_modules():
        if module.ispkg and module.name.startswith(PREFIX):
            spec = importlib.util.find_spec(module.name)
            folder = Path(spec.origin).parent if spec and spec.origin else None
            if folder and all((folder / file).is_file() for file in APP_FILES):
                name = module.name.removeprefix(PREFIX)
                entries[name] = AppEntry(name, module.name, folder, _summary(folder / "__init__.py"))
    return dict(sorted(entries.items()))


def find_app(name: str) -> AppEntry:
    """The entry of one app. Raises ValueError that lists what is installed."""
    entries = find_apps()
    if name not in entries:
        known = ", ".join(entries) or "none"
        raise ValueError(f"no app called '{name}' is installed; installed: {known}")
    return entries[name]


def find_verbs() -> list[tuple[str, Path]]:
    """Module and file of every command that an installed app adds, in the folder `verbs` of its package."""
    return [
        (f"{entry.package}.verbs.{file.stem}", file)
        for entry in find_apps().values()
        for file in sorted((entry.folder / "verbs").glob("[!_]*.py"))
    ]


def load_app(name: str) -> App:
    """Import an app and return its record. Raises ValueError where the package does not hold one."""
    entry = find_app(name)
    try:
        app = getattr(importlib.import_module(f"{entry.package}.train"), "APP", None)
    except (ImportError, SyntaxError) as error:
        raise ValueError(f"{entry.folder / 'train.py'}: cannot be imported: {error}") from error
    if not isinstance(app, App):
        raise ValueError(f"{entry.folder / 'train.py'}: expected APP = isometry.App(...), found {type(app).__name__}")
    return app


def preset(app: App, name: str) -> Any:
    """The settings of a preset. Raises ValueError that lists the presets."""
    if name not in app.presets:
        raise ValueError(f"app {app.name} has no preset '{name}'; it has: {', '.join(app.presets)}")
    return app.presets[name]


def _summary(file: Path) -> str:
    """The first line of a module's docstring, read without running it."""
    try:
        docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    except (SyntaxError, ValueError, OSError):
        return f"cannot be read: {file}"  # one broken package must not hide the others
    return docstring.partition("\n")[0]
