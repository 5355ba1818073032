"""The public genome sets are what their authors said, on the right bases; replichores are where the forks run."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
from isometry_data.bases import ascii_of, reverse_complement, text_of
from isometry_data.catalogue import datasets, locate
from isometry_data.genome_downloads import PROMOTER_FILES
from isometry_data.genome_entries import GENOME_SETS
from isometry_data.genome_sets import (
    PROMOTER_SETS,
    brca1,
    cagi5,
    crispri_pairs,
    ecoli_genes,
    ecoli_genomes,
    origins,
    promoters,
    yeast_features,
    yeast_genome,
    yeast_timing,
)
from isometry_data.genomes import open_genome
from isometry_data.homology import sequences_of, shared_share, shared_windows
from isometry_data.intervals import check_intervals
from isometry_data.replichores import DIF, replichores

FOLDER = os.environ.get("ISOMETRY_DATA", "")
needs_data = pytest.mark.skipif(not (Path(FOLDER) / "genome").is_dir(), reason="ISOMETRY_DATA has no genome")
ORIGIN_TO_SKEW = 1000  # bases between the annotated oriC of K-12 and the minimum of its summed GC skew
CDS_IN_FRAME = 0.99  # of the genes; the others are hulls of several stretches
AUROC = 0.001  # of the published sums


def test_every_file_of_the_catalogue_has_size_checksum_and_debts():
    for entry in GENOME_SETS:
        assert datasets()[entry.name] is entry
        assert entry.licence
        assert "doi:" in entry.citation
        assert entry.address.startswith("https://")
        assert all(file.size and len(file.sha256 or "") == 64 for file in entry.files)


def test_a_file_that_is_nowhere_says_where_it_comes_from(tmp_path, monkeypatch):
    monkeypatch.setenv("ISOMETRY_DATA", str(tmp_path))
    monkeypatch.setenv("ISOMETRY_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"set ISOMETRY_DATA to a folder that has genome/brca1_sge\.csv\.gz"):
        locate("brca1", "variants")
    with pytest.raises(ValueError, match="no promoters 'human'; there are ecoli_s70, ath_nontata, mouse_tata"):
        promoters("human")


@needs_data
@pytest.mark.parametrize(
    ("dataset", "file"),
    [
        pytest.param("yeast", "genome", marks=pytest.mark.slow),
        pytest.param("ecoli", "genomes", marks=pytest.mark.slow),
        ("crispri_k562", "pairs"),
    ],
)
def test_what_is_fetched_must_have_the_prepared_contents(tmp_path, dataset, file):
    entry, prepared = datasets()[dataset].file(file), locate(dataset, file)
    entry.convert([prepared], tmp_path / prepared.name)
    if file == "pairs":
        assert text_file(tmp_path / prepared.name) == text_file(prepared)
        changed = gzip.compress(text_file(prepared).replace("chr1", "chr2", 1).encode())
    else:
        ours, theirs = open_genome(tmp_path / prepared.name), open_genome(prepared)
        assert ours.lengths == theirs.lengths
        changed = text_file(prepared).replace("ACGT", "ACGG", 1).encode()
    (tmp_path / "changed").write_bytes(changed)
    with pytest.raises(ValueError, match=r"changed: contents have sha256 .*: they changed"):
        entry.convert([tmp_path / "changed"], tmp_path / "made.gz")
    assert not (tmp_path / "made.gz").exists()


@needs_data
def test_published_promoters_become_the_prepared_table(tmp_path):
    entry, prepared = datasets()["promoters"].file(), locate("promoters")
    rows = [row.split(",") for row in text_file(prepared).split("\r\n")[1:-1]]
    for file, key in PROMOTER_FILES.items():
        sequences = [row[2] for row in rows if (row[0], int(row[1])) == key]
        records = [f"> one > of {k}\n{letters[:60]}\n{letters[60:]}\n" for k, letters in enumerate(sequences)]
        (tmp_path / file).write_text("".join(records))
    entry.convert([tmp_path / address.rsplit("/", 1)[1] for address in entry.sources], tmp_path / "made.csv.gz")
    assert text_file(tmp_path / "made.csv.gz") == text_file(prepared)


def text_file(path):
    return gzip.decompress(path.read_bytes()).decode()


def linked(tmp_path, monkeypatch, dataset, file, text):
    """Another text in the place of one of the catalogue's files."""
    path = tmp_path / datasets()[dataset].file(file).path.removesuffix(".gz")
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    monkeypatch.setattr("isometry_data.genome_sets.locate", lambda *_: path)


