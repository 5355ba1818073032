"""What every adapter does with what the doctor finds: says it in a line, and stops a run that will not train."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn

from isometry.doctor.findings import Finding, by_severity
from isometry.spell import what_failed

if TYPE_CHECKING:
    from isometry.doctor import Examination

Tell = Callable[[str], None]
OnFatal = Literal["warn", "raise"]


def to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def line_of(finding: Finding) -> str:
    """A finding in one line."""
    return f"{finding.severity}: {finding.name} in {finding.where}: {finding.reason} {finding.remedy}"


def tell_all(findings: list[Finding], tell: Tell, on_fatal: OnFatal, where: str) -> None:
    """The gravest first. Raises ValueError with the first fatal one, where `on_fatal` says so."""
    for finding in by_severity(findings):
        if finding.severity == "fatal" and on_fatal == "raise":
            raise ValueError(f"doctor, {where}: {line_of(finding)}")
        tell(f"doctor, {where}: {line_of(finding)}")


def examined(
    model: nn.Module, batch: Any, loss: Callable[[Any, Any], Tensor], tell: Tell, on_fatal: OnFatal
) -> Examination | None:
    """The examination before the first step, told; None, saying why, where the network cannot be examined.

    Raises ValueError at a fatal finding, where `on_fatal` says so.
    """
    from isometry.doctor import examine

    try:
        examination = examine(model, batch, loss)
    except Exception as error:  # a watcher does not end a run that it does not understand
        tell(f"doctor: the network was not examined: {what_failed(error)}")
        return None
    tell_all(list(examination.findings), tell, on_fatal, "before training")
    return examination
