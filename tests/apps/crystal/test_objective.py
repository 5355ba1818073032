"""The loss counts what is labelled and nothing else; the scores are what their names say."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from ase import Atoms
from isometry_crystal.dataset import collate, graph_of
from isometry_crystal.objective import GPA, LossSettings, crystal_loss, measure, objective_of, score
from isometry_data.crystals import record_of

ALL = LossSettings(energy=10.0, forces=1.0, stress=2.0)
EXACT = 1e-12


@pytest.fixture
def labelled(silicon):
    """A record with every label, and one without any."""
    rng = np.random.default_rng(0)
    bare = record_of(silicon)
    full = dataclasses.replace(
        bare,
        energy=-42.0,
        forces=rng.normal(size=(8, 3)),
        stress=rng.normal(size=6) * 0.01,
        info={"config_type": "aimd"},
    )
    return full, bare


def batch_of(*records):
    return collate([graph_of(record, 4.0, index) for index, record in enumerate(records)])


def test_a_missing_label_contributes_zero(make_model, labelled):
    full, bare = labelled
    model = make_model().train()
    loss = crystal_loss(model, batch_of(full, bare), ALL)
    assert loss.each.shape == (2,)
    assert loss.each[1].item() == 0
    assert loss.each[0].item() == pytest.approx(crystal_loss(model, batch_of(full), ALL).each.item(), abs=EXACT)
    assert set(loss.parts) == {"energy", "forces", "stress"}
    assert sum(loss.parts.values()).tolist() == pytest.approx(loss.each.tolist(), abs=EXACT)


def test_a_missing_label_gives_no_gradient_and_no_nan(make_model, labelled):
    full, bare = labelled
    molecule = dataclasses.replace(full, cell=np.zeros((3, 3)), pbc=np.zeros(3, bool), stress=None)
    gradients = []
    for records in ([full], [full, bare]):
        model = make_model().train()
        crystal_loss(model, batch_of(*records), ALL).each.sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    assert all((a - b).abs().max() < 1e-9 for a, b in zip(*gradients, strict=True))
    model = make_model().train()
    crystal_loss(model, batch_of(molecule), ALL).each.sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_only_the_trusted_part_of_a_stress_counts(make_model, labelled):
    full, _ = labelled
    diagonal = full.stress.copy()
    diagonal[3:] = np.nan
    model = make_model().train()
    part = crystal_loss(model, batch_of(dataclasses.replace(full, stress=diagonal)), ALL).parts["stress"]
    out, volume = model(batch_of(full)), full.volume / 8
    errors = (out["stress"][0].diagonal().detach().numpy() - full.stress[:3]) * volume
    huber = np.where(abs(errors) < 0.01, errors**2 / 0.02, abs(errors) - 0.005)
    assert part.item() == pytest.approx(2.0 * huber.mean(), rel=1e-9)


def test_a_prediction_that_is_not_finite_stays_visible(make_model, labelled):
    model = make_model().train()
    next(model.parameters()).data.fill_(torch.nan)
    assert crystal_loss(model, batch_of(labelled[0]), ALL).each.isnan().all()


@pytest.mark.parametrize("kind", ["huber", "square"])
def test_labels_equal_to_the_prediction_cost_nothing(make_model, labelled, kind):
    model = make_model()
    with torch.no_grad():
        out = model(batch_of(labelled[0]))
    stress = out["stress"][0].numpy()[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    truth = dataclasses.replace(labelled[0], energy=out["energy"].item(), forces=out["forces"].numpy(), stress=stress)
    assert crystal_loss(model, batch_of(truth), ALL.changed(kind=kind)).each.item() < EXACT


def test_huber_is_square_within_and_absolute_beyond(make_model, labelled):
    model, settings = make_model(), LossSettings(energy=1.0, forces=0.0, huber=0.1)
    with torch.no_grad():
        energy = model(batch_of(labelled[1]), forces=False, stress=False)["energy"].item()
    for error, expected in [(0.05, 0.05**2 / 0.2), (3.0, 3.0 - 0.05)]:
        record = dataclasses.replace(labelled[1], energy=energy + 8 * error)
        assert crystal_loss(model, batch_of(record), settings).each.item() == pytest.approx(expected, rel=1e-9)


def test_scores_are_the_errors_of_the_predictions(make_model, labelled):
    full, bare = labelled
    other = dataclasses.replace(full, energy=-41.0, info={"config_type": "vacancy"}, stress=None)
    model, objective = make_model(), objective_of(ALL)
    with torch.no_grad():
        rows = {name: row.numpy() for name, row in objective.measure(model, batch_of(full, other, bare)).items()}
        out = model(batch_of(full))
    found = objective.score(rows)
    forces = out["forces"].numpy() - full.forces
    energies = (out["energy"].item() - np.array([-42.0, -41.0])) / 8 * 1000
    stress = out["stress"][0].numpy()[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]] - full.stress
    assert found["energy_mae_mev_per_atom"] == pytest.approx(np.abs(energies).mean())
    assert found["energy_rmse_mev_per_atom"] == pytest.approx(np.sqrt((energies**2).mean()))
    assert found["forces_mae_ev_per_angstrom"] == pytest.approx(np.abs(forces).mean())
    assert found["forces_rmse_ev_per_angstrom"] == pytest.approx(np.sqrt((forces**2).mean()))
    assert found["stress_mae_gpa"] == pytest.approx(np.abs(stress).mean() * GPA)
    assert found["aimd/energy_mae_mev_per_atom"] == pytest.approx(abs(energies[0]))
    assert found["vacancy/forces_mae_ev_per_angstrom"] == pytest.approx(np.abs(forces).mean())
    assert objective.decides in found


def test_without_labels_there_are_no_scores(make_model):
    with torch.no_grad():
        rows = measure(make_model(), batch_of(record_of(Atoms("Si2", [[0, 0, 0], [0, 0, 2.3]]))))
    assert score({name: row.numpy() for name, row in rows.items()}) == {}
