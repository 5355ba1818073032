"""Classes along whole sequences by short windows: every base is told, and what lies across two windows is found."""

from pathlib import Path

import numpy as np
import pytest
import torch
from isometry import story
from isometry.app import load_app
from isometry_data.bases import ascii_of, reverse_complement
from isometry_data.intervals import read_bed
from isometry_data.tracks import Track
from isometry_genome import readout, scan
from isometry_genome.dataset import Place
from isometry_genome.files import Tiles
from isometry_genome.memory import InMemory
from isometry_genome.model import GenomeModel, ModelSettings
from isometry_genome.scan import Slide, batches, slides, strands_of, track_names, tracks

PROMOTERS = Path(__file__).parents[3] / "examples" / "promoters.fa"
STRIDE = 5  # a sixteenth of 81 bases
LARGE = 0.9
EXACT = 1e-6  # float32


def letters(n, seed=0):
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), n))


def turned(text):
    return reverse_complement(ascii_of(text)).tobytes().decode()


@pytest.fixture(scope="module")
def promoters():
    return story.load(load_app("genome"), "promoters", device="cpu")


@pytest.fixture(scope="module")
def planted():
    """Our own, with both boxes in their places."""
    return PROMOTERS.read_text(encoding="utf-8").split(">")[2 * 2 + 1].partition("\n")[2].strip()


# Geometry


def lines_and_circles():
    for n in (1, 7, 8, 9, 20, 23, 24, 40):
        for stride in (1, 2, 3, 8):
            yield from (Slide(1, "c", n, 8, stride, is_circle) for is_circle in (False, True))


def test_windows_are_a_stride_apart_and_end_with_their_sequence():
    for slide in lines_and_circles():
        starts = [slide.start(number) for number in range(slide.n_windows)]
        steps = np.diff(starts)
        assert starts[0] == 0
        assert (steps[:-1] == slide.stride).all()
        assert ((steps > 0) & (steps <= slide.stride)).all()
        if slide.is_circle:
            assert 0 < slide.n - starts[-1] <= slide.stride
            assert slide.start(slide.n_windows) == slide.n
        elif slide.n >= slide.length:
            assert slide.place(slide.n_windows - 1).end == slide.n
        else:
            assert (len(starts), slide.place(0).end) == (1, slide.n)


def test_each_base_is_told_once_by_the_window_whose_middle_is_nearest():
    for slide in lines_and_circles():
        at = 0
        for cell in slide.cells():
            assert cell.start == at
            at = cell.end
            for base in range(cell.start, cell.end):
                assert _distance(slide, cell.number, base) == min(
                    _distance(slide, number, base) for number in range(slide.n_windows)
                )
        assert at == slide.n


def _distance(slide, number, base):
    """Twice, of a base's middle from that of a window."""
    turns = (-2, -1, 0, 1, 2) if slide.is_circle else (0,)
    middle = slide.start(number) + slide.length // 2
    return min(abs(2 * (base - middle - turn * slide.n) + 1) for turn in turns)


def test_windows_of_a_batch_are_those_of_the_sequence(monkeypatch):
    monkeypatch.setattr(readout, "BASES_AT_ONCE", 5 * 8)
    text = letters(45)
    for own in (InMemory({"c": text}), InMemory({"c": text}, ["c"])):
        slide = Slide(1, "c", 45, 8, 3, own.is_circle("c"))
        found = list(batches(own, slide, range(slide.n_windows)))
        assert max(len(numbers) for numbers, _ in found) == 5
        assert [number for numbers, _ in found for number in numbers] == list(range(slide.n_windows))
        for numbers, codes in found:
            for number, row in zip(numbers, codes, strict=True):
                start = slide.start(number)
                assert torch.equal(row, readout.fetched(own, "c", start, start + 8))


def test_only_a_batch_of_windows_is_held(monkeypatch):
    monkeypatch.setattr(readout, "BASES_AT_ONCE", 40)
    asked = []

    class Told(InMemory):
        def fetch(self, name, start, end, **more):
            asked.append(end - start)
            return super().fetch(name, start, end, **more)

    slide = Slide(1, "c", 4000, 8, 2, False)
    parts = tracks(classifier(8), Told({"c": letters(4000)}), [slide], (False,))
    next(parts)
    assert asked == [8 + 4 * 2]
    for _ in parts:
        pass
    assert max(asked) == 8 + 4 * 2


def classifier(length):
    torch.manual_seed(0)
    settings = {"heads": ("classes",), "trunk": "none", "bin": 1, "width": 16, "stem": 8, "n_heads": 2, "n_layers": 1}
    return GenomeModel(ModelSettings(**settings, n_classes=2, pool="positions", length=length)).eval()


def test_windows_side_by_side_are_made_when_they_are_asked_for():
    own = Tiles({"a": 10, "b": 3, "c": 8}, 4)
    expected = [Place(n, at, at + 4) for n, at in (("a", 0), ("a", 4), ("a", 8), ("b", 0), ("c", 0), ("c", 4))]
    assert list(own) == expected
    assert (own[-1], own[1:3], len(own)) == (expected[-1], expected[1:3], 6)
    with pytest.raises(IndexError):
        own[6]


# Output


def test_tracks_are_those_of_the_windows_on_each_strand():
    own, model = InMemory({"c": letters(60), "r": turned(letters(60))}), classifier(8)
    parts = [list(tracks(model, own, [Slide(1, name, 60, 8, 4, False)], (False, True))) for name in own.names]
    here, there = (np.concatenate([np.repeat(p.profile, 4, 0)[: p.end - p.start] for p in side]) for side in parts)
    assert here.shape == (60, 4)
    np.testing.assert_allclose(here[:, :2].sum(1), 1, atol=EXACT)
    # An even window has its middle at the base behind: the other strand's cells lie one base on.
    np.testing.assert_allclose(here[6:54:4, [2, 3, 0, 1]], there[::-1][6:54:4], atol=EXACT)
    assert track_names(("off", "on"), (False, True)) == ["off+", "on+", "off-", "on-"]
    assert track_names(("off", "on"), (False,)) == ["off", "on"]


