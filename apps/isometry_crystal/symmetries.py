"""What holds for every crystal and every weight: turned, mirrored, shifted or relabelled, it is the same crystal."""

from __future__ import annotations

from typing import Any

import torch
from isometry.symmetry import Outputs, Symmetry
from torch import Tensor, nn

TOLERANCE = 1e-4  # of the outputs' root mean square, in fp32

FLOORS = {
    "energy": 1.0,  # eV
    "forces": 1.0,  # eV/Å, a thermal force
    "virial": 10.0,  # eV: 10 GPa on eight atoms of silicon
}
"""In a perfect crystal forces cancel to what fp32 leaves of them, up to 2e-5 eV/Å and 1e-4 eV of virial in the models
shipped. A ten-thousandth of these sizes is above that and below what quantum mechanics converges to, 1e-3 eV/Å."""


def symmetries(_settings: Any) -> tuple[Symmetry, ...]:
    turn = _rotation()
    return (
        _turned("rotation", turn),
        _turned("reflection", turn @ torch.diag(torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64))),
        Symmetry("translation", _shifted, predictions, tolerance=TOLERANCE, floors=FLOORS),
        Symmetry("relabelling", _relabelled, predictions, _relabelled_outputs, TOLERANCE, FLOORS),
    )


def predictions(model: nn.Module, batch: Any) -> Outputs:
    """energy [structures] eV, forces [atoms, 3] eV/Å, virial [structures, 3, 3] eV."""
    out = model(batch, forces=True, stress=True)
    return {name: out[name] for name in ("energy", "forces", "virial")}


def _turned(name: str, turn: Tensor) -> Symmetry:
    """turn: [3, 3] an orthogonal matrix."""

    def move(batch: Any) -> Any:
        moved = batch.clone()
        moved.pos, moved.cell = (batch[key] @ turn.T.to(batch[key]) for key in ("pos", "cell"))
        return moved

    def expected(outputs: Outputs, _batch: Any) -> Outputs:
        own = turn.to(outputs["forces"])
        return {
            "energy": outputs["energy"],
            "forces": outputs["forces"] @ own.T,
            "virial": own @ outputs["virial"] @ own.T,
        }

    return Symmetry(name, move, predictions, expected, TOLERANCE, FLOORS)


def _shifted(batch: Any) -> Any:
    moved = batch.clone()
    moved.pos = batch.pos + torch.tensor([0.31, -1.7, 2.9]).to(batch.pos)
    return moved


def _relabelled(batch: Any) -> Any:
    """The atoms of each structure in reverse order, the edges sorted again by their centre."""
    old = _reversed_within(batch)
    new = torch.empty_like(old).index_put((old,), torch.arange(len(old), device=old.device))
    edges = new[batch.edge_index]
    order = edges[0].argsort(stable=True)
    place = torch.empty_like(order).index_put((order,), torch.arange(len(order), device=order.device))
    moved = batch.clone()
    moved.z, moved.pos, moved.batch = batch.z[old], batch.pos[old], batch.batch[old]
    moved.edge_index, moved.edge_shift = edges[:, order], batch.edge_shift[order]
    moved.edge_reverse = place[batch.edge_reverse[order]]
    return moved


def _relabelled_outputs(outputs: Outputs, batch: Any) -> Outputs:
    return {**outputs, "forces": outputs["forces"][_reversed_within(batch)]}


def _reversed_within(batch: Any) -> Tensor:
    """[atoms] which atom comes to stand at each place."""
    starts, ends = batch.ptr[:-1], batch.ptr[1:]
    return (starts + ends - 1)[batch.batch] - torch.arange(len(batch.batch), device=batch.batch.device)


def _rotation() -> Tensor:
    """[3, 3] a proper rotation about no special axis."""
    generator = torch.Generator().manual_seed(7)
    turn, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))
    return turn * torch.linalg.det(turn).sign()
