"""Any stretch of a genome file is what its letters say, on both strands, in every worker; every fault has one line."""

import gzip
import logging
import multiprocessing
import os
import pickle
import struct
import tracemalloc

import numpy as np
import pytest
from Bio import SeqIO, bgzf
from Bio.Seq import Seq
from Bio.SeqRecord import SeqRecord
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from isometry_data import fasta_index
from isometry_data.bases import LETTERS, ascii_of, complement, reverse_complement, text_of
from isometry_data.chromosome_names import probable_name
from isometry_data.genomes import open_genome

FASTA = ">chr1 the first\nACGTNacgtn\nRYKMSWBDHV\nACG\n>chr2\nUuTTAA\n"
SHARE_HELD = 0.4  # of the bytes of a genome of 1 Mb: some pieces of 16 KiB and blocks of 64 KiB
FIRST, SECOND = "ACGTNacgtnRYKMSWBDHVACG", "UuTTAA"


def written(tmp_path, text, name="g.fa"):
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def bgzipped(tmp_path, text, name="g.fa.bgz"):
    with bgzf.BgzfWriter(str(tmp_path / name)) as out:
        out.write(text)
    return tmp_path / name


def as_2bit(tmp_path, sequences, name="g.2bit", order="<"):
    """As UCSC's faToTwoBit packs ACGTN and their lower case."""
    head = struct.pack(f"{order}4I", 0x1A412743, 0, len(sequences), 0)
    at = len(head) + sum(5 + len(one) for one in sequences)
    index, body = b"", b""
    for one, letters in sequences.items():
        index += bytes([len(one)]) + one.encode() + struct.pack(f"{order}I", at + len(body))
        body += struct.pack(f"{order}I", len(letters))
        for runs in (runs_of(letters, "Nn"), runs_of(letters, "acgtn")):
            body += struct.pack(f"{order}I", len(runs))
            body += b"".join(struct.pack(f"{order}I", a) for a, _ in runs)
            body += b"".join(struct.pack(f"{order}I", b - a) for a, b in runs)
        codes = ["TCAG".find(c) for c in letters.upper().replace("N", "T").ljust(-(-len(letters) // 4) * 4, "T")]
        packed = bytes(sum(codes[i + j] << (6 - 2 * j) for j in range(4)) for i in range(0, len(codes), 4))
        body += struct.pack(f"{order}I", 0) + packed
    return written(tmp_path, head + index + body, name)


def runs_of(letters, wanted):
    inside = np.array([False, *(c in wanted for c in letters), False])
    return np.flatnonzero(np.diff(inside)).reshape(-1, 2).tolist()


def as_genbank(tmp_path, sequences, name="g.gb", circles=()):
    records = [SeqRecord(Seq(letters), id=one, name=one) for one, letters in sequences.items()]
    for record in records:
        topology = "circular" if record.id in circles else "linear"
        record.annotations |= {"molecule_type": "DNA", "topology": topology}
    SeqIO.write(records, tmp_path / name, "genbank")
    return tmp_path / name


def test_letters_keep_their_case_and_positions_count_from_0(tmp_path):
    with open_genome(written(tmp_path, FASTA)) as genome:
        assert genome.names == ("chr1", "chr2")
        assert genome.lengths == {"chr1": 23, "chr2": 6}
        for name, whole in (("chr1", FIRST), ("chr2", SECOND)):
            for start in range(len(whole)):
                for end in range(start, len(whole) + 1):
                    assert text_of(genome.fetch(name, start, end)) == whole[start:end]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", ["", "{end}", "{end}{end}"])
@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 1 << 20])
def test_line_ends_and_pieces_do_not_matter(tmp_path, monkeypatch, end, last, chunk):
    monkeypatch.setattr(fasta_index, "CHUNK", chunk)
    text = FASTA.rstrip("\n").replace("\n", end) + last.format(end=end)
    genome = open_genome(written(tmp_path, text))
    assert [text_of(genome.fetch(name, 0, n)) for name, n in genome.lengths.items()] == [FIRST, SECOND]
    assert text_of(genome.fetch("chr1", 8, 21)) == FIRST[8:21]


@pytest.mark.parametrize("kind", ["plain", "gz", "bgz", "uneven", "2bit", "2bit of the other order", "genbank"])
def test_every_format_gives_the_same_letters(tmp_path, kind, caplog):
    rng = np.random.default_rng(0)
    whole = {f"s{k}": "".join(rng.choice(list("ACGTNacgtn"), 1000 + 70 * k)) for k in range(3)}
    if kind == "genbank":  # upper case only
        whole = {name: letters.upper() for name, letters in whole.items()}
    lines = {name: "\n".join(s[i : i + 70] for i in range(0, len(s), 70)) for name, s in whole.items()}
    text = "".join(f">{name} said\n{body}\n" for name, body in lines.items())
    make = {
        "plain": lambda: written(tmp_path, text),
        "gz": lambda: written(tmp_path, gzip.compress(text.encode()), "g.fa.gz"),
        "bgz": lambda: bgzipped(tmp_path, text),
        "uneven": lambda: written(tmp_path, text.replace("\n", "\n\n", 3)),
        "2bit": lambda: as_2bit(tmp_path, whole),
        "2bit of the other order": lambda: as_2bit(tmp_path, whole, order=">"),
        "genbank": lambda: as_genbank(tmp_path, whole),
    }
    with caplog.at_level(logging.INFO):
        genome = open_genome(make[kind]())
    assert ("held in memory" in caplog.text) == (kind in ("gz", "uneven"))
    assert genome.lengths == {name: len(s) for name, s in whole.items()}
    for name, s in whole.items():
        for start, end in ((0, len(s)), (69, 71), (3, 500), (len(s) - 1, len(s)), (70, 70)):
            assert text_of(genome.fetch(name, start, end)) == s[start:end]
    genome.close()
    assert text_of(genome.fetch("s1", 5, 9)) == whole["s1"][5:9]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(st.text("ACGTacgtNRY", max_size=9), min_size=1, max_size=6), min_size=1, max_size=4), st.data()
)
def test_any_fasta_is_read_or_refused_as_a_whole(tmp_path, bodies, data):
    text = "".join(f">r{k}\n" + "\n".join(lines) + "\n" for k, lines in enumerate(bodies))
    whole = ["".join(lines) for lines in bodies]
    path = written(tmp_path, text)
    if not all(whole):
        with pytest.raises(ValueError, match="no bases"):
            open_genome(path)
        return
    genome = open_genome(path)
    for k, letters in enumerate(whole):
        start = data.draw(st.integers(0, len(letters)))
        end = data.draw(st.integers(start, len(letters)))
        assert text_of(genome.fetch(f"r{k}", start, end)) == letters[start:end]


