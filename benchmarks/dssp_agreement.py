"""How far the built-in secondary structure agrees with mkdssp, on structure files of your own.

    python benchmarks/dssp_agreement.py *.pdb *.cif.gz

Both get the chains as `read_chains` reads them. Files that hold no protein chain are named and left out.
"""

from __future__ import annotations

import sys
import time
from collections import Counter

from isometry_data.mkdssp import states_by_mkdssp
from isometry_data.protein_records import EIGHT_STATES, UNKNOWN_STATE
from isometry_data.proteins import built_in_states
from isometry_data.structure_chains import read_chains


def compared(path: str, counts: Counter[tuple[str, str]], seconds: Counter[str]) -> bool:
    """Counts (mkdssp's state, built-in state) of each residue; False where the file cannot be compared."""
    try:
        chains = read_chains(path).chains
        started = time.perf_counter()
        ours = built_in_states(chains)
        between = time.perf_counter()
        theirs = states_by_mkdssp(chains)
    except (OSError, ValueError) as error:
        print(f"left out: {error}")
        return False
    seconds["built-in"] += between - started
    seconds["mkdssp"] += time.perf_counter() - between
    pairs = Counter(pair for a, b in zip(theirs, ours, strict=True) for pair in zip(a, b, strict=True))
    differ = sum(count for (a, b), count in pairs.items() if a != b)
    if differ:
        print(f"{path}: {differ} of {sum(pairs.values())} residues differ")
    counts.update(pairs)
    return True


def main(paths: list[str]) -> None:
    counts: Counter[tuple[str, str]] = Counter()
    seconds: Counter[str] = Counter()
    n_files = sum(compared(path, counts, seconds) for path in paths)
    known = {pair: count for pair, count in counts.items() if pair[0] != UNKNOWN_STATE}
    n_residues = sum(known.values())
    agree = sum(count for (a, b), count in known.items() if a == b)
    print(f"{n_files} files, {n_residues} residues, agreement {agree / max(n_residues, 1):.4%}")
    print(f"built-in {seconds['built-in']:.1f} s, mkdssp {seconds['mkdssp']:.1f} s (it also computes surfaces)")
    for state in EIGHT_STATES:
        n_state = sum(count for (a, _), count in known.items() if a == state)
        print(f"  {state}  {n_state:6d}  {counts[state, state] / max(n_state, 1):.3%}")


if __name__ == "__main__":
    main(sys.argv[1:])
