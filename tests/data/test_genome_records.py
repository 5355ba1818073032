"""Each format becomes 0-based half-open: intervals, features, variants, signals; each fault is one line."""

import gzip
import logging
import os
import pickle

import numpy as np
import pytest
from Bio import SeqIO
from Bio.Seq import Seq
from Bio.SeqFeature import CompoundLocation, SeqFeature, SimpleLocation
from Bio.SeqRecord import SeqRecord
from isometry_data.annotations import Feature, circles_of, read_features
from isometry_data.bases import text_of
from isometry_data.genomes import open_genome
from isometry_data.intervals import Binned, Interval, check_intervals, read_bed, write_bed, write_bedgraph
from isometry_data.tracks import Track, write_bigwig
from isometry_data.variants import Variant, check_references, read_vcf, write_vcf

SINGLE = 1e-6  # relative: bigWig stores single precision
LETTERS = "ACGTTGCAAACCGGTTNNRYACGT"


def written(tmp_path, text, name):
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


@pytest.fixture
def genome(tmp_path):
    return open_genome(written(tmp_path, f">chr1\n{LETTERS}\n>chr2\nAAAA\n", "g.fa"))


def refuses(read, path, message):
    with pytest.raises(ValueError, match=message) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)


# Files that cannot be written


@pytest.mark.parametrize("name", ["nowhere/out.bed", "folder"])
def test_what_cannot_be_written_is_told_by_its_own_name(tmp_path, name):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match=rf"{name}: not written \(.*\); choose a folder you may write to"):
        write_bed(tmp_path / name, [Interval("chr1", 0, 4)])
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


# BED


def test_bed_is_0_based_half_open_and_comes_back(tmp_path, genome):
    text = "track name=x\n# said\nchr1\t0\t4\tfirst\t1.5\t-\textra\r\n\nchr2\t1\t4\n"
    found = read_bed(written(tmp_path, text, "p.bed.gz"))
    assert [(str(i), i.strand, i.name, i.score, len(i)) for i in found] == [
        ("chr1:0-4", "-", "first", 1.5, 4),
        ("chr2:1-4", ".", "", None, 3),
    ]
    assert found[1].source.endswith("p.bed.gz, line 5")
    assert text_of(genome.fetch(found[0].chrom, found[0].start, found[0].end)) == LETTERS[:4]
    write_bed(tmp_path / "again.bed", found)
    again = read_bed(tmp_path / "again.bed")
    assert [(str(i), i.strand, i.name) for i in again] == [(str(i), i.strand, i.name) for i in found]
    assert (tmp_path / "again.bed").read_text() == "chr1\t0\t4\tfirst\t1.5\t-\nchr2\t1\t4\t.\t0\t.\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chr1\t5\n", r"p\.bed, line 1: 2 columns, expected BED"),
        ("chr1\t1\t2\nchr1\tx\t9\n", r"line 2: 'x', '9': expected start and end as whole numbers"),
        ("chr1\t5\t5\n", r"line 1: start 5, end 5: expected 0 <= start < end"),
        ("chr1\t-1\t5\n", r"line 1: start -1, end 5"),
        ("chr1\t1\t5\tn\t0\tforward\n", r"line 1: strand 'forward', expected one of \+ - \."),
        ("chr1\t1\t5\tn\thigh\t+\n", r"line 1: score 'high', expected a number or '\.'"),
        ("# only\n", r"no intervals, expected BED"),
        ("", r"the file is empty"),
    ],
)
def test_what_is_no_bed_is_one_line(tmp_path, text, message):
    refuses(read_bed, written(tmp_path, text, "p.bed"), message)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("chr1\t0\t4\n1\t0\t4\n", {}, r"p\.bed, line 2: no sequence '1' in .*g\.fa, .*did you mean 'chr1'\?"),
        ("chr1\t0\t4\nchr1\t20\t30\nchr2\t0\t9\n", {}, r"line 2: chr1:20-30 ends 6 past the end of chr1 \(24 bases"),
        ("chr2\t0\t9\nchr1\t0\t99\n", {}, r"\(2 of 2 intervals are wrong\)"),
        ("chr1\t5\t9\nchr1\t0\t4\n", {"is_sorted": True}, r"line 2: chr1:0-4 stands behind chr1:5-9; sort the file"),
        ("chr1\t0\t4\nchr2\t0\t2\nchr1\t5\t9\n", {"is_sorted": True}, r"line 3: chr1:5-9: chr1 comes a second time"),
        ("chr1\t5\t9\nchr1\t0\t6\n", {"is_disjoint": True}, r"line 1: chr1:5-9 overlaps chr1:0-6 \(.*line 2\)"),
        ("chr1\t0\t9\nchr1\t1\t2\nchr1\t3\t4\n", {"is_disjoint": True}, r"\(2 of 3 intervals are wrong\)"),
    ],
)
def test_intervals_that_do_not_lie_on_the_genome_are_one_line(tmp_path, genome, text, options, message):
    found = read_bed(written(tmp_path, text, "p.bed"))
    with pytest.raises(ValueError, match=message):
        check_intervals(found, genome, **options)


