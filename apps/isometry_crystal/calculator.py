"""The trained potential as an ASE calculator: relaxations, molecular dynamics and everything else ASE drives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress
from isometry_data.crystals import neighbours

from isometry_crystal.dataset import CrystalGraph
from isometry_crystal.model import CrystalModel
from isometry_crystal.table import opposite_edges

DTYPES = {"float32": torch.float32, "float64": torch.float64}


class IsometryCalculator(Calculator):
    """Energies in eV, forces in eV/Å, stress in eV/Å³ (ASE's sign and Voigt order); `energies`: by atom.

    float64 is the default: relaxations, phonons and elastic constants need the digits, and cost 1.5 times float32.
    The neighbour list reaches `skin` Å beyond the cutoff and is kept until an atom has moved by half of it.
    """

    implemented_properties = ["energy", "free_energy", "forces", "stress", "energies"]  # noqa: RUF012 - ASE's contract

    def __init__(
        self,
        model: CrystalModel | str | Path,
        device: str = "cpu",
        dtype: str = "float64",
        skin: float = 0.5,
        **kwargs: Any,
    ):
        """`model`: a CrystalModel, or what `isometry predict` takes: a run folder or a shipped checkpoint's name."""
        super().__init__(**kwargs)
        if dtype not in DTYPES:
            raise ValueError(f"dtype is {dtype!r}, expected one of {', '.join(DTYPES)}")
        model = model if isinstance(model, CrystalModel) else load_model(model)
        self.device, self.skin = torch.device(device), skin
        self.model = copy_of(model).to(self.device, DTYPES[dtype]).eval()
        self._near = NearbyList(model.settings.cutoff, skin)

    @classmethod
    def load(cls, run: str | Path, **kwargs: Any) -> IsometryCalculator:
        """The calculator of a run folder or a shipped checkpoint."""
        return cls(load_model(run), **kwargs)

    def calculate(
        self, atoms: Atoms | None = None, properties: Any = ("energy",), system_changes: Any = all_changes
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        if atoms is None:
            raise ValueError("the calculator was given no structure")
        graph = self._near.graph(atoms).to(self.device)
        with torch.no_grad():
            out = self.model(graph, forces=True, stress=True)
        energy = out["energy"].item()
        self.results = {
            "energy": energy,
            "free_energy": energy,
            "energies": out["energies"].cpu().numpy(),
            "forces": out["forces"].double().cpu().numpy(),
        }
        if atoms.cell.rank == 3:
            self.results["stress"] = full_3x3_to_voigt_6_stress(out["stress"][0].double().cpu().numpy())


class NearbyList:
    """A neighbour list with a margin, reused while no atom has moved by half the margin (Verlet 1967)."""

    def __init__(self, cutoff: float, skin: float):
        self.cutoff, self.skin, self.n_builds = cutoff, skin, 0
        self._made_for: Atoms | None = None

    def graph(self, atoms: Atoms) -> CrystalGraph:
        """The structure with all edges within the cutoff, and no others."""
        if not self._still_holds(atoms):
            self._build(atoms)
        shift = self._shift @ atoms.cell.array
        distance = np.linalg.norm(atoms.positions[self._edges[1]] - atoms.positions[self._edges[0]] + shift, axis=1)
        # Both directions of a pair must be judged alike, or rounding could keep one of them alone.
        kept = torch.from_numpy(np.maximum(distance, distance[self._reverse]) < self.cutoff)
        return CrystalGraph(
            z=torch.from_numpy(atoms.numbers.astype(np.int64)),
            pos=torch.from_numpy(atoms.positions.copy()),
            cell=torch.from_numpy(atoms.cell.array.copy()).unsqueeze(0),
            edge_index=torch.from_numpy(self._edges)[:, kept],
            edge_shift=torch.from_numpy(self._shift)[kept],
            edge_reverse=(kept.cumsum(0) - 1)[torch.from_numpy(self._reverse)[kept]],
        )

    def _still_holds(self, atoms: Atoms) -> bool:
        old = self._made_for
        if (
            old is None
            or len(old) != len(atoms)
            or (old.pbc != atoms.pbc).any()
            or np.any(old.cell.array != atoms.cell.array)
        ):
            return False
        moved = np.linalg.norm(atoms.positions - old.positions, axis=1).max(initial=0.0)
        return moved < self.skin / 2 and bool((old.numbers == atoms.numbers).all())

    def _build(self, atoms: Atoms) -> None:
        self._edges, self._shift = neighbours(atoms, self.cutoff + self.skin)
        edges, shift = torch.from_numpy(self._edges), torch.from_numpy(self._shift)
        reverse = opposite_edges(edges, shift).numpy()
        self._edges, self._shift = self._edges[:, reverse >= 0], self._shift[reverse >= 0]
        self._reverse = opposite_edges(torch.from_numpy(self._edges), torch.from_numpy(self._shift)).numpy()
        self._made_for, self.n_builds = atoms.copy(), self.n_builds + 1


def copy_of(model: CrystalModel) -> CrystalModel:
    """A model with the same weights that may change precision and device by itself."""
    copy = CrystalModel(model.settings)
    copy.load_state_dict(model.state_dict())
    return copy


def load_model(run: str | Path) -> CrystalModel:
    """The trained model of a run folder, a checkpoint folder or a shipped checkpoint."""
    from isometry.app import load_app
    from isometry.story import load

    model = load(load_app("crystal"), run, device="cpu").model
    if not isinstance(model, CrystalModel):
        raise ValueError(f"{run}: expected a crystal model, found {type(model).__name__}")
    return model
