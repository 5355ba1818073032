"""Where a run's cells come from: the simulated cascade, jointly Gaussian variables, real pathways, or your table."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from isometry.settings import Settings
from isometry_data.cascade.exact import box_of, joint_at_rest, ligand_given
from isometry_data.cascade.reactions import Cascade
from isometry_data.checksums import checksums
from pydantic import Field, PositiveFloat, PositiveInt

from isometry_signaling.dataset import CellTable, Names
from isometry_signaling.gaussian import GaussianPair, course_pair, points_like, vector_pair
from isometry_signaling.measured import measured
from isometry_signaling.pathways import PATHWAYS, pathway_cells

Array = np.ndarray


class SourceSettings(Settings):
    """Which cells to train, validate and test on."""

    source: Literal["cascade", "gaussian", "course", "nfkb", "stat", "laci", "files"] = "cascade"
    """cascade: ligand counts and genes of the simulated cascade; gaussian, course: a vector or a time course whose
    exact curve is known in closed form; nfkb, stat, laci: responses of real cells to doses that are equally often
    (`isometry_signaling.pathways`); files: yours."""
    is_exact: bool = False
    """cascade: every number of ligands with its probability in place of drawn cells. gaussian, course: the few points
    that have mean and covariance of the drawn cells, all that a linear network can learn from them."""
    n_train: PositiveInt = 8000
    n_valid: PositiveInt = 2000
    n_test: PositiveInt = 20_000
    """Cells; of an exact table: times that each number of ligands is met, with other noise."""
    doses: tuple[float, ...] = (0.5, 2.0, 5.0, 12.0)
    """cascade: mean number of ligands in each environment, equally often."""
    half_saturation: PositiveFloat = 4.0
    """cascade: ligands at which half of the receptors are active."""
    correlations: tuple[float, ...] = (0.95, 0.85, 0.7, 0.5)
    """gaussian: canonical correlations of ligand and environment."""
    n_ligands: PositiveInt = 6
    """gaussian: how many are met; those beyond the correlations tell nothing."""
    length: PositiveInt = 24
    """course: moments."""
    train: tuple[Path, ...] = ()
    """files: CSV, Parquet or AnnData, a row for each cell."""
    valid: tuple[Path, ...] = ()
    """files: if none, cells are set apart."""
    test: tuple[Path, ...] = ()
    """files: if none, cells are set apart."""
    input: str = "dose"
    """files: the column of the environment, a few values or names."""
    outputs: tuple[str, ...] = ("response*",)
    """files: columns of what a cell measures, or patterns of their names; in the order of time."""
    genes: tuple[str, ...] = ()
    """files: columns of expression, or patterns of their names."""
    is_course: bool = False
    """files: the outputs are one quantity at successive moments."""
    held_out: float = Field(default=0.2, gt=0, lt=0.5)
    """files, real cells: share for the test, and of the others for validation, where no file is named."""


class Sources(NamedTuple):
    """Cells by split, what identifies them, and what was met on the way."""

    train: CellTable
    valid: CellTable | None
    test: CellTable | None
    names: Names
    checksums: dict[str, str]
    notes: tuple[str, ...] = ()


CASCADE_NAMES = Names(("ligand",), ("gene",), "dose", ())


def cells_of(settings: SourceSettings, seed: int) -> Sources:
    """Draw or read. Raises ValueError or OSError with file and line for what cannot be used."""
    if settings.source == "files":
        return _files(settings, seed)
    if settings.source in PATHWAYS:
        found = pathway_cells(settings.source, settings.held_out, seed)
        notes = (PATHWAYS[settings.source].title,)
        return Sources(found.train, found.valid, found.test, found.names, checksums([found.file]), notes)
    identity = {"seed": str(seed)}
    if settings.source == "cascade":
        names = CASCADE_NAMES._replace(labels=tuple(f"{dose:g}" for dose in settings.doses))
        names = names._replace(genes=()) if settings.is_exact else names
        return Sources(*_cascade(settings, seed), names, identity)
    pair = pair_of(settings)
    train, valid, test = (
        gaussian_cells(pair, n, 3 * seed + i, settings.source == "course")
        for i, n in enumerate((settings.n_train, settings.n_valid, settings.n_test))
    )
    if settings.is_exact:
        train = _points(train)
    ligands = tuple(f"ligand_{i + 1}" for i in range(len(pair.noise)))
    return Sources(train, valid, test, Names(ligands, (), "environment", ()), identity)


def _files(settings: SourceSettings, seed: int) -> Sources:
    if not settings.train:
        raise ValueError("data.source is files, but data.train names none; give --data.train FILE ...")
    files = [*settings.train, *settings.valid, *settings.test]
    train, valid, test, names, notes = measured(settings, seed)
    return Sources(train, valid, test, names, checksums(files), notes)


# The cascade


def cascade_of(settings: SourceSettings) -> Cascade:
    """Raises ValueError where there is one environment only, of which nothing can be known."""
    if len(set(settings.doses)) < 2:
        found = ", ".join(f"{dose:g}" for dose in settings.doses)
        raise ValueError(f"data.doses {found}: expected two different doses or more; one alone tells nothing")
    return Cascade(ligand_means=settings.doses, half_saturation=settings.half_saturation)


@lru_cache(maxsize=4)
def at_rest(cascade: Cascade) -> Array:
    """The exact p(E, L, S, G) of cells that have been in their environment for ever; not to be written to."""
    joint = joint_at_rest(cascade)
    joint.setflags(write=False)
    return joint


def ligand_table(cascade: Cascade) -> Array:
    """[n_ligand, n_environments] the exact p(L, E), sum 1."""
    n = box_of(cascade).ligand
    joint = np.stack([p * ligand_given(cascade, e, n) for e, p in enumerate(cascade.prior)], axis=1)
    return joint / joint.sum()


def _cascade(settings: SourceSettings, seed: int) -> tuple[CellTable, CellTable, CellTable]:
    cascade = cascade_of(settings)
    sizes = (settings.n_train, settings.n_valid, settings.n_test)
    if settings.is_exact:
        joint = ligand_table(cascade)
        train, valid, test = (exact_cells(joint, 1 if i == 0 else n) for i, n in enumerate(sizes))
        return train, valid, test
    joint = at_rest(cascade)
    train, valid, test = (drawn_cells(joint, cascade, n, 3 * seed + i) for i, n in enumerate(sizes))
    return train, valid, test


def exact_cells(joint: Array, n_times: int) -> CellTable:
    """Every number of ligands `n_times`, by the frequency of the number; what genes do is left out."""
    frequency = joint.sum(1)
    stratum = np.repeat(np.arange(len(joint)), n_times)
    return CellTable(
        ligand=stratum[:, None, None].astype(float),
        environment=(joint / frequency[:, None])[stratum],
        genes=np.empty((len(stratum), 0)),
        weight=(frequency * len(joint))[stratum],
        stratum=stratum,
    )


def drawn_cells(joint: Array, cascade: Cascade, n_cells: int, seed: int) -> CellTable:
    """Cells from the exact p(E, L, S, G), as many from each environment as its probability says."""
    rng = np.random.default_rng(seed)
    counts = np.maximum(np.round(np.asarray(cascade.prior) * n_cells).astype(int), 2)
    drawn = [_drawn(one, int(n), rng) for one, n in zip(joint, counts, strict=True)]
    environments = np.repeat(np.arange(len(counts)), counts)
    ligand, _, gene = np.concatenate(drawn).T
    return CellTable(
        ligand=ligand[:, None, None].astype(float),
        environment=np.eye(len(counts))[environments],
        genes=gene[:, None].astype(float),
        weight=(np.asarray(cascade.prior) * counts.sum() / counts)[environments],
        stratum=environments,
    )


def _drawn(table: Array, n: int, rng: np.random.Generator) -> Array:
    """[n, 3] L, S and G."""
    drawn = rng.choice(table.size, size=n, p=table.ravel() / table.sum())
    return np.stack(np.unravel_index(drawn, table.shape), axis=1)


# Gaussian


def pair_of(settings: SourceSettings) -> GaussianPair:
    if settings.source == "course":
        return course_pair(settings.length)
    return vector_pair(settings.correlations, settings.n_ligands)


def gaussian_cells(pair: GaussianPair, n_cells: int, seed: int, is_course: bool) -> CellTable:
    x, y = pair.sample(n_cells, seed)
    return _gaussian_table(x, y, is_course, pair.controls(x, y))


def _points(cells: CellTable) -> CellTable:
    x, y = points_like(cells.ligand.reshape(len(cells), -1), cells.environment)
    return _gaussian_table(x, y, cells.ligand.shape[1] > 1, None)


def _gaussian_table(x: Array, y: Array, is_course: bool, controls: Array | None) -> CellTable:
    return CellTable(
        ligand=x[:, :, None] if is_course else x[:, None],
        environment=y,
        genes=np.empty((len(x), 0)),
        weight=np.ones(len(x)),
        stratum=np.zeros(len(x), dtype=int),
        controls=controls,
    )
