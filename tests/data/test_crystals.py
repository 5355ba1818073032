"""Crystal files become checked records, or one clear line."""

import bz2
import gzip
import lzma
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.io import write
from isometry_data.crystals import CrystalRecord, label_counts, read_crystals, record_of, write_crystals

PRINTED = 1e-8  # extended XYZ writes positions and forces with 8 decimals
LATTICE = 'Lattice="4 0 0 0 4 0 0 0 4"'
COLUMNS = "Properties=species:S:1:pos:R:3"


def labelled_silicon(scale: float = 1.0) -> Atoms:
    atoms = bulk("Si", a=5.43 * scale, cubic=True)
    rng = np.random.default_rng(0)
    atoms.rattle(0.05, seed=1)
    forces, stress = rng.normal(size=(8, 3)), rng.normal(size=6) * 0.01
    atoms.calc = SinglePointCalculator(atoms, energy=-42.0 * scale, forces=forces, stress=stress)
    return atoms


def text_file(tmp_path: Path, text: str, name: str = "frames.xyz") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def frame(comment: str = "", atoms: str = "Si 0 0 0", columns: str = COLUMNS) -> str:
    return f"{len(atoms.splitlines())}\n{comment} {columns}\n{atoms}\n"


@pytest.mark.parametrize("suffix", [".extxyz", ".xyz", ".xyz.xz", ".xyz.gz", ".xyz.bz2", ".traj"])
def test_labels_survive_the_file(tmp_path, suffix):
    images = [labelled_silicon(1.0), labelled_silicon(1.01)]
    write(str(tmp_path / f"si{suffix}"), images)
    records = read_crystals(tmp_path / f"si{suffix}", require=("energy", "forces", "stress"))
    assert [record.frame for record in records] == [0, 1]
    for record, atoms in zip(records, images, strict=True):
        assert record.numbers.dtype == np.int64
        assert record.pbc.dtype == bool
        np.testing.assert_array_equal(record.numbers, atoms.numbers)
        np.testing.assert_allclose(record.positions, atoms.positions, atol=PRINTED)
        np.testing.assert_allclose(record.cell, atoms.cell, atol=PRINTED)
        np.testing.assert_allclose(record.forces, atoms.get_forces(), atol=PRINTED)
        np.testing.assert_allclose(record.stress, atoms.get_stress(), atol=PRINTED)
        assert record.energy == pytest.approx(atoms.get_potential_energy(), abs=PRINTED)
        assert record.volume == pytest.approx(atoms.get_volume())


@pytest.mark.parametrize(("name", "form"), [("si.cif", "cif"), ("POSCAR", "vasp"), ("si.xsf", "xsf"), ("in.pw", None)])
def test_structures_without_labels_have_none(tmp_path, name, form):
    atoms = bulk("Si", a=5.43, cubic=True)
    kind = {"format": "espresso-in", "pseudopotentials": {"Si": "Si.upf"}} if form is None else {"format": form}
    path = tmp_path / ("si.pwi" if form is None else name)
    write(str(path), atoms, **kind)
    (record,) = read_crystals(path)
    assert (record.energy, record.forces, record.stress) == (None, None, None)
    assert record.n_atoms == 8
    assert record.volume == pytest.approx(atoms.get_volume(), rel=1e-6)
    assert record.pbc.all()


def test_a_molecule_has_a_cell_of_zeros(tmp_path):
    write(str(tmp_path / "water.xyz"), molecule("H2O"))
    (record,) = read_crystals(tmp_path / "water.xyz")
    assert not record.cell.any()
    assert not record.pbc.any()
    assert record.volume == 0


@pytest.mark.parametrize(
    ("index", "frames"),
    [(":", [0, 1, 2, 3, 4]), ("1:3", [1, 2]), ("::2", [0, 2, 4]), (3, [3]), ("-1", [4]), (-2, [3]), ("-3::2", [2, 4])],
)
def test_a_record_knows_its_frame_in_the_file(tmp_path, index, frames):
    path = text_file(tmp_path, "".join(frame(f"{LATTICE} energy={i}") for i in range(5)))
    records = read_crystals(path, index)
    assert [record.frame for record in records] == frames
    assert [record.energy for record in records] == [float(i) for i in frames]
    assert records[0].label == f"{path}, frame {frames[0]}"


def test_an_at_sign_in_a_file_name_is_only_a_letter(tmp_path):
    path = text_file(tmp_path, frame(), "si@300.xyz")
    assert len(read_crystals(path)) == 1


