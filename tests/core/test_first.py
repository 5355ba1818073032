"""What is looked at before the first step is what the first step meets: its micro-batch, at its level."""

import pytest
import torch
from isometry.begin import begin
from isometry.doctor.visit import visited
from isometry.first import first_of
from isometry.rate import rate_range, rate_range_of
from isometry_mixture.train import APP as MIXTURE
from isometry_wave.dataset import Staged
from isometry_wave.model import WaveModel, WaveModelSettings
from isometry_wave.train import APP as WAVE
from torch import nn

STAGES = {"levels": (0.25, 1.0), "begins": (0.0, 0.5)}


class Listening(WaveModel):
    """Tells at which levels and on which batches it was used."""

    def __init__(self) -> None:
        super().__init__(WaveModelSettings(dropout=0.0))
        self.register_buffer("scratch", torch.zeros(1), persistent=False)
        self.level, self.heard = 1.0, []

    def set_level(self, level):
        self.level = level

    def forward(self, x):
        self.heard.append((self.level, x.detach().clone()))
        self.scratch += 1
        return super().forward(x)


class Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.slope * x


@pytest.fixture
def fit(run, with_task):
    """A run with a curriculum, in micro-batches, not yet begun."""

    def change(task):
        torch.manual_seed(0)
        return with_task(train=Staged(), model=Listening())(task)

    fit = {"epochs": 2, "batch_size": 20, "accumulate": 2, "curriculum": STAGES, "average": None}
    return run("listening", change, fit=fit).fit


def only_met(model, batch, levels=(0.25,)):
    assert model.heard
    assert {level for level, _ in model.heard} == set(levels)
    assert all(torch.equal(x, batch) for _, x in model.heard)
    assert model.level == 1.0


def first_micro_batch(fit):
    n_global, batch = next(fit._fetch(fit.order.batches(0)[:1]))
    return batch[0].data, len(batch[0].records) / n_global


def test_the_first_batch_is_the_one_that_training_meets_first(fit):
    data, share = first_micro_batch(fit)
    first = first_of(fit.task)
    assert all(torch.equal(first.batch[name], data[name]) for name in ("x", "y"))
    assert first.weight == share == 0.5


@pytest.mark.parametrize("how", ["lsuv", "doctor"])
def test_weights_begin_by_the_first_micro_batch_at_its_level(fit, how):
    assert begin(fit.task, how) is not None
    only_met(fit.model, first_micro_batch(fit)[0]["x"])


def test_the_doctor_meets_the_latent_dimensions_with_which_training_begins():
    settings = MIXTURE.presets["steadied"].changed(fit={"accumulate": 4})
    with visited(MIXTURE, settings) as patient:
        latent = patient.batch.latent
    assert len(latent) == settings.fit.batch_size / 4
    assert int((latent != 0).any(0).sum()) == settings.noise.smallest == 2


def test_the_range_test_trains_at_the_level_of_the_epoch(fit):
    rate_range(fit.task, n_steps=10, curvature=False)
    n_looks, n_steps = 10 * 2, 10 * 2  # the untrained network's losses, then the steps: two micro-batches each
    levels = [level for level, _ in fit.model.heard]
    epochs = ([0.25] * 6 + [1.0] * 14) * 2  # three batches an epoch
    assert levels == epochs[: n_looks + n_steps]
    assert fit.model.level == 1.0


@pytest.mark.parametrize("accumulate", [1, 4])
def test_the_stable_rate_does_not_depend_on_how_a_batch_is_cut(run, with_task, accumulate):
    points = [(torch.tensor(1.0), torch.tensor(0.0))] * 16
    change = with_task(train=points, model=Line())
    found = rate_range(run("cut", change, fit={"batch_size": 16, "accumulate": accumulate}).fit.task)
    assert found.stable == pytest.approx(1.0, rel=1e-5)  # the loss (w x - y)² at x = 1 has the curvature 2


def test_the_range_test_gives_the_network_back_in_its_own_number_format(run, with_task):
    task = run("own", with_task(model=Listening().double())).fit.task
    task.model.double()
    gradients = []
    for parameter in task.model.parameters():
        parameter.grad = torch.ones_like(parameter)
        gradients.append(parameter.grad)
    rate_range(task, n_steps=10, curvature=False)
    assert {tensor.dtype for tensor in (*task.model.parameters(), task.model.scratch)} == {torch.float64}
    assert task.model.scratch == 0
    assert all(p.grad is gradient for p, gradient in zip(task.model.parameters(), gradients, strict=True))
    assert all(bool((gradient == 1).all()) for gradient in gradients)


def test_the_range_test_leaves_the_threads_as_they_were():
    before = torch.get_num_threads()
    rate_range_of(WAVE, WAVE.presets["tiny"].changed(threads=before + 1), n_steps=10, curvature=False)
    assert torch.get_num_threads() == before
