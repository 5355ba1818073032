"""Bulk properties that a potential should reproduce: equation of state and elastic constants of a cubic crystal.

Every function takes an ASE calculator, so a model and a reference are treated alike.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from ase import Atoms, units
from ase.constraints import FixCom
from ase.eos import EquationOfState
from ase.optimize import BFGS

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator

NORMAL_STRAIN = SHEAR_STRAIN = 0.005  # small enough for linear response, large enough for fp32 stresses
FORCE_TOLERANCE = 1e-3  # eV/Å, of relaxed ions
MOST_STEPS = 200


class EquationOfStateFit(NamedTuple):
    """A Birch–Murnaghan fit."""

    volumes: np.ndarray
    """[n] Å³ per atom"""
    energies: np.ndarray
    """[n] eV per atom"""
    volume: float
    """Å³ per atom at the minimum"""
    energy: float
    """eV per atom at the minimum"""
    bulk_modulus: float
    """GPa"""
    slope: float
    """dB/dp at the minimum"""


class ElasticConstants(NamedTuple):
    """Of a cubic crystal, GPa; C44 with relaxed and with clamped ions."""

    c11: float
    c12: float
    c44: float
    c44_clamped_ions: float


def equation_of_state(crystal: Atoms, calculator: Calculator, volumes: Sequence[float]) -> EquationOfStateFit:
    """Energies of `crystal` scaled to each volume (Å³ per atom), and the fit through them.

    Source: Birch 1947, Phys. Rev. 71, 809. Raises ValueError when the energies have no minimum in the range.
    """
    energies = [_energy_per_atom(_scaled(crystal, volume), calculator) for volume in volumes]
    fit = EquationOfState(list(volumes), energies, eos="birchmurnaghan")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fit that fails is named below
        try:
            volume, energy, modulus = (float(value) for value in fit.fit(warn=False))
        except (RuntimeError, ValueError):
            volume = energy = modulus = float("nan")
    if not (min(volumes) <= volume <= max(volumes) and modulus > 0):
        raise ValueError(f"the energies between {min(volumes):.2f} and {max(volumes):.2f} Å³ per atom have no minimum")
    slope = float(fit.eos_parameters[2])
    return EquationOfStateFit(np.array(volumes), np.array(energies), volume, energy, modulus / units.GPa, slope)


def elastic_constants(crystal: Atoms, calculator: Calculator) -> ElasticConstants:
    """From stresses of strained copies of `crystal`, a cubic cell at rest with its axes along x, y and z."""
    stretched, compressed = (_stress(_strained(crystal, 0, e), calculator) for e in (NORMAL_STRAIN, -NORMAL_STRAIN))
    c11, c12 = ((stretched - compressed) / (2 * NORMAL_STRAIN))[:2]
    sheared = _strained(crystal, 3, SHEAR_STRAIN)
    clamped = _stress(sheared, calculator)[3] / (2 * SHEAR_STRAIN)
    sheared.calc = calculator
    sheared.set_constraint(FixCom())
    BFGS(sheared, logfile=None).run(fmax=FORCE_TOLERANCE, steps=MOST_STEPS)
    relaxed = _stress(sheared, calculator)[3] / (2 * SHEAR_STRAIN)
    return ElasticConstants(float(c11), float(c12), float(relaxed), float(clamped))


def _scaled(crystal: Atoms, volume_per_atom: float) -> Atoms:
    copy = crystal.copy()
    factor = (volume_per_atom * len(copy) / copy.get_volume()) ** (1 / 3)
    copy.set_cell(copy.cell.array * factor, scale_atoms=True)
    return copy


def _strained(crystal: Atoms, component: int, strain: float) -> Atoms:
    """`strain` is a tensor strain; `component` counts xx yy zz yz xz xy."""
    i, j = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))[component]
    deformation = np.eye(3)
    deformation[i, j] += strain
    if i != j:
        deformation[j, i] += strain
    copy = crystal.copy()
    copy.set_cell(copy.cell.array @ deformation, scale_atoms=True)
    return copy


def _energy_per_atom(atoms: Atoms, calculator: Calculator) -> float:
    atoms.calc = calculator
    return float(atoms.get_potential_energy()) / len(atoms)


def _stress(atoms: Atoms, calculator: Calculator) -> np.ndarray:
    """[6] GPa, xx yy zz yz xz xy."""
    atoms.calc = calculator
    return atoms.get_stress() / units.GPa