@pytest.mark.parametrize("key", ["", "REF_"])
def test_labels_are_found_under_both_names(tmp_path, key):
    comment = f'{LATTICE} {key}energy=-3.5 {key}stress="1 6 5 6 2 4 5 4 3"'
    path = text_file(tmp_path, frame(comment, "Si 0 0 0 1 2 3", f"{COLUMNS}:{key}forces:R:3"))
    (record,) = read_crystals(path, require=("energy", "forces", "stress"))
    assert record.energy == -3.5
    np.testing.assert_array_equal(record.forces, [[1, 2, 3]])
    np.testing.assert_array_equal(record.stress, [1, 2, 3, 4, 5, 6])


def test_a_reference_goes_before_the_plain_name(tmp_path):
    path = text_file(tmp_path, frame(f"{LATTICE} energy=1.0 REF_energy=2.0"))
    assert read_crystals(path)[0].energy == 2.0


@pytest.mark.parametrize("key", ["virial", "REF_virial"])
def test_a_virial_is_minus_stress_times_volume(tmp_path, key):
    path = text_file(tmp_path, frame(f'{LATTICE} {key}="64 0 0 0 128 32 0 32 0"'))
    np.testing.assert_allclose(read_crystals(path)[0].stress, [-1, -2, 0, -0.5, 0, 0])


def test_forces_are_those_without_constraints(tmp_path):
    atoms = labelled_silicon()
    forces = atoms.get_forces()
    atoms.set_constraint(FixAtoms([0, 1]))
    write(str(tmp_path / "fixed.traj"), atoms)
    np.testing.assert_array_equal(read_crystals(tmp_path / "fixed.traj")[0].forces, forces)


def test_stress_is_believed_as_far_as_the_file_trusts_it(tmp_path):
    stress = 'stress="1 0 0 0 1 0 0 0 1"'
    comments = [f"{LATTICE} {stress}"] + [f"{LATTICE} {stress} stress_trust={t}" for t in ("full", "diagonal", "none")]
    plain, full, diagonal, none = read_crystals(text_file(tmp_path, "".join(map(frame, comments))))
    np.testing.assert_array_equal(full.stress, plain.stress)
    np.testing.assert_array_equal(diagonal.stress, [1, 1, 1, np.nan, np.nan, np.nan])
    assert none.stress is None


def test_what_else_a_file_says_is_kept_as_scalars(tmp_path):
    path = text_file(tmp_path, frame(f'{LATTICE} config_type="liquid state" T=300 strain=-0.1 relaxed=T v="1 2"'))
    info = read_crystals(path)[0].info
    assert info == {"config_type": "liquid state", "T": 300, "strain": -0.1, "relaxed": True}
    assert {key: type(value) for key, value in info.items()} == {
        "config_type": str,
        "T": int,
        "strain": float,
        "relaxed": bool,
    }


def test_reading_warns_of_nothing(tmp_path):
    atoms = bulk("Si", a=5.43, cubic=True)
    atoms.info["odd"] = {"a": 1}
    write(str(tmp_path / "si.cif"), atoms)
    text = (tmp_path / "si.cif").read_text().replace("_space_group_name_H-M_alt", "_symmetry_cell_setting odd\n_x")
    (tmp_path / "si.cif").write_text(text)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_crystals(tmp_path / "si.cif")


def test_label_counts_count_what_is_known(tmp_path):
    known = record_of(labelled_silicon())
    bare = record_of(bulk("Si", a=5.43))
    assert label_counts([known, known, bare]) == "2 energies, 2 forces, 2 stresses"


def test_atoms_and_record_are_the_same_structure():
    atoms = labelled_silicon()
    again = record_of(record_of(atoms).to_atoms())
    np.testing.assert_array_equal(again.positions, atoms.positions)
    np.testing.assert_array_equal(again.forces, atoms.get_forces())
    np.testing.assert_array_equal(again.stress, atoms.get_stress())
    assert again.energy == atoms.get_potential_energy()


def test_a_partly_known_stress_stays_behind_in_atoms():
    atoms = labelled_silicon()
    atoms.info["stress_trust"] = "diagonal"
    assert "stress" not in record_of(atoms).to_atoms().calc.results


