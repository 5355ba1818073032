"""Pictures of proteins: a page for each, every residue drawn once, contacts as they are, any length and any name."""

import re
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from isometry.app import load_app
from isometry.story import Loaded, predict
from isometry_data.protein_records import ProteinRecord
from isometry_protein import contacts as contacts_module
from isometry_protein.contacts import contact_map
from isometry_protein.letters import letters_of
from isometry_protein.pictures import LETTERS_A_ROW, MOST_ROWS, Page, as_pictures, picture, residues_a_row
from isometry_protein.predict import contacts, predictions
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_hex

APP = load_app("protein")
RESIDUE_HEADS = ("ss", "rsa", "disorder", "contacts")
SEQUENCES = {"one": "MKVLAAGIWY" * 5, "two $x^2$ <&>": "mkXUlag", "three": "G"}


@pytest.fixture
def drawn(make_model, tmp_path):
    """`drawn("y.pdf", heads=…, names=…)`: the path of the written picture."""

    def run(name, names=SEQUENCES, heads=RESIDUE_HEADS, **changes):
        model = make_model(heads=heads, **changes).float()
        fasta = tmp_path / "proteins.fasta"
        fasta.write_text("".join(f">{own}\n{SEQUENCES[own]}\n" for own in names))
        settings = APP.presets["tiny"].changed(model=model.settings.model_dump())
        predict(Loaded(APP, settings, model, None, None), [fasta], tmp_path / name)  # type: ignore[arg-type]
        return tmp_path / name

    return run


@pytest.fixture
def make_page(make_model):
    """`make_page(n)`: a protein of n residues and what is said of it."""

    def make(n, heads=("ss", "rsa", "disorder")):
        letters = np.random.default_rng(n).choice(list("ACDEFGHIKLMNPQRSTVWY"), n)
        record = ProteinRecord(name=f"p{n}", sequence="".join(letters), source="test")
        (said,) = predictions(make_model(heads=heads).float(), [record])
        return Page(record, said, None)

    return make


def test_a_pdf_has_a_page_for_each_protein(drawn):
    content = drawn("y.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert len(re.findall(rb"/Type /Page\b", content)) == len(SEQUENCES)


@pytest.mark.parametrize("name", SEQUENCES)
def test_any_protein_has_an_svg_that_tells_its_name(drawn, name):
    text = drawn("y.svg", [name]).read_text()
    ElementTree.fromstring(text)
    assert name.split()[0] in text


def test_a_map_tells_which_pairs_are_left_white(drawn):
    assert "Probability of a contact, 6 residues apart or more" in drawn("y.svg", ["one"]).read_text()


def test_a_png_shows_one_protein(drawn):
    assert drawn("y.png", ["one"]).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("heads", [("ss",), ("rsa",), ("disorder",), ("contacts",), ("language", "ss")])
def test_a_picture_shows_whichever_heads_there_are(drawn, heads):
    assert drawn("y.png", ["one"], heads).stat().st_size > 5000


@pytest.mark.parametrize(
    ("name", "names", "heads", "message"),
    [
        ("y.png", SEQUENCES, ("ss",), "there are 3; choose .pdf"),
        ("y.svg", ["one", "two $x^2$ <&>"], ("ss",), "there are 2"),
        ("y.pdf", ["one"], ("language",), "nothing of single residues"),
        ("y.png", ["one"], ("regression", "classes"), "nothing of single residues"),
    ],
)
def test_what_cannot_be_drawn_is_refused_and_nothing_is_written(drawn, tmp_path, name, names, heads, message):
    (tmp_path / name).write_text("before")
    with pytest.raises(ValueError, match=message):
        drawn(name, names, heads)
    assert (tmp_path / name).read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["proteins.fasta", name]


@pytest.mark.parametrize("ending", [".pdf", ".svg", ".png"])
def test_the_same_pages_give_the_same_bytes(make_page, ending):
    assert as_pictures(ending, [make_page(30)]) == as_pictures(ending, [make_page(30)])


@pytest.mark.parametrize("n", [1, 99, 100, 101, 1600, 1601, 2500, 34_350, 1_000_000])
def test_no_protein_takes_more_than_some_rows(n):
    assert n <= MOST_ROWS * residues_a_row(n)
    assert residues_a_row(n) == LETTERS_A_ROW or n > MOST_ROWS * LETTERS_A_ROW
    assert residues_a_row(n) % 10 == 0, "a row has ten numbers"


@pytest.mark.parametrize("n", [73, 250, 9000])
def test_every_residue_is_drawn_once_as_its_state(make_page, n):
    page = make_page(n)
    (axes,) = picture(page).axes
    width = {"#0072b2": 0.0, "#d55e00": 0.0, "#c3cad1": 0.0}
    for collection in axes.collections:
        if type(collection) in (LineCollection, PolyCollection) and collection.get_zorder() == 0:
            is_line = isinstance(collection, LineCollection)
            colours: Any = collection.get_edgecolor() if is_line else collection.get_facecolor()
            for path in collection.get_paths():
                width[to_hex(colours[0])] += float(np.ptp(np.asarray(path.vertices)[:, 0]))
    counted = [page.said.states.count(state) for state in "EHC"]
    assert list(width.values()) == pytest.approx(counted)


def test_letters_stand_under_their_numbers(make_page):
    page = make_page(130)
    (axes,) = picture(page).axes
    letters = [t.get_text() for t in axes.texts if t.get_fontfamily() == ["monospace"]]
    assert "".join(letters) == page.record.sequence
    numbers = {int(t.get_text()): t.get_position() for t in axes.texts if t.get_text().isdigit()}
    assert set(numbers) == set(range(10, 131, 10))
    assert numbers[110][0] == numbers[10][0]
    assert numbers[110][1] > numbers[100][1]


def of_map(model, record, side):
    with torch.no_grad():
        features = model.encode(*batch(record))
        return contact_map(model.heads["contacts"], features, model.temperatures["contact"], side)


def batch(record):
    return letters_of(record.sequence)[None], torch.tensor([len(record)])


@pytest.mark.parametrize("side", [1000, 41, 40, 7, 1])
def test_a_map_holds_the_largest_probability_of_each_cell(make_model, make_record, side):
    model, record = make_model(heads=("contacts",)), make_record(41)
    found = of_map(model, record, side)
    pairs, p = contacts(model, record, least=0.0)
    expected = np.zeros_like(found.cells)
    for (i, j), one in zip(pairs // found.per_cell, p, strict=True):
        expected[i, j] = expected[j, i] = max(expected[i, j], one)
    np.testing.assert_allclose(found.cells, expected, atol=1e-7)
    assert len(found.cells) <= side


def test_a_long_protein_has_a_band_of_contacts(make_model, make_record, monkeypatch):
    monkeypatch.setattr(contacts_module, "PAIRS_DRAWN", 500)
    monkeypatch.setattr(contacts_module, "PAIRS_AT_ONCE", 70)
    model, record = make_model(heads=("contacts",)), make_record(50)
    found = of_map(model, record, side=10)
    assert found.most_apart == 500 // 50
    pairs, p = contacts(model, record, least=0.0)
    expected = np.zeros_like(found.cells)
    for (i, j), one in zip(pairs, p, strict=True):
        if j - i <= found.most_apart:
            column = (i + j) // 2 // found.per_cell
            expected[j - i, column] = max(expected[j - i, column], one)
    np.testing.assert_allclose(found.cells, expected, atol=1e-7)