def test_intervals_that_touch_or_lie_on_two_sequences_are_good(tmp_path, genome):
    found = read_bed(written(tmp_path, "chr1\t0\t4\nchr1\t4\t24\nchr2\t0\t4\n", "p.bed"))
    check_intervals(found, genome, is_sorted=True, is_disjoint=True)
    check_intervals(found[::-1], {"chr1": 24, "chr2": 4}, is_disjoint=True)


# Features


GFF = """##gff-version 3
##sequence-region chr1 1 24
chr1\ts\tregion\t1\t24\t.\t+\t.\tID=chr1;Is_circular=true
chr1\ts\tgene\t1\t4\t.\t-\t.\tID=g1;Name=abc%3BD
chr1\ts\tCDS\t9\t12\t.\t+\t0\tID=c1;Parent=g1;gene=abc
chr1\ts\tCDS\t1\t4\t.\t+\t0\tID=c1;Parent=g1;gene=abc

# said
chr1\ts\tgene\t20\t30\t.\t+\t.\tlocus_tag=across
chr2\ts\texon\t2\t3\t.\t.\t.\t.
###
##FASTA
>chr1
ACGT
"""


def seen(features):
    return [(str(f.interval), f.interval.strand, f.kind, f.name, f.part, f.n_parts) for f in features]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_gff3_is_1_based_with_its_end_and_circles_run_across_the_origin(tmp_path, end):
    found = read_features(written(tmp_path, GFF.replace("\n", end), "a.gff3.gz"))
    assert seen(found) == [
        ("chr1:0-24", "+", "region", "chr1", 1, 1),
        ("chr1:0-4", "-", "gene", "abc;D", 1, 1),
        ("chr1:0-4", "+", "CDS", "abc", 1, 2),
        ("chr1:8-12", "+", "CDS", "abc", 2, 2),
        ("chr1:0-6", "+", "gene", "across", 1, 2),
        ("chr1:19-24", "+", "gene", "across", 2, 2),
        ("chr2:1-3", ".", "exon", "", 1, 1),
    ]
    assert found[1].interval.source.endswith("a.gff3.gz, line 4")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("##gff-version 2\n", r"a\.gff, line 1: '##gff-version 2', expected GFF3; convert it"),
        ("##gff-version 3\nchr1\ts\tgene\t1\t4\n", r"line 2: 5 columns, expected the 9 of GFF3"),
        ("##gff-version 3\nchr1\ts\tgene\t5\t4\t.\t+\t.\t.\n", r"line 2: start 5, end 4: expected 1 <= start <= end"),
        ("##gff-version 3\nchr1\ts\tgene\t0\t4\t.\t+\t.\t.\n", r"line 2: start 0, end 4"),
        ("##gff-version 3\nchr1\ts\tgene\tone\t4\t.\t+\t.\t.\n", r"line 2: 'one', '4': expected start and end"),
        ("##gff-version 3\nchr1\ts\tgene\t1\t4\t.\t*\t.\t.\n", r"line 2: strand '\*', expected"),
        (
            "##gff-version 3\nchr1\ts\tgene\t1\t4\t.\t+\t.\tID=a\nchr1\ts\tCDS\t1\t4\t.\t+\t.\tID=a\n",
            r"line 3: ID 'a' is a CDS here and a gene in .*line 2",
        ),
        (
            "##gff-version 3\nc\ts\tregion\t1\t9\t.\t+\t.\tIs_circular=true\nc\ts\tgene\t10\t12\t.\t+\t.\t.\n",
            r"line 3: c:9-12 does not fit a circle of 9 bases",
        ),
        (
            'chr1\ts\tCDS\t1\t9\t.\t+\t0\tgene_id "a";\n',
            r"line 1: attributes 'gene_id \"a\";', expected .* this is GTF",
        ),
        ("##gff-version 3\n# nothing\n", r"a\.gff: no features in it"),
        ("gene\tchr1\n", r"line 1: 'gene\\tchr1', expected GFF3, GenBank, or the columns chrom start0 end type"),
        ("chrom\tstart0\tend\ttype\tstrand\tname\nchr1\t4\t4\tCDS\t1\ta\n", r"line 2: start '4', end '4'"),
        ("chrom\tstart0\tend\ttype\tstrand\tname\nchr1\t0\t4\tCDS\n", r"line 2: 4 columns, expected 6"),
    ],
)
def test_what_are_no_features_is_one_line(tmp_path, text, message):
    refuses(read_features, written(tmp_path, text, "a.gff"), message)


