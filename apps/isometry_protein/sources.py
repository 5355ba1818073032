"""Where a run's proteins come from: simulated chains, the catalogue's training sets, or a user's files."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import groupby
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

from isometry_protein.leaks import check_apart, without_near_copies
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
    with_valid_like_test: bool = True
    """netsurfp2: validate on chains that are like one of test, too, as did the shipped checkpoint's run; false: leave
    out of validation what `most_identical` leaves out of training."""
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
    search: Literal["words", "mmseqs", "all"] = "words"
    """What finds similar sequences: our own search, the same everywhere; MMseqs2, which finds more distant ones; all:
    every pair is aligned, which misses none and takes minutes for thousands of proteins."""
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


TESTS: dict[str, tuple[str, ...]] = {"cb513": ("netsurfp2", "cb513")} | {n: (n,) for n in ("ts115", "casp12", "new364")}
"""Test sets of the catalogue that may be named in place of a file."""
SIMULATED = (8000, 300, 300)
LARGER = 1.5  # as many times the wanted share a cluster may be, to be set apart
USUAL = "GHI/EB"  # classes of three states, where a file tells no eight
SHARE_OF_CB6133 = 20  # every 20th of its proteins validates eight states


def proteins(settings: SourceSettings, mapping: str, seed: int) -> Proteins:
    """Read and split. Raises ValueError or OSError with file and line for what cannot be used."""
    _check_files_are_read(settings)
    made = {"simulated": _simulated, "netsurfp2": _netsurfp2, "files": _files}[settings.source]
    split, files, notes = made(settings, mapping, seed)
    if not split.train:
        raise ValueError("no training protein is left; check data.train")
    split = split._replace(train=_thinned(split.train, settings.n_train))
    counts = [f"{name}: {label_counts(part)}" for name, part in split._asdict().items() if part]
    sums = checksums(files) if files else {"seed": str(seed)}
    return Proteins(split, sums, (*counts, *notes))


def _check_files_are_read(settings: SourceSettings) -> None:
    """Files that nobody reads would leave a network trained on something else than its user thinks."""
    named = [name for name in ("train", "valid", "test") if getattr(settings, name)]
    if named and settings.source != "files":
        raise ValueError(
            f"data.{named[0]} names files, but data.source is {settings.source}, which reads none of them; "
            "add --data.source files"
        )


def tested(settings: SourceSettings, mapping: str, seed: int) -> tuple[list[ProteinRecord], dict[str, str]]:
    """`proteins`' test set and the checksums of its own files: those of training and validation may be elsewhere."""
    if settings.source == "netsurfp2":
        from isometry_data.catalogue import locate

        file = locate("netsurfp2", "cb513")
        return read_states(file), checksums([file])
    if settings.source == "files":
        files = [_place(file) for file in settings.test]
        return read(files, mapping)[0], checksums(files)
    return _simulated_part(2, SIMULATED[2], settings, seed), {"seed": str(seed)}


def read(files: Iterable[Path], mapping: str, *, with_labels: bool = True) -> tuple[list[ProteinRecord], list[str]]:
    """Records of any files, in order, and what their readers noted; of structures without labels, which take time."""
    records: list[ProteinRecord] = []
    notes: list[str] = []
    for file in files:
        found = read_proteins(_place(file), Labelling(mapping=mapping, with_any=with_labels))
        records += found.records
        notes += found.notes
    return records, notes


def _place(file: Path) -> Path:
    """A file, or the catalogue's test set of that name."""
    from isometry_data.catalogue import locate

    return locate(*TESTS[str(file)]) if str(file) in TESTS and not file.exists() else file


def _simulated(settings: SourceSettings, _mapping: str, seed: int) -> tuple[Split, list[Path], list[str]]:
    if settings.shortest > settings.longest:
        raise ValueError(f"data.shortest is {settings.shortest}, above data.longest, {settings.longest}")
    n_train, n_valid, n_test = SIMULATED
    sizes = (settings.n_train or n_train, n_valid, n_test)
    return Split(*(_simulated_part(i, n, settings, seed) for i, n in enumerate(sizes))), [], []


def _simulated_part(part: int, n: int, settings: SourceSettings, seed: int) -> list[ProteinRecord]:
    return simulated(n, 3 * seed + part, settings.shortest, settings.longest)


