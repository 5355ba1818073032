"""The plan of the house: who may look at whom, what a room contains, and how large things may grow."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import NamedTuple

import isometry
import pytest
from isometry.app import APP_FILES, find_apps

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = sorted(p.parent for root in ("core", "data", "apps") for p in (ROOT / root).glob("*/__init__.py"))
APPS = [package for package in PACKAGES if package.parent.name == "apps"]
SOURCES = sorted(file for package in PACKAGES for file in package.rglob("*.py"))
ENGINE, DATA = "isometry", "isometry_data"

MOST_LINES = 400  # of a file
MOST_LINES_OF_A_BODY = 60  # of a function, its docstring aside
NAMES_THAT_SAY_NOTHING = {"utils", "util", "helpers", "helper", "common", "base", "misc", "manager", "tools"}
HEADINGS = [
    "Question",
    "Input and output",
    "Model in five lines and its source",
    "Data, split, licence",
    "Scores against baselines",
    "Not for",
    "Checkpoints",
    "Reproduce",
]
WORDS_OF_A_SCIENCE = re.compile(
    r"(?<![a-z])(atom|atomic|crystal|lattice|molecule|molecular|angstrom|residue|genome|genomic|protein|ligand|peptide"
    r"|nucleotide|codon|enzyme|dosage)s?(?![a-z])"
)
UNITS_OF_A_SCIENCE = re.compile(r"\beV\b|Å")
HEAVY = {"torch", "numpy", "scipy", "matplotlib", "ase", "e3nn", "torch_geometric", "Bio", "tyro", "rich", "pydantic"}

# A distribution that another library imports for us, by what we import to get it.
THROUGH = {"torch.utils.tensorboard": "tensorboard"}


class Import(NamedTuple):
    """One imported module, as written at one place."""

    file: Path
    line: int
    module: str
    is_for_types: bool
    """Under `if TYPE_CHECKING:`."""


def nodes(tree: ast.AST, is_for_types: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """Every node, and whether only type checkers see it."""
    for child in ast.iter_child_nodes(tree):
        yield child, is_for_types
        guarded = isinstance(child, ast.If) and ast.unparse(child.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        yield from nodes(child, is_for_types or guarded)


@cache
def imports_of(file: Path) -> tuple[Import, ...]:
    """Every import of a file, also inside functions; `from a import b` counts as `a`, or as `a.b` if that is a file."""
    found = []
    for node, is_for_types in nodes(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [Import(file, node.lineno, alias.name, is_for_types) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: imports are absolute"
            found += [Import(file, node.lineno, m, is_for_types) for m in modules_of(node)]
    return tuple(found)


def modules_of(node: ast.ImportFrom) -> set[str]:
    assert node.module is not None
    full = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return {full[name] if full[name] in FILES else node.module for name in full}


def module_of(file: Path) -> str:
    """The dotted name under which a source file is imported."""
    parts = file.relative_to(ROOT).with_suffix("").parts[1:]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_of(file): file for file in SOURCES}


def top(module: str) -> str:
    return module.partition(".")[0]


def reached_from(module: str, at_run_time: bool = False) -> set[str]:
    """Our modules that `module` loads, directly or through others; `at_run_time`: without type checkers' imports."""
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        found = imports_of(FILES[waiting.pop()])
        new = {i.module for i in found if i.module in FILES and not (at_run_time and i.is_for_types)} - seen
        seen |= new
        waiting += new
    return seen


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def places(imports: list[Import]) -> list[str]:
    return [f"{named(found.file)}:{found.line} imports {found.module}" for found in imports]


# Who may look at whom


def test_the_engine_knows_no_science() -> None:
    ours = {package.name for package in PACKAGES} - {ENGINE}
    own = [found for file in FILES.values() if top(module_of(file)) == ENGINE for found in imports_of(file)]
    assert not places([found for found in own if top(found.module) in ours])


@pytest.mark.parametrize("file", sorted((ROOT / "core").rglob("*.py")), ids=named)
def test_the_engine_speaks_of_no_science(file: Path) -> None:
    lines = enumerate(file.read_text(encoding="utf-8").splitlines(), start=1)
    assert not [f"{named(file)}:{number}: {line.strip()}" for number, line in lines if speaks_of_science(line)]


def speaks_of_science(line: str) -> bool:
    # CamelCase is cut into words; the pattern itself cuts at _.
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", line).lower()
    return bool(WORDS_OF_A_SCIENCE.search(words) or UNITS_OF_A_SCIENCE.search(line))


@pytest.mark.parametrize(
    "line", ["n_atoms", "AtomTable", "crystal", "in eV", "5 Å", "ProteinModel", "an atomic number"]
)
def test_a_word_of_science_is_noticed(line: str) -> None:
    assert speaks_of_science(line)


def test_data_knows_no_engine_no_app_and_no_torch() -> None:
    forbidden = {package.name for package in PACKAGES} - {DATA} | {"torch", "torch_geometric", "e3nn"}
    own = [found for file in FILES.values() if top(module_of(file)) == DATA for found in imports_of(file)]
    assert not places([found for found in own if top(found.module) in forbidden])