def test_a_table_is_0_based_and_knows_both_kinds_of_strands(tmp_path):
    text = "chrom\tstart0\tend\ttype\tstrand\tname\nc\t0\t4\tCDS\t-1\tthrA\nc\t4\t9\ttRNA\t+\t.\n"
    assert seen(read_features(written(tmp_path, text, "f.tsv"))) == [
        ("c:0-4", "-", "CDS", "thrA", 1, 1),
        ("c:4-9", "+", "tRNA", "", 1, 1),
    ]


def test_genbank_parts_spell_what_biopython_extracts(tmp_path):
    rng = np.random.default_rng(0)
    record = SeqRecord(Seq("".join(rng.choice(list("ACGT"), 200))), id="p.1", name="p")
    record.annotations |= {"molecule_type": "DNA", "topology": "circular"}
    locations = {
        "plain": SimpleLocation(3, 12, 1),
        "minus": SimpleLocation(20, 50, -1),
        "exons": CompoundLocation([SimpleLocation(60, 70, 1), SimpleLocation(80, 95, 1)]),
        "minus exons": CompoundLocation([SimpleLocation(120, 130, -1), SimpleLocation(100, 110, -1)]),
        "across": CompoundLocation([SimpleLocation(190, 200, 1), SimpleLocation(0, 8, 1)]),
        "minus across": CompoundLocation([SimpleLocation(0, 8, -1), SimpleLocation(190, 200, -1)]),
    }
    record.features = [SeqFeature(place, "CDS", qualifiers={"gene": [name]}) for name, place in locations.items()]
    SeqIO.write([record], tmp_path / "p.gb", "genbank")
    found, genome = read_features(tmp_path / "p.gb"), open_genome(tmp_path / "p.gb")
    assert circles_of(tmp_path / "p.gb") == {"p.1"}
    assert genome.is_circle("p.1")
    for name, place in locations.items():
        parts = [f for f in found if f.name == name]
        assert [(f.part, f.n_parts) for f in parts] == [(k + 1, len(parts)) for k in range(len(parts))]
        assert [f.interval.start for f in parts] == sorted(int(part.start) for part in place.parts)
        assert {f.interval.strand for f in parts} == {"+" if place.strand == 1 else "-"}
        spelt = {
            text_of(genome.fetch("p.1", f.interval.start, f.interval.end, is_minus=f.interval.strand == "-"))
            for f in parts
        }
        assert spelt == {str(part.extract(record.seq)) for part in place.parts}
    assert len(found) == sum(len(place.parts) for place in locations.values())


