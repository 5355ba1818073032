"""Long sequences by windows: the same wherever they are cut, whole, in order, and never all at once."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from isometry_data.bases import ascii_of, reverse_complement
from isometry_genome import readout
from isometry_genome.dataset import Place
from isometry_genome.letters import codes_of, one_hot
from isometry_genome.memory import InMemory
from isometry_genome.model import GenomeModel, ModelSettings
from isometry_genome.reach import reach, tell_reach
from isometry_genome.windows import Plan, plan_of, stretches

EXACT = 1e-10  # float64
SEAM = 1e-4
SWAPS = {"swap_tracks": (1, 0), "swap_segments": (0, 2, 1)}


class Held:
    """Sequences in memory, and what was asked of them."""

    def __init__(self, **sequences):
        self.sequences, self.asked = {name: ascii_of(text) for name, text in sequences.items()}, []
        self.names, self.lengths = tuple(sequences), {name: len(text) for name, text in sequences.items()}

    def fetch(self, name, start, end, *, is_minus=False, pads=False):
        self.asked.append((name, start, end))
        own, n = self.sequences[name], self.lengths[name]
        assert pads or 0 <= start <= end <= n
        found = np.full(end - start, ord("N"), dtype=np.uint8)
        first, last = min(max(start, 0), n), max(min(end, n), 0)
        found[first - start : max(last, first) - start] = own[first:last]
        return reverse_complement(found) if is_minus else found


def letters(n, seed=0):
    return "".join(np.random.default_rng(seed).choice(list("ACGTN"), n, p=[0.3, 0.2, 0.2, 0.25, 0.05]))


def made(heads=("profile", "segments"), **options):
    torch.manual_seed(0)
    sizes = {"width": 16, "stem": 8, "n_heads": 2, "n_layers": 1, "bin": 4, "resolution": 4, "kernel": 3}
    numbers = {"n_tracks": 2, "n_segments": 3, "n_classes": 2}
    model = GenomeModel(ModelSettings(heads=heads, **{**sizes, **numbers, **SWAPS, **options})).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def joined(parts):
    parts = list(parts)
    for before, here in pairwise(parts):
        assert here.start == before.end
    return np.concatenate([p.profile for p in parts]), np.concatenate([p.segments for p in parts])


PLANS = [Plan(128, 32, 32, 4), Plan(256, 64, 16, 4), Plan(160, 40, 0, 4), Plan(512, 48, 64, 4), Plan(132, 32, 4, 4)]


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("n", [997, 1000])
def test_prediction_does_not_depend_on_where_windows_are_cut(plan, n):
    """A network without a trunk reaches 16 bases or fewer, less than any margin here: the ends included."""
    genome, model = Held(c=letters(n)), made(trunk="none")
    profile, segments = joined(stretches(model, genome, [Place("c", 0, n)], plan))
    whole = one_hot(codes_of(genome.fetch("c", -64, 1064, pads=True)))[None].double()
    with torch.no_grad():
        said = model(whole)
    np.testing.assert_allclose(profile, said["profile"][0, 16 : 16 + 250].numpy(), atol=EXACT)
    np.testing.assert_allclose(segments, said["segments"][0, 64 : 64 + n].softmax(-1).numpy(), atol=EXACT)


@pytest.mark.parametrize("plan", PLANS)
def test_a_circle_has_no_seam_at_its_origin(plan):
    """What is said of a circle that begins elsewhere is the same, begun elsewhere."""
    text, n, shift = letters(1000), 1000, 400
    model = made(trunk="none")
    circles = InMemory({"c": text, "turned": text[shift:] + text[:shift]}, ["c", "turned"])
    here, there = (joined(stretches(model, circles, [Place(name, 0, n)], plan)) for name in circles.names)
    for size, said, turned in zip((4, 1), here, there, strict=True):
        np.testing.assert_allclose(turned, np.roll(said, -shift // size, 0), atol=EXACT)
    across = joined(stretches(model, circles, [Place("c", 900, 1100)], plan))
    np.testing.assert_allclose(across[1], np.roll(here[1], 100, 0)[:200], atol=EXACT)
    line, _ = joined(stretches(model, InMemory({"c": text}), [Place("c", 0, n)], plan))
    assert np.abs(line - here[0])[0].max() > SEAM  # beyond the ends of a line there is nothing


def test_seams_do_not_show_in_single_precision():
    genome, model = Held(c=letters(2000)), made(trunk="conv", kernel=3).float()
    plans = Plan(512, 128, 64, 4), Plan(768, 128, 128, 4)
    one, other = (joined(stretches(model, genome, [Place("c", 0, 2000)], plan)) for plan in plans)
    np.testing.assert_allclose(one[0], other[0], atol=SEAM)
    np.testing.assert_allclose(one[1], other[1], atol=SEAM)


def test_attention_beyond_the_margin_is_blended_without_a_step():
    """Where the network reaches farther, neighbouring windows disagree, and the ramp hands over evenly."""
    genome, model = Held(c=letters(4000)), made(trunk="attention")
    one, other = (joined(stretches(model, genome, [Place("c", 0, 4000)], plan)) for plan in PLANS[:2])
    assert np.abs(one[0] - other[0]).max() > SEAM  # there is something to blend
    np.testing.assert_allclose(one[1].sum(1), 1, atol=EXACT)


LOCAL = [
    {"trunk": "none"},
    {"trunk": "none", "kernel": 5, "bin": 16, "resolution": 16},
    {"trunk": "conv", "n_layers": 3},
    {"trunk": "attention", "window": 3, "n_layers": 2},
    {"trunk": "attention", "window": 3, "n_layers": 2, "strands": "equivariant"},
    {"trunk": "none", "is_causal": True, "swap_tracks": ()},
]


@pytest.mark.parametrize("options", LOCAL)
@pytest.mark.parametrize("heads", [("profile",), ("profile", "segments")])
def test_reach_is_as_far_as_gradients_go(heads, options):
    model = made(heads, **options)
    x = torch.full((1, 1024, 4), 0.25, dtype=torch.float64) + torch.rand(1, 1024, 4, dtype=torch.float64)
    said = model(x.requires_grad_())
    for head, size in {"profile": model.settings.resolution, "segments": 1}.items():
        if head in heads:
            at = 512 // size
            (slope,) = torch.autograd.grad(said[head][0, at].sum(), x, retain_graph=True)
            places = slope[0].abs().sum(1).nonzero()
            far = max(at * size - int(places.min()), int(places.max()) - (at + 1) * size + 1)
            assert far <= reach(model) < 3 * far + 4 * model.settings.bin


def test_reach_beyond_the_margins_is_told(caplog):
    place, plan = Place("c", 0, 1000), plan_of(200, made().settings)
    tell_reach(made(trunk="none"), [place], plan_of(400, made().settings))
    tell_reach(made(), [Place("c", 0, 100)], plan)
    assert not caplog.text
    tell_reach(made(), [place], plan)
    assert (
        "windows of 200 bases overlap, and 24 at either end are not believed, but the network reads all of"
        in caplog.text
    )
    tell_reach(made(trunk="none"), [place], plan_of(16, made().settings))
    assert "and 0 at either end are not believed, but the network reads 17 to either side" in caplog.text
    assert reach(made(trunk="lstm")) is reach(made(window=2, n_global=1)) is None


@pytest.mark.parametrize("n", [1, 3, 4, 95, 96, 97, 127, 128, 129, 300])
@pytest.mark.parametrize("plan", [Plan(128, 16, 16, 4), Plan(4, 0, 0, 4), Plan(64, 0, 32, 4)])
def test_every_base_is_told_once(n, plan):
    genome, model = Held(c=letters(400)), made(trunk="none")
    profile, segments = joined(stretches(model, genome, [Place("c", 7, 7 + n)], plan))
    assert (len(profile), len(segments)) == (-(-n // 4), n)


def test_weights_sum_to_one():
    class Constant(GenomeModel):
        def forward(self, x, lengths=None):
            return {"profile": torch.full((len(x), x.shape[1] // 4, 2), 0.7, dtype=x.dtype)}

    model = Constant(ModelSettings(heads=("profile",), bin=4, resolution=4, n_tracks=2, n_heads=2, width=16))
    parts = stretches(model.double(), Held(c=letters(999)), [Place("c", 0, 999)], Plan(64, 4, 28, 4))
    for part in parts:
        assert part.profile is not None
        np.testing.assert_allclose(part.profile, 0.7, atol=EXACT)


def test_minus_place_is_read_on_its_own_strand_and_told_along_the_sequence():
    text = letters(600)
    genome, model = Held(c=text, r=reverse_complement(ascii_of(text)).tobytes().decode()), made(trunk="none")
    plan = PLANS[0]
    profile, segments = joined(stretches(model, genome, [Place("c", 100, 500, is_minus=True)], plan))
    other = joined(stretches(model, genome, [Place("r", 100, 500)], plan))
    np.testing.assert_allclose(profile, other[0][::-1][:, [1, 0]], atol=EXACT)
    np.testing.assert_allclose(segments, other[1][::-1][:, [0, 2, 1]], atol=EXACT)


def test_a_short_place_lies_in_the_middle_of_its_window():
    genome, model = Held(c=letters(1000)), made(trunk="none")
    list(stretches(model, genome, [Place("c", 500, 540)], Plan(128, 16, 16, 4)))
    ((_, start, end),) = genome.asked
    assert end - start == 128
    assert abs((start + end) / 2 - 520) < 4


def test_only_one_batch_of_windows_is_held(monkeypatch):
    monkeypatch.setattr(readout, "BASES_AT_ONCE", 256)
    genome, model = Held(c=letters(8000)), made(trunk="none")
    parts = stretches(model, genome, [Place("c", 0, 8000)], Plan(128, 16, 16, 4))
    next(parts)
    assert len(genome.asked) == 2
    next(parts)
    next(parts)
    assert len(genome.asked) == 4


@pytest.mark.parametrize(
    ("length", "options", "expected"),
    [
        (1000, {"bin": 4, "resolution": 4}, Plan(1000, 124, 124, 4)),
        (131_072, {"bin": 128, "resolution": 1024}, Plan(131_072, 16_384, 16_384, 1024)),
        (81, {"bin": 4, "resolution": 4}, Plan(80, 8, 8, 4)),
        (3, {"bin": 4, "resolution": 4}, Plan(4, 0, 0, 4)),
    ],
)
def test_windows_are_whole_bins(length, options, expected):
    plan = plan_of(length, ModelSettings(heads=("profile",), **options))
    assert plan == expected
    assert plan.step > 0
