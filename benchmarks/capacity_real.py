"""Capacities of four real pathways, with intervals, beside published numbers and a shuffled control.

    ISOMETRY_DATA=FOLDER python benchmarks/capacity_real.py [--only WORD] [--seed 0]

Sets of the catalogue: TNF to NF-κB (Jetka et al. 2019), interferon gamma and oncostatin M to STAT (Topolewski et al.
2022), IPTG to LacI-controlled expression (Razo-Mejia et al. 2020; a capacity for each day, their mean is told),
ligands to NF-κB of macrophages (Guo et al. 2025). `published`: SLEMI's answer on these files for NF-κB, the theory's
prediction of the source for LacI, else nothing. The control is the same analysis with inputs dealt out anew.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from isometry.information.capacity_baselines import baselines
from isometry.information.decoded import decode
from isometry_data.cell_tables import CellTable
from isometry_data.signaling import read_signaling_set


class Case(NamedTuple):
    name: str
    source: str
    responses: tuple[str, ...] | None
    where: dict[str, str]
    published: str = "-"


SINGLE = {"nuclearity": "single-nuclear"}
LACI = ("area", "mean_intensity")  # the product of which, `intensity`, tells less: cells differ in size
CASES = (
    Case("NF-κB 0 min (no dose acts)", "nfkb-tnf", ("response_0",), {}, "0.055 SLEMI"),
    Case("NF-κB 3 min", "nfkb-tnf", ("response_3",), {}, "0.250 SLEMI"),
    Case("NF-κB 21 min", "nfkb-tnf", ("response_21",), {}, "0.971 SLEMI"),
    Case("NF-κB 90 min", "nfkb-tnf", ("response_90",), {}, "0.342 SLEMI"),
    Case("NF-κB 120 min", "nfkb-tnf", ("response_120",), {}, "0.145 SLEMI"),
    Case("NF-κB five times", "nfkb-tnf", None, {}, "1.12-1.14 SLEMI"),
    Case("STAT, IFN-γ 15 min", "jak-stat", None, {"stim_type": "IFNG", "time": "15", **SINGLE}),
    Case("STAT, OSM 30 min", "jak-stat", None, {"stim_type": "OSM", "time": "30", **SINGLE}),
    Case("macrophage, five ligands", "nfkb-macrophage", None, {}),
    Case("LacI O1 HG104, per day", "laci-iptg", LACI, {"operator": "O1", "rbs": "HG104"}, "1.49 theory"),
    Case("LacI O1 RBS1027, per day", "laci-iptg", LACI, {"operator": "O1", "rbs": "RBS1027"}, "1.69 theory"),
    Case("LacI O2 RBS1027, per day", "laci-iptg", LACI, {"operator": "O2", "rbs": "RBS1027"}, "1.81 theory"),
    Case("LacI O3 HG104, per day", "laci-iptg", LACI, {"operator": "O3", "rbs": "HG104"}, "0.03 theory"),
    Case("LacI O3 RBS1027, per day", "laci-iptg", LACI, {"operator": "O3", "rbs": "RBS1027"}, "0.79 theory"),
)


def parts(case: Case) -> Iterator[CellTable]:
    """The complete cells; of LacI each day by itself."""
    cells = read_signaling_set(case.source, responses=case.responses, where=case.where)
    cells = cells.chosen(cells.is_complete)
    if case.source != "laci-iptg" or cells.batch is None:
        yield cells
        return
    for day in np.unique(cells.batch):
        yield cells.chosen(cells.batch == day)


def measured(case: Case, seed: int) -> list[float]:
    """Ours with its interval, at uniform inputs, logistic, neighbours, control, cells; means over parts."""
    rows = []
    for cells in parts(case):
        x, y = cells.inputs.codes, cells.responses
        found = decode(x, y, seed=seed)
        control = decode(np.random.default_rng(seed).permutation(x), y, seed=seed).capacity(0).value
        others = {one.name: one.capacity for one in baselines(x, y)}
        beside = (others["logistic regression, in sample"], others.get("nearest neighbours", np.nan))
        rows.append([*found.capacity(), found.information(n_resampled=0).value, *beside, control, len(x)])
    return [*np.mean(rows, axis=0)[:-1], np.sum(rows, axis=0)[-1]]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default="", help="cases whose name has this word")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"{'':28s}{'cells':>7s}{'capacity, bits':>24s}{'uniform':>9s}{'logistic':>9s}{'neighb.':>9s}{'shuffled':>9s}"
        f"  {'published':16s}{'CPU s':>6s}"
    )
    controls = []
    for case in CASES:
        if options.only in case.name:
            start = time.process_time()
            value, low, high, uniform, logistic, near, control, n = measured(case, options.seed)
            controls.append(control)
            numbers = "".join(f"{number:9.3f}" for number in (uniform, logistic, near, control))
            interval = f"{value:.3f} [{low:.3f}, {high:.3f}]"
            seconds = time.process_time() - start
            print(f"{case.name:28s}{n:7.0f}{interval:>24s}{numbers}  {case.published:16s}{seconds:6.1f}", flush=True)
    print(f"largest shuffled control: {max(map(abs, controls), default=0):.4f} bits")


if __name__ == "__main__":
    main()
