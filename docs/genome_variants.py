"""Measured variants, and enhancers with their genes: what scores, tables and networks say of positions held out.

Folds are stretches of neighbouring positions (BRCA1: groups of exons; CAGI5: fifths of an element; pairs: whole
chromosomes), since neighbours are alike and three variants stand at each position. A network reads the reference's
bases around a variant and, side by side with them, those of the alternative allele.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from isometry.app import Data, load_app
from isometry.story import train
from isometry_data.genome_sets import EnhancerPair, Saturation, brca1, cagi5, crispri_pairs
from isometry_genome.asked import context_of
from isometry_genome.baselines import logistic_regression
from isometry_genome.dataset import Facts, Place, Reading, WindowDataset
from isometry_genome.memory import InMemory
from isometry_genome.predict import of_dataset
from isometry_genome.readout import Names, trained
from isometry_genome.scores import area_under_roc, average_precision

Row = dict[str, Any]

N_FOLDS = 5
AROUND = 20  # bases on either side that the linear model reads
SIDE = 32  # bases on either side that the network reads
GAP = 100  # bases without variants, between two exons
POWER = -0.87
"""Of distance, in contact: the slope of the activity-by-contact model (Fulco et al. 2019, Nat. Genet. 51, 1664)."""


class Measured(NamedTuple):
    """A region's variants: what they do, and which fold each belongs to."""

    saturation: Saturation
    is_positive: np.ndarray
    folds: np.ndarray


class Variants(NamedTuple):
    measure: Callable[[int, Path], list[Row]]
    is_net: bool


def of_brca1() -> Measured:
    """Loss of function against the rest."""
    found = brca1()
    positions = np.array([variant.position for variant in found.variants])
    places = np.unique(positions)
    exon = np.concatenate([[0], np.cumsum(np.diff(places) > GAP)])
    folds = exon[np.searchsorted(places, positions)] % N_FOLDS
    return Measured(found, np.array(found.classes["func_class"]) == "LOF", folds)


def of_cagi5() -> list[Measured]:
    """Changed expression against unchanged, of each element."""
    return [_by_stretch(element) for element in cagi5()]


def _by_stretch(element: Saturation) -> Measured:
    positions = np.array([variant.position for variant in element.variants])
    folds = np.argsort(np.argsort(positions, kind="stable"), kind="stable") * N_FOLDS // len(positions)
    first = dict(zip(positions[::-1].tolist(), folds[::-1].tolist(), strict=True))
    return Measured(element, np.array(element.classes["cls"]) != "0", np.array([first[p] for p in positions.tolist()]))


def regions() -> dict[str, list[Measured]]:
    return {"BRCA1": [of_brca1()], "CAGI5": of_cagi5()}


# Scores that come with the data, and a linear model


def tables(_seed: int, _runs: Path) -> list[Row]:
    found = of_brca1()
    rows = [_row("BRCA1", name, [found], [found.saturation.scores[name]]) for name in ("CADD", "phyloP")]
    for name, measured in regions().items():
        values = [_held_out(_linear_features(own), own.is_positive, own.folds) for own in measured]
        rows.append(_row(name, f"linear, ±{AROUND} bases, positions held out", measured, values))
    return rows


def _linear_features(own: Measured) -> np.ndarray:
    """[n, 4 · (2 · AROUND + 1) + 4] the reference's letters around each variant, and the alternative's."""
    padded = "N" * AROUND + own.saturation.sequence.upper() + "N" * AROUND
    rows = [padded[v.position : v.position + 2 * AROUND + 1] + v.alternative.upper() for v in own.saturation.variants]
    return np.array([[letter == base for letter in row for base in "ACGT"] for row in rows], dtype=np.float64)


