"""What is written of a prediction: tables, PSIPRED's formats, contacts, embeddings; every protein, in order."""

import io
import re

import numpy as np
import pytest
from isometry.app import load_app
from isometry.story import Loaded, predict
from isometry_protein import predict as predict_module
from isometry_protein.dataset import ProteinDataset
from isometry_protein.formats import as_npz
from isometry_protein.predict import contacts, predictions

APP = load_app("protein")
FASTA = """>b first
MKVLAAGIWYMKVLAAGIWYMKVLAAGIWYMKVLAAGIWYMKVLAAGIWYMKVLAAGIWYMKV
>empty
>a
mkXU-laG*
>b
GGGGGGGGGGGG
"""
NAMES, LENGTHS = ["b", "a", "b_4"], [63, 7, 12]


@pytest.fixture
def fasta(tmp_path):
    path = tmp_path / "proteins.fasta"
    path.write_text(FASTA)
    return path


@pytest.fixture
def predicted(make_model, fasta, tmp_path):
    """`predicted("y.ss2", heads=…)`: the rows and the text of what was written."""

    def run(name, **changes):
        model = make_model(**{"heads": ("ss", "rsa", "disorder"), **changes}).float()
        settings = APP.presets["tiny"].changed(model=model.settings.model_dump())
        loaded = Loaded(APP, settings, model, None, None)  # type: ignore[arg-type]
        out = tmp_path / name
        return predict(loaded, [fasta], out), out, model

    return run


def test_a_table_has_a_row_for_each_residue_in_order(predicted):
    rows, out, _ = predicted("y.csv")
    assert len(out.read_text().splitlines()) == 1 + sum(LENGTHS)
    names = [row["protein"] for row in rows if row["position"] == 1]
    assert names[:2] == NAMES[:2]
    assert len(set(names)) == 3
    assert [row["record"] for row in rows] == [k for k, n in enumerate(LENGTHS, 1) for _ in range(n)]
    assert "".join(row["residue"] for row in rows if row["record"] == 2) == "MKXULAG"


def test_probabilities_are_probabilities_and_the_verdict_is_the_largest(predicted):
    for row in predicted("y.csv")[0]:
        three = {state: row[f"p_{state}"] for state in "HEC"}
        eight = {state: row[f"p8_{state}"] for state in "GHIBESTC"}
        assert sum(three.values()) == pytest.approx(1, abs=1e-5)
        assert sum(eight[state] for state in "GHI") == pytest.approx(three["H"], abs=1e-5)
        assert row["ss3"] == max(three, key=three.get)
        assert row["ss8"] == max(eight, key=eight.get)
        assert 0 <= row["accessibility"] <= 1
        assert 0 <= row["disorder"] <= 1


def test_eight_states_are_not_told_by_a_model_that_never_saw_them(predicted):
    rows, _, _ = predicted("y.csv", heads=("ss",), has_eight=False)
    assert {"ss3", "p_H"} <= rows[0].keys()
    assert not [column for column in rows[0] if "8" in column]


def test_whole_proteins_have_a_row_each(predicted):
    rows, _, _ = predicted("y.csv", heads=("regression", "classes"))
    assert [row["length"] for row in rows] == LENGTHS
    assert sum(rows[0][f"p_class_{i}"] for i in range(3)) == pytest.approx(1, abs=1e-5)
    assert np.isfinite([row["value_1"] for row in rows]).all()


def test_numbers_and_classes_go_by_the_names_of_the_labels(predicted):
    names = {"value_names": ("tm", "yield"), "class_names": ("no", "some", "much")}
    rows, _, _ = predicted("y.csv", heads=("regression", "classes"), **names)
    ends = [f"p_class_{name}" for name in names["class_names"]]
    assert list(rows[0]) == ["record", "protein", "length", "value_tm", "value_yield", "class", *ends]
    assert all(row[f"p_class_{row['class']}"] == max(row[end] for end in ends) for row in rows)


def test_ss2_is_read_as_psipred_writes_it(predicted):
    rows, out, _ = predicted("y.ss2")
    blocks = out.read_text().split("# PSIPRED VFORMAT")[1:]
    assert len(blocks) == 3
    line = re.compile(r"^ *(\d+) ([A-Z]) ([CHE])  ( *\d\.\d{3}) ( *\d\.\d{3}) ( *\d\.\d{3})$", re.M)
    found = [line.findall(block) for block in blocks]
    assert [len(block) for block in found] == LENGTHS
    lines = (found_line for block in found for found_line in block)
    for (number, residue, state, coil, helix, strand), row in zip(lines, rows, strict=True):
        assert (int(number), residue, state) == (row["position"], row["residue"], row["ss3"])
        told = [float(coil), float(helix), float(strand)]
        assert told == pytest.approx([row["p_C"], row["p_H"], row["p_E"]], abs=6e-4)


