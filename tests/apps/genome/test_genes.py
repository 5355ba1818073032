"""Genes as classes of bases, and back from probabilities to genes with exact ends, on either strand."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from isometry import story
from isometry.app import load_app
from isometry_data.annotations import Feature, read_features
from isometry_data.bases import ascii_of, reverse_complement
from isometry_data.intervals import Interval, read_bed
from isometry_genome.formats import write_features, write_genes
from isometry_genome.gene_calls import (
    Called,
    Rule,
    agreement,
    called,
    called_along,
    evidence_of,
    longest_frames,
    schedule,
)
from isometry_genome.genes import (
    CLASSES,
    IN_PIECES,
    ON_OTHER_STRAND,
    Gene,
    classes_for,
    genes_of,
    labels,
    reading_frames,
    true_genes,
)
from isometry_genome.memory import InMemory
from isometry_genome.windows import Stretch

STARTS, STOPS = {"ATG", "GTG", "TTG"}, {"TAA", "TAG", "TGA"}
CODONS = [a + b + c for a in "ACGT" for b in "ACGT" for c in "ACGT" if a + b + c not in STOPS]
OPERON_FILE = Path(__file__).parents[3] / "examples" / "operon.fa"
EASY = Rule(start=4.0, base=0.0, least=1.0)


def gene(n_codons, seed, start="ATG", stop="TAA"):
    return start + "".join(np.random.default_rng(seed).choice(CODONS, n_codons - 2)) + stop


def turned(text):
    return reverse_complement(ascii_of(text)).tobytes().decode()


FIRST, SECOND, THIRD = gene(40, 1), gene(50, 2, "GTG", "TGA"), gene(60, 3)
SEQUENCE = "CCCCC" + FIRST + "CCTC" + turned(SECOND) + "CACCC" + THIRD + "CC"
LETTERS, LENGTH = ascii_of(SEQUENCE), len(SEQUENCE)
GENES = {
    Gene(at := SEQUENCE.index(FIRST), at + 120, False),
    Gene(at := SEQUENCE.index(turned(SECOND)), at + 150, True),
    Gene(at := SEQUENCE.index(THIRD), at + 180, False),
}


def features(genes=GENES, chrom="c"):
    return [Feature(Interval(chrom, g.start, g.end, "+-"[g.is_minus]), "CDS", "") for g in sorted(genes)]


OPERON = "CC" + gene(40, 4)[:-6] + "CCATGA" + gene(40, 5)[4:] + "CC"
PAIR = {Gene(2, 122, False), Gene(118, 238, False)}
"""ATGA, as in many operons: the second gene begins before the first one ends."""


def labels_of(genes=None, n=LENGTH):
    return labels(features(GENES if genes is None else genes), {"c": n})["c"]


def certain(classes):
    """Probabilities of what is known for certain, nearly."""
    found = np.full((len(classes), len(CLASSES)), 1e-3)
    found[np.arange(len(classes)), classes] = 1
    return found / found.sum(1, keepdims=True)


def mirrored(genes, n):
    return {Gene(n - g.end, n - g.start, not g.is_minus) for g in genes}


# Labels


def test_labels_tell_the_reading_frame_on_the_own_strand():
    classes = labels_of()
    plus, minus = (next(g for g in GENES if g.is_minus is side) for side in (False, True))
    said = [CLASSES[k] for k in classes[plus.start : plus.start + 5]]
    assert said == ["start+", "second+", "third+", "first+", "second+"]
    assert [CLASSES[k] for k in classes[minus.end - 4 : minus.end]] == ["first-", "third-", "second-", "start-"]
    assert CLASSES[classes[minus.start]] == "third-"


def test_labels_of_the_other_strand_are_the_swapped_labels():
    other = labels_of(mirrored(GENES, LENGTH))
    np.testing.assert_array_equal(other, np.array(ON_OTHER_STRAND)[labels_of()[::-1]])


@pytest.mark.parametrize("names", [CLASSES, IN_PIECES])
def test_a_feature_without_a_strand_has_no_label(names):
    """Its bases are something, and nobody knows what."""
    (known,) = features([Gene(10, 40, False)])
    found = labels([known, Feature(Interval("c", 60, 90, "."), "CDS", "")], {"c": 100}, names)["c"]
    assert set(found[60:90].tolist()) == {-1}
    assert (found[:60] >= 0).all()
    assert (found[90:] == 0).all()


def test_genes_come_back_from_their_labels():
    assert genes_of(labels_of(), LETTERS) == GENES


def test_the_start_wins_where_genes_overlap():
    n, letters = len(OPERON), ascii_of(OPERON)
    assert genes_of(labels_of(PAIR, n), letters) == PAIR
    assert genes_of(labels_of(mirrored(PAIR, n), n), reverse_complement(letters)) == mirrored(PAIR, n)


def test_a_gene_without_a_frame_is_unknown():
    broken = [Feature(Interval("c", 10, 20, "+"), "CDS", ""), Feature(Interval("c", 30, 36, "-"), "CDS", "", 1, 2)]
    classes = labels(broken, {"c": 40})["c"]
    np.testing.assert_array_equal(np.flatnonzero(classes == -1), [*range(10, 20), *range(30, 36)])


def test_genes_in_pieces_have_a_strand_alone():
    parts = [Feature(Interval("c", 10 * i, 10 * i + 6, "-"), "CDS", "", i + 1, 3) for i in range(3)]
    assert classes_for(parts) == IN_PIECES
    assert classes_for(features()) == CLASSES
    assert set(labels(parts, {"c": 40}, IN_PIECES)["c"].tolist()) == {0, 2}


def test_reading_frames_by_reading_codon_by_codon():
    text = "".join(np.random.default_rng(0).choice(list("ACGTN"), 3000, p=[0.24] * 4 + [0.04]))
    expected = set()
    for start in range(len(text) - 2):
        ends = (i + 3 for i in range(start, len(text) - 2, 3) if text[i : i + 3] in STOPS)
        if text[start : start + 3] in STARTS and (end := next(ends, None)) is not None:
            expected.add((start, end))
    starts, ends = reading_frames(ascii_of(text))
    assert set(zip(starts.tolist(), ends.tolist(), strict=True)) == expected
    starts, ends = reading_frames(ascii_of(text), 90)
    assert set(zip(starts.tolist(), ends.tolist(), strict=True)) == {(a, b) for a, b in expected if b - a >= 90}


@pytest.mark.parametrize("text", ["", "A", "AT", "ATG", "NNNN"])
def test_what_is_too_short_has_no_reading_frame(text):
    assert len(reading_frames(ascii_of(text))[0]) == 0


def test_true_genes_are_those_that_are_reading_frames():
    own = [*features(), Feature(Interval("c", 6, 126, "+"), "CDS", "shifted"), *features({Gene(0, 9, False)}, "other")]
    assert true_genes(own, "c", LETTERS) == (GENES, 1)


# Calls


def test_certain_probabilities_give_the_true_genes():
    calls = called(evidence_of(certain(labels_of())), LETTERS, EASY)
    assert [call.gene for call in calls] == sorted(GENES)
    assert all(call.probability > 0.98 for call in calls)


def test_certain_probabilities_give_overlapping_genes():
    calls = called(evidence_of(certain(labels_of(PAIR, len(OPERON)))), ascii_of(OPERON), EASY)
    assert {call.gene for call in calls} == PAIR


def test_without_probability_there_is_no_gene():
    assert called(evidence_of(certain(np.zeros(LENGTH, dtype=int))), LETTERS, EASY) == []
    assert called(np.zeros((0, 8), dtype=np.float16), ascii_of(""), EASY) == []


def test_evidence_for_another_start_moves_the_start():
    inner = SEQUENCE.index(THIRD) + 30
    text = SEQUENCE[:inner] + "ATG" + SEQUENCE[inner + 3 :]
    whole = max(GENES)
    shorter = Gene(inner, whole.end, False)
    for own in (whole, shorter):
        calls = called(evidence_of(certain(labels_of(GENES - {whole} | {own}))), ascii_of(text), EASY)
        assert calls[-1].gene == own


def test_calls_of_the_other_strand_are_the_same_genes():
    rng = np.random.default_rng(0)
    n, text = 4000, "".join(rng.choice(list("ACGT"), 4000))
    p = rng.dirichlet(np.ones(9), n)
    rule = Rule(start=4.0, base=0.0, least=-300.0)
    here = called(evidence_of(p), ascii_of(text), rule)
    there = called(evidence_of(p[::-1][:, ON_OTHER_STRAND]), reverse_complement(ascii_of(text)), rule)
    assert len(here) > 10
    assert mirrored({call.gene for call in here}, n) == {call.gene for call in there}


def test_the_schedule_is_the_best_of_all_subsets():
    rng = np.random.default_rng(0)
    for _ in range(40):
        starts = rng.integers(0, 60, 9)
        ends, values = starts + rng.integers(8, 30, 9), rng.random(9)
        subsets = itertools.chain.from_iterable(itertools.combinations(range(9), k) for k in range(10))
        most = max(sum(values[list(s)]) for s in subsets if _are_apart(starts, ends, s, 5))
        chosen = schedule(starts, ends, values, 5)
        assert _are_apart(starts, ends, chosen, 5)
        assert values[chosen].sum() == pytest.approx(most)


def _are_apart(starts, ends, chosen, shared):
    return all(
        min(ends[i], ends[j]) - max(starts[i], starts[j]) <= shared for i, j in itertools.combinations(chosen, 2)
    )


def test_calls_do_not_depend_on_stretches():
    p = certain(labels_of())
    for cuts in ([0, len(p)], [0, 7, 130, len(p)]):
        parts = [Stretch(1, "c", 10 + a, 10 + b, None, p[a:b]) for a, b in itertools.pairwise(cuts)]
        (found,) = called_along(parts, InMemory({"c": "N" * 10 + SEQUENCE.lower()}), EASY)
        assert {g._replace(start=g.start - 10, end=g.end - 10) for g in (call.gene for call in found.calls)} == GENES
        assert (found.record, found.chrom) == (1, "c")


def test_genes_as_bed_and_gff3(tmp_path):
    calls = called(evidence_of(certain(labels_of())), LETTERS, EASY)
    found = [Called(1, "c", calls), Called(2, "c", [])]
    sequences = InMemory({"c": SEQUENCE})
    told = write_genes(tmp_path / "genes.bed", found, sequences)
    assert [row["written"] for row in told] == [3, 0]
    assert {Gene(i.start, i.end, i.strand == "-") for i in read_bed(tmp_path / "genes.bed")} == GENES
    assert write_features(tmp_path / "genes.gff3", found, sequences) == told
    back = read_features(tmp_path / "genes.gff3")
    assert true_genes(back, "c", LETTERS) == (GENES, 0)
    assert {(feature.kind, feature.n_parts) for feature in back} == {("CDS", 1)}


def test_a_shipped_checkpoint_calls_genes_on_both_strands(tmp_path):
    """Of an operon that no genome has."""
    loaded = story.load(load_app("genome"), "genes", device="cpu")
    letters = ascii_of(OPERON_FILE.read_text(encoding="utf-8").partition("\n")[2].replace("\n", ""))
    turned_file = tmp_path / "turned.fa"
    turned_file.write_text(f">turned\n{reverse_complement(letters).tobytes().decode()}\n", encoding="utf-8")
    rows, others = (story.predict(loaded, [file], None) for file in (OPERON_FILE, turned_file))
    found, other = ({Gene(r["start"], r["end"], r["strand"] == "-") for r in own} for own in (rows, others))
    assert found == {Gene(215, 839, False), Gene(835, 1384, False), Gene(1534, 2260, True)}
    assert other == mirrored(found, len(letters))
    assert all(row["probability"] > 0.9 for row in rows)
    assert loaded.settings.data.segment_names == CLASSES


# What they are compared with


def test_the_longest_reading_frames_come_first():
    found = longest_frames(LETTERS, 120)
    both = zip(*(reading_frames(own, 120) for own in (LETTERS, reverse_complement(LETTERS))), strict=True)
    (starts, others), (ends, other_ends) = both
    longest = max((ends - starts).max(), (other_ends - others).max())
    assert max(g.end - g.start for g in found) == longest
    assert longest_frames(LETTERS, longest + 1) == set()
    assert longest_frames(reverse_complement(LETTERS), 120) == mirrored(found, LENGTH)
    assert longest_frames(ascii_of(THIRD), 120) == {Gene(0, 180, False)}


def test_agreement_counts_whole_genes_and_stop_codons():
    near = {Gene(0, 90, False), Gene(100, 190, True), Gene(300, 390, False)}
    true = {Gene(30, 90, False), Gene(100, 220, True), Gene(300, 390, False), Gene(400, 490, False)}
    assert list(agreement(near, true)) == [(1, 4, 3), (3, 4, 3)]


def test_circles_go_on_at_the_other_end():
    circle = InMemory({"c": "ACCGTT"}, ["c"])
    assert circle.fetch("c", -2, 8).tobytes() == b"TTACCGTTAC"
    assert circle.fetch("c", -2, 8, is_minus=True).tobytes() == b"GTAACGGTAA"
