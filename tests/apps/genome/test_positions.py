"""A readout with weights for each place learns where a motif must stand, and refuses windows of another length."""

import pytest
import torch
from isometry.app import Data
from isometry_genome.dataset import Facts, Place, Reading, WindowDataset
from isometry_genome.letters import one_hot
from isometry_genome.memory import InMemory
from isometry_genome.model import GenomeModel, ModelSettings
from isometry_genome.train import APP
from torch.nn.functional import cross_entropy

SIZES = {"n_classes": 2, "width": 16, "stem": 16, "n_heads": 2, "n_layers": 1, "bin": 1, "trunk": "none"}
LENGTH = 41
HERE, ELSEWHERE = 25, (10, 17)  # where the motif counts and where not: no convolution sees an end from there
N_TRAINED, N_TESTED = 320, 200


def made(pool="positions", length=LENGTH, **options):
    torch.manual_seed(0)
    return GenomeModel(ModelSettings(**{**SIZES, "dropout": 0.0, "pool": pool, "length": length, **options}))


def aligned(n, seed):
    """Random bases with TATAAT once: at HERE in half of the windows, elsewhere in the others."""
    g = torch.Generator().manual_seed(seed)
    bases, labels = torch.randint(4, (n, LENGTH), generator=g), torch.arange(n) % 2
    starts = torch.where(labels == 1, HERE, torch.randint(*ELSEWHERE, (n,), generator=g))
    for row, start in enumerate(starts.tolist()):
        bases[row, start : start + 6] = torch.tensor([3, 0, 3, 0, 0, 3])
    return one_hot(1 << bases), labels


def share_right(model, n_steps=60):
    (x, labels), (asked, truth) = aligned(N_TRAINED, 1), aligned(N_TESTED, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=8e-3)
    for step in range(n_steps):
        rows = torch.arange(step * 40, (step + 1) * 40) % N_TRAINED
        loss = cross_entropy(model(x[rows])["classes"], labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return (model.eval()(asked)["classes"].argmax(1) == truth).float().mean().item()


def test_a_motif_counts_by_where_it_stands_where_a_mean_sees_that_it_is_there():
    assert share_right(made()) > 0.9
    assert share_right(made("mean")) < 0.65


@torch.no_grad()
@pytest.mark.parametrize(("bin_size", "neighbours"), [(1, 4), (1, 1), (2, 3), (8, 4)])
def test_every_base_of_a_window_is_read(bin_size, neighbours):
    model = made(bin=bin_size, neighbours=neighbours, width=32, rank=32).double().eval()
    torch.manual_seed(1)
    x = torch.rand(1, LENGTH, 4, dtype=torch.float64, requires_grad=True)
    with torch.enable_grad():
        model(x)["classes"].square().sum().backward()
    assert x.grad is not None
    assert bool((x.grad.abs().sum((0, 2)) > 0).all())


def test_windows_of_another_length_are_refused():
    with pytest.raises(ValueError, match=r"windows of 40 bases; this model's pool 'positions' was trained on .* of 41"):
        made()(torch.full((1, 40, 4), 0.25))
    with pytest.raises(ValueError, match="of 39 bases"):
        made()(torch.full((2, LENGTH, 4), 0.25), torch.tensor([LENGTH, 39]))
    with pytest.raises(ValueError, match=r"model\.length"):
        made(length=0)
    with pytest.raises(ValueError, match="rank is 5"):
        made(strands="equivariant", rank=5)


def test_the_length_is_learnt_from_the_data_where_positions_need_it():
    places = [Place("a", start, start + LENGTH, start % 2) for start in range(8)]
    windows = WindowDataset(InMemory({"a": "ACGT" * 20}), places, Reading(LENGTH), Facts(("no", "yes")))
    for pool, length in (("positions", LENGTH), ("mean", 0)):
        settings = APP.presets["tiny"].changed(model={"heads": ("classes",), "pool": pool})
        assert APP.learn(settings, Data(windows, windows, windows, {})).model.length == length
