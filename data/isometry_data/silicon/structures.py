"""The silicon structures of the data set, made from a seed: what is computed, never how.

Lengths are Å, strains are dimensionless and symmetric (Voigt order xx yy zz yz xz xy, tensor shears, so that the
engineering shear is twice the number).
"""

from collections.abc import Callable, Iterator

import numpy as np
from ase import Atoms
from ase.build import bulk, make_supercell

SEED = 20240717
LATTICE_CONSTANT = 5.39  # Å, near the LDA equilibrium of diamond
CLOSEST_PAIR = 1.6  # Å, below it a draw of displacements is thrown away
MESH_LENGTH = 15.0  # Å, a mesh has at least this many Å of (k points) x (height of the cell) along every axis
VALID_FRACTION, TEST_FRACTION = 0.10, 0.15  # of the groups of one family

N_RATTLE_PARENTS = 80
N_VACANCY_PARENTS = 12
N_INTERSTITIAL_PARENTS = 10
N_VARIANTS = 4  # per parent of the three families above


def build_structures(seed: int = SEED) -> list[Atoms]:
    """Every structure, in file order.

    `info` holds `name`, `config_type`, `group`, `split`, `kpts`; `strain` in the families eos and elastic (against
    diamond at LATTICE_CONSTANT); `phase` and `site` where they apply; `rattle_std` (Å, 0 for none).
    """
    structures = []
    for index, (family, build) in enumerate(FAMILIES.items()):
        members = list(build(np.random.default_rng([seed, index])))
        splits = split_groups([atoms.info["group"] for atoms in members], np.random.default_rng([seed, index, 1]))
        for number, atoms in enumerate(members):
            labels = {"name": f"{family}-{number:03d}", "config_type": family, "split": splits[atoms.info["group"]]}
            atoms.info = labels | atoms.info
        structures += members
    return structures


def split_groups(groups: list[str], rng: np.random.Generator) -> dict[str, str]:
    """Group -> train, valid or test; at least one group in each of the last two."""
    unique = list(dict.fromkeys(groups))
    n_valid, n_test = (max(1, round(part * len(unique))) for part in (VALID_FRACTION, TEST_FRACTION))
    order = [unique[index] for index in rng.permutation(len(unique))]
    names = ["valid"] * n_valid + ["test"] * n_test
    return {group: names[rank] if rank < len(names) else "train" for rank, group in enumerate(order)}


def mesh_for(atoms: Atoms) -> np.ndarray:
    """[3] k points along each axis for an unstrained parent; strained copies keep their parent's mesh."""
    heights = 1 / np.linalg.norm(atoms.cell.reciprocal(), axis=1)  # Å
    return np.ceil(MESH_LENGTH / heights).astype(int)


def strained(atoms: Atoms, strain: np.ndarray) -> Atoms:
    """A copy whose cell and atoms follow the homogeneous `strain` [6]."""
    xx, yy, zz, yz, xz, xy = strain
    stretch = np.eye(3) + np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    copy = atoms.copy()
    copy.set_cell(atoms.cell.array @ stretch, scale_atoms=True)
    return copy


def isotropic(volume_change: float) -> np.ndarray:
    """[6] strain that changes the volume by the fraction `volume_change`."""
    return np.repeat([(1 + volume_change) ** (1 / 3) - 1, 0.0], 3)


def random_strain(rng: np.random.Generator, volume_range: float, shape_std: float) -> np.ndarray:
    """[6] volume change drawn in ±`volume_range`, plus normal strain components of `shape_std`."""
    return isotropic(rng.uniform(-volume_range, volume_range)) + rng.normal(0, shape_std, 6)


def closest_pair(atoms: Atoms) -> float:
    """Å, over all pairs and their nearest images."""
    distances = atoms.get_all_distances(mic=True)
    return float(distances[~np.eye(len(atoms), dtype=bool)].min())


def rattled(atoms: Atoms, std: float, rng: np.random.Generator) -> Atoms:
    """A copy with normal displacements (std in Å per component, mean removed), redrawn until no pair is too close."""
    for _ in range(2000):
        displacements = rng.normal(0, std, (len(atoms), 3))
        copy = atoms.copy()
        copy.positions += displacements - displacements.mean(axis=0)
        copy.info["rattle_std"] = round(std, 6)
        if closest_pair(copy) >= CLOSEST_PAIR:
            return copy
    raise ValueError(f"no draw of {std:.3f} Å kept all pairs {CLOSEST_PAIR} Å apart: use a smaller displacement")