def test_promoters_that_stand_twice_are_kept_once_and_contradictions_refused(tmp_path, monkeypatch):
    rows = "set,label,seq\necoli_s70,1,ACGT\necoli_s70,0,CCGT\necoli_s70,1,acgt\nmouse_tata,0,ACGT\n"
    linked(tmp_path, monkeypatch, "promoters", None, rows)
    found = promoters("ecoli_s70")
    assert (found.sequences, found.labels.tolist(), found.n_duplicates) == (("ACGT", "CCGT"), [1, 0], 1)
    linked(tmp_path, monkeypatch, "promoters", None, rows + "ecoli_s70,0,ACGT\n")
    with pytest.raises(ValueError, match=r"line 6: ACGT\.\.\. is a promoter and none; remove one"):
        promoters("ecoli_s70")
    linked(tmp_path, monkeypatch, "promoters", None, rows + "ecoli_s70,0,AC-T\n")
    with pytest.raises(ValueError, match=r"line 6: '0', 'AC-T': expected 0 or 1 and letters of DNA"):
        promoters("ecoli_s70")
    linked(tmp_path, monkeypatch, "promoters", None, "set,label\na,1\n")
    with pytest.raises(ValueError, match=r"line 1: no column 'seq'"):
        promoters("ecoli_s70")


@needs_data
@pytest.mark.parametrize("entry", GENOME_SETS, ids=lambda entry: entry.name)
def test_the_files_at_hand_are_the_catalogues(entry):
    assert all(locate(entry.name, file.name).is_file() for file in entry.files)


@needs_data
def test_yeast_is_complete_and_most_genes_begin_with_atg():
    genome, features = yeast_genome(), yeast_features()
    assert (len(genome.names), sum(genome.lengths.values())) == (16, 12_071_326)
    check_intervals([feature.interval for feature in features], genome)
    genes = [feature.interval for feature in features if feature.kind == "gene"]
    starts = [genome.fetch(g.chrom, g.start, g.end, is_minus=g.strand == "-")[:3] for g in genes]
    assert (len(genes), sum(text_of(start) == "ATG" for start in starts)) == (6406, 5999)


