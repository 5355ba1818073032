"""The simulated chains are what they are said to be, their posterior is exact, and the LSTM comes close to it."""

import itertools

import numpy as np
import pytest
from isometry_data.protein_records import AMINO_ACIDS, THREE_STATES
from isometry_protein import simulate
from isometry_protein.simulate import LONGEST, bayes_accuracy, chain, posterior, simulated

EXACT = 1e-12
WITHIN = 0.01  # of the best possible share of right states


def segments_of(path):
    return [(state, len(list(members))) for state, members in itertools.groupby(path)]


def joint(path, letters):
    """The probability of states and letters, from the definition."""
    model = chain()
    survival = model.durations[:, ::-1].cumsum(1)[:, ::-1]
    segments = segments_of(path)
    p = model.begins[segments[0][0]] * np.prod([model.letters[s, a] for s, a in zip(path, letters, strict=True)])
    for (last, _), (state, _) in itertools.pairwise(segments):
        p *= model.follows[last, state]
    for state, length in segments[:-1]:
        p *= model.durations[state, length - 1]
    state, length = segments[-1]
    return p * survival[state, length - 1]


@pytest.mark.parametrize("length", [1, 2, 7])
def test_the_posterior_is_the_sum_over_all_paths(length):
    (record,) = simulated(1, 9, length, length)
    letters = [AMINO_ACIDS.index(letter) for letter in record.sequence]
    sums = np.zeros((length, 3))
    for path in itertools.product(range(3), repeat=length):
        for t, state in enumerate(path):
            sums[t, state] += joint(path, letters)
    np.testing.assert_allclose(posterior([record])[0], sums / sums.sum(1, keepdims=True), atol=EXACT)


def test_company_changes_no_posterior():
    records = simulated(5, 1, 3, 120)
    for alone, together in zip(records, posterior(records), strict=True):
        np.testing.assert_allclose(posterior([alone])[0], together, atol=1e-9)


def test_the_posterior_is_right_as_often_as_it_says():
    records = simulated(400, 2)
    n = sum(map(len, records))
    said = np.concatenate(posterior(records)).max(1).mean()
    # Neighbours are right or wrong together: as if one residue in ten were independent.
    assert bayes_accuracy(records) == pytest.approx(said, abs=3 * np.sqrt(0.25 / (n / 10)))


def test_segments_have_the_lengths_and_successors_of_the_model():
    model = chain()
    inner = [segments_of(record.ss3)[:-1] for record in simulated(300, 3, 400, 400)]
    for number, state in enumerate(THREE_STATES):
        lengths = np.array([n for segments in inner for s, n in segments if s == state])
        mean, square = (model.durations[number] * np.arange(1, LONGEST + 1) ** k for k in (1, 2))
        spread = np.sqrt((square.sum() - mean.sum() ** 2) / len(lengths))
        assert abs(lengths.mean() - mean.sum()) < 4 * spread
    follows = [b for segments in inner for (a, _), (b, _) in itertools.pairwise(segments) if a == "H"]
    assert follows.count("C") / len(follows) == pytest.approx(0.9, abs=0.03)


def test_chains_are_a_pure_function_of_the_seed():
    one, other, third = simulated(3, 5), simulated(3, 5), simulated(3, 6)
    assert [r.sequence for r in one] == [r.sequence for r in other] != [r.sequence for r in third]
    assert {len(r) for r in simulated(50, 5, 40, 42)} == {40, 41, 42}


def test_probabilities_are_probabilities():
    model = chain()
    for rows in (model.begins[None], model.follows, model.durations, model.letters):
        np.testing.assert_allclose(rows.sum(1), 1)
    assert set(simulate.LENGTHS) == set(THREE_STATES)


@pytest.mark.slow
def test_the_lstm_is_within_one_percent_of_the_best_possible(tmp_path):
    from isometry.app import load_app
    from isometry.story import train

    app = load_app("protein")
    settings = app.presets["tiny"]
    found = train(app, settings, tmp_path / "run", is_quiet=True).scores["test"]["q3"]
    best = bayes_accuracy(app.data(settings).test.records)
    assert best - WITHIN < found < best + 0.002