def test_an_interval_across_the_origin_of_a_circle_ends_past_its_length(tmp_path):
    genome = open_genome(written(tmp_path, ">line\nACGTACGT\n>ring circular=true\nACGTACGT\n", "g.fa"))
    check_intervals([Interval("ring", 6, 10), Interval("ring", 7, 15)], genome)
    for wrong in (Interval("line", 6, 10), Interval("ring", 6, 15), Interval("ring", 8, 9)):
        with pytest.raises(ValueError, match="past the end"):
            check_intervals([wrong], genome)
    gff = "##gff-version 3\nring\tx\tCDS\t7\t9\t.\t+\t0\tID=a\n"
    path = written(tmp_path, gff, "g.gff3")
    assert circles_of(path) == set()
    parts = [(f.interval.start, f.interval.end, f.n_parts) for f in read_features(path, {"ring": 8})]
    assert parts == [(0, 1, 2), (6, 8, 2)]
    path.write_text(gff + "ring\tx\tregion\t1\t8\t.\t+\t.\tID=r;Is_circular=true\n")
    assert circles_of(path) == {"ring"}


def test_a_location_that_biopython_passes_over_is_one_line(tmp_path):
    text = (
        "LOCUS       X 12 bp    DNA     linear   UNK 01-JAN-1980\nFEATURES             Location/Qualifiers\n"
        "     CDS             xx..yy\nORIGIN\n        1 acgtacgtacgt\n//\n"
    )
    refuses(read_features, written(tmp_path, text, "x.gb"), r"line 1, feature 1 \(CDS\): its location cannot be read")


def test_a_feature_has_no_more_than_its_place_and_name():
    assert Feature(Interval("c", 0, 3), "CDS", "a").n_parts == 1


# Variants


VCF = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"


def test_vcf_is_1_based_and_each_alternative_is_a_variant(tmp_path, genome, caplog):
    lines = "chr1\t1\trs1\tA\tC,g\t.\t.\t.\nchr1\t4\t.\tTTG\tT\t.\t.\t.\nchr1\t2\t.\tC\tCAA,*,<DEL>,.,C\t.\t.\t.\n"
    lines += "chr1\t3\t.\tG\tG]chr2:4]\t.\t.\t.\n"
    skipped = []
    with caplog.at_level(logging.WARNING):
        found = read_vcf(written(tmp_path, (VCF + lines).replace("\n", "\r\n"), "v.vcf.gz"), skipped)
    assert [(str(v), v.position, v.end, v.name) for v in found] == [
        ("chr1:1 A>C", 0, 1, "rs1"),
        ("chr1:1 A>G", 0, 1, "rs1"),
        ("chr1:4 TTG>T", 3, 6, ""),
        ("chr1:2 C>CAA", 1, 2, ""),
    ]
    assert found[2].source.endswith("v.vcf.gz, line 4")
    assert [line.partition(", line ")[2] for line in skipped] == [
        "5: '*' (deleted by another variant)",
        "5: '<DEL>' (symbolic)",
        "5: '.' (no alternative)",
        "5: 'C' (the reference itself)",
        "6: 'G]chr2:4]' (breakend)",
    ]
    assert "5 alternatives left out" in caplog.text
    check_references(found, genome)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chr1\t1\t.\tA\tC\n", r"v\.vcf, line 1: expected VCF: a line '#CHROM POS ID REF ALT' above"),
        ("#CHROM POS ID REF ALT\n", r"line 1: columns #CHROM POS ID REF ALT, expected .*separated by tabs"),
        (VCF + "chr1\t1\t.\tA\n", r"line 3: 4 columns, expected at least 5"),
        (VCF + "chr1\t0\t.\tA\tC\n", r"line 3: position '0', expected a whole number from 1"),
        (VCF + "chr1\tx\t.\tA\tC\n", r"line 3: position 'x'"),
        (VCF + "chr1\t1\t.\t-\tC\n", r"line 3: reference allele '-', expected letters of DNA"),
        (VCF + "chr1\t1\t.\t\tC\n", r"line 3: reference allele '', expected letters"),
        (VCF + "chr1\t1\t.\tA\tC,-\n", r"line 3: alternative allele '-', expected letters"),
        (VCF, r"no variants, expected VCF"),
        (VCF + "chr1\t1\t.\tA\t<DEL>\n", r"no variants; left out: .*line 3: '<DEL>' \(symbolic\)"),
    ],
)
def test_what_is_no_vcf_is_one_line(tmp_path, text, message):
    refuses(read_vcf, written(tmp_path, text, "v.vcf"), message)


