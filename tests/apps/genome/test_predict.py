"""Files in, tables and tracks out: what is told of which base, and what is refused with one clear line."""

import contextlib
import io
import json
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from isometry.app import load_app
from isometry.cli import main
from isometry.story import load, predict
from isometry_data.annotations import read_features
from isometry_data.genomes import open_genome
from isometry_data.intervals import read_bed
from isometry_data.tracks import Track
from isometry_genome import gene_calls, genes
from isometry_genome.formats import write_runs, write_signals
from isometry_genome.runs import runs
from isometry_genome.scan import SHARE
from isometry_genome.windows import Stretch

APP = load_app("genome")
TINY = APP.presets["tiny"]
SINGLE = 1e-5  # what float32 loses
NAMES = ("one", "two")


def letters(n, seed):
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), n))


@pytest.fixture
def genome(tmp_path):
    path = tmp_path / "genome.fa"
    path.write_text("".join(f">s{i}\n{letters(300 + 100 * i, i)}\n" for i in range(3)))
    return path


def bed(tmp_path, text, name="windows.bed"):
    path = tmp_path / name
    path.write_text(text)
    return path


def asked(heads, segments=genes.IN_PIECES, **data):
    numbers = {
        "n_classes": 2,
        "n_tracks": 2,
        "n_segments": len(segments),
        "width": 16,
        "stem": 8,
        "n_heads": 2,
        "n_layers": 1,
    }
    return TINY.changed(
        model={"heads": heads, "bin": 16, "resolution": 16, "trunk": "none", **numbers},
        data={
            "source": "files", "length": 64, "class_names": ("off", "on"), "track_names": NAMES,
            "segment_names": segments, **data,
        },
    )  # fmt: skip


def said(settings, files, out=None):
    torch.manual_seed(0)
    model = APP.model(settings)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return APP.predict(model, settings, APP.read(settings, files), out)


def test_first_head_decides_what_the_table_tells(genome):
    windows = said(asked(("classes", "profile"), stride=64), [genome])
    assert [row["start"] for row in windows if row["chrom"] == "s0"][::2] == [0, 64, 128, 192, 236]
    assert {"p_on", "p_off", "mean_one", "mean_two"} <= set(windows[0])
    bins = said(asked(("profile", "classes")), [genome])
    assert [(row["start"], row["end"]) for row in bins if row["chrom"] == "s0"][-2:] == [(272, 288), (288, 300)]
    assert sum(row["end"] - row["start"] for row in bins) == 300 + 400 + 500


def test_runs_of_segments_cover_each_base_once(genome):
    rows = said(asked(("segments",)), [genome])
    for number, (name, n) in enumerate({"s0": 300, "s1": 400, "s2": 500}.items(), start=1):
        own = [row for row in rows if row["chrom"] == name]
        assert [own[0]["start"], own[-1]["end"]] == [0, n]
        assert all(a["end"] == b["start"] and a["kind"] != b["kind"] for a, b in pairwise(own))
        assert {row["record"] for row in own} == {number}


def test_an_interval_is_told_as_it_is_within_its_sequence(genome, tmp_path):
    """A network without a trunk, whose reach the margins hold, says the same of an interval and of the whole."""
    settings = asked(("profile",), length=512)
    whole = said(settings, [genome])
    part = said(settings, [genome, bed(tmp_path, "s2\t160\t320\n")])
    expected = [row for row in whole if row["chrom"] == "s2" and 160 <= row["start"] < 320]
    assert [row["start"] for row in part] == [row["start"] for row in expected]
    for own, other in zip(part, expected, strict=True):
        assert own["one"] == pytest.approx(other["one"], abs=SINGLE)


@pytest.mark.parametrize("ending", [".bedgraph", ".bw"])
def test_tracks_hold_what_the_table_says(genome, tmp_path, ending):
    pytest.importorskip("pyBigWig")
    settings = asked(("profile",))
    rows, out = said(settings, [genome]), tmp_path / f"out{ending}"
    told = said(settings, [genome], out)
    assert [row["file"] for row in told] == [str(tmp_path / f"out.{name}{ending}") for name in NAMES]
    for name in NAMES:
        track = Track(tmp_path / f"out.{name}{ending}")
        for row in rows:
            found = track.values(row["chrom"], row["start"], row["end"])
            np.testing.assert_allclose(found, row[name], rtol=SINGLE)


