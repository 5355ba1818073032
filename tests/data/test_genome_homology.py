"""Planted copies are found where they were planted, on either strand; strangers are not."""

import tracemalloc
from collections.abc import Mapping

import numpy as np
import pytest
from isometry_data import homology
from isometry_data.bases import ascii_of, reverse_complement
from isometry_data.genomes import open_genome
from isometry_data.homology import K, W, minimizers, sequences_of, shared_share, shared_windows

BASES = ascii_of("ACGT")
SHARES = {0.0: (1.0, 0.0), 0.02: (0.70, 0.02), 0.05: (0.41, 0.02), 0.10: (0.16, 0.02)}  # mean of 300 windows, tolerance
GROWTH = 1.1  # of peak memory with five times the training sequences
STRANGERS = 0.05  # share of a window's minimizers among a million unrelated bases


def random_letters(rng, length):
    return BASES[rng.integers(0, 4, length)]


def mutated(rng, letters, rate):
    changed = rng.random(len(letters)) < rate
    codes = np.searchsorted(BASES, letters)
    codes[changed] = (codes[changed] + rng.integers(1, 4, changed.sum())) % 4
    return BASES[codes]


def hash_of(word: str) -> int:
    def code(letters):
        return sum("ACGT".index(letter) << 2 * (len(letters) - 1 - k) for k, letter in enumerate(letters))

    other = word.translate(str.maketrans("ACGT", "TGCA"))[::-1]
    mask = 2**64 - 1
    z = (min(code(word), code(other)) + 0x9E3779B97F4A7C15) & mask
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
    z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
    return z ^ z >> 31


def by_brute_force(text: str) -> set[int]:
    """Positions of the words with the smallest hash of any W neighbours; words with N never."""
    text = text.upper()
    n_words = max(len(text) - K + 1, 0)
    words = [text[i : i + K] for i in range(n_words)]
    hashes = [hash_of(word) if set(word) <= set("ACGT") else 2**64 - 1 for word in words]
    span, kept = min(W, n_words), set()
    for start in range(n_words - span + 1 if n_words else 0):
        least = min(hashes[start : start + span])
        kept |= {i for i in range(start, start + span) if hashes[i] == least}
    return {i for i in kept if set(words[i]) <= set("ACGT")}


@pytest.mark.parametrize("length", [0, 1, K - 1, K, K + 1, K + W, 90, 91, 127, 128, 400])
def test_minimizers_are_those_of_brute_force(monkeypatch, length):
    monkeypatch.setattr(homology, "CHUNK", 64)
    rng = np.random.default_rng(length)
    letters = random_letters(rng, length).copy()
    letters[rng.random(length) < 0.01] = ord("N")
    letters[length // 2 :] |= 0x20  # lower case
    found = minimizers(letters)
    text = letters.tobytes().decode()
    assert found.position.tolist() == sorted(by_brute_force(text))
    assert found.hash.tolist() == [hash_of(text[i : i + K].upper()) for i in found.position]


def test_both_strands_have_the_same_minimizers():
    letters = random_letters(np.random.default_rng(1), 5000)
    one, other = minimizers(letters), minimizers(reverse_complement(letters))
    np.testing.assert_array_equal(one.hash, other.hash[::-1])
    np.testing.assert_array_equal(one.position, len(letters) - K - other.position[::-1])
    np.testing.assert_array_equal(one.is_minus, ~other.is_minus[::-1])


@pytest.mark.parametrize("rate", SHARES)
def test_share_falls_with_the_bases_that_differ(rate):
    rng = np.random.default_rng(2)
    train = random_letters(rng, 300_000)
    found = shared_windows({"t": train}, {"q": mutated(rng, train, rate)}, least=0.0)
    mean, tolerance = SHARES[rate]
    assert len(found) == 300
    assert abs(np.mean([window.share for window in found]) - mean) <= tolerance


@pytest.mark.parametrize("rate", [0.0, 0.02, 0.05])
@pytest.mark.parametrize("is_minus", [False, True])
def test_planted_copies_are_found_where_they_are(rate, is_minus):
    rng = np.random.default_rng(3)
    train = {name: random_letters(rng, 100_000) for name in ("a", "b")}
    test = {name: random_letters(rng, 50_500) for name in ("x", "y")}
    copy = train["b"][40_300:45_300]
    test["y"] = test["y"].copy()
    test["y"][20_000:25_000] = mutated(rng, reverse_complement(copy) if is_minus else copy, rate)
    found = shared_windows(train, test)
    assert [(f.test, f.start, f.end) for f in found] == [("y", s, s + 1000) for s in range(20_000, 25_000, 1000)]
    for window in found:
        offset = window.start - 20_000
        start = 45_300 - offset - 1000 if is_minus else 40_300 + offset
        assert (window.train, window.is_minus) == ("b", is_minus)
        assert abs(window.train_start - start) <= 500
    assert shared_share(found, test) == pytest.approx(5000 / 101_000)


def test_strangers_are_not_found():
    rng = np.random.default_rng(4)
    train, test = {"t": random_letters(rng, 1_000_000)}, {"q": random_letters(rng, 500_000)}
    assert shared_windows(train, test) == []
    assert shared_windows(train, test, least=STRANGERS) == []


class Drawn(Mapping):
    """Training sequences that are there only while they are looked at."""

    def __init__(self, n):
        self.n = n

    def __getitem__(self, name):
        return random_letters(np.random.default_rng(int(name)), 400_000)

    def __iter__(self):
        return map(str, range(self.n))

    def __len__(self):
        return self.n


def test_training_sequences_are_not_held():
    test, peaks = {"q": random_letters(np.random.default_rng(99), 100_000)}, []
    for n in (2, 10):
        tracemalloc.start()
        shared_windows(Drawn(n), test)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < GROWTH * peaks[0]


def test_a_genomes_sequences_are_fetched_when_they_are_asked_for(tmp_path):
    (tmp_path / "g.fa").write_text(">a\nACGT\n>b\nGGCCA\n")
    own = sequences_of(open_genome(tmp_path / "g.fa"), ["b"])
    assert [(name, letters.tobytes()) for name, letters in own.items()] == [("b", b"GGCCA")]
    assert own["b"] is not own["b"]


def test_short_sequences_unknown_bases_and_nothing_at_all():
    rng = np.random.default_rng(5)
    promoters = {str(k): random_letters(rng, 81) for k in range(200)}
    copied = {"copy": promoters["7"], "stranger": random_letters(rng, 81), "unknown": np.full(81, ord("N"), np.uint8)}
    (found,) = shared_windows(promoters, copied)
    assert (found.test, found.start, found.end, found.train, found.train_start) == ("copy", 0, 81, "7", 0)
    assert found.share == 1.0
    assert (
        shared_windows({}, copied) == shared_windows(promoters, {}) == shared_windows({"n": copied["unknown"]}, copied)
    )
    assert shared_windows({"short": BASES}, copied) == []
    assert shared_share([], {}) == 0.0