def test_what_a_vcf_said_stays_beside_what_is_added(tmp_path):
    pysam = pytest.importorskip("pysam")
    about = [
        "##contig=<ID=chr1,length=9>",
        '##FILTER=<ID=q10,Description="quality below 10">',
        *(
            f'##INFO=<ID={key},Number={n},Type=Integer,Description="{key}">'
            for key, n in zip("DARG", "1ARG", strict=True)
        ),
        '##INFO=<ID=SVTYPE,Number=1,Type=String,Description="kind">',
        '##INFO=<ID=effect,Number=1,Type=Float,Description="an older one">',
        '##FORMAT=<ID=GT,Number=1,Type=String,Description="genotype">',
    ]
    columns = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ts1"
    rows = [
        "chr1\t1\trs1\tA\tC,<DEL>,G\t9.5\tq10\tD=7;A=1,2,3;R=0,1,2,3;G=1,2,3,4,5,6;effect=5\tGT\t0/1",
        "chr1\t4\t.\tT\tG\t.\tPASS\tSVTYPE=X;A=4\tGT\t0/1",
        "chr1\t5\t.\tT\tG",
    ]
    path, header = written(tmp_path, "\n".join(["##fileformat=VCFv4.3", *about, columns, *rows, ""]), "in.vcf"), []
    variants = read_vcf(path, header=header)
    write_vcf(tmp_path / "out.vcf", [(variant, {"effect": 0.5}) for variant in variants], header=header)
    lines = (tmp_path / "out.vcf").read_text().splitlines()
    assert [line.split("\t")[5:] for line in lines if line[0] != "#"] == [
        ["9.5", "q10", "D=7;A=1;R=0,1;effect=0.5"],
        ["9.5", "q10", "D=7;A=3;R=0,3;effect=0.5"],
        [".", "PASS", "SVTYPE=X;A=4;effect=0.5"],
        [".", ".", "effect=0.5"],
    ]
    assert lines[0] == "##fileformat=VCFv4.2"
    assert lines[1:8] == about[:7]
    assert "older" not in "".join(lines)
    assert "FORMAT" not in "".join(lines)
    with pysam.VariantFile(str(tmp_path / "out.vcf")) as again:
        assert [record.info["effect"] for record in again] == [0.5] * 4
    assert [str(variant) for variant in read_vcf(tmp_path / "out.vcf")] == [str(variant) for variant in variants]