def _held_out(features: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Logits of each record, learnt from the other folds."""
    values = np.zeros(len(labels))
    for fold in np.unique(folds):
        is_test = folds == fold
        values[is_test] = logistic_regression(features[~is_test], labels[~is_test], features[is_test])
    return values


def _row(name: str, what: str, measured: list[Measured], values: list[np.ndarray], seconds: float = 0.0) -> Row:
    """The mean over regions of the area under the curve."""
    pairs = list(zip(measured, values, strict=True))
    areas = [area_under_roc(value, own.is_positive) for own, value in pairs]
    precisions = [average_precision(value, own.is_positive) for own, value in pairs]
    n = sum(len(own.is_positive) for own in measured)
    return {
        "set": name, "what": what, "n": n, "positive": int(sum(own.is_positive.sum() for own in measured)),
        "auroc": statistics.mean(areas), "auprc": statistics.mean(precisions), "cpu_s": seconds,
    }  # fmt: skip


# Networks


def zero_shot(seed: int, runs: Path) -> list[Row]:
    """A network that learnt to guess hidden bases of yeast: how much less it expects the alternative."""
    from isometry_genome.variant_effects import Asked, effects

    before, app = time.process_time(), load_app("genome")
    folder = train(app, app.presets["language"].changed(seed=seed), runs / f"language-{seed}", is_quiet=True).folder
    model, settings = trained(str(folder), "cpu")
    rows = []
    for name, measured in regions().items():
        values = []
        for own in measured:
            region = InMemory({own.saturation.name: own.saturation.sequence})
            variants = [replace(v, chrom=own.saturation.name) for v in own.saturation.variants]
            asked = Asked(model, region, context_of(settings.data), Names((), (), ()))
            values.append(np.array([-(found["log_p_ratio"] or 0.0) for _, found in effects(variants, asked)]))
        rows.append(_row(name, "zero-shot, hidden bases of yeast", measured, values, time.process_time() - before))
    return rows


def supervised(seed: int, runs: Path) -> list[Row]:
    rows = []
    for name, measured in regions().items():
        before = time.process_time()
        values = [_by_network(own, seed, runs) for own in measured]
        what = f"network, ±{SIDE} bases, positions held out"
        rows.append(_row(name, what, measured, values, time.process_time() - before))
    return rows


def _by_network(own: Measured, seed: int, runs: Path) -> np.ndarray:
    """Log-odds of each variant, by the network that its fold, and the next one for validation, did not train."""
    values = np.zeros(len(own.folds))
    for fold in range(N_FOLDS):
        parts = _parts(own, fold)
        app = replace(load_app("genome"), data=lambda _settings, parts=parts: parts)
        changes = {"model": {"bin": 1, "width": 32, "stem": 32}, "fit": {"epochs": 8}, "loss": {"class_balance": 1.0}}
        settings = app.presets["promoters"].changed(seed=seed, **changes)
        folder = train(app, settings, runs / f"{own.saturation.name}-{fold}-{seed}", is_quiet=True).folder
        model, _ = trained(str(folder), "cpu")
        said = np.array([found.classes for found in of_dataset(model, parts.test)])
        values[own.folds == fold] = np.log(said[:, 1].clip(1e-30)) - np.log(said[:, 0].clip(1e-30))
    return values


def _parts(own: Measured, fold: int) -> Data:
    is_test, is_valid = own.folds == fold, own.folds == (fold + 1) % N_FOLDS
    pairs = list(_pairs(own.saturation))
    sequences = InMemory({str(i): letters for i, letters in enumerate(pairs)})
    reading, facts = Reading(len(pairs[0])), Facts(("unchanged", "changed"))

    def made(chosen: np.ndarray) -> WindowDataset:
        numbers = np.flatnonzero(chosen).tolist()
        places = [Place(str(i), 0, len(pairs[i]), int(own.is_positive[i])) for i in numbers]
        return WindowDataset(sequences, places, reading, facts)

    return Data(made(~(is_test | is_valid)), made(is_valid), made(is_test), {own.saturation.name: str(fold)})


def _pairs(of: Saturation) -> Iterator[str]:
    """The reference around each variant, and behind it the same with the alternative."""
    padded = "N" * SIDE + of.sequence.upper() + "N" * SIDE
    for variant in of.variants:
        left, right = padded[variant.position : variant.position + SIDE], variant.position + SIDE + 1
        after = padded[right : right + SIDE]
        yield left + variant.reference.upper() + after + left + variant.alternative.upper() + after


# Enhancers and genes


def pairs(_seed: int, _runs: Path) -> list[Row]:
    """Tested pairs of element and gene in K562; of the linear model, by held-out chromosomes."""
    found = crispri_pairs()
    truth = np.array([pair.is_regulated for pair in found])
    distance = np.log(np.array([max(pair.distance, 1.0) for pair in found]))
    activity = np.log(np.sqrt(_signal(found, "H3K27ac.RPM") * _signal(found, "DHS.RPM")) + 1e-3)
    chroms = np.array([pair.element.chrom for pair in found])
    names = sorted(set.intersection(*(set(pair.signals) for pair in found)))
    features = np.stack([distance, *(np.log1p(_signal(found, name)) for name in names)], 1)
    learnt = _held_out(np.concatenate([features, features[:, :1] * features], 1), truth, chroms)
    values = {
        "distance": -distance,
        "activity × contact": activity + POWER * distance,
        f"linear, {features.shape[1]} columns and their products with distance, chromosomes held out": learnt,
    }
    at = {"set": "enhancer and gene", "n": len(found), "positive": int(truth.sum()), "cpu_s": 0.0}
    return [
        at | {"what": what, "auroc": area_under_roc(own, truth), "auprc": average_precision(own, truth)}
        for what, own in values.items()
    ]


def _signal(found: list[EnhancerPair], name: str) -> np.ndarray:
    return np.nan_to_num(np.array([pair.signals[name] for pair in found]))


VARIANTS = {
    "tables": Variants(tables, is_net=False),
    "pairs": Variants(pairs, is_net=False),
    "supervised": Variants(supervised, is_net=True),
    "zero-shot": Variants(zero_shot, is_net=True),
}


def variant_page(rows: list[Row]) -> str:
    lines = ["| set | predictor | records | positive | seeds | AUROC | AUPRC |", "|---" * 7 + "|"]
    for key in sorted({(row["set"], row["what"]) for row in rows}, key=lambda key: _place(key, rows)):
        own = [row for row in rows if (row["set"], row["what"]) == key]
        scores = " | ".join(f"{statistics.mean(row[name] for row in own):.3f}" for name in ("auroc", "auprc"))
        lines.append(f"| {key[0]} | {key[1]} | {own[0]['n']:,} | {own[0]['positive']:,} | {len(own)} | {scores} |")
    return "\n".join(lines)


def _place(key: tuple[str, str], rows: list[Row]) -> tuple[str, float]:
    return key[0], min(row["auroc"] for row in rows if (row["set"], row["what"]) == key)
