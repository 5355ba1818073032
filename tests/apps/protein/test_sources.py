"""Where proteins come from: splits, labels and what is told of them; and what is refused with one clear line."""

import dataclasses
import gzip
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from isometry.app import load_app
from isometry.loaded import Loaded, own_test_set
from isometry_data.state_files import write_states
from isometry_protein.leaks import without_near_copies
from isometry_protein.simulate import simulated
from isometry_protein.train import ProteinSettings
from isometry_protein.whole import read_whole

APP = load_app("protein")
TINY = APP.presets["tiny"]


def of_files(**changes) -> ProteinSettings:
    return TINY.changed(data={"source": "files", **changes})


def written(folder, name, records):
    write_states(folder / name, records)
    return folder / name


@pytest.fixture
def state_file(tmp_path):
    path = tmp_path / "train.ss.gz"
    write_states(path, simulated(40, 1))
    return path


def test_simulated_chains_differ_between_splits_and_seeds():
    data = APP.data(TINY.changed(data={"n_train": 50}))
    sequences = [{r.sequence for r in part.records} for part in (data.train, data.valid, data.test)]
    assert not sequences[0] & sequences[1] | sequences[1] & sequences[2]
    other = APP.data(TINY.changed(seed=1, data={"n_train": 50}))
    assert not sequences[2] & {r.sequence for part in (other.train, other.test) for r in part.records}
    assert any("50 chains" in note for note in data.notes)


def test_files_are_split_and_identified(state_file):
    data = APP.data(of_files(train=(state_file,)))
    assert len(data.train) + len(data.valid) == 40
    assert len(data.valid) == 4
    assert data.test is None
    assert not {r.sequence for r in data.train.records} & {r.sequence for r in data.valid.records}
    assert list(data.checksums) == ["train.ss.gz"]
    assert APP.data(of_files(train=(state_file,))).valid.records[0].name == data.valid.records[0].name


def test_copies_of_a_sequence_stay_on_one_side(tmp_path):
    path = tmp_path / "copies.ss"
    write_states(path, simulated(10, 1) * 4)
    data = APP.data(of_files(train=(path,), valid_fraction=0.3))
    assert len(data.valid) == 12
    assert not {r.sequence for r in data.train.records} & {r.sequence for r in data.valid.records}


def test_a_learning_curve_takes_evenly_spaced_proteins(state_file):
    data = APP.data(
        of_files(train=(state_file,), valid=(written(state_file.parent, "valid.ss", simulated(4, 2)),), n_train=8)
    )
    assert [r.name for r in data.train.records] == [f"simulated_1_{i}" for i in range(0, 40, 5)]


def test_settings_learn_what_the_labels_tell(state_file, tmp_path):
    labels = tmp_path / "labels.csv"
    rows = [f"simulated_1_{i},{i},{-2 * i},{'soluble' if i % 2 else 'not'}" for i in range(40)]
    labels.write_text("\n".join(["name,stability,yield,class", *rows]) + "\n")
    settings = of_files(train=(state_file,), labels=labels)
    settings = settings.changed(model={"heads": ("ss", "regression", "classes")})
    data = APP.data(settings)
    model = APP.learn(settings, data).model
    assert (model.n_values, model.n_classes, model.has_eight) == (2, 2, False)
    assert (model.value_names, model.class_names) == (("stability", "yield"), ("not", "soluble"))
    assert f"{labels}: labels of 36 of 36 training, 4 of 4 validation proteins" in data.notes
    values = np.array([data.train[i].value.numpy() for i in range(len(data.train))])
    assert model.value_means == pytest.approx(values.mean(0).tolist())
    assert model.value_scales == pytest.approx(values.std(0).tolist(), rel=1e-5)
    assert {int(data.train[i].kind) for i in range(len(data.train))} == {0, 1}
    assert set(APP.model(APP.learn(settings, data)).heads) == {"ss", "regression", "classes"}


def test_an_unknown_number_of_a_protein_is_nan(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("name,a,b\np,1.5,\n")
    values = read_whole(path).values["p"]
    assert values[0] == 1.5
    assert np.isnan(values[1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "line 1: columns a, b; expected name"),
        ("name,x\np,1\nq,high\n", "line 3: found 'high'"),
        ("name,x\np,1\nq,inf\n", "line 3: found 'inf'"),
        ("name,x\n,1\n", "line 2: no name"),
        ("name,x\np,1\n\nq,1,5\n", "line 4: 3 columns; expected 2, as in line 1"),
        ("name,x,y\np,1\n", "line 2: 2 columns; expected 3, as in line 1"),
        ("name,x\np,1\np,2\n", r"line 3: p has labels already \(.*line 2\)"),
        ("", "the file is empty"),
    ],
)
def test_label_files_are_checked(tmp_path, text, message):
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_whole(path)


