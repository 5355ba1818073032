"""Replication timing of whole chromosomes: the same wherever windows are cut, and that of a window about each bin."""

import numpy as np
import pytest
import torch
from isometry import story
from isometry.app import load_app
from isometry_genome.asked import context_of
from isometry_genome.dataset import Place, Reading, WindowDataset
from isometry_genome.findings import of_whole
from isometry_genome.memory import InMemory
from isometry_genome.model import GenomeModel, ModelSettings
from isometry_genome.reach import reach, tell_reach
from isometry_genome.readout import fetched
from isometry_genome.windows import plan_of, spoken, stretches

SEAM = 1e-4
EDGE = 1e-3  # the outermost cells of a training window know less of what is around them
N, BIN, CELL = 1_300_000, 1024, 128


@pytest.fixture(scope="module")
def timing():
    return story.load(load_app("genome"), "timing", device="cpu")


@pytest.fixture(scope="module")
def chromosome():
    """As yeast's bases are, drawn one by one."""
    letters = np.random.default_rng(0).choice(list("ACGT"), N, p=[0.31, 0.19, 0.19, 0.31])
    return InMemory({"c": "".join(letters)})


def told(timing, chromosome, start, end=N):
    plan = plan_of(context_of(timing.settings.data), timing.model.settings)
    parts = list(stretches(timing.model, chromosome, [Place("c", start, end)], plan))
    return np.concatenate([part.profile for part in parts]), len(parts)


def test_timing_does_not_depend_on_where_a_chromosome_is_cut(timing, chromosome, caplog):
    plan = plan_of(context_of(timing.settings.data), timing.model.settings)
    assert reach(timing.model, plan.sight) <= plan.margin
    tell_reach(timing.model, [Place("c", 0, N)], plan)
    assert not caplog.text
    whole, n_windows = told(timing, chromosome, 0)
    assert n_windows > 1
    for start, end in ((37 * BIN, N), (300 * BIN, 420 * BIN)):
        part, _ = told(timing, chromosome, start, end)
        np.testing.assert_allclose(part, whole[start // CELL : -(-end // CELL)], atol=SEAM)
    assert whole[:, 0].std() > 100 * SEAM


def test_each_bin_of_a_chromosome_is_told_as_in_the_middle_of_a_training_window(timing, chromosome):
    whole, _ = told(timing, chromosome, 0)
    half = context_of(timing.settings.data) // 2
    for bin_ in (0, 100, 371, 500, N // BIN):
        start = bin_ * BIN - half
        window = fetched(chromosome, "c", start, start + 2 * half + BIN)  # as far to either side
        said = spoken(timing.model, window[None])["profile"][0, half // CELL : half // CELL + BIN // CELL].numpy()
        own = whole[bin_ * BIN // CELL : (bin_ + 1) * BIN // CELL]
        known = [CELL * i + bin_ * BIN < N - CELL for i in range(len(own))]
        np.testing.assert_allclose(said[: len(own)][known], own[known], atol=EDGE)


def test_scores_of_whole_chromosomes_are_of_what_is_predicted(timing, chromosome):
    length = context_of(timing.settings.data)
    windows = WindowDataset(chromosome, [Place("c", 0, length)], Reading(length=length, resolution=CELL))
    places = np.array([500.0, 300 * BIN + 77, N - 1])
    whole, _ = told(timing, chromosome, 0)
    np.testing.assert_array_equal(of_whole(timing.model, windows, "c", places), whole[[3, 2400, (N - 1) // CELL], 0])


def test_what_is_seen_reaches_as_far_as_gradients_go():
    torch.manual_seed(0)
    settings = ModelSettings(
        heads=("profile",), reads="elements", bin=16, resolution=4, width=8, stem=8, kernel=3, n_heads=2, n_layers=1,
        trunk="none", n_tracks=3, n_shares=2, profile_loss="gaussian", track_means=(0.0, 0.2, 0.2),
        track_scales=(1.0, 0.4, 0.4),
    )  # fmt: skip
    model = GenomeModel(settings).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        model.elements.log_reaches.clamp_(min=6.0, max=6.0)
    x = torch.full((1, 2048, 4), 0.25, dtype=torch.float64) + torch.rand(1, 2048, 4, dtype=torch.float64)
    far = {}
    for sight in (None, 128):
        with model.elements.seeing(sight):
            said = model(x.requires_grad_())["profile"]
        (slope,) = torch.autograd.grad(said[0, 256, 0], x)
        places = slope[0].abs().sum(1).nonzero()
        far[sight] = max(1024 - int(places.min()), int(places.max()) - 1027)
    assert far[None] > 1000
    assert 128 <= far[128] <= reach(model, 128)
    assert reach(model) is None