def test_windows_of_n_alone_have_no_value():
    own = InMemory({"c": letters(40) + "N" * 40 + letters(40, 1)})
    parts = list(tracks(classifier(8), own, [Slide(1, "c", 120, 8, 4, False)], (False,)))
    values = np.concatenate([np.repeat(p.profile, 4, 0)[: p.end - p.start] for p in parts])
    assert np.flatnonzero(np.isnan(values[:, 0])).tolist() == list(range(42, 78))


def test_a_stride_beyond_the_window_is_refused(promoters):
    settings = promoters.settings.changed(data={"stride": 82})
    with pytest.raises(
        ValueError, match=r"windows of 81 bases 82 apart \(--stride\) leave bases unread; expected 1 to"
    ):
        slides(InMemory({"c": "ACGT"}), settings)
    with pytest.raises(ValueError, match="stride"):
        story.strided(promoters, 0)


def test_strands_are_those_that_training_did_not_see(promoters):
    assert strands_of(promoters.settings) == (False, True)
    assert strands_of(promoters.settings.changed(data={"flips": True})) == (False,)
    assert strands_of(promoters.settings.changed(model={"strands": "average"})) == (False,)


# A promoter that lies anywhere


def test_the_default_is_a_sixteenth_of_a_window(promoters):
    assert scan.SHARE == 16
    assert slides(InMemory({"c": "ACGT"}), promoters.settings)[0].stride == STRIDE
    assert slides(InMemory({"c": "ACGT"}), story.strided(promoters, 9).settings)[0].stride == 9


@pytest.mark.parametrize("strand", "+-")
def test_a_promoter_is_found_wherever_it_lies(promoters, planted, strand, tmp_path):
    """With windows side by side it is missed at most places."""
    own = planted if strand == "+" else turned(planted)
    found, side_by_side = [], []
    for at in range(0, 200, 7):
        text = letters(300, at)
        (tmp_path / "c.fa").write_text(f">c\n{text[:at]}{own}{text[at:]}\n")
        for stride, taken in ((None, found), (81, side_by_side)):
            rows = story.predict(story.strided(promoters, stride), [tmp_path / "c.fa"])
            near = [row for row in rows if row["strand"] == strand and abs(row["start"] - at) <= STRIDE]
            taken.append(max((row["p_promoter"] for row in near), default=0.0) > LARGE)
    assert all(found)
    assert sum(side_by_side) < len(side_by_side) / 2


def test_a_promoter_across_the_origin_of_a_circle_is_found(promoters, planted, tmp_path):
    text = letters(400, 3)
    for cut in (1, 40, 80):
        circle = planted[cut:] + text + planted[:cut]
        start = len(circle) - cut
        for header, is_found in ((">c [topology=circular]", True), (">c", False)):
            (tmp_path / "c.fa").write_text(f"{header}\n{circle}\n")
            rows = story.predict(promoters, [tmp_path / "c.fa"])
            near = [row for row in rows if row["strand"] == "+" and abs(row["start"] - start) <= STRIDE]
            if is_found:
                assert max(row["p_promoter"] for row in near) > LARGE
                assert max(row["end"] for row in rows) > len(circle)
            else:
                assert max(row["end"] for row in rows) == len(circle)


def test_a_window_that_goes_around_a_circle_is_one_line_of_bed(promoters, tmp_path):
    (tmp_path / "c.fa").write_text(f">c [topology=circular]\n{letters(50)}\n")
    story.predict(story.strided(promoters, 20), [tmp_path / "c.fa"], tmp_path / "c.bed")
    assert [(i.start, i.end, i.strand) for i in read_bed(tmp_path / "c.bed")] == [(0, 50, "+"), (0, 50, "-")] * 3


@pytest.mark.parametrize("ending", [".bedgraph", ".bw"])
@pytest.mark.parametrize("header", [">c", ">c [topology=circular]"])
def test_files_hold_what_the_table_says(promoters, planted, tmp_path, header, ending):
    pytest.importorskip("pyBigWig")
    fasta, n = tmp_path / "c.fa", 403
    fasta.write_text(f"{header}\n{planted[30:]}{letters(n - 81)}{planted[:30]}\n>d\n{letters(90, 1)}\n")
    rows = story.predict(promoters, [fasta])
    told = story.predict(promoters, [fasta], tmp_path / f"out{ending}")
    assert [row["track"] for row in told] == ["no promoter+", "promoter+", "no promoter-", "promoter-"]
    for strand in "+-":
        track = Track(tmp_path / f"out.promoter{strand}{ending}")
        for name, length in (("c", n), ("d", 90)):
            values = track.values(name, 0, length)
            assert not np.isnan(values).any()
            for row in rows:
                if (row["chrom"], row["strand"]) == (name, strand):
                    assert values[(row["start"] + 40) % length] == pytest.approx(row["p_promoter"], abs=EXACT)
    story.predict(promoters, [fasta], tmp_path / "out.bed")
    lines = read_bed(tmp_path / "out.bed")
    assert max(line.end for line in lines if line.chrom == "c") == n
    n_across = sum(row["end"] > n for row in rows)
    assert (n_across > 0) == ("circular" in header)
    assert len(lines) == len(rows) + n_across
