"""The catalogue finds checked files, fetches what it can, and says what to do where it cannot."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from isometry_data import catalogue
from isometry_data.catalogue import DataFile, DataSet, datasets, locate
from isometry_data.checksums import sha256_of
from isometry_data.crystals import read_crystals
from isometry_data.mlearn import KBAR, content_of, convert_mlearn, convert_nbmotaw

PRINTED = 1e-8  # extended XYZ writes positions and forces with 8 decimals
SAME_STRESS = 1e-9  # eV/Å³; the prepared files used 1602.17662 kbar
FOLDER = os.environ.get("ISOMETRY_DATA", "")
needs_data = pytest.mark.skipif(
    not (Path(FOLDER) / "crystal" / "mlearn").is_dir(), reason="ISOMETRY_DATA has no crystal/mlearn"
)


def published(
    element: str, group: str, described: str, stress: list[float], cell: list, xyz: list, energy: float
) -> dict:
    """One entry as mlearn's JSON has it."""
    sites = [{"species": [{"element": element, "occu": 1}], "xyz": position, "label": element} for position in xyz]
    return {
        "structure": {"@class": "Structure", "lattice": {"matrix": cell}, "sites": sites},
        "num_atoms": len(xyz),
        "outputs": {"energy": energy, "forces": [[0.0, 0.0, 0.0]] * len(xyz), "virial_stress": stress},
        "element": element,
        "description": described,
        "group": group,
        "tag": "train",
    }


# The last two entries of data/Li/training.json, digit for digit.
CUBE = [[3.426817, 0.0, 0.0], [0.0, 3.426817, 0.0], [0.0, 0.0, 3.426817]]
SHEARED = [[3.426817, 0.0, 0.0], [0.068536, 3.426132, 0.0], [0.0, 0.0, 3.426817]]
LITHIUM = [
    published(
        *("Li", "Elastic", "Li 1x1x1 cell, mode 6, strain 0.01"),
        stress=[1.59319755, 1.60903926, 1.57717737, -0.39595569, 0.0, 0.0],
        cell=SHEARED,
        xyz=[[0.0, 0.0, 0.0], [1.7476764999999999, 1.713066, 1.7134085]],
        energy=-3.79728684,
    ),
    published(
        *("Li", "Elastic", "Ground state crystal"),
        stress=[1.52963439, 1.52963439, 1.52963439, 0.0, 0.0, 0.0],
        cell=CUBE,
        xyz=[[0.0, 0.0, 0.0], [1.7134085, 1.7134085, 1.7134085]],
        energy=-3.79784039,
    ),
]

# The first entry of MoW_Test.json, digit for digit.
TUNGSTEN_SITES = [
    ("Mo", [0.0, 0.0, 0.0]),
    ("Mo", [0.0, 3.167618, 0.0]),
    ("Mo", [1.583809, 1.583809, 1.583809]),
    ("Mo", [4.751427, 4.751427, 1.583809]),
    ("W", [3.167618, 0.0, 0.0]),
    ("W", [3.167618, 3.167618, 0.0]),
    ("W", [1.583809, 4.751427, 1.583809]),
    ("W", [4.751427, 1.583809, 1.583809]),
]
TUNGSTEN = {
    "group": "W-Mo",
    "structure": {
        "lattice": {"matrix": [[0.0, 0.0, 3.167618], [6.335236, 0.0, 0.0], [0.0, 6.335236, 0.0]]},
        "sites": [{"species": [{"element": e, "occu": 1}], "xyz": xyz} for e, xyz in TUNGSTEN_SITES],
    },
    "outputs": {
        "energy": -95.24574458,
        "forces": [[x, 0.0, 0.0] for x in (0, 0, -0.08158666, 0.08158666, 0, 0, -0.10519177, 0.10519177)],
        "stress": [30.61386946, 30.35526601, 29.19856292, 0.0, 0.0, 0.0],
    },
}


def converted(tmp_path, entries, name="training.json", convert=convert_mlearn, **options):
    (tmp_path / name).write_text(json.dumps(entries))
    convert([tmp_path / name], tmp_path / "made.extxyz.xz", **options)
    return read_crystals(tmp_path / "made.extxyz.xz", require=("energy", "forces"))


