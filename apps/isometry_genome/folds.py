"""Which part of the data trains, validates and tests: rules that anyone can repeat without our files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

N_FOLDS = 5
VALID_SHARE = 10  # every 10th sequence that is not tested on validates


def fold_of(sequences: Sequence[str], labels: np.ndarray, n_folds: int = N_FOLDS) -> np.ndarray:
    """[n] fold 0 … n_folds - 1 of each sequence, our published rule.

    Within each class sequences are sorted by the sha256 of their upper-case letters, and dealt to the folds by turns:
    every fold has the share of classes that the whole has, whatever order the sequences come in.
    """
    folds = np.zeros(len(sequences), dtype=np.int64)
    for members in _by_hash(sequences, labels):
        folds[members] = np.arange(len(members)) % n_folds
    return folds


def thirds(sequences: Sequence[str], labels: np.ndarray, fold: int, n_folds: int = N_FOLDS) -> dict[str, np.ndarray]:
    """Numbers of the sequences that train, validate and test when `fold` is held out; validation is stratified, too."""
    if not 0 <= fold < n_folds:
        raise ValueError(f"data.fold is {fold}; expected 0 to {n_folds - 1}")
    is_test = fold_of(sequences, labels, n_folds) == fold
    is_valid = np.zeros(len(sequences), dtype=bool)
    for members in _by_hash(sequences, labels):
        is_valid[members[~is_test[members]][::VALID_SHARE]] = True
    return {name: np.flatnonzero(own) for name, own in _named(~(is_test | is_valid), is_valid, is_test)}


def _named(*parts: np.ndarray) -> list[tuple[str, np.ndarray]]:
    return list(zip(("train", "valid", "test"), parts, strict=True))


def _by_hash(sequences: Sequence[str], labels: np.ndarray) -> list[np.ndarray]:
    """By class, the numbers of its sequences in the order of their hashes."""
    keys = [hashlib.sha256(sequence.upper().encode("ascii")).hexdigest() for sequence in sequences]
    order = np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)
    return [order[labels[order] == label] for label in np.unique(labels)]


def chromosome_folds(lengths: Mapping[str, int], n_folds: int = 4) -> list[tuple[str, ...]]:
    """Whole sequences dealt to folds: the longest first, there and back again (0 1 2 3 3 2 1 0 …)."""
    names = sorted(lengths, key=lambda name: (-lengths[name], name))
    turns = [*range(n_folds), *reversed(range(n_folds))]
    folds: list[list[str]] = [[] for _ in range(n_folds)]
    for place, name in enumerate(names):
        folds[turns[place % (2 * n_folds)]].append(name)
    return [tuple(fold) for fold in folds]


def chromosome_split(
    lengths: Mapping[str, int], valid: Sequence[str] = (), test: Sequence[str] = ()
) -> dict[str, list[str]]:
    """Whole sequences for training, validation and test.

    Where none are named, the smallest set of sequences that holds a tenth of the bases, from the middle of the list by
    length, validates, and the next one tests.

    Raises ValueError where a name is unknown or named twice, or too few sequences are there to hold any out.
    """
    for name in (*valid, *test):
        if name not in lengths:
            raise ValueError(f"data.valid or data.test names {name!r}; the genome has {', '.join(list(lengths)[:8])}")
    if both := set(valid) & set(test):
        raise ValueError(f"{', '.join(sorted(both))} would validate and test; name each sequence once")
    rest = [name for name in lengths if name not in (*valid, *test)]
    chosen = {"valid": list(valid), "test": list(test)}
    for part, own in chosen.items():
        if not own and (part == "valid" or not valid):
            chosen[part] = _tenth(rest, lengths)
            rest = [name for name in rest if name not in chosen[part]]
    if not rest or not chosen["valid"]:
        raise ValueError(
            f"{', '.join(list(lengths)[:8])}: nothing is left to {'train' if not rest else 'validate'} on; name other "
            "sequences with data.valid and data.test, or none of them"
        )
    return {"train": rest, **chosen}


def stretch_split(middles: np.ndarray, length: int, n: int | None = None) -> dict[str, np.ndarray]:
    """Numbers of the windows of one sequence that train, validate and test: those within the first eight tenths, the
    next, and the last, so cut that a window's length lies between the parts. Windows nearer to a cut are in none.

    Args:
        middles: of the windows; the tenths are of them.
        length: bases of a window.
        n: bases of a circle, whose origin is a cut, too; None: beyond the ends there is nothing.
    """
    cuts = np.quantile(middles, (0.8, 0.9))
    edges = [-np.inf, *cuts, np.inf] if n is None else [0, *cuts, n]
    parts = [(middles - length >= first) & (middles + length <= last) for first, last in pairwise(edges)]
    return {name: np.flatnonzero(own) for name, own in _named(*parts)}


def _tenth(names: list[str], lengths: Mapping[str, int]) -> list[str]:
    if len(names) < 2:
        return []
    total = sum(lengths[name] for name in names)
    by_length = sorted(names, key=lambda name: (lengths[name], name))
    small = [name for name in by_length if lengths[name] <= total / 4] or by_length[:1]
    middle = small[len(small) // 2 :] + small[: len(small) // 2][::-1]
    chosen: list[str] = []
    while middle and sum(lengths[name] for name in chosen) < total / 10:
        chosen.append(middle.pop(0))
    return chosen[: max(len(names) - 1, 0)]
