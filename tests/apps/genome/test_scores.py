"""Scores against their definitions, another library, and by hand."""

import numpy as np
import pytest
from isometry_genome.scores import (
    area_under_roc,
    average_precision,
    base_scores,
    class_scores,
    gene_scores,
    matthews,
    pearson,
    profile_scores,
)

EXACT = 1e-12
RNG = np.random.default_rng(0)


def ranked(n=200, n_ties=20):
    """Scores with ties, and which are positive."""
    return RNG.integers(0, n_ties, n).astype(float), RNG.random(n) < 0.3


def test_area_under_roc_is_the_share_of_ordered_pairs():
    scores, is_positive = ranked()
    differences = scores[is_positive][:, None] - scores[~is_positive]
    assert area_under_roc(scores, is_positive) == pytest.approx(((differences > 0) + (differences == 0) / 2).mean())


def test_average_precision_by_its_definition():
    scores, is_positive = ranked()
    total, before = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        is_said = scores >= threshold
        recall = (is_said & is_positive).sum() / is_positive.sum()
        total += (recall - before) * (is_said & is_positive).sum() / is_said.sum()
        before = recall
    assert average_precision(scores, is_positive) == pytest.approx(total, abs=EXACT)


def test_a_perfect_and_a_reversed_ranking():
    scores, is_positive = np.arange(10.0), np.arange(10) >= 6
    assert area_under_roc(scores, is_positive) == average_precision(scores, is_positive) == 1
    assert area_under_roc(-scores, is_positive) == 0


def test_matthews_of_two_classes_is_the_correlation():
    labels, verdicts = RNG.integers(0, 2, 100), RNG.integers(0, 2, 100)
    assert matthews(labels, verdicts, 2) == pytest.approx(np.corrcoef(labels, verdicts)[0, 1], abs=EXACT)
    assert matthews(labels, labels, 2) == pytest.approx(1)
    assert matthews(labels, np.zeros_like(labels), 2) == 0


def test_class_scores_leave_out_what_is_not_known():
    logits, known = RNG.normal(size=(50, 3)), RNG.integers(0, 3, 50)
    unknown = np.concatenate([known, [-1, -1]])
    more = np.concatenate([logits, np.full((2, 3), 9.0)])
    assert class_scores(more, unknown) == class_scores(logits, known)
    assert class_scores(more, np.full(52, -1)) == {}


def test_one_class_alone_has_an_accuracy_but_no_ranking():
    assert set(class_scores(RNG.normal(size=(5, 2)), np.ones(5, dtype=int))) == {"accuracy", "mcc"}


def sums(x, y):
    return np.array([len(x), x.sum(), y.sum(), (x * x).sum(), (y * y).sum(), (x * y).sum()])


def test_correlation_from_sums_is_that_of_numpy():
    x, y = RNG.normal(size=(2, 40))
    assert pearson(sums(x, y)) == pytest.approx(np.corrcoef(x, y)[0, 1], abs=EXACT)
    assert np.isnan(pearson(sums(x, np.ones(40))))


def test_windows_of_one_sequence_are_scored_together_and_sequences_count_alike():
    x, y = RNG.normal(size=(2, 60))
    groups = np.array([0, 0, 1])
    rows = np.stack([sums(x[:10], y[:10]), sums(x[10:40], y[10:40]), sums(x[40:], y[40:])])[:, None]
    found = profile_scores(rows, groups)
    apart = [np.corrcoef(x[:40], y[:40])[0, 1], np.corrcoef(x[40:], y[40:])[0, 1]]
    assert found["pearson"] == pytest.approx(np.mean(apart), abs=EXACT)
    assert found["pearson_pooled"] == pytest.approx(np.corrcoef(x, y)[0, 1], abs=EXACT)


def test_base_f1_counts_hits_within_something():
    confusion = np.array([[90, 5, 5], [10, 20, 0], [5, 5, 10]])
    found = base_scores(confusion)
    assert found["base_accuracy"] == pytest.approx(120 / 150)
    assert found["base_f1"] == pytest.approx(2 * 30 / (50 + 45))
    assert base_scores(np.zeros((3, 3))) == {}


def test_gene_scores():
    found = gene_scores(3, 4, 6)
    assert found == pytest.approx({"gene_f1": 0.6, "gene_recall": 0.75, "gene_precision": 0.5})
    assert gene_scores(0, 0, 2) == {}
