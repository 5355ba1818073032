"""How many bits cells carry about what they were given, from a table of single cells."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from isometry.information.capacity_baselines import Baseline, baselines
from isometry.information.conditional import conditional_information
from isometry.information.decoded import LEAST_SAMPLES, Decoded, decode
from isometry.information.resampled import CONFIDENCE, Estimate
from isometry_data.cell_tables import CellTable, check_counts

DECODER = "cross-fitted decoder"
IS_BOUND = "lower bound: on average over cells at most the truth"
IN_SAMPLE = "no bound: scored on the cells it was made from"
LEAST_GROUPS = 3  # of each input
MOST_BATCHES = 12  # measured each by itself
N_STEPS_BESIDE = 300  # of training, where a number is only told beside the answer


@dataclass(frozen=True)
class Capacity:
    """What a table of cells says of its channel."""

    cells: CellTable
    """Those that were used."""
    decoded: Decoded
    shuffled: Decoded
    """The same with inputs dealt out anew: the truth is 0."""
    baselines: list[Baseline]
    pattern: Estimate | None
    """Capacity of the pattern of missing values alone, over all cells; None: none is missing."""
    batch: Estimate | None
    """What responses tell of the batch at a given input, bits; None: none is in two batches, or of too few groups."""
    within: dict[str, tuple[Estimate, int]]
    """Batch -> capacity within it, and its cells; batches of too few cells or groups are not here."""
    n_read: int
    missing: str

    def estimates(self) -> dict[str, Estimate]:
        """The decoder's answers."""
        return {
            "capacity_bits": self.decoded.capacity(),
            "information_bits": self.decoded.information(self.decoded.frequencies),
            "information_bits_uniform": self.decoded.information(),
            "shuffled_capacity_bits": self.shuffled.capacity(),
        }


def measure_capacity(cells: CellTable, *, missing: str = "drop", seed: int = 0, n_steps: int | None = None) -> Capacity:
    """Decode inputs from responses, and everything that is told beside it.

    Args:
        missing: drop: only cells with every response; keep: all, and a missing response is an observation, too.
        seed: the same seed, the same answer.
    Raises:
        ValueError: one line: too few cells of an input, no complete cells, groups that cannot be parted.
    """
    every, pattern = cells, _pattern(cells, seed)
    if missing == "drop":
        cells = _complete(cells)
    check_counts(cells)
    _check_groups(cells)
    x, y = cells.inputs.codes, _varying(cells)
    decoded = decode(x, y, groups=cells.group, seed=seed, n_steps=n_steps)
    dealt = np.random.default_rng(seed + 1).permutation(x)
    # Groups may hold one input alone; where inputs are dealt out anew, cells are exchangeable and need none.
    shuffled = decode(dealt, y, seed=seed, n_steps=n_steps)
    batch, within = _batches(cells, y, seed)
    return Capacity(cells, decoded, shuffled, baselines(x, y), pattern, batch, within, len(every), missing)


def as_plain(found: Capacity) -> dict[str, Any]:
    """For JSON."""
    cells, decoded = found.cells, found.decoded
    labels = cells.inputs.labels
    best = decoded.information(decoded.best_inputs, n_resampled=0).value
    return {
        **{name: bits._asdict() for name, bits in found.estimates().items()},
        "interval": f"{CONFIDENCE:.0%}, {'groups' if cells.group is not None else 'cells of each input'} resampled, "
        "decoders as they were found",
        "bound": IS_BOUND,
        "input": {"name": cells.inputs.name, "unit": cells.inputs.unit, "values": _values(cells)},
        "optimal_inputs": dict(zip(labels, decoded.best_inputs.tolist(), strict=True)),
        "information_bits_at_optimal_inputs": best,
        "confusion": decoded.confusion().tolist(),
        "estimators": estimator_rows(found),
        "decoder_weights": decoded.weights,
        "batch": _batch_told(found),
        "missing": {
            "treatment": found.missing,
            "pattern_capacity_bits": None if found.pattern is None else found.pattern._asdict(),
        },
        "responses": list(cells.response_names),
        "n_cells": len(cells),
        "n_cells_by_input": np.bincount(cells.inputs.codes, minlength=len(labels)).tolist(),
        "left_out": list(cells.left_out),
    }


def estimator_rows(found: Capacity) -> list[dict[str, Any]]:
    """A row per estimator: capacity and information, bits."""
    bits = found.estimates()
    capacity, given = bits["capacity_bits"], bits["information_bits"]
    rows: list[dict[str, Any]] = [
        {
            "estimator": DECODER,
            "capacity_bits": capacity.value,
            "low": capacity.low,
            "high": capacity.high,
            "uniform_bits": bits["information_bits_uniform"].value,
            "given_bits": given.value,
            "what": IS_BOUND,
        }
    ]
    for name, (alone, uniform) in found.decoded.alone.items():
        rows.append(_row(f"cross-fitted, {name} alone", alone, uniform, None, IS_BOUND))
    rows += [_row(one.name, one.capacity, one.uniform, one.given, IN_SAMPLE) for one in found.baselines]
    control = bits["shuffled_capacity_bits"]
    uniform = found.shuffled.information(n_resampled=0).value
    row = _row("shuffled control", control.value, uniform, None, "the truth is 0")
    return [*rows, row | {"low": control.low, "high": control.high}]


