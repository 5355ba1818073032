"""Bulk properties, on a potential whose answers follow from each other (ASE's effective-medium copper)."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from isometry_crystal.bulk import elastic_constants, equation_of_state

SAME = 0.02  # relative: finite strains of 0.5 %, and a Birch-Murnaghan fit over ±6 % in volume
AT_REST = 1e-3  # relative


@pytest.fixture(scope="module")
def state():
    volumes = np.linspace(10.9, 12.3, 15)
    return equation_of_state(bulk("Cu", cubic=True), EMT(), volumes)


@pytest.fixture(scope="module")
def constants(state):
    return elastic_constants(bulk("Cu", a=(4 * state.volume) ** (1 / 3), cubic=True), EMT())


def test_the_bulk_modulus_is_a_third_of_c11_and_twice_c12(state, constants):
    assert (constants.c11 + 2 * constants.c12) / 3 == pytest.approx(state.bulk_modulus, rel=SAME)


def test_ions_on_centres_of_inversion_do_not_relax(constants):
    assert constants.c44 == pytest.approx(constants.c44_clamped_ions, rel=AT_REST)


def test_a_cubic_crystal_of_pair_forces_obeys_cauchy():
    """C12 = C44 for central pair forces at zero pressure (Born & Huang 1954, eq. 11.11)."""
    pairs = LennardJones(sigma=2.5, epsilon=0.1, rc=6.0, smooth=True)
    fit = equation_of_state(bulk("Ar", "fcc", a=3.9, cubic=True) * 3, pairs, np.linspace(13.0, 15.5, 11))
    crystal = bulk("Ar", "fcc", a=(4 * fit.volume) ** (1 / 3), cubic=True) * 3
    constants = elastic_constants(crystal, pairs)
    assert constants.c12 == pytest.approx(constants.c44_clamped_ions, rel=SAME)


def test_energies_without_a_minimum_are_named():
    with pytest.raises(ValueError, match=r"between 9\.00 and 10\.00 Å³ per atom"):
        equation_of_state(bulk("Cu", cubic=True), _Downhill(), np.linspace(9, 10, 5))


class _Downhill(EMT):
    """Energy that falls for ever with the volume."""

    def get_potential_energy(self, atoms=None, force_consistent=False):
        return -float(atoms.get_volume())
