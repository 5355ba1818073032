"""The published JSON of mlearn and NbMoTaW (pymatgen structures, VASP output) to extended XYZ in our units.

What is put right, found by derivatives of the energies along the elastic paths:

- `virial_stress` (mlearn) and `stress` (NbMoTaW) are VASP's stress in kbar, compression positive, in the order
  XX YY ZZ XY YZ ZX: no virial. ASE's stress is -x / 1602.1766 in eV/Å³, in the order xx yy zz yz xz xy.
- yz and xz stand interchanged for all of Cu and Mo, and for Si and Ge in AIMD and vacancy frames.
- where the stress contradicts the energies `stress_trust` says so: `none` for slabs and for Ge AIMD and vacancy;
  `diagonal` for Li elastic and ground-state frames, whose shears have the wrong sign.

Checked against the published JSON: the format and the first frame of Si test, the last of Li training, the first of
NbMoTaW's MoW and Nb test sets. Not checked: every other frame (the contents are compared with what is known of the
prepared files instead, see `Content`), and the download itself. For Cu and Ni training the prepared file was recovered
from the authors' GAP potential: same energies, but another order of frames, forces of six decimals, no descriptions,
`config_type` guessed from sizes and forces, the ground state among `elastic`.

Sources: Zuo et al. 2020, J. Phys. Chem. A 124, 731; Li et al. 2020, npj Comput. Mater. 6, 70.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from ase import Atoms

    from isometry_data.crystals import CrystalRecord

Frame: TypeAlias = "Callable[[dict[str, Any], Path], Atoms]"  # one JSON entry and its file -> structure with labels

KBAR = 1 / 1602.1766  # eV/Å³
_VOIGT_FROM_VASP = [0, 1, 2, 4, 5, 3]  # XX YY ZZ XY YZ ZX -> xx yy zz yz xz xy
_INTERCHANGED = [0, 1, 2, 5, 4, 3]  # the same where yz and xz stand in each other's place


class Content(NamedTuple):
    """What a converted file must hold, whatever the order of its frames; the checksum of data that has no other."""

    n_frames: int
    n_atoms: int  # in all frames
    energies: str  # sha256 of the sorted energies, 4 decimals (eV), one a line
    force_rms: float  # eV/Å, over all components
    stress_rms: float | None  # eV/Å³, over the trusted components; None where it is not known


def content_of(records: Sequence[CrystalRecord]) -> Content:
    """The contents of fully labelled records."""
    energies = sorted(record.energy for record in records if record.energy is not None)
    lines = "\n".join(f"{energy:.4f}" for energy in energies)
    forces = np.concatenate([record.forces.ravel() for record in records if record.forces is not None])
    stresses = np.array([record.stress for record in records if record.stress is not None])
    return Content(
        n_frames=len(records),
        n_atoms=sum(record.n_atoms for record in records),
        energies=hashlib.sha256(lines.encode()).hexdigest(),
        force_rms=float(np.sqrt(np.mean(forces**2))),
        stress_rms=float(np.sqrt(np.nanmean(stresses**2))) if stresses.size else None,
    )


def convert_mlearn(sources: Sequence[Path], target: Path, *, expected: Content | None = None) -> None:
    """One element's training or test JSON to extended XYZ. ValueError where the contents are not as expected."""
    _convert(sources, _mlearn_frame, target, expected)


def convert_nbmotaw(sources: Sequence[Path], target: Path, *, expected: Content | None = None) -> None:
    """JSON files named `<system>_<kind>.json`, in their order, to one extended XYZ; ValueError as above."""
    _convert(sources, _nbmotaw_frame, target, expected)


def _convert(sources: Sequence[Path], frame: Frame, target: Path, expected: Content | None) -> None:
    from ase.io import write

    from isometry_data.crystals import read_crystals

    images = [image for source in sources for image in _images(source, frame)]
    write(str(target), images, format="extxyz")
    if expected is not None:
        _compare(content_of(read_crystals(target, require=("energy", "forces"))), expected)


