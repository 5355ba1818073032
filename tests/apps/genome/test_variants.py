"""Effects of variants: those of a network that can be computed by hand, and what is refused with one clear line."""

import csv
import gzip
import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from isometry.app import load_app
from isometry.cli import main
from isometry_data.genomes import open_genome
from isometry_data.variants import Variant, check_references, read_vcf
from isometry_genome import readout, variant_effects
from isometry_genome.letters import codes_of, one_hot
from isometry_genome.model import GenomeModel, ModelSettings
from isometry_genome.readout import Names
from isometry_genome.variant_effects import Asked, alleles, codes_with, effects, partners

EXACT = 1e-9  # float64
LENGTH, BIN = 64, 4
NAMES = Names(("off", "on"), ("one", "two"), ("none", "left", "right"))
WEIGHTS = torch.randn(LENGTH, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
OF_TRACKS = torch.rand(4, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
HEADER = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"


class Linear(GenomeModel):
    """What it says is known: sums of weights of bases, by place for the classes, by letter for the tracks."""

    def __init__(self, heads=("classes", "profile"), **options):
        numbers = {"n_classes": 2, "n_tracks": 2, "n_segments": 3, "width": 16, "n_heads": 2}
        super().__init__(ModelSettings(heads=heads, bin=BIN, resolution=BIN, **numbers, **options))
        self.double()
        self.n_read = 0

    def forward(self, x, lengths=None):
        self.n_read += len(x)
        score = (x * WEIGHTS).sum((1, 2))
        said = {"classes": torch.stack([torch.zeros_like(score), score], -1)}
        said["profile"] = (x @ OF_TRACKS).unflatten(1, (-1, BIN)).sum(2)
        return {name: said[name] for name in self.settings.heads}


class Guessing(GenomeModel):
    """Guesses hidden bases from the base before them; what it sees it repeats."""

    LOGITS = torch.tensor([[0.0, 1, 2, 3], [3, 0, 1, 2], [2, 3, 0, 1], [1, 2, 3, 0]], dtype=torch.float64)

    def __init__(self, **options):
        super().__init__(ModelSettings(heads=("language",), bin=BIN, width=16, n_heads=2, **options))
        self.double()

    def forward(self, x, lengths=None):
        before = torch.cat([torch.full_like(x[:, :1], 0.25), x[:, :-1]], 1)
        return {"language": before @ self.LOGITS}


def letters(n, seed=0):
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), n))


TEXT = letters(400)


@pytest.fixture
def genome(tmp_path):
    path = tmp_path / "genome.fa"
    path.write_text(f">chr1\n{TEXT}\n")
    return open_genome(path)


def partner(text):
    return text.translate(str.maketrans("ACGT", "TGCA"))


def window(text, left):
    """[64, 4] of `text`, whose first letter is the window's first."""
    padded = "N" * max(left, 0) + text
    return one_hot(codes_of(np.frombuffer(padded.encode(), dtype=np.uint8)))[:LENGTH].double()


def one(variant, model, genome, **options) -> Any:
    ((same, found),) = effects([variant], Asked(model, genome, LENGTH, NAMES, **options))
    assert same == variant
    return found


