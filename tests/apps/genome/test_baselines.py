"""Baselines against brute force and known answers."""

import numpy as np
import pytest
import torch
from isometry_genome.baselines import Markov, linear_regression, logistic_regression, skew, word_counts
from isometry_genome.scores import area_under_roc

RNG = np.random.default_rng(0)


def codes(text):
    return torch.tensor([15 if c == "N" else 1 << "ACGT".index(c) for c in text], dtype=torch.uint8)


def test_words_are_counted_without_those_that_hold_an_unknown_base():
    text = "ACGTNACCA"
    counts = word_counts([codes(text)], 2)[0]
    for k, offset in ((1, 0), (2, 4)):
        words = [text[i : i + k] for i in range(len(text) - k + 1)]
        for number in range(4**k):
            word = "".join("ACGT"[number // 4 ** (k - 1 - i) % 4] for i in range(k))
            assert counts[offset + number] == words.count(word)


def test_logistic_regression_finds_a_plane():
    x = RNG.normal(size=(400, 3))
    is_above = x @ [1.0, -2.0, 0.5] > 0.3
    found = logistic_regression(x[:300], is_above[:300].astype(int), x[300:])
    assert area_under_roc(found, is_above[300:]) > 0.99


def test_least_squares_finds_a_line():
    x = RNG.normal(size=(50, 2))
    assert linear_regression(x, x @ [2.0, -1.0] + 3, x[:5]) == pytest.approx(x[:5] @ [2.0, -1.0] + 3)


def test_skew_is_that_of_the_centre():
    assert skew(codes("CCCC" + "GGGC" + "CCCC"), 4) == pytest.approx(0.5)
    assert skew(codes("AAAA"), 4) == 0


def test_a_markov_model_learns_a_cycle_and_not_what_is_even():
    cycle, even = codes("ACGT" * 200), codes("".join(RNG.choice(list("ACGT"), 4000)))
    assert Markov(2).learn([cycle]).bits([cycle]) < 0.05
    assert Markov(2).learn([even]).bits([even]) == pytest.approx(2, abs=0.02)
    asked = torch.zeros(800, dtype=torch.bool)
    asked[400:402] = True
    assert Markov(1).learn([cycle]).bits([cycle], [asked]) < 0.05
