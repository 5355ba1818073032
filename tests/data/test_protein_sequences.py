"""FASTA and state files become checked records; every oddity is reported by name and line, a failure is one line."""

import gzip
import io
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from isometry_data.contacts import contacts, distances, in_range
from isometry_data.fasta import read_fasta
from isometry_data.protein_records import ProteinRecord, label_counts, standard_letters, three_states
from isometry_data.proteins import read_proteins
from isometry_data.state_files import read_states, write_states

TITIN = 34_350  # residues


def fasta(tmp_path, text: str | bytes, name: str = "proteins.fasta"):
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_plain_gzipped_and_piped_fasta_are_the_same(tmp_path, monkeypatch):
    text = ">one first protein\nMKV\nLAA\n\n>two\r\nGGW\r\n"
    plain = read_proteins(fasta(tmp_path, text)).records
    packed = read_proteins(fasta(tmp_path, gzip.compress(text.encode()), "proteins.fa.gz")).records
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text.encode())))
    piped = read_proteins("-").records
    for records in (plain, packed, piped):
        assert [(r.name, r.sequence, r.line) for r in records] == [("one", "MKVLAA", 1), ("two", "GGW", 5)]
    assert piped[1].label == "standard input, line 5, record two"
    again = read_proteins("-").records
    assert [r.sequence for r in again] == ["MKVLAA", "GGW"], "each member of an ensemble reads what came once"


def test_a_name_given_many_times_takes_no_time_that_grows_with_its_square(tmp_path):
    n = 50_000  # a search for a free number from 2 on would take minutes
    records = read_fasta(fasta(tmp_path, ">r\nM\n" * n)).records
    assert [record.name for record in records] == ["r", *(f"r_{i}" for i in range(2, n + 1))]


@pytest.mark.parametrize(
    ("body", "sequence", "said"),
    [
        ("mkV", "MKV", "lower case made upper"),
        ("MK-V..A", "MKVA", "3 gaps removed"),
        ("MKV*", "MKV", "final * removed"),
        ("MK*V", "MKXV", "1 * inside made X"),
        ("MUXOBZJX", "MUXOBZJX", "kept 1 B, 1 J, 1 O, 1 U, 2 X, 1 Z"),
        ("MK V", "MKV", None),
    ],
)
def test_any_letter_is_kept_or_mapped_and_reported(tmp_path, body, sequence, said):
    records, notes = read_fasta(fasta(tmp_path, f">p\n{body}\n"))
    assert records[0].sequence == sequence
    assert [note.split(": ", 1)[1] for note in notes] == ([said] if said else [])
    assert all("line 1, record p" in note for note in notes)


