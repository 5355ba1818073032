"""A finding: what is wrong with a network, how much, why, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["fatal", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("fatal", "warning", "note")


@dataclass(frozen=True)
class Finding:
    severity: Severity
    """fatal: will not train; warning: trains worse or costs more than it need; note: good to know."""
    name: str
    """Of the phenomenon, in two or three words: "vanishing gradient"."""
    where: str
    """A layer's qualified name, or "network"."""
    number: float
    """What was measured; `reason` says of what."""
    reason: str
    """One sentence with the number in it and what it means."""
    remedy: str
    """One concrete thing to do."""
    fix: str | None = None
    """The safe remedy of `--fix` that treats it, where there is one."""


def worst(findings: list[Finding]) -> Severity | None:
    """The gravest severity among them; None: nothing was found."""
    return next((s for s in SEVERITIES if any(finding.severity == s for finding in findings)), None)


def by_severity(findings: list[Finding]) -> list[Finding]:
    """The gravest first, else in the order in which they were made."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))