@needs_data
def test_timing_lies_on_the_chromosomes_and_what_was_not_measured_is_nan():
    timing, lengths = yeast_timing(), yeast_genome().lengths
    assert {chrom: len(rows) for chrom, rows in timing.values.items()} == {c: -(-n // 1000) for c, n in lengths.items()}
    assert timing.columns[0] == "sort_W303_S"
    rows = np.concatenate(list(timing.values.values()))
    assert np.isfinite(rows).any(1).sum() == 11_371
    column = dict(zip(timing.columns, np.isnan(rows).sum(0), strict=True))
    assert column["Trep"] == len(rows) - (11_371 - 1400)
    first = timing.values["chrI"][0]
    np.testing.assert_allclose(first[[0, -2]], [1.083, 59.8], rtol=1e-6)


@needs_data
def test_origins_lie_on_the_chromosomes():
    check_intervals(origins(), yeast_genome())
    assert len(origins()) == 410


@needs_data
def test_ecoli_genes_are_in_frame_and_begin_with_a_start_codon():
    genome, genes = ecoli_genomes(), ecoli_genes()
    assert list(genome.lengths.values()) == [4_641_652, 5_132_068, 5_202_090]
    check_intervals([gene.interval for gene in genes], genome)
    assert len(genes) == 13_863
    assert sum(len(gene.interval) % 3 == 0 for gene in genes) > CDS_IN_FRAME * len(genes)
    thr_a = next(gene for gene in genes if gene.name == "thrA").interval
    letters = text_of(genome.fetch(thr_a.chrom, thr_a.start, thr_a.end))
    assert (thr_a.start, letters[:3], letters[-3:]) == (336, "ATG", "TGA")
    with pytest.raises(ValueError, match="no features of the kinds exon"):
        ecoli_genes(("exon",))


@needs_data
def test_replichores_of_k12_run_from_oric_to_dif():
    genome = ecoli_genomes()
    found = replichores(genome)
    (oric,) = (feature.interval for feature in ecoli_genes(("rep_origin",)))
    k12 = found["NC_000913.3"]
    assert abs(k12.origin - (oric.start + oric.end) // 2) < ORIGIN_TO_SKEW
    for name, halves in found.items():
        assert "terminus at dif" in halves.source
        near = text_of(genome.fetch(name, halves.terminus - 14, halves.terminus + 14))
        assert DIF in (near, text_of(reverse_complement(ascii_of(near))))


@needs_data
@pytest.mark.parametrize("name", PROMOTER_SETS)
def test_promoters_are_the_published_ones_without_duplicates(name):
    found = promoters(name)
    n_all = {"ecoli_s70": 3839, "ath_nontata": 17_364, "mouse_tata": 4785}[name]
    length = {"ecoli_s70": 81}.get(name, 251)
    assert len(found.sequences) + found.n_duplicates == n_all
    assert found.n_duplicates <= 7
    assert {len(sequence) for sequence in found.sequences} == {length}
    assert len(found.labels) == len(set(found.sequences))


@needs_data
def test_every_reference_allele_of_brca1_is_in_its_region():
    found = brca1()
    assert (len(found.variants), len(found.sequence)) == (3893, 81_189)
    assert all(found.sequence[v.position] == v.reference for v in found.variants)
    first = found.variants[0]
    assert (found.chrom, found.offset + first.position + 1, first.reference) == ("chr17", 43_124_118, "T")
    is_loss = np.array(found.classes["func_class"]) == "LOF"
    assert is_loss.sum() == 823
    for name, published in (("CADD", 0.804), ("phyloP", 0.781)):
        assert abs(auroc(found.scores[name], is_loss) - published) < AUROC


def auroc(scores, labels):
    """Mann and Whitney's statistic, ties counted half."""
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[place]
    n = labels.sum()
    return (ranks[labels].sum() - n * (n + 1) / 2) / (n * (len(labels) - n))


@needs_data
def test_every_reference_allele_of_cagi5_is_in_its_element():
    found = cagi5()
    assert [one.name for one in found] == ["F9", "GP1BB", "HBB", "HBG1", "HNF4A", "IRF4", "LDLR"]
    assert sum(len(one.variants) for one in found) == 1653
    for one in found:
        assert all(one.sequence[v.position].upper() == v.reference for v in one.variants)
        assert set(one.classes["cls"]) <= {"-1", "0", "1"}
    assert found[0].offset + found[0].variants[0].position + 1 == 138_612_669


@needs_data
def test_enhancer_pairs_are_those_published():
    found = crispri_pairs()
    assert (len(found), sum(pair.is_regulated for pair in found)) == (10_356, 471)
    distance = np.array([pair.distance for pair in found])
    assert np.isfinite(distance).all()
    assert all(np.isfinite(list(pair.signals.values())).all() for pair in found)


@needs_data
@pytest.mark.slow
def test_ecoli_strains_are_near_copies_and_yeast_chromosomes_are_not():
    genome = ecoli_genomes()
    ecoli = sequences_of(genome)
    held_out = {name: ecoli.pop(name) for name in genome.names[-1:]}
    assert shared_share(shared_windows(ecoli, held_out), held_out) > 0.85
    yeast = sequences_of(yeast_genome())
    assert shared_windows(yeast, held_out) == []
    fold = {name: yeast.pop(name) for name in ("chrI", "chrV", "chrIX", "chrXIII")}
    found = shared_windows(yeast, fold)
    assert 0.05 < shared_share(found, fold) < 0.15  # transposons, telomeres, doubled genes
    assert (found[0].test, found[0].start) == ("chrI", 0)  # a telomere


# A circle whose forks are known


def circle(rng, length, origin, terminus):
    """G is commoner than C where the fork runs along the plus strand."""
    at = np.arange(length)
    runs_up = (at - origin) % length < (terminus - origin) % length
    up, down = (rng.choice(list(b"ACGT"), length, p=p) for p in ((0.25, 0.22, 0.28, 0.25), (0.25, 0.28, 0.22, 0.25)))
    return np.where(runs_up, up, down).astype(np.uint8), runs_up


@pytest.mark.parametrize(("origin", "terminus"), [(70_000, 20_000), (20_000, 70_000), (99_000, 50_000)])
def test_planted_replichores_are_found_and_the_other_strand_has_the_other_label(tmp_path, origin, terminus):
    rng = np.random.default_rng(origin)
    letters, runs_up = circle(rng, 100_000, origin, terminus)
    (tmp_path / "c.fa").write_bytes(b">c\n" + letters.tobytes() + b"\n>minus\n" + reverse_complement(letters).tobytes())
    found = replichores(open_genome(tmp_path / "c.fa"))
    assert found["c"].source == "origin at the minimum of the summed GC skew, terminus at its maximum"
    is_leading = found["c"].plus_is_leading(np.arange(100_000))
    assert (is_leading == runs_up).mean() > 0.97
    on_minus = found["minus"].plus_is_leading(np.arange(100_000))[::-1]
    assert (on_minus != is_leading).mean() > 0.97
    given = replichores(open_genome(tmp_path / "c.fa"), origins={"c": origin})["c"]
    assert (given.origin, given.source.split(",")[0]) == (origin, "origin as given")
    assert given.distance(origin) == 0
    assert given.distance((origin - 5) % 100_000) == 5
    assert given.plus_is_leading(origin) == 1
    assert given.plus_is_leading((origin - 1) % 100_000) == 0


def test_a_single_dif_is_the_terminus_on_either_strand(tmp_path):
    letters, _ = circle(np.random.default_rng(0), 100_000, 20_000, 70_000)
    for site in (ascii_of(DIF), reverse_complement(ascii_of(DIF))):
        letters[65_000 : 65_000 + len(DIF)] = site
        (tmp_path / "c.fa").write_bytes(b">c\n" + letters.tobytes())
        assert replichores(open_genome(tmp_path / "c.fa"))["c"].terminus == 65_014
    letters[66_000 : 66_000 + len(DIF)] = ascii_of(DIF)  # two: neither
    (tmp_path / "c.fa").write_bytes(b">c\n" + letters.tobytes())
    assert "maximum" in replichores(open_genome(tmp_path / "c.fa"))["c"].source


def test_a_sequence_without_skew_has_no_replichores(tmp_path):
    (tmp_path / "c.fa").write_text(">c\n" + "AT" * 500 + "\n")
    with pytest.raises(ValueError, match=r"c\.fa: c: origin 1, terminus 1 of 1000: no replichores"):
        replichores(open_genome(tmp_path / "c.fa"))