def test_empty_nameless_and_repeated_records_are_reported_and_the_rest_is_read_in_order(tmp_path):
    records, notes = read_fasta(fasta(tmp_path, ">b\nMK\n>empty\n>\nGG\n>b\nWW\n>gaps\n---\n>a\nCC\n"))
    assert [(r.name, r.sequence) for r in records] == [("b", "MK"), ("sequence_3", "GG"), ("b_2", "WW"), ("a", "CC")]
    assert [note.split("proteins.fasta, ")[1] for note in notes] == [
        "line 3, record empty: no sequence; left out",
        "line 4: a record without a name; called sequence_3",
        "line 6, record b: named as in line 1; called b_2",
        "line 8, record gaps: 3 gaps removed",
        "line 8, record gaps: no sequence; left out",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (">p\nMKV\nMK7V\n", r"line 3, record p: '7' at column 3; expected letters of amino acids; take out numbers"),
        (">p\nMK>V\n", r"line 2, record p: '>' at column 3"),
        ("MKV\n", r"line 1: 'MKV' before the first '>'; expected FASTA: write a line of '>' and a name"),
        (">p\n>q\n", r"no sequences in 2 records"),
        ("", r"the file is empty"),
        (b"\x1f\x8b\x08cut", r"cut off|cannot be unpacked"),
        (b">p\n\xff\xfe\n", r"not text \(byte 3 .*; unpack or convert it first"),
        (b"\x01\x00\x00\x00", r"a binary file, expected a text file"),
    ],
)
def test_what_is_no_fasta_is_one_line(tmp_path, text, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_fasta(fasta(tmp_path, text))
    assert "\n" not in str(caught.value)
    assert "proteins.fasta" in str(caught.value)


def test_bases_are_told_once_for_a_file_and_read(tmp_path):
    bases, protein = "acgtunACGT" * 6, "ACGTUNACGT" * 6 + "M"
    text = f">p\n{protein}\n>short\n{'ACGT' * 12}\n>gene\n{bases}\n>other\n{bases}\n"
    records, notes = read_fasta(fasta(tmp_path, text))
    assert len(records) == 4
    (said,) = [note for note in notes if "DNA" in note]
    assert "line 5, record gene: its 60 letters are all among A C G T U N, and 1 more of 4 records" in said
    assert said.endswith("translate it first")
    assert not [note for note in read_fasta(fasta(tmp_path, f">p\n{protein}\n")).notes if "DNA" in note]


def test_missing_files_and_folders_are_one_line(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_fasta(tmp_path / "none.fasta")
    with pytest.raises(ValueError, match="is a folder"):
        read_fasta(tmp_path)


def test_a_protein_as_long_as_titin_is_read(tmp_path):
    sequence = ("ACDEFGHIKLMNPQRSTVWY" * (TITIN // 20 + 1))[:TITIN]
    lines = "\n".join(sequence[k : k + 60] for k in range(0, TITIN, 60))
    (record,), notes = read_fasta(fasta(tmp_path, f">titin\n{lines}\n"))
    assert record.sequence == sequence
    assert not notes


RECORD = ">p\nMKVX\nHHEC\nGHBT\n1101\n"


def test_a_state_file_comes_back_as_it_was_written(tmp_path):
    records = read_states(fasta(tmp_path, RECORD + ">q\nGG\nCC\n..\n00\n", "states.ss"))
    assert (records[0].ss3, records[0].ss8, records[1].ss8) == ("HHEC", "GHBT", None)
    assert records[0].mask.tolist() == [True, True, False, True]
    assert records[0].disorder is None
    write_states(tmp_path / "again.ss.gz", records)
    again = read_proteins(tmp_path / "again.ss.gz").records
    for one, other in zip(records, again, strict=True):
        assert (one.name, one.sequence, one.ss3, one.ss8) == (other.name, other.sequence, other.ss3, other.ss8)
        np.testing.assert_array_equal(one.mask, other.mask)
    assert label_counts(again) == "2 chains, 6 residues, with ss8 1, ss3 2, mask 2"
    once = (tmp_path / "again.ss.gz").read_bytes()
    write_states(tmp_path / "again.ss.gz", again)
    assert (tmp_path / "again.ss.gz").read_bytes() == once


def test_a_mask_of_order_is_the_opposite_of_disorder(tmp_path):
    (record,) = read_states(fasta(tmp_path, RECORD), mask_is_order=True)
    assert record.disorder.tolist() == [False, False, True, False]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (RECORD + ">q\nGG\nCC\n", r"line 6: 3 lines left over; expected 5 .*; add what the last record lacks"),
        (RECORD.replace("HHEC", "HHE"), r"line 3, record p: 3 letters of three states, expected 4.*; cut or fill"),
        (RECORD.replace("1101", "11011"), r"line 5, record p: 5 letters of mask, expected 4"),
        (RECORD.replace("1101", "1121"), r"line 5, record p: '2' in the mask; expected 1 where the labels count"),
        (RECORD.replace("GHBT", "GHQT"), r"line 4, record p: 'Q' in the eight states; expected G H I B E S T C, or \."),
        (RECORD.replace("HHEC", "HHLC"), r"line 3, record p: 'L' in the three states; expected H E C, or \."),
        (RECORD.replace("MKVX", "MK1X"), r"line 2, record p: '1' in the sequence; expected letters A to Z"),
        (RECORD.replace("MKVX", ""), r"line 2, record p: 0 letters of sequence, expected some"),
        (RECORD.replace(">p", "p"), r"line 1: 'p', expected '>' and a name; every record has exactly 5 lines: look"),
        (RECORD + "\n" + RECORD, r"line 6: '', expected '>' and a name; .*, also a blank one"),
        (RECORD.replace("1101\n", "") + RECORD, r"line 5, record p: found the name '>p' instead of its mask"),
    ],
)
def test_what_is_no_state_file_is_one_line(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_states(fasta(tmp_path, text, "states.ss"))


def test_eight_states_become_three_in_the_two_known_ways():
    assert three_states("GHIBESTC.") == "HHHEECCC."
    assert three_states("GHIBESTC.", "H/E") == "CHCCECCC."
    with pytest.raises(ValueError, match="unknown mapping 'x'; expected one of GHI/EB, H/E"):
        three_states("H", "x")


def test_letters_of_a_model_are_twenty_and_x():
    assert standard_letters("MUOBZJX") == "MCKXXXX"


def test_labels_must_fit_the_sequence():
    with pytest.raises(ValueError, match="3 states in ss3, expected 2"):
        ProteinRecord("p", "MK", "memory", ss3="HHH")
    with pytest.raises(ValueError, match=r"positions has shape \(2,\), expected \(2, 3\)"):
        ProteinRecord("p", "MK", "memory", positions=np.zeros(2))
    with pytest.raises(ValueError, match="the sequence is empty"):
        ProteinRecord("p", "", "memory")


def test_contacts_are_the_close_pairs_of_the_distance_matrix():
    positions = np.random.default_rng(0).normal(size=(60, 3)) * 8
    positions[[3, 40]] = np.nan
    close = np.triu(distances(positions) < 8.0, k=6)
    np.testing.assert_array_equal(contacts(positions), np.argwhere(close))
    pairs = contacts(positions)
    ranges = [in_range(pairs, name) for name in ("short", "medium", "long")]
    assert sum(map(len, ranges)) == len(pairs)
    assert np.abs(np.diff(ranges[2], axis=1)).min() >= 24
    with pytest.raises(ValueError, match="unknown range 'far'"):
        in_range(pairs, "far")