def test_pysam_reads_the_same_variants(tmp_path):
    pysam = pytest.importorskip("pysam")
    rng = np.random.default_rng(3)
    rows = []
    for position in np.sort(rng.choice(np.arange(1, 10_000), 200, replace=False)):
        alleles = ["".join(rng.choice(list("ACGT"), rng.integers(1, 4))) for _ in range(rng.integers(2, 4))]
        rows.append(f"chr1\t{position}\t.\t{alleles[0]}\t{','.join(alleles[1:])}\t.\t.\t.\n")
    head = "##fileformat=VCFv4.2\n##contig=<ID=chr1,length=10000>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    path = written(tmp_path, head + "".join(rows), "v.vcf")
    with pysam.VariantFile(str(path)) as file:
        theirs = {(v.chrom, v.start, v.stop, v.ref, alt) for v in file for alt in v.alts or () if alt != v.ref}
    assert {(v.chrom, v.position, v.end, v.reference, v.alternative) for v in read_vcf(path)} == theirs


def test_reference_alleles_agree_in_any_case_and_with_ambiguous_letters(genome):
    check_references(
        [Variant("chr1", 0, "a", "C"), Variant("chr1", 15, "TNGA", "C"), Variant("chr2", 3, "A", "T")], genome
    )
    with pytest.raises(ValueError, match=r"'C', but .* has 'R' there"):
        check_references([Variant("chr1", 18, "C", "T")], genome)


def many(shift=0, spell=lambda letter: letter, swaps=False):
    for at in range(2, 15):
        reference = spell(LETTERS[at])
        other = "A" if reference != "A" else "C"
        yield Variant(
            "chr1", at + shift, *((other, reference) if swaps else (reference, other)), source=f"v.vcf, line {at}"
        )


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        (
            [Variant("chr1", 3, "A", "C", source="v.vcf, line 9")],
            r"v\.vcf, line 9: chr1:4 A>C: .*'A', but .* has 'T' there",
        ),
        ([*many(), Variant("chr1", 3, "A", "C")], r"\(1 of 14 variants disagree; is it another assembly\?\)"),
        (list(many(swaps=True)), r"their alternative alleles agree: the two are swapped"),
        (list(many(shift=-1)), r"they agree one base later: they are counted from 0"),
        (list(many(shift=1)), r"they agree one base earlier"),
        (
            list(many(spell=lambda c: dict(zip("ACGT", "TGCA", strict=True))[c])),
            r"their complements agree: .*other strand",
        ),
        (
            [Variant("1", 3, "A", "C", source="v.vcf, line 9")],
            r"line 9: 1:4 A>C: no sequence '1' .*did you mean 'chr1'",
        ),
        ([Variant("chr2", 3, "AA", "C", source="v.vcf, line 9")], r"line 9: .* lies past the end of chr2 \(4 bases"),
    ],
)
def test_alleles_that_the_genome_does_not_have_are_one_line(genome, variants, message):
    with pytest.raises(ValueError, match=message) as caught:
        check_references(variants, genome)
    assert "\n" not in str(caught.value)


# Signals


PARTS = [
    Binned("chr1", 0, 10, 4, np.array([1.5, np.nan, 2.5], np.float32)),
    Binned("chr1", 12, 20, 4, np.array([2.5, 2.5], np.float32)),
    Binned("chr2", 0, 3, 1, np.array([-1.0, 0.0, 1e-3], np.float32)),
]
SIZES = {"chr1": 24, "chr2": 4}


def by_base(parts, chrom):
    values = np.full(SIZES[chrom], np.nan, np.float32)
    for part in parts:
        if part.chrom == chrom:
            values[part.start : part.end] = np.repeat(part.values, part.bin)[: part.end - part.start]
    return values