@pytest.mark.parametrize("position", [0, 5, 100, 399])
def test_effect_of_a_substitution_is_the_difference_of_weights(genome, position):
    reference = TEXT[position]
    alternative = "ACGT"[("ACGT".index(reference) + 1) % 4]
    found = one(Variant("chr1", position, reference, alternative), Linear(), genome, is_both=False)
    at = (LENGTH - 1) // 2
    a, b = "ACGT".index(reference), "ACGT".index(alternative)
    assert found["logit_on_difference"] == pytest.approx(float(WEIGHTS[at, b] - WEIGHTS[at, a]), abs=EXACT)
    assert found["logit_off_difference"] == pytest.approx(-found["logit_on_difference"], abs=EXACT)
    text = "N" * 40 + TEXT + "N" * 40
    x = window(text[40 + position - at :], 0)
    odds = float((x * WEIGHTS).sum())
    assert found["p_on_reference"] == pytest.approx(1 / (1 + np.exp(-odds)), abs=EXACT)
    cells = (x @ OF_TRACKS).unflatten(0, (-1, BIN)).sum(1)[:, 0].numpy()
    changed = float(OF_TRACKS[b, 0] - OF_TRACKS[a, 0])
    assert found["one_reference"] == pytest.approx(cells.sum(), abs=EXACT)
    assert found["one_alternative"] == pytest.approx(cells.sum() + changed, abs=EXACT)
    assert found["one_log2_ratio"] == pytest.approx(np.log2(1 + changed / cells.sum()), abs=EXACT)
    assert found["one_log2_change"] == pytest.approx(abs(np.log2(1 + changed / cells[at // BIN])), abs=EXACT)


@pytest.mark.parametrize("position", [0, 5, 199, 395, 399])
def test_a_variant_of_a_circle_does_not_know_where_the_circle_begins(genome, position, tmp_path):
    (tmp_path / "circle.fa").write_text(f">chr1 [topology=circular]\n{TEXT}\n")
    (tmp_path / "turned.fa").write_text(f">chr1 circular=true\n{TEXT[200:] + TEXT[:200]}\n")
    alleles = TEXT[position], "ACGT"[("ACGT".index(TEXT[position]) + 1) % 4]
    here, there = (open_genome(tmp_path / f"{name}.fa") for name in ("circle", "turned"))
    found = one(Variant("chr1", position, *alleles), Linear(), here)
    assert found == pytest.approx(one(Variant("chr1", (position + 200) % 400, *alleles), Linear(), there), abs=EXACT)
    line = one(Variant("chr1", position, *alleles), Linear(), genome)
    is_near_the_ends = not LENGTH // 2 < position < 400 - LENGTH // 2
    assert (abs(line["p_on_reference"] - found["p_on_reference"]) > EXACT) == is_near_the_ends


def test_gaussian_tracks_have_differences_and_no_folds(genome):
    model = Linear(profile_loss="gaussian")
    found = one(Variant("chr1", 50, TEXT[50], "ACGT"["ACGT".index(TEXT[50]) - 1]), model, genome, is_both=False)
    assert found["one_difference"] == pytest.approx(found["one_alternative"] - found["one_reference"], abs=EXACT)
    assert found["one_change"] == pytest.approx(abs(found["one_difference"]), abs=EXACT)
    assert "one_log2_ratio" not in found


@pytest.mark.parametrize(("reference", "alternative"), [(1, "ACGTTTT"), (9, "A"), (3, "GGG"), (2, "ACGTACGTAC")])
def test_alleles_stand_in_the_middle_with_flanks_of_the_genome(genome, reference, alternative):
    start = 200
    pair = alleles(
        Variant("chr1", start, TEXT[start : start + reference], alternative), Asked(Linear(), genome, LENGTH, NAMES)
    )
    for allele in pair:
        codes = codes_with(allele, Asked(Linear(), genome, LENGTH, NAMES))
        expected = TEXT[start - allele.left : start] + allele.letters + TEXT[start + reference :]
        assert torch.equal(codes, codes_of(np.frombuffer(expected[:LENGTH].encode(), dtype=np.uint8)).to(torch.uint8))
        right = LENGTH - allele.left - len(allele.letters)
        assert abs(allele.left - right) <= BIN + 1
    assert (pair[0].left - pair[1].left) % BIN == 0


@pytest.mark.parametrize(("position", "middle"), [(190, 200), (210, 200), (230, 240)])
@pytest.mark.parametrize(("reference", "alternative"), [(1, "ACGTT"), (6, "A"), (2, "GG")])
def test_what_a_variant_is_read_about_stays_in_the_middle(genome, position, middle, reference, alternative):
    asked = Asked(Linear(), genome, LENGTH, NAMES, middles={"chr1": np.array([100, 200, 240, 380])})
    pair = alleles(Variant("chr1", position, TEXT[position : position + reference], alternative), asked)
    for allele in pair:
        codes = codes_with(allele, asked)
        assert len(codes) == LENGTH
        assert int(codes[LENGTH // 2]) == 1 << "ACGT".index(TEXT[middle])
        at = allele.left
        own = codes_of(np.frombuffer(allele.letters.encode(), dtype=np.uint8)).to(torch.uint8)
        assert torch.equal(codes[at : at + len(own)], own)


def test_a_variant_too_far_from_what_it_is_read_about_is_refused(genome):
    asked = Asked(Linear(), genome, LENGTH, NAMES, middles={"chr1": np.array([100])})
    with pytest.raises(
        ValueError, match=r"a.vcf, line 3: .* is not within the model's context, 64 bases, about .*:100"
    ):
        alleles(Variant("chr1", 200, TEXT[200], "A", source="a.vcf, line 3"), asked)
    with pytest.raises(ValueError, match=r"there is no interval on chr2 to read it about"):
        alleles(Variant("chr2", 200, TEXT[200], "A"), asked)


def test_bins_are_compared_with_those_of_the_same_bases(genome):
    asked = Asked(Linear(), genome, LENGTH, NAMES)
    same = alleles(Variant("chr1", 200, TEXT[200], "A"), asked)
    ours, theirs = partners(same, LENGTH // BIN, BIN)
    assert ours.tolist() == theirs.tolist() == list(range(LENGTH // BIN))
    inserted = alleles(Variant("chr1", 200, TEXT[200], TEXT[200] + "A" * 16), asked)
    first, last = inserted[0].left, LENGTH - 20
    ours, theirs = partners(inserted, LENGTH, 1)
    of = dict(zip(ours.tolist(), theirs.tolist(), strict=True))
    assert of[first - 1] == inserted[1].left - 1
    assert of[last] == last + inserted[1].behind - inserted[0].behind
    far = np.array([TEXT[200 - inserted[0].left + i] for i in ours if i > first])
    codes = codes_with(inserted[1], asked).numpy()
    assert [1 << "ACGT".index(letter) for letter in far] == codes[theirs[ours > first]].tolist()


def test_an_insertion_of_whole_bins_changes_no_bin_but_its_own(genome):
    """The tracks count letters, bin by bin: those around the insertion are moved, and stay the same."""
    variant = Variant("chr1", 200, TEXT[200], TEXT[200] + "A" * 8)
    pair = alleles(variant, Asked(Linear(), genome, LENGTH, NAMES))
    assert [allele.left for allele in pair] == [31, 27]
    windows = [codes_with(allele, Asked(Linear(), genome, LENGTH, NAMES)) for allele in pair]
    before, after = ((one_hot(codes).double() @ OF_TRACKS)[:, 0].unflatten(0, (-1, BIN)).sum(1) for codes in windows)
    torch.testing.assert_close(after[:7], before[1:8])
    torch.testing.assert_close(after[9:], before[8:15])
    found = one(variant, Linear(), genome, is_both=False)
    assert found["one_log2_change"] == pytest.approx(float((after[7:9] / before[7]).log2().abs().sum()), abs=1e-6)


def test_both_strands_agree_with_the_other_strand_of_the_genome(tmp_path, genome):
    """Reading the reverse complement of everything gives the same effects."""
    other = partner(TEXT[::-1])
    path = tmp_path / "other.fa"
    path.write_text(f">chr1\n{other}\n")
    model = GenomeModel(ModelSettings(heads=("classes",), bin=1, width=16, n_heads=2, n_layers=1, n_classes=2)).double()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    length = 65  # odd, so that the middle is one base
    variant = Variant("chr1", 150, TEXT[150], "ACGT"["ACGT".index(TEXT[150]) - 2])
    turned = Variant("chr1", 399 - 150, *(partner(allele) for allele in (variant.reference, variant.alternative)))
    ((_, a),) = effects([variant], Asked(model, genome, length, NAMES))
    ((_, b),) = effects([turned], Asked(model, open_genome(path), length, NAMES))
    assert a == pytest.approx(b, abs=EXACT)
    ((_, given),) = effects([variant], Asked(model, genome, length, NAMES, is_both=False))
    assert given["logit_on_difference"] != pytest.approx(a["logit_on_difference"], abs=1e-6)


def test_hidden_allele_is_guessed_from_what_stands_before_it(genome):
    found = one(Variant("chr1", 70, TEXT[70], "ACGT"["ACGT".index(TEXT[70]) - 1]), Guessing(), genome, is_both=False)
    row = Guessing.LOGITS["ACGT".index(TEXT[69])].log_softmax(-1)
    a, b = "ACGT".index(TEXT[70]), ("ACGT".index(TEXT[70]) - 1) % 4
    expected = {"log_p_reference": row[a], "log_p_alternative": row[b], "log_p_ratio": row[b] - row[a], "unknown": 0}
    assert found == pytest.approx({name: float(value) for name, value in expected.items()}, abs=EXACT)
    assert set(one(Variant("chr1", 70, TEXT[70], "ACG"), Guessing(), genome).values()) == {None, 0.0}
    for letter in "NR":
        for is_causal in (False, True):
            found = one(Variant("chr1", 70, TEXT[70], letter), Guessing(is_causal=is_causal), genome, is_both=False)
            assert set(found.values()) == {None, 0.0}


def test_a_causal_model_compares_whole_windows(genome):
    found = one(Variant("chr1", 70, TEXT[70], TEXT[70] + "GG"), Guessing(is_causal=True), genome, is_both=False)
    assert found["log_p_ratio"] == pytest.approx(found["log_p_alternative"] - found["log_p_reference"])
    start = 70 - (LENGTH - 1) // 2
    codes = ["ACGT".index(letter) for letter in TEXT[start : start + LENGTH]]
    logs = Guessing.LOGITS.log_softmax(-1)
    expected = sum(float(logs[a, b]) for a, b in pairwise(codes))
    flat = (0.25 * Guessing.LOGITS.sum(0)).log_softmax(-1)[codes[0]]
    assert found["log_p_reference"] == pytest.approx(expected + float(flat), abs=EXACT)


def test_long_lists_go_in_batches_and_share_their_references(genome, monkeypatch):
    monkeypatch.setattr(readout, "BASES_AT_ONCE", 6 * LENGTH)
    model = Linear()
    variants = (Variant("chr1", at, TEXT[at], b) for at in range(100, 130) for b in "ACGT" if b != TEXT[at])
    told = effects(variants, Asked(model, genome, LENGTH, NAMES, is_both=False))
    next(told)
    assert model.n_read == 4  # three alternatives of one place, and one reference
    assert len(list(told)) == 89


def test_an_allele_longer_than_the_window_is_refused(genome):
    variant = Variant("chr1", 10, TEXT[10:90], "A", source="a.vcf, line 3")
    with pytest.raises(ValueError, match=r"^a.vcf, line 3: .*longer than the model's context, 64 bases"):
        list(effects([variant], Asked(Linear(), genome, LENGTH, NAMES)))


# The command


APP = load_app("genome")


@pytest.fixture
def settings(monkeypatch):
    """The command with a model of ours in place of a run's."""
    settings = APP.presets["tiny"].changed(
        data={"source": "files", "length": LENGTH, "class_names": NAMES.classes, "track_names": NAMES.tracks}
    )
    monkeypatch.setattr(readout, "trained", lambda run, device: (Linear(), settings))
    return settings


def vcf(tmp_path, *rows):
    path = tmp_path / "in.vcf"
    path.write_text(HEADER + "".join("\t".join(row) + "\n" for row in rows))
    return path


def command(tmp_path, path, *more):
    return main(["variants", "RUN", "--vcf", str(path), "--genome", str(tmp_path / "genome.fa"), *more])


def other(position):
    return "ACGT"["ACGT".index(TEXT[position]) - 1]


def test_table_and_vcf_hold_the_same_effects(genome, settings, tmp_path, capsys):
    path = vcf(
        tmp_path, ("chr1", "51", "rs1", TEXT[50], other(50), ".", ".", "."), ("chr1", "61", ".", TEXT[60], "GGGA")
    )
    assert command(tmp_path, path, "--out", str(tmp_path / "out.csv")) == 0
    capsys.readouterr()
    assert command(tmp_path, path, "--out", str(tmp_path / "out.vcf"), "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"written": str(tmp_path / "out.vcf"), "variants": 2}
    with open(tmp_path / "out.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["position"], row["name"], row["alternative"]) for row in rows] == [
        ("51", "rs1", other(50)),
        ("61", "", "GGGA"),
    ]
    again = read_vcf(tmp_path / "out.vcf")
    assert [(v.position, v.reference, v.alternative) for v in again] == [
        (v.position, v.reference, v.alternative) for v in read_vcf(path)
    ]
    check_references(again, genome)
    info = dict(
        pair.split("=") for pair in (tmp_path / "out.vcf").read_text().splitlines()[-1].split("\t")[7].split(";")
    )
    for name, value in info.items():
        assert float(value) == pytest.approx(float(rows[1][name]), rel=1e-5)


@pytest.mark.parametrize(
    ("data", "model", "flags", "is_both"),
    [
        ({}, {}, (), False),
        ({}, {}, ("--both-strands",), True),
        ({"flips": True}, {}, (), True),
        ({"flips": True}, {}, ("--one-strand",), False),
        ({"source": "genes"}, {}, (), True),
        ({"source": "promoters"}, {}, (), False),
        ({}, {"strands": "average"}, (), True),
    ],
)
def test_both_strands_are_read_where_training_saw_both(
    genome, settings, tmp_path, monkeypatch, capsys, data, model, flags, is_both
):
    path = vcf(tmp_path, ("chr1", "51", ".", TEXT[50], other(50)))
    monkeypatch.setattr(readout, "trained", lambda run, device: (Linear(), settings.changed(data=data, model=model)))
    asked = []
    monkeypatch.setattr(variant_effects, "effects", lambda variants, how: asked.append(how) or iter(()))
    assert command(tmp_path, path, *flags) == 0
    assert [how.is_both for how in asked] == [is_both]
    assert ("since training saw no other" in capsys.readouterr().out) == (not is_both and not flags)


def test_json_holds_every_variant(genome, settings, tmp_path, capsys):
    path = vcf(tmp_path, *(("chr1", str(i + 1), ".", TEXT[i], other(i)) for i in range(50)))
    assert command(tmp_path, path, "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["position"] for row in rows] == list(range(1, 51))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("1", "51", ".", "A", "C"), "line 3: 1:51 A>C: no sequence '1' in"),
        (("chr1", "51", ".", "N", "C,<DEL>"), None),
        (("chr1", "401", ".", "A", "C"), "line 3: chr1:401 A>C lies past the end of chr1 (400 bases"),
        (("chr1", "51", ".", other(50), "N"), f"but {{}} has {TEXT[50]!r} there (1 of 1 variants disagree"),
        (("chr1", "0", ".", "A", "C"), "line 3: position '0', expected a whole number from 1"),
        (("chr1", "51", ".", "A", "X"), "line 3: alternative allele 'X', expected letters of DNA"),
    ],
)
def test_wrong_input_is_one_line(genome, settings, tmp_path, capsys, row, message):
    out = tmp_path / "out.csv"
    code = command(tmp_path, vcf(tmp_path, row), "--out", str(out))
    told = capsys.readouterr().err
    if message is None:
        assert code == 0
        return
    assert code == 1
    assert message.replace("{}", str(tmp_path / "genome.fa")) in told
    assert told.count("\n") == 1
    assert not out.exists()


def test_the_list_itself_is_never_written_over(genome, settings, tmp_path, capsys):
    path = vcf(tmp_path, ("chr1", "51", ".", TEXT[50], other(50), ".", ".", "."))
    before = path.read_text()
    assert command(tmp_path, path, "--out", str(path)) == 1
    assert "is one of the files to read" in capsys.readouterr().err
    assert path.read_text() == before


def test_long_alleles_are_told_by_their_length_and_where_they_differ(genome, settings, tmp_path, capsys):
    wrong = TEXT[50:150] + other(150) + TEXT[151:200]
    assert command(tmp_path, vcf(tmp_path, ("chr1", "51", ".", wrong, TEXT[50]))) == 1
    told = capsys.readouterr().err
    assert f"chr1:51 {TEXT[50:54]}…[150]>{TEXT[50]}: the reference allele is '…{wrong[95:106]}…'" in told
    assert f"has '…{TEXT[145:156]}…' there" in told
    assert command(tmp_path, vcf(tmp_path, ("chr1", "51", ".", TEXT[50], TEXT[50] + 500 * "A"))) == 1
    assert len(capsys.readouterr().err) < 300


def test_packed_lists_are_read_and_unknown_endings_are_refused_first(genome, settings, tmp_path, capsys):
    packed = tmp_path / "in.vcf.gz"
    packed.write_bytes(gzip.compress(vcf(tmp_path, ("chr1", "51", ".", TEXT[50], other(50))).read_bytes()))
    assert command(tmp_path, packed) == 0
    assert command(tmp_path, packed, "--out", str(tmp_path / "out.xlsx")) == 1
    assert "no format is known by the ending '.xlsx'" in capsys.readouterr().err


def test_likelihood_leaves_out_what_is_not_certain():
    logs = np.log(np.array([[0.1, 0.2, 0.3, 0.4]] * 3))
    codes = codes_of(np.frombuffer(b"ANT", dtype=np.uint8))
    assert variant_effects.likelihood(logs, codes) == pytest.approx(np.log(0.1) + np.log(0.4))
