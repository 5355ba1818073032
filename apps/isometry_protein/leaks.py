"""Proteins of training that are validated or tested on, too: the same ones are told, near copies left out.

The search for near copies takes a minute or two, so what it found is kept in the cache, under a name that its input
decides.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import combinations, product
from pathlib import Path

from isometry.durable import write_whole
from isometry_data.catalogue import cache_folder
from isometry_data.protein_records import ProteinRecord
from isometry_data.sequence_clusters import near_copies

FINDS = 2  # raised when our own search finds other pairs than before, so that nothing older is taken for its result


def check_apart(files: Mapping[str, Sequence[Path]], parts: Mapping[str, Sequence[ProteinRecord]]) -> list[str]:
    """A line for each two parts that share sequences, in the order of the parts: training, validation, test.

    Args:
        files, parts: by the setting that names them.
    Raises:
        ValueError: two settings name the same file, or all sequences of the later part are in the earlier one.
    """
    notes = []
    for first, second in combinations(parts, 2):
        remedy = f"name other proteins in {second}, or leave it out"
        for one, other in product(files[first], files[second]):
            if one.exists() and other.exists() and one.samefile(other):
                raise ValueError(f"{first} and {second} name the same file, {one} and {other}; {remedy}")
        known = {record.sequence: record for record in reversed(parts[first])}
        copies = [record for record in parts[second] if record.sequence in known]
        if not copies:
            continue
        n, of = len(copies), len(parts[second])
        pair = f"such as {copies[0].label} and {known[copies[0].sequence].label}"
        if n == of:
            raise ValueError(f"every sequence of {second} is one of {first}, too, {pair}; {remedy}")
        notes.append(f"{second}: {n:,} of {of:,} sequences are in {first}, too, {pair}; isometry leak lists them")
    return notes


def without_near_copies(
    train: Sequence[ProteinRecord],
    held: Sequence[ProteinRecord],
    identity: float,
    search: str,
    names: tuple[str, str] = ("train", "validation or test"),
) -> tuple[list[ProteinRecord], str]:
    """The training proteins unlike every held one, and a line that says what was left out and how it was found.

    Args:
        held: of validation and test.
        identity: least share of identical residues, over half of the shorter sequence, of a near copy.
        search: `words`, `mmseqs` or `all`.
        names: of the two, for that line.
    """
    own, others = ([record.sequence for record in records] for records in (train, held))
    found_by = search if search == "mmseqs" else f"{search} {FINDS}"
    key = hashlib.sha256(json.dumps([found_by, identity, own, others]).encode()).hexdigest()[:24]
    file = cache_folder() / f"near-copies-{key}.json"
    places = _stored(file)
    if places is None:
        place_of = {id(record): place for place, record in enumerate(train)}
        places = [place_of[id(found.test)] for found in near_copies(held, train, identity, search=search)]
        with suppress(OSError):  # a cache that cannot be written costs time alone
            file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(file, json.dumps(places).encode())
    left_out = set(places)
    kept = [record for place, record in enumerate(train) if place not in left_out]
    return kept, (
        f"{names[0]}: {len(left_out):,} chains left out, {identity:.0%} or more identical to one of {names[1]} "
        f"(found by {search})"
    )


def _stored(file: Path) -> list[int] | None:
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None
