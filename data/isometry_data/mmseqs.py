"""Local alignments found by the program MMseqs2 (Steinegger & Söding, Nat. Biotechnol. 35, 1026, 2017)."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from isometry_data.local_alignments import LEAST_CHANCE, Alignment

PROGRAM = "mmseqs"
SENSITIVITY = 7.5  # the program's highest
MOST_TARGETS = 10_000  # of one query
COLUMNS = "query,target,fident,qstart,qend,tstart,tend,qlen,tlen"


def has_mmseqs() -> bool:
    """Whether the program is installed."""
    return shutil.which(PROGRAM) is not None


def alignments_by_mmseqs(queries: Sequence[str], targets: Sequence[str]) -> list[Alignment]:
    """The best local alignment of every pair the program finds with an E-value up to `LEAST_CHANCE`; one thread.

    Raises:
        OSError: the program is not installed or fails.
    """
    if not has_mmseqs():
        raise OSError(
            f"{PROGRAM} is not installed (Debian: apt-get install mmseqs2); choose the built-in search instead"
        )
    with tempfile.TemporaryDirectory(prefix="isometry-mmseqs-") as folder:
        room = Path(folder)
        for name, sequences in (("queries", queries), ("targets", targets)):
            (room / name).write_text("".join(f">{k}\n{sequence}\n" for k, sequence in enumerate(sequences)))
        found = room / "found"
        _run(["easy-search", str(room / "queries"), str(room / "targets"), str(found), str(room / "work")])
        return [_alignment(line.split("\t")) for line in found.read_text().splitlines()]


def _run(arguments: list[str]) -> None:
    options = {
        "-s": SENSITIVITY,
        "-e": LEAST_CHANCE,
        "--max-seqs": MOST_TARGETS,
        "--alignment-mode": 3,  # with identities
        "--format-output": COLUMNS,
        "--threads": 1,
        "-v": 1,
    }
    words = [str(word) for option in options.items() for word in option]
    done = subprocess.run([PROGRAM, *arguments, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = " ".join((done.stderr or done.stdout).split())[-200:]
        raise OSError(f"{PROGRAM} failed ({reason or f'exit status {done.returncode}'})")


def _alignment(columns: list[str]) -> Alignment:
    identity = float(columns.pop(2))
    query, target, query_start, query_end, target_start, target_end, *lengths = (int(value) for value in columns)
    aligned = (query_end - query_start + 1, target_end - target_start + 1)
    shorter = int(lengths[1] < lengths[0])
    return Alignment(query, target, identity, aligned[shorter] / lengths[shorter])
