"""The eight states of DSSP from coordinates: helices H G I, strands E, bridges B, turns T, bends S, the rest C.

Written after Kabsch & Sander, Biopolymers 22, 2577 (1983), with the rules of today's mkdssp 4: π helices may take
residues from α helices, ladders are joined over bulges. Its P (polyproline stretches of coil) is C here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from isometry_data.hydrogen_bonds import ALPHA, FARTHEST, Bonds, hydrogen_bonds, is_joined

HELIX_STRIDES = {3: "G", 4: "H", 5: "I"}
BEND = 70.0  # degrees between Cα(i-2)→Cα(i) and Cα(i)→Cα(i+2)
BULGE = (3, 6)  # a bulge has fewer than 3 steps on one strand and fewer than 6 on the other


class Ladder(NamedTuple):
    """Bridges in a row: residues of one strand ascending, and of the other in the order of the ladder's kind."""

    is_parallel: bool
    first: list[int]
    second: list[int]  # ascending, in both kinds


def eight_states(backbone: np.ndarray, chain: np.ndarray, is_proline: np.ndarray) -> str:
    """One letter for each residue.

    Args:
        backbone: [n, 4, 3] Å, N, Cα, C, O; a residue that lacks one of them (NaN) gets `.` and breaks the chain.
        chain: [n] a number for each chain; bridges may join two.
        is_proline: [n] bool; a proline donates no hydrogen bond.
    """
    whole = np.isfinite(backbone).all(axis=(1, 2))
    states = np.full(len(backbone), ".", dtype="<U1")
    if whole.any():
        index = np.flatnonzero(whole)
        joined = is_joined(backbone[index], chain[index])
        joined[1:] &= np.diff(index) == 1
        states[index] = _states(backbone[index], joined, is_proline[index])
    return "".join(states)


def _states(backbone: np.ndarray, joined: np.ndarray, is_proline: np.ndarray) -> np.ndarray:
    n = len(backbone)
    piece = np.cumsum(~joined)  # unbroken stretches have one number
    bonds = hydrogen_bonds(backbone, joined, is_proline)
    states = np.full(n, "C", dtype="<U1")
    for ladder in _ladders(_bridges(bonds, backbone, piece), piece):
        letter = "E" if len(ladder.first) > 1 else "B"
        for strand in (ladder.first, ladder.second):
            part = slice(strand[0], strand[-1] + 1)
            states[part] = np.where(states[part] == "E", "E", letter)
    opens = {stride: _turn_starts(bonds, piece, stride) for stride in HELIX_STRIDES}
    _put_helices(states, opens)
    _put_turns_and_bends(states, opens, _bends(backbone[:, ALPHA], piece))
    return states


def _turn_starts(bonds: Bonds, piece: np.ndarray, stride: int) -> np.ndarray:
    """[n] bool: C=O of the residue is bonded to N-H of the one `stride` further."""
    n = len(piece)
    starts = np.zeros(n, dtype=bool)
    if n > stride:
        here = np.arange(n - stride)
        starts[here] = bonds.has(here + stride, here) & (piece[here] == piece[here + stride])
    return starts


def _put_helices(states: np.ndarray, opens: dict[int, np.ndarray]) -> None:
    """Two turns in a row make a helix. α comes first and takes all; 3₁₀ takes what is free; π also takes from α."""
    for stride, may_take in ((4, None), (3, "CG"), (5, "CIH")):
        letter, starts = HELIX_STRIDES[stride], opens[stride]
        for i in np.flatnonzero(starts[1:] & starts[:-1]) + 1:
            part = states[i : i + stride]
            if may_take is None or np.isin(part, list(may_take)).all():
                part[:] = letter


def _put_turns_and_bends(states: np.ndarray, opens: dict[int, np.ndarray], bends: np.ndarray) -> None:
    inside = np.zeros(len(states), dtype=bool)
    for stride, starts in opens.items():
        for step in range(1, stride):
            inside[step:] |= starts[:-step]
    ends = np.zeros(len(states), dtype=bool)
    ends[[0, -1]] = True
    free = (states == "C") & ~ends
    states[free & bends] = "S"
    states[free & inside] = "T"


