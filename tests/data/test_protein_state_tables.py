"""Published test sets: arrays of NetSurfP-2.0 and tables of ProtTrans become the same records, masks and states."""

import gzip
import logging

import numpy as np
import pytest
from isometry_data import catalogue
from isometry_data.protein_records import AMINO_ACIDS, EIGHT_STATES
from isometry_data.proteins import read_protein_set, read_proteins

CHAINS = (  # sequence, eight states, ordered, evaluated
    ("MKVXGHIBESTC".replace("B", "A"), "CGHIBESTCCCC", "011111111110", "111111110011"),
    ("GGWWA", "HHEEC", "11111", "11111"),
)
THREE = ("CHHHEECCCCCC", "HHEEC")  # GHI are H, EB are E


def arrays(path, chains=CHAINS, **more):
    """As the server's page of data describes its files."""
    data = np.zeros((len(chains), max(len(c[0]) for c in chains) + 3, 68))
    for row, (sequence, states, ordered, evaluated) in zip(data, chains, strict=True):
        for i, (letter, state) in enumerate(zip(sequence, states, strict=True)):
            if letter in AMINO_ACIDS:
                row[i, AMINO_ACIDS.index(letter)] = 1
            row[i, 20:50] = 0.3
            row[i, 50:53] = 1, int(ordered[i]), int(evaluated[i])
            row[i, 57 + EIGHT_STATES.index(state)] = 1
    np.savez_compressed(path, **{"data": data, "pdbids": np.array(["1ABC-A", "2XYZ-B"][: len(chains)]), **more})
    return path


def table(path, chains=CHAINS, gap=" ", columns="input, dssp3, dssp8, disorder, cb513_mask"):
    """As ProtTrans publishes them: a space before each name but the first, and between letters."""
    lines = [columns]
    for (sequence, states, *masks), three in zip(chains, THREE, strict=False):
        marks = (" ".join(f"{digit}.0" for digit in mask) for mask in masks)
        lines.append(",".join([gap.join(sequence), gap.join(three), gap.join(states), *marks]))
    path.write_text("\n".join(lines) + "\n")
    return path


def counted(record):
    return "".join("1" if counts else "0" for counts in record.mask)


@pytest.mark.parametrize("form", [arrays, table])
def test_residues_count_that_are_ordered_and_evaluated(tmp_path, form):
    records = read_proteins(form(tmp_path / ("CASP12.npz" if form is arrays else "CASP12.csv"))).records
    for record, (sequence, states, ordered, evaluated), three in zip(records, CHAINS, THREE, strict=True):
        assert (record.sequence, record.ss8, record.ss3) == (sequence, states, three)
        assert counted(record) == "".join(str(int(a) & int(b)) for a, b in zip(ordered, evaluated, strict=True))
        assert record.disorder.tolist() == [mark == "0" for mark in ordered]
    names = ["1ABC-A", "2XYZ-B"] if form is arrays else ["CASP12_1", "CASP12_2"]
    assert [record.name for record in records] == names


def test_a_mask_of_cb513_that_a_set_leaves_empty_hides_nothing(tmp_path):
    chains = [(sequence, states, ordered, "0" * len(sequence)) for sequence, states, ordered, _ in CHAINS]
    records = read_proteins(arrays(tmp_path / "TS115_HHblits.npz", chains)).records
    assert [counted(record) for record in records] == [chain[2] for chain in CHAINS]


def test_tables_without_spaces_or_masks_are_read_also_packed(tmp_path):
    plain = table(tmp_path / "NEW364.csv", gap="")
    (tmp_path / "packed.csv.gz").write_bytes(gzip.compress(plain.read_bytes()))
    for name in ("NEW364.csv", "packed.csv.gz"):
        assert [r.sequence for r in read_proteins(tmp_path / name).records] == [chain[0] for chain in CHAINS]
    bare = tmp_path / "bare.csv"
    bare.write_text("input,dssp3\nM K V,C H H\n")
    (record,) = read_proteins(bare).records
    assert (record.ss3, record.ss8, record.disorder, counted(record)) == ("CHH", None, None, "111")


def test_arrays_of_python_objects_are_not_read(tmp_path):
    names = np.array(["1ABC-A", None], dtype=object)
    records = read_proteins(arrays(tmp_path / "CASP12.npz", pdbids=names)).records
    assert [record.name for record in records] == ["CASP12_1", "CASP12_2"]
    with pytest.raises(ValueError, match="no array 'data' to be read"):
        read_proteins(arrays(tmp_path / "x.npz", data=names))


def test_names_are_read_from_bytes_and_there_is_one_of_each_protein(tmp_path):
    records = read_proteins(arrays(tmp_path / "CASP12.npz", pdbids=np.array([b"1ABC-A", b"2XYZ-B"]))).records
    assert [record.name for record in records] == ["1ABC-A", "2XYZ-B"]
    with pytest.raises(ValueError, match=r"CASP12\.npz: 1 pdbids of 2 proteins"):
        read_proteins(arrays(tmp_path / "CASP12.npz", pdbids=np.array(["1ABC-A"])))


def test_an_array_that_is_no_archive_is_one_line(tmp_path):
    with (tmp_path / "x.npz").open("wb") as stream:
        np.save(stream, np.zeros((1, 3, 68)))
    with pytest.raises(ValueError, match=r"x\.npz: no array 'data' to be read"):
        read_proteins(tmp_path / "x.npz")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.csv", "input, dssp3\nM K V,C H\n", r"x\.csv, line 2, record x_1: 2 states in ss3, expected 3"),
        ("x.csv", "input, dssp8\nM K,C Q\n", r"line 2, record x_1: ss8 has 'Q'"),
        ("x.csv", "input, dssp3, disorder\nM K,C H,1.0\n", r"line 2, record x_1, disorder: 1 marks, expected 2"),
        ("x.csv", "input, disorder\nM K,1.0 1.0\n", r"line 1: columns input, disorder; expected input, dssp3"),
        ("x.csv", "input, dssp3\nM K V\n", r"line 2: 1 columns, expected 2 as in line 1"),
        ("x.csv", "dssp3, input\nC C C\n", r"line 2: 1 columns, expected 2 as in line 1"),
        ("x.csv", "input, dssp3\n", r"x\.csv: a header without rows"),
        ("x.npz", "no archive", r"x\.npz: no array 'data' to be read"),
    ],
)
def test_what_is_neither_is_one_line(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_proteins(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "form", "file"),
    [("casp12", arrays, "CASP12_HHblits.npz"), ("ts115", arrays, "TS115.npz"), ("new364", table, "NEW364.csv")],
)
def test_the_catalogue_finds_a_published_file_and_says_that_it_cannot_check_it(
    tmp_path, monkeypatch, caplog, name, form, file
):
    monkeypatch.setenv("ISOMETRY_DATA", str(tmp_path))
    monkeypatch.setenv("ISOMETRY_CACHE", str(tmp_path / "cache"))
    with pytest.raises(FileNotFoundError, match=rf"protein/{name}/test\.ss\.gz or .*{file}"):
        catalogue.locate(name)
    (tmp_path / "protein" / name).mkdir(parents=True)
    form(tmp_path / "protein" / name / file)
    with caplog.at_level(logging.WARNING):
        assert [record.sequence for record in read_protein_set(name)] == [chain[0] for chain in CHAINS]
    assert f"{file}: no checksum of this file is known; it is read as it is" in caplog.text
