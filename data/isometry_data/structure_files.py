"""The polymer chains of PDB and mmCIF files as they are written: residues with atoms, numbers, declared sequence.

Biopython reads; the first model is taken, of alternate locations the one with the highest occupancy (the first of
equals), of two residues at one place likewise.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from isometry_data.text_files import name_of, text_of

if TYPE_CHECKING:
    from Bio.PDB.Residue import Residue

WATER = frozenset({"HOH", "DOD", "WAT", "H2O", "TIP", "TIP3", "SOL"})
_MISSING = (".", "?", "")


class RawAtom(NamedTuple):
    """One atom at one of its locations."""

    element: str
    position: tuple[float, float, float]  # Å
    occupancy: float


@dataclass
class RawResidue:
    """A residue as the file has it."""

    name: str  # three letters
    number: int  # the authors'
    insertion: str = ""
    is_hetero: bool = False
    place: int | None = None  # in the declared sequence, from 0, where the file tells it
    atoms: dict[str, RawAtom] = field(default_factory=dict)


@dataclass
class RawChain:
    """A chain as the file has it."""

    name: str
    residues: list[RawResidue] = field(default_factory=list)
    declared: list[str] = field(default_factory=list)  # residue names of the full sequence; empty if not said
    kind: str = ""  # the polymer type of mmCIF


class RawStructure(NamedTuple):
    """What a file holds before any judgement."""

    source: str
    chains: list[RawChain]
    parents: dict[str, str]  # modified residue -> the standard one it is made from, as the file says
    n_models: int


def read_structure(path: str | os.PathLike[str]) -> RawStructure:
    """PDB or mmCIF, told apart by their contents; gz and `-` too.

    Raises:
        FileNotFoundError: no such file.
        ValueError: one line with the file: neither format, cut off, unreadable, or no atoms.
    """
    source, text = name_of(path), text_of(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = _from_cif(text, source) if _is_cif(text) else _from_pdb(text, source)
    except Exception as error:  # Biopython fails in many ways
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{source}: cannot be read as PDB or mmCIF ({type(error).__name__}: {reason})") from None
    if not any(chain.residues for chain in found.chains):
        raise ValueError(f"{source}: no atoms; expected a structure in PDB or mmCIF")
    return found


def _is_cif(text: str) -> bool:
    first = next((line for line in text.split("\n") if line.strip() and not line.startswith("#")), "")
    return first.lower().startswith(("data_", "loop_", "_"))


# PDB


def _from_pdb(text: str, source: str) -> RawStructure:
    from Bio.PDB.PDBParser import PDBParser

    structure = PDBParser(QUIET=True).get_structure("", io.StringIO(text))
    declared, parents = _declared_in_pdb(text.split("\n"))
    models = list(structure) if structure is not None else []
    chains = {name: RawChain(name, declared=names) for name, names in declared.items()}
    for chain in models[0] if models else ():
        name = chain.id.strip() or "_"
        raw = chains.setdefault(name, RawChain(name))
        raw.residues += [_from_biopython(residue) for residue in chain if residue.get_resname().strip() not in WATER]
    return RawStructure(source, list(chains.values()), parents, len(models))


def _from_biopython(residue: Residue) -> RawResidue:
    if residue.is_disordered() == 2:  # two kinds of residue at one place
        residue = max(residue.disordered_get_list(), key=_mean_occupancy)  # type: ignore[attr-defined]
    hetero, number, insertion = residue.id
    raw = RawResidue(residue.get_resname().strip(), number, insertion.strip(), hetero.strip() != "")
    for atom in residue:
        x, y, z = (float(value) for value in atom.coord)
        raw.atoms[atom.name] = RawAtom((atom.element or "").strip().upper(), (x, y, z), atom.occupancy or 0.0)
    return raw


def _mean_occupancy(residue: Residue) -> float:
    return float(np.mean([atom.occupancy or 0.0 for atom in residue]))


def _declared_in_pdb(lines: Iterable[str]) -> tuple[dict[str, list[str]], dict[str, str]]:
    """SEQRES: chain -> residue names; MODRES: modified -> standard residue."""
    declared: dict[str, list[str]] = {}
    parents: dict[str, str] = {}
    for line in lines:
        if line.startswith("SEQRES"):
            declared.setdefault(line[11:12].strip() or "_", []).extend(line[19:70].split())
        elif line.startswith("MODRES") and line[24:27].strip():
            parents[line[12:15].strip()] = line[24:27].strip()
    return declared, parents


# mmCIF


def _from_cif(text: str, source: str) -> RawStructure:
    from Bio.PDB.MMCIF2Dict import MMCIF2Dict

    table = MMCIF2Dict(io.StringIO(text))
    rows = list(_atom_rows(table))
    models = list(dict.fromkeys(row["pdbx_PDB_model_num"] for row in rows))
    declared, kinds = _declared_in_cif(table)
    chains: dict[str, RawChain] = {}
    for row in rows:
        if row["pdbx_PDB_model_num"] == models[0] and row["label_comp_id"] not in WATER:
            _add_row(chains, row, declared, kinds)
    _add_unseen_chains(chains, table, declared, kinds)
    parent_of = zip(
        table.get("_pdbx_struct_mod_residue.label_comp_id", []),
        table.get("_pdbx_struct_mod_residue.parent_comp_id", []),
        strict=True,
    )
    parents = {name: parent for name, parent in parent_of if parent not in _MISSING}
    return RawStructure(source, _with_names_of_their_own(chains), parents, len(models))


def _atom_rows(table: dict[str, list[str]]) -> Iterator[dict[str, str]]:
    """One mapping an atom; a column the file lacks is taken from its twin, or `.`."""
    twins = {
        "auth_asym_id": "label_asym_id",
        "label_asym_id": "auth_asym_id",
        "auth_seq_id": "label_seq_id",
        "label_atom_id": "auth_atom_id",
        "label_comp_id": "auth_comp_id",
    }
    needed = ("group_PDB", "type_symbol", "label_atom_id", "label_comp_id", "label_asym_id", "auth_asym_id")
    needed += ("label_entity_id", "label_seq_id", "auth_seq_id", "pdbx_PDB_ins_code", "Cartn_x", "Cartn_y", "Cartn_z")
    needed += ("occupancy", "pdbx_PDB_model_num", "label_alt_id")
    n_atoms = len(table.get("_atom_site.Cartn_x", []))
    columns = {}
    for name in needed:
        twin = table.get(f"_atom_site.{twins.get(name, name)}", ["."] * n_atoms)
        columns[name] = table.get(f"_atom_site.{name}", twin)
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(columns, values, strict=True))


def _declared_in_cif(table: dict[str, list[str]]) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Entity -> residue names of its sequence (of two at one place the first), entity -> type of polymer."""
    declared: dict[str, dict[int, str]] = {}
    rows = ("entity_id", "num", "mon_id")
    for entity, number, name in zip(*(table.get(f"_entity_poly_seq.{row}", []) for row in rows), strict=True):
        declared.setdefault(entity, {}).setdefault(int(number), name)
    types = zip(table.get("_entity_poly.entity_id", []), table.get("_entity_poly.type", []), strict=False)
    in_order = {entity: [names[number] for number in sorted(names)] for entity, names in declared.items()}
    return in_order, dict(types)


