"""Single-cell dose-response tables of the cascade, with the truth beside them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from isometry_data.cascade.exact import Array, Box, channel, information, joint_at, joint_at_rest
from isometry_data.cascade.gillespie import simulate
from isometry_data.cascade.reactions import Cascade


@dataclass(frozen=True)
class DoseResponse:
    """Cells as an experiment sees them, one row each, and what is true of the channel they came from."""

    columns: dict[str, np.ndarray]
    """"dose" (mean ligands per cell), then "signal" and "gene" (molecules per cell), [n_cells] each."""
    joint: Array
    """[n_environments, ligand, signal, gene] the exact p(E, L, S, G) at the moment of measurement."""

    def channel(self, response: str = "G") -> Array:
        """[n_doses, n_responses] exact p(response | dose); its capacity is the truth for this table."""
        return channel(self.joint, response)

    def information(self, response: str = "G") -> float:
        """Exact bits between the dose, as often as p(E) says, and the response; "SG": both together."""
        return information(self.joint, "E", response)


def dose_response(
    cascade: Cascade, n_cells: int, *, time: float | None = None, box: Box | None = None, seed: int = 0
) -> DoseResponse:
    """`n_cells` per dose; `time`: minutes after the dose was given (simulated reaction by reaction), None: at rest.

    At rest the cells are drawn from the exact distribution.
    """
    if n_cells < 1:
        raise ValueError(f"a table needs at least one cell per dose, found n_cells = {n_cells}")
    environments = np.repeat(np.arange(len(cascade.prior)), n_cells)
    if time is None:
        joint = joint_at_rest(cascade, box)
        rng = np.random.default_rng(seed)
        cells = np.concatenate([_drawn(one, n_cells, rng) for one in joint])
    else:
        joint = joint_at(cascade, time, box)
        cells = simulate(cascade, environments, [time], seed=seed)[:, 0]
    columns = {"dose": np.asarray(cascade.ligand_means)[environments], "signal": cells[:, 1], "gene": cells[:, 2]}
    return DoseResponse(columns, joint)


def _drawn(table: Array, n_cells: int, rng: np.random.Generator) -> np.ndarray:
    """[n_cells, 3] states drawn from a table over L, S, G."""
    drawn = rng.choice(table.size, size=n_cells, p=table.ravel() / table.sum())
    return np.stack(np.unravel_index(drawn, table.shape), axis=1)
