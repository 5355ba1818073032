"""Protein chains of a structure file: full sequence, atoms, and which residues the structure does not show."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np

from isometry_data.hydrogen_bonds import ALPHA, CARBON, NITROGEN, OXYGEN, PEPTIDE
from isometry_data.residue_placement import UNKNOWN, Placement, aligned_to, numbered, placed_in
from isometry_data.structure_files import RawChain, RawResidue, RawStructure, read_structure

BACKBONE = {"N": NITROGEN, "CA": ALPHA, "C": CARBON, "O": OXYGEN}
CAPS = frozenset({"ACE", "NH2", "NME", "NMA", "FOR", "NHE", "ACY", "CBX"})  # close an end, are no residue

FORCE_FIELD_NAMES = {  # protonation states in files of simulations
    **dict.fromkeys(("HSD", "HSP", "HID", "HIE", "HIP"), "H"),
    **dict.fromkeys(("CYX", "CYM"), "C"),
    "ASH": "D",
    "GLH": "E",
    "LYN": "K",
}


@dataclass(frozen=True, eq=False)
class StructureChain:
    """A protein chain; every per-residue array has the length of the full sequence."""

    name: str
    sequence: str
    residue_names: tuple[str, ...]  # three letters as in the file; empty where the residue is not seen
    atom_names: tuple[str, ...]  # [n_atoms], no hydrogens
    elements: tuple[str, ...]  # [n_atoms]
    atom_positions: np.ndarray  # [n_atoms, 3] Å
    atom_residue: np.ndarray  # [n_atoms] place of the residue, ascending

    @property
    def is_seen(self) -> np.ndarray:
        """[n] bool."""
        return np.array([name != "" for name in self.residue_names])

    def backbone(self) -> np.ndarray:
        """[n, 4, 3] Å: N, Cα, C, O; NaN where missing."""
        found = np.full((len(self.sequence), len(BACKBONE), 3), np.nan)
        for name, place, position in zip(self.atom_names, self.atom_residue, self.atom_positions, strict=True):
            if name in BACKBONE:
                found[place, BACKBONE[name]] = position
        return found

    def contact_positions(self) -> np.ndarray:
        """[n, 3] Å: Cβ, of glycine Cα; NaN where missing."""
        found = np.full((len(self.sequence), 3), np.nan)
        for name, place, position in zip(self.atom_names, self.atom_residue, self.atom_positions, strict=True):
            if name == ("CA" if self.sequence[place] == "G" else "CB"):
                found[place] = position
        return found


class Structure(NamedTuple):
    """The protein chains of a file, and what was met and dealt with on the way."""

    source: str
    chains: list[StructureChain]
    notes: list[str]


def read_chains(path: str | os.PathLike[str]) -> Structure:
    """The protein chains of the first model of a PDB or mmCIF file (gz, `-` too), in the file's order.

    Modified residues become the ones they are made from; nucleic acids, chains without a residue seen, ligands and
    caps are left out. The full sequence is that of SEQRES or `_entity_poly_seq`, else told by gaps in the numbers.
    Raises:
        FileNotFoundError: no such file.
        ValueError: one line with the file: not a structure, unreadable, or no protein chain in it.
    """
    raw = read_structure(path)
    notes = [f"{raw.source}: {raw.n_models} models; the first is read"] if raw.n_models > 1 else []
    chains = [found for chain in raw.chains if (found := _protein_chain(chain, raw, notes))]
    if not chains:
        why = f" ({'; '.join(note.removeprefix(raw.source + ': ') for note in notes[:4])})" if notes else ""
        raise ValueError(f"{raw.source}: no protein chain{why}; expected residues with backbone atoms")
    return Structure(raw.source, chains, notes)


def _protein_chain(chain: RawChain, raw: RawStructure, notes: list[str]) -> StructureChain | None:
    place = f"{raw.source}: chain {chain.name}"
    if _is_nucleic(chain):
        notes.append(f"{place}: nucleic acid; left out")
        return None
    if chain.kind and "peptide" not in chain.kind:
        notes.append(f"{place}: {chain.kind}; left out")
        return None
    residues = _peptide(chain)
    if not residues:
        if chain.declared:
            notes.append(f"{place}: none of its {len(chain.declared)} residues is seen; left out")
        return None
    names = [residue.name for residue in residues]
    letters = "".join(_letter(residue.name, raw.parents, residue) for residue in residues)
    placement = _placement(chain, residues, letters, raw.parents, notes, place)
    _note_residues(names, letters, len(placement.sequence) - len(residues), notes, place)
    return _chain(chain.name, residues, placement)


def _is_nucleic(chain: RawChain) -> bool:
    if chain.kind:
        return "nucleotide" in chain.kind
    names = [residue.name for residue in chain.residues] or chain.declared
    return sum(name in _nucleotides() for name in names) > len(names) / 2


@cache
def _nucleotides() -> frozenset[str]:
    from Bio.Data.PDBData import nucleic_letters_3to1_extended

    return frozenset(name.strip() for name in nucleic_letters_3to1_extended) | set("ACGTUIN")


def _letter(name: str, parents: dict[str, str], residue: RawResidue | None = None) -> str:
    """One letter, of a modified residue that of its parent; X where nobody knows."""
    from Bio.Data.PDBData import protein_letters_3to1, protein_letters_3to1_extended

    if name == "HSE" and residue and "ND1" in residue.atoms:
        return "H"  # CHARMM's histidine; the PDB's HSE is homoserine
    standard = protein_letters_3to1.get(parents.get(name, name).upper()) or FORCE_FIELD_NAMES.get(name)
    letter = standard or protein_letters_3to1_extended.get(name, UNKNOWN)
    return letter if len(letter) == 1 and letter.isalpha() else UNKNOWN


def _peptide(chain: RawChain) -> list[RawResidue]:
    """The residues of the chain itself; a hetero residue is one if the file places it there, or a peptide bond does."""
    candidates = [residue for residue in chain.residues if "CA" in residue.atoms and residue.name not in CAPS]
    if chain.declared and any(residue.place is not None for residue in candidates):
        return [residue for residue in candidates if residue.place is not None]
    kept = []
    for k, residue in enumerate(candidates):
        before, after = candidates[max(k - 1, 0)], candidates[min(k + 1, len(candidates) - 1)]
        if not residue.is_hetero or _bonded(before, residue) or _bonded(residue, after):
            kept.append(residue)
    return kept


def _bonded(before: RawResidue, after: RawResidue) -> bool:
    if before is after or "C" not in before.atoms or "N" not in after.atoms:
        return False
    return bool(np.linalg.norm(np.subtract(before.atoms["C"].position, after.atoms["N"].position)) <= PEPTIDE)


def _placement(
    chain: RawChain, residues: list[RawResidue], letters: str, parents: dict[str, str], notes: list[str], place: str
) -> Placement:
    declared = [k for k, name in enumerate(chain.declared) if name not in CAPS]
    full = "".join(_letter(chain.declared[k], parents) for k in declared)
    if declared and all(residue.place is not None for residue in residues):
        new_place = {old: new for new, old in enumerate(declared)}
        places = np.array([new_place[residue.place] for residue in residues if residue.place is not None])
        return Placement(_with_seen(full, letters, places), places)
    numbers = [residue.number for residue in residues]
    joined = [k > 0 and _follows(residues[k - 1], residues[k]) for k in range(len(residues))]
    if full:
        if found := placed_in(full, letters, numbers, joined):
            return found
        if found := aligned_to(full, letters):
            notes.append(
                f"{place}: differs from its declared sequence (SEQRES); aligned, letters of the structure kept"
            )
            return Placement(_with_seen(full, letters, found.places), found.places)
        notes.append(f"{place}: is not its declared sequence (SEQRES); missing residues are told from the numbers")
    return numbered(letters, numbers, joined)


def _follows(before: RawResidue, after: RawResidue) -> bool:
    """By a peptide bond; where its atoms are missing, by the numbers."""
    if "C" in before.atoms and "N" in after.atoms:
        return _bonded(before, after)
    return after.number - before.number in (0, 1)


def _with_seen(full: str, letters: str, places: np.ndarray) -> str:
    merged = list(full)
    for place, letter in zip(places, letters, strict=True):
        merged[place] = letter
    return "".join(merged)


def _note_residues(names: list[str], letters: str, n_missing: int, notes: list[str], place: str) -> None:
    from Bio.Data.PDBData import protein_letters_3to1

    standard = {name.upper() for name in protein_letters_3to1}
    modified = Counter((name, letter) for name, letter in zip(names, letters, strict=True) if name not in standard)
    said = [f"{count} {name} as {letter}" for (name, letter), count in modified.items()]
    said += [f"{n_missing} of {len(names) + n_missing} residues not seen"] * (n_missing > 0)
    if said:
        notes.append(f"{place}: {', '.join(said)}")


def _chain(name: str, residues: list[RawResidue], placement: Placement) -> StructureChain:
    residue_names = [""] * len(placement.sequence)
    atoms = []
    for residue, place in zip(residues, placement.places.tolist(), strict=True):
        residue_names[place] = residue.name
        atoms += [
            (atom_name, atom, place)
            for atom_name, atom in residue.atoms.items()
            if not _is_hydrogen(atom_name, atom.element)
        ]
    return StructureChain(
        name=name,
        sequence=placement.sequence,
        residue_names=tuple(residue_names),
        atom_names=tuple(atom_name for atom_name, _, _ in atoms),
        elements=tuple(atom.element or atom_name[0] for atom_name, atom, _ in atoms),
        atom_positions=np.array([atom.position for _, atom, _ in atoms], dtype=np.float64),
        atom_residue=np.array([place for _, _, place in atoms], dtype=np.int64),
    )


def _is_hydrogen(name: str, element: str) -> bool:
    return element in ("H", "D") or (not element and name.lstrip("0123456789")[:1] in ("H", "D"))
