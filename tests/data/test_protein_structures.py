"""Structures become records: states of ideal backbones, missing and modified residues, chains that are no protein."""

import gzip

import numpy as np
import pytest
from isometry_data.hydrogen_bonds import hydrogen_bonds, is_joined
from isometry_data.mkdssp import has_mkdssp, read_dssp, states_by_mkdssp
from isometry_data.proteins import Labelling, built_in_states, read_proteins
from isometry_data.residue_placement import numbered, placed_in
from isometry_data.secondary_structure import eight_states
from isometry_data.structure_chains import read_chains
from scipy.spatial.transform import Rotation

needs_mkdssp = pytest.mark.skipif(not has_mkdssp(), reason="mkdssp is not installed")
HELICES = {"H": (-57.8, -47.0), "G": (-49.0, -26.0), "I": (-57.0, -70.0)}  # φ, ψ in degrees
HAIRPIN = [(-111.0, 111.0)] * 6 + [(41.0, 58.0), (87.0, 15.0)] + [(-111.0, 111.0)] * 6
NAMES = {"A": "ALA", "G": "GLY", "P": "PRO", "W": "TRP", "C": "CYS", "M": "MET", "S": "SER"}
SURFACE_NOISE = 0.02  # of 100 points on a sphere


def next_atom(a, b, c, length, angle, torsion):
    """An atom bonded to c, by its distance (Å), angle and torsion (degrees) to the three before."""
    angle, torsion = np.radians(angle), np.radians(torsion)
    along = (c - b) / np.linalg.norm(c - b)
    normal = np.cross(b - a, along)
    normal /= np.linalg.norm(normal)
    frame = np.stack([along, np.cross(normal, along), normal])
    turned = np.array([-np.cos(angle), np.sin(angle) * np.cos(torsion), np.sin(angle) * np.sin(torsion)])
    return c + length * turned @ frame


def backbone(angles) -> np.ndarray:
    """[n, 4, 3] N, Cα, C, O of a peptide with standard bonds and the φ, ψ of each residue."""
    n, alpha = np.zeros(3), np.array([1.458, 0.0, 0.0])
    c = alpha + 1.525 * np.array([-np.cos(np.radians(111)), np.sin(np.radians(111)), 0.0])
    built = []
    for k, (phi, psi) in enumerate(angles):
        if k:
            n = next_atom(*built[-1][:3], 1.329, 116.6, angles[k - 1][1])
            alpha = next_atom(built[-1][1], built[-1][2], n, 1.458, 121.7, 180.0)
            c = next_atom(built[-1][2], n, alpha, 1.525, 111.0, phi)
        built.append([n, alpha, c, next_atom(n, alpha, c, 1.231, 120.1, psi + 180)])
    return np.array(built)


def states(built, chain=None, is_proline=None) -> str:
    n = len(built)
    none = np.zeros(n, dtype=bool)
    return eight_states(built, np.zeros(n, int) if chain is None else chain, none if is_proline is None else is_proline)


def atom_line(serial, atom, residue, chain, number, position, *, kind="ATOM", alt=" ", insertion=" ", occupancy=1.0):
    x, y, z = position
    return (
        f"{kind:<6s}{serial:5d}  {atom:<3s}{alt}{residue:>3s} {chain}{number:4d}{insertion}   "
        f"{x:8.3f}{y:8.3f}{z:8.3f}{occupancy:6.2f}  0.00          {atom[0]:>2s}"
    )


def residue_lines(built, place, name, chain, number, **more) -> list[str]:
    n, alpha, c, o = built[place]
    b, d = alpha - n, c - alpha
    beta = -0.58273431 * np.cross(b, d) + 0.56802827 * b - 0.54067466 * d + alpha
    atoms = {"N": n, "CA": alpha, "C": c, "O": o} | ({} if name == "GLY" else {"CB": beta})
    return [
        atom_line(place * 5 + k, atom, name, chain, number, xyz, **more) for k, (atom, xyz) in enumerate(atoms.items())
    ]


def pdb(tmp_path, lines, name="made.pdb"):
    (tmp_path / name).write_text("\n".join([*lines, "END", ""]))
    return tmp_path / name


def chain_lines(built, sequence, chain="A", first=1, skipped=()) -> list[str]:
    kept = [k for k in range(len(sequence)) if k not in skipped]
    return [line for k in kept for line in residue_lines(built, k, NAMES[sequence[k]], chain, first + k)]


