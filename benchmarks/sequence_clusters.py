"""The built-in search beside MMseqs2 on the same chains: time, and how far they find the same pairs and clusters.

    ISOMETRY_DATA=data python benchmarks/sequence_clusters.py               # NetSurfP-2's training chains
    python benchmarks/sequence_clusters.py my.fasta --n 2000 --exhaustive

At each identity the pairs that count are those of half the shorter sequence or more, by the program's own alignment.
`found` is the share of MMseqs2's pairs that the built-in search finds at that identity, `found nearly` that at five
points less (two programs' identities of one pair differ), `joined` that which the built-in pairs put into one cluster,
and `of ours` the share of the built-in pairs that MMseqs2 finds. `--exhaustive` aligns every pair, without any
search: the truth for both (minutes for some thousand chains).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from isometry_data.local_alignments import Alignment, alignments_by_words, alignments_of_all
from isometry_data.mmseqs import alignments_by_mmseqs
from isometry_data.proteins import read_protein_set, read_proteins
from isometry_data.sequence_clusters import COVERAGE, sequence_clusters
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

IDENTITIES = (0.25, 0.3, 0.5)
NEARLY = 0.05

Pairs = dict[tuple[int, int], float]


def pairs_of(alignments: Sequence[Alignment]) -> Pairs:
    """The largest identity of each pair, smaller number first, that covers enough."""
    pairs: Pairs = {}
    for one in alignments:
        pair = (min(one.query, one.target), max(one.query, one.target))
        if pair[0] != pair[1] and one.coverage >= COVERAGE:
            pairs[pair] = max(pairs.get(pair, 0.0), one.identity)
    return pairs


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
    """What it gives, and its seconds on the clock."""
    started = time.perf_counter()
    return run(), time.perf_counter() - started


def share(of: set, found: set) -> str:
    return f"{len(of & found) / len(of):7.1%}" if of else "      -"


def joined_by(pairs: set[tuple[int, int]], n: int) -> np.ndarray:
    """[n] the number of each sequence's connected component."""
    ends = np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2)
    return connected_components(coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(n, n)), False)[1]


def table(truth: Pairs, ours: Pairs, n: int, name: str) -> None:
    print(f"\nidentity   pairs of {name:10}    ours    found  found nearly  joined  of ours")
    for identity in IDENTITIES:
        theirs = {pair for pair, value in truth.items() if value >= identity}
        own = {pair for pair, value in ours.items() if value >= identity}
        nearly = {pair for pair, value in ours.items() if value >= identity - NEARLY}
        cluster = joined_by(own, n)
        joined = {pair for pair in theirs if cluster[pair[0]] == cluster[pair[1]]}
        print(
            f"{identity:8.0%}   {len(theirs):19,} {len(own):7,}  {share(theirs, own)}  {share(theirs, nearly):>12} "
            f"{share(theirs, joined)}  {share(own, theirs)}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="*", help="FASTA or .ss (default: netsurfp2's training chains)")
    parser.add_argument("--n", type=int, help="take so many chains, evenly spaced")
    parser.add_argument("--exhaustive", action="store_true", help="align every pair, too")
    options = parser.parse_args()
    records = [record for file in options.files for record in read_proteins(file).records]
    sequences = [record.sequence for record in records or read_protein_set("netsurfp2", "train")]
    n = min(options.n or len(sequences), len(sequences))
    sequences = [sequences[i * len(sequences) // n] for i in range(n)]
    print(f"{n:,} chains, {sum(map(len, sequences)):,} residues", flush=True)
    clusters, seconds = timed(lambda: sequence_clusters(sequences, search="words"))
    print(f"built-in clusters at 25 %: {clusters.max() + 1:,} in {seconds:.0f} s", flush=True)
    ours, own_seconds = timed(lambda: pairs_of(alignments_by_words(sequences, sequences)))
    theirs, their_seconds = timed(lambda: pairs_of(alignments_by_mmseqs(sequences, sequences)))
    print(f"every pair: built-in {own_seconds:.0f} s, MMseqs2 {their_seconds:.0f} s", flush=True)
    table(theirs, ours, n, "MMseqs2")
    if options.exhaustive:
        every, all_seconds = timed(lambda: pairs_of(alignments_of_all(sequences, sequences)))
        print(f"\nexhaustive alignment: {all_seconds:.0f} s")
        table(every, ours, n, "all")
        found = [{p for p, value in pairs.items() if value >= 0.25} for pairs in (every, theirs)]
        print(f"MMseqs2 finds {share(*found).strip()} of the exhaustive pairs at 25%")


if __name__ == "__main__":
    main()
