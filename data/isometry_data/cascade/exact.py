"""The cascade's exact distributions: its master equation on a finite box of states.

Within a box of molecule numbers the master equation is a finite linear system dp/dt = A p. What leaves the box is lost
(finite-state projection): the missing probability bounds the error of every state. At rest the box is closed instead,
and the probability on its outer faces says whether it is large enough.

Source: Munsky and Khammash 2006, doi:10.1063/1.2145882.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array, csc_array
from scipy.sparse.linalg import expm_multiply, spsolve
from scipy.special import rel_entr
from scipy.stats import poisson

from isometry_data.cascade.reactions import CHANGES, Array, Cascade

AXES = "ELSG"
"""The axes of a joint table."""
TAIL = 1e-9


class Box(NamedTuple):
    """How many values, from 0, each molecule number may take."""

    ligand: int
    signal: int
    gene: int


def box_of(cascade: Cascade, tail: float = TAIL) -> Box:
    """A box outside which there is about `tail` of the probability."""
    ligand = int(poisson.isf(tail, max(cascade.ligand_means))) + 2
    most_active = float(cascade.activity(ligand))
    signal_mean = cascade.signal_rate * most_active / cascade.signal_decay
    gene_mean = signal_mean * cascade.gene_rate / cascade.gene_decay
    # S passes its own noise on: variance = mean (1 + burst).
    burst = cascade.gene_rate / (cascade.signal_decay + cascade.gene_decay)
    reach = -np.log10(tail) * 0.85
    gene = gene_mean + reach * np.sqrt(gene_mean * (1 + burst)) + reach
    return Box(ligand, int(poisson.isf(tail, signal_mean)) + 2, int(gene) + 2)


def generator(cascade: Cascade, environment: int, box: Box, *, is_closed: bool) -> csc_array:
    """[n_states, n_states] A of dp/dt = A p, states in the order of a C array [ligand, signal, gene].

    `is_closed`: reactions that would leave the box do not happen; otherwise they are lost.
    """
    states = np.indices(box).reshape(3, -1)
    ligand, signal, gene = states
    rates = cascade.rates(ligand, signal, gene, cascade.ligand_means[environment])  # [n_states, 6]
    index, sizes = np.arange(states.shape[1]), np.array(box)[:, None]
    rows, columns, values = [], [], []
    for change, rate in zip(CHANGES, rates.T, strict=True):
        target = states + change[:, None]
        is_inside = ((target >= 0) & (target < sizes)).all(0)
        to = np.ravel_multi_index(tuple(target[:, is_inside]), tuple(box))
        happens = is_inside if is_closed else np.ones_like(is_inside)
        rows += [to, index[happens]]
        columns += [index[is_inside], index[happens]]
        values += [rate[is_inside], -rate[happens]]
    shape = (len(index), len(index))
    return coo_array((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape).tocsc()


def joint_at(cascade: Cascade, time: float, box: Box | None = None) -> Array:
    """p(E, L, S, G) `time` minutes after the start, where L is drawn from its environment and S = G = 0.

    Returns:
        [n_environments, *box]; 1 minus its sum bounds the error.
    """
    inside = box or box_of(cascade)
    if cascade.is_frozen:
        return _weighted(cascade, _moved(cascade, 0, np.ones(inside.ligand), time, inside))
    starts = [ligand_given(cascade, e, inside.ligand) for e in range(len(cascade.prior))]
    parts = [p * _moved(cascade, e, starts[e], time, inside) for e, p in enumerate(cascade.prior)]
    return np.stack(parts)


def _moved(cascade: Cascade, environment: int, ligand: Array, time: float, box: Box) -> Array:
    """[*box] after `time`, from S = G = 0 and `ligand` [n_ligand]."""
    start = np.zeros(box)
    start[:, 0, 0] = ligand
    rates = generator(cascade, environment, box, is_closed=False)
    return np.maximum(expm_multiply(rates * time, start.ravel()), 0).reshape(box)


def _weighted(cascade: Cascade, given_ligand: Array) -> Array:
    """p(E) p(L | E) p(S, G | L): every number of frozen ligands is a world of its own, whatever the environment."""
    shares = [p * ligand_given(cascade, e, len(given_ligand)) for e, p in enumerate(cascade.prior)]
    return np.stack([share[:, None, None] * given_ligand for share in shares])


def joint_at_rest(cascade: Cascade, box: Box | None = None) -> Array:
    """p(E, L, S, G) of cells that have been in their environment for ever, [n_environments, *box], sum 1."""
    inside = box or box_of(cascade)
    if cascade.is_frozen:
        joint = _weighted(cascade, _rest_of_frozen(cascade, inside))
        return joint / joint.sum()
    parts = []
    for e, p in enumerate(cascade.prior):
        middle = _middle(cascade, cascade.ligand_means[e], inside)
        parts.append(p * _at_rest(generator(cascade, e, inside, is_closed=True), middle).reshape(inside))
    return np.stack(parts)


def _rest_of_frozen(cascade: Cascade, box: Box) -> Array:
    """[ligand, signal, gene] p(S, G | L)."""
    closed = generator(cascade, 0, box, is_closed=True)
    n = box.signal * box.gene
    rest = np.empty(tuple(box))
    for i in range(box.ligand):
        block = closed[i * n : (i + 1) * n, i * n : (i + 1) * n].tocsc()
        rest[i] = _at_rest(block, _middle(cascade, i, box) - i * n).reshape(box[1:])
    return rest


def _middle(cascade: Cascade, ligand: float, box: Box) -> int:
    """The index of a state near the mean."""
    signal = cascade.signal_rate * float(cascade.activity(ligand)) / cascade.signal_decay
    gene = signal * cascade.gene_rate / cascade.gene_decay
    state = [min(round(n), size - 1) for n, size in zip((ligand, signal, gene), box, strict=True)]
    return int(np.ravel_multi_index(state, box))


def _at_rest(closed: csc_array, pinned: int) -> Array:
    """The distribution that A keeps: A p = 0, Σ p = 1, by a direct solution.

    One equation follows from the others: the pinned state, a likely one, gets 1 until all are scaled.
    """
    n = closed.indptr.size - 1
    others = np.delete(np.arange(n), pinned)
    column = closed[:, [pinned]].toarray().ravel()[others]
    p = np.ones(n)
    p[others] = np.asarray(spsolve(closed[others][:, others], -column))
    p = np.maximum(p, 0)
    return p / p.sum()


def ligand_given(cascade: Cascade, environment: int, n_ligand: int) -> Array:
    """[n_ligand] p(L | E)."""
    return poisson.pmf(np.arange(n_ligand), cascade.ligand_means[environment])


def on_the_faces(joint: Array) -> float:
    """Probability on the outer faces of the box: the measure of a closed box's truncation."""
    return float(max(joint[:, -1].sum(), joint[:, :, -1].sum(), joint[:, :, :, -1].sum()))


def information(joint: Array, one: str, other: str) -> float:
    """Bits that the stages named in `one` tell about those in `other`: information(joint, "L", "G")."""
    left_out = tuple(i for i, axis in enumerate(AXES) if axis not in one + other)
    kept = [axis for axis in AXES if axis in one + other]
    table = np.transpose(joint.sum(left_out), [kept.index(axis) for axis in one + other])
    pair = table.reshape(int(np.prod(table.shape[: len(one)])), -1) / joint.sum()
    return float(rel_entr(pair, pair.sum(1, keepdims=True) * pair.sum(0)).sum() / np.log(2))


def channel(joint: Array, response: str = "G") -> Array:
    """[n_environments, n_responses] p(response | E) of one stage: what a capacity is computed from."""
    axis = AXES.index(response)
    table = joint.sum(tuple({1, 2, 3} - {axis}))
    return table / table.sum(1, keepdims=True)