def seqres(names, chain="A") -> str:
    rows = [names[k : k + 13] for k in range(0, len(names), 13)]
    return "\n".join(f"SEQRES {k:3d} {chain} {len(names):4d}  {' '.join(row)}" for k, row in enumerate(rows, start=1))


@pytest.mark.parametrize("state", HELICES)
def test_an_ideal_helix_has_its_state_between_its_ends(state):
    assert states(backbone([HELICES[state]] * 16)) == "C" + state * 14 + "C"


def test_a_hairpin_is_two_strands_and_a_turn():
    assert states(backbone(HAIRPIN)) == "CEEEESSSCEEEEC"


def test_strands_join_chains_and_a_lone_strand_is_coil():
    built, chain = backbone(HAIRPIN), np.repeat([0, 1], 7)
    assert states(built, chain)[1:5] == "EEEE"
    assert set(states(built[:7])) == {"C"}


def test_states_ignore_rotation_and_translation():
    built = backbone([*HAIRPIN, *[HELICES["H"]] * 12])
    turned = built @ Rotation.from_euler("xyz", (0.3, 1.1, -2.0)).as_matrix().T + np.array([40.0, -7.0, 3.0])
    assert states(turned) == states(built)


def test_a_proline_donates_no_bond():
    built = backbone([HELICES["H"]] * 12)
    is_proline = np.arange(12) == 6
    joined = is_joined(built, np.zeros(12))
    donors = hydrogen_bonds(built, joined, is_proline).pairs // 12
    assert 6 not in donors
    assert 6 in hydrogen_bonds(built, joined, np.zeros(12, bool)).pairs // 12


def test_a_residue_without_its_oxygen_has_no_state_and_breaks_the_chain():
    built = backbone([HELICES["H"]] * 16)
    built[8, 3] = np.nan
    found = states(built)
    assert found[8] == "."
    assert found[:8] == states(built[:8])
    assert states(np.full((3, 4, 3), np.nan)) == "..."


def test_an_ideal_helix_in_pdb_and_gz_becomes_a_labelled_record(tmp_path):
    built = backbone([HELICES["H"]] * 16)
    path = pdb(tmp_path, chain_lines(built, "A" * 7 + "G" + "A" * 8))
    packed = tmp_path / "made.ent.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    for file in (path, packed):
        (record,), notes = read_proteins(file, Labelling(dssp="built-in"))
        assert (record.name, record.ss8, record.ss3) == ("made_A", "C" + "H" * 14 + "C", "C" + "H" * 14 + "C")
        assert record.mask.all()
        assert not record.disorder.any()
        assert not notes
        np.testing.assert_allclose(record.positions[7], built[7, 1], atol=1e-3)  # Cα of glycine; PDB has 3 decimals
        assert np.isfinite(record.accessibility).all()
        assert record.accessibility[0] > record.accessibility[8]


@pytest.mark.parametrize("is_declared", [True, False])
def test_missing_residues_are_aligned_to_the_full_sequence(tmp_path, is_declared):
    sequence = "GAAWAAAAAPAAACAAMGS" if is_declared else "AAWAAAAAXXAACAA"
    built = backbone([HELICES["H"]] * 19)
    full = "GAAWAAAAAPAAACAAMGS"
    lines = chain_lines(built, full, first=101, skipped=(0, 9, 10, 16, 17, 18))
    lines = [seqres([NAMES[letter] for letter in full]), *lines] if is_declared else lines
    (record,), notes = read_proteins(pdb(tmp_path, lines), Labelling(dssp="built-in", with_accessibility=False))
    missing = [0, 9, 10, 16, 17, 18] if is_declared else [8, 9]
    assert record.sequence == sequence
    assert np.flatnonzero(record.disorder).tolist() == missing
    assert np.flatnonzero(~record.mask).tolist() == missing
    assert np.isnan(record.positions[missing]).all()
    assert len(notes) == 1
    assert f"{len(missing)} of {len(sequence)} residues not seen" in notes[0]


def test_numbers_decide_where_a_repeat_is_missing():
    joined = [False, True, False, True]
    assert placed_in("GSGSGSGS", "GSGS", [1, 2, 7, 8], joined).places.tolist() == [0, 1, 6, 7]
    assert placed_in("GSGSGSGS", "GSGS", [1, 2, 5, 6], joined).places.tolist() == [0, 1, 4, 5]
    assert placed_in("GSGS", "GWGS", [1, 2, 3, 4], joined) is None
    assert numbered("GSGS", [1, 2, 1002, 1003], joined).sequence == "GSXGS"