def assert_same(found, prepared):
    for name in ("numbers", "pbc"):
        np.testing.assert_array_equal(getattr(found, name), getattr(prepared, name))
    for name, tolerance in (("positions", PRINTED), ("cell", PRINTED), ("forces", PRINTED), ("stress", SAME_STRESS)):
        np.testing.assert_allclose(getattr(found, name), getattr(prepared, name), rtol=0, atol=tolerance, err_msg=name)
    assert found.energy == prepared.energy
    assert found.info == prepared.info


@needs_data
def test_published_lithium_becomes_the_prepared_records(tmp_path):
    prepared = read_crystals(locate("mlearn", "Li_train"), "-2:")
    for found, must in zip(converted(tmp_path, LITHIUM), prepared, strict=True):
        assert_same(found, must)


@needs_data
def test_published_molybdenum_tungsten_becomes_the_prepared_record(tmp_path):
    (prepared,) = read_crystals(locate("nbmotaw", "test"), 0)
    (found,) = converted(tmp_path, [TUNGSTEN], "MoW_Test.json", convert_nbmotaw)
    assert_same(found, prepared)


@needs_data
@pytest.mark.parametrize(
    ("name", "file", "frame", "published_stress", "is_interchanged"),
    [  # the published six numbers (kbar) of entries whose shears are all different
        (
            "mlearn",
            "Si_test",
            0,
            [-27.23177616, -4.72612711, -18.46493083, -3.15869869, -7.84898328, -1.72155668],
            True,
        ),
        ("nbmotaw", "test", 190, [31.87204516, 33.89614294, 37.92248386, -1.50944665, -2.47160183, -0.76500013], False),
    ],
)
def test_published_stress_is_kbar_in_vasps_order(name, file, frame, published_stress, is_interchanged):
    (record,) = read_crystals(locate(name, file), frame)
    xx, yy, zz, xy, yz, zx = published_stress
    expected = -KBAR * np.array([xx, yy, zz, *((zx, yz) if is_interchanged else (yz, zx)), xy])
    np.testing.assert_allclose(record.stress, expected, atol=1e-7)


@pytest.mark.parametrize(
    ("element", "group", "described", "trust", "is_interchanged"),
    [
        ("Cu", "Elastic", "Cu 3x3x3 cell, mode 1, strain 0.02", "full", True),
        ("Mo", "AIMD-NVT", "Snapshot 1 of 40 of AIMD NVT simulation at 300 K", "full", True),
        ("Si", "Vacancy", "Snapshot 7 of 32 of Vacancy AIMD NVT simulation at 300 K", "full", True),
        ("Si", "Elastic", "Si 2x2x2 cell, mode 0, strain -0.06", "full", False),
        ("Ni", "AIMD-NVT", "Snapshot 1 of 40 of AIMD NVT simulation at 300 K", "full", False),
        ("Li", "AIMD-NVT", "Snapshot 1 of 40 of AIMD NVT simulation at 300 K", "full", False),
        ("Li", "Elastic", "Li 1x1x1 cell, mode 6, strain 0.01", "diagonal", False),
        ("Ge", "AIMD-NVT", "Snapshot 1 of 40 of AIMD NVT simulation at 300 K", "none", None),
        ("Ge", "Elastic", "Ge 2x2x2 cell, mode 0, strain -0.06", "full", False),
        ("Ni", "Surface", "Ni_surface_mp/Ni_mp-23_(3_3_1)", "none", None),
    ],
)
def test_each_group_gets_its_order_and_trust(tmp_path, element, group, described, trust, is_interchanged):
    entry = published(element, group, described, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], CUBE, [[0.0, 0.0, 0.0]], -1.0)
    (record,) = converted(tmp_path, [entry])
    assert record.info["stress_trust"] == trust
    if trust == "none":
        assert record.stress is None
        return
    order = [1, 2, 3, 6, 5, 4] if is_interchanged else [1, 2, 3, 5, 6, 4]
    expected = -KBAR * np.array(order, dtype=float)
    expected[3:] = np.nan if trust == "diagonal" else expected[3:]
    np.testing.assert_allclose(record.stress, expected, atol=SAME_STRESS)