TWO = "Si 0 0 0\nSi 0 0 2"
REFUSED = {
    "not a number of atoms": ("hello world\n", "frame 0: cannot be read"),
    "cut off in a frame": (frame() + "3\n\nSi 0 0 0\n", "frame 1: cannot be read"),
    "cut off in a line": (frame(atoms="Si 0 0 0\nSi 0 0"), "frame 0: cannot be read"),
    "frames behind a blank line": (frame() + "\n" + frame(), "a blank line after frame 0 hides the lines that follow"),
    "NaN position": (frame() + frame(atoms="Si nan 0 0"), "frame 1: the position of atom 0 is not finite"),
    "infinite position": (frame(atoms="Si 0 0 0\nSi inf 0 0"), "frame 0: the position of atom 1 is not finite"),
    "text for a position": (frame(atoms="Si a b c"), "frame 0: cannot be read"),
    "NaN energy": (frame("energy=nan"), "frame 0: energy is not finite"),
    "text for an energy": (frame("energy=low"), "frame 0: energy is 'low', expected numbers"),
    "two energies": (frame('REF_energy="1 2"'), "frame 0: energy has 2 numbers, expected one"),
    "NaN force": (frame(atoms="Si 0 0 0 nan 0 0", columns=f"{COLUMNS}:forces:R:3"), "frame 0: forces is not finite"),
    "two force columns": (
        frame(atoms="Si 0 0 0 1 1", columns=f"{COLUMNS}:forces:R:2"),
        r"frame 0: forces have shape \(1, 2\), expected \(1, 3\)",
    ),
    "infinite stress": (frame(f'{LATTICE} stress="inf 0 0 0 1 0 0 0 1"'), "frame 0: stress is not finite"),
    "five stress numbers": (
        frame(f'{LATTICE} REF_stress="1 2 3 4 5"'),
        r"frame 0: stress has shape \(5,\), expected 6",
    ),
    "lopsided stress": (frame(f'{LATTICE} REF_stress="1 2 0 0 1 0 0 0 1"'), "frame 0: stress is not symmetric"),
    "odd trust": (frame("stress_trust=some"), "frame 0: stress_trust is 'some', expected one of full, diagonal, none"),
    "unknown symbol": (frame() + frame(atoms="Qq 0 0 0"), "frame 1: unknown element or missing entry 'Qq'"),
    "atomic number 0": (frame(atoms="X 0 0 0"), r"frame 0: atom 0 has atomic number 0 \(unknown element\)"),
    "no atoms": ("0\n\n", "frame 0: no atoms, expected at least one"),
    "overlap": (frame(atoms="Si 0 0 0\nSi 0 0 0.1"), "frame 0: atoms 0 and 1 overlap: 0.100 Å apart"),
    "overlap through the boundary": (
        frame(LATTICE, "Si 0 0 0\nSi 4 0 0.01"),
        r"frame 0: atoms 0 and 1 overlap \(through the periodic boundary\): 0.010 Å apart",
    ),
    "an atom on its own image": (
        frame('Lattice="0.1 0 0 0 4 0 0 0 4"'),
        r"frame 0: atoms 0 and 0 overlap \(through the periodic boundary\)",
    ),
    "flat cell": (frame('Lattice="4 0 0 0 4 0 4 4 0"'), "frame 0: the cell is singular"),
    "no cell where it repeats": (frame('pbc="T T T"'), "frame 0: the cell is singular"),
    "NaN cell": (frame('Lattice="nan 0 0 0 4 0 0 0 4"'), "frame 0: the cell is not finite"),
}


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_a_wrong_file_is_reported_with_file_and_frame(tmp_path, case):
    text, message = REFUSED[case]
    path = text_file(tmp_path, text)
    with pytest.raises(ValueError, match=message) as caught:
        read_crystals(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_missing_label_is_reported_with_what_the_file_has(tmp_path):
    path = text_file(tmp_path, frame("energy=1 dft_energy=2"))
    with pytest.raises(ValueError, match=r"frame 0: no forces, .*the file has dft_energy, energy"):
        read_crystals(path, require=("energy", "forces"))
    with pytest.raises(ValueError, match="cannot require charge; the labels are energy, forces, stress"):
        read_crystals(path, require=("charge",))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.xyz", b"", "the file is empty"),
        ("empty.xyz.xz", lzma.compress(b""), "not a structure file that ASE knows"),
        ("notes.txt", b"dear diary", "not a structure file that ASE knows"),
        ("table.json", b"{}", "not a structure file that ASE knows"),
        ("data.xyz", bytes(range(128, 256)), "cannot be read"),
        ("empty.cif", b"\n\n", "no frames for index ':'"),
        ("POSCAR", b"Si\n1.0\n5 0 0\n0 5 0\n0 0 5\nSi\n2\nDirect\n0 0 0\n", "cannot be read"),
        ("packed.xyz.xz", b"not packed at all", "cannot be read"),
        ("packed.xyz.gz", b"not packed at all", "cannot be read"),
        ("packed.xyz.bz2", b"not packed at all", "cannot be read"),
    ],
)
def test_what_is_no_structure_file_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_crystals(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("suffix", "pack"), [(".xz", lzma.compress), (".gz", gzip.compress), (".bz2", bz2.compress)])
def test_a_compressed_file_cut_off_is_refused(tmp_path, suffix, pack):
    noise = np.random.default_rng(0).uniform(0, 1000, (20_000, 3))
    lines = "".join(f"Si {x} {y} {z}\n" for x, y, z in noise)
    packed = pack(f"{len(noise)}\n{COLUMNS}\n{lines}".encode())
    path = tmp_path / f"frames.xyz{suffix}"
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(ValueError, match="the file is cut off"):
        read_crystals(path)