def test_pysam_reads_the_same(tmp_path):
    pysam = pytest.importorskip("pysam")
    rng = np.random.default_rng(1)
    letters = {f"c{k}": "".join(rng.choice(list("ACGTacgtN"), n)) for k, n in enumerate((1, 60, 61, 100_003))}
    text = "".join(
        f">{n}\n" + "\n".join(s[i : i + 60] for i in range(0, len(s), 60)) + "\n" for n, s in letters.items()
    )
    plain = written(tmp_path, text)
    packed = tmp_path / "g.fa.gz"
    pysam.tabix_compress(str(plain), str(packed))
    own = [open_genome(plain), open_genome(packed)]  # without an index
    assert not (tmp_path / "g.fa.fai").exists()
    peers = [pysam.FastaFile(str(plain)), pysam.FastaFile(str(packed))]  # writes the index
    indexed = [open_genome(plain), open_genome(packed)]
    for _ in range(50):
        name = str(rng.choice(list(letters)))
        start, end = sorted(rng.integers(0, len(letters[name]) + 1, 2).tolist())
        answers = {text_of(genome.fetch(name, start, end)) for genome in (*own, *indexed)}
        assert answers == {peer.fetch(name, start, end) for peer in peers} == {letters[name][start:end]}


def test_an_index_is_used_when_it_fits_and_passed_over_when_not(tmp_path, caplog):
    path = written(tmp_path, FASTA)
    fai = tmp_path / "g.fa.fai"
    fai.write_text("chr1\t23\t16\t10\t11\nchr2\t6\t48\t6\t7\n")
    assert text_of(open_genome(path).fetch("chr1", 9, 12)) == FIRST[9:12]
    fai.write_text("renamed\t23\t16\t10\t11\n")
    assert open_genome(path).names == ("renamed",)
    for wrong in ("chr1\t9999\t16\t10\t11\n", "chr1\t23\t15\t10\t11\n", "chr1\tx\n", "", "chr1\t23\t16\t0\t0\n"):
        fai.write_text(wrong)
        assert open_genome(path).names == ("chr1", "chr2")
    fai.write_text("renamed\t23\t16\t10\t11\n")
    os.utime(fai, (0, 0))
    assert open_genome(path).names == ("chr1", "chr2")
    assert "older" in caplog.text