def test_horiz_has_lines_of_sixty(predicted):
    rows, out, _ = predicted("y.horiz")
    text = out.read_text()
    for tag, column in (("Pred", "ss3"), ("  AA", "residue")):
        lines = re.findall(rf"^{tag}: (.*)$", text, re.M)
        assert "".join(lines) == "".join(row[column] for row in rows)
        assert [len(line) for line in lines] == [60, 3, 7, 12]
    confidences = "".join(re.findall(r"^Conf: (\d+)$", text, re.M))
    first, second = sorted((rows[0][f"p_{state}"] for state in "HEC"), reverse=True)[:2]
    assert int(confidences[0]) == min(int(10 * (first - second)), 9)
    assert re.search(r"^ {14}10 {8}20 {8}30 {8}40 {8}50 {8}60$", text, re.M)


def test_states_are_written_as_fasta(predicted):
    rows, out, _ = predicted("y.fasta")
    records = out.read_text().split(">")[1:]
    assert ["".join(record.splitlines()[1:]) for record in records] == [
        "".join(row["ss3"] for row in rows if row["record"] == k) for k in (1, 2, 3)
    ]


def test_embeddings_are_arrays_by_name(predicted):
    _, out, model = predicted("y.npz")
    found = np.load(io.BytesIO(out.read_bytes()))
    assert sorted(len(found[name]) for name in found.files) == sorted(LENGTHS)
    assert found["b"].shape == (63, model.n_features)


def test_no_label_is_made_of_a_structure_to_predict(tmp_path, monkeypatch):
    atoms = (("N", 0.0), ("CA", 1.46), ("C", 2.5))
    rest = "   0.000   0.000  1.00  0.00           "
    lines = [
        f"ATOM  {3 * i + k + 1:5d}  {name:<3} ALA A{i + 1:4d}    {x + 3.8 * i:8.3f}{rest}{name[0]}"
        for i in range(4)
        for k, (name, x) in enumerate(atoms)
    ]
    path = tmp_path / "chain.pdb"
    path.write_text("\n".join([*lines, "TER", "END", ""]))
    settings = APP.presets["tiny"]
    assert APP.read(settings, [path]).records[0].ss8 is not None
    monkeypatch.setattr("isometry_data.proteins._states", None)
    monkeypatch.setattr("isometry_data.proteins.relative_accessibility", None)
    assert APP.to_predict is not None
    (record,) = APP.to_predict(settings, [path]).records
    assert (record.name, record.sequence, record.ss8, record.positions) == ("chain_A", "AAAA", None, None)


def test_an_archive_keeps_proteins_by_whatever_name():
    names = ["file", "allow_pickle", "sp|P1/2|", "Ünï"]
    found = np.load(io.BytesIO(as_npz({name: np.full((2, 3), k) for k, name in enumerate(names)})))
    assert [found[name].tolist() for name in names] == [[[k] * 3] * 2 for k in range(4)]


def test_an_archive_of_two_proteins_of_one_name_is_refused(make_model, make_record, tmp_path):
    records = ProteinDataset([make_record(9), make_record(12)])
    with pytest.raises(ValueError, match=r"named as the one of .*y\.npz keeps one array for each name"):
        predict_module.predict(make_model(), None, records, tmp_path / "y.npz")
    assert not list(tmp_path.iterdir())


def test_contacts_are_pairs_with_the_most_probable_first(predicted, monkeypatch):
    monkeypatch.setattr(predict_module, "LIKELY", 0.0)
    _, out, _ = predicted("y.rr", heads=("ss", "contacts"))
    blocks = out.read_text().split("PFRMAT RR\n")[1:]
    pairs = [re.findall(r"^(\d+) (\d+) 0 8 (\d\.\d{4})$", block, re.M) for block in blocks]
    assert all(int(j) - int(i) >= 6 for block in pairs for i, j, _ in block)
    assert all([p for *_, p in block] == sorted((p for *_, p in block), reverse=True) for block in pairs)
    assert max(int(j) for _, j, _ in pairs[0]) <= 63


def test_all_contacts_are_those_of_the_whole_map(make_model, make_record):
    model, record = make_model(heads=("contacts",)), make_record(30)
    pairs, p = contacts(model, record, least=0.0)
    assert len(pairs) == 24 * 25 // 2
    assert (np.diff(p) <= 0).all()


def test_what_a_model_has_no_head_for_is_refused(predicted):
    with pytest.raises(ValueError, match="no head for contacts"):
        predicted("y.rr")
    with pytest.raises(ValueError, match="no head for secondary structure"):
        predicted("y.ss2", heads=("rsa",))


def test_temperatures_reach_what_is_predicted(make_model, make_record):
    model, record = make_model(heads=("ss", "disorder")), make_record(20)
    (before,) = predictions(model, [record])
    for temperature in model.temperatures.values():
        temperature.temperature.fill_(100.0)
    (after,) = predictions(model, [record])
    assert np.abs(after.three - 1 / 3).max() < 0.05 < np.abs(before.three - 1 / 3).max()
    assert np.abs(after.disorder - 0.5).max() < 0.05
    assert (after.three.argmax(1) == before.three.argmax(1)).all()
