"""The cascade: closed forms, simulation against the exact distribution, and the data-processing inequality."""

from __future__ import annotations

import re
from pathlib import Path

import isometry_data.cascade
import numpy as np
import pytest
from isometry.information.bits import mutual_information
from isometry.information.capacity import capacity
from isometry.information.discrete_bottleneck import bottleneck_curve
from isometry_data.cascade.cells import dose_response
from isometry_data.cascade.exact import (
    Box,
    channel,
    generator,
    information,
    joint_at,
    joint_at_rest,
    ligand_given,
    on_the_faces,
)
from isometry_data.cascade.gillespie import simulate
from isometry_data.cascade.reactions import Cascade
from isometry_data.cascade.trajectories import path_information, signal_path_information
from scipy.linalg import expm
from scipy.stats import chi2, poisson

README = Path(isometry_data.cascade.__file__).with_name("README.md")

EXACT = 1e-9
OF_THE_BOX = 1e-7  # what lies outside it
STANDARD_ERRORS = 4.5
UNLIKELY = 1e-5  # p-value

DEFAULT = Cascade()
SMALL = Cascade(
    ligand_means=(0.3, 2.0),
    ligand_turnover=0.7,
    half_saturation=1.5,
    signal_rate=1.5,
    gene_rate=0.4,
    gene_decay=0.3,
)
SMALL_BOX = Box(13, 12, 14)
FROZEN = Cascade(ligand_means=(0.5, 4.0), signal_rate=5.0, gene_rate=0.2, gene_decay=0.1)


@pytest.fixture(scope="module")
def at_rest() -> np.ndarray:
    return joint_at_rest(DEFAULT)


def mean_and_variance(weights: np.ndarray) -> tuple[float, float]:
    n = np.arange(len(weights))
    p = weights / weights.sum()
    mean = float(p @ n)
    return mean, float(p @ (n - mean) ** 2)


def test_signal_at_a_given_ligand_is_poisson(at_rest: np.ndarray) -> None:
    given_ligand = at_rest.sum((0, 3))
    for ligand in (0, 3, 9):
        mean = DEFAULT.signal_rate * DEFAULT.activity(ligand) / DEFAULT.signal_decay
        expected = poisson.pmf(np.arange(given_ligand.shape[1]), mean)
        np.testing.assert_allclose(given_ligand[ligand] / given_ligand[ligand].sum(), expected, atol=OF_THE_BOX)


def test_gene_product_has_the_mean_and_the_noise_of_a_two_stage_birth_death_process(at_rest: np.ndarray) -> None:
    # Variance / mean = 1 + gene_rate / (signal_decay + gene_decay): Thattai and van Oudenaarden 2001.
    given_ligand = at_rest.sum((0, 2))
    for ligand in (0, 4, 8):
        mean, variance = mean_and_variance(given_ligand[ligand])
        signal = DEFAULT.signal_rate * DEFAULT.activity(ligand) / DEFAULT.signal_decay
        assert mean == pytest.approx(signal * DEFAULT.gene_rate / DEFAULT.gene_decay, rel=1e-6)
        noise = 1 + DEFAULT.gene_rate / (DEFAULT.signal_decay + DEFAULT.gene_decay)
        assert variance / mean == pytest.approx(noise, rel=1e-5)


def test_the_box_holds_everything(at_rest: np.ndarray) -> None:
    assert on_the_faces(at_rest) < OF_THE_BOX
    assert at_rest.sum() == pytest.approx(1, abs=EXACT)
    np.testing.assert_allclose(at_rest.sum((1, 2, 3)), DEFAULT.prior, atol=OF_THE_BOX)


def test_a_closed_box_conserves_and_an_open_one_only_loses() -> None:
    closed = generator(SMALL, 1, Box(4, 5, 6), is_closed=True)
    opened = generator(SMALL, 1, Box(4, 5, 6), is_closed=False)
    np.testing.assert_allclose(np.asarray(closed.sum(0)).ravel(), 0, atol=1e-12)
    assert np.asarray(opened.sum(0)).max() < 1e-12
    assert np.asarray(opened.sum(0)).min() < -0.1