def test_an_index_of_another_file_is_noticed_at_the_letters(tmp_path):
    path = written(tmp_path, FASTA)
    (tmp_path / "g.fa.fai").write_text("chr1\t23\t16\t12\t14\n")  # the record's first and last base fit
    with pytest.raises(
        ValueError, match=r"g\.fa: chr1:0-12 has 11 letters: the file was changed, or its \.fai belongs"
    ):
        open_genome(path).fetch("chr1", 0, 12)


def test_a_genome_in_a_folder_without_write_permission_opens(tmp_path):
    folder = tmp_path / "shared"
    folder.mkdir()
    path = written(folder, FASTA)
    folder.chmod(0o555)
    try:
        assert text_of(open_genome(path).fetch("chr2", 0, 6)) == SECOND
        assert sorted(p.name for p in folder.iterdir()) == ["g.fa"]
    finally:
        folder.chmod(0o755)


def test_other_strand_is_the_reverse_complement_for_every_letter(tmp_path):
    letters = LETTERS + LETTERS.lower()
    genome = open_genome(written(tmp_path, f">x\n{letters}\n"))
    minus = genome.fetch("x", 0, len(letters), is_minus=True)
    assert text_of(minus) == str(Seq(letters).reverse_complement())
    np.testing.assert_array_equal(reverse_complement(minus), genome.fetch("x", 0, len(letters)))
    assert text_of(genome.fetch("x", 0, 3, is_minus=True)) == "CGT"
    np.testing.assert_array_equal(complement(complement(ascii_of(letters))), ascii_of(letters))
    assert text_of(complement(ascii_of("Uu"))) == "Aa"


@pytest.mark.parametrize(
    ("start", "end", "padded"),
    [(-3, 2, "NNNUu"), (4, 9, "AANNN"), (-2, 8, "NNUuTTAANN"), (-9, -7, "NN"), (7, 9, "NN"), (0, 6, "UuTTAA")],
)
def test_past_the_ends_only_where_asked_and_then_n(tmp_path, start, end, padded):
    genome = open_genome(written(tmp_path, FASTA))
    assert text_of(genome.fetch("chr2", start, end, pads=True)) == padded
    both = genome.fetch("chr2", start, end, pads=True, is_minus=True)
    np.testing.assert_array_equal(both, reverse_complement(ascii_of(padded)))
    if "N" in padded:
        with pytest.raises(ValueError, match=rf"chr2:{start}-{end} is not within 0-6"):
            genome.fetch("chr2", start, end)


def test_opening_and_fetching_hold_pieces_of_the_file_and_never_all_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr(fasta_index, "CHUNK", 1 << 14)
    letters = "".join(np.random.default_rng(3).choice(list("ACGT"), 1_000_000))
    text = ">c\n" + "\n".join(letters[i : i + 60] for i in range(0, len(letters), 60)) + "\n"
    for file in (written(tmp_path, text), bgzipped(tmp_path, text), as_2bit(tmp_path, {"c": letters})):
        tracemalloc.start()
        try:
            genome = open_genome(file)
            genome.fetch("c", 500_000, 510_000)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < SHARE_HELD * len(letters)