def test_a_sequence_that_contradicts_its_declaration_is_aligned_and_reported(tmp_path):
    built = backbone([HELICES["H"]] * 10)
    lines = [seqres(["GLY", *["ALA"] * 4, "TRP", *["ALA"] * 5]), *chain_lines(built, "AAAACAAAAA")]
    (chain,), notes = read_chains(pdb(tmp_path, lines))[1:]
    assert chain.sequence == "GAAAACAAAAA"
    assert any("differs from its declared sequence" in note for note in notes)


def test_modified_residues_become_their_parents(tmp_path):
    built = backbone([HELICES["H"]] * 6)
    names = ["ALA", "MSE", "SEP", "QQQ", "ZZZ", "ALA"]
    lines = ["MODRES 1ABC QQQ A    4  TRP  A HOME-MADE"]
    lines += [
        line
        for k, name in enumerate(names)
        for line in residue_lines(built, k, name, "A", k + 1, kind="ATOM" if name == "ALA" else "HETATM")
    ]
    ligand = residue_lines(built + 30.0, 0, "GLU", "A", 301, kind="HETATM")  # a free amino acid far away
    water = [atom_line(99, "O", "HOH", "A", 400, (50.0, 0.0, 0.0), kind="HETATM")]
    (chain,), notes = read_chains(pdb(tmp_path, [*lines, *ligand, *water]))[1:]
    assert chain.sequence == "AMSWXA"
    assert notes[0].endswith("chain A: 1 MSE as M, 1 SEP as S, 1 QQQ as W, 1 ZZZ as X")


def test_the_highest_occupancy_is_taken_and_inserted_residues_keep_their_place(tmp_path):
    built = backbone([HELICES["H"]] * 4)
    lines = residue_lines(built, 0, "ALA", "A", 5)
    for atom, position in zip(("N", "CA", "C", "O"), built[1], strict=True):
        lines.append(atom_line(10, atom, "GLY", "A", 5, position + 9.0, insertion="A", alt="A", occupancy=0.3))
        lines.append(atom_line(10, atom, "GLY", "A", 5, position, insertion="A", alt="B", occupancy=0.7))
    lines += residue_lines(built, 2, "TRP", "A", 5, insertion="B") + residue_lines(built, 3, "PRO", "A", 6)
    (chain,) = read_chains(pdb(tmp_path, lines)).chains
    assert chain.sequence == "AGWP"
    np.testing.assert_allclose(chain.backbone(), built, atol=1e-3)


def test_nucleic_acids_empty_chains_and_further_models_are_reported(tmp_path):
    built = backbone([HELICES["H"]] * 6)
    nucleotides = [atom_line(1, "P", "DA", "N", k, (k, 0.0, 60.0)) for k in range(1, 4)]
    model = [*chain_lines(built, "AAAAAA"), *nucleotides]
    lines = [seqres(["GLY"] * 3, "E"), "MODEL        1", *model, "ENDMDL", "MODEL        2", *model, "ENDMDL"]
    _, chains, notes = read_chains(pdb(tmp_path, lines))
    assert [chain.name for chain in chains] == ["A"]
    assert sorted(note.split("made.pdb: ")[1] for note in notes) == [
        "2 models; the first is read",
        "chain E: none of its 3 residues is seen; left out",
        "chain N: nucleic acid; left out",
    ]
    with pytest.raises(ValueError, match=r"no protein chain \(chain N: nucleic acid; left out\)"):
        read_chains(pdb(tmp_path, nucleotides))


def cif(tmp_path, built, declared, shown, name="made.cif"):
    """mmCIF of one chain, label A, authors' Q from 11; `shown` places (from 0) have atoms."""
    tables = ["data_MADE", "loop_", "_entity_poly.entity_id", "_entity_poly.type", "1 'polypeptide(L)'", "loop_"]
    tables += ["_entity_poly_seq.entity_id", "_entity_poly_seq.num", "_entity_poly_seq.mon_id"]
    tables += [f"1 {k} {residue}" for k, residue in enumerate(declared, start=1)]
    columns = (
        "group_PDB type_symbol label_atom_id label_alt_id label_comp_id label_asym_id label_entity_id label_seq_id"
    )
    columns += " Cartn_x Cartn_y Cartn_z occupancy auth_seq_id auth_asym_id pdbx_PDB_model_num"
    tables += ["loop_", *(f"_atom_site.{column}" for column in columns.split())]
    for place in shown:
        for atom, (x, y, z) in zip(("N", "CA", "C", "O"), built[place], strict=True):
            where = f"{place + 1} {x:.3f} {y:.3f} {z:.3f} 1.0 {place + 11}"
            tables.append(f"ATOM {atom[0]} {atom} . {declared[place]} A 1 {where} Q 1")
    (tmp_path / name).write_text("\n".join([*tables, "#", ""]))
    return tmp_path / name


