"""The signaling data sets as cell tables: which columns of each are given, measured, and repeated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from isometry_data.catalogue import locate
from isometry_data.cell_tables import CellTable, read_cells


class Reading(NamedTuple):
    """How a set of the catalogue is read."""

    inputs: tuple[str, ...]
    responses: tuple[str, ...]
    batch: str | None = None
    unit: str = ""


READINGS = {
    "nfkb-tnf": Reading(("dose_ng_ml",), ("response_*",)),
    "jak-stat": Reading(("stim_level",), ("response",), "replicate", "ng/mL"),
    "laci-iptg": Reading(("iptg_uM",), ("intensity",), "date"),
    "nfkb-macrophage": Reading(("ligand",), ("t*min",)),
}


def read_signaling_set(
    name: str,
    *,
    inputs: Sequence[str] | None = None,
    responses: Sequence[str] | None = None,
    where: Mapping[str, str] | None = None,
) -> CellTable:
    """The cells of a set of the catalogue, `read_signaling_set("jak-stat", where={"stim_type": "OSM", "time": "30"})`.

    Other inputs (of the macrophages: ligand and dose) or responses are taken where given. Errors as `locate` and
    `read_cells`.
    """
    if name not in READINGS:
        raise ValueError(f"unknown signaling set {name!r}; known: {', '.join(READINGS)}")
    reading = READINGS[name]
    return read_cells(
        locate(name),
        inputs=inputs or reading.inputs,
        responses=responses or reading.responses,
        batch=reading.batch,
        unit=reading.unit,
        where=where,
    )
