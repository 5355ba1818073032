"""The simulated genome: what each rule scores, exactly and on windows drawn; and that the bases tell the truth."""

from itertools import pairwise

import numpy as np
import pytest
from isometry.app import Data
from isometry_genome import findings
from isometry_genome.dataset import GrammarDataset
from isometry_genome.grammar import (
    CASES,
    ELEMENTS,
    RULES,
    accuracy_of,
    drawn,
    length_for,
    read_by_matrices,
    strongest,
)
from isometry_genome.predict import Prediction

DISTANCES = (1_000, 5_000, 20_000, 50_000, 100_000)
N = 1_000  # windows drawn
FOUR_SIGMA = 4 * 0.5 / N**0.5


def windows(n, distance, seed=0):
    return [drawn(np.random.default_rng([seed, i]), distance) for i in range(n)]


@pytest.mark.parametrize(
    ("rule", "score"),
    [
        ("always active", 1 / 2),
        ("enhancer only", 5 / 6),
        ("insulator only", 3 / 4),
        ("nearer insulator, either side", 5 / 6),
        ("full", 1.0),
    ],
)
def test_every_rule_has_the_score_that_its_cases_give(rule, score):
    assert accuracy_of(RULES[rule]) == pytest.approx(score, abs=1e-12)


def test_drawn_windows_score_every_rule_as_computed():
    cases = [window.case for window in windows(N, 1_000)]
    for rule in RULES.values():
        share = np.mean([rule(case) == case.is_active for case in cases])
        assert share == pytest.approx(accuracy_of(rule), abs=FOUR_SIGMA)


def test_cases_are_a_distribution():
    assert sum(case.probability for case in CASES) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("distance", DISTANCES)
def test_elements_lie_where_the_case_says(distance):
    for window in windows(8, distance):
        assert len(window.bases) == length_for(distance)
        promoter, enhancer, insulator = ((e.start + e.end) / 2 for e in window.placed[:3])
        assert promoter == pytest.approx(len(window.bases) / 2, abs=1)
        assert abs(enhancer - promoter) == pytest.approx(distance, abs=2)
        assert window.placed[1].is_decoy != window.case.has_enhancer
        is_between = min(promoter, enhancer) < insulator < max(promoter, enhancer)
        assert is_between == window.case.is_between


def test_elements_do_not_overlap():
    for window in windows(100, 1_000):
        placed = sorted(window.placed, key=lambda element: element.start)
        assert all(a.end <= b.start for a, b in pairwise(placed))
        assert placed[0].start >= 0
        assert placed[-1].end <= len(window.bases)


@pytest.mark.parametrize(("distance", "n"), [(1_000, 300), (20_000, 40)])
def test_the_bases_tell_what_the_promoter_does(distance, n):
    """No network can know more: with the true matrices almost every window is read right."""
    assert np.mean([read_by_matrices(w.bases) == w.case.is_active for w in windows(n, distance)]) >= 0.98


def test_no_short_cut_through_composition():
    """Active and inactive windows have the same bases: the sides' mean GC agree within their scatter."""
    by_side = {True: [], False: []}
    for window in windows(400, 1_000):
        by_side[window.case.is_active].append(np.isin(window.bases, (1, 2)).mean())
    means, errors = zip(*((np.mean(v), np.std(v) / len(v) ** 0.5) for v in by_side.values()), strict=True)
    assert abs(means[0] - means[1]) < 4 * np.hypot(*errors)


def test_decoys_hold_no_evidence_for_the_element():
    found = [strongest(w.bases, "enhancer")[1] for w in windows(100, 1_000) if not w.case.has_enhancer]
    true = [strongest(w.bases, "enhancer")[1] for w in windows(100, 1_000) if w.case.has_enhancer]
    assert np.median(found) < 0.5 * np.median(true)


def test_windows_are_drawn_anew_from_the_seed():
    first, again, other = windows(1, 1_000, 0)[0], windows(1, 1_000, 0)[0], windows(1, 1_000, 1)[0]
    np.testing.assert_array_equal(first.bases, again.bases)
    assert (first.bases != other.bases).any()


def test_matrices_are_distributions_with_their_consensus_on_top():
    for motif in {motif for motifs in ELEMENTS.values() for motif in motifs}:
        np.testing.assert_allclose(motif.matrix.sum(1), 1, atol=1e-12)
        assert motif.matrix.shape == (len(motif.consensus), 4)
        for column, letter in zip(motif.matrix, motif.consensus, strict=True):
            assert letter not in "ACGT" or "ACGT"[column.argmax()] == letter


def test_coverage_counts_the_bases_of_true_elements():
    window = windows(1, 1_000)[0]
    coverage = window.coverage(128)
    assert coverage.shape == (len(window.bases) // 128, 3)
    true = [e for e in window.placed if not e.is_decoy]
    assert coverage.sum() == sum(e.end - e.start for e in true)


def test_a_window_too_short_is_refused():
    with pytest.raises(ValueError, match="window of 1024 bases cannot hold an enhancer 1000 bases"):
        drawn(np.random.default_rng(0), 1_000, 1_024)


def test_longer_windows_than_those_of_training_are_the_same_task(monkeypatch):
    """An oracle of the class is right at every length; what is too long to be cheap is not read."""
    monkeypatch.setattr(findings, "N_LONGER", 20)
    monkeypatch.setattr(findings, "MOST_BASES", 20 * 4 * 2048)
    read = []

    def oracle(_model, codes):
        for i, own in enumerate(codes):
            made = drawn(np.random.default_rng([7, i]), 500, len(own))
            assert (own.numpy() == 1 << made.bases).all()
            read.append(len(own))
            yield Prediction(np.eye(2)[int(made.case.is_active)], None, None, None, 0.0)

    monkeypatch.setattr(findings, "predictions", oracle)
    rows = findings.in_longer_windows(
        None, Data(GrammarDataset(9, 1, 500, 16), None, GrammarDataset(9, 7, 500, 16), {})
    )
    assert rows == [{"bases": n, "windows": 20, "accuracy": 1.0} for n in (2048, 4096, 8192)]
    assert len(read) == 60