@pytest.mark.parametrize("kind", ["bedgraph", "bedgraph.gz", "bw"])
def test_signals_come_back_base_by_base_and_unknown_stays_unknown(tmp_path, kind):
    path = tmp_path / f"s.{kind}"
    if kind == "bw":
        pytest.importorskip("pyBigWig")
        write_bigwig(path, PARTS, SIZES)
    else:
        write_bedgraph(path, PARTS, "track type=bedGraph")
    track = pickle.loads(pickle.dumps(Track(path)))
    assert track.names == ("chr1", "chr2")
    for chrom, size in SIZES.items():
        wanted = by_base(PARTS, chrom)
        for start, end in ((0, size), (1, 3), (size - 1, size), (2, size - 1)):
            found = track.values(chrom, start, end)
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, wanted[start:end], rtol=SINGLE)
    np.testing.assert_allclose(track.binned("chr1", 0, 22, 8), [1.5, 2.5, 2.5], rtol=SINGLE)
    np.testing.assert_allclose(track.binned("chr1", 6, 12, 2), [np.nan, 2.5, np.nan], rtol=SINGLE)
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name]
    with pytest.raises(ValueError, match=r"no sequence '1' in .*did you mean 'chr1'"):
        track.values("1", 0, 2)
    with pytest.raises(ValueError, match=r"chr1:5-5 is not within"):
        track.values("chr1", 5, 5)
    if kind == "bw":
        with pytest.raises(ValueError, match=r"chr1:20-25 is not within 0-24"):
            track.values("chr1", 20, 25)


def test_pybigwig_reads_what_was_written(tmp_path):
    library = pytest.importorskip("pyBigWig")
    write_bigwig(tmp_path / "s.bw", PARTS, SIZES)
    with library.open(str(tmp_path / "s.bw")) as file:
        assert file.chroms() == SIZES
        assert file.intervals("chr1") == ((0, 4, 1.5), (8, 10, 2.5), (12, 20, 2.5))
        np.testing.assert_allclose(file.values("chr2", 0, 4), by_base(PARTS, "chr2"), rtol=SINGLE)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (PARTS[::-1], r"chr1:12-20 is out of order, overlaps, or ends past 24"),
        ([PARTS[0], PARTS[0]], r"chr1:0-10 is out of order"),
        ([Binned("chr2", 0, 8, 4, np.zeros(2))], r"chr2:0-8 is out of order, overlaps, or ends past 4"),
        ([Binned("2", 0, 4, 4, np.zeros(1))], r"no sequence '2' in the genome, .*did you mean 'chr2'"),
        ([Binned("chr1", 0, 10, 4, np.zeros(2))], r"2 bins of 4 bases do not fill it"),
    ],
)
def test_a_signal_out_of_place_leaves_no_file(tmp_path, parts, message):
    pytest.importorskip("pyBigWig")
    with pytest.raises(ValueError, match=message):
        write_bigwig(tmp_path / "s.bw", parts, SIZES)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chr1\t0\t4\n", r"s\.bedgraph, line 1: .*expected bedGraph: sequence, start, end, value"),
        ("chr1\t0\t4\tx\n", r"line 1: .*expected bedGraph"),
        ("chr1\t4\t4\t1\n", r"line 1: .*expected four columns, 0 <= start < end"),
        (
            "chr1\t0\t4\t1\nchr1\t3\t5\t1\n",
            r"line 2: chr1:3-5 begins before 4, .*unsorted or overlapping; sort the file",
        ),
        ("track\n", r"no values, expected bedGraph"),
    ],
)
def test_what_is_no_bedgraph_is_one_line(tmp_path, text, message):
    refuses(Track, written(tmp_path, text, "s.bedgraph"), message)


def test_a_bigwig_that_is_cut_off_is_one_line(tmp_path, capfd):
    pytest.importorskip("pyBigWig")
    write_bigwig(tmp_path / "s.bw", PARTS, SIZES)
    (tmp_path / "cut.bw").write_bytes((tmp_path / "s.bw").read_bytes()[:50])
    with pytest.raises(ValueError, match=r"cut\.bw: no bigWig, or cut off"):
        Track(tmp_path / "cut.bw")
    os.write(2, b"others are heard\n")
    assert capfd.readouterr().err == "others are heard\n"  # and libBigWig was not
    with pytest.raises(FileNotFoundError, match="no such file"):
        Track(tmp_path / "none.bw")
