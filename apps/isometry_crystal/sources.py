"""Where a run's structures come from: the embedded silicon set, a set of the catalogue, or a user's files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from isometry.settings import Settings
from isometry_data.catalogue import locate
from isometry_data.checksums import checksums
from isometry_data.crystals import CrystalRecord, label_counts, read_crystals
from pydantic import Field, PositiveInt

from isometry_crystal.dataset import Split, split_records


class SourceSettings(Settings):
    """Which structures to train, validate and test on."""

    source: Literal["silicon", "mlearn", "files"] = "silicon"
    """silicon: the embedded DFT set; mlearn: Zuo et al. 2020, from ISOMETRY_DATA or the network; files: yours."""
    elements: tuple[str, ...] = ("Si",)
    """mlearn: which of its elements with a test set (Si, Cu, Ni, Mo); several make one model of all."""
    train: tuple[Path, ...] = ()
    """files: any format that ASE reads, with energies, forces or stresses."""
    valid: tuple[Path, ...] = ()
    """files: if none, blocks of the training files are set apart."""
    test: tuple[Path, ...] = ()
    """files: if none, blocks of the training files are set apart."""
    valid_fraction: float = Field(default=0.1, ge=0, lt=1)
    """Share of the training structures set apart where no validation set is given."""
    test_fraction: float = Field(default=0.1, ge=0, lt=1)
    """files: share set apart where no test set is given."""
    n_train: PositiveInt | None = None
    """Take only so many training structures, evenly spaced (a learning curve, a quick trial); none: all."""


class Structures(NamedTuple):
    """Records by split, and the checksum of each file they came from."""

    split: Split
    checksums: dict[str, str]


def structures(settings: SourceSettings, seed: int) -> Structures:
    """Read and split. Raises ValueError or OSError with file and frame for what cannot be used."""
    if settings.source == "silicon":
        split, files = split_records(_read([locate("silicon")])), [locate("silicon")]
    elif settings.source == "mlearn":
        train, test = ([locate("mlearn", f"{e}_{part}") for e in settings.elements] for part in ("train", "test"))
        split, files = _split_of(train, [], test, settings, seed), [*train, *test]
    else:
        files = [*settings.train, *settings.valid, *settings.test]
        split = _split_of(settings.train, settings.valid, settings.test, settings, seed)
    return Structures(split._replace(train=_thinned(split.train, settings.n_train)), checksums(files))


def notes(split: Split) -> tuple[str, ...]:
    """What a user should know about the data, a line per part."""
    lines = [f"{name}: {len(part)} structures, {label_counts(part)}" for name, part in split._asdict().items()]
    if not split.valid:
        lines.append("no validation set: too few blocks of frames to set one apart, so the last weights are kept")
    return tuple(lines)


def _split_of(
    train: Sequence[Path], valid: Sequence[Path], test: Sequence[Path], settings: SourceSettings, seed: int
) -> Split:
    """Files given for validation and test are taken whole; what is not given is set apart from the training files."""
    if not train:
        raise ValueError("data.source is files, but data.train names none; give --data.train FILE ...")
    given = Split(_read(train), _read(valid), _read(test))
    if given.valid and given.test:
        return given
    for_valid = 0.0 if given.valid else settings.valid_fraction
    for_test = 0.0 if given.test else settings.test_fraction
    found = split_records(given.train, valid=for_valid, test=for_test, seed=seed)
    return Split(found.train, given.valid or found.valid, given.test or found.test)


def _thinned(records: list[CrystalRecord], n: int | None) -> list[CrystalRecord]:
    if n is None or n >= len(records):
        return records
    return [records[i * len(records) // n] for i in range(n)]


def _read(files: Sequence[Path]) -> list[CrystalRecord]:
    return [record for file in files for record in read_crystals(file)]
