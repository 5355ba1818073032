"""States by the program mkdssp (DSSP 4, Joosten et al. 2011; Hekkelman et al. 2025), and its output files.

The program gets the chains as they were read here, each residue numbered by its place, so that modified residues,
gaps and alternate locations mean the same to both sides.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from isometry_data.protein_records import EIGHT_STATES, UNKNOWN_STATE
from isometry_data.structure_chains import StructureChain
from isometry_data.text_files import name_of, text_of

PROGRAM = "mkdssp"
PATIENCE = 600  # seconds
MOST_RESIDUES = 9999  # of a chain
_CHAIN_NAMES = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


def has_mkdssp() -> bool:
    """Whether the program is installed."""
    return shutil.which(PROGRAM) is not None


def states_by_mkdssp(chains: Sequence[StructureChain]) -> list[str]:
    """Eight states of each chain, `.` where it says nothing; strands may join two chains.

    Raises:
        OSError: the program is not installed or fails.
    """
    if not has_mkdssp():
        raise OSError(f"{PROGRAM} is not installed (Debian: apt-get install dssp); choose the built-in states instead")
    if len(chains) > len(_CHAIN_NAMES) or max(len(chain.sequence) for chain in chains) > MOST_RESIDUES:
        raise OSError(
            f"{PROGRAM} is given at most {len(_CHAIN_NAMES)} chains of {MOST_RESIDUES} residues (the PDB format's "
            "limits); choose the built-in states instead"
        )
    with tempfile.TemporaryDirectory(prefix="isometry-dssp-") as folder:
        given, made = Path(folder) / "chains.pdb", Path(folder) / "states.dssp"
        given.write_text(_as_pdb(chains))
        _run(given, made)
        found = read_dssp(made)
    return [
        "".join(found.get((name, place, ""), UNKNOWN_STATE) for place in range(1, len(chain.sequence) + 1))
        for name, chain in zip(_CHAIN_NAMES, chains, strict=False)
    ]


def read_dssp(path: str | os.PathLike[str]) -> dict[tuple[str, int, str], str]:
    """(chain, number, insertion code) -> state, from the classic format or the mmCIF of DSSP 4.

    mmCIF gives chain and number as `label_asym_id` and `label_seq_id`. The P of DSSP 4 becomes C.
    """
    text = text_of(path)
    if text.startswith("data_"):
        return _from_cif(text)
    lines = text.split("\n")
    start = next((k for k, line in enumerate(lines) if line.startswith("  #  RESIDUE")), None)
    if start is None:
        raise ValueError(f"{name_of(path)}: no '  #  RESIDUE' line; expected an output file of DSSP")
    states = {}
    for line in lines[start + 1 :]:
        if len(line) > 16 and line[13] != "!":
            states[line[11], int(line[5:10]), line[10].strip()] = _state(line[16])
    return states


def _from_cif(text: str) -> dict[tuple[str, int, str], str]:
    from Bio.PDB.MMCIF2Dict import MMCIF2Dict

    table = MMCIF2Dict(io.StringIO(text))
    columns = [
        table.get(f"_dssp_struct_summary.{name}", [])
        for name in ("label_asym_id", "label_seq_id", "secondary_structure")
    ]
    return {(chain, int(number), ""): _state(state) for chain, number, state in zip(*columns, strict=True)}


def _state(letter: str) -> str:
    return letter if letter in EIGHT_STATES else "C"


def _run(given: Path, made: Path) -> None:
    command = [PROGRAM, "--output-format", "dssp", str(given), str(made)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        raise OSError(f"{PROGRAM} took more than {PATIENCE} s") from None
    if done.returncode or not made.exists():
        reason = " ".join(done.stderr.split())[-200:]
        raise OSError(f"{PROGRAM} failed ({reason or f'exit status {done.returncode}'})")


def _standard_name(letter: str) -> str:
    from Bio.Data.PDBData import protein_letters_1to3

    return protein_letters_1to3.get(letter, "ALA").upper()  # to DSSP only proline differs from the rest


def _as_pdb(chains: Sequence[StructureChain]) -> str:
    lines = ["HEADER    PROTEIN                                 01-JAN-00   XXXX", _CRYSTAL]
    serial = 0
    for chain_name, chain in zip(_CHAIN_NAMES, chains, strict=False):
        for name, element, (x, y, z), place in zip(
            chain.atom_names, chain.elements, chain.atom_positions, chain.atom_residue.tolist(), strict=True
        ):
            serial += 1
            residue = _standard_name(chain.sequence[place])
            shown = name if len(name) >= 4 or len(element) > 1 else f" {name}"
            lines.append(
                f"ATOM  {serial % 100_000:5d} {shown:<4s} {residue} {chain_name}{place + 1:4d}    "
                f"{x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00          {element:>2s}"
            )
        last = chain.atom_residue[-1]
        residue = _standard_name(chain.sequence[last])
        lines.append(f"TER   {(serial + 1) % 100_000:5d}      {residue} {chain_name}{last + 1:4d}")
    return "\n".join([*lines, "END", ""])


_CRYSTAL = "CRYST1    1.000    1.000    1.000  90.00  90.00  90.00 P 1           1"