def test_workers_read_what_the_parent_reads(tmp_path):
    rng = np.random.default_rng(2)
    letters = "".join(rng.choice(list("ACGT"), 200_000))
    text = ">c\n" + "\n".join(letters[i : i + 80] for i in range(0, len(letters), 80)) + "\n"
    files = [written(tmp_path, text), bgzipped(tmp_path, text), as_2bit(tmp_path, {"c": letters})]
    spans = [(int(start), int(start) + 5000) for start in rng.integers(0, 195_000, 40)]
    for file in files:
        genome = open_genome(file)
        genome.fetch("c", 0, 10)  # opened before the fork
        with multiprocessing.get_context("fork").Pool(2) as pool:
            found = pool.starmap(_fetched, [(genome, *span) for span in spans], chunksize=1)
        assert found == [letters[start:end] for start, end in spans]
        again = pickle.loads(pickle.dumps(genome))
        assert _fetched(again, *spans[0]) == letters[slice(*spans[0])]


def _fetched(genome, start, end):
    return text_of(genome.fetch("c", start, end))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"g\.fa: the file is empty, expected FASTA records"),
        ("ACGT\n", r"line 1: expected FASTA, whose records begin with '>'"),
        ("\n\nx\n>a\nA\n", r"line 3: 'x' is no base"),
        (">a\nACGT\n>b\n>c\nA\n", r"line 3, record b: no bases; remove the record"),
        (">a\nACGT\n\n>b\n\n", r"line 4, record b: no bases"),
        (">a\nACGT\n>a two\nAC\n", r"line 3: a second record 'a' \(the first: line 1\)"),
        (">a\nACGT\n>\nAC\n", r"line 3: '>' without a name"),
        (">a\nACGT\nAC-T\n", r"line 3: '-' is no base, expected the IUPAC letters ACGTRYSWKMBDHVN or U; remove it"),
        (">a\nACGT\r\nAC.T\r\n", r"line 3: '\.' is no base"),
        (">a\nACG*\n", r"line 2: '\*' is no base"),
        (">a\nACGT\nAC7\n", r"line 3: '7' is no base"),
        (">a\nACGT\nAC GT\n", r"line 3: ' ' is no base"),
        (">a\nACGT \n", r"line 2: ' ' is no base"),
        (">a\nMEEPQSDPSV\n", r"line 2: 'E' is no base"),
        ("@r\nACGT\n+\nIIII\n", r"line 1: '@' is no base"),
    ],
)
@pytest.mark.parametrize("chunk", [3, 1 << 20])
def test_what_is_no_genome_is_one_line(tmp_path, monkeypatch, text, message, chunk):
    monkeypatch.setattr(fasta_index, "CHUNK", chunk)
    with pytest.raises(ValueError, match=message) as caught:
        open_genome(written(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_files_that_are_cut_off_or_damaged_are_refused(tmp_path):
    text = ">c\n" + "ACGTTGCA" * 40_000 + "\n"
    packed = gzip.compress(text.encode())
    with pytest.raises(ValueError, match="cut off"):
        open_genome(written(tmp_path, packed[: len(packed) // 2], "cut.fa.gz"))
    whole = bgzipped(tmp_path, text).read_bytes()
    for cut in (len(whole) - 28, len(whole) // 2, 100):
        with pytest.raises(ValueError, match="cut off"):
            open_genome(written(tmp_path, whole[:cut], "cut.fa.bgz"))
    changed = bytearray(whole)
    changed[len(whole) // 2] ^= 0xFF
    with pytest.raises(ValueError, match=r"damaged at byte \d+|no bgzip block at byte|cut off"):
        open_genome(written(tmp_path, bytes(changed), "bad.fa.bgz"))
    two_bit = as_2bit(tmp_path, {"c": "ACGT" * 100}).read_bytes()
    for cut in (len(two_bit) - 20, 30, 18, 6):
        with pytest.raises(ValueError, match=r"cut\.2bit: .*is it cut off\?"):
            open_genome(written(tmp_path, two_bit[:cut], "cut.2bit"))
    genbank = as_genbank(tmp_path, {"c": "ACGT" * 100}).read_text()
    with pytest.raises(ValueError, match=r"line 1: the record does not end with '//': the file is cut off"):
        open_genome(written(tmp_path, genbank[:-40], "cut.gb"))
    short = genbank.replace("        1 acgtacgtac ", "        1 ")
    with pytest.raises(ValueError, match=r"line 1: 390 bases below ORIGIN, expected the 400 that LOCUS says"):
        open_genome(written(tmp_path, short, "short.gb"))


@pytest.mark.parametrize("kind", ["plain", "indexed", "gz", "bgz", "uneven", "genbank", "2bit"])
def test_a_circle_goes_on_at_its_other_end(tmp_path, kind):
    width = 3 if kind == "uneven" else 10
    lines = "\n".join([FIRST[:10], *(FIRST[i : i + width] for i in range(10, len(FIRST), width))])
    text = f">chr1 E. coli [topology=circular]\n{lines}\n>chr2 circular=false\n{SECOND}\n>chr3\nAC\n"
    path = written(tmp_path, gzip.compress(text.encode()) if kind == "gz" else text)
    if kind == "indexed":
        at = [text.index(f"\n{letters}") + 1 for letters in (FIRST[:10], SECOND, "AC\n")]
        rows = ("chr1\t23", at[0], "10\t11"), ("chr2\t6", at[1], "6\t7"), ("chr3\t2", at[2], "2\t3")
        path.with_name("g.fa.fai").write_text("".join(f"{a}\t{b}\t{c}\n" for a, b, c in rows))
    if kind == "bgz":
        path = bgzipped(tmp_path, text)
    if kind == "genbank":
        letters = {"chr1": FIRST, "chr2": SECOND.replace("U", "T").replace("u", "t"), "chr3": "AC"}
        path = as_genbank(tmp_path, letters, circles=["chr1"])
    if kind == "2bit":
        path = as_2bit(tmp_path, {"chr1": "ACGTTNacgtn", "chr2": "TTTTAA", "chr3": "AC"})
    genome = pickle.loads(pickle.dumps(open_genome(path, ["chr3", *(["chr1"] if kind == "2bit" else [])])))
    one, two, three = genome.names
    assert [genome.is_circle(name) for name in genome.names] == [True, False, True]
    n = genome.lengths[one]
    whole = text_of(genome.fetch(one, 0, n))
    assert text_of(genome.fetch(one, -3, n + 4)) == whole[-3:] + whole + whole[:4]
    assert text_of(genome.fetch(three, -1, 4, pads=True)).upper() == "CACAC"
    forward = genome.fetch(one, n - 2, n + 2)
    assert text_of(genome.fetch(one, n - 2, n + 2, is_minus=True)) == text_of(reverse_complement(forward))
    assert text_of(genome.fetch(two, -2, 1, pads=True)) == "NN" + text_of(genome.fetch(two, 0, 1))
    with pytest.raises(ValueError, match="is not within"):
        genome.fetch(two, -2, 1)


def test_a_file_that_is_none_is_one_line(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        open_genome(tmp_path / "none.fa")
    with pytest.raises(ValueError, match="is a folder, expected a file"):
        open_genome(tmp_path)


@pytest.mark.parametrize(
    ("asked", "known", "meant"),
    [
        ("chr1", ["1", "2", "X"], "1"),
        ("1", ["chr1", "chr10"], "chr1"),
        ("MT", ["chr1", "chrM"], "chrM"),
        ("chr4", ["chrI", "chrIV"], "chrIV"),
        ("IV", ["chrI", "chrIV"], "chrIV"),
        ("CHRX", ["chrX", "chrY"], "chrX"),
        ("NC_000913", ["NC_000913.3"], "NC_000913.3"),
        ("plasmid_ab", ["chromosome", "plasmid_aa"], "plasmid_aa"),
        ("chrX", ["chr10", "chrX1"], "chrX1"),
        ("scaffold", ["1", "2"], None),
    ],
)
def test_a_name_of_another_custom_is_recognised(asked, known, meant):
    assert probable_name(asked, known) == meant


def test_a_wrong_name_is_answered_with_the_right_one(tmp_path):
    genome = open_genome(written(tmp_path, FASTA))
    with pytest.raises(ValueError, match=r"no sequence '1' in .*g\.fa, which has chr1, chr2; did you mean 'chr1'\?"):
        genome.fetch("1", 0, 3)