def input_rows(found: Capacity) -> list[dict[str, Any]]:
    """A row per input: cells, its optimal probability, and what its cells tell there."""
    cells, decoded = found.cells, found.decoded
    counts = np.bincount(cells.inputs.codes, minlength=decoded.n_inputs)
    bits = np.bincount(decoded.inputs, decoded.densities(decoded.optima)) / counts
    return [
        {
            cells.inputs.name: value,
            "n_cells": int(counts[i]),
            "optimal_probability": float(decoded.best_inputs[i]),
            "bits": float(bits[i]),
        }
        for i, value in enumerate(_values(cells))
    ]


def _row(name: str, capacity: float, uniform: float, given: float | None, what: str) -> dict[str, Any]:
    interval = {"low": None, "high": None}
    numbers = {"capacity_bits": capacity, **interval, "uniform_bits": uniform, "given_bits": given}
    return {"estimator": name, **numbers, "what": what}


def _values(cells: CellTable) -> list[Any]:
    return list(cells.inputs.labels) if cells.inputs.amounts is None else cells.inputs.amounts.tolist()


def _complete(cells: CellTable) -> CellTable:
    n = int((~cells.is_complete).sum())
    if n == len(cells):
        raise ValueError(
            f"{cells.path}: no cell has all {len(cells.response_names)} responses; name fewer with --output, or take "
            "cells as they are with --missing keep"
        )
    return cells.chosen(cells.is_complete, f"{n} cells with a missing response") if n else cells


def _check_groups(cells: CellTable) -> None:
    """Cells of an input can be learnt, chosen on and scored only if they come from three groups at least."""
    if cells.group is None:
        return
    for code, label in enumerate(cells.inputs.labels):
        n = len(np.unique(cells.group[cells.inputs.codes == code]))
        if n < LEAST_GROUPS:
            raise ValueError(
                f"{cells.path}: cells of {cells.inputs.name} = {label} come from {n} group(s), expected {LEAST_GROUPS} "
                "at least, so that some can be learnt from and others scored; name a finer column with --group, or none"
            )
    n_groups = len(np.unique(cells.group))
    if n_groups <= LEAST_GROUPS:
        raise ValueError(
            f"{cells.path}: {n_groups} group(s) of cells, expected {LEAST_GROUPS + 1} at least, so that some can be "
            "learnt from and others scored; name a finer column with --group, or none"
        )


def _varying(cells: CellTable) -> np.ndarray:
    """The responses without those that became constant when cells were left out."""
    y = cells.responses
    some_missing = np.isnan(y).any(axis=0)
    varies = np.array([np.ptp(column[~np.isnan(column)]) > 0 for column in y.T])
    if not (varies | some_missing).any():
        raise ValueError(f"{cells.path}: every response is constant among the cells used; it can tell nothing")
    return y[:, varies | some_missing]


def _pattern(cells: CellTable, seed: int) -> Estimate | None:
    """The capacity of which responses are missing, whatever the others are."""
    is_missing = np.isnan(cells.responses).astype(float)
    varies = np.ptp(is_missing, axis=0) > 0
    few = np.bincount(cells.inputs.codes, minlength=len(cells.inputs.labels)).min() < LEAST_SAMPLES
    if not varies.any() or few:
        return None
    _check_groups(cells)
    kinds = ("logistic", "network")
    found = decode(
        cells.inputs.codes, is_missing[:, varies], groups=cells.group, kinds=kinds, n_steps=N_STEPS_BESIDE, seed=seed
    )
    return found.capacity()


def _batches(cells: CellTable, y: np.ndarray, seed: int) -> tuple[Estimate | None, dict[str, tuple[Estimate, int]]]:
    if cells.batch is None or len(np.unique(cells.batch)) < 2:
        return None, {}
    told = _about_batch(cells, y, seed)
    largest = np.argsort(-np.bincount(cells.batch, minlength=len(cells.batch_names)))[:MOST_BATCHES]
    within = {}
    for code in sorted(largest.tolist()):
        part = _measurable(replace(cells, responses=y), cells.batch == code)
        if part is not None:
            bits = _within(part, seed)
            if bits is not None:
                within[cells.batch_names[code]] = bits, len(part)
    return told, within


def _about_batch(cells: CellTable, y: np.ndarray, seed: int) -> Estimate | None:
    assert cells.batch is not None
    try:
        return conditional_information(cells.batch, cells.inputs.codes, y, groups=cells.group, seed=seed)
    except ValueError:
        if cells.group is None:
            raise
        return None  # a batch of too few groups cannot be told from its groups


def _within(part: CellTable, seed: int) -> Estimate | None:
    groups = part.group
    try:
        found = decode(part.inputs.codes, part.responses, groups=groups, seed=seed, n_steps=N_STEPS_BESIDE)
    except ValueError:
        if groups is None:
            raise
        return None  # too few groups of this batch have the input
    return found.capacity()


def _measurable(cells: CellTable, rows: np.ndarray) -> CellTable | None:
    """Those rows whose input has cells enough among them; None where fewer than two inputs have."""
    counts = np.bincount(cells.inputs.codes[rows], minlength=len(cells.inputs.labels))
    part = cells.chosen(rows & (counts >= LEAST_SAMPLES)[cells.inputs.codes])
    varies = [
        np.ptp(column[~np.isnan(column)]) > 0 if (~np.isnan(column)).any() else False for column in part.responses.T
    ]
    if len(part.inputs.labels) < 2 or not any(varies):
        return None
    return replace(part, responses=part.responses[:, varies])


def _batch_told(found: Capacity) -> dict[str, Any] | None:
    if found.cells.batch is None:
        return None
    return {
        "information_bits": None if found.batch is None else found.batch._asdict(),
        "capacity_bits_within": {
            name: {**bits._asdict(), "n_cells": n, "values_are": IS_BOUND} for name, (bits, n) in found.within.items()
        },
    }