def test_heads_without_labels_are_refused(state_file):
    settings = of_files(train=(state_file,)).changed(model={"heads": ("ss", "contacts")})
    with pytest.raises(ValueError, match="no training protein has positions, which the head contacts"):
        APP.data(settings)
    settings = of_files(train=(state_file,)).changed(model={"heads": ("regression",)})
    with pytest.raises(ValueError, match=r"the head regression needs labels of whole proteins.*data\.labels"):
        APP.model(APP.learn(settings, APP.data(settings)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": ()}, "at least one"),
        ({"heads": ("ss", "ss")}, "each once"),
        ({"kernel": 4}, "odd"),
        ({"kind": "none", "stem": 0}, "sees no neighbour"),
        ({"heads": ("language",), "is_bidirectional": False, "stem": 4}, "next residue"),
    ],
)
def test_models_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        TINY.changed(model=changes)


def test_no_files_are_refused():
    with pytest.raises(ValueError, match=r"data\.train names none"):
        APP.data(of_files())


def test_a_users_file_is_read_with_or_without_labels(state_file, tmp_path):
    fasta = tmp_path / "x.fa.gz"
    fasta.write_bytes(gzip.compress(b">p\nMKV\n"))
    labelled, plain = APP.read(TINY, [state_file]), APP.read(TINY, [fasta])
    assert bool((labelled[0].ss3 >= 0).all())
    assert bool((plain[0].ss3 == -1).all())
    assert plain.name(0).endswith("record p")


def test_hidden_residues_are_drawn_anew_in_training_and_never_in_evaluation():
    data = APP.data(TINY.changed(data={"n_train": 5}, model={"heads": ("ss", "language")}))
    fixed = [data.train[2].hidden for _ in range(2)]
    assert torch.equal(*fixed)
    drawn = [data.train.draw(2, np.random.default_rng(seed)).hidden for seed in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[1], drawn[2])
    assert not APP.data(TINY.changed(data={"n_train": 5})).train[2].hidden.any()


def test_near_copies_are_left_out_of_training_and_remembered(tmp_path, monkeypatch):
    monkeypatch.setenv("ISOMETRY_CACHE", str(tmp_path / "cache"))
    train, held = simulated(12, 1, 100, 120), simulated(3, 2, 100, 120)
    copy = dataclasses.replace(held[1], sequence="M" + held[1].sequence[:70] + "GGSGG", ss3=None, name="copy")
    for _ in range(2):
        kept, note = without_near_copies([*train, copy], held, 0.9, "words")
        assert [r.name for r in kept] == [r.name for r in train]
        assert "1 chains left out, 90% or more identical" in note
        monkeypatch.setattr("isometry_protein.leaks.near_copies", None)  # the second time it is remembered


def test_validation_chains_like_a_test_chain_are_left_out_and_training_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("ISOMETRY_CACHE", str(tmp_path / "cache"))
    train, valid, test = (simulated(n, seed, 100, 120) for n, seed in ((9, 1), (5, 2), (4, 3)))
    near = dataclasses.replace(valid[2], sequence=test[1].sequence[:70] + "GGSGG", ss3=None)
    of_valid = dataclasses.replace(train[4], sequence="M" + near.sequence, ss3=None)
    parts = {"train": [*train[:4], of_valid], "valid": [*valid[:2], near], "cb513": test}
    files = {name: written(tmp_path, f"{name}.ss", records) for name, records in parts.items()}
    monkeypatch.setattr("isometry_data.catalogue.locate", lambda name, part=None: files[part])
    shipped, preset = (
        APP.data(APP.presets["netsurfp2"].changed(data={"with_cb6133": False, "with_valid_like_test": kept}))
        for kept in (True, False)
    )
    names = [
        [r.name for r in part.records] for data in (shipped, preset) for part in (data.train, data.valid, data.test)
    ]
    assert names[1] == ["simulated_2_0", "simulated_2_1", "simulated_2_2"]
    assert names[4] == names[1][:2]
    assert names[3] == names[0] == [r.name for r in train[:4]], "also without the chain like the one that was left out"
    assert names[5] == names[2]
    assert "valid: 1 chains left out, 25% or more identical to one of test (found by words)" in preset.notes
    assert not any(note.startswith("valid: 1 chains left") for note in shipped.notes)


