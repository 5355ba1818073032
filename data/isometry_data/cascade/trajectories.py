"""Information in whole paths: the form in which the data-processing inequality binds a cascade."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import rel_entr
from scipy.stats import poisson

from isometry_data.cascade.exact import ligand_given
from isometry_data.cascade.reactions import Array, Cascade

TAIL = 1e-12


def signal_path_information(cascade: Cascade, time: float, n_ligand: int) -> float:
    """I(L; path of S from 0 to `time`) in bits, for ligand that is drawn once and S = 0 at the start.

    Given L, births of S are a Poisson process of constant rate, and deaths do not ask for L: the number of births tells
    all that the path tells. What G does depends on that path alone: this bounds I(L; G) up to `time`.
    """
    if not cascade.is_frozen:
        raise ValueError("the number of births tells all of the path only where ligand_turnover is 0")
    of_ligand = sum(p * ligand_given(cascade, e, n_ligand) for e, p in enumerate(cascade.prior))
    means = cascade.signal_rate * cascade.activity(np.arange(n_ligand)) * time
    births = np.arange(int(poisson.isf(TAIL, means.max())) + 2)
    return _bits(np.asarray(of_ligand)[:, None] * poisson.pmf(births, means[:, None]))


def path_information(prior: ArrayLike, signal: ArrayLike, gene: ArrayLike, n_steps: int) -> dict[str, Array]:
    """What instants and paths tell about L in a cascade that moves in steps, by enumeration of all paths.

    Args:
        prior: [n_l] p(L), constant in time.
        signal: [n_l, n_s, n_s] p(next S | L, S), from state 0.
        gene: [n_s, n_g, n_g] p(next G | S, G), from state 0: G moves by the S before the step.
        n_steps: the work grows as n_s and n_g to this power.
    Returns:
        [n_steps] bits about L after each step: "signal", "gene", "signal path", "gene path".
    """
    p, moves, reads = (np.asarray(table, dtype=float) for table in (prior, signal, gene))
    n_l, n_s, n_g = len(p), moves.shape[1], reads.shape[1]
    told: dict[str, list[float]] = {"signal": [], "gene": [], "signal path": [], "gene path": []}
    by_signal = np.zeros((n_l, 1, n_s))  # [L, earlier S, S]
    by_gene = np.zeros((n_l, n_s, 1, n_g))  # [L, S, earlier G, G]
    by_signal[:, 0, 0] = by_gene[:, 0, 0, 0] = p
    for _ in range(n_steps):
        by_signal = np.einsum("lps,lsz->lpsz", by_signal, moves).reshape(n_l, -1, n_s)
        by_gene = np.einsum("lspg,lsz,sgh->lzpgh", by_gene, moves, reads).reshape(n_l, n_s, -1, n_g)
        told["signal"].append(_bits(by_signal.sum(1)))
        told["gene"].append(_bits(by_gene.sum((1, 2))))
        told["signal path"].append(_bits(by_signal.reshape(n_l, -1)))
        told["gene path"].append(_bits(by_gene.sum(1).reshape(n_l, -1)))
    return {name: np.array(bits) for name, bits in told.items()}


def _bits(joint: Array) -> float:
    p = joint / joint.sum()
    return float(rel_entr(p, p.sum(1, keepdims=True) * p.sum(0)).sum() / np.log(2))
