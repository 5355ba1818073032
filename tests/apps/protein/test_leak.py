"""`isometry leak` lists test proteins with a near copy in training, and its exit code says whether there is one."""

import csv
import json

import numpy as np
import pytest
from isometry.cli import main
from isometry_data.protein_records import AMINO_ACIDS

FOUND, NONE, BAD_INPUT = 1, 0, 2


@pytest.fixture
def files(tmp_path):
    """Training and test proteins; the second of three test proteins is a training one with every fifth residue W."""
    rng = np.random.default_rng(0)
    known, *strangers = ["".join(rng.choice(list(AMINO_ACIDS), 120)) for _ in range(4)]
    copy = "".join("W" if i % 5 == 0 else letter for i, letter in enumerate(known))
    train, test = tmp_path / "train.fasta", tmp_path / "test.ss"
    train.write_text(f">one\n{strangers[0]}\n>two\n{known}\n")
    labels = f"{'H' * 120}\n{'.' * 120}\n{'1' * 120}\n"
    named = {"a": strangers[1], "b": copy, "c": strangers[2]}
    test.write_text("".join(f">{name}\n{sequence}\n{labels}" for name, sequence in named.items()))
    return str(train), str(test)


def test_the_near_copy_is_listed(files, tmp_path, capsys):
    train, test = files
    out = tmp_path / "leaks.csv"
    assert main(["leak", train, "--test", test, "--out", str(out), "--json"]) == FOUND
    told = json.loads(capsys.readouterr().out)
    assert (told["n_train"], told["n_test"], told["n_found"]) == (2, 3, 1)
    (row,) = told["near_copies"]
    assert (row["test"], row["test_line"], row["train"], row["train_line"]) == ("b", 6, "two", 3)
    assert row["identity"] == pytest.approx(0.8, abs=0.03)  # some of the fifth residues are W already
    assert row["coverage"] > 0.95
    (written,) = csv.DictReader(out.open())
    assert (written["test"], written["train"]) == ("b", "two")


def test_people_read_a_table_and_a_sentence(files, capsys):
    train, test = files
    assert main(["leak", train, "--test", test]) == FOUND
    said = capsys.readouterr().out
    assert "two" in said
    assert "1 of 3 test proteins have a near copy among 2 training proteins: 25% or more identical" in said


def test_none_is_found_above_its_identity(files, tmp_path, capsys):
    train, test = files
    found, none = tmp_path / "found.csv", tmp_path / "none.csv"
    assert main(["leak", train, "--test", test, "--most-identical", "0.95", "--out", str(none)]) == NONE
    assert "0 of 3 test proteins" in capsys.readouterr().out
    assert main(["leak", train, "--test", test, "--out", str(found)]) == FOUND
    assert none.read_text().splitlines() == found.read_text().splitlines()[:1], "a header, and nothing else"


def test_what_cannot_be_used_is_no_leak(files, tmp_path, capsys, monkeypatch):
    train, test = files
    assert main(["leak", train, "--test", str(tmp_path / "none.fasta")]) == BAD_INPUT
    assert "none.fasta: no such file" in capsys.readouterr().err
    assert main(["leak", train, "--test", test, "--out", "leaks.doc"]) == BAD_INPUT
    assert "no format is known by the ending '.doc'" in capsys.readouterr().err
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["leak", train, "--test", test, "--search", "mmseqs"]) == BAD_INPUT
    assert "mmseqs is not installed" in capsys.readouterr().err
    for wrong in (["--most-identical", "25"], ["--search", "blast"]):
        with pytest.raises(SystemExit) as stopped:
            main(["leak", train, "--test", test, *wrong])
        assert stopped.value.code == BAD_INPUT
