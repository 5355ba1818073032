"""Test sets as NetSurfP-2.0 and ProtTrans publish them: arrays (.npz) and tables (.csv) of states with their masks.

Sources: Klausen et al. 2019, Proteins 87, 520, and the data page of its server; Elnaggar et al. 2022, IEEE TPAMI 44,
7112.
"""

from __future__ import annotations

import csv
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from isometry_data.protein_records import AMINO_ACIDS, EIGHT_STATES, UNKNOWN_STATE, ProteinRecord, three_states
from isometry_data.text_files import lines_of, name_of

N_COLUMNS = 68
RESIDUES, STATES = slice(0, 20), slice(57, 65)  # one-hot, in the order of AMINO_ACIDS and EIGHT_STATES
IS_THERE, IS_ORDERED, IS_EVALUATED = 50, 51, 52
COLUMNS = ("input", "dssp3", "dssp8", "disorder", "cb513_mask")
BLANK = str.maketrans({"-": "C", "L": "C"})  # other letters for coil


def read_state_arrays(path: str | os.PathLike[str]) -> list[ProteinRecord]:
    """Records of `data` [n, longest, 68] and `pdbids` [n]; a residue counts that is ordered and is to be evaluated.

    Their accessibility is left out: its scale is not ours.

    Raises:
        FileNotFoundError: no such file.
        ValueError: one line: no archive of numpy, no such array in it, or another shape or number of names.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with np.load(path, allow_pickle=False) as archive:
            data, names = archive["data"], _names(archive)
    except (TypeError, ValueError, OSError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path}: no array 'data' to be read ({' '.join(str(error).split())[:80]}); expected NetSurfP-2.0's .npz"
        ) from None
    if data.ndim != 3 or data.shape[2] != N_COLUMNS:
        raise ValueError(f"{path}: data have shape {data.shape}, expected [proteins, residues, {N_COLUMNS}]")
    if not (data[..., IS_EVALUATED] > 0).any():  # a mask of CB513, which other sets may leave empty
        data[..., IS_EVALUATED] = 1
    names = names or [f"{Path(path).stem}_{number}" for number in range(1, len(data) + 1)]
    if len(names) != len(data):
        raise ValueError(
            f"{path}: {len(names)} pdbids of {len(data)} proteins; expected one of each; get the file anew"
        )
    return [_of_rows(rows[rows[:, IS_THERE] > 0], name, str(path)) for rows, name in zip(data, names, strict=True)]


def is_state_table(path: str | os.PathLike[str]) -> bool:
    """Whether a .csv (or .csv.gz) has sequences with states, by its first line."""
    if not str(path).lower().removesuffix(".gz").endswith(".csv"):
        return False
    return COLUMNS[0] in _columns(lines_of(path)[0])


def read_state_table(path: str | os.PathLike[str]) -> list[ProteinRecord]:
    """Records of the columns input, dssp3, dssp8, disorder and cb513_mask, of which the last two may be missing.

    Letters with or without spaces between; the masks are 1 where a residue is ordered, and where it is to be evaluated.

    Raises:
        FileNotFoundError: no such file.
        ValueError: one line with file and line: no sequences, no states, or lengths or numbers of columns that differ.
    """
    source, reader = name_of(path), csv.reader(lines_of(path))
    columns = _columns(",".join(next(reader)))
    if COLUMNS[0] not in columns or not {"dssp3", "dssp8"} & set(columns):
        raise ValueError(f"{source}, line 1: columns {', '.join(columns)}; expected {', '.join(COLUMNS)}")
    stem = Path(source).name.split(".")[0]
    records = []
    for number, row in enumerate((row for row in reader if row), start=1):
        if len(row) != len(columns):
            raise ValueError(
                f"{source}, line {reader.line_num}: {len(row)} columns, expected {len(columns)} as in line 1; "
                "correct that row"
            )
        records.append(_of_row(dict(zip(columns, row, strict=True)), f"{stem}_{number}", source, reader.line_num))
    if not records:
        raise ValueError(f"{source}: a header without rows; expected one row per protein; name another file")
    return records


def _names(archive: np.lib.npyio.NpzFile) -> list[str] | None:
    """None where they are missing, or Python objects, which are not read."""
    try:
        return archive["pdbids"].astype(str).tolist()
    except (KeyError, ValueError):
        return None


def _of_rows(rows: np.ndarray, name: str, source: str) -> ProteinRecord:
    states, is_ordered = _letters(rows[:, STATES], EIGHT_STATES, UNKNOWN_STATE), rows[:, IS_ORDERED] > 0
    return ProteinRecord(
        name=name,
        sequence=_letters(rows[:, RESIDUES], AMINO_ACIDS, "X"),
        source=source,
        ss8=states,
        ss3=three_states(states),
        mask=is_ordered & (rows[:, IS_EVALUATED] > 0),
        disorder=~is_ordered,
    )


def _letters(one_hot: np.ndarray, alphabet: str, unknown: str) -> str:
    places = np.where(one_hot.any(1), one_hot.argmax(1), len(alphabet))
    return "".join((alphabet + unknown)[place] for place in places)


def _columns(line: str) -> list[str]:
    return [column.strip().strip('"') for column in line.split(",")]


def _of_row(row: dict[str, str], name: str, source: str, line: int) -> ProteinRecord:
    where = f"{source}, line {line}, record {name}"
    sequence = "".join(row["input"].split()).upper()
    three, eight = (
        "".join(row[column].split()).translate(BLANK) if row.get(column) else None for column in ("dssp3", "dssp8")
    )
    is_ordered = _mask(row.get("disorder"), len(sequence), f"{where}, disorder")
    is_evaluated = _mask(row.get("cb513_mask"), len(sequence), f"{where}, cb513_mask")
    return ProteinRecord(
        name=name,
        sequence=sequence,
        source=source,
        line=line,
        ss8=eight,
        ss3=three if eight is None else three_states(eight),
        mask=is_ordered & is_evaluated,
        disorder=None if row.get("disorder") is None else ~is_ordered,
    )


def _mask(text: str | None, n: int, where: str) -> np.ndarray:
    """[n] true where 1; all where there is no such column."""
    if text is None:
        return np.ones(n, dtype=bool)
    marks: Sequence[str] = text.split()
    marks = list(marks[0]) if len(marks) == 1 and marks[0].isdigit() else marks
    if len(marks) != n or not all(mark in ("0", "1", "0.0", "1.0") for mark in marks):
        raise ValueError(f"{where}: {len(marks)} marks, expected {n}, one for each residue, 1 or 0; correct that row")
    return np.array([mark.startswith("1") for mark in marks])
