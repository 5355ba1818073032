"""What is minimised and what is reported for energies, forces and stresses."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from isometry.objective import Loss, Objective
from isometry.settings import Settings
from pydantic import Field
from torch import Tensor, nn

from isometry_crystal.dataset import names_of

GPA = 160.2176634  # GPa in one eV/Å³
OF_GROUPS = ("energy_mae_mev_per_atom", "forces_mae_ev_per_angstrom")


class LossSettings(Settings):
    """Weights of the three labels; a label that a structure lacks contributes zero."""

    energy: float = Field(default=10.0, ge=0)
    """weight of the energy error (eV per atom)"""
    forces: float = Field(default=1.0, ge=0)
    """weight of the force errors (eV/Å), averaged over a structure's components"""
    stress: float = Field(default=0.0, ge=0)
    """weight of the stress errors times the volume per atom (eV per atom), averaged over the known components"""
    kind: Literal["huber", "square"] = "huber"
    huber: float = Field(default=0.01, gt=0)
    """where the Huber loss turns from square to absolute, in the errors' own units"""


def objective_of(settings: LossSettings) -> Objective:
    """The loss and the scores as the engine wants them."""

    def loss(model: nn.Module, batch: Any) -> Loss:
        return crystal_loss(model, batch, settings)

    decides = "forces_mae_ev_per_angstrom" if settings.forces > 0 else "energy_mae_mev_per_atom"
    return Objective(loss=loss, measure=measure, score=score, decides=decides, better="smaller")


# The loss


class Errors(NamedTuple):
    """Prediction minus label, and which labels are known; zero where not."""

    values: Tensor
    known: Tensor


def crystal_loss(model: nn.Module, batch: Any, settings: LossSettings) -> Loss:
    """One number per structure: weighted penalties of energy per atom, force components and stress components.

    Computed in the precision of the parameters, also under autocast. A structure without atoms' forces, or with three
    of nine stress components, is averaged over what it has.
    """
    dtype = next(model.parameters()).dtype
    terms = {}
    for name, (values, known) in errors_of(model, batch, settings).items():
        penalty = _penalty(values.to(dtype), settings) * known
        per_structure = (_of_atoms if name == "forces" else _of_structures)(
            torch.stack([penalty, known], dim=-1), batch
        )
        terms[name] = getattr(settings, name) * per_structure[:, 0] / per_structure[:, 1].clamp(min=1)
    return Loss(torch.stack(list(terms.values())).sum(0), {name: term.detach() for name, term in terms.items()})


def errors_of(model: nn.Module, batch: Any, settings: LossSettings) -> dict[str, Errors]:
    """Energy per atom [structures], forces [atoms, 3], stress times volume per atom [structures, 3, 3]."""
    out = model(batch, forces=settings.forces > 0, stress=settings.stress > 0)
    errors = {"energy": _errors(out["energy"] / batch.n_atoms, batch.energy / batch.n_atoms)}
    if settings.forces > 0:
        errors["forces"] = _errors(out["forces"], batch.forces)
    if settings.stress > 0:  # the virial, because a structure without a cell has no stress but a virial
        volume = torch.linalg.det(batch.cell).abs().view(-1, 1, 1)
        n_atoms = batch.n_atoms.view(-1, 1, 1)
        errors["stress"] = _errors(out["virial"] / n_atoms, batch.stress * volume / n_atoms)
    return errors


def _errors(predicted: Tensor, label: Tensor) -> Errors:
    """Only an unknown label is passed over: a prediction that is not finite stays visible."""
    known = ~label.isnan()
    return Errors(torch.where(known, predicted - label, 0.0), known)


def _penalty(error: Tensor, settings: LossSettings) -> Tensor:
    """Square, or Huber divided by its width, so that a large error counts as its absolute value."""
    if settings.kind == "square":
        return error.square()
    size, width = error.abs(), settings.huber
    return torch.where(size < width, error.square() / (2 * width), size - width / 2)


def _of_atoms(values: Tensor, batch: Any) -> Tensor:
    """[atoms, 3, k] -> [structures, k], sums."""
    sums = values.sum(1)
    return sums.new_zeros(batch.num_graphs, sums.shape[1]).index_add(0, batch.batch, sums)


def _of_structures(values: Tensor, batch: Any) -> Tensor:
    """[structures, ..., k] -> [structures, k], sums."""
    return values.view(batch.num_graphs, -1, values.shape[-1]).sum(1)


# The scores


def measure(model: nn.Module, batch: Any) -> dict[str, Tensor]:
    """Rows from which every score follows, one per structure; NaN where there is no label.

    energy [eV per atom], forces and stress [sum of |error|, sum of squares, count], and the names for the groups.
    """
    has_stress = not bool(batch.stress.isnan().all())
    out = model(batch, forces=True, stress=has_stress)
    stress = out["stress"].double() if has_stress else batch.stress
    upper = torch.ones(3, 3, dtype=torch.bool, device=stress.device).triu()
    force_error = _errors(out["forces"].double(), batch.forces)
    stress_error = _errors(stress[:, upper] * GPA, batch.stress[:, upper] * GPA)
    return {
        "energy": (out["energy"] - batch.energy) / batch.n_atoms,
        "forces": _of_atoms(_moments(force_error), batch),
        "stress": _of_structures(_moments(stress_error), batch),
        "group": batch.group,
        "system": batch.system,
    }


def _moments(errors: Errors) -> Tensor:
    return torch.stack([errors.values.abs(), errors.values.square(), errors.known.to(errors.values.dtype)], dim=-1)


def score(rows: dict[str, np.ndarray]) -> dict[str, float]:
    """Errors of energies, force components and stress components, units in their names; overall, then by group.

    Groups are the chemical systems and the kinds of structure (config_type), where there is more than one: "Si/…",
    "aimd/…". A label that no structure has gives no score.
    """
    scores = _errors_of_rows(rows)
    for column in ("system", "group"):
        names = np.array(names_of(rows[column]))
        kinds = sorted(set(names.tolist()) - {""})
        for kind in kinds if len(set(names.tolist())) > 1 else ():
            of_kind = _errors_of_rows({name: values[names == kind] for name, values in rows.items()})
            scores |= {f"{kind}/{name}": value for name, value in of_kind.items() if name in OF_GROUPS}
    return scores


def _errors_of_rows(rows: dict[str, np.ndarray]) -> dict[str, float]:
    scores = {}
    energy = 1000 * rows["energy"][~np.isnan(rows["energy"])]
    if len(energy):
        scores["energy_mae_mev_per_atom"] = float(np.abs(energy).mean())
        scores["energy_rmse_mev_per_atom"] = float(np.sqrt((energy**2).mean()))
    for name, unit in (("forces", "ev_per_angstrom"), ("stress", "gpa")):
        total, squares, count = rows[name].sum(0)
        if count > 0:
            scores[f"{name}_mae_{unit}"] = float(total / count)
            scores[f"{name}_rmse_{unit}"] = float(np.sqrt(squares / count))
    return scores
