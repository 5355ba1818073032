"""Near copies are found and strangers are not; no similar pair lies in two clusters; the catalogue knows the sets."""

import os
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from isometry_data import shared_words
from isometry_data.catalogue import datasets, locate
from isometry_data.flip_archive import content_of, convert_flip
from isometry_data.local_alignments import EXTEND, OPEN, alignments_by_words, alignments_of_all, best_scores
from isometry_data.mmseqs import has_mmseqs
from isometry_data.protein_records import AMINO_ACIDS, ProteinRecord
from isometry_data.proteins import read_protein_set
from isometry_data.sequence_clusters import near_copies, sequence_clusters
from isometry_data.state_files import read_states

FOLDER = os.environ.get("ISOMETRY_DATA", "")
needs_data = pytest.mark.skipif(
    not (Path(FOLDER) / "protein" / "netsurfp2").is_dir(), reason="ISOMETRY_DATA has no protein/netsurfp2"
)
needs_mmseqs = pytest.mark.skipif(not has_mmseqs(), reason="mmseqs is not installed")
SEARCHES = ["words", "all", pytest.param("mmseqs", marks=[needs_mmseqs, pytest.mark.slow])]  # it takes seconds to start
OTHER_ALIGNMENT = 0.01  # of several with the same score another one may be told
SAME_IDENTITY = 0.1  # two programs' alignments of 60 % identical chains, their ends above all


def random_sequence(rng, length: int) -> str:
    return "".join(rng.choice(list(AMINO_ACIDS), length))


def mutated(rng, sequence: str, identity: float) -> str:
    letters = np.array(list(sequence))
    changed = rng.random(len(letters)) > identity
    letters[changed] = rng.choice(list(AMINO_ACIDS), changed.sum())
    return "".join(letters)


def records(sequences, prefix: str) -> list[ProteinRecord]:
    return [ProteinRecord(f"{prefix}{k}", sequence, "memory") for k, sequence in enumerate(sequences)]


@pytest.fixture
def planted():
    """Training and test chains: of the test's ten, five are near copies (whole, mutated, shortened, inside, 40 %)."""
    rng = np.random.default_rng(0)
    train = [random_sequence(rng, 200) for _ in range(40)]
    copies = [
        train[3],
        mutated(rng, train[5], 0.6),
        train[7][40:150],
        random_sequence(rng, 60) + train[9] + random_sequence(rng, 60),
        mutated(rng, train[11], 0.4),
    ]
    return records(train, "train"), records(copies + [random_sequence(rng, 200) for _ in range(5)], "test")


@pytest.mark.parametrize("search", SEARCHES)
def test_near_copies_are_found_and_strangers_are_not(planted, search):
    train, test = planted
    found = near_copies(train, test, search=search)
    assert [(copy.test.name, copy.train.name) for copy in found] == [
        (f"test{k}", f"train{k_train}") for k, k_train in enumerate((3, 5, 7, 9, 11))
    ]
    assert [copy.identity for copy in found][0::2][:2] == [1.0, 1.0]
    assert all(copy.coverage > 0.9 for copy in found[:1])
    assert [c.test.name for c in near_copies(train, test, identity=0.9, search=search)] == ["test0", "test2", "test3"]
    assert str(found[0]) == "test0: 100% identical to train3 over 100%"


@pytest.mark.parametrize("search", SEARCHES)
def test_a_shared_piece_is_no_near_copy(search):
    rng = np.random.default_rng(1)
    piece = random_sequence(rng, 60)
    one, other = (random_sequence(rng, 150) + piece + random_sequence(rng, 150) for _ in range(2))
    train, test = records([one], "train"), records([other], "test")
    assert near_copies(train, test, search=search) == []
    assert len(near_copies(train, test, coverage=0.1, search=search)) == 1


@needs_mmseqs
@pytest.mark.slow
def test_our_identity_is_that_of_mmseqs(planted):
    ours, theirs = (near_copies(*planted, search=search) for search in ("words", "mmseqs"))
    for one, other in zip(ours, theirs, strict=True):
        assert one.identity == pytest.approx(other.identity, abs=SAME_IDENTITY)


