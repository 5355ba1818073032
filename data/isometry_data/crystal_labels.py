"""Energy, forces and stress of a structure as ASE read it, wherever the file had put them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from ase import Atoms

LABELS = ("energy", "forces", "stress")
TRUST = ("full", "diagonal", "none")


class Labels(NamedTuple):
    energy: float | None  # eV, of the whole cell
    forces: np.ndarray | None  # [n, 3] eV/Å, constraints not applied
    stress: np.ndarray | None  # [6] eV/Å³, xx yy zz yz xz xy, tension positive; NaN where unknown


def labels_of(atoms: Atoms) -> Labels:
    """The labels of one structure; raises ValueError (one line, without the file) where one is malformed.

    `REF_energy`, `REF_forces`, `REF_stress` go before the plain names: they are only ever written on purpose.
    A virial (eV) becomes -virial / volume where no stress is given. `stress_trust` in the comment line (`full`,
    `diagonal`, `none`) says how much of the stress may be believed; the rest becomes NaN, or no stress at all.
    """
    return Labels(_energy(atoms), _forces(atoms), _trusted(_stress(atoms), atoms.info.get("stress_trust", "full")))


def keys_of(atoms: Atoms) -> str:
    """What a file said of a structure beyond atoms and cell, for a message about what it did not say."""
    results = atoms.calc.results if atoms.calc is not None else {}
    return ", ".join(sorted({*results, *atoms.info, *atoms.arrays} - {"numbers", "positions"})) or "no labels at all"


def _found(atoms: Atoms, name: str) -> object:
    """What stands under `REF_<name>`, else under `<name>`, or None. ASE moves the known names to a calculator."""
    results = atoms.calc.results if atoms.calc is not None else {}
    for key in (f"REF_{name}", name):
        for place in (results, atoms.info, atoms.arrays):
            if place.get(key) is not None:
                return place[key]
    return None


def _numbers(value: object, name: str) -> np.ndarray:
    try:
        numbers = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} is {str(value)[:40]!r}, expected numbers") from None
    if not np.isfinite(numbers).all():
        raise ValueError(f"{name} is not finite (NaN or infinity); leave an unknown label out of the file")
    return numbers


def _energy(atoms: Atoms) -> float | None:
    value = _found(atoms, "energy")
    if value is None:
        return None
    energy = _numbers(value, "energy")
    if energy.size != 1:
        raise ValueError(f"energy has {energy.size} numbers, expected one (the total, in eV)")
    return float(energy.reshape(()))


def _forces(atoms: Atoms) -> np.ndarray | None:
    value = _found(atoms, "forces")
    if value is None:
        return None
    forces = _numbers(value, "forces")
    if forces.shape != (len(atoms), 3):
        raise ValueError(f"forces have shape {forces.shape}, expected ({len(atoms)}, 3)")
    return forces


def _stress(atoms: Atoms) -> np.ndarray | None:
    value = _found(atoms, "stress")
    if value is not None:
        return _voigt(_numbers(value, "stress"), "stress")
    virial = _found(atoms, "virial")
    volume = abs(np.linalg.det(np.asarray(atoms.cell)))
    if virial is None or volume == 0:
        return None
    return -_voigt(_numbers(virial, "virial"), "virial") / volume


def _voigt(tensor: np.ndarray, name: str) -> np.ndarray:
    """Six numbers xx yy zz yz xz xy from six, nine or 3x3; a tensor that is not symmetric is refused."""
    if tensor.shape == (6,):
        return tensor
    if tensor.size != 9:
        raise ValueError(f"{name} has shape {tensor.shape}, expected 6 numbers (xx yy zz yz xz xy) or 3x3")
    full = tensor.reshape(3, 3)
    if np.abs(full - full.T).max() > 1e-3 * np.abs(full).max() + 1e-6:  # a printed tensor's rounding passes
        raise ValueError(f"{name} is not symmetric: the rows are {full.tolist()}")
    full = (full + full.T) / 2
    return full[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]


def _trusted(stress: np.ndarray | None, trust: object) -> np.ndarray | None:
    if trust not in TRUST:
        raise ValueError(f"stress_trust is {trust!r}, expected one of {', '.join(TRUST)}")
    if stress is None or trust == "none":
        return None
    return np.where(np.arange(6) < 3, stress, np.nan) if trust == "diagonal" else stress