def _netsurfp2(settings: SourceSettings, mapping: str, _seed: int) -> tuple[Split, list[Path], list[str]]:
    if mapping != USUAL:
        raise ValueError(
            f"model.mapping is {mapping}, but the three states of NetSurfP-2.0 are those of {USUAL}, and its eight are "
            "not known; leave model.mapping, or train on files with eight states"
        )
    files = _files_of_netsurfp2(settings)
    train, valid, test = (read_states(file, mask_is_order=file is not files[2]) for file in files[:3])
    if settings.with_cb6133:
        eight = read_states(files[3])
        valid += eight[::SHARE_OF_CB6133]
        train += [record for i, record in enumerate(eight) if i % SHARE_OF_CB6133]
    how = (settings.most_identical, settings.search)
    train, note = without_near_copies(train, [*valid, *test], *how)
    notes = [note]
    if not settings.with_valid_like_test:  # training stays as it is: unlike these chains, too
        valid, note = without_near_copies(valid, test, *how, names=("valid", "test"))
        notes.append(note)
    return Split(train, valid, test), files, notes


def _files_of_netsurfp2(settings: SourceSettings) -> list[Path]:
    """Training, validation, test and, where wanted, CB6133."""
    from isometry_data.catalogue import locate

    files = [locate("netsurfp2", part) for part in ("train", "valid", "cb513")]
    return [*files, locate("cb6133")] if settings.with_cb6133 else files


def _files(settings: SourceSettings, mapping: str, seed: int) -> tuple[Split, list[Path], list[str]]:
    if not settings.train:
        raise ValueError("data.source is files, but data.train names none; give --data.train FILE ...")
    named = {"data.train": settings.train, "data.valid": settings.valid, "data.test": settings.test}
    files = {name: [_place(file) for file in own] for name, own in named.items()}
    parts: dict[str, list[ProteinRecord]] = {}
    notes: list[str] = []
    for name, own in files.items():
        parts[name], noted = read(own, mapping)
        notes += [*noted, *_unmarked(parts[name]), *_of_three_states(parts[name], mapping)]
    notes += check_apart(files, parts)
    split = Split(*parts.values())
    if not split.valid:
        held, noted = _hold_out(split.train, settings, seed)
        split, notes = split._replace(**held), [*notes, *noted]
    return split, [file for own in files.values() for file in own], notes


def _of_three_states(records: list[ProteinRecord], mapping: str) -> list[str]:
    """A line if three states alone are known of some proteins, and are to mean something unusual."""
    alone = [record for record in records if record.ss3 is not None and record.ss8 is None]
    if mapping == USUAL or not alone:
        return []
    told = f"three states alone are known (so of {len(alone):,} of {len(records):,} chains)"
    return [f"{alone[0].label}: {told}; make sure that they are those of model.mapping {mapping}, not of {USUAL}"]


def _unmarked(records: list[ProteinRecord]) -> list[str]:
    """A line for each file with proteins of which no label counts."""
    lines = []
    for _, own in groupby(records, key=lambda record: record.source):
        every = list(own)
        masked = [record for record in every if record.mask is not None and not record.mask.any()]
        if masked:
            lines.append(
                f"{masked[0].label}: its mask is 0 at every residue, so that none of its states counts (so of "
                f"{len(masked):,} of {len(every):,} chains of this file); write 1 where they count, or leave it out"
            )
    return lines


def _hold_out(
    records: list[ProteinRecord], settings: SourceSettings, seed: int
) -> tuple[dict[str, list[ProteinRecord]], list[str]]:
    """Training and validation: whole clusters, in an order fixed by the seed, until the fraction is reached.

    A line says so where no cluster is small enough.
    """
    groups = sequence_clusters([record.sequence for record in records], settings.most_identical, search=settings.search)
    wanted, held = settings.valid_fraction * len(records), set[int]()
    sizes = np.bincount(groups)
    for group in np.random.default_rng(seed).permutation(len(sizes)).tolist():
        if sizes[group] <= LARGER * wanted and len(held) + 1 < len(sizes):
            held.add(group)
            wanted -= sizes[group]
        if wanted <= 0:
            break
    split = {
        "train": [record for record, group in zip(records, groups.tolist(), strict=True) if group not in held],
        "valid": [record for record, group in zip(records, groups.tolist(), strict=True) if group in held],
    }
    return split, [] if held or not records else [_none_held(sizes, settings)]


def _none_held(sizes: np.ndarray, settings: SourceSettings) -> str:
    n, smallest = int(sizes.sum()), int(sizes.min())
    remedy = "give --data.valid FILE"
    if len(sizes) > 1:
        enough = math.ceil(100 * smallest / (LARGER * n)) / 100
        remedy += f", or --data.valid-fraction {enough:g}, by which the smallest cluster is set apart"
    clusters = f"{len(sizes):,} cluster{'s' if len(sizes) > 1 else ''} of similar sequences"
    return (
        f"there is no validation set: the {n:,} training chains are {clusters}, the smallest of {smallest:,}, more "
        f"than a share of {settings.valid_fraction:g} allows; the last weights are taken for the best and nothing is "
        f"calibrated; {remedy}"
    )


def _thinned(records: list[ProteinRecord], n: int | None) -> list[ProteinRecord]:
    if n is None or n >= len(records):
        return records
    return [records[i * len(records) // n] for i in range(n)]
