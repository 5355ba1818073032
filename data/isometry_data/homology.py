"""Which windows of test sequences have a near copy among training sequences, on either strand.

Of every k + w - 1 neighbouring bases the k-mer with the smallest hash, of the two strands' spellings the smaller, is
kept (a minimizer): two sequences that agree over k + w - 1 bases keep the same one. Of a window's minimizers training
has, as a random sequence with substitutions shows (tests), about identity ** 17.5: all of a copy, 0.70 where 2 % of the
bases differ, 0.41 at 5 %, 0.16 at 10 %, and below 0.03 of unrelated sequences.

Source: Roberts et al., Bioinformatics 20, 3363 (2004); Li, Bioinformatics 32, 2103 (2016). The hash: Steele et al.,
OOPSLA (2014), SplitMix64.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from isometry_data.bases import BASE_SETS
from isometry_data.genomes import Genome

K = 16  # bases of a word: 2 bits each; 4.3e9 words, so that few are shared by chance in 1e7 bases
W = 10  # words of which one is kept
WINDOW = 1000  # bases
LEAST = 0.2  # of a window's minimizers
CHUNK = 1 << 18  # bases hashed at a time: they stay in the processor's cache
_NOWHERE = -1
_CODE = np.full(256, 4, dtype=np.uint8)
for _code, _set in enumerate((1, 2, 4, 8)):
    _CODE[np.flatnonzero(_set == BASE_SETS)] = _code  # A 0, C 1, G 2, T and U 3; others 4


class Minimizers(NamedTuple):
    """The kept words of a sequence, by position."""

    hash: np.ndarray  # uint64
    position: np.ndarray  # int64, of the first base
    is_minus: np.ndarray  # bool: the word as spelt on the other strand


class SharedWindow(NamedTuple):
    """A window of a test sequence and where in training most of it is found."""

    test: str
    start: int
    end: int
    train: str
    train_start: int  # about: by the most frequent offset
    is_minus: bool
    share: float  # of its minimizers that are anywhere in training


def shared_windows(
    train: Mapping[str, np.ndarray],
    test: Mapping[str, np.ndarray],
    *,
    window: int = WINDOW,
    least: float = LEAST,
) -> list[SharedWindow]:
    """The windows of test sequences of which training has at least the share `least`, in the order of `test`.

    Args:
        train, test: ASCII letters by name, of any case; words with N or another ambiguous letter are left out.
        window: bases; a sequence is cut from its start, the rest behind the last whole window is a window of its own.
    """
    kept = {name: minimizers(letters) for name, letters in test.items()}
    if not train or not any(len(own.hash) for own in kept.values()):
        return []
    index = _Index(kept.values())
    names, lengths = list(train), []
    for number, name in enumerate(names):
        letters = train[name]
        lengths.append(len(letters))
        for part in _parts(letters):
            index.meet(part, number)
    found: list[SharedWindow] = []
    for name, own in kept.items():
        length = len(test[name])
        for number, share, at, start, is_minus in index.shared(own, length, window, least):
            begin = number * window
            end = min(begin + window, length)
            last = max(lengths[at] - (end - begin), 0)
            found.append(SharedWindow(name, begin, end, names[at], min(max(start, 0), last), is_minus, share))
    return found


class Fetched(Mapping[str, np.ndarray]):
    """Stretches of a genome by name, fetched each time they are asked for, so that no two are held."""

    def __init__(self, genome: Genome, stretches: Mapping[str, tuple[str, int, int]]):
        self._genome, self._stretches = genome, dict(stretches)

    def __getitem__(self, name: str) -> np.ndarray:
        return self._genome.fetch(*self._stretches[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._stretches)

    def __len__(self) -> int:
        return len(self._stretches)


def sequences_of(genome: Genome, names: Collection[str] | None = None) -> Mapping[str, np.ndarray]:
    """Whole sequences of a genome by name; all where none are named."""
    lengths = genome.lengths
    return Fetched(genome, {name: (name, 0, lengths[name]) for name in (genome.names if names is None else names)})


def shared_share(found: Collection[SharedWindow], test: Mapping[str, np.ndarray]) -> float:
    """The share of the test bases that lie in shared windows."""
    total = sum(len(letters) for letters in test.values())
    return sum(window.end - window.start for window in found) / total if total else 0.0


def minimizers(letters: np.ndarray) -> Minimizers:
    """Of ASCII letters of any length; none where it is shorter than a word."""
    return _joined(list(_parts(letters)))


def _parts(letters: np.ndarray) -> Iterator[Minimizers]:
    """The minimizers of one chunk after the other, by position. Chunks overlap by more than a word and its neighbours:
    no minimizer is lost, and none is found at a cut only."""
    overlap = K + 2 * W
    carried = _of_chunk(letters[:0], 0)
    for at in range(0, max(len(letters) - overlap, 1), CHUNK):
        found = _joined([carried, _of_chunk(letters[at : at + CHUNK + overlap], at)])
        _, first = np.unique(found.position, return_index=True)
        is_done = found.position[first] < at + CHUNK
        yield Minimizers(*(column[first[is_done]] for column in found))
        carried = Minimizers(*(column[first[~is_done]] for column in found))
    yield carried


def _joined(parts: list[Minimizers]) -> Minimizers:
    return Minimizers(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _of_chunk(letters: np.ndarray, offset: int) -> Minimizers:
    n_words = len(letters) - K + 1
    if n_words < 1:
        return Minimizers(np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0, bool))
    code = _CODE[letters]
    plus, minus = _words(code & 3), _words((3 - (code & 3))[::-1])[::-1]
    is_whole = np.convolve(code > 3, np.ones(K, np.int64), "valid") == 0 if (code > 3).any() else None
    is_minus = minus < plus
    hashes = _mixed(np.where(is_minus, minus, plus))
    if is_whole is not None:
        hashes[~is_whole] = np.iinfo(np.uint64).max
    span = min(W, n_words)
    least = _sliding(hashes, span, np.minimum)
    padding = np.zeros(span - 1, np.uint64)
    is_kept = _sliding(np.concatenate([padding, least, padding]), span, np.maximum) == hashes
    if is_whole is not None:
        is_kept &= is_whole
    kept = np.flatnonzero(is_kept)
    return Minimizers(hashes[kept], kept + offset, is_minus[kept])


def _words(code: np.ndarray) -> np.ndarray:
    """Every K neighbouring 2-bit codes as one number, by doubling."""
    word, length = code.astype(np.uint64), 1
    while length < K:  # a power of two
        word = (word[:-length] << np.uint64(2 * length)) | word[length:]
        length *= 2
    return word


def _sliding(values: np.ndarray, span: int, smaller: np.ufunc) -> np.ndarray:
    """Minimum or maximum over each `span` neighbours, by doubling: [len(values) - span + 1]."""
    length = 1
    while length < span:
        step = min(length, span - length)
        values = smaller(values[:-step], values[step:])
        length += step
    return values


def _mixed(word: np.ndarray) -> np.ndarray:
    """SplitMix64's finish: a word's neighbours in the alphabet get far hashes."""
    word = (word + np.uint64(0x9E3779B97F4A7C15)) & np.uint64(0xFFFFFFFFFFFFFFFF)
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))


class _Index:
    """The words of the test sequences, each once, and where training has it first. Of training nothing else is held."""

    def __init__(self, sequences: Iterable[Minimizers]):
        self._hash = np.unique(np.concatenate([own.hash for own in sequences]))
        self._number = np.full(len(self._hash), _NOWHERE, dtype=np.int32)
        self._position = np.zeros(len(self._hash), dtype=np.int64)
        self._is_minus = np.zeros(len(self._hash), dtype=bool)

    def meet(self, found: Minimizers, number: int) -> None:
        """More of the training sequence of this number, by position."""
        # Sorted ones are found sooner; of equal ones the first stays first.
        order = np.argsort(found.hash, kind="stable")
        hashes = found.hash[order]
        at = self._places(hashes)
        is_new = (self._hash[at] == hashes) & (self._number[at] == _NOWHERE)
        at, first = np.unique(at[is_new], return_index=True)
        first = order[is_new][first]
        self._number[at] = number
        self._position[at], self._is_minus[at] = found.position[first], found.is_minus[first]

    def _places(self, hashes: np.ndarray) -> np.ndarray:
        return np.minimum(np.searchsorted(self._hash, hashes), len(self._hash) - 1)

    def shared(
        self, found: Minimizers, length: int, window: int, least: float
    ) -> Iterator[tuple[int, float, int, int, bool]]:
        """Of each shared window: its number, the share, the training sequence, where in it, and on which strand."""
        if not len(found.hash):
            return
        n_windows = -(-length // window)
        inside = found.position // window
        at = self._places(found.hash)
        is_hit = self._number[at] != _NOWHERE
        n_kept = np.bincount(inside, minlength=n_windows)
        share = np.bincount(inside[is_hit], minlength=n_windows) / np.maximum(n_kept, 1)
        best = self._best_places(found, at, is_hit, inside, window)
        for number in np.flatnonzero((share >= least) & (n_kept > 0)):
            sequence, start, is_minus = best[int(number)]
            yield int(number), float(share[number]), sequence, start, is_minus

    def _best_places(
        self, found: Minimizers, at: np.ndarray, is_hit: np.ndarray, inside: np.ndarray, window: int
    ) -> dict[int, tuple[int, int, bool]]:
        """Of each window with hits the most frequent place: where its first base lies, to half a window."""
        at, inside = at[is_hit], inside[is_hit]
        is_minus = self._is_minus[at] ^ found.is_minus[is_hit]
        within = found.position[is_hit] - inside * window  # from the window's start
        there = self._position[at]
        start = np.where(is_minus, there + K + within - window, there - within)
        bins = (start + window // 4) // max(window // 2, 1)
        keys = np.stack([inside, self._number[at], is_minus, bins], axis=1)
        places, first, count = np.unique(keys, axis=0, return_index=True, return_counts=True)
        order = np.lexsort((count, places[:, 0]))  # the last of each window has the most
        return {int(places[i, 0]): (int(places[i, 1]), int(start[first[i]]), bool(places[i, 2])) for i in order}
