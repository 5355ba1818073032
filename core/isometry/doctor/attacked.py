"""An app's network under attack: the loss and the decisions when every number of the input moves a little."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from isometry.app import App
from isometry.attack import robustness
from isometry.doctor.subject import ScalarLoss, Subject
from isometry.doctor.visit import visited
from isometry.lipschitz import lipschitz_bound


def attack_app(app: App, settings: Any, checkpoint: str | None, epsilons: Sequence[float]) -> dict[str, Any]:
    """The fast gradient sign attack on the first training batch, and the certified bound where there is one.

    Returns:
        "rows": one for each ε (in the input's units, 0 first) with the loss and, for each head that classifies, the
        share of flipped decisions; "lipschitz_bound" and, where the network's form is not known, "no_bound_because".
    """
    with visited(app, settings, checkpoint) as patient:
        classes = app.objective(patient.settings).classes
        heads = list(classes(patient.model, patient.batch)) if classes is not None else []
        if not heads:
            rows = _rows(patient.model, patient.batch, patient.loss, epsilons, None, "")
        else:
            by_head = [
                _rows(patient.model, patient.batch, patient.loss, epsilons, _logits(classes, head), head)
                for head in heads
            ]
            rows = [{key: value for row in same for key, value in row.items()} for same in zip(*by_head, strict=True)]
        return {"rows": rows, **_bound(patient.model)}


def _rows(
    model: nn.Module, batch: Any, loss: ScalarLoss, epsilons: Sequence[float], outputs: Any, head: str
) -> list[dict[str, Any]]:
    if outputs is None:  # labels may be real numbers: only what acts on the last layer is moved
        with Subject.of(model, batch, loss) as subject:
            paths = subject.entry
        attacked = robustness(model, batch, loss, epsilons, outputs=loss, is_classifier=False, paths=paths)
    else:
        attacked = robustness(model, batch, loss, epsilons, outputs=outputs)
    flips = [{} if row.flipped is None else {f"flipped: {head}": row.flipped} for row in attacked]
    return [{"epsilon": row.epsilon, "loss": row.loss, **flip} for row, flip in zip(attacked, flips, strict=True)]


def _logits(classes: Any, head: str) -> Any:
    def logits(model: nn.Module, batch: Any) -> Tensor:
        return classes(model, batch)[head].logits

    return logits


def _bound(model: nn.Module) -> dict[str, Any]:
    try:
        return {"lipschitz_bound": lipschitz_bound(model).total}
    except ValueError as error:
        return {"lipschitz_bound": None, "no_bound_because": str(error)}
