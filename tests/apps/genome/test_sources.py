"""Where windows come from: splits, folds, what is left out and counted, and what is refused with one clear line."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from isometry.app import load_app
from isometry_genome.folds import chromosome_folds, chromosome_split, fold_of, stretch_split, thirds
from isometry_genome.genes import CLASSES

APP = load_app("genome")
TINY = APP.presets["tiny"]
RNG = np.random.default_rng(0)
REAL = os.environ.get("ISOMETRY_DATA")
needs_data = pytest.mark.skipif(
    REAL is None or not (Path(REAL) / "genome").is_dir(), reason="ISOMETRY_DATA names no folder with genome sets"
)


def letters(n, seed):
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), n))


@pytest.fixture
def genome(tmp_path):
    """Six sequences of 400 to 900 bases."""
    path = tmp_path / "genome.fa"
    path.write_text("".join(f">s{i}\n{letters(400 + 100 * i, i)}\n" for i in range(6)))
    return path


@pytest.fixture
def bed(tmp_path):
    path = tmp_path / "windows.bed"
    rows = [f"s{i}\t{at}\t{at + 64}\t{'on' if at % 128 else 'off'}" for i in range(6) for at in range(0, 320, 64)]
    path.write_text("\n".join(rows) + "\n")
    return path


def of_files(heads=("classes",), **changes):
    model = {"heads": heads, "bin": 16, "resolution": 16}
    return TINY.changed(model=model, data={"source": "files", "n_train": None, **changes})


# Rules


def test_folds_are_stratified_and_know_no_order():
    sequences = [letters(30, seed) for seed in range(200)]
    labels = (np.arange(200) % 4 == 0).astype(int)
    folds = fold_of(sequences, labels)
    for label in (0, 1):
        counts = np.bincount(folds[labels == label], minlength=5)
        assert counts.max() - counts.min() <= 1
    order = RNG.permutation(200)
    np.testing.assert_array_equal(fold_of([sequences[i] for i in order], labels[order]), folds[order])


def test_every_sequence_is_tested_once_and_never_in_two_parts():
    sequences, labels = [letters(30, seed) for seed in range(100)], np.arange(100) % 2
    tested = np.zeros(100, dtype=int)
    for fold in range(5):
        parts = thirds(sequences, labels, fold)
        assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(100))
        tested[parts["test"]] += 1
    assert tested.tolist() == [1] * 100
    with pytest.raises(ValueError, match=r"data.fold is 5; expected 0 to 4"):
        thirds(sequences, labels, 5)


def test_chromosome_folds_hold_each_sequence_once_and_are_of_similar_size():
    lengths = {f"c{i}": 200 + 100 * i for i in range(16)}
    folds = chromosome_folds(lengths)
    assert sorted(name for fold in folds for name in fold) == sorted(lengths)
    sizes = [sum(lengths[name] for name in fold) for fold in folds]
    assert max(sizes) < 1.2 * min(sizes)


def test_whole_sequences_are_held_out():
    lengths = {f"c{i}": 100 + i for i in range(12)}
    split = chromosome_split(lengths)
    assert sorted(name for part in split.values() for name in part) == sorted(lengths)
    assert all(split.values())
    assert chromosome_split(lengths, ["c1"], ["c2"])["train"] == [f"c{i}" for i in range(12) if i not in (1, 2)]
    assert chromosome_split(lengths, ["c1"])["test"] == []


@pytest.mark.parametrize(
    ("valid", "test", "said"),
    [
        (["c9"], [], "names 'c9'; the genome has c0, c1"),
        (["c1"], ["c1"], "c1 would validate and test"),
        (["c0", "c1"], [], "c0, c1: nothing is left to train on; name other sequences"),
    ],
)
def test_a_split_that_cannot_be_is_refused(valid, test, said):
    with pytest.raises(ValueError, match=said):
        chromosome_split({"c0": 10, "c1": 20}, valid, test)


@pytest.mark.parametrize("n", [None, 10_000])
def test_stretches_of_one_sequence_lie_a_window_apart(n):
    middles, length = RNG.permutation(np.arange(0, 10_000, 37)), 100
    parts = stretch_split(middles, length, n)
    numbers = np.concatenate(list(parts.values()))
    assert len(set(numbers.tolist())) == len(numbers)
    ends = [(middles[own].min() - length / 2, middles[own].max() + length / 2) for own in parts.values()]
    apart = [ends[1][0] - ends[0][1], ends[2][0] - ends[1][1]] + ([n + ends[0][0] - ends[2][1]] if n else [])
    assert all(length <= gap < length + 100 for gap in apart)
    shares = [len(own) / len(middles) for own in parts.values()]
    np.testing.assert_allclose(shares, [0.8, 0.1, 0.1], atol=3 * length / 10_000)
    if n is None:
        assert {0, 9990} <= set(middles[numbers].tolist())  # the ends of a line are no cuts


# Simulated


def test_simulated_windows_differ_between_splits_and_seeds():
    data = APP.data(TINY)
    texts = [{bytes(part[i].codes.numpy()) for i in range(20)} for part in (data.train, data.valid, data.test)]
    assert not texts[0] & texts[1] | texts[1] & texts[2]
    other = APP.data(TINY.changed(seed=1))
    assert not texts[2] & {bytes(part[i].codes.numpy()) for part in (other.train, other.test) for i in range(20)}


def test_a_head_without_labels_is_refused():
    with pytest.raises(ValueError, match="the source simulated have no labels for the head segments"):
        APP.data(TINY.changed(model={"heads": ("segments",)}))
    with pytest.raises(ValueError, match=r"data.length is 5000; simulated windows have the length"):
        APP.data(TINY.changed(data={"length": 5000}))


# Files


def test_intervals_become_windows_with_classes(genome, bed):
    settings = of_files(genome=genome, intervals=bed)
    data = APP.data(settings)
    parts = (data.train, data.valid, data.test)
    held = [{place.chrom for place in part.places} for part in parts]
    assert not held[0] & held[1] | held[0] & held[2] | held[1] & held[2]
    assert sum(len(part) for part in parts) == 30
    assert any("30 windows, 30 used" in note for note in data.notes)
    learnt = APP.learn(settings, data)
    assert learnt.data.class_names == ("off", "on")
    assert learnt.data.length == 64
    assert APP.learn(learnt, data) == learnt
    assert sorted(data.checksums) == ["genome.fa", "windows.bed"]


def test_what_is_left_out_is_counted(tmp_path, bed, genome):
    text = bed.read_text()
    bed.write_text(text + "s0\t0\t64\toff\ns1\t5\t69\t.\n")
    genome.write_text(genome.read_text().replace(">s2\n", ">s2\n" + "N" * 60).replace(">s6", ">s6"))
    data = APP.data(of_files(genome=genome, intervals=bed))
    (note,) = [note for note in data.notes if "windows," in note and "used" in note]
    assert note.endswith(
        "32 windows, 29 used; 1 left out: more than 50% unknown; 1 left out: the same window again; "
        "1 left out: no class"
    )


@pytest.mark.parametrize("header", ["only", "only circular=true"])
def test_one_sequence_is_split_by_stretches(tmp_path, header):
    path, track = tmp_path / "one.fa", tmp_path / "signal.bedgraph"
    path.write_text(f">{header}\n{letters(20_000, 0)}\n")
    track.write_text("only\t0\t20000\t1\n")
    data = APP.data(of_files(("profile",), genome=path, tracks=(track,), length=128))
    parts = (data.train, data.valid, data.test)
    (note,) = [note for note in data.notes if note.startswith("stretches of only")]
    n_known = 156 + ("circular" in header)  # the last one goes on beyond the end
    assert note.endswith(f"{n_known - sum(map(len, parts))} windows left out between them")
    assert "0.0% of the held-out bases have a near copy" in data.notes[-1]
    starts = [[place.start for place in part.places] for part in parts]
    assert max(starts[0]) + 2 * 128 <= min(starts[1]) < max(starts[1]) + 2 * 128 <= min(starts[2])
    assert (min(starts[0]) == 0) == (header == "only")
    with pytest.raises(ValueError, match=r"5 windows of 4,096 bases on only alone make no three stretches"):
        APP.data(of_files(("profile",), genome=path, tracks=(track,), length=4096))


def test_copies_between_stretches_of_one_sequence_are_refused(tmp_path):
    path = tmp_path / "one.fa"
    path.write_text(f">only\n{5 * letters(4000, 0)}\n")
    with pytest.raises(
        ValueError, match=r"held-out bases have a near copy in training, .* first only:\d+-\d+:0-1000 in"
    ):
        APP.data(of_files(("language",), genome=path, length=128))


def test_what_is_unknown_is_counted_in_the_context(tmp_path, genome, bed):
    """An interval may be known where the window about it is not."""
    genome.write_text("".join(f">s{i}\n{'N' * 200}{letters(100, i)}{'N' * 200}\n" for i in range(6)))
    bed.write_text(
        "".join(f"s{i}\t220\t280\t{'on' if at else 'off'}\t0\t{'+-'[at]}\n" for i in range(6) for at in (0, 1))
    )
    assert any("12 used" in note for note in APP.data(of_files(genome=genome, intervals=bed, length=190)).notes)
    with pytest.raises(ValueError, match=r"12 windows, 0 used; 12 left out: more than 50% unknown; .* 224 bases"):
        APP.data(of_files(genome=genome, intervals=bed, length=224))


def test_near_copies_in_training_are_refused(tmp_path, bed):
    path, same = tmp_path / "copies.fa", letters(900, 0)
    path.write_text("".join(f">s{i}\n{same}\n" for i in range(6)))
    with pytest.raises(ValueError, match=r"100.0% of the held-out bases have a near copy in training"):
        APP.data(of_files(genome=path, intervals=bed))
    data = APP.data(of_files(genome=path, intervals=bed, most_shared=None))
    assert any("were not compared" in note for note in data.notes)


def test_classes_of_whole_sequences(tmp_path):
    fasta, table = tmp_path / "short.fa", tmp_path / "classes.csv"
    fasta.write_text("".join(f">p{i}\n{letters(50, i)}\n" for i in range(60)))
    table.write_text("name,class\n" + "".join(f"p{i},{'yes' if i % 3 else 'no'}\n" for i in range(60)))
    data = APP.data(of_files(genome=fasta, labels=table))
    assert [len(part) for part in (data.train, data.valid, data.test)] == [42, 6, 12]
    fasta.write_text(fasta.read_text() + f">p60\n{letters(50, 0).lower()}\n")
    table.write_text(table.read_text() + "p60,no\n")
    again = APP.data(of_files(genome=fasta, labels=table))
    assert any("61 windows, 60 used; 1 left out: the same sequence again" in note for note in again.notes)
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes().replace(b"\n", b"\r\n"))
    assert len(APP.data(of_files(genome=fasta, labels=table)).train) == len(again.train)
    table.write_text("name\tclass\np0\tyes\n")
    with pytest.raises(ValueError, match=r"line 1: columns name\tclass; expected name and class, separated by a comma"):
        APP.data(of_files(genome=fasta, labels=table))
    table.write_text("name,class\np0,yes\np0,no\n")
    with pytest.raises(ValueError, match=r"classes.csv, line 3: p0 has a class already"):
        APP.data(of_files(genome=fasta, labels=table))


def test_tracks_are_read_in_bins(tmp_path, genome):
    track = tmp_path / "signal.bedgraph"
    track.write_text("".join(f"s{i}\t{at}\t{at + 8}\t{at % 7}\n" for i in range(6) for at in range(0, 400, 8)))
    settings = of_files(("profile",), genome=genome, tracks=(track,), length=64)
    data = APP.data(settings)
    learnt = APP.learn(settings, data)
    assert learnt.data.track_names == ("signal",)
    assert learnt.model.n_tracks == 1
    place, window = data.train.places[0], data.train[0]
    assert float(window.profile[0, 0]) == pytest.approx((place.start % 7 + (place.start + 8) % 7) / 2)


def test_annotation_becomes_gene_structure(tmp_path, genome):
    gff = tmp_path / "genes.gff3"
    rows = [f"s{i}\tme\tCDS\t11\t130\t.\t{'+-'[i % 2]}\t0\tID=g{i}" for i in range(6)]
    gff.write_text("##gff-version 3\n" + "\n".join(rows) + "\n")
    data = APP.data(of_files(("segments",), genome=genome, annotation=gff, length=64))
    window = data.train[[p.start for p in data.train.places].index(0)]
    assert int(window.segments[9]) == 0
    assert CLASSES[int(window.segments[10])] in ("start+", "third-")
    with pytest.raises(ValueError, match="no feature of the kinds exon"):
        APP.data(of_files(("segments",), genome=genome, annotation=gff, length=64, kinds=("exon",)))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "the head classes learns from data.intervals .* not given; give it$"),
        ({"genome": None}, "data.genome names none"),
    ],
)
def test_files_that_are_missing_are_named(genome, changes, said):
    with pytest.raises(ValueError, match=said):
        APP.data(of_files(**{"genome": genome, **changes}))


def test_what_to_do_is_said(genome, bed):
    with pytest.raises(ValueError, match=r"data.tracks, which is not given; .* \(--model.heads classes\)"):
        APP.data(of_files(("classes", "profile"), genome=genome, intervals=bed))
    with pytest.raises(ValueError, match=r"windows of 50 bases \(data.length\) .* expected a multiple, such as 64"):
        APP.data(
            of_files(("profile",), genome=genome, length=50, tracks=(bigwig(bed.with_suffix(".bw"), {"s0": 400}),))
        )


def test_windows_that_are_all_left_out_are_told(genome):
    with pytest.raises(ValueError, match=r"6 windows, 0 used; 6 left out: more than 50% unknown; .* 16,384 bases"):
        APP.data(of_files(("language",), genome=genome))


def test_names_that_are_no_classes_are_told(genome, bed, caplog):
    settings = APP.learn(s := of_files(genome=genome, intervals=bed), APP.data(s))
    bed.write_text("s0\t0\t64\ton\ns1\t0\t64\tOn\n")
    assert [int(APP.read(settings, [genome, bed])[i].label) for i in range(2)] == [1, -1]
    assert "1 names are no classes of the model (off, on) and have no label, first: On in" in caplog.text
    caplog.clear()
    bed.write_text("s0\t0\t64\tgene1\ns1\t0\t64\tgene2\n")
    APP.read(settings, [genome, bed])
    assert not caplog.text


def test_files_to_predict_on(genome, bed):
    settings = APP.learn(s := of_files(genome=genome, intervals=bed), APP.data(s))
    windows = APP.read(settings, [genome, bed])
    assert len(windows) == 30
    assert sorted({int(windows[i].label) for i in range(30)}) == [0, 1]
    whole = APP.read(settings, [genome])
    assert len(whole) == sum(-(-(400 + 100 * i) // 64) for i in range(6))
    with pytest.raises(ValueError, match=r"genome.fa, .*genome.fa: 2 files of sequences; give one FASTA"):
        APP.read(settings, [genome, genome])
    with pytest.raises(ValueError, match=r"windows.bed: 0 files of sequences; give one FASTA"):
        APP.read(settings, [bed])
    with pytest.raises(ValueError, match=r"notes.txt: ending .txt; expected one of"):
        APP.read(settings, [genome, Path("notes.txt")])


def test_predictions_name_their_windows(genome, bed):
    settings = APP.learn(s := of_files(genome=genome, intervals=bed), APP.data(s))
    rows = APP.predict(APP.model(settings), settings, APP.read(settings, [genome, bed]), None)
    assert len(rows) == 30
    assert rows[1] | {"p_on": 0, "p_off": 0, "class": ""} == {
        "record": 2, "chrom": "s0", "start": 64, "end": 128, "strand": "+", "class": "", "p_off": 0, "p_on": 0,
        "unknown": 0.0,
    }  # fmt: skip
    assert all(row["p_on"] + row["p_off"] == pytest.approx(1, abs=1e-6) for row in rows)


def bigwig(path, lengths, value=1.5):
    library = pytest.importorskip("pyBigWig")
    out = library.open(str(path), "w")
    out.addHeader(list(lengths.items()))
    for chrom, length in lengths.items():
        out.addEntries([chrom], [0], ends=[length], values=[value])
    out.close()
    return path


def test_a_bigwig_is_unknown_beyond_the_ends_of_its_sequences(tmp_path, genome):
    track = bigwig(tmp_path / "signal.bw", {f"s{i}": 400 + 100 * i for i in range(6)})
    data = APP.data(of_files(("profile",), genome=genome, tracks=(track,), length=192, most_unknown=1.0))
    n_known = sum(
        int((~part[i].profile.isnan()).sum()) for part in (data.train, data.valid, data.test) for i in range(len(part))
    )
    assert n_known == sum(-(-(400 + 100 * i) // 16) for i in range(6))


@pytest.mark.parametrize(
    ("lengths", "said"),
    [
        ({"s0": 300}, r"signal.bw: s0 has 300 bases, but .*genome.fa has 400 bases of it; is it another assembly"),
        ({"chrs0": 400}, r"signal.bw: no sequence 'chrs0' in .*genome.fa.*; did you mean 's0'"),
    ],
)
def test_tracks_of_another_genome_are_refused(tmp_path, genome, lengths, said):
    with pytest.raises(ValueError, match=said):
        APP.data(of_files(("profile",), genome=genome, tracks=(bigwig(tmp_path / "signal.bw", lengths),), length=64))


def test_a_bedgraph_beyond_the_genome_is_refused(tmp_path, genome):
    track = tmp_path / "signal.bedgraph"
    track.write_text("s0\t380\t500\t1\n")
    with pytest.raises(ValueError, match=r"s0 goes on to 500, but .*genome.fa has 400 bases of it"):
        APP.data(of_files(("profile",), genome=genome, tracks=(track,), length=64))


def test_tracks_belong_to_a_model_by_their_names(tmp_path, genome):
    files = []
    for value, name in ((1, "one"), (2, "two"), (3, "three")):
        files.append(tmp_path / f"{name}.bedgraph")
        files[-1].write_text("".join(f"s{i}\t0\t400\t{value}\n" for i in range(6)))
    settings = of_files(("profile",), genome=genome, tracks=tuple(files[:2]), length=64)
    learnt = APP.learn(settings, APP.data(settings))
    assert APP.read(learnt, [genome, files[1], files[0]])[0].profile[0].tolist() == [1, 2]
    assert np.isnan(APP.read(learnt, [genome, files[1]])[0].profile[0].numpy()).tolist() == [True, False]
    assert APP.read(learnt, [genome, files[2], files[1]])[0].profile[0].tolist() == [3, 2]
    with pytest.raises(ValueError, match=r"1 tracks \(three\), but the model has 2: one, two"):
        APP.read(learnt, [genome, files[2]])
    again = tmp_path / "again" / "one.bedgraph"
    again.parent.mkdir()
    again.write_text(files[0].read_text())
    with pytest.raises(ValueError, match="another track is called one, too"):
        APP.data(of_files(("profile",), genome=genome, tracks=(files[0], again), length=64))


def test_tracks_that_swap_strands_do_so_in_windows_on_the_minus_strand(tmp_path, genome):
    files, bed = [tmp_path / f"{name}.bedgraph" for name in ("plus", "minus")], tmp_path / "minus.bed"
    for value, file in enumerate(files, start=1):
        file.write_text("".join(f"s{i}\t0\t400\t{value}\n" for i in range(6)))
    bed.write_text("".join(f"s{i}\t0\t64\twindow\t0\t-\n" for i in range(6)))
    settings = of_files(("profile",), genome=genome, tracks=tuple(files), intervals=bed)
    settings = settings.changed(model={"swap_tracks": (1, 0)})
    data = APP.data(settings)
    learnt = APP.learn(settings, data)
    assert learnt.model.swap_tracks == (1, 0)
    assert data.train[0].profile[0].tolist() == [2, 1]
    assert APP.read(learnt, [genome, bed, *files])[0].profile[0].tolist() == [2, 1]


def write_gff(path, rows):
    lines = [f"{chrom}\tme\tCDS\t{start}\t{end}\t.\t{strand}\t0\tID={i}" for i, (chrom, start, end, strand) in rows]
    path.write_text("##gff-version 3\n" + "\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([("chrs0", 11, 130, "+")], r"genes.gff3, line 2: no sequence 'chrs0' in .*; did you mean 's0'"),
        ([("s1", 11, 130, "+"), ("s0", 300, 410, "+")], r"genes.gff3, line 3: s0:299-410 ends 10 past the end of s0"),
    ],
)
def test_annotation_of_another_genome_is_refused(tmp_path, genome, rows, said):
    gff = write_gff(tmp_path / "genes.gff3", enumerate(rows))
    with pytest.raises(ValueError, match=said):
        APP.data(of_files(("segments",), genome=genome, annotation=gff, length=64))


def test_features_on_other_sequences_are_counted(tmp_path, genome):
    gff = write_gff(tmp_path / "genes.gff3", enumerate([("s0", 11, 130, "+"), ("plasmid", 11, 130, "+")]))
    data = APP.data(of_files(("segments",), genome=genome, annotation=gff, length=64))
    assert any("1 features left out: not on a sequence of the genome" in note for note in data.notes)


def test_annotation_of_windows_on_the_minus_strand_is_that_of_their_strand(tmp_path, genome):
    rows = [("s0", 4, 33, "+"), ("s1", 4, 33, "-")]
    files = [write_gff(tmp_path / f"{n}.gff3", [(n, row)]) for n, row in enumerate(rows)]
    bed = tmp_path / "minus.bed"
    bed.write_text("s0\t0\t64\tx\t0\t-\ns1\t0\t64\tx\t0\t-\n")
    settings = of_files(("segments",), genome=genome, annotation=files[0], length=64)
    learnt = APP.learn(settings, APP.data(settings))
    windows = APP.read(learnt, [genome, bed, *files])
    names = [{learnt.data.segment_names[c] for c in windows[i].segments.tolist()} for i in range(2)]
    assert all(name == "between" or name.endswith("-") for name in names[0])
    assert all(name == "between" or name.endswith("+") for name in names[1])
    assert all(len(own) > 1 for own in names)


def test_a_window_without_a_class_hides_none_that_has_one(tmp_path, bed, genome):
    bed.write_text("s0\t0\t64\n" + bed.read_text() + "s1\t64\t128\tanother\n")
    data = APP.data(of_files(genome=genome, intervals=bed))
    (note,) = [note for note in data.notes if "windows," in note and "used" in note]
    assert note.endswith(
        "32 windows, 30 used; 1 left out: no class; 1 left out: the same window again, of another class"
    )


def test_one_class_is_not_enough(tmp_path, bed, genome):
    bed.write_text("".join(f"s{i}\t0\t64\ton\n" for i in range(6)))
    with pytest.raises(ValueError, match=r"windows.bed: the windows have 1 classes \(on\); expected two or more"):
        APP.data(of_files(genome=genome, intervals=bed))


def test_rare_classes_are_sought_in_all_windows_and_absent_ones_are_told(tmp_path, caplog):
    fasta, gff = tmp_path / "g.fa", tmp_path / "genes.gff3"
    fasta.write_text("".join(f">s{i}\n{letters(64 * 100, i)}\n" for i in range(4)))
    (part,) = [i for i in range(4) if i not in (1, 2)][:1]
    rows = [f"s{part}\tme\tCDS\t{start}\t{start + 29}\t.\t+\t0\tID=g{start}" for start in (64 * 98 + 11,)]
    gff.write_text("##gff-version 3\n" + "\n".join(rows) + "\n")
    settings = of_files(("segments",), genome=fasta, annotation=gff, length=64, valid=("s1",), test=("s2",))
    settings = settings.changed(loss={"segment_balance": 1.0})
    data = APP.data(settings)
    weights = dict(zip(CLASSES, APP.learn(settings, data).loss.segment_weights, strict=True))
    counts = {"start+": 1, "first+": 9, "second+": 10, "third+": 10}
    assert all(weights[name] * n == pytest.approx(weights["start+"]) for name, n in counts.items())
    assert "is of class start-, first-, second-, third-; it cannot be learnt" in caplog.text


def test_a_gaussian_profile_starts_at_negative_means(tmp_path, genome):
    track = tmp_path / "signal.bedgraph"
    track.write_text(
        "".join(f"s{i}\t{at}\t{at + 16}\t{-3 - at % 32 / 16}\n" for i in range(6) for at in range(0, 400, 16))
    )
    settings = of_files(("profile",), genome=genome, tracks=(track,), length=64)
    learnt = APP.learn(s := settings.changed(model={"profile_loss": "gaussian"}), APP.data(s))
    assert learnt.model.track_means == pytest.approx((-3.5,), abs=0.05)
    assert APP.learn(settings, APP.data(settings)).model.track_means[0] > 0


# Public sets


@needs_data
def test_no_window_of_a_held_out_genome_is_trained_on():
    data = APP.data(APP.presets["replichore"])
    names = [{place.chrom for place in part.places} for part in (data.train, data.test)]
    assert not names[0] & names[1]
    assert len(names[1]) == 1
    both = [int(data.test[i].label) for i in (0, 1)]
    assert sorted(both) == [0, 1]  # the two strands of one place


@needs_data
@pytest.mark.parametrize("preset", ["replichore", "genes"])
def test_validation_shares_no_base_with_training(preset):
    data = APP.data(APP.presets[preset])
    reading = data.train.reading
    reach = reading.length + reading.shift
    for chrom in {place.chrom for place in data.train.places}:
        n = data.train.sequences.lengths[chrom]
        centres = [
            np.array([(p.start + p.end) // 2 for p in part.places if p.chrom == chrom])
            for part in (data.train, data.valid)
        ]
        apart = np.abs(centres[0][:, None] - centres[1][None])
        assert np.minimum(apart, n - apart).min() >= reach


@needs_data
def test_timing_is_held_out_by_whole_chromosomes():
    tested = []
    for fold in range(4):
        data = APP.data(APP.presets["timing"].changed(data={"fold": fold}))
        names = [{place.chrom for place in part.places} for part in (data.train, data.valid, data.test)]
        assert not names[0] & names[1] | names[0] & names[2] | names[1] & names[2]
        tested += sorted(names[2])
    assert len(tested) == len(set(tested)) == 16


@needs_data
def test_helping_tracks_swap_strands_and_only_timing_is_scored():
    settings = APP.presets["timing"]
    learnt = APP.learn(settings, APP.data(settings))
    names = learnt.data.track_names
    assert names[0] == "sort_W303_S"
    assert learnt.loss.n_targets == 1
    assert [names[i] for i in learnt.model.swap_tracks] == [
        {"gene+": "gene-", "gene-": "gene+"}.get(name, name) for name in names
    ]


@needs_data
@pytest.mark.parametrize("preset", ["replichore", "timing", "genes", "promoters", "language"])
def test_a_preset_makes_a_loss_from_its_data(preset):
    settings = APP.presets[preset]
    settings = settings.changed(data={"length": None if preset == "promoters" else 8192})
    data = APP.data(settings)
    settings = APP.learn(settings, data)
    loss = APP.objective(settings).loss(APP.model(settings), APP.collate([data.train[0], data.train[1]]))
    assert bool(torch.isfinite(loss.each).all())
