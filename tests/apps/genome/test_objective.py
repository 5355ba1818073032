"""Losses against other libraries and their limits; what is not known contributes nothing."""

import numpy as np
import pytest
import torch
from isometry.randomness import seed_everything
from isometry_genome.dataset import Window
from isometry_genome.genes import CLASSES, ON_OTHER_STRAND
from isometry_genome.letters import N
from isometry_genome.model import GenomeModel, ModelSettings
from isometry_genome.objective import (
    LossSettings,
    classes,
    genome_loss,
    guessed,
    measure,
    objective_of,
    profile_row,
    seen,
)
from isometry_genome.scores import score
from scipy.stats import nbinom, poisson

torch.set_num_threads(1)
ALL = ("classes", "profile", "segments", "language")
LENGTH, BIN, TRACKS = 64, 8, 2
CLOSE = 1e-9


def net_of(*heads, **changes):
    seed_everything(0)
    small = {"width": 8, "stem": 8, "n_layers": 1, "n_heads": 2, "bin": BIN, "resolution": BIN, "dropout": 0.0}
    sizes = {"n_classes": 3, "n_tracks": TRACKS, "n_segments": len(CLASSES), "swap_segments": ON_OTHER_STRAND}
    settings = ModelSettings(heads=heads or ALL, **{**small, **sizes, **changes})
    return GenomeModel(settings).double().eval()