def brute_force(first: str, second: str) -> int:
    """Smith and Waterman's score by Gotoh's recursion, cell by cell."""
    from Bio.Align import substitution_matrices

    matrix = substitution_matrices.load("BLOSUM62")
    shape = (len(first) + 1, len(second) + 1)
    best, down, right = np.zeros(shape), np.full(shape, -np.inf), np.full(shape, -np.inf)
    for i, a in enumerate(first, start=1):
        for j, b in enumerate(second, start=1):
            down[i, j] = max(best[i - 1, j] - OPEN, down[i - 1, j] - EXTEND)
            right[i, j] = max(best[i, j - 1] - OPEN, right[i, j - 1] - EXTEND)
            best[i, j] = max(0, best[i - 1, j - 1] + matrix[a][b], down[i, j], right[i, j])
    return int(best.max())


@pytest.mark.parametrize("has_opal", [True, False])
def test_scores_are_those_of_the_recursion(has_opal, monkeypatch):
    if has_opal:
        pytest.importorskip("pyopal", reason="pyopal is not installed")
    else:
        monkeypatch.setitem(sys.modules, "pyopal", None)
    rng = np.random.default_rng(4)
    targets = [random_sequence(rng, int(n)) for n in rng.integers(1, 50, 5)]
    queries = [target[: len(target) // 2] + "WX" + target[len(target) // 2 + 3 :] for target in targets[:3]]
    pairs = rng.permutation(np.array([(q, t) for q in range(3) for t in range(5)]))
    expected = [brute_force(queries[q], targets[t]) for q, t in pairs]
    assert best_scores(pairs, queries, targets).tolist() == expected
    assert best_scores(pairs[:0], queries, targets).tolist() == []


def test_words_find_what_aligning_all_pairs_finds_of_near_relatives():
    rng = np.random.default_rng(5)
    family = [random_sequence(rng, 150) for _ in range(6)]
    queries = [mutated(rng, sequence, identity) for sequence in family for identity in (0.9, 0.75, 0.3)]
    near = {(q, q // 3) for q in range(len(queries)) if q % 3 < 2}
    by_words, all_pairs = (set(search(queries, family)) for search in (alignments_by_words, alignments_of_all))
    assert by_words <= all_pairs
    for found in (by_words, all_pairs):
        assert {(pair.query, pair.target) for pair in found} >= near


def test_identity_and_coverage_are_those_of_biopython(monkeypatch):
    pytest.importorskip("pyopal", reason="pyopal is not installed")
    rng = np.random.default_rng(7)
    family = [random_sequence(rng, 100) for _ in range(3)]
    others = [mutated(rng, sequence[:70] + sequence[75:], 0.6) + random_sequence(rng, 40) for sequence in family]
    by_opal = alignments_of_all(family, others)
    monkeypatch.setitem(sys.modules, "pyopal", None)
    by_biopython = alignments_of_all(family, others)
    assert [pair[:2] for pair in by_opal] == [pair[:2] for pair in by_biopython] == [(k, k) for k in range(3)]
    np.testing.assert_allclose(
        [pair[2:] for pair in by_opal], [pair[2:] for pair in by_biopython], atol=OTHER_ALIGNMENT
    )


def test_a_family_of_many_members_stays_together(monkeypatch):
    monkeypatch.setattr(shared_words, "MOST_SEEN", 3)
    rng = np.random.default_rng(6)
    member, stranger = random_sequence(rng, 90), random_sequence(rng, 90)
    sequences = [mutated(rng, member, 0.95) for _ in range(20)] + [stranger]
    assert sequence_clusters(sequences, search="words").tolist() == [0] * 20 + [1]
    train, test = records(sequences[:19], "train"), records(sequences[19:], "test")
    assert [copy.test.name for copy in near_copies(train, test, search="words")] == ["test0"]


def test_tags_and_repeats_join_nothing():
    rng = np.random.default_rng(2)
    tagged = [f"MGSSHHHHHHSSGLVPRGSH{random_sequence(rng, 150)}" for _ in range(3)]
    repeated = [f"{random_sequence(rng, 100)}{'Q' * 30}{random_sequence(rng, 100)}" for _ in range(3)]
    assert len(set(sequence_clusters(tagged + repeated, search="words").tolist())) == 6


@pytest.mark.parametrize("search", SEARCHES)
def test_clusters_hold_families_together_and_strangers_apart(search):
    rng = np.random.default_rng(3)
    families = [random_sequence(rng, 180) for _ in range(8)]
    members = [(k, mutated(rng, family, 0.75)) for k, family in enumerate(families) for _ in range(4)]
    order = rng.permutation(len(members))
    truth = np.array([members[k][0] for k in order])
    found = sequence_clusters([members[k][1] for k in order], search=search)
    np.testing.assert_array_equal(found[:, None] == found[None, :], truth[:, None] == truth[None, :])
    assert found[0] == 0
    assert len(set(found.tolist())) == found.max() + 1 == 8


def test_unusual_and_short_sequences_are_clustered_too():
    assert sequence_clusters(["MK", "UUOXBZJ", "X" * 50, "MK"], search="words").tolist() == [0, 1, 2, 0]
    assert sequence_clusters([], search="words").tolist() == []


def test_an_unknown_or_missing_search_is_one_line(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="unknown search 'blast'; expected one of auto, mmseqs, words, all"):
        sequence_clusters(["MK"], search="blast")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OSError, match="mmseqs is not installed"):
        sequence_clusters(["MK"], search="mmseqs")


def flip(tmp_path) -> Path:
    with zipfile.ZipFile(tmp_path / "splits.zip", "w") as archive:
        archive.writestr("splits/sequences.fasta", ">a\nMKV\n>b\nGG\n>c\nWWWW\n")
        archive.writestr(
            "splits/sampled.fasta",
            ">a SET=train VALIDATION=False\nHEC\n>b SET=train VALIDATION=True\nCC\n>c SET=test\nHHHH\n",
        )
        archive.writestr("splits/mask.fasta", ">a\n110\n>b\n11\n>c\n0000\n")
    return tmp_path / "splits.zip"


def test_flips_archive_becomes_state_files(tmp_path):
    archive, made = flip(tmp_path), tmp_path / "train.ss.gz"
    convert_flip([archive], made, split="train")
    (record,) = read_states(made)
    assert (record.name, record.sequence, record.ss3, record.mask.tolist()) == ("a", "MKV", "HEC", [True, True, False])
    with pytest.raises(ValueError, match="the published data changed: valid is"):
        convert_flip([archive], made, split="valid", expected=content_of([record]))
    with pytest.raises(ValueError, match=r"no sequences\.fasta in it .*expected FLIP's splits"):
        convert_flip([made], made, split="train")


def test_tests_without_a_known_address_are_read_from_a_local_file(tmp_path, monkeypatch):
    monkeypatch.setenv("ISOMETRY_DATA", str(tmp_path))
    monkeypatch.setenv("ISOMETRY_CACHE", str(tmp_path / "cache"))
    with pytest.raises(
        FileNotFoundError, match=r"no address to fetch it from; or set ISOMETRY_DATA .*ts115/test\.ss\.gz"
    ):
        locate("ts115")
    path = tmp_path / "protein" / "ts115" / "test.ss.gz"
    path.parent.mkdir(parents=True)
    path.write_text(">a\nMK\nHH\n..\n11\n")
    assert [record.name for record in read_protein_set("ts115")] == ["a"]


@needs_data
@pytest.mark.parametrize("file", [file for file in datasets()["netsurfp2"].files if file.convert], ids=lambda f: f.name)
def test_prepared_files_have_the_contents_a_fetched_one_must_have(file):
    assert content_of(read_protein_set("netsurfp2", file.name)) == file.convert.keywords["expected"]


@needs_data
def test_the_sets_have_the_labels_that_are_said_of_them():
    cb513, cb6133 = read_protein_set("netsurfp2", "cb513"), read_protein_set("cb6133")
    assert (len(cb513), len(cb6133)) == (511, 5534)
    assert all(record.ss3 and record.ss8 for record in (*cb513, *cb6133))
    assert all(record.disorder is None for record in (*cb513, *cb6133))
    assert any(record.disorder.any() for record in read_protein_set("netsurfp2", "valid"))
