"""Windows: what is fetched, what the other strand makes of it, and that each base is evaluated once."""

import numpy as np
import pytest
import torch
from isometry_data.annotations import Feature
from isometry_data.genomes import around
from isometry_data.intervals import Interval
from isometry_genome.dataset import (
    Facts,
    GrammarDataset,
    Place,
    Reading,
    Strands,
    Window,
    WindowDataset,
    collate,
    flipped,
)
from isometry_genome.grammar import length_for
from isometry_genome.letters import codes_of
from isometry_genome.memory import InMemory
from isometry_genome.public import side_by_side
from isometry_genome.signals import Beside, Steps, covered

RNG = np.random.default_rng(0)
LETTERS = "".join(RNG.choice(list("ACGT"), 300))
GENOME = InMemory({"a": LETTERS, "b": LETTERS[:50]})
CIRCLES = InMemory({"a": LETTERS, "b": LETTERS[:50]}, ["a"])
STRANDS = Strands(classes=(1, 0), tracks=(1, 0), segments=(0, 2, 1))


def dataset(places, length=40, strands=STRANDS, sequences=GENOME, **reading):
    signal = Steps(("up", "down"), {"a": np.arange(60.0).reshape(30, 2)}, 10)
    segments = {name: RNG.integers(0, 3, n).astype(np.int8) for name, n in GENOME.lengths.items()}
    facts = Facts(("no", "yes"), ("up", "down"), ("x", "y", "z"), strands=strands)
    own = Reading(length=length, resolution=10, **reading)
    return WindowDataset(sequences, places, own, facts, signal, segments)


def text(window):
    return "".join("N" if code == 15 else "ACGT"[int(code).bit_length() - 1] for code in window.codes)


def test_a_window_lies_about_the_middle_of_its_place():
    window = dataset([Place("a", 100, 120, 1)])[0]
    assert text(window) == LETTERS[90:130]
    assert window.profile[:, 0].tolist() == [18, 20, 22, 24]
    assert int(window.label) == 1


def test_beyond_the_ends_nothing_is_known():
    window = dataset([Place("b", 30, 50)])[0]
    assert text(window) == LETTERS[20:50] + "N" * 10
    assert bool(window.profile.isnan().all())  # no signal on b
    assert bool((window.segments[30:] == -1).all())
    assert bool((window.segments[:30] >= 0).all())


def test_a_circle_goes_on_at_its_other_end():
    window = dataset([Place("a", -20, 20)], sequences=CIRCLES)[0]
    assert text(window) == LETTERS[-20:] + LETTERS[:20]
    assert window.profile[:, 0].tolist() == [56, 58, 0, 2]
    between = dataset([Place("a", -15, 25)], sequences=CIRCLES)[0]
    assert between.profile[:, 0].tolist() == [57, (58 + 0) / 2, 1, 3]
    assert bool((between.segments >= 0).all())
    assert around(-5, 12, 10) == [(5, 10), (0, 10), (0, 2)]


def test_the_other_strand_twice_is_the_window_itself():
    window = dataset([Place("a", 100, 140, 1)], hidden=0.5)[0]
    again = flipped(flipped(window, STRANDS), STRANDS)
    for before, after in zip(window, again, strict=True):
        torch.testing.assert_close(before, after)


def test_the_other_strand_swaps_what_strands_tell():
    window = dataset([Place("a", 100, 140, 1)])[0]
    other = flipped(window, STRANDS)
    complement = LETTERS[100:140].translate(str.maketrans("ACGT", "TGCA"))[::-1]
    assert text(other) == complement
    assert int(other.label) == 0
    torch.testing.assert_close(other.profile, window.profile.flip(0, 1))
    torch.testing.assert_close(other.segments, torch.tensor([0, 2, 1])[window.segments.flip(0)])
    assert int(flipped(window._replace(label=torch.tensor(-1)), STRANDS).label) == -1


def test_a_place_on_the_minus_strand_keeps_its_own_label():
    plus, minus = (dataset([Place("a", 100, 140, 1, is_minus=m)])[0] for m in (False, True))
    torch.testing.assert_close(minus.codes, flipped(plus, STRANDS).codes)
    assert int(minus.label) == 1


def test_windows_of_a_core_label_each_base_once():
    places = side_by_side(GENOME.lengths, ["a"], 40, 20)
    seen = np.zeros(300 + 40, dtype=int)
    windows = dataset(places, core=20)
    for place, window in zip(places, (windows[i] for i in range(len(windows))), strict=True):
        for at in np.flatnonzero(window.segments.numpy() >= 0):
            seen[place.start + at] += 1
    assert seen[:300].tolist() == [1] * 300
    assert not seen[300:].any()
    known = np.concatenate([windows[i].profile.numpy()[:, 0] for i in range(len(windows))])
    assert (~np.isnan(known)).sum() == 30


