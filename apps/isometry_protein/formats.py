"""The field's own formats: PSIPRED's .ss2 and .horiz, states as FASTA or as labels (.ss), CASP's .rr, embeddings."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from isometry_data.protein_records import ProteinRecord
from isometry_data.state_files import states_text

Told = tuple[ProteinRecord, str, np.ndarray]
"""A record, its states, and their probabilities [n, 3] of H, E, C."""

WIDTH = 60  # residues of a line


def as_ss2(told: Sequence[Told]) -> bytes:
    """PSIPRED's vertical format: number, residue, state, probabilities of coil, helix, strand. One block a protein."""
    return "".join(_vertical(*one) for one in told).encode()


def as_horiz(told: Sequence[Told]) -> bytes:
    """PSIPRED's horizontal format; confidence 0 to 9 is how far the first state leads the second, as there."""
    return "".join(_horizontal(*one) for one in told).encode()


def as_fasta(told: Sequence[Told]) -> bytes:
    """Names and states."""
    lines = []
    for record, states, _ in told:
        lines += [f">{record.name}", *(states[i : i + WIDTH] for i in range(0, len(states), WIDTH))]
    return "".join(f"{line}\n" for line in lines).encode()


def as_states(told: Sequence[Told], sure: float = 0.0) -> bytes:
    """The five-line state file that training reads, with three states: what a network says as labels for another.

    The mask counts the residues whose state has a probability of at least `sure`.
    """
    labelled = (replace(r, ss3=s, ss8=None, mask=three.max(1) >= sure, disorder=None) for r, s, three in told)
    return states_text(labelled).encode()


def as_rr(told: Sequence[tuple[ProteinRecord, np.ndarray, np.ndarray]]) -> bytes:
    """CASP's format of contacts: i, j from 1, 0, 8 (Å), probability; the most probable first."""
    lines = []
    for record, pairs, probabilities in told:
        sequence = record.sequence
        lines += ["PFRMAT RR", f"TARGET {record.name}", "METHOD isometry protein", "MODEL 1"]
        lines += [sequence[i : i + 50] for i in range(0, len(sequence), 50)]
        lines += [f"{i + 1} {j + 1} 0 8 {p:.4f}" for (i, j), p in zip(pairs.tolist(), probabilities, strict=True)]
        lines += ["END"]
    return "".join(f"{line}\n" for line in lines).encode()


def as_npz(embeddings: Mapping[str, np.ndarray]) -> bytes:
    """One array [n, n_features] a protein, under its name, as numpy.load reads them."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:  # numpy's savez has no array called `file`
        for name, values in embeddings.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, values, allow_pickle=False)
    return buffer.getvalue()


def _vertical(record: ProteinRecord, states: str, three: np.ndarray) -> str:
    helix, strand, coil = three.T
    columns = zip(record.sequence, states, coil, helix, strand, strict=True)
    rows = (f"{i:4d} {aa} {state}  {c:6.3f} {h:6.3f} {e:6.3f}\n" for i, (aa, state, c, h, e) in enumerate(columns, 1))
    return f"# PSIPRED VFORMAT (isometry protein)\n# {record.name}\n\n{''.join(rows)}\n"


def _horizontal(record: ProteinRecord, states: str, three: np.ndarray) -> str:
    ordered = np.sort(three, axis=1)
    lead = np.minimum((10 * (ordered[:, -1] - ordered[:, -2])).astype(int), 9)
    confidence = "".join(map(str, lead))
    lines = ["# PSIPRED HFORMAT (isometry protein)", f"# {record.name}", ""]
    for start in range(0, len(record), WIDTH):
        part = slice(start, start + WIDTH)
        lines += [f"Conf: {confidence[part]}", f"Pred: {states[part]}", f"  AA: {record.sequence[part]}"]
        tens = range(start + 10, min(start + WIDTH, len(record)) + 1, 10)
        lines += ["      " + "".join(f"{number:10d}" for number in tens), ""]
    return "".join(f"{line}\n" for line in lines)