def _bends(alphas: np.ndarray, piece: np.ndarray) -> np.ndarray:
    n = len(alphas)
    bends = np.zeros(n, dtype=bool)
    if n < 5:
        return bends
    before, after = alphas[2:-2] - alphas[:-4], alphas[4:] - alphas[2:-2]
    with np.errstate(divide="ignore", invalid="ignore"):
        cosine = (before * after).sum(1) / (np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1))
    angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    bends[2:-2] = (angle > BEND) & (piece[4:] == piece[:-4])
    return bends


def _bridges(bonds: Bonds, backbone: np.ndarray, piece: np.ndarray) -> list[tuple[int, int, bool]]:
    """(i, j, is_parallel) with i < j, both with unbroken neighbours, in order of i, then j."""
    from scipy.spatial import KDTree

    close = KDTree(backbone[:, ALPHA]).query_pairs(FARTHEST, output_type="ndarray").astype(np.int64)
    i, j = close.min(axis=1), close.max(axis=1)
    last = len(piece) - 1
    sensible = (i > 0) & (j < last) & (j - i >= 3)
    i, j = i[sensible], j[sensible]
    unbroken = (piece[i - 1] == piece[i + 1]) & (piece[j - 1] == piece[j + 1])
    i, j = i[unbroken], j[unbroken]
    has = bonds.has
    parallel = (has(i + 1, j) & has(j, i - 1)) | (has(j + 1, i) & has(i, j - 1))
    opposed = (has(i + 1, j - 1) & has(j + 1, i - 1)) | (has(j, i) & has(i, j))
    found = parallel | opposed
    rows = zip(i[found].tolist(), j[found].tolist(), parallel[found].tolist(), strict=True)
    return sorted(rows)


def _ladders(bridges: list[tuple[int, int, bool]], piece: np.ndarray) -> list[Ladder]:
    """Bridges that follow each other, then ladders joined over bulges."""
    ladders: list[Ladder] = []
    waiting: dict[tuple[bool, int, int], Ladder] = {}  # kind and the bridge that would go on
    for i, j, is_parallel in bridges:
        ladder = waiting.pop((is_parallel, i, j), None)
        if ladder is None:
            ladder = Ladder(is_parallel, [], [])
            ladders.append(ladder)
        ladder.first.append(i)
        ladder.second.insert(len(ladder.second) if is_parallel else 0, j)
        waiting[is_parallel, i + 1, j + 1 if is_parallel else j - 1] = ladder
    return _joined_over_bulges(ladders, piece)


def _joined_over_bulges(ladders: list[Ladder], piece: np.ndarray) -> list[Ladder]:
    ladders = sorted(ladders, key=lambda ladder: ladder.first[0])
    at = 0
    while at < len(ladders):
        after = at + 1
        while after < len(ladders) and ladders[after].first[0] - ladders[at].first[-1] < max(BULGE):
            if _is_bulge(ladders[at], ladders[after], piece):
                _take_over(ladders[at], ladders.pop(after))
            else:
                after += 1
        at += 1
    return ladders


def _is_bulge(one: Ladder, other: Ladder, piece: np.ndarray) -> bool:
    near, far = BULGE
    along = other.first[0] - one.first[-1]
    across = other.second[0] - one.second[-1] if one.is_parallel else one.second[0] - other.second[-1]
    same_pieces = all(
        piece[min(a[0], b[0])] == piece[max(a[-1], b[-1])]
        for a, b in ((one.first, other.first), (one.second, other.second))
    )
    return (
        one.is_parallel == other.is_parallel
        and same_pieces
        and 0 < along < far
        and ((0 <= across < far and along < near) or 0 <= across < near)
    )


def _take_over(one: Ladder, other: Ladder) -> None:
    one.first.extend(other.first)
    place = len(one.second) if one.is_parallel else 0
    one.second[place:place] = other.second
