"""The built-in search beside MMseqs2 on the same chains: CPU time, and how far they find the same pairs.

    ISOMETRY_DATA=data python benchmarks/sequence_clusters.py               # NetSurfP-2's training chains
    python benchmarks/sequence_clusters.py my.fasta --n 2000 --exhaustive

The pairs that count cover half of the shorter sequence by the program's own alignment. `found` is the share of
MMseqs2's pairs of an identity that the built-in search finds at that identity, `found nearly` at five points less (two
programs' identities differ), `joined` those that its pairs put into one cluster, `of ours` the share of its own pairs
that MMseqs2 finds. Pairs whose chains both carry a run of histidines near an end are left out: MMseqs2 aligns the
expression tags of strangers (`--with-tags` counts them). `--exhaustive` aligns every pair, the truth for both.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from isometry_data.local_alignments import Alignment, alignments_by_words, alignments_of_all
from isometry_data.mmseqs import alignments_by_mmseqs
from isometry_data.proteins import read_protein_set, read_proteins
from isometry_data.sequence_clusters import COVERAGE
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

IDENTITIES = (0.25, 0.3, 0.5)
NEARLY = 0.05
TAG, ENDS = "HHHHH", 40  # within so many residues of an end

Pairs = dict[tuple[int, int], float]


def has_tag(sequence: str) -> bool:
    return TAG in sequence[:ENDS] or TAG in sequence[-ENDS:]


def pairs_of(alignments: Sequence[Alignment], is_tagged: Sequence[bool]) -> Pairs:
    """The largest identity of each pair, smaller number first, that covers enough."""
    pairs: Pairs = {}
    for one in alignments:
        pair = (min(one.query, one.target), max(one.query, one.target))
        if pair[0] != pair[1] and one.coverage >= COVERAGE and not (is_tagged[pair[0]] and is_tagged[pair[1]]):
            pairs[pair] = max(pairs.get(pair, 0.0), one.identity)
    return pairs


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
    """What it gives, and the seconds of CPU time that it and its programs took."""
    started = sum(os.times()[:4])
    return run(), sum(os.times()[:4]) - started


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
    parser.add_argument("--with-tags", action="store_true", help="count pairs of chains with expression tags, too")
    parser.add_argument("--exhaustive", action="store_true", help="align every pair, too")
    options = parser.parse_args()
    records = [record for file in options.files for record in read_proteins(file).records]
    sequences = [record.sequence for record in records or read_protein_set("netsurfp2", "train")]
    n = min(options.n or len(sequences), len(sequences))
    sequences = [sequences[i * len(sequences) // n] for i in range(n)]
    print(f"{n:,} chains, {sum(map(len, sequences)):,} residues", flush=True)
    is_tagged = [not options.with_tags and has_tag(sequence) for sequence in sequences]
    ours, own_seconds = timed(lambda: pairs_of(alignments_by_words(sequences, sequences), is_tagged))
    print(f"built-in search: {own_seconds:.0f} s", flush=True)
    theirs, their_seconds = timed(lambda: pairs_of(alignments_by_mmseqs(sequences, sequences), is_tagged))
    print(f"MMseqs2: {their_seconds:.0f} s", flush=True)
    table(theirs, ours, n, "MMseqs2")
    if options.exhaustive:
        every, all_seconds = timed(lambda: pairs_of(alignments_of_all(sequences, sequences), is_tagged))
        print(f"\nexhaustive alignment: {all_seconds:.0f} s")
        table(every, ours, n, "all")
        found = [{p for p, value in pairs.items() if value >= 0.25} for pairs in (every, theirs)]
        print(f"MMseqs2 finds {share(*found).strip()} of the exhaustive pairs at 25%")


if __name__ == "__main__":
    main()