def test_finite_state_projection_is_the_matrix_exponential_and_uniformisation() -> None:
    box, time = Box(4, 4, 4), 0.8
    found = joint_at(SMALL, time, box)[1]
    rates = generator(SMALL, 1, box, is_closed=False)
    start = np.zeros(box)
    start[:, 0, 0] = SMALL.prior[1] * ligand_given(SMALL, 1, box.ligand)
    np.testing.assert_allclose(found.ravel(), expm(rates.toarray() * time) @ start.ravel(), atol=1e-12)
    fastest = -rates.diagonal().min()
    uniform, term = np.zeros(start.size), start.ravel()
    for n in range(80):
        uniform += poisson.pmf(n, fastest * time) * term
        term = term + rates @ term / fastest
    np.testing.assert_allclose(found.ravel(), uniform, atol=1e-12)


def test_what_is_missing_bounds_the_error() -> None:
    wide, narrow = joint_at(SMALL, 3.0, Box(13, 12, 14)), joint_at(SMALL, 3.0, Box(6, 5, 5))
    missing = 1 - narrow.sum()
    error = wide[:, :6, :5, :5] - narrow
    assert missing > 1e-3
    assert error.min() > -EXACT
    assert error.max() < missing


def test_a_long_time_leads_to_rest() -> None:
    np.testing.assert_allclose(joint_at(SMALL, 60.0, SMALL_BOX), joint_at_rest(SMALL, SMALL_BOX), atol=1e-5)


def test_fluctuating_ligand_stays_poisson() -> None:
    joint = joint_at_rest(SMALL, SMALL_BOX)
    for e in range(2):
        np.testing.assert_allclose(joint[e].sum((1, 2)) * 2, ligand_given(SMALL, e, 13), atol=1e-6)


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_simulated_cells_follow_the_exact_distribution(stage: int) -> None:
    n_cells, times = 4000, [0.7, 2.5]
    seen = simulate(SMALL, np.ones(n_cells, dtype=int), times, seed=5)
    for i, time in enumerate(times):
        exact = joint_at(SMALL, time, SMALL_BOX)[1].sum(tuple({0, 1, 2} - {stage})) / SMALL.prior[1]
        expected = exact * n_cells
        counts = np.bincount(seen[:, i, stage], minlength=len(exact))[: len(exact)]
        common = expected > 5
        pooled = np.append(expected[common], n_cells - expected[common].sum())
        found = np.append(counts[common], n_cells - counts[common].sum())
        statistic = ((found - pooled) ** 2 / np.maximum(pooled, 1e-9))[pooled > 1].sum()
        assert chi2.sf(statistic, (pooled > 1).sum() - 1) > UNLIKELY


def test_simulated_cells_are_correlated_as_exact_ones() -> None:
    cells = simulate(SMALL, np.ones(6000, dtype=int), [2.5], seed=6)[:, 0]
    exact = joint_at(SMALL, 2.5, SMALL_BOX)[1] / SMALL.prior[1]
    grids = np.indices(SMALL_BOX)
    means = [(exact * grid).sum() for grid in grids]
    for i, j in ((0, 1), (1, 2), (0, 2)):
        product = (cells[:, i] - means[i]) * (cells[:, j] - means[j])
        expected = (exact * (grids[i] - means[i]) * (grids[j] - means[j])).sum()
        assert abs(product.mean() - expected) < STANDARD_ERRORS * product.std() / np.sqrt(len(product))


