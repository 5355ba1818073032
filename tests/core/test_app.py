"""An app is found, not registered: any installed package of the right name and files, ours or foreign."""

import json
import sys
from pathlib import Path

import pytest
from isometry.app import APP_FILES, App, find_app, find_apps, load_app, preset
from isometry.cli import main

VERB = """
def add(commands):
    parser = commands.add_parser("greet", help="greet")
    parser.add_argument("name")
    parser.set_defaults(run=lambda options, rest: print(f'"hello {options.name}"') or 0)
    return parser
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """`package("name", files)`: an installed package isometry_<name>."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(name: str, **contents: str) -> Path:
        folder = tmp_path / f"isometry_{name}"
        folder.mkdir()
        for file in ("__init__.py", *APP_FILES):
            (folder / file).write_text(contents.get(file.removesuffix(".py"), ""))
        return folder

    yield install
    for module in [module for module in sys.modules if module.startswith("isometry_installed")]:
        del sys.modules[module]


def test_a_foreign_app_is_found_beside_ours():
    apps = find_apps()
    assert {"wave", "crystal"} <= set(apps)
    assert "data" not in apps, "a package without an app's files is none"
    assert (
        apps["wave"].summary == "A foreign app, as another laboratory would write it: a noisy sine wave fitted by a "
        "small network."
    )


def test_finding_apps_imports_none_of_them(package):
    package("installed", __init__='"""Fine."""\nraise SystemExit("imported")')
    assert find_app("installed").summary == "Fine."
    assert "isometry_installed" not in sys.modules


def test_a_broken_package_does_not_hide_the_others(package):
    package("installed", __init__="not python (")
    apps = find_apps()
    assert "wave" in apps
    assert apps["installed"].summary.startswith("cannot be read")
    with pytest.raises(ValueError, match=r"train\.py: cannot be imported"):
        load_app("installed")


def test_a_missing_library_of_an_app_is_named(package):
    package("installed", train="import no_such_library")
    with pytest.raises(ValueError, match=r"train\.py: cannot be imported: No module named 'no_such_library'"):
        load_app("installed")


def test_a_package_without_a_record_is_named(package):
    package("installed", train="APP = 3")
    with pytest.raises(ValueError, match=r"expected APP = isometry.App\(...\), found int"):
        load_app("installed")


def test_one_missing_file_is_no_app(package):
    (package("installed") / "predict.py").unlink()
    assert "installed" not in find_apps()
    with pytest.raises(ValueError, match=r"no app called 'installed' is installed; installed: .*wave"):
        find_app("installed")


def test_presets_are_looked_up_by_name():
    app = load_app("wave")
    assert isinstance(app, App)
    assert preset(app, "tiny") is app.presets["tiny"]
    with pytest.raises(ValueError, match="app wave has no preset 'big'; it has: tiny"):
        preset(app, "big")


def test_an_app_adds_a_command_by_a_file(package, capsys):
    folder = package("installed") / "verbs"
    folder.mkdir()
    (folder / "greet.py").write_text(VERB)
    assert main(["greet", "Ada", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == "hello Ada"


def test_a_command_that_cannot_be_had_is_told_and_hides_no_other(package, capsys):
    folder = package("installed") / "verbs"
    folder.mkdir()
    (folder / "greet.py").write_text(VERB.replace("greet", "train"))
    (folder / "leave.py").write_text("import no_such_library")
    assert main(["apps"]) == 0
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2
    assert "greet.py: this command cannot be had" in told[0]
    assert "train" in told[0]
    assert "leave.py: this command cannot be had: No module named 'no_such_library'" in told[1]
