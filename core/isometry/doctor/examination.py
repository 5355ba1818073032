"""An examination: every measure of one network on one batch, and what was found.

report = examine(model, batch, loss)
report.findings
print(report.text())
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence, Set
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from isometry.blocks import Depth, GatedResidual, Residual, effective_depth
from isometry.doctor.backward import Backward, measure_backward
from isometry.doctor.curvature import Curvature, measure_curvature
from isometry.doctor.findings import Finding, Severity, by_severity, worst
from isometry.doctor.forward import Forward, measure_forward
from isometry.doctor.half import Half, measure_half
from isometry.doctor.jacobian import Jacobian, measure_jacobian
from isometry.doctor.predicted import Predicted, predict
from isometry.doctor.recurrence import Recurrence, measure_recurrence
from isometry.doctor.subject import ScalarLoss, Subject, now
from isometry.doctor.symmetries import Kept, measure_symmetries
from isometry.optim import OptimSettings, memory
from isometry.symmetry import Symmetry

T = TypeVar("T")

SIGNAL = frozenset({"forward", "backward", "depth", "jacobian"})
"""The measures that tell whether signal and gradient survive."""
MEASURES: frozenset[str] = SIGNAL | {"predicted", "recurrence", "half", "curvature", "symmetries"}


@dataclass(frozen=True)
class Examination:
    """What was measured; a measure is None where `missing` says why."""

    network: str
    n_parameters: int
    n_layers: int
    loss: float
    forward: Forward | None = None
    backward: Backward | None = None
    opened: Backward | None = None
    """The same once what begins at zero is open (see `closed`); None where nothing does."""
    predicted: Predicted | None = None
    jacobian: Jacobian | None = None
    recurrence: list[Recurrence] = field(default_factory=list)
    depth: Depth | None = None
    """Of networks with residual blocks: as how many layers they act."""
    half: Half | None = None
    curvature: Curvature | None = None
    symmetries: list[Kept] = field(default_factory=list)
    closed: tuple[str, ...] = ()
    """Weights and gates that are all zero: nothing goes through them before the first step."""
    missing: dict[str, str] = field(default_factory=dict)
    """Measures that could not be made, and why."""
    memory: float | None = None
    """Steps over which the optimizer remembers, where it is known; infinite for AdaGrad."""
    step_seconds: float = 0.0
    """One training step on this batch: forward, backward, and an update by AdamW."""
    seconds: dict[str, float] = field(default_factory=dict)
    """What each measure took; "preparation": two training steps and a look at the layers."""
    findings: tuple[Finding, ...] = ()
    """The gravest first."""

    @property
    def verdict(self) -> Severity | None:
        """The gravest severity found; None: nothing was."""
        return worst(list(self.findings))

    @property
    def cost(self) -> float:
        """Of the whole examination, in training steps on this batch."""
        return sum(self.seconds.values()) / self.step_seconds

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {"verdict": self.verdict, "cost_in_steps": self.cost, **asdict(self)}

    def text(self, width: int = 110) -> str:
        """For a terminal, without colours."""
        from isometry.doctor.telling import text

        return text(self, width)

    def write_html(self, path: str | Path) -> Path:
        """One page with plots per layer that needs nothing else."""
        from isometry.doctor.page import write_page

        return write_page(Path(path), self)


def examine(
    model: nn.Module,
    batch: Any,
    loss: ScalarLoss,
    *,
    symmetries: Sequence[Symmetry] = (),
    optim: OptimSettings | None = None,
    seed: int = 0,
    measures: Set[str] = MEASURES,
) -> Examination:
    """Examine any network on one batch; it is afterwards bit for bit what it was, at the cost of 20 to 35 steps
    (`benchmarks/doctor_cost.py`), the more the shorter a step is.

    Args:
        batch: of any form that `loss` understands: tensors, mappings, sequences, graph data, packed sequences.
        loss: `loss(model, batch)` -> one number.
        symmetries: what must hold for this network.
        optim: how the network shall be trained, where that is known: its memory, and whether plain descent is stable.
        seed: of everything random: dropout, probes.
        measures: what to measure, of `MEASURES`.
    Raises:
        ValueError: the loss is no single number, or depends on no parameter; a measure that does not exist.
    """
    if unknown := sorted(set(measures) - MEASURES):
        raise ValueError(f"no measure is called {', '.join(unknown)}; expected some of {', '.join(sorted(MEASURES))}")
    from isometry.doctor.verdict import findings_of

    _load_torch()
    attempt = _Attempts(measures)
    started = now(model)
    with Subject.of(model, batch, loss, seed) as subject:
        attempt.seconds["preparation"] = now(model) - started
        closed = tuple(name for name, p in subject.parameters() if p.ndim != 1 and not p.detach().any())
        measured = {
            "forward": attempt("forward", lambda: measure_forward(subject)),
            "backward": attempt("backward", lambda: measure_backward(subject)),
            "opened": attempt("backward", lambda: _opened(subject, closed)) if closed else None,
            "depth": attempt("depth", lambda: effective_depth(model, batch, loss)) if _has_blocks(model) else None,
            "predicted": attempt("predicted", lambda: predict(subject)),
            "jacobian": attempt("jacobian", lambda: measure_jacobian(subject)),
            "recurrence": attempt("recurrence", lambda: measure_recurrence(subject)) or [],
            "half": attempt("half", lambda: measure_half(subject)),
            "curvature": attempt("curvature", lambda: measure_curvature(subject)),
            "symmetries": attempt("symmetries", lambda: measure_symmetries(subject, symmetries)) or [],
        }
        found = Examination(
            network=type(model).__name__,
            n_parameters=sum(parameter.numel() for parameter in model.parameters()),
            n_layers=len(subject.layers),
            loss=subject.first_loss,
            closed=closed,
            memory=None if optim is None else memory(optim),
            missing=attempt.missing,
            step_seconds=subject.step_seconds,
            seconds=attempt.seconds,
            **measured,
        )
    return Examination(**{**vars(found), "findings": tuple(by_severity(findings_of(found, optim)))})


def _opened(subject: Subject, closed: Sequence[str]) -> Backward:
    """The backward pass when what begins at zero has taken a first small step; the zeros come back afterwards."""
    parameters = dict(subject.parameters())
    generator = torch.Generator().manual_seed(subject.seed)
    with torch.no_grad():
        for name in closed:
            size = parameters[name].shape[-1] if parameters[name].ndim else 1
            noise = torch.randn(parameters[name].shape, generator=generator) / size**0.5
            parameters[name].copy_(noise if parameters[name].ndim else torch.ones(()))
    try:
        return measure_backward(subject)
    finally:
        with torch.no_grad():
            for name in closed:
                parameters[name].zero_()


def _has_blocks(model: nn.Module) -> bool:
    return any(isinstance(module, Residual | GatedResidual) for module in model.modules())


@cache
def _load_torch() -> None:
    """torch loads forward-mode derivatives and optimizers at their first use, which takes seconds once."""
    x = torch.ones(2, requires_grad=True)
    torch.func.jvp(torch.tanh, (x.detach(),), (x.detach(),))
    torch.optim.AdamW([x]).step()


class _Attempts:
    """Makes measures, notes what each took and why one failed: a patient may be odd, the doctor goes on."""

    def __init__(self, wanted: Set[str]) -> None:
        self.wanted = wanted
        self.missing: dict[str, str] = {}
        self.seconds: dict[str, float] = {}

    def __call__(self, name: str, measure: Callable[[], T]) -> T | None:
        if name not in self.wanted:
            return None
        started = time.perf_counter()
        try:
            return measure()
        except Exception as error:
            self.missing[name] = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            return None
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started