def test_a_seed_gives_the_same_cells_again() -> None:
    one, again, other = (simulate(SMALL, [0, 1, 1], [1.0], seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


def test_at_one_instant_a_later_stage_may_know_more_of_the_ligand(at_rest: np.ndarray) -> None:
    """No contradiction: G averages S over time."""
    assert information(at_rest, "L", "G") > information(at_rest, "L", "S") + 0.3


def test_no_stage_after_a_frozen_ligand_knows_more_of_the_environment_than_the_ligand(at_rest: np.ndarray) -> None:
    most = information(at_rest, "E", "L")
    for stages in ("S", "G", "SG"):
        assert information(at_rest, "E", stages) < most
    assert information(at_rest, "E", "SG") >= information(at_rest, "E", "G") - EXACT


def test_the_cell_stands_below_its_own_exact_curve(at_rest: np.ndarray) -> None:
    """What any state of the cell can know of the environment for what it knows of the ligand."""
    best = bottleneck_curve(at_rest.sum((2, 3)).T, np.geomspace(1.05, 60, 12), n_states=8, n_restarts=0)
    for stages in ("S", "G"):
        rate, relevance = information(at_rest, "L", stages), information(at_rest, "E", stages)
        assert 0.01 < best.relevance_at(rate) - relevance < 0.1
    assert best.relevance_at(50.0) == pytest.approx(information(at_rest, "E", "L"), abs=EXACT)


def test_a_fluctuating_ligand_at_one_instant_may_know_less_than_what_averages_it() -> None:
    fast = Cascade(
        ligand_means=(1.0, 3.0),
        ligand_turnover=20.0,
        signal_rate=8.0,
        signal_decay=0.25,
        half_saturation=3.0,
        gene_rate=0.01,
        gene_decay=1.0,
    )
    joint = joint_at_rest(fast, Box(14, 42, 5))
    assert on_the_faces(joint) < 1e-4
    assert information(joint, "E", "S") > information(joint, "E", "L") + 0.05


@pytest.mark.parametrize("time", [0.5, 2.0, 8.0, 30.0])
def test_no_instant_of_the_gene_knows_more_than_the_whole_path_of_the_signal(time: float) -> None:
    joint = joint_at(FROZEN, time)
    assert 1 - joint.sum() < OF_THE_BOX
    path = signal_path_information(FROZEN, time, joint.shape[1])
    assert information(joint, "L", "SG") <= path
    assert information(joint, "L", "S") <= path
    if time == 30.0:  # and yet, at the same instant:
        assert information(joint, "L", "G") > information(joint, "L", "S")


def cascade_in_steps() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """L of two kinds switches S on at different rates; G follows S slowly through three levels."""
    signal = np.array([[[0.8, 0.2], [0.4, 0.6]], [[0.5, 0.5], [0.4, 0.6]]])
    gene = np.array([[[1, 0, 0], [0.3, 0.7, 0], [0, 0.3, 0.7]], [[0.6, 0.4, 0], [0, 0.6, 0.4], [0, 0, 1]]])
    return np.array([0.5, 0.5]), signal, gene


def test_paths_obey_the_data_processing_inequality_where_instants_do_not() -> None:
    told = path_information(*cascade_in_steps(), n_steps=9)
    assert (told["gene path"] <= told["signal path"] + EXACT).all()
    assert (told["gene"] <= told["gene path"] + EXACT).all()
    assert (told["signal"] <= told["signal path"] + EXACT).all()
    assert (np.diff(told["signal path"]) >= -EXACT).all()
    assert told["gene"][-1] > told["signal"][-1] + 0.01


def test_path_information_is_that_of_a_walk_through_every_path() -> None:
    prior, signal, gene = cascade_in_steps()
    n_steps = 4
    joint: dict[tuple, float] = {}

    def walk(ligand: int, signals: tuple, genes: tuple, p: float) -> None:
        if len(signals) > n_steps:
            joint[ligand, signals, genes] = p
            return
        for s in range(2):
            for g in range(3):
                step = signal[ligand, signals[-1], s] * gene[signals[-1], genes[-1], g]
                if step > 0:
                    walk(ligand, (*signals, s), (*genes, g), p * step)

    for ligand in range(2):
        walk(ligand, (0,), (0,), prior[ligand])

    def bits(kept: int) -> float:
        seen = sorted({key[kept] for key in joint})
        table = np.zeros((2, len(seen)))
        for key, p in joint.items():
            table[key[0], seen.index(key[kept])] += p
        return mutual_information(table)

    told = path_information(prior, signal, gene, n_steps)
    assert told["signal path"][-1] == pytest.approx(bits(1), abs=EXACT)
    assert told["gene path"][-1] == pytest.approx(bits(2), abs=EXACT)


def test_the_last_signal_tells_all_of_its_path_where_nothing_decays() -> None:
    lasting = Cascade(ligand_means=(0.5, 4.0), signal_rate=2.0, signal_decay=1e-9, gene_rate=1e-9, gene_decay=1.0)
    joint = joint_at(lasting, 3.0, Box(16, 30, 2))
    assert information(joint, "L", "S") == pytest.approx(signal_path_information(lasting, 3.0, 16), abs=1e-6)


def test_looking_more_often_tells_more_up_to_what_the_whole_path_tells() -> None:
    time, n_ligand, n_signal = 1.0, 16, 14
    of_ligand = np.sum([p * ligand_given(FROZEN, e, n_ligand) for e, p in enumerate(FROZEN.prior)], axis=0)
    told = []
    for looks in (1, 2, 4):
        joint = of_ligand[:, None, None] * np.eye(n_signal)[0]  # [L, earlier S, S]
        for _ in range(looks):
            moves = np.stack([births_and_deaths(ligand, time / looks, n_signal) for ligand in range(n_ligand)])
            joint = np.einsum("lps,lzs->lpsz", joint, moves).reshape(n_ligand, -1, n_signal)
        told.append(mutual_information(joint.reshape(n_ligand, -1) / joint.sum()))
    path = signal_path_information(FROZEN, time, n_ligand)
    assert told[0] < told[1] < told[2] < path
    assert path - told[2] < (path - told[0]) / 2


def births_and_deaths(ligand: int, time: float, n_signal: int) -> np.ndarray:
    """[next S, S] transition probabilities of the signal."""
    n = np.arange(n_signal)
    birth = FROZEN.signal_rate * float(FROZEN.activity(ligand))
    rates = np.diag(np.full(n_signal - 1, birth), -1) + np.diag(FROZEN.signal_decay * n[1:], 1)
    return expm((rates - np.diag(birth * (n < n_signal - 1) + FROZEN.signal_decay * n)) * time)


def test_information_of_named_stages_is_that_of_the_table(at_rest: np.ndarray) -> None:
    assert information(at_rest, "G", "L") == pytest.approx(mutual_information(at_rest, (1,), (3,)), abs=EXACT)
    assert information(at_rest, "E", "SG") == pytest.approx(mutual_information(at_rest, (0,), (2, 3)), abs=EXACT)


@pytest.mark.parametrize("time", [None, 6.0])
def test_a_dose_response_table_carries_its_truth(time: float | None) -> None:
    table = dose_response(FROZEN, 600, time=time, seed=2)
    assert {len(column) for column in table.columns.values()} == {1200}
    assert sorted(set(table.columns["dose"])) == sorted(FROZEN.ligand_means)
    rows = table.channel()
    best = capacity(rows)
    assert best.gap < 1e-9
    assert table.information("G") <= best.bits <= 1
    assert table.information("G") == pytest.approx(mutual_information(rows / 2), abs=1e-6)
    for i, dose in enumerate(FROZEN.ligand_means):
        mean, variance = mean_and_variance(rows[i])
        cells = table.columns["gene"][table.columns["dose"] == dose]
        assert abs(cells.mean() - mean) < STANDARD_ERRORS * np.sqrt(variance / len(cells))


def test_the_readme_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    code, printed = re.findall(r"^```(?:python)?\n(.*?)^```$", README.read_text(encoding="utf-8"), re.M | re.S)
    exec(compile(code, str(README), "exec"), {})
    assert capsys.readouterr().out == printed


def test_channel_of_a_stage_is_its_response_to_each_environment(at_rest: np.ndarray) -> None:
    expected = np.stack([ligand_given(DEFAULT, e, at_rest.shape[1]) for e in range(4)])
    np.testing.assert_allclose(channel(at_rest, "L"), expected, atol=OF_THE_BOX)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"ligand_means": ()}, "one per environment"),
        ({"ligand_means": (1.0, -2.0)}, "finite and ≥ 0"),
        ({"environments": (0.5, 0.5)}, "must be 4 probabilities"),
        ({"gene_decay": 0.0}, "gene_decay must be above 0"),
        ({"leak": 1.5}, "leak between 0 and 1"),
    ],
)
def test_a_wrong_cascade_is_named(options: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Cascade(**options)


def test_wrong_times_are_named() -> None:
    with pytest.raises(ValueError, match="ascending"):
        simulate(SMALL, [0], [2.0, 1.0])
    with pytest.raises(ValueError, match="ligand_turnover is 0"):
        signal_path_information(SMALL, 1.0, 10)