@pytest.mark.parametrize("app", APPS, ids=lambda app: app.name)
def test_an_app_knows_no_other_app(app: Path) -> None:
    others = {other.name for other in APPS} - {app.name}
    own = [found for file in app.rglob("*.py") for found in imports_of(file)]
    assert not places([found for found in own if top(found.module) in others])


@pytest.mark.parametrize("app", APPS, ids=lambda app: app.name)
@pytest.mark.parametrize(
    ("room", "never"),
    [("dataset", "model"), ("model", "dataset"), ("objective", "train"), ("objective", "predict"), ("model", "train")],
)
def test_a_room_of_an_app_does_not_see_another(app: Path, room: str, never: str) -> None:
    assert f"{app.name}.{never}" not in reached_from(f"{app.name}.{room}")


@pytest.mark.parametrize("app", APPS, ids=lambda app: app.name)
def test_an_objective_knows_no_file_paths(app: Path) -> None:
    assert not places([found for found in imports_of(app / "objective.py") if top(found.module) in ("pathlib", "os")])


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_imports_run_one_way(package: Path) -> None:
    cyclic = [module for module in FILES if top(module) == package.name and module in reached_from(module, True)]
    assert not cyclic


# What is in a room, and how large it may grow


@pytest.mark.parametrize("app", APPS, ids=lambda app: app.name)
def test_every_app_has_the_same_files(app: Path) -> None:
    assert [name for name in (*APP_FILES, "README.md") if not (app / name).is_file()] == []
    assert app.name.removeprefix("isometry_") in find_apps()


@pytest.mark.parametrize("app", APPS, ids=lambda app: app.name)
def test_every_model_card_has_the_same_headings(app: Path) -> None:
    assert re.findall(r"^## (.+)$", (app / "README.md").read_text(encoding="utf-8"), re.M) == HEADINGS


def test_the_roots_hold_nothing_but_packages() -> None:
    # Whatever lies beside the packages would be installed at the top of site-packages.
    beside = [p for root in ("core", "data", "apps") for p in (ROOT / root).iterdir() if p not in PACKAGES]
    assert [named(path) for path in beside if path.name not in ("__pycache__", ".ipynb_checkpoints")] == []
    assert all(package.name == ENGINE or package.name.startswith("isometry_") for package in PACKAGES)


@pytest.mark.parametrize("file", SOURCES, ids=named)
def test_a_file_is_one_idea(file: Path) -> None:
    assert file.stem not in NAMES_THAT_SAY_NOTHING
    tree = ast.parse(file.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "a file says in its first line what it is"
    assert len(file.read_text(encoding="utf-8").splitlines()) <= MOST_LINES
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert {f.name: body_lines(f) for f in functions if body_lines(f) > MOST_LINES_OF_A_BODY} == {}


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    has_docstring = ast.get_docstring(function) is not None
    body = function.body[1:] if has_docstring else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_no_file_names_a_machine() -> None:
    machine = re.compile("|".join(re.escape("/" + name + "/") for name in ("root", "work", "home", "Users", "tmp/dev")))
    kinds = {".py", ".md", ".toml", ".json", ".sh", ".txt", ".cfg", ""}
    folders = ("core", "data", "apps", "tests", "examples", "docs", "benchmarks", ".ci")
    inside = [path for folder in folders for path in (ROOT / folder).rglob("*")]
    files = [path for path in (*ROOT.iterdir(), *inside) if path.is_file() and path.suffix in kinds]
    assert [named(path) for path in files if machine.search(path.read_text(encoding="utf-8", errors="replace"))] == []


# What is loaded and declared


@pytest.mark.parametrize(
    "code",
    [
        "import isometry",
        "from isometry.cli import main; main(['--help'])",
        "from isometry.cli import main; main(['apps'])",
    ],
)
def test_the_first_answer_loads_nothing_heavy(code: str) -> None:
    program = (
        f"import sys\ntry:\n    {code}\nexcept SystemExit:\n    pass\n"
        f"print('LOADED', *sorted(sys.modules.keys() & set({sorted(HEAVY)})))"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[-1] == "LOADED"


def test_every_dependency_is_imported_and_every_import_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [line for name, lines in project["optional-dependencies"].items() if name != "dev" for line in lines]
    declared = {re.split(r"[\[<>=~!; ]", line)[0].lower() for line in project["dependencies"] + extras}
    assert third_party() - declared == set(), "imported, but not declared in pyproject.toml"
    assert declared - third_party() == set(), "declared in pyproject.toml, but imported nowhere"


def third_party() -> set[str]:
    """The distributions that our packages import."""
    modules = {found.module for file in SOURCES for found in imports_of(file)}
    outside = {top(module) for module in modules} - sys.stdlib_module_names - {package.name for package in PACKAGES}
    distributions = packages_distributions()
    through = {distribution for module, distribution in THROUGH.items() if module in modules}
    return {distributions.get(module, [module])[0].lower() for module in outside} | through


def test_the_version_is_said_once() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" in pyproject["project"]["dynamic"]
    assert (
        f'__version__ = "{isometry.__version__}"' in (ROOT / pyproject["tool"]["hatch"]["version"]["path"]).read_text()
    )
    assert f"## [{isometry.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
