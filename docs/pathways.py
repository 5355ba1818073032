"""Where a trained cell and three real pathways stand, each on its own information plane.

    ISOMETRY_DATA=FOLDER python docs/pathways.py [--only NAME] [--betas 8] [--steps 60]
    python docs/pathways.py --draw                  # only the page and the picture; trains nothing

The cell: the network of preset `cascade`. The pathways: preset `pathway` on real cells, doses equally often. Each
network is trained at its preset's beta and followed along the others as `isometry plane` does; all points are certified
on cells that training never saw, those of one plane together with 99 % confidence. Results are kept one by one in
docs/pathways.json. About a minute of one core for each.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from isometry import story
from isometry.app import load_app
from isometry.durable import write_whole
from isometry.figures import FAINT, PALETTE, panels, style
from isometry.information.decoded import decode
from isometry_signaling.certificate import Certificate, certify
from isometry_signaling.dataset import CellTable
from isometry_signaling.pathways import PATHWAYS
from isometry_signaling.plane import betas_between, certified, follow
from isometry_signaling.sources import cells_of
from isometry_signaling.truth import truth_of
from page import fill

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CELL = "cascade"
NAMES = (CELL, *PATHWAYS)
LOWEST, HIGHEST = 1.15, 20.0  # beta of real pathways
N_THRESHOLDS = 40
TITLE = 9  # points: the longest has room
PAGE, RESULTS, PICTURE = (Path(__file__).with_suffix(ending) for ending in (".md", ".json", ".png"))


def measured(name: str, n_betas: int, n_steps: int) -> dict[str, Any]:
    """The plane of one network, and what else stands on it."""
    app: Any = load_app("signaling")
    began = time.process_time()
    settings = app.presets[CELL] if name == CELL else app.presets["pathway"].changed(data={"source": name})
    truth = truth_of(settings.data)
    low, high = (1.01 * truth.first_beta, truth.last_beta) if truth else (LOWEST, HIGHEST)
    with tempfile.TemporaryDirectory() as folder:
        story.train(app, settings.changed(device="cpu"), Path(folder) / "run", is_quiet=True)
        loaded = story.load(app, Path(folder) / "run", device="cpu")
    data, loss = app.data(loaded.settings), loaded.settings.loss
    trained = certified(loaded.model, loss, data.test)  # type: ignore[arg-type]
    betas = betas_between(low, high, n_betas)
    points = follow(loaded.model, loss, data.train, data.test, betas, n_steps=n_steps)  # type: ignore[arg-type]
    found: dict[str, Any] = {
        "beta": loss.beta,
        "trained": trained._asdict(),
        "points": [{"beta": point.beta} | point.certificate._asdict() for point in points],
    }
    if truth is not None:
        found |= {"information": truth.information, "stages": {k: at._asdict() for k, at in truth.stages.items()}}
        rates = np.linspace(0, max(point.certificate.rate_upper for point in points), 200)
        found["curve"] = np.stack([rates, truth.relevance_at(rates)]).tolist()
    else:
        found |= {"title": PATHWAYS[name].title, **of_cells(settings)}
    return found | {"cpu_s": time.process_time() - began}


def of_cells(settings: Any) -> dict[str, Any]:
    """What the responses tell of doses that are equally often, by the decoder of `isometry capacity`; and a switch."""
    cells = cells_of(settings.data, settings.seed)
    assert cells.valid is not None
    assert cells.test is not None
    whole = [cells.train, cells.valid, cells.test]
    dose, response = (np.concatenate([_numbers(part)[i] for part in whole]) for i in (0, 1))
    own = decode(dose, response, kinds=("logistic", "network"), n_steps=300).information()
    switch, threshold = best_switch(cells.train, cells.test)
    column = cells.names.ligands[threshold[0]]
    counts = np.bincount(dose)
    told = {"column": column, "threshold": threshold[1], **switch._asdict()}
    return {
        "own": own._asdict(),
        "switch": told,
        "n_cells": len(dose),
        "n_doses": len(counts),
        "n_test": len(cells.test),
    }


def _numbers(table: CellTable) -> tuple[np.ndarray, np.ndarray]:
    return table.stratum, table.ligand.reshape(len(table), -1)


def best_switch(train: CellTable, test: CellTable) -> tuple[Certificate, tuple[int, float]]:
    """On above a threshold of one response, the best on training cells; certified on the others."""
    _, y = _numbers(train)
    tried = [
        (i, float(t)) for i in range(y.shape[1]) for t in np.quantile(y[:, i], np.linspace(0.02, 0.98, N_THRESHOLDS))
    ]
    shares = [_shares(train, *one) for one in tried]
    best = int(np.argmax([_information(share) for share in shares]))
    joint, (column, threshold) = shares[best], tried[best]
    dose, response = _numbers(test)
    is_on = (response[:, column] > threshold).astype(int)
    marginal = joint.sum(0)
    rate = -np.log2(marginal)[is_on]
    relevance = np.log2(joint[dose, is_on] / marginal[is_on] / joint.sum(1)[dose])
    return certify(rate, relevance, test.weight, dose), tried[best]


def _shares(table: CellTable, column: int, threshold: float) -> np.ndarray:
    """[n_doses, 2] p(dose, off or on), each count one higher than it was."""
    dose, y = _numbers(table)
    counts = (
        np.stack(
            [
                np.bincount(dose[on], minlength=dose.max() + 1)
                for on in (y[:, column] <= threshold, y[:, column] > threshold)
            ],
            1,
        )
        + 1.0
    )
    return counts / counts.sum(1, keepdims=True) / len(counts)


def _information(joint: np.ndarray) -> float:
    return float((joint * np.log2(joint / joint.sum(0) / joint.sum(1, keepdims=True))).sum())


def kept() -> dict[str, Any]:
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}


def table(results: dict[str, Any]) -> str:
    rows = [
        "| | cells (held out) | I(response; dose) | trained: paid, gained | best certified | a switch: paid, gained |",
        "|---|---|---|---|---|---|",
    ]
    for name in (name for name in NAMES if name in results):
        of = results[name]
        best = max(of["points"], key=lambda at: at["relevance_lower"])
        pairs = [f"{at['rate_upper']:.3f}, {at['relevance_lower']:.3f}" for at in (of["trained"], best)]
        if name == CELL:
            start, switch = (
                ["the simulated cell, ligand at one instant", "exact table", f"{of['information']:.3f}"],
                "-",
            )
        else:
            own = of["own"]
            interval = f"{own['value']:.3f} [{own['low']:.3f}, {own['high']:.3f}]"
            start = [of["title"], f"{of['n_cells']:,} ({of['n_test']:,})", interval]
            switch = f"{of['switch']['rate_upper']:.3f}, {of['switch']['relevance_lower']:.3f}"
        rows.append(f"| {' | '.join([*start, *pairs, switch])} |")
    return "\n".join(rows)


def draw(results: dict[str, Any]) -> None:
    with style():
        figure, axes = panels(2, 2, width=4.8, height=3.6)
        for place, name in zip(axes, NAMES, strict=True):
            if name in results:
                (_draw_cell if name == CELL else _draw_pathway)(place, results[name])
                place.legend(loc="lower right", fontsize=7)
            place.set(xlim=(0, None), ylim=(0, None))
        figure.savefig(PICTURE, dpi=160)


def _draw_learned(axes: Axes, of: dict[str, Any]) -> None:
    points = [at for at in of["points"] if at["relevance_lower"] > 0]
    paid, gained = ([at[side] for at in points] for side in ("rate_upper", "relevance_lower"))
    axes.plot(paid, gained, "o-", color=PALETTE[1], markersize=4, linewidth=0.8, label="learned, certified")
    at = of["trained"]
    label = f"trained at β = {of['beta']:g}"
    axes.plot([at["rate_upper"]], [at["relevance_lower"]], "*", color=PALETTE[2], markersize=11, label=label)


def _draw_cell(axes: Axes, of: dict[str, Any]) -> None:
    axes.plot(*of["curve"], color=PALETTE[0], label="exact: the best any cell could do")
    _draw_learned(axes, of)
    for mark, (name, at) in zip("s^", of["stages"].items(), strict=True):
        axes.plot([at["rate"]], [at["relevance"]], mark, color=FAINT, label=f"{name} of the simulated cell")
    axes.set(xlabel="I(L; S), bits kept of the ligand", ylabel="I(S; E), bits about the environment")
    axes.set_title("simulated cell: cascade", fontsize=TITLE)


def _draw_pathway(axes: Axes, of: dict[str, Any]) -> None:
    own, switch = of["own"], of["switch"]
    axes.plot([0, own["value"]], [0, own["value"]], color=FAINT, linewidth=0.8, label="a bit gained for a bit paid")
    axes.axhspan(own["low"], own["high"], color=PALETTE[0], alpha=0.15, linewidth=0)
    _draw_learned(axes, of)
    label = "the pathway: pays and gains I(response; dose)"
    axes.plot([own["value"]], [own["value"]], "D", color=PALETTE[0], markersize=6, label=label)
    label = "a switch: on above the best threshold"
    axes.plot([switch["rate_upper"]], [switch["relevance_lower"]], "^", color=FAINT, label=label)
    axes.set(xlabel="I(response; S), bits kept of the response", ylabel="I(S; dose), bits about the dose")
    axes.set_title(of["title"], fontsize=TITLE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=NAMES)
    parser.add_argument("--betas", type=int, default=8)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--draw", action="store_true", help="train nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in () if options.draw else NAMES if options.only is None else (options.only,):
        found = kept() | {name: measured(name, options.betas, options.steps)}
        write_whole(RESULTS, (json.dumps(found, indent=1) + "\n").encode())
        print(f"{name}: {found[name]['cpu_s']:.0f} s of one core")
    results = kept()
    fill(PAGE, table(results))
    draw(results)


if __name__ == "__main__":
    main()