def labelled(atoms: Atoms, group: str, **labels) -> Atoms:
    """The same atoms with their group and further labels; an unrattled structure says so."""
    atoms.info = {"group": group, "rattle_std": 0.0} | atoms.info | labels
    return atoms


def diamond() -> Atoms:
    """The cubic cell of eight atoms, with its mesh in `info`."""
    atoms = bulk("Si", "diamond", a=LATTICE_CONSTANT, cubic=True)
    atoms.info["kpts"] = mesh_for(atoms)
    return atoms


def equation_of_state(rng: np.random.Generator) -> Iterator[Atoms]:
    """Diamond, volume -12 to +12 %, one group per volume."""
    for percent in range(-12, 13):
        strain = isotropic(percent / 100)
        yield labelled(strained(diamond(), strain), f"eos{percent:+03d}", strain=strain)


def elastic(rng: np.random.Generator) -> Iterator[Atoms]:
    """Strained diamond: one representative of each cubic symmetry class, then random strains with small displacements.

    Along y and z, and with the opposite shear or the axes of the tetragonal strain exchanged, the cubic crystal would
    only repeat itself; those copies are left out.
    """
    steps = (0.005, 0.010, 0.015, 0.020, 0.025, 0.030)
    classes = {
        "xx": ([1, 0, 0, 0, 0, 0], [sign * step for sign in (1, -1) for step in steps]),
        "yz": ([0, 0, 0, 1, 0, 0], steps),
        "xx-yy": ([1, -1, 0, 0, 0, 0], steps[1::2]),
        "yz+xz": ([0, 0, 0, 1, 1, 0], steps[1::2]),
    }
    for name, (direction, sizes) in classes.items():
        for size in sizes:
            strain = size * np.array(direction) + 0.0  # no negative zeros
            yield labelled(strained(diamond(), strain), f"elastic-{name}{size:+.3f}", strain=strain)
    for parent in range(13):
        strain = np.clip(rng.normal(0, 0.015, 6), -0.03, 0.03)
        clamped = labelled(strained(diamond(), strain), f"elastic-random{parent:02d}", strain=strain)
        yield clamped
        for _ in range(2):
            yield rattled(clamped, rng.uniform(0.005, 0.04), rng)


def rattle(rng: np.random.Generator) -> Iterator[Atoms]:
    """Strained diamond with thermal displacements; two draws of three lie near room temperature (0.08 Å)."""
    for parent in range(N_RATTLE_PARENTS):
        cell = labelled(strained(diamond(), random_strain(rng, 0.10, 0.012)), f"rattle{parent:02d}")
        for variant in range(N_VARIANTS):
            low, high = (0.12, 0.30) if (parent + variant) % 3 == 0 else (0.02, 0.12)
            yield rattled(cell, rng.uniform(low, high), rng)


def vacancy(rng: np.random.Generator) -> Iterator[Atoms]:
    """Strained diamond short of one atom, rattled."""
    for parent in range(N_VACANCY_PARENTS):
        cell = strained(diamond(), random_strain(rng, 0.06, 0.010))
        del cell[0]
        for _ in range(N_VARIANTS):
            yield labelled(rattled(cell, rng.uniform(0.02, 0.20), rng), f"vacancy{parent:02d}")


def interstitial(rng: np.random.Generator) -> Iterator[Atoms]:
    """Strained diamond with one atom too many, rattled."""
    for parent in range(N_INTERSTITIAL_PARENTS):
        site = ("tetrahedral", "hexagonal", "split")[parent % 3]
        cell = strained(with_interstitial(site), random_strain(rng, 0.06, 0.010))
        for _ in range(N_VARIANTS):
            yield labelled(rattled(cell, rng.uniform(0.02, 0.15), rng), f"interstitial{parent:02d}", site=site)