def _add_row(
    chains: dict[str, RawChain], row: dict[str, str], declared: dict[str, list[str]], kinds: dict[str, str]
) -> None:
    """Puts the atom into its residue, which rows of other locations and other residues at that place also claim."""
    entity = row["label_entity_id"]
    key = row["label_asym_id"]
    if key not in chains:
        chains[key] = RawChain(row["auth_asym_id"], declared=declared.get(entity, []), kind=kinds.get(entity, ""))
    chain = chains[key]
    number = int(row["auth_seq_id"]) if row["auth_seq_id"] not in _MISSING else 0
    insertion = "" if row["pdbx_PDB_ins_code"] in _MISSING else row["pdbx_PDB_ins_code"]
    place = int(row["label_seq_id"]) - 1 if chain.declared and row["label_seq_id"] not in _MISSING else None
    atom = RawAtom(
        row["type_symbol"].upper(),
        (float(row["Cartn_x"]), float(row["Cartn_y"]), float(row["Cartn_z"])),
        float(row["occupancy"]) if row["occupancy"] not in _MISSING else 1.0,
    )
    last = chain.residues[-1] if chain.residues else None
    if last is None or (last.number, last.insertion, last.place) != (number, insertion, place):
        last = RawResidue(row["label_comp_id"], number, insertion, row["group_PDB"] == "HETATM", place)
        chain.residues.append(last)
    if last.name != row["label_comp_id"]:
        if atom.occupancy <= max((other.occupancy for other in last.atoms.values()), default=0.0):
            return
        last.name, last.atoms = row["label_comp_id"], {}
    name = row["label_atom_id"].strip('"')
    if name not in last.atoms or atom.occupancy > last.atoms[name].occupancy:
        last.atoms[name] = atom


def _add_unseen_chains(
    chains: dict[str, RawChain], table: dict[str, list[str]], declared: dict[str, list[str]], kinds: dict[str, str]
) -> None:
    """Polymers that the file declares without a single atom."""
    owners = zip(table.get("_struct_asym.id", []), table.get("_struct_asym.entity_id", []), strict=False)
    for key, entity in owners:
        if key not in chains and entity in declared:
            chains[key] = RawChain(key, declared=declared[entity], kind=kinds.get(entity, ""))


def _with_names_of_their_own(chains: dict[str, RawChain]) -> list[RawChain]:
    """mmCIF gives ligands and waters the authors' name of the chain they lie at; polymers keep it, once each."""
    taken: set[str] = set()
    for key, chain in sorted(chains.items(), key=lambda item: not item[1].declared):
        chain.name = key if chain.name in taken else chain.name
        taken.add(chain.name)
    return list(chains.values())