def batch_of(n=3, seed=0):
    rng = np.random.default_rng(seed)
    return Window(
        codes=torch.from_numpy(1 << rng.integers(0, 4, (n, LENGTH))).to(torch.uint8),
        label=torch.from_numpy(rng.integers(0, 3, n)),
        profile=torch.from_numpy(rng.poisson(3.0, (n, LENGTH // BIN, TRACKS)).astype(float)),
        segments=torch.from_numpy(rng.integers(0, len(CLASSES), (n, LENGTH))),
        hidden=torch.from_numpy(rng.random((n, LENGTH)) < 0.3),
        group=torch.zeros(n, dtype=torch.long),
    )


@pytest.mark.parametrize("head", ALL)
def test_a_window_without_labels_contributes_nothing(head):
    batch, net = batch_of(), net_of(head)
    nothing = batch._replace(
        label=torch.full_like(batch.label, -1),
        profile=torch.full_like(batch.profile, torch.nan),
        segments=torch.full_like(batch.segments, -1),
        hidden=torch.zeros_like(batch.hidden),
    )
    loss = genome_loss(net, nothing, LossSettings()).each
    assert loss.tolist() == [0, 0, 0]
    loss.sum().backward()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in net.parameters())


def test_an_unknown_bin_counts_as_if_it_were_not_there():
    batch, net = batch_of(1), net_of("profile", n_tracks=1, profile_loss="gaussian", track_scales=(2.0,))
    profile = batch.profile[..., :1].clone()
    profile[0, 3:] = torch.nan
    said = net(torch.nn.functional.one_hot(batch.codes.long().log2().long(), 4).double())["profile"]
    expected = ((said[0, :3] - profile[0, :3]) / 2).square().mean()
    found = genome_loss(net, batch._replace(profile=profile), LossSettings()).each
    torch.testing.assert_close(found[0], expected)


@pytest.mark.parametrize("kind", ["poisson", "negative_binomial"])
def test_counts_are_scored_by_their_likelihood(kind):
    """Differences of the loss between two truths' best and given rates are those of scipy's log-likelihoods."""
    net = net_of("profile", profile_loss=kind)
    batch = batch_of()
    said = net(torch.nn.functional.one_hot(batch.codes.long().log2().long(), 4).double())["profile"].detach().numpy()
    truth = batch.profile.numpy()
    if kind == "poisson":
        expected = poisson.logpmf(truth, np.maximum(truth, 1e-300)) - poisson.logpmf(truth, said)
    else:
        shape = 1 / net.dispersions().detach().numpy()
        from scipy.special import gammaln

        expected = -nbinom.logpmf(truth, shape, shape / (shape + said)) - gammaln(truth + 1)
    found = genome_loss(net, batch, LossSettings()).each.detach().numpy()
    np.testing.assert_allclose(found, expected.mean((1, 2)), atol=1e-8)


def test_the_dispersion_is_learnt():
    net = net_of("profile", profile_loss="negative_binomial")
    genome_loss(net, batch_of(), LossSettings()).each.sum().backward()
    assert net.tracks.log_dispersion.grad.abs().min() > 0


def test_class_weights_are_those_of_the_label():
    batch, net = batch_of(), net_of("classes")
    plain = genome_loss(net, batch, LossSettings()).each
    weighted = genome_loss(net, batch, LossSettings(class_weights=(1.0, 2.0, 5.0))).each
    torch.testing.assert_close(weighted, plain * torch.tensor([1.0, 2.0, 5.0])[batch.label].double())


def test_tracks_that_only_help_are_weighted_and_not_scored():
    batch, net = batch_of(), net_of("profile", profile_loss="gaussian")
    alone = genome_loss(net, batch, LossSettings(n_targets=1, aid=0.0)).each
    profile = batch.profile.clone()
    profile[..., 1] += 100
    torch.testing.assert_close(
        genome_loss(net, batch._replace(profile=profile), LossSettings(n_targets=1, aid=0.0)).each, alone
    )
    assert measure(net, batch, LossSettings(n_targets=1))["profile"].shape == (3, 1, 6)


def test_hidden_bases_are_not_seen_and_only_they_are_guessed():
    batch, net = batch_of(), net_of("language")
    labels = guessed(batch, net.settings)
    assert bool((labels[~batch.hidden] == -1).all())
    torch.testing.assert_close(1 << labels[batch.hidden], batch.codes[batch.hidden].long())
    changed = batch._replace(codes=torch.where(batch.hidden, torch.tensor(1, dtype=torch.uint8), batch.codes))
    torch.testing.assert_close(seen(changed, net), seen(batch, net))


def test_an_ambiguous_base_is_never_guessed():
    batch, net = batch_of(), net_of("language")
    codes = batch.codes.clone()
    codes[:, ::2] = N
    assert bool((guessed(batch._replace(codes=codes), net.settings)[:, ::2] == -1).all())


def test_a_causal_model_guesses_the_base_at_hand_from_those_before():
    batch, net = batch_of(), net_of("language", is_causal=True)
    assert genome_loss(net, batch, LossSettings()).each.shape == (3,)
    row = measure(net, batch, LossSettings())["language"]
    assert row[:, 1].tolist() == [LENGTH] * 3


def test_bits_of_an_ignorant_model_are_two():
    net = net_of("language")
    for p in net.heads.parameters():
        torch.nn.init.zeros_(p)
    rows = {name: row.detach().double().numpy() for name, row in measure(net, batch_of(), LossSettings()).items()}
    assert score(rows)["bits_per_base"] == pytest.approx(2, abs=1e-9)


def test_profile_sums_give_numpys_correlation():
    said, truth = torch.randn(2, 5, 3).double(), torch.randn(2, 5, 3).double()
    truth[0, 1] = torch.nan
    rows = {"profile": profile_row(said, truth, LossSettings()).numpy(), "group": np.zeros(2)}
    is_known = ~truth.isnan()
    expected = [np.corrcoef(said[..., t][is_known[..., t]], truth[..., t][is_known[..., t]])[0, 1] for t in range(3)]
    assert score(rows)["pearson"] == pytest.approx(np.mean(expected), abs=CLOSE)


def test_every_head_is_calibrated_by_its_temperature():
    batch, net = batch_of(), net_of()
    found = classes(net, batch)
    assert set(found) == set(net.temperatures)
    assert all(len(of.logits) == len(of.labels) for of in found.values())


def test_the_first_head_decides():
    assert objective_of(LossSettings(), ModelSettings(heads=("segments", "classes"))).decides == "base_f1"
    assert objective_of(LossSettings(), ModelSettings(heads=("language",))).better == "smaller"


def test_every_score_follows_from_rows_of_windows():
    rows = {k: v.detach().double().numpy() for k, v in measure(net_of(), batch_of(), LossSettings()).items()}
    assert all(len(row) == 3 for row in rows.values())
    found = score(rows)
    assert {"auroc", "mcc", "pearson", "base_f1", "bits_per_base"} <= set(found)