def test_a_missing_file_a_folder_and_an_odd_index_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.xyz: no such file"):
        read_crystals(tmp_path / "nowhere.xyz")
    with pytest.raises(ValueError, match="is a folder"):
        read_crystals(tmp_path)
    with pytest.raises(ValueError, match="neither a frame number nor a slice"):
        read_crystals(text_file(tmp_path, frame()), "last")
    with pytest.raises(ValueError, match="no frames for index '5:'"):
        read_crystals(text_file(tmp_path, frame()), "5:")


def test_a_partially_occupied_site_is_refused():
    atoms = bulk("NaCl", "rocksalt", a=5.64)
    atoms.info["occupancy"] = {"0": {"Na": 0.7, "K": 0.3}, "1": {"Cl": 1.0}}
    with pytest.raises(ValueError, match="site 0 is partially occupied"):
        record_of(atoms)


def test_left_handed_cells_and_slabs_are_welcome():
    left = bulk("Si", a=5.43, cubic=True)
    left.set_cell(left.cell[[1, 0, 2]])
    assert record_of(left).volume == pytest.approx(5.43**3)
    slab = Atoms("C2", positions=[[0, 0, 0], [1.42, 0, 0]], cell=[[2.46, 0, 0], [-1.23, 2.13, 0], [0, 0, 0]])
    slab.pbc = [True, True, False]
    assert record_of(slab).n_atoms == 2


@pytest.mark.parametrize("suffix", [".xyz", ".extxyz", ".extxyz.xz"])
def test_predictions_come_back_as_labels(tmp_path, suffix):
    atoms = labelled_silicon()
    atoms.info.update(stress_trust="none", config_type="bulk")
    record = record_of(atoms)
    rng = np.random.default_rng(3)
    prediction = {"energy": -1.25, "forces": rng.normal(size=(8, 3)), "stress": rng.normal(size=6)}
    write_crystals(tmp_path / f"out{suffix}", [record], [prediction])
    (again,) = read_crystals(tmp_path / f"out{suffix}", require=("energy", "forces", "stress"))
    assert again.energy == prediction["energy"]
    np.testing.assert_allclose(again.forces, prediction["forces"], atol=PRINTED)
    np.testing.assert_allclose(again.stress, prediction["stress"], atol=PRINTED)
    assert again.info["config_type"] == "bulk"
    assert os.listdir(tmp_path) == [f"out{suffix}"]


def test_a_failed_write_leaves_the_old_file_alone(tmp_path, monkeypatch):
    path = tmp_path / "out.xyz"
    path.write_text("precious")

    def full_disk(*_args, **_kwargs):
        raise OSError("no space left on device")

    monkeypatch.setattr("ase.io.write", full_disk)
    with pytest.raises(OSError, match="no space left"):
        write_crystals(path, [record_of(labelled_silicon())], [{"energy": 0.0}])
    assert path.read_text() == "precious"
    assert os.listdir(tmp_path) == ["out.xyz"]


def test_predictions_that_do_not_fit_are_refused(tmp_path):
    record = record_of(labelled_silicon(), source="si.xyz", frame=3)
    with pytest.raises(ValueError, match="1 records but 0 predictions"):
        write_crystals(tmp_path / "out.xyz", [record], [])
    with pytest.raises(ValueError, match=r"si\.xyz, frame 3: predicted forces has shape \(2, 3\), expected \(8, 3\)"):
        write_crystals(tmp_path / "out.xyz", [record], [{"forces": np.zeros((2, 3))}])
    with pytest.raises(ValueError, match=r"si\.xyz, frame 3: unknown prediction 'dipole'"):
        write_crystals(tmp_path / "out.xyz", [record], [{"dipole": 0.0}])
    with pytest.raises(FileNotFoundError, match="no such folder"):
        write_crystals(tmp_path / "nowhere" / "out.xyz", [record], [{"energy": 0.0}])
    assert os.listdir(tmp_path) == []


def test_reading_a_file_needs_no_torch(tmp_path):
    path = text_file(tmp_path, frame(f"{LATTICE} energy=1"))
    code = f"import sys, isometry_data.crystals as c; c.read_crystals({str(path)!r}); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_records_say_who_they_are():
    record = CrystalRecord(
        np.array([14]), np.zeros((1, 3)), np.zeros((3, 3)), np.zeros(3, bool), source="a.cif", frame=2
    )
    assert (record.label, record.n_atoms, record.info) == ("a.cif, frame 2", 1, {})
