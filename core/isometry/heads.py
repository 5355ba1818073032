"""The heads of a classifier: where their temperatures are in the model, what they say of a data set, and their fit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import nn

from isometry.calibrate import Calibration, Fitted, Temperature, at_temperature, calibration_at, fit_temperature
from isometry.evaluate import evaluating
from isometry.fleet import Fleet
from isometry.lengths import in_batches
from isometry.objective import Labelled, Objective
from isometry.order import Loader, Records, to_device
from isometry.precision import Precision, PrecisionSettings

N_TRIED = 4  # records by which the heads are checked before training

Classes = Callable[[nn.Module, Any], dict[str, Labelled]]


class Calibrated(NamedTuple):
    """A head with its temperature, and how well calibrated it is without and with it."""

    fitted: Fitted
    before: Calibration
    after: Calibration


class Said(NamedTuple):
    """Logits [n, n_classes] and labels [n] of a head, where the truth is known."""

    logits: np.ndarray
    labels: np.ndarray


def find_temperatures(model: nn.Module, heads: list[str]) -> dict[str, str]:
    """The qualified name of each head's `Temperature` module.

    A head goes by that name or by the end of it, as far as it names one module. Raises ValueError if it does not, or
    if two heads share a module.
    """
    known = [name for name, module in model.named_modules() if isinstance(module, Temperature)]
    found = {head: _one_of(known, head) for head in heads}
    for name in found.values():
        sharing = [head for head in heads if found[head] == name]
        if len(sharing) > 1:
            raise ValueError(f"the heads {', '.join(sharing)} share the Temperature '{name}'; give each one of its own")
    return found


def _one_of(known: list[str], head: str) -> str:
    fitting = [head] if head in known else [name for name in known if name.endswith(f".{head}")]
    if len(fitting) == 1:
        return fitting[0]
    there = ", ".join(known) or "none"
    problem = f"more than one Temperature module ends in '{head}'" if fitting else f"no Temperature module '{head}'"
    raise ValueError(
        f"the objective's classes name the head '{head}', but the model has {problem} (it has: {there}); put an "
        "isometry.calibrate.Temperature after the head's logits and name it so"
    )


def check_heads(
    model: nn.Module, objective: Objective, records: Records | None, collate: Callable[[list[Any]], Any]
) -> None:
    """Raises ValueError if the heads that `objective.classes` names cannot be calibrated; better now than at the end.

    Looks at the first few records; the model (on the CPU) and the random state stay as they are.
    """
    if objective.classes is None or not records or len(records) == 0:
        return
    here = Precision(PrecisionSettings(), torch.device("cpu"))
    batch = collate([records[i] for i in range(min(N_TRIED, len(records)))])
    (said,) = _batches(model, objective.classes, iter([batch]), here)
    places = find_temperatures(model, list(said))
    with at_temperature((cast(Temperature, model.get_submodule(name)) for name in places.values()), 2.0):
        (heated,) = _batches(model, objective.classes, iter([batch]), here)
    for head, (logits, labels) in said.items():
        try:
            fit_temperature(logits, labels)
        except ValueError as error:
            raise ValueError(f"the objective's classes, head '{head}': {error}") from None
        if not np.array_equal(logits, heated[head].logits, equal_nan=True):
            raise ValueError(f"the objective's classes, head '{head}': give the logits before the Temperature module")


def what_heads_say(
    model: nn.Module,
    classes: Classes,
    records: Records,
    collate: Callable[[list[Any]], Any],
    *,
    batch_size: int,
    tokens: int | None = None,
    precision: Precision,
    fleet: Fleet,
) -> dict[str, Said]:
    """Logits and known labels of a whole data set, of each head; every process measures its share and gets all."""
    batches = in_batches(records, np.arange(fleet.rank, len(records), fleet.world), batch_size, tokens)
    pieces: dict[str, list[Said]] = {}
    for said in _batches(model, classes, Loader(records, collate, is_drawn=False).fetch(batches), precision):
        for head, (logits, labels) in said.items():
            is_known = labels != -1
            pieces.setdefault(head, []).append(Said(logits[is_known], labels[is_known]))
    shares = fleet.gather({head: _joined(parts) for head, parts in pieces.items()})
    heads = dict.fromkeys(head for share in shares for head in share)
    return {head: _joined([share[head] for share in shares if head in share]) for head in heads}


def calibrated(said: Said) -> Calibrated:
    """The temperature of a head, and its calibration without and with it."""
    fitted = fit_temperature(*said)
    return Calibrated(fitted, calibration_at(*said), calibration_at(*said, fitted.temperature))


def as_plain(found: Calibrated) -> dict[str, Any]:
    """For JSON, equal to what is read back: numbers that are not finite are null."""
    sides = {"before": found.before, "after": found.after}
    told = {"": found.fitted._asdict()} | {side: _measures(of) for side, of in sides.items()}
    finite = {place: {name: _finite(value) for name, value in values.items()} for place, values in told.items()}
    return finite.pop("") | finite


def _measures(found: Calibration) -> dict[str, float]:
    return {
        "accuracy": found.accuracy,
        "confidence": found.confidence,
        "expected_error": found.expected_error,
        "equal_mass_error": found.equal_mass_error,
        "largest_error": found.largest_error,
        "brier": found.brier,
        "nll": found.nll,
    }


def _batches(
    model: nn.Module, classes: Classes, batches: Iterator[Any], precision: Precision
) -> Iterator[dict[str, Said]]:
    """What the heads say of each batch, on the CPU; the model is left in the mode in which it came."""
    with evaluating(model, precision):
        for batch in batches:
            said = classes(model, to_device(batch, precision.device, precision.parameter_dtype))
            yield {head: _said(labelled) for head, labelled in said.items()}


def _said(labelled: Labelled) -> Said:
    logits, labels = labelled
    dtype = torch.promote_types(logits.dtype, torch.float32)
    return Said(logits.detach().to(dtype=dtype).cpu().numpy(), labels.detach().cpu().numpy())


def _joined(parts: list[Said]) -> Said:
    return Said(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
