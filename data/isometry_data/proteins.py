"""Protein records out of any file: sequences as they are, structures with labels made from their coordinates."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from isometry_data.accessibility import relative_accessibility
from isometry_data.catalogue import locate
from isometry_data.fasta import read_fasta
from isometry_data.mkdssp import has_mkdssp, states_by_mkdssp
from isometry_data.protein_records import ProteinRecord, Reading, three_states
from isometry_data.secondary_structure import eight_states
from isometry_data.state_files import read_states
from isometry_data.state_tables import is_state_table, read_state_arrays, read_state_table
from isometry_data.structure_chains import Structure, StructureChain, read_chains

STRUCTURE_ENDINGS = (".pdb", ".ent", ".cif", ".mmcif")
STATE_ENDINGS = (".ss",)
DSSP = ("auto", "mkdssp", "built-in")


@dataclass(frozen=True)
class Labelling:
    """Which labels are made from a structure, and how."""

    dssp: str = "auto"  # mkdssp where it is installed and takes the file, else the built-in states
    mapping: str = "GHI/EB"  # of eight states to three, see `THREE_OF_EIGHT`
    with_accessibility: bool = True  # the slowest of them: about a second for 300 residues
    with_any: bool = True  # False: sequences alone

    def __post_init__(self) -> None:
        if self.dssp not in DSSP:
            raise ValueError(f"unknown source of states {self.dssp!r}; expected one of {', '.join(DSSP)}")


def read_proteins(path: str | os.PathLike[str], labelling: Labelling | None = None) -> Reading:
    """Reads FASTA, PDB, mmCIF or five-line state files by their endings (each also .gz); other names are FASTA.

    Also arrays (.npz) and tables (.csv) with states, as NetSurfP-2.0 and ProtTrans publish them.

    Raises:
        FileNotFoundError, ValueError: as `read_fasta`, `read_states`, `read_chains` and those of `state_tables`.
        OSError: mkdssp was demanded and is not there or fails.
    """
    ending = Path(str(path).lower().removesuffix(".gz")).suffix
    if ending in STATE_ENDINGS:
        return Reading(read_states(path), [])
    if ending == ".npz":
        return Reading(read_state_arrays(path), [])
    if is_state_table(path):
        return Reading(read_state_table(path), [])
    if ending not in STRUCTURE_ENDINGS:
        return read_fasta(path)
    structure = read_chains(path)
    notes = list(structure.notes)
    return Reading(labelled(structure, labelling or Labelling(), notes), notes)


def read_protein_set(name: str, file: str | None = None) -> list[ProteinRecord]:
    """The records of a set of the catalogue, `read_protein_set("netsurfp2", "train")`.

    Only the masks of netsurfp2's training and validation chains tell disorder; others say which labels count.
    Errors as `locate` and `read_states`.
    """
    path = locate(name, file)
    if not path.name.endswith(".ss.gz"):
        return read_proteins(path).records
    return read_states(path, mask_is_order=name == "netsurfp2" and file != "cb513")


def labelled(structure: Structure, labelling: Labelling, notes: list[str] | None = None) -> list[ProteinRecord]:
    """A record for each chain, named `file_chain`, with states, accessibility, disorder, mask and positions.

    The mask counts the residues that the structure shows and whose state is known; disorder is every other residue
    the structure does not show (where the declared sequence is missing, its ends cannot be known).
    """
    stem = Path(structure.source).name.removesuffix(".gz").rsplit(".", 1)[0]
    if not labelling.with_any:
        return [ProteinRecord(f"{stem}_{chain.name}", chain.sequence, structure.source) for chain in structure.chains]
    states = _states(structure, labelling.dssp, [] if notes is None else notes)
    return [
        _record(chain, ss8, f"{stem}_{chain.name}", structure.source, labelling)
        for chain, ss8 in zip(structure.chains, states, strict=True)
    ]


def built_in_states(chains: Sequence[StructureChain]) -> list[str]:
    """Eight states of each chain by `eight_states`; strands may join two chains."""
    lengths = [len(chain.sequence) for chain in chains]
    letters = np.array(list("".join(chain.sequence for chain in chains)))
    together = eight_states(
        np.concatenate([chain.backbone() for chain in chains]),
        np.repeat(np.arange(len(chains)), lengths),
        letters == "P",
    )
    ends = np.cumsum(lengths)
    return [together[end - length : end] for length, end in zip(lengths, ends.tolist(), strict=True)]


def _states(structure: Structure, dssp: str, notes: list[str]) -> list[str]:
    if dssp == "built-in" or (dssp == "auto" and not has_mkdssp()):
        return built_in_states(structure.chains)
    try:
        return states_by_mkdssp(structure.chains)
    except OSError as error:
        if dssp == "mkdssp":
            raise OSError(f"{structure.source}: {error}") from None
        notes.append(f"{structure.source}: {error}; states are the built-in ones")
        return built_in_states(structure.chains)


def _record(chain: StructureChain, ss8: str, name: str, source: str, labelling: Labelling) -> ProteinRecord:
    seen = chain.is_seen
    return ProteinRecord(
        name=name,
        sequence=chain.sequence,
        source=source,
        ss8=ss8,
        ss3=three_states(ss8, labelling.mapping),
        accessibility=relative_accessibility(chain) if labelling.with_accessibility else None,
        mask=seen & (np.array(list(ss8)) != "."),
        disorder=~seen,
        positions=chain.contact_positions(),
    )
