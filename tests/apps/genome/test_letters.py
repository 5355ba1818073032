"""Every letter of IUPAC is a set of bases, none is taken for another, and the other strand is exact."""

import numpy as np
import pytest
import torch
from Bio.Data.IUPACData import ambiguous_dna_complement, ambiguous_dna_values
from Bio.Seq import reverse_complement as biopython_reverse_complement
from isometry_genome.letters import BASES, IUPAC, codes_of, complement, one_hot, reverse_complement

LETTERS = "".join(letter for letter in IUPAC if letter != "U")


def read(text):
    return codes_of(np.frombuffer(text.encode("ascii"), dtype=np.uint8))


@pytest.mark.parametrize("letter", LETTERS)
def test_letter_stands_for_the_bases_that_biopython_names(letter):
    members = ambiguous_dna_values[letter]
    expected = [(base in members) / len(members) for base in BASES]
    assert one_hot(read(letter))[0].tolist() == pytest.approx(expected, abs=1e-7)
    assert torch.equal(read(letter.lower()), read(letter))


def test_there_are_fifteen_letters_and_u_is_t():
    assert len(LETTERS) == 15
    assert sorted(read(LETTERS).tolist()) == list(range(1, 16))
    assert torch.equal(read("uU"), read("tT"))


@pytest.mark.parametrize("letter", LETTERS)
def test_complement_is_biopythons(letter):
    assert torch.equal(complement(read(letter)), read(ambiguous_dna_complement[letter]))


def test_other_strand_of_letters_codes_and_probabilities_is_one():
    text = "ACGTNRYSWKMBDHVacgtn" * 3 + "GATTACA"
    other = read(biopython_reverse_complement(text))
    assert torch.equal(reverse_complement(read(text)), other)
    torch.testing.assert_close(one_hot(read(text)).flip(0, 1), one_hot(other), rtol=0, atol=0)
    assert torch.equal(reverse_complement(reverse_complement(read(text))), read(text))


def test_codes_keep_their_type_and_rows_sum_to_one():
    codes = read(LETTERS).to(torch.uint8)
    assert complement(codes).dtype == torch.uint8
    assert one_hot(codes.reshape(3, 5)).shape == (3, 5, 4)
    torch.testing.assert_close(one_hot(codes).sum(1), torch.ones(15), rtol=0, atol=1e-6)


def test_nothing_known_reads_as_n_on_either_strand():
    nothing = torch.zeros(2, dtype=torch.uint8)
    assert torch.equal(one_hot(nothing), torch.full((2, 4), 0.25))
    assert torch.equal(complement(nothing), nothing)


@pytest.mark.parametrize("letter", ["-", ".", "*", "E", "X", " ", "\n"])
def test_unknown_letter_is_refused_with_its_position(letter):
    with pytest.raises(ValueError, match="at position 4; expected one of ACGTU") as error:
        read(f"ACGT{letter}ACGT")
    assert repr(letter) in str(error.value)


def test_no_letters_are_no_codes():
    assert read("").shape == (0,)