def test_a_users_test_set_is_had_without_the_training_files(state_file, tmp_path):
    known = written(tmp_path, "known.ss", simulated(3, 2))
    settings = of_files(train=(state_file,), test=(known,))
    data = APP.data(settings)
    state_file.unlink()
    test, sums = APP.tested(settings)
    assert [r.sequence for r in test.records] == [r.sequence for r in data.test.records]
    assert sums == {"known.ss": data.checksums["known.ss"]}
    assert APP.tested(settings.changed(data={"test": ()})) == (None, {})


@pytest.mark.parametrize("names", [("train.ss", "known.ss"), ("a/part.ss", "b/part.ss")])
def test_a_test_set_that_changed_since_training_is_refused(tmp_path, names):
    for folder in "ab":
        (tmp_path / folder).mkdir()
    train, known = (written(tmp_path, name, simulated(*of)) for name, of in zip(names, ((40, 1), (3, 2)), strict=True))
    settings = of_files(train=(train,), test=(known,))
    checkpoint = SimpleNamespace(manifest={"data": APP.data(settings).checksums})
    loaded = Loaded(APP, settings, None, checkpoint, None)  # type: ignore[arg-type]
    assert len(own_test_set(loaded)) == 3
    written(tmp_path, names[1], simulated(4, 2))
    with pytest.raises(ValueError, match=rf"not those this model was trained on \({known.name}: .* is none of theirs"):
        own_test_set(loaded)


def test_training_chains_in_place_of_the_test_set_are_refused(tmp_path):
    train, known = written(tmp_path, "train.ss", simulated(40, 1)), written(tmp_path, "known.ss", simulated(3, 2))
    settings = of_files(train=(train,), test=(known,))
    checkpoint = SimpleNamespace(manifest={"data": APP.data(settings).checksums})
    known.write_bytes(train.read_bytes())
    with pytest.raises(ValueError, match=r"known\.ss: .* is none of theirs"):
        own_test_set(Loaded(APP, settings, None, checkpoint, None))  # type: ignore[arg-type]


LEARNT = {"heads": ("regression", "classes"), "n_values": 2, "value_names": ("tm", "ph"), "n_classes": 2}
LEARNT |= {"class_names": ("acid", "base")}


def beside(tmp_path, text, **model):
    """Three proteins, and a table of labels, as a network with `LEARNT` heads reads them."""
    fasta, table = tmp_path / "three.fasta", tmp_path / "labels.csv"
    fasta.write_text(">p\nMKV\n>q\nGGW\n>r\nAAA\n")
    table.write_text(text)
    return APP.read(TINY.changed(model={**LEARNT, **model}), [fasta, table])


def test_labels_of_whole_proteins_stand_beside_a_users_sequences(tmp_path):
    read = beside(tmp_path, "name,class,ph,other,tm\nq,base,7,9,50\nr,,,9,40\nelsewhere,acid,1,1,1\n")
    values, kinds = torch.stack([read[i].value for i in range(3)]), [int(read[i].kind) for i in range(3)]
    torch.testing.assert_close(values, torch.tensor([[torch.nan, torch.nan], [50, 7], [40, torch.nan]]), equal_nan=True)
    assert kinds == [-1, 1, -1], "classes are counted as in training, whichever the table holds"
    spaced = beside(tmp_path, "name, class, tm\nq , base, 50\n")
    assert int(spaced[1].kind) == 1
    assert float(spaced[1].value[0]) == 50
    only = beside(tmp_path, "name,class\np,acid\n", heads=("classes",), n_values=0, value_names=())
    assert [int(only[i].kind) for i in range(3)] == [0, -1, -1]


def test_labels_of_whole_proteins_are_data_whose_change_is_noticed(state_file, tmp_path):
    labels = tmp_path / "labels.csv"
    settings = of_files(train=(state_file,), test=(written(tmp_path, "test.ss", simulated(2, 5)),), labels=labels)
    names = [record.name for record in simulated(40, 1)]
    sums = []
    for value in (1, 2):
        labels.write_text("name,tm\n" + "".join(f"{name},{value}\n" for name in names))
        data = APP.data(settings.changed(model={"heads": ("ss", "regression")}))
        assert APP.tested(APP.learn(settings.changed(model={"heads": ("ss", "regression")}), data))[1].items() <= (
            data.checksums.items()
        )
        sums.append(data.checksums)
    assert sums[0] != sums[1]


