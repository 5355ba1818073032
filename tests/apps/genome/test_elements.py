"""Sites of published motifs are where they lie, on either strand; the trunk reads what the stem says of elements."""

from pathlib import Path

import numpy as np
import pytest
import torch
from isometry import story
from isometry_genome.dataset import Window
from isometry_genome.elements import LEAST_VARIANCE, Standard
from isometry_genome.grammar import IUPAC
from isometry_genome.model import GenomeModel, ModelSettings, turned_outputs
from isometry_genome.objective import LossSettings, genome_loss
from isometry_genome.sites import CHUNK, SITES, Sites, log_odds
from isometry_genome.train import APP
from torch.nn.functional import one_hot

TOLERANCE = 1e-10
CELL = 64
LARGEST = 2**18  # bytes
CENTROMERE = next(i for i, site in enumerate(SITES) if site.lead)


def bases(n, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 4, n))


def planted(numbers, at, motif, seed=0):
    rng = np.random.default_rng(seed)
    for i, letter in enumerate(motif):
        numbers[at + i] = "ACGT".index(rng.choice(list(IUPAC[letter])))
    return numbers


def features(numbers, is_minus=False):
    x = one_hot(numbers, 4).double()[None] - 0.25
    found = Sites(CELL, 1.0).double()(x.flip(1, 2) if is_minus else x)[0]
    return found.flip(0, 1) if is_minus else found