def with_interstitial(site: str) -> Atoms:
    """Diamond and a ninth atom: in the tetrahedral or hexagonal hole, or sharing a site as a pair along [110]."""
    cell = diamond()
    if site == "split":
        half = np.array([1, 1, 0]) / np.sqrt(2) * 1.2  # Å
        cell.positions[0] += half - np.array([0, 0, 0.8])  # Å, away from the two neighbours above
        extra = cell.positions[0] - 2 * half
    else:
        extra = {"tetrahedral": 1 / 2, "hexagonal": 5 / 8}[site] * LATTICE_CONSTANT * np.ones(3)
    return cell + Atoms("Si", positions=[extra])


def phase(rng: np.random.Generator) -> Iterator[Atoms]:
    """Other crystals of silicon, each compressed, near its equilibrium and stretched, as it is and rattled."""
    for name, build in PHASES.items():
        perfect = build()
        perfect.info["kpts"] = mesh_for(perfect)
        for number, volume_change in enumerate((-0.08, 0.0, 0.08)):
            cell = strained(perfect, isotropic(volume_change + rng.uniform(-0.03, 0.03)))
            cell = labelled(cell, f"phase-{name}{number}", phase=name)
            yield cell
            for _ in range(2):
                yield rattled(strained(cell, rng.normal(0, 0.010, 6)), rng.uniform(0.03, 0.20), rng)


def beta_tin() -> Atoms:
    """Body-centred tetragonal, four atoms, doubled along its short axis."""
    scaled = [(0, 0, 0), (0, 1 / 2, 1 / 4), (1 / 2, 1 / 2, 1 / 2), (1 / 2, 0, 3 / 4)]
    return Atoms("Si4", scaled_positions=scaled, cell=(4.77, 4.77, 2.63), pbc=True) * (1, 1, 2)


def hexagonal_cell(scaled: list[tuple[float, float, float]], a: float, c: float) -> Atoms:
    """Atoms of a hexagonal cell in the rectangular cell of twice the size; `a`, `c` in Å."""
    cell = [[a, 0, 0], [-a / 2, a * np.sqrt(3) / 2, 0], [0, 0, c]]
    atoms = Atoms(f"Si{len(scaled)}", scaled_positions=scaled, cell=cell, pbc=True)
    return make_supercell(atoms, [[1, 0, 0], [1, 2, 0], [0, 0, 1]])


def lonsdaleite() -> Atoms:
    """Hexagonal diamond, eight atoms."""
    low, high = 1 / 16, 7 / 16
    third = 1 / 3
    scaled = [
        (third, 2 * third, low),
        (third, 2 * third, high),
        (2 * third, third, low + 1 / 2),
        (2 * third, third, high + 1 / 2),
    ]
    a = LATTICE_CONSTANT / np.sqrt(2)
    return hexagonal_cell(scaled, a, a * np.sqrt(8 / 3))


def simple_hexagonal() -> Atoms:
    """One atom per hexagonal cell, eight in the repeated rectangular one."""
    return hexagonal_cell([(0, 0, 0)], 2.62, 2.47) * (2, 1, 2)


def bc8() -> Atoms:
    """The body-centred cubic phase Ia-3 (Wyckoff 16c), eight atoms in its primitive cell."""
    a, x = 6.57, 0.1003  # Å, fraction
    one = np.array([(x, x, x), (1 / 2 - x, -x, 1 / 2 + x), (-x, 1 / 2 + x, 1 / 2 - x), (1 / 2 + x, 1 / 2 - x, -x)])
    primitive = a / 2 * np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]])
    atoms = Atoms("Si8", positions=a * np.concatenate([one, -one]), cell=primitive, pbc=True)
    atoms.wrap()
    return atoms


PHASES: dict[str, Callable[[], Atoms]] = {
    "beta-tin": beta_tin,
    "simple-hexagonal": simple_hexagonal,
    "simple-cubic": lambda: bulk("Si", "sc", a=2.49) * (2, 2, 2),
    "body-centred-cubic": lambda: bulk("Si", "bcc", a=3.06, cubic=True) * (2, 2, 1),
    "face-centred-cubic": lambda: bulk("Si", "fcc", a=3.83, cubic=True) * (2, 1, 1),
    "lonsdaleite": lonsdaleite,
    "bc8": bc8,
}

FAMILIES: dict[str, Callable[[np.random.Generator], Iterator[Atoms]]] = {
    "eos": equation_of_state,
    "elastic": elastic,
    "rattle": rattle,
    "vacancy": vacancy,
    "interstitial": interstitial,
    "phase": phase,
}
