"""Public genome files as the catalogue's prepared ones; contents are compared by checksum, packing may differ."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Sequence
from pathlib import Path

from isometry_data.genomes import Genome, open_genome
from isometry_data.text_files import text_of
from isometry_data.written_whole import LEVEL, written_whole

LINE = 60  # bases
_UPPER = 0xDF

# Which file of CNNPromoterData, in the order of the prepared table, is which set and class.
PROMOTER_FILES = {
    "Ecoli_prom.fa": ("ecoli_s70", 1),
    "Ecoli_non_prom.fa": ("ecoli_s70", 0),
    "Arabidopsis_non_tata.fa": ("ath_nontata", 1),
    "Arabidopsis_non_prom_big.fa": ("ath_nontata", 0),
    "Mouse_tata.fa": ("mouse_tata", 1),
    "Mouse_nonprom.fa": ("mouse_tata", 0),
}


def convert_genome(sources: Sequence[Path], made: Path, names: Sequence[str], sha256: str) -> None:
    """A genome in any format becomes FASTA in upper case with the sequences of these names.

    Raises:
        ValueError: a sequence is missing, or they are not those whose `checksum_of` is given.
    """
    with open_genome(sources[0]) as genome:
        _check(checksum_of(genome, names), sha256, sources[0])
        with written_whole(made) as stream:
            for name in names:
                stream.write(f">{name}\n")
                text = (genome.fetch(name, 0, genome.lengths[name]) & _UPPER).tobytes().decode("ascii")
                stream.writelines(text[at : at + LINE] + "\n" for at in range(0, len(text), LINE))


def checksum_of(genome: Genome, names: Sequence[str]) -> str:
    """sha256 of names and letters (upper case), a line each."""
    digest = hashlib.sha256()
    for name in names:
        letters = genome.fetch(name, 0, genome.lengths.get(name, 0))
        digest.update(name.encode() + b"\n" + (letters & _UPPER).tobytes() + b"\n")
    return digest.hexdigest()


def convert_promoters(sources: Sequence[Path], made: Path, sha256: str) -> None:
    """The FASTA files named in `PROMOTER_FILES` become one table: set, label, seq."""
    rows = ["set,label,seq"]
    for source in sources:
        name, label = PROMOTER_FILES[source.name]
        rows += [f"{name},{label},{sequence}" for sequence in _sequences(source)]
    _write_checked("".join(row + "\r\n" for row in rows), made, sha256, sources[0].parent)


def convert_table(sources: Sequence[Path], made: Path, sha256: str) -> None:
    """A table whose unpacked bytes are the prepared one's."""
    _write_checked(gzip.decompress(sources[0].read_bytes()).decode(), made, sha256, sources[0])


def _sequences(file: Path) -> list[str]:
    """Of a FASTA file whose names may be anything."""
    return ["".join(record.split("\n")[1:]).strip().upper() for record in f"\n{text_of(file)}".split("\n>")[1:]]


def _write_checked(text: str, made: Path, sha256: str, source: Path) -> None:
    _check(hashlib.sha256(text.encode()).hexdigest(), sha256, source)
    made.write_bytes(gzip.compress(text.encode(), LEVEL, mtime=0))


def _check(found: str, expected: str, source: Path) -> None:
    if found != expected:
        raise ValueError(f"{source.name}: contents have sha256 {found[:12]}…, expected {expected[:12]}…: they changed")