def _images(source: Path, frame: Frame) -> list[Atoms]:
    images = []
    for number, entry in enumerate(_entries(source)):
        try:
            images.append(frame(entry, source))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ValueError(f"{source.name}, entry {number}: {type(error).__name__}: {error}") from None
    return images


def _entries(source: Path) -> list[dict[str, Any]]:
    try:
        entries = json.loads(source.read_text())
    except ValueError as error:
        raise ValueError(f"{source.name}: not JSON, or cut off ({error})") from None
    if not isinstance(entries, list) or not all(
        isinstance(e, dict) and {"structure", "outputs"} <= e.keys() for e in entries
    ):
        raise ValueError(f"{source.name}: expected a list of entries with `structure` and `outputs`")
    return entries


def _mlearn_frame(entry: dict[str, Any], source: Path) -> Atoms:
    element, described = entry["element"], entry.get("description", "")
    kind = _kind(entry["group"], described)
    is_interchanged = element in ("Cu", "Mo") or (element in ("Si", "Ge") and kind in ("aimd", "vacancy"))
    info: dict[str, Any] = {"stress_trust": _trust(element, kind), "config_type": kind, "source": "json"}
    if match := re.search(r"at (\d+) K", described):
        info["temperature_K"] = int(match[1])
    if match := re.search(r"mode (\d+), strain (-?[\d.]+)", described):
        info["strain_mode"], info["strain"] = int(match[1]), float(match[2])
    if described:
        info["description"] = described
    return _atoms(
        entry, entry["outputs"]["virial_stress"], _INTERCHANGED if is_interchanged else _VOIGT_FROM_VASP, info
    )


def _kind(group: str, described: str) -> str:
    """`config_type` of an mlearn entry; the ground state is filed under Elastic."""
    if described.startswith("Ground state"):
        return "ground_state"
    for kind in ("aimd", "vacancy", "elastic", "surface"):
        if group.lower().startswith(kind):
            return kind
    raise ValueError(f"unknown group {group!r}, expected AIMD, Vacancy, Elastic or Surface")


def _trust(element: str, kind: str) -> str:
    if kind == "surface" or (element == "Ge" and kind in ("aimd", "vacancy")):
        return "none"
    return "diagonal" if element == "Li" and kind in ("elastic", "ground_state") else "full"


def _nbmotaw_frame(entry: dict[str, Any], source: Path) -> Atoms:
    system, kind = source.stem.split("_")
    return _atoms(entry, entry["outputs"]["stress"], _VOIGT_FROM_VASP, {"config_type": kind.lower(), "system": system})


def _atoms(entry: dict[str, Any], stress: list[float], order: list[int], info: dict[str, Any]) -> Atoms:
    """ASE structure with labels in our units; `stress` is VASP's, in kbar."""
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator

    sites = entry["structure"]["sites"]
    atoms = Atoms(
        [site["species"][0]["element"] for site in sites],
        positions=[site["xyz"] for site in sites],
        cell=entry["structure"]["lattice"]["matrix"],
        pbc=True,
        info=info,
    )
    outputs = entry["outputs"]
    atoms.calc = SinglePointCalculator(
        atoms, energy=outputs["energy"], forces=np.array(outputs["forces"]), stress=-np.array(stress)[order] * KBAR
    )
    return atoms


def _compare(found: Content, expected: Content) -> None:
    """Counts and energies exactly, root mean squares to 1e-4: the prepared files are printed to 6 to 8 decimals."""
    for name, value, must in zip(Content._fields, found, expected, strict=True):
        if isinstance(must, float) and isinstance(value, float):
            is_same = abs(value - must) <= 1e-4 * must
        else:
            is_same = must is None or value == must
        if not is_same:
            raise ValueError(f"the published data changed: {name} is {value}, expected {must}")