def test_descriptions_become_numbers(tmp_path):
    sheared, ground = converted(tmp_path, LITHIUM)
    assert (sheared.info["config_type"], sheared.info["strain_mode"], sheared.info["strain"]) == ("elastic", 6, 0.01)
    assert ground.info["config_type"] == "ground_state"


def test_contents_other_than_expected_are_refused(tmp_path):
    expected = content_of(converted(tmp_path, LITHIUM))
    converted(tmp_path, LITHIUM[::-1], expected=expected)
    with pytest.raises(ValueError, match="the published data changed: n_frames is 1, expected 2"):
        converted(tmp_path, LITHIUM[:1], expected=expected)
    LITHIUM_CHANGED = json.loads(json.dumps(LITHIUM))
    LITHIUM_CHANGED[0]["outputs"]["energy"] += 0.001
    with pytest.raises(ValueError, match="the published data changed: energies is"):
        converted(tmp_path, LITHIUM_CHANGED, expected=expected)
    LITHIUM_CHANGED = json.loads(json.dumps(LITHIUM))
    LITHIUM_CHANGED[0]["outputs"]["forces"][0][0] = 0.01
    with pytest.raises(ValueError, match="the published data changed: force_rms is"):
        converted(tmp_path, LITHIUM_CHANGED, expected=expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[{", r"training\.json: not JSON, or cut off"),
        ('{"a": 1}', r"training\.json: expected a list of entries with `structure` and `outputs`"),
        (json.dumps([LITHIUM[0], {**LITHIUM[1], "description": "", "group": "Grain"}]), r"entry 1: .*group 'Grain'"),
        (json.dumps([{"structure": {}, "outputs": {}}]), "entry 0: KeyError"),
    ],
)
def test_unknown_json_is_refused(tmp_path, text, message):
    (tmp_path / "training.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        convert_mlearn([tmp_path / "training.json"], tmp_path / "made.extxyz.xz")


@pytest.fixture
def tiny_set(tmp_path, monkeypatch) -> DataSet:
    """A data set of one public file, a cache and a data folder of its own, and no network."""
    made = converted(tmp_path, LITHIUM)
    expected = content_of(made)

    def convert(sources, target):
        convert_mlearn(sources, target, expected=expected)

    original = tmp_path / "made.extxyz.xz"
    file = DataFile(
        name="Li",
        path="crystal/tiny/Li.extxyz.xz",
        size=original.stat().st_size,
        sha256=sha256_of(original),
        sources=("https://data.example/Li/training.json",),
        convert=convert,
    )
    entry = DataSet("tiny", "Tiny", (file,), "BSD-3-Clause", "Nobody", "https://data.example")
    monkeypatch.setattr(catalogue, "datasets", lambda: {"tiny": entry})
    monkeypatch.setattr(catalogue, "_downloaded", no_network)
    monkeypatch.setenv("ISOMETRY_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("ISOMETRY_CACHE", str(tmp_path / "cache"))
    return entry


def no_network(address: str, folder: Path) -> Path:
    raise OSError(f"cannot reach {address}\nfor a reason")


def in_folder(tmp_path: Path, room: str) -> Path:
    path = tmp_path / room / "crystal" / "tiny" / "Li.extxyz.xz"
    path.parent.mkdir(parents=True)
    shutil.copy(tmp_path / "made.extxyz.xz", path)
    return path


@pytest.mark.parametrize("room", ["data", "cache"])
def test_a_file_at_hand_is_found(tmp_path, tiny_set, room):
    path = in_folder(tmp_path, room)
    assert locate("tiny", "Li") == path
    assert locate("tiny") == path


@pytest.mark.parametrize(("room", "remedy"), [("data", "unset ISOMETRY_DATA"), ("cache", "delete it")])
def test_a_file_that_is_not_the_catalogues_is_refused(tmp_path, tiny_set, room, remedy):
    path = in_folder(tmp_path, room)
    whole = path.read_bytes()
    path.write_bytes(whole[:-8])
    with pytest.raises(ValueError, match=f"bytes, expected {len(whole)}: changed or cut off; .*{remedy}"):
        locate("tiny")
    path.write_bytes(whole[:-1] + b"?")
    with pytest.raises(ValueError, match=f"sha256 .*its contents differ; .*{remedy}"):
        locate("tiny")


def test_a_fetched_file_is_converted_once_and_kept(tmp_path, tiny_set, monkeypatch):
    asked = []

    def served(address: str, folder: Path) -> Path:
        asked.append(address)
        (folder / "training.json").write_text(json.dumps(LITHIUM))
        return folder / "training.json"

    monkeypatch.setattr(catalogue, "_downloaded", served)
    path = locate("tiny", "Li")
    assert path == tmp_path / "cache" / "crystal" / "tiny" / "Li.extxyz.xz"
    assert len(read_crystals(path)) == 2
    assert locate("tiny", "Li") == path
    assert asked == ["https://data.example/Li/training.json"]
    assert sorted(p.name for p in path.parent.iterdir()) == ["Li.extxyz.xz", "Li.extxyz.xz.sha256"]
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(ValueError, match="its contents differ; delete it to have it fetched again"):
        locate("tiny", "Li")


@pytest.mark.parametrize("served_text", [None, "[]", json.dumps(LITHIUM[:1])])
def test_a_failed_fetch_says_what_to_do_and_leaves_nothing(tmp_path, tiny_set, monkeypatch, served_text):
    def served(address: str, folder: Path) -> Path:
        if served_text is None:
            return no_network(address, folder)
        (folder / "training.json").write_text(served_text)
        return folder / "training.json"

    monkeypatch.setattr(catalogue, "_downloaded", served)
    with pytest.raises(FileNotFoundError, match=r"tiny Li: fetching failed .*set ISOMETRY_DATA to a folder") as caught:
        locate("tiny")
    assert "\n" not in str(caught.value)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_unknown_names_list_the_known_ones():
    with pytest.raises(ValueError, match="unknown data set 'mp'; known: silicon, mlearn, nbmotaw"):
        locate("mp")
    with pytest.raises(ValueError, match="mlearn has no file 'Fe_train'; its files: Si_train, Si_test"):
        locate("mlearn", "Fe_train")
    with pytest.raises(ValueError, match="mlearn has no file None"):
        locate("mlearn")


def test_every_entry_says_whose_it_is():
    for name, entry in datasets().items():
        assert entry.name == name
        assert entry.title
        assert entry.licence
        assert entry.citation
        assert len({file.name for file in entry.files}) == len(entry.files)
        for file in entry.files:
            assert entry.is_own or not file.sources or (file.size and len(file.sha256) == 64 and file.convert)
            assert (file.size is None) == (file.sha256 is None)


@needs_data
@pytest.mark.parametrize("file", datasets()["mlearn"].files + datasets()["nbmotaw"].files[1:], ids=lambda f: f.name)
def test_prepared_files_have_the_contents_a_fetched_one_must_have(file):
    name = "nbmotaw" if "nbmotaw" in file.path else "mlearn"
    content = content_of(read_crystals(locate(name, file.name), require=("energy", "forces")))
    must = file.convert.keywords["expected"]
    assert content[:3] == must[:3]
    assert content.force_rms == pytest.approx(must.force_rms, rel=1e-6)
    assert must.stress_rms is None or content.stress_rms == pytest.approx(must.stress_rms, rel=1e-6)


def test_our_own_files_come_with_the_package(monkeypatch):
    ours = [DataFile("code", "crystals.py"), DataFile("lost", "silicon/lost.extxyz.xz")]
    entry = DataSet("own", "Own", tuple(ours), "Apache-2.0", "We", "", is_own=True)
    monkeypatch.setattr(catalogue, "datasets", lambda: {"own": entry})
    assert locate("own", "code").samefile(Path(catalogue.__file__).with_name("crystals.py"))
    with pytest.raises(
        FileNotFoundError, match=r"lost\.extxyz\.xz: this file is part of the package; install isometry"
    ):
        locate("own", "lost")