def test_training_draws_move_and_turn_but_keep_what_belongs_together():
    windows = dataset([Place("a", 130, 170, 1)], shift=20, flips=True)
    texts, other = set(), LETTERS.translate(str.maketrans("ACGT", "TGCA"))[::-1]
    for seed in range(20):
        window = windows.draw(0, np.random.default_rng(seed))
        assert (text(window) in LETTERS) == (int(window.label) == 1)
        assert (text(window) in other) == (int(window.label) == 0)
        texts.add(text(window))
    assert len(texts) > 10
    again = windows.draw(0, np.random.default_rng(3))
    torch.testing.assert_close(again.codes, windows.draw(0, np.random.default_rng(3)).codes)


def test_training_windows_lack_a_share_of_their_bases_and_evaluated_ones_none():
    windows = dataset([Place("a", 0, 200)], length=200, masked=0.25)
    drawn = "".join(text(windows.draw(0, np.random.default_rng(seed))) for seed in range(20))
    assert all(own in (given, "N") for own, given in zip(drawn, 20 * text(windows[0]), strict=True))
    assert drawn.count("N") / len(drawn) == pytest.approx(0.25, abs=0.03)  # four standard deviations of 4,000
    assert "N" not in text(windows[0])


def test_a_level_shortens_windows_to_whole_bins():
    windows = dataset([Place("a", 100, 140)], shortest=10)
    assert [len(windows.draw(0, RNG, level).codes) for level in (0.1, 0.5, 0.6, 1.0)] == [10, 20, 20, 40]


def test_a_batch_has_one_length():
    one, other = dataset([Place("a", 0, 40)])[0], dataset([Place("a", 0, 40)], length=60)[0]
    assert collate([one, one]).codes.shape == (2, 40)
    with pytest.raises(ValueError, match=r"windows of \[40, 60\] bases in one batch"):
        collate([one, other])


def test_a_letter_that_is_no_base_is_refused():
    bad = WindowDataset(InMemory({"a": "ACGT-ACGT"}), [Place("a", 0, 9)], Reading(9))
    with pytest.raises(ValueError, match="'-' at position 4"):
        bad[0]


def test_simulated_training_windows_are_new_in_every_draw():
    windows = GrammarDataset(4, 0, 1_000, 128)
    a, b = (windows.draw(0, np.random.default_rng(seed)) for seed in (1, 2))
    assert bool((a.codes != b.codes).any())
    torch.testing.assert_close(windows[0].codes, GrammarDataset(9, 0, 1_000, 128)[0].codes)
    assert len(windows.draw(0, RNG, 0.5).codes) == length_for(500)
    assert isinstance(windows[0], Window)
    with pytest.raises(IndexError):
        windows[4]


# Signals


def test_bins_of_another_size_are_means_over_shared_bases():
    values = RNG.normal(size=(30, 1))
    values[7] = np.nan
    per_base = np.repeat(values[:, 0], 10)
    found = Steps(("t",), {"a": values}, 10).binned("a", 3, 3 + 16 * 17, 16)[:, 0]
    for i, own in enumerate(found):
        bases = per_base[3 + 16 * i : 19 + 16 * i]
        is_known = ~np.isnan(bases)
        expected = bases[is_known].mean() if is_known.sum() >= 8 else np.nan
        assert own == pytest.approx(expected, abs=1e-6, nan_ok=True)


def test_signals_are_unknown_beyond_the_ends_and_on_other_sequences():
    steps = Steps(("t",), {"a": np.ones((30, 1))}, 10)
    assert np.isnan(steps.binned("a", 280, 340, 20)[:, 0]).tolist() == [False, True, True]
    assert np.isnan(steps.binned("z", 0, 40, 20)).all()
    assert Beside(steps, steps).binned("a", 0, 40, 20).shape == (2, 2)


def test_features_cover_tracks_of_their_kind_and_strand():
    features = [
        Feature(Interval("a", 64, 128, "+"), "gene", "x"),
        Feature(Interval("a", 128, 160, "-"), "gene", "y"),
        Feature(Interval("a", 0, 32, "-"), "tRNA", "z"),
    ]
    found = covered(features, ("gene+", "gene-", "tRNA"), {"a": 160}).binned("a", 0, 160, 32)
    assert found.T.tolist() == [[0, 0, 1, 1, 0], [0, 0, 0, 0, 1], [1, 0, 0, 0, 0]]


def test_codes_of_memory_are_those_of_letters():
    letters = GENOME.fetch("a", 0, 10)
    assert codes_of(letters).tolist() == [1 << "ACGT".index(c) for c in LETTERS[:10]]
    with pytest.raises(ValueError, match=r"a:290-310 is not within 0-300"):
        GENOME.fetch("a", 290, 310)