def test_mmcif_tells_the_places_itself(tmp_path):
    built = backbone([HELICES["H"]] * 12)
    declared = ["ACE", "ALA", "MSE", *["ALA"] * 8, "NH2"]
    (record,), notes = read_proteins(cif(tmp_path, built, declared, range(2, 9)), Labelling(dssp="built-in"))
    assert (record.name, record.sequence) == ("made_Q", "AMAAAAAAAA")  # caps are no residues
    assert np.flatnonzero(record.disorder).tolist() == [0, 8, 9]
    assert record.ss8 == ".CHHHHHC.."
    assert notes[0].endswith("chain Q: 1 MSE as M, 3 of 10 residues not seen")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("HEADER    NOTHING\nEND\n", "no atoms; expected a structure"),
        ("data_x\n_cell.length_a 1\n", "no atoms; expected a structure"),
        ("data_x\nloop_\n_atom_site.Cartn_x\n'1\n", "cannot be read as PDB or mmCIF"),
        ("ATOM      1  N   ALA A   1      xxxxxxx   0.000   0.000\n", "cannot be read as PDB or mmCIF"),
    ],
)
def test_what_is_no_structure_is_one_line(tmp_path, text, message):
    (tmp_path / "made.pdb").write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_chains(tmp_path / "made.pdb")
    assert "\n" not in str(caught.value)


@needs_mkdssp
def test_built_in_states_are_those_of_mkdssp(tmp_path):
    rng = np.random.default_rng(0)
    angles = [*HAIRPIN, *[HELICES["H"]] * 10, (80.0, 20.0), *[HELICES["G"]] * 6, (-75.0, 145.0), *[HELICES["I"]] * 9]
    sequence = "".join(rng.choice(list("AGPWCMS"), len(angles)))
    for round_ in range(3):
        built = backbone(np.array(angles) + rng.normal(size=(len(angles), 2)) * 2 * round_)
        second = built @ Rotation.from_euler("z", 180, degrees=True).as_matrix().T + np.array([0.0, 60.0, 0.0])
        lines = [*chain_lines(built, sequence, skipped=(17,)), "TER", *chain_lines(second, sequence, chain="B")]
        chains = read_chains(pdb(tmp_path, lines)).chains
        assert built_in_states(chains) == states_by_mkdssp(chains)


def test_states_are_read_from_files_of_dssp(tmp_path):
    row = "    1   17AA E  H              0   0  134"
    classic = (
        "==== DSSP\n  #  RESIDUE AA STRUCTURE\n" + "    1   17AB L  P  \n    2        !*   0\n    3   18 B A     \n"
    )
    (tmp_path / "a.dssp").write_text(classic)
    assert read_dssp(tmp_path / "a.dssp") == {("B", 17, "A"): "C", ("B", 18, ""): "C"}
    table = "data_x\nloop_\n" + "".join(
        f"_dssp_struct_summary.{name}\n" for name in ("label_asym_id", "label_seq_id", "secondary_structure")
    )
    (tmp_path / "a.cif").write_text(table + "A 1 H\nA 2 P\nA 3 .\n")
    assert list(read_dssp(tmp_path / "a.cif").values()) == ["H", "C", "C"]
    (tmp_path / "b.dssp").write_text(row)
    with pytest.raises(ValueError, match="expected an output file of DSSP"):
        read_dssp(tmp_path / "b.dssp")


def test_demanding_mkdssp_where_it_is_not_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    path = pdb(tmp_path, chain_lines(backbone([HELICES["H"]] * 8), "A" * 8))
    with pytest.raises(OSError, match=r"mkdssp is not installed .*choose the built-in states"):
        read_proteins(path, Labelling(dssp="mkdssp"))
    assert read_proteins(path, Labelling(dssp="auto")).records[0].ss8 == "CHHHHHHC"
    with pytest.raises(ValueError, match="unknown source of states 'x'"):
        Labelling(dssp="x")


def test_the_middle_of_a_tripeptide_shows_what_the_scale_allows(tmp_path):
    path = pdb(tmp_path, chain_lines(backbone([(-120.0, 140.0)] * 3), "GAG"))
    (record,) = read_proteins(path, Labelling(dssp="built-in")).records
    assert 0.75 < record.accessibility[1] <= 1 + SURFACE_NOISE
