"""The rate walks as its formula says, and waiting for improvement ends when it should."""

import itertools
import math

import pytest
from isometry.schedule import Patience, Plateau, ScheduleSettings, rate_at, warmup_steps

N_STEPS = 1000


def walk(**fields):
    settings = ScheduleSettings(**fields)
    return [rate_at(step, N_STEPS, settings) for step in range(N_STEPS)]


@pytest.mark.parametrize("name", ["constant", "cosine", "wsd", "plateau"])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 37.0])
def test_every_schedule_stays_in_the_unit_interval_and_falls_only_after_warmup(name, warmup):
    factors = walk(name=name, warmup=warmup)
    n_warmup = warmup_steps(N_STEPS, ScheduleSettings(warmup=warmup))
    assert 0 < min(factors) <= max(factors) <= 1
    assert all(a < b for a, b in itertools.pairwise(factors[:n_warmup]))
    assert all(a >= b for a, b in itertools.pairwise(factors[n_warmup:]))


def test_warmup_is_linear_and_counts_fractions_or_steps():
    factors = walk(name="constant", warmup=0.1)
    assert factors[:100] == pytest.approx([(step + 1) / 100 for step in range(100)])
    assert factors[100:] == [1.0] * 900
    assert walk(name="constant", warmup=100) == factors


def test_cosine_passes_the_middle_at_half_way_and_ends_at_the_floor():
    settings = ScheduleSettings(name="cosine", warmup=0, floor=0.1)
    assert rate_at(0, N_STEPS, settings) == 1
    assert rate_at(N_STEPS // 2, N_STEPS, settings) == pytest.approx(0.55)
    assert rate_at(N_STEPS, N_STEPS, settings) == pytest.approx(0.1)
    assert rate_at(2 * N_STEPS, N_STEPS, settings) == pytest.approx(0.1)


def test_wsd_stays_until_its_decay_and_ends_at_the_floor():
    factors = walk(name="wsd", warmup=0, decay=0.2, floor=0.05)
    assert factors[:801] == [1.0] * 801
    assert factors[850] == pytest.approx(0.05 + 0.95 * (1 - math.sqrt(50 / 200)))
    assert rate_at(N_STEPS, N_STEPS, ScheduleSettings(name="wsd", floor=0.05)) == pytest.approx(0.05)


def test_a_longer_wsd_run_shares_its_stable_part():
    settings = ScheduleSettings(name="wsd", warmup=20, decay=0.1)
    assert [rate_at(s, 500, settings) for s in range(450)] == [rate_at(s, 5000, settings) for s in range(450)]


@pytest.mark.parametrize("name", ["constant", "cosine", "wsd", "plateau"])
@pytest.mark.parametrize(("n_steps", "warmup"), [(1, 0.02), (1, 0.0), (2, 0.9), (3, 1e6)])
def test_short_runs_have_a_rate_too(name, n_steps, warmup):
    settings = ScheduleSettings(name=name, warmup=warmup)
    assert all(0 < rate_at(step, n_steps, settings) <= 1 for step in range(n_steps))


def test_steps_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="a run has at least one step"):
        rate_at(0, 0, ScheduleSettings())
    with pytest.raises(ValueError, match="steps count from 0"):
        rate_at(-1, 10, ScheduleSettings())


def test_plateau_lowers_the_rate_after_patience_and_stops_at_the_floor():
    plateau = Plateau(ScheduleSettings(name="plateau", patience=2, factor=0.5, floor=0.2))
    assert [plateau.update(score) for score in (1.0, 0.9, 0.9, 0.95, 0.9)] == [1, 1, 1, 1, 0.5]
    assert [plateau.update(0.9) for _ in range(6)] == [0.5, 0.5, 0.25, 0.25, 0.25, 0.2]
    assert plateau.update(0.1) == 0.2


@pytest.mark.parametrize(("better", "sign"), [("smaller", 1), ("larger", -1)])
def test_patience_ends_when_nothing_improves(better, sign):
    waiting = Patience(2, better)
    scores = [5.0, 4.0, 4.5, 4.1, 3.9, 3.9, 4.0, math.nan]
    assert [waiting.update(sign * score) for score in scores] == [False] * 7 + [True]
    assert waiting.best == sign * 3.9


def test_patience_asks_for_more_than_the_margin():
    waiting = Patience(0, "smaller", margin=0.1)
    assert not waiting.update(1.0)
    assert waiting.has_improved
    assert waiting.update(0.95)
    assert not waiting.update(0.8)


@pytest.mark.parametrize("make", [lambda: Patience(3), lambda: Plateau(ScheduleSettings(patience=1))])
def test_resumed_waiting_goes_on_as_if_never_stopped(make):
    scores = [3.0, 2.0, 2.5, 2.5, 2.1, 1.0, 1.5, 1.5, 1.5, 1.5]
    whole, before, after = make(), make(), make()
    expected = [whole.update(score) for score in scores]
    first = [before.update(score) for score in scores[:4]]
    after.load_state_dict(before.state_dict())
    assert first + [after.update(score) for score in scores[4:]] == expected


def test_wrong_directions_are_refused():
    with pytest.raises(ValueError, match="expected 'smaller' or 'larger'"):
        Patience(1, "lower")  # pyright: ignore[reportArgumentType]
