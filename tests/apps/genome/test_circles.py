"""Circles have no ends: a gene across the origin is found once, and each format tells it in its own way."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from isometry import story
from isometry.app import load_app
from isometry_data.annotations import circles_of, read_features
from isometry_data.bases import ascii_of, reverse_complement
from isometry_data.intervals import read_bed
from isometry_data.tracks import Track
from isometry_genome.gene_calls import Rule, called, called_along, called_on_circle, evidence_of, schedule_on_circle
from isometry_genome.genes import CLASSES, Gene, first_stops
from isometry_genome.memory import InMemory
from isometry_genome.windows import Stretch

APP = load_app("genome")
OPERON_FILE = Path(__file__).parents[3] / "examples" / "operon.fa"
OPERON = OPERON_FILE.read_text(encoding="utf-8").partition("\n")[2].replace("\n", "")
N = len(OPERON)
GENES = {Gene(215, 839, False), Gene(835, 1384, False), Gene(1534, 2260, True)}
RULE = Rule(start=4.0, base=0.0, least=-300.0)
SAME = 1e-6


def turned(genes, by, n):
    """The genes of a circle that begins `by` bases further on."""
    return {Gene((g.start - by) % n, (g.start - by) % n + g.end - g.start, g.is_minus) for g in genes}


def drawn(n, seed):
    """Letters, and evidence that has nothing to do with them."""
    rng = np.random.default_rng(seed)
    return ascii_of("".join(rng.choice(list("ACGT"), n))), evidence_of(rng.dirichlet(np.ones(len(CLASSES)), n))


# Which intervals


def test_the_schedule_on_a_circle_is_the_best_of_all_subsets():
    rng = np.random.default_rng(0)
    n, n_across = 60, 0
    for _ in range(60):
        starts, values = rng.integers(0, n, 8), rng.random(8)
        ends = starts + rng.integers(8, 40, 8)
        subsets = itertools.chain.from_iterable(itertools.combinations(range(8), k) for k in range(9))
        most = max(sum(values[list(s)]) for s in subsets if _are_apart(starts, ends, s, n, 5))
        chosen = schedule_on_circle(starts, ends, values, n, 5)
        assert _are_apart(starts, ends, chosen, n, 5)
        assert values[chosen].sum() == pytest.approx(most)
        n_across += int((ends[chosen] > n).any())
    assert n_across > 10


def _are_apart(starts, ends, chosen, n, shared):
    def common(i, j):
        return max(min(ends[i], ends[j] + k) - max(starts[i], starts[j] + k) for k in (-n, 0, n))

    return all(common(i, j) <= shared for i, j in itertools.combinations(chosen, 2))


def test_nothing_on_a_circle_is_chosen_of_nothing():
    none = np.zeros(0, dtype=int)
    assert len(schedule_on_circle(none, none, none.astype(float), 10)) == 0


# Which genes


@pytest.mark.parametrize("n", [3000, 3001, 3002])
def test_genes_do_not_depend_on_where_a_circle_begins(n):
    letters, evidence = drawn(n, n)
    genes = {call.gene for call in called_on_circle(evidence, letters, RULE)}
    n_across = 0
    for by in range(0, n, 271):
        there = called_on_circle(np.roll(evidence, -by, 0), np.roll(letters, -by), RULE)
        assert len(there) == len({call.gene for call in there})
        assert {call.gene for call in there} == turned(genes, by, n)
        n_across += sum(call.gene.end > n for call in there)
    assert n_across > 0
    assert len(genes) > 10


def test_both_strands_of_a_circle_have_the_same_genes():
    letters, evidence = drawn(3001, 1)
    here = called_on_circle(evidence, letters, RULE)
    there = called_on_circle(evidence[::-1][:, [4, 5, 6, 7, 0, 1, 2, 3]], reverse_complement(letters), RULE)
    mirrored = {
        Gene((-g.end) % 3001, (-g.end) % 3001 + g.end - g.start, not g.is_minus) for g in (c.gene for c in here)
    }
    assert {call.gene for call in there} == mirrored


def test_away_from_the_origin_a_circle_has_the_genes_of_a_line():
    letters, evidence = drawn(20_000, 2)
    line, circle = ({c.gene for c in own(evidence, letters, RULE)} for own in (called, called_on_circle))
    assert {g for g in line if g.start > 3000 and g.end < 17_000} == {
        g for g in circle if g.start > 3000 and g.end < 17_000
    }


def test_a_circle_without_stop_codons_has_no_gene():
    letters = ascii_of("ATG" + "GCC" * 60)
    evidence = np.full((len(letters), 8), 8, dtype=np.float16)
    assert first_stops(letters) == len(letters)
    assert called_on_circle(evidence, letters, RULE) == []


def test_the_first_stops_end_every_frame():
    text = "".join(np.random.default_rng(0).choice(list("ACGT"), 400))
    n = first_stops(ascii_of(text))
    assert _ended(text[:n]) == {(strand, frame) for strand in range(2) for frame in range(3)} != _ended(text[: n - 1])


def _ended(text):
    other = "".join(text.translate(str.maketrans("ACGT", "TGCA")))
    codons = [(0, i % 3) for i in range(len(text) - 2) if text[i : i + 3] in ("TAA", "TAG", "TGA")]
    return {*codons, *((1, i % 3) for i in range(len(text) - 2) if other[i : i + 3][::-1] in ("TAA", "TAG", "TGA"))}


def test_a_place_that_is_a_whole_circle_begins_anywhere():
    letters, _ = drawn(3000, 3)
    p = np.random.default_rng(3).dirichlet(np.ones(len(CLASSES)), 3000)
    own = InMemory({"c": letters.tobytes().decode()}, ["c"])
    (whole,) = called_along([Stretch(1, "c", 0, 3000, None, p)], own, RULE)
    around = np.roll(p, -700, 0)
    parts = [Stretch(1, "c", 700 + a, 700 + b, None, around[a:b]) for a, b in ((0, 900), (900, 3000))]
    (other,) = called_along(parts, own, RULE)
    assert {c.gene for c in whole.calls} == {c.gene for c in other.calls}
    assert [c.gene for c in whole.calls] == sorted(c.gene for c in whole.calls)


# Files


@pytest.fixture(scope="module")
def caller():
    return story.load(APP, "genes", device="cpu")


@pytest.fixture(params=[500, 1000, 1900])
def circle(request, tmp_path):
    """The operon as a circle, cut within each of its genes."""
    file, by = tmp_path / "circle.fa", request.param
    file.write_text(f">c [topology=circular]\n{OPERON[by:]}{OPERON[:by]}\n", encoding="utf-8")
    return file, turned(GENES, by, N)


def test_a_gene_across_the_origin_is_found_once_and_told_as_each_format_has_it(caller, circle, tmp_path):
    file, genes = circle
    (across,) = (g for g in genes if g.end > N)
    rows = story.predict(caller, [file])
    assert [Gene(row["start"], row["end"], row["strand"] == "-") for row in rows] == sorted(genes)

    told = story.predict(caller, [file], tmp_path / "genes.gff3")
    assert [row["written"] for row in told] == [3]
    lines = [line.split("\t") for line in (tmp_path / "genes.gff3").read_text().splitlines() if line[0] != "#"]
    assert {Gene(int(c[3]) - 1, int(c[4]), c[6] == "-") for c in lines if c[2] == "CDS"} == genes
    assert circles_of(tmp_path / "genes.gff3") == {"c"}
    back = [f for f in read_features(tmp_path / "genes.gff3") if f.kind == "CDS"]
    assert sorted(f.n_parts for f in back) == [1, 1, 2, 2]
    assert {(f.interval.start, f.interval.end) for f in back if f.n_parts == 2} == {
        (0, across.end - N),
        (across.start, N),
    }

    story.predict(caller, [file], tmp_path / "genes.bed")
    bed = read_bed(tmp_path / "genes.bed")
    assert [line.start for line in bed] == sorted(line.start for line in bed)
    (first, last) = (line for line in bed if line.name != "gene")
    assert (first.start, first.end, last.start, last.end) == (0, across.end - N, across.start, N)
    assert (first.name, first.strand, first.score) == (last.name, last.strand, last.score)
    assert len(bed) == 4


def test_a_genbank_file_says_that_it_is_a_circle(caller, tmp_path):
    by, letters = 500, OPERON.lower()
    text = letters[by:] + letters[:by]
    lines = (f"{i + 1:>9} {text[i : i + 60]}\n" for i in range(0, N, 60))
    head = f"LOCUS       c {N:>20} bp    DNA     circular BCT 01-JAN-2026\nACCESSION   c\nVERSION     c\nORIGIN\n"
    (tmp_path / "c.gb").write_text(head + "".join(lines) + "//\n", encoding="utf-8")
    rows = story.predict(caller, [tmp_path / "c.gb"])
    assert {Gene(row["start"], row["end"], row["strand"] == "-") for row in rows} == turned(GENES, by, N)


def test_a_line_has_no_gene_across_its_ends(caller, circle, tmp_path):
    file, genes = circle
    text = file.read_text(encoding="utf-8").replace(" [topology=circular]", "")
    (tmp_path / "line.fa").write_text(text, encoding="utf-8")
    found = {
        Gene(row["start"], row["end"], row["strand"] == "-") for row in story.predict(caller, [tmp_path / "line.fa"])
    }
    assert {g for g in genes if g.end <= N} <= found
    assert all(g.end <= N for g in found)
    story.predict(caller, [tmp_path / "line.fa"], tmp_path / "genes.gff3")
    assert "Is_circular" not in (tmp_path / "genes.gff3").read_text()


@pytest.mark.parametrize("ending", [".bedgraph", ".bw"])
def test_tracks_across_the_origin_are_told_in_two_pieces(tmp_path, ending):
    pytest.importorskip("pyBigWig")
    numbers = {"n_tracks": 1, "width": 16, "stem": 8, "n_heads": 2, "n_layers": 1, "bin": 16, "resolution": 16}
    settings = APP.presets["tiny"].changed(
        model={"heads": ("profile",), "trunk": "none", "n_classes": 0, **numbers},
        data={"source": "files", "length": 256, "track_names": ("signal",)},
    )
    model, files = APP.model(settings).eval(), [tmp_path / "c.fa", tmp_path / "c.bed"]
    files[0].write_text(f">c [topology=circular]\n{OPERON[:480]}\n", encoding="utf-8")
    files[1].write_text("c\t400\t560\nc\t160\t240\n", encoding="utf-8")
    rows = APP.predict(model, settings, APP.read(settings, files), None)
    APP.predict(model, settings, APP.read(settings, files), tmp_path / f"out{ending}")
    values = Track(tmp_path / f"out{ending}").values("c", 0, 480)
    assert np.flatnonzero(np.isnan(values)).tolist() == [*range(80, 160), *range(240, 400)]
    for row in rows:
        assert values[row["start"] % 480] == pytest.approx(row["signal"], abs=SAME)
    files[1].write_text("c\t400\t560\nc\t70\t90\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"c.bed, line 2: c:70-90 overlaps c:0-80 \(.*line 1\)"):
        APP.predict(model, settings, APP.read(settings, files), tmp_path / f"out{ending}")
