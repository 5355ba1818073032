"""Crystal and molecule files to checked records in Å, eV, eV/Å and eV/Å³, and predictions back to files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from isometry_data.crystal_checks import check_structure
from isometry_data.crystal_files import structures_in
from isometry_data.crystal_labels import LABELS, keys_of, labels_of
from isometry_data.neighbours import neighbours

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["LABELS", "CrystalRecord", "label_counts", "neighbours", "read_crystals", "record_of", "write_crystals"]

_LABEL_KEYS = {f"{prefix}{name}" for prefix in ("", "REF_") for name in (*LABELS, "virial")}


@dataclass(frozen=True, eq=False)
class CrystalRecord:
    """One structure with the labels its file had; what is not known is None."""

    numbers: np.ndarray  # [n] int64, atomic numbers
    positions: np.ndarray  # [n, 3] Å
    cell: np.ndarray  # [3, 3] Å, rows are the vectors; zeros where there is none
    pbc: np.ndarray  # [3] bool
    energy: float | None = None  # eV, of the whole cell
    forces: np.ndarray | None = None  # [n, 3] eV/Å
    stress: np.ndarray | None = None  # [6] eV/Å³, xx yy zz yz xz xy, ASE's sign (tension positive); NaN = unknown
    source: str = "memory"  # the file
    frame: int = 0  # its number in the file, from 0
    info: dict[str, str | float | int | bool] = field(default_factory=dict)  # what else the file said of it

    @property
    def n_atoms(self) -> int:
        return len(self.numbers)

    @property
    def volume(self) -> float:
        """Å³ of the cell; zero where it has none."""
        return float(abs(np.linalg.det(self.cell)))

    @property
    def label(self) -> str:
        """How messages name this record: `train.xyz, frame 3`."""
        return f"{self.source}, frame {self.frame}"

    def to_atoms(self) -> Atoms:
        """An ASE Atoms with the known labels attached; a stress with unknown entries stays behind."""
        from ase import Atoms
        from ase.calculators.singlepoint import SinglePointCalculator

        atoms = Atoms(
            numbers=self.numbers, positions=self.positions, cell=self.cell, pbc=self.pbc, info=dict(self.info)
        )
        known = {"energy": self.energy, "forces": self.forces, "stress": self.stress}
        results = {name: value for name, value in known.items() if value is not None and np.isfinite(value).all()}
        if results:
            atoms.calc = SinglePointCalculator(atoms, **results)
        return atoms


def read_crystals(
    path: str | os.PathLike[str], index: int | str | slice = ":", *, require: Sequence[str] = ()
) -> list[CrystalRecord]:
    """Reads every format ASE knows (extended XYZ, CIF, POSCAR, vasprun.xml, traj, ...), also .xz, .gz and .bz2.

    Args:
        index: which frames, as ASE writes it: `3`, `-1`, `":100"`, `"::10"`.
        require: labels each frame must have, of `energy`, `forces`, `stress`.
    Raises:
        FileNotFoundError: no such file.
        ValueError: one line with file and frame: not a structure file, empty, cut off, no frames, a position or
            label that is not finite or of the wrong shape, overlapping atoms, unknown element, singular cell, partial
            occupancy, or a required label missing.
    """
    unknown = sorted(set(require) - set(LABELS))
    if unknown:
        raise ValueError(f"cannot require {', '.join(unknown)}; the labels are {', '.join(LABELS)}")
    found = structures_in(path, index)
    return [record_of(atoms, source=str(path), frame=frame, require=require) for frame, atoms in found]


def record_of(atoms: Atoms, *, source: str = "memory", frame: int = 0, require: Sequence[str] = ()) -> CrystalRecord:
    """The checked record of an ASE Atoms; ValueError as in `read_crystals`, naming `source` and `frame`."""
    try:
        check_structure(atoms)
        labels = labels_of(atoms)
        for name in require:
            if getattr(labels, name) is None:
                raise ValueError(f"no {name}, expected under `{name}` or `REF_{name}`; the file has {keys_of(atoms)}")
    except ValueError as error:
        raise ValueError(f"{source}, frame {frame}: {error}") from None
    return CrystalRecord(
        numbers=atoms.numbers.astype(np.int64),
        positions=atoms.positions.astype(np.float64),
        cell=np.array(atoms.cell, dtype=np.float64),
        pbc=np.array(atoms.pbc, dtype=bool),
        energy=labels.energy,
        forces=labels.forces,
        stress=labels.stress,
        source=source,
        frame=frame,
        info=_plain(atoms.info),
    )


def label_counts(records: Sequence[CrystalRecord]) -> str:
    """`214 energies, 214 forces, 202 stresses`: what a set of records is labelled with."""
    n_energies, n_forces, n_stresses = (sum(getattr(r, name) is not None for r in records) for name in LABELS)
    return f"{n_energies} energies, {n_forces} forces, {n_stresses} stresses"


def write_crystals(
    path: str | os.PathLike[str], records: Sequence[CrystalRecord], predictions: Sequence[Mapping[str, Any]]
) -> None:
    """Writes extended XYZ (.xyz, .extxyz, also compressed) with the predicted labels in place of the known ones.

    Args:
        predictions: one mapping per record with some of `energy` (eV), `forces` [n, 3] (eV/Å), `stress` [6] (eV/Å³).
    The file appears whole or not at all: it is written beside and renamed.
    """
    if len(records) != len(predictions):
        raise ValueError(f"{len(records)} records but {len(predictions)} predictions; expected one for each")
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: no such folder to write {path.name} in")
    images = [_predicted(record, dict(prediction)) for record, prediction in zip(records, predictions, strict=True)]
    from ase.io import write

    beside = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        write(str(beside), images, format="extxyz")
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _predicted(record: CrystalRecord, prediction: dict[str, Any]) -> Atoms:
    """The structure with the prediction as its calculator's results; a trust in the old stress is dropped."""
    from ase.calculators.singlepoint import SinglePointCalculator

    shapes = {"energy": (), "forces": (record.n_atoms, 3), "stress": (6,)}
    for name, value in prediction.items():
        if name not in shapes:
            raise ValueError(f"{record.label}: unknown prediction {name!r}; expected {', '.join(LABELS)}")
        if np.shape(value) != shapes[name]:
            raise ValueError(f"{record.label}: predicted {name} has shape {np.shape(value)}, expected {shapes[name]}")
    atoms = record.to_atoms()
    atoms.info.pop("stress_trust", None)
    atoms.calc = SinglePointCalculator(atoms, **prediction)
    return atoms


def _plain(info: Mapping[str, Any]) -> dict[str, str | float | int | bool]:
    """The scalar entries of ASE's info; labels have their own fields, arrays and objects stay in the file."""
    scalars = {key: value.item() if isinstance(value, np.generic) else value for key, value in info.items()}
    return {k: v for k, v in scalars.items() if k not in _LABEL_KEYS and isinstance(v, str | float | int | bool)}
