"""The network: its bounds against brute force, its encoders, and what it may not know."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from isometry.information.bits import mutual_information
from isometry_signaling.dataset import Cells, collate
from isometry_signaling.model import ModelSettings, SignalingModel
from isometry_signaling.objective import NATS, gain_of
from isometry_signaling.predict import predictions
from isometry_signaling.train import APP, PRESETS, SignalingSettings
from torch.distributions import MultivariateNormal, Normal, kl_divergence

ROUNDING = 1e-4
EVEN = 0.01  # bits, of an average over 1,024 values in two dimensions
EXACT = 1e-9
PUSHED = 1e-3  # of an output's size: more than rounding


def made(preset: str, **changes: dict) -> tuple[SignalingSettings, Cells, SignalingModel]:
    settings = PRESETS[preset].changed(**changes)
    data = APP.data(settings)
    settings = APP.learn(settings, data)
    torch.manual_seed(0)
    return settings, data.train, APP.model(settings)  # type: ignore[return-value]


SMALL = {"n_train": 64, "n_valid": 64, "n_test": 64}


def test_a_state_of_kinds_pays_at_least_its_information_and_gains_at_most_it() -> None:
    _, train, model = made("cascade")
    model.double()
    batch = train.all()
    kept = model(*(x.double() for x in (batch.ligand, batch.noise, batch.environment, batch.genes)))
    p, weight = kept.state.shares.detach().numpy(), train.table.weight / len(train)
    joint_l = p * weight[:, None]
    joint_e = joint_l.T @ train.table.environment
    rate, gain = (float(weight @ x.detach().numpy() / NATS) for x in (kept.state.rate, gain_of(kept)))
    assert mutual_information(joint_l) <= rate + EXACT
    assert gain <= mutual_information(joint_e) + EXACT


def test_the_rate_of_one_gaussian_marginal_is_that_of_torch() -> None:
    _, train, model = made("gaussian", data=SMALL | {"is_exact": False})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    batch = collate([train[i] for i in range(8)])
    state = model.keep(batch.ligand, batch.noise)
    marginal = model.state.marginal
    root = marginal.root()
    whole = MultivariateNormal(marginal.mean, precision_matrix=root.T @ root)
    spread = model.state.log_spread.exp()
    own = MultivariateNormal(state.told, covariance_matrix=torch.diag(spread**2).expand(8, -1, -1))
    torch.testing.assert_close(state.rate, kl_divergence(own, whole), rtol=ROUNDING, atol=ROUNDING)


def test_a_mixture_of_one_component_has_its_divergence() -> None:
    _, train, model = made("tiny", data=SMALL, model={"n_components": 1, "n_draws": 4096, "n_state": 1})
    batch = collate([train[i] for i in range(4)])
    raw = model.entry(model.encoder((batch.ligand - model.shift) @ model.whitening.T))
    state = model.keep(batch.ligand, batch.noise)
    spread = (model.state.log_spread + 4 * torch.tanh(raw[:, 1:] / 4)).exp()
    mixture = model.state.marginal
    expected = kl_divergence(Normal(state.told, spread), Normal(mixture.means, mixture.log_spreads.exp()))[:, 0]
    torch.testing.assert_close(state.rate, expected, rtol=0.05, atol=0.05)  # of 4,096 draws


@pytest.mark.parametrize(("n_components", "tolerance"), [(1, ROUNDING), (5, EVEN)])
def test_bits_paid_by_each_predicted_cell_are_the_divergence_itself(n_components: int, tolerance: float) -> None:
    """Against the sum over a grid of the plane, however few values the noise has in training."""
    _, train, model = made("tiny", data=SMALL, model={"n_components": n_components, "n_draws": 1, "n_state": 2})
    cells, mixture = Cells(train.table, train.names, 1, 2), model.state.marginal
    with torch.no_grad():
        mixture.means.mul_(2)
        mixture.log_spreads.normal_(-0.5, 0.7)
        mixture.logits.normal_()
        line = torch.linspace(-16, 16, 641, dtype=torch.float64)
        places = torch.cartesian_prod(line, line)
        log_m = mixture.double().log_density(places)
        raw = model.entry(model.encoder((cells.columns.ligand - model.shift) @ model.whitening.T)).double()
        spread = (model.state.log_spread.double() + 4 * torch.tanh(raw[:, 2:] / 4)).exp()
    found = predictions(model.float(), cells).paid
    seen, first = np.unique(cells.table.ligand.ravel(), return_index=True)
    assert len(seen) >= 5
    for i in first[:5]:
        log_p = Normal(raw[i, :2], spread[i]).log_prob(places).sum(1)
        truth = float((log_p.exp() * (log_p - log_m)).sum()) * 0.05**2 / NATS
        assert found[i] == pytest.approx(truth, abs=tolerance)


def test_cubature_is_exact_for_a_linear_decoder() -> None:
    """Against a hundred thousand draws of the noise."""
    _, train, model = made("gaussian", data=SMALL | {"is_exact": False})
    batch = collate([train[i] for i in range(3)])
    exact = gain_of(model(batch.ligand, batch.noise, batch.environment, batch.genes))
    model.state.is_exact = False
    noise = torch.randn(3, 100_000, 4)
    drawn = gain_of(model(batch.ligand, noise, batch.environment, batch.genes))
    torch.testing.assert_close(exact, drawn, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("encoder", ["linear", "mlp", "convolution", "recurrent", "attention"])
def test_every_encoder_reads_every_moment_of_a_course(encoder: str) -> None:
    _, train, model = made("course", data=SMALL, model={"encoder": encoder, "width": 8})
    batch = collate([train[i] for i in range(4)])
    before = model.keep(batch.ligand, batch.noise).told
    assert before.shape == (4, 2)
    for moment in (0, 11, 23):
        moved = batch.ligand.clone()
        moved[:, moment] += 1
        assert (model.keep(moved, batch.noise).told - before).abs().max() > PUSHED * before.abs().max() / 100


def test_genes_do_not_shape_the_state_unless_asked_to() -> None:
    _, train, model = made("tiny", data=SMALL)
    batch = collate([train[i] for i in range(16)])
    for push, is_silent in ((0.0, True), (0.5, False)):
        model.zero_grad()
        model(batch.ligand, batch.noise, batch.environment, batch.genes, push).gene_loss.sum().backward()
        gradients = [p.grad for p in model.encoder.parameters() if p.grad is not None]
        assert all(bool((g == 0).all()) for g in gradients) is is_silent


def test_the_same_cell_has_the_same_noise_whenever_it_is_fetched() -> None:
    _, train, _ = made("tiny", data=SMALL)
    again = collate([train[5], train[3]])
    assert torch.equal(again.noise[1], collate([train[3]]).noise[0])
    assert not torch.equal(again.noise[0], again.noise[1])
    assert torch.equal(again.noise[:, :4], -again.noise[:, 4:])


def test_the_ligand_is_whitened_by_what_training_saw() -> None:
    settings, train, model = made("gaussian", data={"n_train": 4096, "is_exact": False})
    x = (train.columns.ligand.flatten(1) - model.shift) @ model.whitening.T
    np.testing.assert_allclose(np.cov(x.numpy().T), np.eye(x.shape[1]), atol=0.01)
    assert math.isclose(sum(settings.model.prior), 0)


def test_wrong_models_are_named() -> None:
    with pytest.raises(ValueError, match="odd number of moments"):
        ModelSettings(kernel=4)
    with pytest.raises(ValueError, match="n_draws None is exact for"):
        ModelSettings(n_draws=None)
    with pytest.raises(ValueError, match="environment of numbers alone"):
        made("tiny", data=SMALL, model={"n_draws": None, "decoder": 0, "n_components": 0})
    with pytest.raises(ValueError, match="reads a time course"):
        made("tiny", data=SMALL, model={"encoder": "recurrent"})
