"""Settings are immutable, complete, and name what they do not understand, from Python, TOML and flags alike."""

import io

import pytest
from isometry.flags import with_flags
from isometry.run_settings import RunSettings, that_matter
from isometry.settings import canonical_json, differences, merged, read_toml, validated
from isometry_wave.train import APP, WaveSettings

TINY = APP.presets["tiny"]


def flagged(*flags: str) -> WaveSettings:
    return with_flags(TINY, flags, "test")


def test_a_change_leaves_every_sibling():
    changed = TINY.changed(optim={"schedule": {"floor": 0.5}})
    assert changed.optim.schedule.floor == 0.5
    back = changed.changed(optim={"schedule": {"floor": TINY.optim.schedule.floor}})
    assert back == TINY


def test_flags_and_python_agree():
    assert flagged() == TINY
    flags = ("--optim.schedule.floor", "0.5", "--fit.patience", "3", "--data.files", "a.csv", "b.csv", "--seed", "4")
    expected = TINY.changed(
        optim={"schedule": {"floor": 0.5}}, fit={"patience": 3}, data={"files": ("a.csv", "b.csv")}, seed=4
    )
    assert flagged(*flags) == expected
    assert flagged("--fit.patience", "None") == TINY
    assert flagged("--log.tensorboard").log.tensorboard is True


def test_settings_do_not_change_in_place():
    with pytest.raises(ValueError, match="frozen"):
        TINY.seed = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"optim": {"rat": 1}}, r"settings: unknown key 'optim\.rat', did you mean 'rate'\?"),
        ({"opt": {}}, r"settings: unknown key 'opt', did you mean 'optim'\?"),
        ({"fit": {"epochs": 0}}, r"settings: 'fit\.epochs' is 0: input should be greater than 0"),
        ({"fit": {"epochs": 1.5}}, r"'fit\.epochs' is 1\.5"),
        ({"optim": {"rate": float("nan")}}, r"'optim\.rate' is nan"),
        ({"precision": {"dtype": "fp8"}}, r"'precision\.dtype' is 'fp8'.*fp32"),
    ],
)
def test_a_mistake_names_key_value_and_expectation(changes, expected):
    with pytest.raises(ValueError, match=expected) as error:
        TINY.changed(**changes)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("--optim.rat", "1"), r"--optim\.rat"),
        (("--fit.epochs", "many"), "many"),
        (("--fit.epochs", "0"), "epochs"),
        (("--fit.epochs",), "epochs"),
        (("stray",), "stray"),
    ],
)
def test_a_mistaken_flag_is_one_line(flags, expected):
    with pytest.raises(ValueError, match=expected) as error:
        flagged(*flags)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


def test_a_mistaken_flag_is_told_without_a_frame(monkeypatch):
    monkeypatch.setattr("sys.stdout", io.StringIO())  # no UTF-8: tyro then draws with - + |
    with pytest.raises(ValueError, match=r"^flags: fit: epochs Input should be greater than 0$"):
        flagged("--fit.epochs", "0")


def test_toml_lies_between_preset_and_flags(tmp_path):
    (tmp_path / "s.toml").write_text("[fit]\nepochs = 3\n")
    found = validated(WaveSettings, merged(TINY.model_dump(), read_toml(tmp_path / "s.toml")), "s.toml")
    assert found == TINY.changed(fit={"epochs": 3})
    with pytest.raises(FileNotFoundError, match="no such settings file"):
        read_toml(tmp_path / "absent.toml")


def test_settings_survive_json():
    assert validated(WaveSettings, TINY.model_dump(mode="json"), "stored") == TINY


def test_differences_name_each_changed_key():
    old, new = TINY.model_dump(), TINY.changed(optim={"rate": 0.5}, seed=9).model_dump()
    assert differences(old, new) == ["optim.rate: 0.01 -> 0.5", "seed: 0 -> 9"]
    assert differences(old, old) == []
    assert canonical_json({"b": 1, "a": 2}) == canonical_json({"a": 2, "b": 1})


def test_where_and_how_a_run_is_computed_does_not_matter():
    one, other = RunSettings(), RunSettings(device="cpu").changed(fit={"workers": 3, "save_every": 1}, log={"every": 1})
    assert that_matter(one) == that_matter(other)
    assert that_matter(one) != that_matter(one.changed(seed=1))
