"""Checkpoints: whole or noticed, the right ones kept, nothing in them runs."""

import hashlib
import json
import math
import os
import pickle
import shutil
from pathlib import Path

import isometry
import pytest
import torch
from isometry import manifest
from isometry.checkpoint import Vault, read_checkpoint

EVERY_FILE = ["manifest.json", "weights.safetensors", "state.safetensors", "state.json"]


def save(vault, step, **fields):
    weights = {"w": torch.full((40,), float(step)), "b": torch.arange(3) * step}
    return vault.save(step, weights, {"step": step, "moment": torch.full((40,), -float(step))}, **fields)


def reseal(folder, **changes):
    """Write the manifest anew with changes, as a hostile or newer writer could: with a digest that fits."""
    path = folder / "manifest.json"
    fields = json.loads(path.read_text())
    fields.pop("sha256")
    path.write_bytes(manifest.sealed(fields | changes))


def reseal_file(folder, name, content):
    """Replace a file of the checkpoint and make the manifest agree with it."""
    (folder / name).write_bytes(content)
    files = json.loads((folder / "manifest.json").read_text())["files"]
    digest = hashlib.sha256(content).hexdigest()
    reseal(folder, files=files | {name: {"bytes": len(content), "sha256": digest}})


@pytest.fixture
def told():
    return []


@pytest.fixture
def vault(tmp_path, told):
    return Vault(tmp_path / "checkpoints", tell=told.append)


def test_a_checkpoint_comes_back_complete(vault):
    settings = {"optim": {"rate": 1e-3, "betas": [0.9, 0.999]}, "name": "Ångström"}
    path = save(vault, 1200, app="crystal", settings=settings, data={"train": "ab12"}, score=0.5, scores={"mae": 0.5})
    found = read_checkpoint(path, app="crystal")
    assert path.name == "step-00001200"
    assert sorted(os.listdir(path)) == sorted(EVERY_FILE)
    assert (found.step, found.app, found.settings, found.score, found.scores) == (
        1200,
        "crystal",
        settings,
        0.5,
        {"mae": 0.5},
    )
    assert found.manifest["format"] == 1
    assert found.manifest["data"] == {"train": "ab12"}
    assert found.manifest["versions"]["isometry"] == isometry.__version__
    assert set(found.manifest["versions"]) >= {"isometry", "torch", "python", "numpy"}
    assert torch.equal(found.weights()["w"], torch.full((40,), 1200.0))
    assert found.state()["step"] == 1200
    assert vault.newest() == found


def test_a_shipped_checkpoint_holds_weights_only(vault):
    path = vault.save(3, {"w": torch.ones(2)})
    assert sorted(os.listdir(path)) == ["manifest.json", "weights.safetensors"]
    assert not read_checkpoint(path).has_state
    with pytest.raises(ValueError, match="weights only"):
        read_checkpoint(path).state()


def test_tied_strided_and_unusual_weights_come_back_by_name(vault):
    tied = torch.randn(4, 3)
    weights = {"a": tied, "b": tied, "t": tied.T, "part": tied[1:], "c": torch.randn(3, dtype=torch.complex128)}
    weights |= {"p": torch.nn.Parameter(torch.ones(2)), "empty": torch.zeros(0, 2), "scalar": torch.tensor(3.0)}
    back = read_checkpoint(vault.save(1, weights)).weights()
    assert list(back.keys() ^ weights.keys()) == []
    assert all(torch.equal(back[name], weights[name]) and back[name].dtype == weights[name].dtype for name in weights)


def test_what_cannot_be_stored_is_refused_before_anything_is_written(vault):
    save(vault, 1)
    for weights, state, fields in [
        ({"w": 3}, {}, {}),
        ({"w": torch.ones(2)}, {"a": object()}, {}),
        ({"w": torch.ones(2)}, {}, {"settings": {"x": object()}}),
    ]:
        with pytest.raises(TypeError):
            vault.save(2, weights, state, **fields)
    assert os.listdir(vault.folder) == ["step-00000001"]


def test_an_empty_vault_has_no_newest_and_no_best(vault):
    assert vault.newest() is None
    assert vault.best() is None