@pytest.mark.parametrize("strand", "+-")
def test_bins_of_unknown_bases_alone_have_no_value(tmp_path, strand):
    fasta, intervals = tmp_path / "gap.fa", bed(tmp_path, f"s0\t0\t320\ta\t0\t{strand}\n")
    fasta.write_text(f">s0\n{letters(100, 0)}{'N' * 100}{letters(125, 1)}\n")
    rows = said(asked(("profile",)), [fasta, intervals])
    assert [row["start"] for row in rows if row["one"] is None] == [112, 128, 144, 160, 176]
    assert 0 < max(row["unknown"] for row in rows if row["one"] is None) <= 1
    (row,) = said(asked(("classes",), length=400), [fasta, intervals])
    assert row["unknown"] == pytest.approx((100 + 400 - 325) / 400)  # the gap, and what lies beyond the ends
    said(asked(("profile",)), [fasta], tmp_path / "gap.bedgraph")
    found = Track(tmp_path / "gap.one.bedgraph").values("s0", 0, 325)
    assert np.flatnonzero(np.isnan(found)).tolist() == list(range(112, 192))


def test_a_folder_nobody_may_write_to_is_told_first(genome, tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(PermissionError, match=r"out.bedgraph: not written .*; choose a folder you may write to"):
        said(asked(("profile",)), [genome], tmp_path / "out.bedgraph")


def test_a_single_track_has_the_name_that_was_asked_for(tmp_path):
    parts = [Stretch(1, "c", 0, 10, np.array([[1.0], [2.0], [4.0]]), None)]
    write_signals(tmp_path / "a.bedgraph", parts, ("signal",), 4, {"c": 10})
    assert (tmp_path / "a.bedgraph").read_text() == "c\t0\t4\t1\nc\t4\t8\t2\nc\t8\t10\t4\n"
    assert [file.name for file in tmp_path.iterdir()] == ["a.bedgraph"]


def test_a_failed_prediction_leaves_nothing_behind(tmp_path):
    def parts():
        yield Stretch(1, "c", 0, 8, np.array([[1.0], [2.0]]), None)
        raise ValueError("letter '?' at position 3")

    with pytest.raises(ValueError, match="letter"):
        write_signals(tmp_path / "a.bedgraph", parts(), ("signal",), 4, {"c": 10})
    assert not list(tmp_path.iterdir())


def segments(kinds):
    return np.eye(3)[kinds] * 0.93 + 0.01


def test_pieces_of_genes_are_runs_on_their_strand_across_stretches(tmp_path):
    first, second = [0, 0, 1, 1, 1], [1, 1, 0, 2, 2, 2, 2]
    parts = [Stretch(1, "c", 0, 5, None, segments(first)), Stretch(1, "c", 5, 12, None, segments(second))]
    told = write_runs(tmp_path / "genes.bed", parts, genes.IN_PIECES, {"c": 12})
    found = [(i.start, i.end, i.strand, i.name) for i in read_bed(tmp_path / "genes.bed")]
    assert found == [(2, 7, "+", "gene"), (8, 12, "-", "gene")]
    assert told == [{"record": 1, "chrom": "c", "written": 2}]


def test_runs_of_different_places_stay_apart():
    parts = [Stretch(n, "c", 5 * n, 5 * n + 5, None, segments([1] * 5)) for n in (1, 2)]
    assert [(run.start, run.end, run.record) for run in runs(parts)] == [(5, 10, 1), (10, 15, 2)]
    parts = [part._replace(record=1) for part in parts]
    (run,) = runs(parts)
    assert (run.start, run.end) == (5, 15)
    assert run.probability == pytest.approx(0.94)


def test_genes_in_one_piece_are_called(genome, tmp_path, monkeypatch):
    monkeypatch.setattr(gene_calls, "called_along", partial(gene_calls.called_along, rule=gene_calls.Rule(least=-1e4)))
    settings = asked(("segments",), genes.CLASSES, length=96)
    rows = said(settings, [genome])
    assert len(rows) > 3
    held = open_genome(genome)
    for row in rows:
        own = held.fetch(row["chrom"], row["start"], row["end"], is_minus=row["strand"] == "-").tobytes()
        assert own[:3] in genes.STARTS
        assert own[-3:] in genes.STOPS
    told = said(settings, [genome], tmp_path / "genes.bed")
    assert [(i.chrom, i.start, i.end, i.strand) for i in read_bed(tmp_path / "genes.bed")] == [
        (row["chrom"], row["start"], row["end"], row["strand"]) for row in rows
    ]
    assert sum(row["written"] for row in told) == len(rows)
    said(settings, [genome], tmp_path / "genes.gff3")
    assert len(read_features(tmp_path / "genes.gff3")) == len(rows)


def test_verdicts_as_bed(genome, tmp_path):
    intervals = bed(tmp_path, "s0\t0\t64\ta\t0\t+\ns1\t64\t128\tb\t0\t-\n")
    rows = said(asked(("classes",)), [genome, intervals], tmp_path / "out.bed")
    found = read_bed(tmp_path / "out.bed")
    assert [(i.chrom, i.start, i.end, i.strand, i.name) for i in found] == [
        (row["chrom"], row["start"], row["end"], row["strand"], row["class"]) for row in rows
    ]
    assert found[0].score == round(1000 * max(rows[0]["p_on"], rows[0]["p_off"]))


@pytest.mark.parametrize(
    ("head", "text", "is_vain"), [("classes", None, False), ("classes", "s0\t0\t64\n", True), ("profile", None, True)]
)
def test_a_stride_that_changes_nothing_is_told(genome, tmp_path, caplog, head, text, is_vain):
    files = [genome, *([bed(tmp_path, text)] if text else [])]
    said(asked((head,), stride=32), files)
    assert ("a stride of 32 changes nothing here" in caplog.text) == is_vain


def test_windows_that_nobody_asked_for_end_with_their_sequence(genome, tmp_path):
    told = said(asked(("classes",)), [genome], tmp_path / "verdicts.bed")
    found = read_bed(tmp_path / "verdicts.bed")
    assert {interval.chrom: interval.end for interval in found} == open_genome(genome).lengths
    assert sum(row["windows"] for row in told) == len(found)


def test_windows_of_n_alone_are_counted_and_have_no_line_in_bed(tmp_path):
    (tmp_path / "g.fa").write_text(f">s\n{'ACGT' * 64}{'N' * 256}\n>n\n{'N' * 300}\n")
    told = said(asked(("classes",)), [tmp_path / "g.fa"], tmp_path / "verdicts.bed")
    found = read_bed(tmp_path / "verdicts.bed")
    assert {interval.chrom for interval in found} == {"s"}
    assert max(interval.start for interval in found) < 256
    n_counted = sum(row["windows"] for row in told if row["class"] != "(N alone)")
    assert n_counted == len(found)
    assert sum(row["windows"] for row in told if row["chrom"] == "n") > 0


def test_outputs_of_a_window_on_the_minus_strand_are_told_along_the_sequence(genome, tmp_path):
    intervals = bed(tmp_path, "s0\t64\t128\ta\t0\t+\ns0\t64\t128\ta\t0\t-\n")
    settings = asked(("classes", "profile", "segments"))
    settings = settings.changed(model={"strands": "average", "swap_tracks": (1, 0), "swap_segments": (0, 2, 1)})
    plus, minus = said(settings, [genome, intervals])
    told = [name for name in plus if name.startswith(("mean_", "share_"))]
    assert len(told) == 5
    assert [plus[name] for name in told] == pytest.approx([minus[name] for name in told], rel=SINGLE)


# What is refused


@pytest.mark.parametrize(
    ("heads", "text", "out", "message"),
    [
        (("segments",), None, "out.bw", r"out.bw: this format needs a head profile or classes; this model has segm"),
        (
            ("classes",),
            "s0\t0\t64\n",
            "out.bw",
            r"out.bw: of classes, tracks are of whole sequences; leave the BED out",
        ),
        (("profile",), None, "out.bed", r"out.bed: this format needs a head segments or classes; this model has pro"),
        (
            ("segments",),
            None,
            "out.gff3",
            r"out.gff3: this format is for genes in one piece, which this model does not",
        ),
        (("classes",), None, "out.gff3", r"a head segments; this model has classes; choose .bed, .bedgraph or .csv$"),
        (("language",), None, None, r"needs a head classes; this model has language; `isometry variants`"),
        (("profile",), "1\t0\t64\n", None, r"windows.bed, line 1: no sequence '1' in .*genome.fa, which has s0, s1"),
        (("profile",), "s0\t0\t301\n", None, r"windows.bed, line 1: s0:0-301 ends 1 past the end of s0 \(300 bases"),
        (("profile",), "s0\t9\t3\n", None, r"windows.bed, line 1: start 9, end 3"),
        (("profile",), "s0\t0\t9\ns0\t8\t20\n", "o.bedgraph", r"windows.bed, line 2: s0:8-20 overlaps s0:0-9 \(.*1\)"),
    ],
)
def test_wrong_input_is_one_line(genome, tmp_path, heads, text, out, message):
    files = [genome] if text is None else [genome, bed(tmp_path, text)]
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError, match=message) as error:
        said(asked(heads), files, None if out is None else tmp_path / out)
    assert "\n" not in str(error.value)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.slow
def test_a_simulated_run_predicts_a_users_genome(tmp_path):
    run = tmp_path / "run"
    with contextlib.redirect_stdout(io.StringIO()) as told:
        assert main(["train", "genome", "--out", str(run), "--fit.epochs", "1", "--json"]) == 0
    assert json.loads(told.getvalue())["scores"]
    path = tmp_path / "long.fa"
    path.write_text(f">c\n{letters(20_000, 0)}\n")
    loaded = load(APP, run)
    rows = predict(loaded, [path], tmp_path / "rows.csv")
    assert (rows[0]["start"], rows[-1]["end"]) == (0, 20_000)
    assert np.diff([row["start"] for row in rows]).max() == rows[0]["end"] // SHARE
    assert [row["track"] for row in predict(loaded, [path], tmp_path / "t.bedgraph")] == list(
        loaded.settings.data.track_names
    )
