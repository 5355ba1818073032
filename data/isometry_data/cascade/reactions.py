"""The reactions of the cascade: ligand, receptor, signal, gene product, all counted in molecules per cell."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

CHANGES = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]])
"""[6, 3] what each reaction adds to (L, S, G): births and deaths of L, S and G in turn."""


@dataclass(frozen=True)
class Cascade:
    """∅ ⇄ L, activity = leak + (1 - leak) Lⁿ / (Kⁿ + Lⁿ), ∅ → S by activity, S → S + G, S → ∅, G → ∅.

    The receptor is at rest at every moment (it binds and unbinds faster than everything else). L | E is Poisson.
    Counts are molecules per cell, rates 1/min.
    """

    ligand_means: tuple[float, ...] = (0.5, 2.0, 5.0, 12.0)
    """Mean of L in each environment: the dose."""
    environments: tuple[float, ...] = ()
    """p(E); uniform where empty."""
    ligand_turnover: float = 0.0
    """1/min; 0: what ligand a cell meets is drawn once and stays."""
    half_saturation: float = 4.0
    """K, ligands"""
    hill: float = 2.0
    """n"""
    leak: float = 0.1
    """Activity without ligand."""
    signal_rate: float = 8.0
    """1/min at full activity"""
    signal_decay: float = 1.0
    gene_rate: float = 0.2
    """1/min per S"""
    gene_decay: float = 0.04
    prior: Array = field(init=False, repr=False, compare=False)
    """[n_environments] p(E)"""

    def __post_init__(self) -> None:
        means = np.asarray(self.ligand_means, dtype=float)
        if means.ndim != 1 or not len(means) or not np.isfinite(means).all() or (means < 0).any():
            raise ValueError(f"ligand_means must be finite and ≥ 0, one per environment; found {self.ligand_means}")
        prior = np.asarray(self.environments or np.full(len(means), 1 / len(means)), dtype=float)
        if prior.shape != means.shape or (prior < 0).any() or abs(prior.sum() - 1) > 1e-8:
            raise ValueError(f"environments must be {len(means)} probabilities that sum to 1, found {prior.tolist()}")
        for name in ("half_saturation", "hill", "signal_rate", "signal_decay", "gene_rate", "gene_decay"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, found {getattr(self, name)}")
        if self.ligand_turnover < 0 or not 0 <= self.leak <= 1:
            raise ValueError("ligand_turnover must be ≥ 0 and leak between 0 and 1")
        object.__setattr__(self, "prior", prior / prior.sum())

    @property
    def is_frozen(self) -> bool:
        """Whether a cell's ligand stays as it was drawn."""
        return self.ligand_turnover == 0

    def activity(self, ligand: ArrayLike) -> Array:
        """Share of active receptors at a number of ligands; shape of `ligand`."""
        power = np.asarray(ligand, dtype=float) ** self.hill
        return self.leak + (1 - self.leak) * power / (self.half_saturation**self.hill + power)

    def rates(self, ligand: ArrayLike, signal: ArrayLike, gene: ArrayLike, ligand_mean: ArrayLike) -> Array:
        """[..., 6] 1/min of the reactions in the order of `CHANGES`."""
        n_ligand, n_signal, n_gene = np.asarray(ligand), np.asarray(signal), np.asarray(gene)
        parts = (
            self.ligand_turnover * np.asarray(ligand_mean, dtype=float),
            self.ligand_turnover * n_ligand,
            self.signal_rate * self.activity(n_ligand),
            self.signal_decay * n_signal,
            self.gene_rate * n_signal,
            self.gene_decay * n_gene,
        )
        return np.stack(np.broadcast_arrays(*parts), axis=-1).astype(float)
