"""The example app on a known mixture: scores that know the truth, players that do not touch each other, pure noise."""

import csv
import math

import numpy as np
import pytest
import torch
from isometry.lipschitz import certify
from isometry.story import load, predict, train
from isometry_mixture.dataset import NoiseSettings, Pairs, TrainingPairs, collate
from isometry_mixture.model import MixtureModel, MixtureModelSettings
from isometry_mixture.objective import loss
from isometry_mixture.ring import RingSettings, centres, nearest, point, scores_of
from isometry_mixture.train import APP

RING = RingSettings()
N = 4000
WITHIN_THREE = 1 - math.exp(-4.5)  # of a Gaussian in the plane


def true_samples(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.array([point(RING, rng) for _ in range(N)])


def batch(n: int = 8, **noise) -> object:
    pairs = Pairs(RING, NoiseSettings(**noise), range(n))
    return collate([pairs[i] for i in range(n)])


def model_of(**settings) -> MixtureModel:
    torch.manual_seed(0)
    return MixtureModel(MixtureModelSettings(latent=16, scale=1.5, **settings))


def test_true_samples_cover_every_mode_and_are_as_good_as_gaussians_can_be() -> None:
    scores = scores_of(RING, true_samples())
    assert scores["modes"] == 8
    assert scores["quality"] == pytest.approx(WITHIN_THREE, abs=3 * math.sqrt(WITHIN_THREE * (1 - WITHIN_THREE) / N))
    assert 2 * N * scores["kl"] < 24.3  # chi-squared of 7 degrees of freedom, 1 in 1,000
    assert scores["js"] < 0.01


def test_a_collapsed_generator_is_seen_through() -> None:
    rng = np.random.default_rng(0)
    one = centres(RING)[:1] + RING.spread * rng.normal(size=(N, 2))
    scores = scores_of(RING, one)
    assert scores["modes"] == 1
    assert scores["quality"] > 0.98
    assert scores["kl"] == pytest.approx(math.log(8))
    # Against 1/8 of the truth: the entropies of the even mixture, by hand.
    expected = 0.5 * (math.log2(16 / 9) + math.log2(2 / 9) / 8 + 7 / 8)
    assert scores["js"] == pytest.approx(expected, abs=0.01)


def test_samples_far_away_share_nothing_with_the_truth() -> None:
    scores = scores_of(RING, np.full((N, 2), 50.0))
    assert (scores["modes"], scores["quality"]) == (0, 0)
    assert scores["js"] == pytest.approx(1, abs=1e-3)


def test_the_nearest_mode_is_named_with_its_distance() -> None:
    found = nearest(RING, np.array([[2.2, 0.0], [0.0, 1.9]]))
    assert found.mode.tolist() == [0, 2]
    assert found.spreads == pytest.approx([2.0, 1.0])


def test_neither_player_learns_from_the_other_ones_loss() -> None:
    model = model_of()
    weights = dict(model.named_parameters())
    played = model(batch())
    by_player = {
        "generator": torch.autograd.grad(
            played.passed_logit.sum(), weights.values(), allow_unused=True, retain_graph=True
        ),
        "discriminator": torch.autograd.grad(
            (played.real_logit + played.caught_logit).sum(), weights.values(), allow_unused=True
        ),
    }
    for player, gradients in by_player.items():
        touched = {name.split(".")[0] for name, g in zip(weights, gradients, strict=True) if g is not None}
        assert touched == {player}


def test_both_logits_of_a_fake_are_the_same_number() -> None:
    model = model_of(bound=20.0).eval()
    played = model(batch())
    torch.testing.assert_close(played.caught_logit, played.passed_logit)


def test_a_bound_discriminator_is_as_steep_as_it_may_be() -> None:
    model = model_of(bound=20.0)
    assert certify(model.discriminator).total == pytest.approx(20, rel=1e-3)
    for _ in range(3):
        loss(model.train(), batch()).each.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_training_noise_is_a_pure_function_of_the_generator_and_the_level() -> None:
    pairs = TrainingPairs(RING, NoiseSettings(size=16, smallest=2, blur=1.0), range(4))

    def drawn(level: float, key: int = 0) -> list[np.ndarray]:
        return [np.array(part) for part in pairs.draw(1, np.random.default_rng(key), level)]

    assert all(np.array_equal(a, b) for a, b in zip(drawn(0.5), drawn(0.5), strict=True))
    assert not np.array_equal(drawn(0.5)[1], drawn(0.5, key=1)[1])
    assert [int((drawn(level)[1] != 0).sum()) for level in (0.01, 0.5, 1.0)] == [2, 8, 16]
    assert np.allclose(drawn(0.5)[2] * 2, drawn(1e-9)[2])
    assert not drawn(1.0)[2].any()
    assert np.array_equal(drawn(0.5)[0], pairs[1][0])


def test_a_file_of_seeds_becomes_a_table_of_samples(tmp_path) -> None:
    settings = APP.presets["tiny"].changed(n_train=256, n_score=64, fit={"epochs": 3})
    trained = train(APP, settings, tmp_path / "run", is_quiet=True)
    assert (trained.folder / "report.html").is_file()
    seeds = tmp_path / "seeds.csv"
    seeds.write_text("seed\n3\n1\n3\n")
    rows = predict(load(APP, tmp_path / "run"), [seeds], tmp_path / "out.csv")
    assert [row["seed"] for row in rows] == [3, 1, 3]
    assert rows[0] == rows[2] != rows[1]
    with open(tmp_path / "out.csv", newline="") as stream:
        assert list(next(csv.reader(stream))) == ["seed", "x", "y", "mode", "spreads"]


@pytest.mark.parametrize(("text", "said"), [("seed\nx\n", "line 2"), ("seed\n", "no rows"), ("a\n1\n", "column seed")])
def test_a_file_without_seeds_is_refused(tmp_path, text, said) -> None:
    (tmp_path / "seeds.csv").write_text(text)
    with pytest.raises(ValueError, match=said):
        APP.read(APP.presets["tiny"], [tmp_path / "seeds.csv"])
