"""Symmetry: what an application says must hold, measured on one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from isometry.doctor.findings import Finding
from isometry.doctor.subject import Subject
from isometry.symmetry import Symmetry, violation


@dataclass(frozen=True)
class Kept:
    """How well one output of the network keeps one symmetry."""

    symmetry: str
    output: str
    deviation: float
    """Largest, relative to the output's root mean square, or to the floor that the symmetry gives it."""
    tolerance: float


def measure_symmetries(subject: Subject, symmetries: Sequence[Symmetry]) -> list[Kept]:
    """In evaluation mode, with the norms' statistics frozen to this batch."""
    subject.quiet()
    rows = []
    for symmetry in symmetries:
        with torch.enable_grad():
            deviations = violation(symmetry, subject.model, subject.batch)
        rows += [Kept(symmetry.name, name, value, symmetry.tolerance) for name, value in deviations.items()]
    return rows


def symmetry_findings(rows: Sequence[Kept]) -> list[Finding]:
    return [
        Finding(
            "fatal",
            "broken symmetry",
            "network",
            row.deviation,
            f"under {row.symmetry}, {row.output} deviates by {row.deviation:.2g} of its size "
            f"(allowed: {row.tolerance:.2g}), so the same input gives two answers.",
            "Look for an operation that depends on the frame, the order or the padding; if the network is meant to "
            "learn the symmetry from data, do not declare it.",
        )
        for row in rows
        if not row.deviation <= row.tolerance
    ]