@pytest.mark.parametrize(
    ("text", "model", "message"),
    [
        ("name,depth\np,1\n", {}, r"labels\.csv: no column that this network has a head for; expected tm, ph, class"),
        ("name,tm\np,1\n", {"heads": ("ss",)}, r"no column that this network has a head for; leave the file out"),
        ("name,class\np,salt\n", {}, r"class 'salt', which this network did not learn; expected acid, base"),
        ("name,tm\nforeign,1\n", {}, r"labels of none of the proteins; expected names as in .*three\.fasta, line 1"),
        ("name,sequence,tm\np,MKV,1\n", {}, r"line 1: a column sequence; write sequences as FASTA"),
        ("name,tm,tm\np,1,2\n", {}, r"line 1: two columns 'tm'; give each a name of its own"),
    ],
)
def test_a_table_that_fits_neither_network_nor_proteins_is_refused(tmp_path, text, model, message):
    with pytest.raises(ValueError, match=message):
        beside(tmp_path, text, **model)


def test_a_table_alone_or_beside_another_is_refused(tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text("name,tm\np,1\n")
    settings = TINY.changed(model=LEARNT)
    with pytest.raises(ValueError, match=r"labels\.csv: labels without sequences; name the FASTA"):
        APP.read(settings, [table])
    with pytest.raises(ValueError, match="a second table of labels"):
        APP.read(settings, [table, table])


def test_the_test_set_is_had_without_the_search_for_near_copies(tmp_path, monkeypatch):
    parts = {name: simulated(n, n, 100, 120) for name, n in (("train", 9), ("valid", 5), ("cb513", 4))}
    files = {name: written(tmp_path, f"{name}.ss", records) for name, records in parts.items()}
    monkeypatch.setattr("isometry_data.catalogue.locate", lambda name, part=None: files[part])
    monkeypatch.setenv("ISOMETRY_CACHE", str(tmp_path / "cache"))
    settings = APP.presets["netsurfp2"].changed(data={"with_cb6133": False})
    data = APP.data(settings)
    monkeypatch.setattr("isometry_protein.leaks.near_copies", None)
    for name in ("train", "valid"):
        files[name].unlink()
    test, sums = APP.tested(settings.changed(data={"search": "mmseqs", "with_cb6133": True}))
    assert [r.sequence for r in test.records] == [r.sequence for r in data.test.records]
    assert sums == {"cb513.ss": data.checksums["cb513.ss"]}
    test, sums = APP.tested(TINY.changed(data={"n_train": 5}))
    assert (len(test), list(sums)) == (300, ["seed"])


def test_a_checkpoint_from_before_keeps_its_validation_set():
    before = APP.presets["netsurfp2"].model_dump()
    del before["data"]["with_valid_like_test"]
    assert ProteinSettings.model_validate(before).data.with_valid_like_test
    assert not APP.presets["netsurfp2"].data.with_valid_like_test


def test_a_validation_set_without_the_deciding_labels_is_refused_before_training(state_file, tmp_path):
    valid = written(tmp_path, "valid.ss", simulated(4, 2))
    labels = tmp_path / "labels.csv"
    labels.write_text("name,x\n" + "".join(f"simulated_1_{i},{i}\n" for i in range(40)))
    settings = of_files(train=(state_file,), valid=(valid,), labels=labels)
    with pytest.raises(ValueError, match=r"labels of no validation protein for the head regression.*valid\.ss, line 1"):
        APP.data(settings.changed(model={"heads": ("regression", "ss")}))
    assert APP.data(settings.changed(model={"heads": ("ss", "regression")})).valid is not None


def test_proteins_to_predict_have_no_labels_of_their_own(state_file):
    settings = TINY.changed(model={"heads": ("regression",), "n_values": 2})
    assert torch.isnan(APP.read(settings, [state_file])[0].value).tolist() == [True, True]


def test_three_states_are_not_taken_for_those_of_another_mapping(state_file):
    other = {"model": {"mapping": "H/E"}}
    with pytest.raises(ValueError, match=r"model\.mapping is H/E, but the three states of NetSurfP-2\.0"):
        APP.data(APP.presets["netsurfp2"].changed(**other))
    settings = of_files(train=(state_file,))
    told = "three states alone are known (so of 40 of 40 chains); make sure that they are those of model.mapping H/E"
    assert any(told in note for note in APP.data(settings.changed(**other)).notes)
    assert not any("three states alone" in note for note in APP.data(settings).notes)


@pytest.mark.parametrize("source", ["simulated", "netsurfp2"])
@pytest.mark.parametrize("part", ["train", "valid", "test"])
def test_files_that_would_not_be_read_are_refused(state_file, source, part):
    with pytest.raises(
        ValueError, match=rf"data\.{part} names files, but data\.source is {source}.*--data\.source files"
    ):
        APP.data(TINY.changed(data={"source": source, part: (state_file,)}))


@pytest.mark.parametrize("table", ["name,x\nforeign,1\n", "name,x\nsimulated_1_0,\n", "name,class\nforeign,a\n"])
def test_labels_of_no_training_protein_are_refused(state_file, tmp_path, table):
    labels = tmp_path / "labels.csv"
    labels.write_text(table)
    head = "classes" if "class" in table else "regression"
    settings = of_files(train=(state_file,), labels=labels).changed(model={"heads": (head,)})
    with pytest.raises(ValueError, match=f"labels.csv: labels of no training protein for the head {head}"):
        APP.data(settings)


def test_labels_of_which_none_counts_are_refused(tmp_path):
    path = tmp_path / "masked.ss"
    path.write_text(">p\nMKVLA\nHHHCC\n.....\n00000\n")
    message = (
        "masked.ss, line 1, record p: its mask lets none of its labels count, as in every training protein.*write 1"
    )
    with pytest.raises(ValueError, match=message):
        APP.data(of_files(train=(path,)))
    with pytest.raises(ValueError, match=message.replace("training", "validation")):
        APP.data(of_files(train=(written(tmp_path, "train.ss", simulated(4, 1)),), valid=(path,)))


def test_a_protein_of_which_nothing_counts_is_told(tmp_path):
    records = simulated(9, 1)
    records[2] = dataclasses.replace(records[2], mask=np.zeros(len(records[2]), dtype=bool))
    (said,) = [n for n in APP.data(of_files(train=(written(tmp_path, "t.ss", records),))).notes if "mask is 0" in n]
    assert "t.ss, line 11, record simulated_1_2: its mask is 0 at every residue" in said
    assert "1 of 9 chains of this file); write 1 where they count, or leave it out" in said


def test_the_same_proteins_in_two_parts_are_refused(state_file, tmp_path):
    with pytest.raises(
        ValueError, match=r"data.train and data.test name the same file, .*train.ss.gz and .*train.ss.gz"
    ):
        APP.data(of_files(train=(state_file,), test=(tmp_path / "." / "train.ss.gz",)))
    copy = written(tmp_path, "copy.ss", simulated(40, 1)[10:30])
    message = (
        r"every sequence of data.valid is one of data.train, too, such as .*copy.ss, line 1, .* and .*line 51, .*; name"
    )
    with pytest.raises(ValueError, match=message):
        APP.data(of_files(train=(state_file,), valid=(copy,)))
    with pytest.raises(ValueError, match=r"data.valid and data.test name the same file"):
        APP.data(of_files(train=(written(tmp_path, "own.ss", simulated(9, 5)),), valid=(copy,), test=(copy,)))


def test_some_of_the_same_proteins_are_told(state_file, tmp_path):
    mixed = written(tmp_path, "mixed.ss", [*simulated(3, 2), *simulated(40, 1)[:2]])
    notes = APP.data(of_files(train=(state_file,), test=(mixed,))).notes
    (said,) = [note for note in notes if "are in data.train, too" in note]
    assert "data.test: 2 of 5 sequences" in said
    assert "mixed.ss, line 16, record simulated_1_0 and" in said
    assert "isometry leak" in said


def test_too_few_proteins_to_set_some_apart_are_told_with_a_remedy(tmp_path):
    path = written(tmp_path, "few.ss", simulated(5, 1))
    data = APP.data(of_files(train=(path,)))
    assert data.valid is None
    (said,) = [note for note in data.notes if "no validation set" in note]
    assert "the 5 training chains are 5 clusters of similar sequences, the smallest of 1" in said
    assert "give --data.valid FILE, or --data.valid-fraction 0.14" in said
    assert len(APP.data(of_files(train=(path,), valid_fraction=0.14)).valid) == 1, "the remedy helps"
    alike = written(tmp_path, "alike.ss", simulated(1, 1) * 5)
    (said,) = [note for note in APP.data(of_files(train=(alike,))).notes if "no validation set" in note]
    assert said.endswith("nothing is calibrated; give --data.valid FILE")


@pytest.mark.parametrize("seed", range(4))
def test_a_small_cluster_is_set_apart_whatever_the_order(tmp_path, seed):
    path = written(tmp_path, "two.ss", [*simulated(1, 1) * 12, *simulated(1, 2)])
    data = APP.data(of_files(train=(path,)).changed(seed=seed))
    assert (len(data.train), len(data.valid)) == (12, 1)


def test_every_pair_can_be_aligned_for_similar_sequences(state_file):
    by_all, by_words = (APP.data(of_files(train=(state_file,), search=search)) for search in ("all", "words"))
    assert [r.name for r in by_all.valid.records] == [r.name for r in by_words.valid.records]
