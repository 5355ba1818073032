"""What the READMEs show works: their code and their commands are run, trainings for one epoch each.

Commands that make environments, start several processes, train longer presets, need third-party data (ISOMETRY_DATA=…)
or a reader's own file (yours…) are checked up to their last flag (`test_a_command_is_understood`, once per command) and
are not run.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tomllib
from itertools import dropwhile
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from isometry import cli
from isometry.app import find_apps, load_app
from isometry.choice import chosen
from isometry.settings import merged, validated

ROOT = Path(__file__).resolve().parents[1]
READMES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "examples" / "README.md"]
READMES += sorted((ROOT / "apps").glob("*/README.md"))
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
IS_VARIABLE = re.compile(r"[A-Z_]+=")
ONE_EPOCH = ["--fit.epochs", "1"]


class Block(NamedTuple):
    """A fenced block of a document."""

    kind: str
    text: str


def blocks(document: Path) -> list[Block]:
    return [Block(*match.groups()) for match in FENCE.finditer(document.read_text(encoding="utf-8"))]


def commands(block: Block, *, with_data: bool = True) -> list[list[str]]:
    """The command lines of a block as words, without comments and environment variables."""
    lines = block.text.replace("\\\n", " ").splitlines()
    split = (shlex.split(line, comments=True) for line in lines if with_data or "ISOMETRY_DATA=" not in line)
    return [list(dropwhile(IS_VARIABLE.match, words)) for words in split if words]


def all_commands() -> list[Any]:
    """Every command of every document, once."""
    found = {
        shlex.join(words): words for file in READMES for b in blocks(file) if b.kind == "sh" for words in commands(b)
    }
    return [pytest.param(words, id=line) for line, words in found.items()]


def arguments_of(words: list[str]) -> list[str] | None:
    """What the command line `isometry` is given; None for another program."""
    if words[0] == "isometry":
        return words[1:]
    if "isometry" in words and words[words.index("isometry") - 1] == "-m":  # python -m, torchrun … -m
        return words[words.index("isometry") + 1 :]
    script = next((word for word in words if re.fullmatch(r"apps/isometry_\w+/train\.py", word)), None)
    if script is None:
        return None
    assert (ROOT / script).is_file()
    return ["train", Path(script).parent.name.removeprefix("isometry_"), *words[words.index(script) + 1 :]]


def settings_of(arguments: list[str]) -> None:
    """Parse a command as the command line would; a flag that does not exist is a ValueError."""
    options, rest = cli._parser().parse_known_args(arguments)
    if getattr(options, "app", None) is not None:
        assert options.app in find_apps()
    if getattr(options, "takes_settings", False) and not options.help:
        options.config = None  # checked as a TOML block of its own
        chosen(options, rest)
    else:
        assert rest == []


@pytest.mark.parametrize("words", all_commands())
def test_a_command_is_understood(words: list[str]) -> None:
    arguments = arguments_of(words)
    if arguments is not None:
        settings_of(arguments)
    elif words[0] == "make":
        subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, check=True, capture_output=True)
    elif words[:2] == ["pip", "install"]:
        extras = re.findall(r"\[(\w+)\]", words[-1])
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        assert set(extras) <= project["optional-dependencies"].keys()
    else:
        assert (ROOT / words[-1]).exists() or shutil.which(words[0]), f"{words[0]}: no such command"


def is_run(words: list[str]) -> bool:
    """Whether a command is short enough to be run here: our own, on the preset `tiny` and on files that exist."""
    if words[0] != "isometry" or "--help" in words:
        return False
    is_own = any(word.startswith("yours") for word in words)
    return "--preset" not in words and "files" not in words and not is_own


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder like a fresh clone's, as the place where commands are run."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    return tmp_path


@pytest.mark.parametrize("document", READMES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_document_runs_from_top_to_bottom(document: Path, desk: Path) -> None:
    namespace: dict[str, Any] = {"__name__": "readme"}
    for block in blocks(document):
        if block.kind == "sh":
            for words in filter(is_run, commands(block, with_data=False)):
                assert cli.main(shortened(words[1:])) == 0, " ".join(words)
        elif block.kind == "python" and not is_quoted(block):
            exec(compile(block.text, f"{document.name}, a python block", "exec"), namespace)
        elif block.kind == "toml":
            (desk / named_in(block)).write_text(block.text, encoding="utf-8")


def shortened(arguments: list[str]) -> list[str]:
    is_long = arguments[0] == "train" and "--fit.epochs" not in arguments
    return arguments + ONE_EPOCH if is_long else arguments


def named_in(block: Block) -> str:
    """The file that a block's first line, a comment, names; empty if none."""
    match = re.match(r"# (\S+\.\w+)\n", block.text)
    return match[1] if match else ""


def is_quoted(block: Block) -> bool:
    return (ROOT / named_in(block)).is_file()


def quotations() -> list[Any]:
    quoted = [(file, b) for file in READMES for b in blocks(file) if b.kind == "python" and is_quoted(b)]
    return [pytest.param(block, id=f"{file.name}, {named_in(block)}") for file, block in quoted]


@pytest.mark.parametrize("block", quotations())
def test_a_quotation_is_what_the_file_says(block: Block) -> None:
    _, _, code = block.text.partition("\n")
    assert code in (ROOT / named_in(block)).read_text(encoding="utf-8")


@pytest.mark.parametrize("document", READMES, ids=lambda path: str(path.relative_to(ROOT)))
def test_settings_files_are_settings(document: Path) -> None:
    for block in (b for b in blocks(document) if b.kind == "toml"):
        app = load_app("crystal")
        validated(app.settings, merged(app.presets["tiny"].model_dump(), tomllib.loads(block.text)), named_in(block))


@pytest.mark.parametrize("document", READMES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8"))
    local = [link for link in links if not link.startswith("http")]
    assert [link for link in local if not (document.parent / link).exists()] == []


def test_the_example_is_what_its_readme_makes(desk: Path) -> None:
    shipped = (ROOT / "examples" / "silicon.extxyz").read_bytes()
    os.remove(desk / "examples" / "silicon.extxyz")
    exec(next(b.text for b in blocks(ROOT / "examples" / "README.md") if b.kind == "python"), {})
    assert (desk / "silicon.extxyz").read_bytes() == shipped