@pytest.mark.parametrize("name", EVERY_FILE)
def test_a_file_cut_anywhere_is_noticed_and_passed_over(vault, told, name):
    good, bad = save(vault, 1), save(vault, 2)
    whole = (bad / name).read_bytes()
    for length in sorted({len(whole) * part // 64 for part in range(64)} | {len(whole) - 1}):
        (bad / name).write_bytes(whole[:length])
        told.clear()
        assert vault.newest().path == good
        (line,) = told
        assert line.startswith(f"checkpoint step-00000002 is damaged ({name}: ")
        assert line.endswith("falling back to step-00000001")
        with pytest.raises(ValueError, match=f"is damaged .{name}: "):
            read_checkpoint(bad)


@pytest.mark.parametrize("name", EVERY_FILE)
def test_one_flipped_bit_anywhere_is_noticed(vault, told, name):
    good, bad = save(vault, 1), save(vault, 2)
    whole = (bad / name).read_bytes()
    for place in range(0, len(whole), 1 + len(whole) // 300):
        (bad / name).write_bytes(whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :])
        assert vault.newest().path == good, (name, place)
        assert name in told[-1]


@pytest.mark.parametrize("name", EVERY_FILE)
def test_a_missing_file_a_folder_a_pipe_or_a_link_in_its_place_is_noticed(vault, told, name, tmp_path):
    good, bad = save(vault, 1), save(vault, 2)
    outside = tmp_path / name
    shutil.move(bad / name, outside)
    for put in [lambda _: None, os.mkdir, os.mkfifo, lambda path: os.symlink(outside, path)]:
        put(bad / name)
        assert vault.newest().path == good
        assert name in told[-1]
        if (bad / name).is_dir():
            os.rmdir(bad / name)
        (bad / name).unlink(missing_ok=True)


def test_a_file_changed_after_it_was_verified_is_noticed_when_read(vault):
    found = read_checkpoint(save(vault, 1))
    content = (found.path / "weights.safetensors").read_bytes()
    (found.path / "weights.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ValueError, match=r"weights\.safetensors: sha256 differs"):
        found.weights()


def test_all_damaged_is_an_error_that_names_each(vault):
    for step in (1, 2):
        (save(vault, step) / "state.json").write_text("{}")
    with pytest.raises(ValueError, match=r"no checkpoint can be read: step-00000002.*step-00000001.*afresh"):
        vault.newest()


def test_a_newer_format_is_refused_not_passed_over(vault):
    save(vault, 1)
    reseal(save(vault, 2), format=2)
    message = "made by format 2, this isometry reads up to 1: upgrade"
    for read in (vault.newest, vault.best, lambda: read_checkpoint(vault.folder / "step-00000002")):
        with pytest.raises(ValueError, match=message):
            read()
    assert vault.newest(max_step=1).step == 1


def test_reading_says_clearly_what_is_wrong(vault, tmp_path):
    with pytest.raises(FileNotFoundError, match="no such checkpoint folder"):
        read_checkpoint(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"no manifest\.json"):
        read_checkpoint(tmp_path)
    with pytest.raises(ValueError, match="of the app 'crystal', expected 'genome'"):
        read_checkpoint(save(vault, 1, app="crystal"), app="genome")


def test_newest_up_to_a_step(vault):
    vault.keep = 9
    for step in (1, 5, 9):
        save(vault, step)
    assert [vault.newest(max_step=step).step for step in (9, 8, 5, 4)] == [9, 5, 5, 1]
    assert vault.newest(max_step=0) is None


def test_steps_are_ordered_as_numbers(vault):
    for step in (99_999_999, 100_000_000, 100_000_001):
        save(vault, step)
    assert vault.newest().step == 100_000_001


@pytest.mark.parametrize(("better", "best"), [("smaller", 2), ("larger", 4)])
def test_the_last_and_the_best_are_kept(tmp_path, better, best):
    vault = Vault(tmp_path, keep=2, better=better)
    for step, score in enumerate([5.0, 1.0, 2.0, 9.0, 3.0, math.nan, None], start=1):
        save(vault, step, score=score)
    assert sorted(os.listdir(tmp_path)) == [f"step-{step:08d}" for step in (best, 6, 7)]
    assert vault.best().step == best
    assert vault.newest().step == 7


@pytest.mark.parametrize("better", ["smaller", "larger"])
def test_of_equal_scores_the_earlier_step_is_the_best(tmp_path, better):
    vault = Vault(tmp_path, keep=1, better=better)
    for step in (1, 2, 3, 4):
        save(vault, step, score=1.0)
    assert vault.best().step == 1
    assert sorted(os.listdir(tmp_path)) == ["step-00000001", "step-00000004"]


def test_without_scores_the_newest_is_the_best(vault):
    save(vault, 1, score=math.nan)
    save(vault, 2)
    assert vault.best().step == 2


def test_a_damaged_best_falls_back_to_the_next_best(vault, told):
    for step, score in [(1, 1.0), (2, 3.0), (3, 2.0)]:
        save(vault, step, score=score)
    (vault.folder / "step-00000001" / "weights.safetensors").write_bytes(b"")
    assert vault.best().step == 3
    (line,) = told
    assert line.startswith("checkpoint step-00000001 is damaged (weights.safetensors: 0 bytes, expected ")
    assert line.endswith("falling back to step-00000003")


def test_a_step_saved_again_supersedes_the_one_before(vault):
    save(vault, 1)
    save(vault, 2, score=9.0)
    again = save(vault, 2, score=1.0)
    assert vault.newest().path == again
    assert vault.best().score == 1.0
    assert sorted(os.listdir(vault.folder)) == ["step-00000001", "step-00000002-2"]
    assert save(vault, 2).name == "step-00000002-3"


def test_a_scored_checkpoint_stays_the_best_when_its_step_is_saved_again_without_a_score(vault):
    save(vault, 1, score=2.0)
    scored = save(vault, 2, score=1.0)
    again = save(vault, 2)
    for step in (3, 4, 5):
        save(vault, step)
    assert vault.best().path == scored
    assert not again.exists()


def test_a_run_that_went_back_forgets_the_later_checkpoints(vault):
    vault.keep = 9
    for step in (1, 2, 3):
        save(vault, step)
    (vault.folder / "step-00000003" / "state.json").write_text("damaged")
    vault.forget_after(1)
    assert os.listdir(vault.folder) == ["step-00000001"]
    assert vault.newest().step == 1


def test_other_things_in_the_folder_are_left_alone(vault):
    save(vault, 1)
    (vault.folder / "step-00000009").write_text("a file")
    (vault.folder / "notes").mkdir()
    (vault.folder / "step-00000008").symlink_to(vault.folder / "step-00000001")
    for step in (2, 3, 4):
        save(vault, step)
    assert vault.newest().step == 4
    assert {"step-00000009", "notes", "step-00000008"} < set(os.listdir(vault.folder))


@pytest.mark.parametrize("files", [
    {"../outside": {"bytes": 1, "sha256": "0"}},
    {"weights.safetensors": {"bytes": 1, "sha256": "0"}, "/etc/passwd": {"bytes": 1, "sha256": "0"}},
    {"weights.safetensors": "no entry"}, {}, [], None,
])  # fmt: skip
def test_a_manifest_that_names_other_files_is_refused(vault, files):
    path = save(vault, 1)
    reseal(path, files=files)
    with pytest.raises(ValueError, match=r"manifest\.json: "):
        read_checkpoint(path)


@pytest.mark.parametrize("text", [b"", b"[]", b"3", b"{", b"\xff\xfe", b"[" * 100_000, b'{"format": 1}'])
def test_a_manifest_that_is_none_is_refused_even_with_a_seal_that_fits(vault, text):
    path = save(vault, 1)
    (path / "manifest.json").write_bytes(text)
    with pytest.raises(ValueError, match=r"manifest\.json: "):
        read_checkpoint(path)
    body = text.decode("latin-1")
    digest = hashlib.sha256(body.encode()).hexdigest()
    (path / "manifest.json").write_text(f'{body},\n  "sha256": "{digest}"\n}}\n')
    with pytest.raises(ValueError, match=r"manifest\.json: "):
        read_checkpoint(path)


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return (open, (self.mark, "w"))


def test_no_code_in_the_folder_runs(vault, tmp_path):
    mark = tmp_path / "ran"
    bomb = pickle.dumps(Bomb(mark))
    path = save(vault, 1)
    for name in ("weights.pt", "state.pkl", "data.pkl", "__init__.py", "sitecustomize.py"):
        (path / name).write_bytes(bomb)
    assert read_checkpoint(path).state()["step"] == 1
    for name in EVERY_FILE:
        target = save(vault, 2)
        (target / name).write_bytes(bomb)
        assert vault.newest().path != target
        if name != "manifest.json":
            reseal_file(target, name, bomb)
            found = read_checkpoint(target)
            with pytest.raises(ValueError, match=name):
                (found.weights if name.startswith("weights") else found.state)()
    assert not mark.exists()


@pytest.mark.parametrize("text", [
    '{"__reduce__": ["os.system", "true"]}', '{"tensor": "x", "dtype": "load"}', '{"array": "x", "dtype": "O"}',
    "[" * 100_000, "\xff", "", '{"tensor": "nowhere"}', '{"array": "x", "dtype": "<f8", "shape": [99999999999]}',
])  # fmt: skip
def test_a_state_that_is_none_is_refused(vault, text):
    path = save(vault, 1)
    reseal_file(path, "state.json", text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"state\.json: not the state of a run"):
        read_checkpoint(path).state()


def test_the_modules_that_read_checkpoints_know_no_way_to_run_code():
    folder = Path(isometry.__file__).parent
    for name in ("checkpoint", "manifest", "tree", "durable", "runfolder"):
        source = (folder / f"{name}.py").read_text()
        source = source.replace("safetensors.torch.load(", "")
        for word in ("pickle", "torch.load", "marshal", "import_module", "__import__", "eval(", "exec("):
            assert word not in source, (name, word)


def test_settings_of_a_vault_are_checked(tmp_path):
    with pytest.raises(ValueError, match="at least one"):
        Vault(tmp_path, keep=0)
    with pytest.raises(ValueError, match="expected 'smaller' or 'larger'"):
        Vault(tmp_path, better="lower")


def test_whoever_may_read_the_manifest_may_read_the_weights(tmp_path):
    folder = Vault(tmp_path).save(1, {"w": torch.zeros(3)}, {"t": torch.ones(2)})
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1
