"""Neighbour lists by matscipy, vesin and ASE: do they agree, and how long do they take beside each other?

Run: OMP_NUM_THREADS=1 python benchmarks/neighbour_lists.py          (needs: pip install vesin)
Every round takes each library once, in turn; printed is the median over the rounds of a library's time over
matscipy's in the same round, so that a busy machine matters little. All three get the box that `neighbours` makes.
ASE, the oracle, takes part up to 300 atoms.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import numpy as np
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.neighborlist import neighbor_list
from isometry_data.neighbours import _enclosing_box, neighbours

CUTOFF = 5.0  # Å
ROUNDS = 30
Pairs = tuple[np.ndarray, np.ndarray]  # edge_index [2, n_edges], shift [n_edges, 3]


def by_vesin(atoms: Atoms) -> Pairs:
    from vesin import NeighborList

    _, box = _enclosing_box(atoms.positions, np.asarray(atoms.cell), atoms.pbc, CUTOFF)
    search = NeighborList(cutoff=CUTOFF, full_list=True, sorted=True, n_threads=1)
    i, j, shift = search.compute(atoms.positions, box, atoms.pbc, "ijS")
    return np.stack([i, j]).astype(np.int64), shift.astype(np.int64)


def by_ase(atoms: Atoms) -> Pairs:
    i, j, shift = neighbor_list("ijS", atoms, CUTOFF)
    return np.stack([i, j]), shift


LIBRARIES: dict[str, Callable[[Atoms], Pairs]] = {
    "matscipy": lambda atoms: neighbours(atoms, CUTOFF),
    "vesin": by_vesin,
    "ASE": by_ase,
}


def structures() -> dict[str, Atoms]:
    """From two atoms to four thousand, with slabs, a molecule, skewed cells and atoms outside their cell."""
    silicon = bulk("Si", a=5.43, cubic=True)
    cases = {"Si 2": bulk("Si", a=5.43), "Si 8": silicon, "Si 64": silicon.repeat(2), "Si 1000": silicon.repeat(5)}
    cases["Si 4096"] = silicon.repeat(8)
    cases["Cu 108"] = bulk("Cu", cubic=True).repeat(3)
    cases["slab 48"] = fcc111("Cu", (4, 4, 3), vacuum=8.0)
    cases["molecule 60"] = molecule("C60")
    cases["skewed 27"] = bulk("Cu").repeat(3)
    for atoms in cases.values():
        atoms.rattle(0.05, seed=0)
    outside = silicon.copy()
    outside.positions += np.random.default_rng(0).integers(-3, 4, (8, 3)) @ np.asarray(outside.cell)
    cases["outside 8"] = outside
    cases["no cell, stray"] = Atoms("H3", [[0, 0, 0], [0, 0, 1.0], [200, 0, 0]])
    return cases


def as_counter(pairs: Pairs) -> Counter:
    return Counter(zip(*pairs[0].tolist(), *pairs[1].T.tolist(), strict=True))


def main() -> None:
    print(f"{'structure':16}{'pairs':>8}{'matscipy ms':>13}" + "".join(f"{n + ' ratio':>14}" for n in ("vesin", "ASE")))
    for name, atoms in structures().items():
        entrants = {n: search for n, search in LIBRARIES.items() if n != "ASE" or len(atoms) <= 300}
        found = {n: as_counter(search(atoms)) for n, search in entrants.items()}
        times: dict[str, list[float]] = {n: [] for n in entrants}
        for _ in range(ROUNDS):
            for n, search in entrants.items():
                start = time.perf_counter()
                search(atoms)
                times[n].append(time.perf_counter() - start)
        ours = np.array(times["matscipy"])
        cells = [f"{np.median(times[n] / ours):.2f}" if n in times else "" for n in ("vesin", "ASE")]
        apart = [n for n in found if found[n] != found["matscipy"]]
        notes = f"   {', '.join(apart)} finds other pairs" if apart else ""
        print(
            f"{name:16}{found['matscipy'].total():8d}{1e3 * np.median(ours):13.3f}"
            + "".join(f"{c:>14}" for c in cells)
            + notes
        )


if __name__ == "__main__":
    main()
