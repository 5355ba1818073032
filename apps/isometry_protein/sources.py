"""Where a run's proteins come from: simulated chains, the catalogue's training sets, or a user's files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from isometry.settings import Settings
from isometry_data.checksums import checksums
from isometry_data.protein_records import ProteinRecord, label_counts
from isometry_data.proteins import Labelling, read_proteins
from isometry_data.sequence_clusters import sequence_clusters
from isometry_data.state_files import read_states
from pydantic import Field, PositiveInt

from isometry_protein.leaks import without_near_copies
from isometry_protein.simulate import simulated


class SourceSettings(Settings):
    """Which proteins to train, validate and test on."""

    source: Literal["simulated", "netsurfp2", "files"] = "simulated"
    """simulated: a semi-Markov chain whose best predictor is known; netsurfp2: Klausen et al. 2019, tested on CB513;
    files: yours."""
    n_train: PositiveInt | None = None
    """Take only so many training proteins, evenly spaced (a learning curve); none: all. simulated: 8,000."""
    shortest: PositiveInt = 40
    """simulated: residues of the shortest protein."""
    longest: PositiveInt = 160
    """simulated: residues of the longest protein."""
    with_cb6133: bool = True
    """netsurfp2: train on the eight states of CB6133, too."""
    train: tuple[Path, ...] = ()
    """files: FASTA with states (.ss), PDB or mmCIF."""
    valid: tuple[Path, ...] = ()
    """files: if none, clusters of similar training sequences are set apart."""
    test: tuple[Path, ...] = ()
    """files: if none, there is no test."""
    valid_fraction: float = Field(default=0.1, gt=0, lt=1)
    """Share of the training proteins set apart where no validation set is given."""
    most_identical: float = Field(default=0.25, gt=0, le=1)
    """netsurfp2: a training chain with this share of its residues, or more, in common with one of validation or test,
    over half of the shorter of the two, is left out. files: what makes two sequences similar."""
    search: Literal["words", "mmseqs"] = "words"
    """What finds similar sequences: our own search, the same everywhere, or MMseqs2, which finds more distant ones."""
    labels: Path | None = None
    """A CSV file of whole proteins: name, then numbers, or a column class."""


class Split(NamedTuple):
    train: list[ProteinRecord]
    valid: list[ProteinRecord]
    test: list[ProteinRecord]


class Proteins(NamedTuple):
    """Records by split, the checksum of each file they came from, and what was met on the way."""

    split: Split
    checksums: dict[str, str]
    notes: tuple[str, ...]


SIMULATED = (8000, 300, 300)
SHARE_OF_CB6133 = 20  # every 20th of its proteins validates eight states


def proteins(settings: SourceSettings, mapping: str, seed: int) -> Proteins:
    """Read and split. Raises ValueError or OSError with file and line for what cannot be used."""
    made = {"simulated": _simulated, "netsurfp2": _netsurfp2, "files": _files}[settings.source]
    split, files, notes = made(settings, mapping, seed)
    if not split.train:
        raise ValueError("no training protein is left; check data.train")
    split = split._replace(train=_thinned(split.train, settings.n_train))
    counts = [f"{name}: {label_counts(part)}" for name, part in split._asdict().items() if part]
    sums = checksums(files) if files else {"seed": str(seed)}
    return Proteins(split, sums, (*counts, *notes))


def read(files: Iterable[Path], mapping: str) -> tuple[list[ProteinRecord], list[str]]:
    """Records of any files, in order, and what their readers noted."""
    records: list[ProteinRecord] = []
    notes: list[str] = []
    for file in files:
        found = read_proteins(file, Labelling(mapping=mapping))
        records += found.records
        notes += found.notes
    return records, notes


def _simulated(settings: SourceSettings, _mapping: str, seed: int) -> tuple[Split, list[Path], list[str]]:
    if settings.shortest > settings.longest:
        raise ValueError(f"data.shortest is {settings.shortest}, above data.longest, {settings.longest}")
    n_train, n_valid, n_test = SIMULATED
    sizes = (settings.n_train or n_train, n_valid, n_test)
    parts = (simulated(n, 3 * seed + i, settings.shortest, settings.longest) for i, n in enumerate(sizes))
    return Split(*parts), [], []


def _netsurfp2(settings: SourceSettings, _mapping: str, _seed: int) -> tuple[Split, list[Path], list[str]]:
    from isometry_data.catalogue import locate

    files = [locate("netsurfp2", part) for part in ("train", "valid", "cb513")]
    train, valid, test = (read_states(file, mask_is_order=file is not files[2]) for file in files)
    if settings.with_cb6133:
        files.append(locate("cb6133"))
        eight = read_states(files[-1])
        valid += eight[::SHARE_OF_CB6133]
        train += [record for i, record in enumerate(eight) if i % SHARE_OF_CB6133]
    train, note = without_near_copies(train, [*valid, *test], settings.most_identical, settings.search)
    return Split(train, valid, test), files, [note]


def _files(settings: SourceSettings, mapping: str, seed: int) -> tuple[Split, list[Path], list[str]]:
    if not settings.train:
        raise ValueError("data.source is files, but data.train names none; give --data.train FILE ...")
    parts, notes = [], []
    for files in (settings.train, settings.valid, settings.test):
        records, noted = read(files, mapping)
        parts.append(records)
        notes += noted
    split = Split(*parts)
    if not split.valid:
        split = split._replace(**_hold_out(split.train, settings, seed))
    return split, [*settings.train, *settings.valid, *settings.test], notes


def _hold_out(records: list[ProteinRecord], settings: SourceSettings, seed: int) -> dict[str, list[ProteinRecord]]:
    """Training and validation: whole clusters, in an order fixed by the seed, until the fraction is reached."""
    groups = sequence_clusters([record.sequence for record in records], settings.most_identical, search=settings.search)
    wanted, held = settings.valid_fraction * len(records), set[int]()
    sizes = np.bincount(groups)
    for group in np.random.default_rng(seed).permutation(len(sizes)).tolist()[:-1]:
        if sizes[group] <= 1.5 * wanted:
            held.add(group)
            wanted -= sizes[group]
        if wanted <= 0:
            break
    return {
        "train": [record for record, group in zip(records, groups.tolist(), strict=True) if group not in held],
        "valid": [record for record, group in zip(records, groups.tolist(), strict=True) if group in held],
    }


def _thinned(records: list[ProteinRecord], n: int | None) -> list[ProteinRecord]:
    if n is None or n >= len(records):
        return records
    return [records[i * len(records) // n] for i in range(n)]
