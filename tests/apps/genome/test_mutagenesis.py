"""What bases are worth: substitutions made by hand, gradients of a linear network, the other strand, and pictures."""

import csv
import json

import numpy as np
import pytest
import torch
from isometry.app import load_app
from isometry.cli import main
from isometry_data.genomes import open_genome
from isometry_genome import readout
from isometry_genome.dataset import Place
from isometry_genome.letters import codes_of, one_hot
from isometry_genome.model import GenomeModel, ModelSettings
from isometry_genome.mutagenesis import mutate, region_of, target_of
from isometry_genome.pictures import picture, worth
from isometry_genome.readout import Names
from isometry_genome.variant_effects import Asked

EXACT = 1e-9  # float64
SHARED_OUT = 1e-5  # of integrated gradients along 32 nodes
LENGTH, BIN = 64, 4
NAMES = Names(("off", "on"), ("one", "two"), ("none", "left", "right"))
ON_OTHER = {"swap_tracks": (1, 0), "swap_segments": (0, 2, 1)}
WEIGHTS = torch.randn(LENGTH, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
TEXT = "".join(np.random.default_rng(0).choice(list("ACGT"), 300))
REGION = Place("chr1", 120, 140)


class Linear(GenomeModel):
    """The log-odds of its second class is a sum of weights of bases."""

    def __init__(self):
        super().__init__(ModelSettings(heads=("classes",), bin=BIN, width=16, n_heads=2, n_classes=2))
        self.double()

    def forward(self, x, lengths=None):
        score = (x * WEIGHTS).sum((1, 2))
        return {"classes": torch.stack([torch.zeros_like(score), score], -1)}


def made(heads=("classes", "profile", "segments", "language"), **options):
    torch.manual_seed(0)
    sizes = {"width": 16, "stem": 8, "n_heads": 2, "n_layers": 1, "bin": BIN, "resolution": BIN, "kernel": 3}
    numbers = {"n_tracks": 2, "n_segments": 3, "n_classes": 2}
    model = GenomeModel(ModelSettings(heads=heads, **{**sizes, **numbers, **ON_OTHER, **options})).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


@pytest.fixture
def genome(tmp_path):
    path = tmp_path / "genome.fa"
    path.write_text(f">chr1\n{TEXT}\n")
    return open_genome(path)


def told(model, genome, target=None, place=REGION, centre=None, is_both=False):
    asked = Asked(model, genome, LENGTH, NAMES, is_both)
    return mutate(region_of(place, LENGTH, centre), target_of(target, model, NAMES), asked)


def test_a_linear_network_says_its_weights(genome):
    """Substitutions, gradients and integrated gradients are then the same, and known."""
    found = told(Linear(), genome)
    first = LENGTH // 2 - 10
    weights = WEIGHTS[first : first + 20].numpy()
    bases = np.array(["ACGT".index(letter) for letter in TEXT[120:140]])
    own = weights[np.arange(20), bases]
    expected = weights - own[:, None]
    np.testing.assert_allclose(found.effects, expected, atol=EXACT)
    assert found.slopes is not None
    np.testing.assert_allclose(found.slopes.estimates, expected, atol=EXACT)
    np.testing.assert_allclose(found.slopes.contributions, -expected.mean(1), atol=EXACT)
    np.testing.assert_allclose(found.slopes.integrated, own - weights.mean(1), atol=EXACT)
    np.testing.assert_allclose(worth(found), -expected.sum(1) / 3, atol=EXACT)
    assert found.slopes.incomplete < EXACT


@torch.no_grad()
@pytest.mark.parametrize("target", ["on", "two", "left"])
def test_substitutions_are_those_made_by_hand(genome, target, monkeypatch):
    monkeypatch.setattr(readout, "BASES_AT_ONCE", 7 * LENGTH)
    model = made()
    found = told(model, genome, target)

    def value(text):
        said = model(one_hot(codes_of(np.frombuffer(text.encode(), dtype=np.uint8)))[None].double())
        if target == "on":
            odds = model.temperatures["class"](said["classes"])[0]
            return float(odds[1] - odds[0])
        if target == "two":
            return float(said["profile"][0, :, 1].sum().log2())
        return float(model.temperatures["segment"](said["segments"])[0].softmax(-1)[:, 1].sum())

    start = 130 - LENGTH // 2
    assert found.value is not None
    assert found.value == pytest.approx(value(TEXT[start : start + LENGTH]), abs=EXACT)
    for at, base in [(120, "A"), (127, "C"), (139, "T")]:
        changed = TEXT[:at] + base + TEXT[at + 1 :]
        expected = value(changed[start : start + LENGTH]) - found.value
        assert found.effects[at - 120, "ACGT".index(base)] == pytest.approx(expected, abs=EXACT)
    there = found.effects[np.arange(20), ["ACGT".index(letter) for letter in TEXT[120:140]]]
    assert not there.any()


def test_integrated_gradients_share_out_what_the_region_brings(genome):
    model = made()
    found = told(model, genome, "on")
    hidden = TEXT[:120] + "N" * 20 + TEXT[140:]
    start = 130 - LENGTH // 2
    with torch.no_grad():
        x = torch.stack(
            [
                one_hot(codes_of(np.frombuffer(text[start : start + LENGTH].encode(), dtype=np.uint8))).double()
                for text in (TEXT, hidden)
            ]
        )
        logits = model.temperatures["class"](model(x)["classes"])
    odds = (logits[:, 1] - logits[:, 0]).tolist()
    assert found.slopes is not None
    assert found.slopes.integrated.sum() == pytest.approx(odds[0] - odds[1], abs=SHARED_OUT)
    assert found.slopes.incomplete < SHARED_OUT


@pytest.mark.parametrize("strands", ["one", "average", "equivariant"])
@pytest.mark.parametrize(("target", "on_other"), [("on", "on"), ("two", "one"), ("left", "right"), ("language",) * 2])
def test_the_other_strand_has_the_mirrored_map(genome, tmp_path, strands, target, on_other):
    path = tmp_path / "other.fa"
    path.write_text(f">chr1\n{TEXT[::-1].translate(str.maketrans('ACGT', 'TGCA'))}\n")
    model = made(strands=strands)
    here = told(model, genome, target, is_both=True)
    there = told(model, open_genome(path), on_other, Place("chr1", 160, 180), centre=170, is_both=True)
    np.testing.assert_allclose(there.effects[::-1, ::-1], here.effects, atol=EXACT)
    if here.slopes is not None and there.slopes is not None:
        np.testing.assert_allclose(there.slopes.estimates[::-1, ::-1], here.slopes.estimates, atol=EXACT)
        np.testing.assert_allclose(there.slopes.integrated[::-1], here.slopes.integrated, atol=EXACT)


@torch.no_grad()
def test_hidden_bases_are_guessed_one_by_one(genome):
    model = made(("language",))
    found = told(model, genome)
    start = 130 - LENGTH // 2
    window = (TEXT[:123] + "N" + TEXT[124:])[start : start + LENGTH]
    said = model(one_hot(codes_of(np.frombuffer(window.encode(), dtype=np.uint8)))[None].double())["language"]
    logs = model.temperatures["base"](said)[0, 123 - start].log_softmax(-1).numpy()
    np.testing.assert_allclose(found.effects[3], logs - logs["ACGT".index(TEXT[123])], atol=EXACT)
    assert found.slopes is None
    assert found.value is None


def test_unknown_bases_have_four_substitutions(tmp_path):
    path = tmp_path / "n.fa"
    path.write_text(f">chr1\n{TEXT[:130]}N{TEXT[131:]}\n")
    found = told(Linear(), open_genome(path))
    np.testing.assert_allclose(
        found.effects[10], (WEIGHTS[LENGTH // 2] - WEIGHTS[LENGTH // 2].mean()).numpy(), atol=EXACT
    )


def test_a_region_is_read_about_another_centre(genome):
    near = told(Linear(), genome, place=Place("chr1", 120, 125), centre=140)
    first = 120 - (140 - LENGTH // 2)
    base = "ACGT".index(TEXT[120])
    expected = (WEIGHTS[first] - WEIGHTS[first, base]).numpy()
    np.testing.assert_allclose(near.effects[0], expected, atol=EXACT)


def test_picture_shows_letters_and_substitutions(genome):
    found = told(Linear(), genome)
    figure = picture(found)
    assert len(figure.axes) == 4  # logo, map, logo, and the colours
    assert len(figure.axes[0].patches) == len(figure.axes[2].patches) == 20
    np.testing.assert_allclose(np.asarray(figure.axes[1].images[0].get_array()), found.effects.T)
    tops = [patch.get_path().get_extents().y1 for patch in figure.axes[0].patches]
    np.testing.assert_allclose(tops, np.maximum(worth(found), 0), atol=1e-6)


# The command


@pytest.fixture
def command(genome, monkeypatch, tmp_path):
    """With a model of ours in place of a run's."""
    names = {"class_names": NAMES.classes, "track_names": NAMES.tracks}
    settings = load_app("genome").presets["tiny"].changed(data={"source": "files", "length": LENGTH, **names})
    monkeypatch.setattr(readout, "trained", lambda run, device: (Linear(), settings))
    return lambda *more: main(["mutagenesis", "RUN", "--genome", str(tmp_path / "genome.fa"), *more])


def test_table_and_picture_are_written(command, tmp_path, capsys):
    outs = [str(tmp_path / name) for name in ("map.csv", "map.png", "map.svg")]
    flags = [flag for out in outs for flag in ("--out", out)]
    assert command("--region", "chr1:120-140", "--one-strand", *flags, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["target"] == "on"
    with open(outs[0], newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert "".join(row["base"] for row in rows) == TEXT[120:140]
    assert [int(row["start"]) for row in rows] == list(range(120, 140))
    assert float(rows[0]["to_A"]) == pytest.approx(said["bases"][0]["to_A"])
    assert all((tmp_path / name).stat().st_size > 1000 for name in ("map.png", "map.svg"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--region", "chr1"), "--region 'chr1': expected CHROM:START-END, such as chr1:1000-1100"),
        (("--region", "1:10-20"), "no sequence '1' in"),
        (("--region", "chr1:290-301"), "ends 1 past the end of chr1 (300 bases"),
        (("--region", "chr1:20-20"), "start must be smaller than end"),
        (("--region", "chr1:20-100"), "is not within the model's context, chr1:28-92 (64 bases); choose a shorter one"),
        (("--region", "chr1:20-40", "--centre", "200"), "or another --centre"),
        (("--region", "chr1:20-40", "--target", "up"), "--target 'up': this model says off, on"),
        (("--region", "chr1:20-40", "--out", "map.doc"), "no format is known by the ending '.doc'"),
    ],
)
def test_wrong_input_is_one_line(command, capsys, flags, message):
    assert command(*flags) == 1
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