def test_the_other_strand_reverses_cells_and_features():
    numbers = bases(3 * CHUNK // 2)
    assert (features(numbers) - features(numbers, is_minus=True)).abs().max() < TOLERANCE


@pytest.mark.parametrize("row", range(len(SITES)))
def test_a_planted_site_is_found_where_it_lies(row):
    site = SITES[row]
    whole = site.lead + "W" * (site.gaps[0] + 6 if site.lead else site.run) + site.consensus
    at = 20 * CELL + 5
    without = features(bases(40 * CELL))[:, row]
    found = features(planted(bases(40 * CELL), at, whole))[:, row]
    cell = (at + len(whole) - len(site.consensus) + len(site.consensus) // 2) // CELL
    assert found[cell] > without[cell] + 0.2
    assert (found - without).argmax() == cell


def test_a_cell_holds_the_mean_of_its_likelihood_ratios():
    numbers, row = bases(8 * CELL), 1
    odds = log_odds(SITES[row].consensus)
    n, half = len(odds), len(odds) // 2
    at = range(3 * CELL, 4 * CELL)
    ratios = [odds[torch.arange(n), numbers[i - half : i - half + n]].sum().exp() for i in at]
    expected = 0.3 * torch.stack(ratios).mean().add(1).log()
    assert abs(features(numbers)[3, row] - expected) < 1e-6  # log-odds are kept in fp32


def test_nothing_depends_on_the_chunks_in_which_bases_are_read():
    numbers, off = bases(CHUNK + 32 * CELL), 16 * CELL
    assert (features(numbers)[24:-8] - features(numbers[off:])[8:-8]).abs().max() < TOLERANCE


def test_the_longest_site_is_read_alike_where_all_else_is_in_half_precision():
    sites, text = Sites(16, 1.0), "RTCACRTG" + "A" * 84 + "TTTGATTTCCGAAA"
    own = torch.tensor([["ACGT".index({"R": "A"}.get(base, base)) for base in text + "ACGTAC"]])
    x = one_hot(own, 4).float() - 0.25
    assert x.shape[1] % 16 == 0
    with torch.autocast("cpu", torch.float16):
        found = sites(x)
    assert torch.equal(found, sites(x))
    assert found.isfinite().all()


def test_no_site_is_told_of_n():
    assert Sites(CELL, 1.0)(torch.zeros(1, 4 * CELL, 4)).abs().max() < 0.01


def made(**options):
    torch.manual_seed(0)
    tracks = {"n_tracks": 4, "n_shares": 3, "swap_tracks": (0, 2, 1, 3), "track_means": (1.0, 0.3, 0.3, 0.01)}
    sizes = {"heads": ("profile",), "width": 16, "stem": 8, "n_heads": 2, "n_layers": 1, "bin": 512, "resolution": 128}
    kinds = {"profile_loss": "gaussian", "entrance": "sites", "reads": "elements", "strands": "equivariant"}
    return GenomeModel(ModelSettings(**{**tracks, **sizes, **kinds, "trunk": "none", **options})).double().eval()


@torch.no_grad()
@pytest.mark.parametrize("trunk", ["none", "attention", "conv", "lstm"])
@pytest.mark.parametrize("length", [2048, 1000])
def test_strands_agree_on_shares_and_on_what_is_read_from_them(trunk, length):
    model = made(trunk=trunk)
    for parameter in model.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    x = torch.rand(2, length, 4, dtype=torch.float64).softmax(-1)
    said, other = model(x), model(x.flip(1, 2))
    assert said["profile"].shape == (2, length // 128, 4)
    assert (said["profile"] - turned_outputs(other, model.settings)["profile"]).abs().max() < TOLERANCE
    assert bool(((said["profile"][..., 1:] > 0) & (said["profile"][..., 1:] < 1)).all())


@torch.no_grad()
def test_shares_begin_near_their_means_and_bins_say_one_number():
    said = made()(torch.rand(1, 4096, 4, dtype=torch.float64).softmax(-1))["profile"][0]
    assert torch.allclose(said[:, 1:].mean(0), torch.tensor([0.3, 0.3, 0.01]).double(), rtol=0.5)
    assert (said[:, 0].unflatten(0, (-1, 4)).std(1) < TOLERANCE).all()


def test_features_are_read_in_standard_units_that_strands_share():
    standard = Standard(4, [1, 0, 2, 3]).double()
    sizes, offsets = torch.tensor([1.0, 3.0, 0.0, 40.0]).double(), torch.tensor([2.0, 4.0, 7.0, -5.0]).double()
    for seed in range(40):
        rng = torch.Generator().manual_seed(seed)
        standard(offsets + sizes * torch.randn(2, 500, 4, generator=rng, dtype=torch.float64))
    expected = torch.tensor([6.0, 6.0, 0.0, 1600.0]).double()  # of a pair: mean of squares 15 less 3²
    assert torch.allclose(standard.mean, torch.tensor([3.0, 3.0, 7.0, -5.0]).double(), atol=1.0)
    assert torch.allclose(standard.variance, expected, rtol=0.05, atol=1e-6)
    known = [value.clone() for value in standard.buffers()]
    said = standard.eval()(standard.mean + (standard.variance + LEAST_VARIANCE).sqrt())
    assert torch.allclose(said, torch.ones(4).double())
    assert all(torch.equal(a, b) for a, b in zip(known, standard.buffers(), strict=True))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_step_that_overflows_leaves_the_standard_as_it_was(dtype):
    standard = Standard(2, None)
    standard(torch.tensor([[1.0, 3.0], [3.0, 3.0]], dtype=dtype))
    before = {name: value.clone() for name, value in standard.state_dict().items()}
    for strange in (torch.inf, torch.nan):
        standard(torch.tensor([[strange, 3.0]], dtype=dtype))
        assert all(torch.equal(value, before[name]) for name, value in standard.state_dict().items())
    standard(torch.full((2, 2), 6e4, dtype=dtype))  # whose square no half has
    assert standard.variance.isfinite().all()
    assert standard.n_seen == 2


def test_a_rare_element_that_is_missed_costs_more_than_a_common_one():
    model, known = made(), torch.full((1, 16, 4), torch.nan).double()
    codes = 1 << bases(2048)[None]
    costs = []
    for track in (1, 3):
        profile = known.clone()
        profile[..., track] = 1.0
        nothing = torch.zeros(1, 0)
        batch = Window(codes, torch.zeros(1), profile, nothing, nothing, torch.zeros(1))
        costs.append(genome_loss(model, batch, LossSettings(n_targets=1)).each.item())
    assert 0 < costs[0] < costs[1]


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="expected the profile alone"):
        made(heads=("profile", "classes"))
    with pytest.raises(ValueError, match="sites are told of 64 bases"):
        made(resolution=32)
    with pytest.raises(ValueError, match="no track is a share of cells"):
        made(n_shares=0)


@torch.no_grad()
def test_the_shipped_network_finds_a_centromere_and_has_it_replicate_early():
    loaded = story.load(APP, "timing", device="cpu")
    model, names = loaded.model.eval(), loaded.settings.data.track_names
    site, at, n = SITES[CENTROMERE], 32_768, 65_536
    lead = at - site.run - len(site.lead) - 12
    numbers = planted(bases(n), lead, site.lead + "W" * (at - lead - len(site.lead)) + site.consensus)
    said = model(torch.stack([one_hot(bases(n), 4), one_hot(numbers, 4)]).float())["profile"]
    track = names.index("centromere")
    assert abs(int(said[1, :, track].argmax()) - at // 128) <= 1
    assert said[1, :, track].max() > 0.5 > said[0, :, track].max()
    earlier = (said[1] - said[0])[:, names.index("sort_W303_S")]
    assert earlier[at // 128] > 0.05
    assert earlier[at // 128] > earlier[[0, -1]].max()


def test_the_shipped_network_takes_little_room():
    folder = Path(__file__).parents[3] / "apps" / "isometry_genome" / "checkpoints" / "timing"
    assert sum(file.stat().st_size for file in folder.iterdir()) < LARGEST
