"""Measured variants, and enhancers with their genes: what scores, tables and networks say of positions held out.

Folds are stretches of neighbouring positions (BRCA1: groups of exons; CAGI5: fifths of an element; pairs: whole
chromosomes), since neighbours are alike and three variants stand at each position. A network reads the reference's
bases around a variant and, side by side with them, those of the alternative allele; the elements of CAGI5 share one. It
was chosen by what validates where fold 0 tests, that is fold 1, whose own test is tainted by so much.
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
from isometry.story import Trained, train
from isometry_data.genome_sets import EnhancerPair, Saturation, brca1, cagi5, crispri_pairs
from isometry_genome.asked import context_of, thinned
from isometry_genome.baselines import logistic_regression
from isometry_genome.dataset import Facts, Place, Reading, WindowDataset
from isometry_genome.memory import InMemory
from isometry_genome.predict import of_dataset
from isometry_genome.public import side_by_side
from isometry_genome.readout import Names, trained
from isometry_genome.scores import area_under_roc, average_precision
from isometry_genome.variant_effects import Asked, effects

Row = dict[str, Any]

N_FOLDS = 5
AROUND = 20  # bases on either side that the linear model reads
SIDE = 16  # bases on either side that the network reads
GAP = 100  # bases without variants, between two exons
SUPERVISED: Row = {
    "model": {"width": 32, "stem": 32},
    "loss": {"class_balance": 1.0},
    "log": {"health": 0},
}
EPOCHS = {"BRCA1": 8, "CAGI5": 16}
LANGUAGE: Row = {
    "data": {"length": 512},
    "model": {"width": 64, "n_layers": 2, "n_heads": 4},
    "fit": {"epochs": 2, "batch_size": 16},
    "log": {"health": 0},
}
HUMAN_EPOCHS = 8
N_GUESSED = 200  # windows of yeast that validate, and that test
POWER = -0.87
"""Of distance, in contact: the slope of the activity-by-contact model (Fulco et al. 2019, Nat. Genet. 51, 1664)."""


class Measured(NamedTuple):
    """A region's variants: what they do, and which fold each belongs to."""

    saturation: Saturation
    is_positive: np.ndarray
    folds: np.ndarray
    size: np.ndarray
    """Of the effect: function lost, or by how much expression goes up or down."""


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
    return Measured(found, np.array(found.classes["func_class"]) == "LOF", folds, -found.scores["function"])


def of_cagi5() -> list[Measured]:
    """Changed expression against unchanged, of each element."""
    return [_by_stretch(element) for element in cagi5()]


def _by_stretch(element: Saturation) -> Measured:
    positions = np.array([variant.position for variant in element.variants])
    folds = np.argsort(np.argsort(positions, kind="stable"), kind="stable") * N_FOLDS // len(positions)
    first = dict(zip(positions[::-1].tolist(), folds[::-1].tolist(), strict=True))
    is_changed, folds = np.array(element.classes["cls"]) != "0", np.array([first[p] for p in positions.tolist()])
    return Measured(element, is_changed, folds, np.abs(element.scores["log2_effect"]))


def regions() -> dict[str, list[Measured]]:
    return {"BRCA1": [of_brca1()], "CAGI5": of_cagi5()}


# Scores that come with the data, and a linear model


def tables(_seed: int, _runs: Path) -> list[Row]:
    found = of_brca1()
    rows = [_row("BRCA1", name, [found], [found.saturation.scores[name]]) for name in ("CADD", "phyloP")]
    for name, measured in regions().items():
        rows.append(_row(name, "G or C in place of A or T", measured, [_strengths(own) for own in measured]))
        features = [_linear_features(own) for own in measured]
        values = [_held_out(x, own.is_positive, own.folds) for x, own in zip(features, measured, strict=True)]
        rows.append(_row(name, f"linear, ±{AROUND} bases, positions held out", measured, values))
        if len(measured) > 1:
            joined = (np.concatenate(own) for own in (features, *zip(*(own[1:3] for own in measured), strict=True)))
            values = np.split(_held_out(*joined), np.cumsum([len(x) for x in features])[:-1])
            rows.append(
                _row(name, f"linear, one for all elements, ±{AROUND} bases, positions held out", measured, values)
            )
    return rows


def _strengths(own: Measured) -> np.ndarray:
    """1: A or T becomes G or C; -1: the other way round."""
    pairs = ((v.reference.upper(), v.alternative.upper()) for v in own.saturation.variants)
    return np.array([float((a in "AT") - (b in "AT")) for a, b in pairs])


def _linear_features(own: Measured) -> np.ndarray:
    """[n, 4 · (2 · AROUND + 1) + 4] the reference's letters around each variant, and the alternative's."""
    padded = "N" * AROUND + own.saturation.sequence.upper() + "N" * AROUND
    rows = [padded[v.position : v.position + 2 * AROUND + 1] + v.alternative.upper() for v in own.saturation.variants]
    return np.array([[letter == base for letter in row for base in "ACGT"] for row in rows], dtype=np.float64)


def _held_out(features: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Logits of each record, learnt from the other folds, beyond the odds of these: where a fold has more positives the
    others have fewer, and folds are ranked together."""
    values = np.zeros(len(labels))
    for fold in np.unique(folds):
        is_test = folds == fold
        learnt, share = labels[~is_test], labels[~is_test].mean()
        values[is_test] = logistic_regression(features[~is_test], learnt, features[is_test]) - np.log(
            share / (1 - share)
        )
    return values


def _row(
    name: str, what: str, measured: list[Measured], values: list[np.ndarray], seconds: float = 0.0, **more: Any
) -> Row:
    """Means over regions."""
    pairs = list(zip(measured, values, strict=True))
    return {
        "set": name, "what": what, "n": sum(len(own.folds) for own in measured),
        "positive": int(sum(own.is_positive.sum() for own in measured)),
        "auroc": statistics.mean(area_under_roc(value, own.is_positive) for own, value in pairs),
        "auprc": statistics.mean(average_precision(value, own.is_positive) for own, value in pairs),
        "within": statistics.mean(_within_folds(value, own) for own, value in pairs),
        "r": statistics.mean(float(np.corrcoef(value, own.size)[0, 1]) for own, value in pairs),
        "cpu_s": seconds, **more,
    }  # fmt: skip


def _within_folds(values: np.ndarray, own: Measured) -> float:
    """Area under the curve of pairs that lie in the same fold: what is known beyond which stretches matter."""
    chosen = [own.folds == fold for fold in np.unique(own.folds)]
    both = [is_in for is_in in chosen if 0 < own.is_positive[is_in].mean() < 1]
    areas = [area_under_roc(values[is_in], own.is_positive[is_in]) for is_in in both]
    return float(np.average(areas, weights=[own.is_positive[i].sum() * (~own.is_positive[i]).sum() for i in both]))


# Networks


def supervised(seed: int, runs: Path) -> list[Row]:
    rows = []
    for name, measured in regions().items():
        before = time.process_time()
        values = _by_network(name, measured, seed, runs)
        what = f"network, ±{SIDE} bases, positions held out"
        rows.append(_row(name, what, measured, values, time.process_time() - before))
    return rows


def _by_network(name: str, measured: list[Measured], seed: int, runs: Path) -> list[np.ndarray]:
    """Log-odds of each variant, by the network that its fold, and the next one for validation, did not train."""
    values = [np.zeros(len(own.folds)) for own in measured]
    for fold in range(N_FOLDS):
        parts = _parts(measured, fold)
        app = replace(load_app("genome"), data=lambda _settings, parts=parts: parts, report=None)
        fit = {"epochs": EPOCHS[name], "evaluate_every": EPOCHS[name]}
        settings = app.presets["promoters"].changed(**SUPERVISED, seed=seed, fit=fit)
        folder = train(app, settings, runs / f"variants-{name}-{fold}-{seed}", is_quiet=True).folder
        said = np.array([found.classes for found in of_dataset(trained(str(folder), "cpu")[0], parts.test)])
        odds = np.log(said[:, 1].clip(1e-30) / said[:, 0].clip(1e-30))
        for own, value in zip(measured, values, strict=True):
            value[own.folds == fold], odds = np.split(odds, [int((own.folds == fold).sum())])
    return values


def _parts(measured: list[Measured], fold: int) -> Data:
    """Of all regions together; those that test in their order."""
    letters, places = {}, {"train": [], "valid": [], "test": []}
    for own in measured:
        for pair, label, its in zip(_pairs(own.saturation), own.is_positive, own.folds.tolist(), strict=True):
            name = str(len(letters))
            letters[name] = pair
            part = {fold: "test", (fold + 1) % N_FOLDS: "valid"}.get(its, "train")
            places[part].append(Place(name, 0, len(pair), int(label)))
    reading, facts = Reading(4 * SIDE + 2), Facts(("unchanged", "changed"))
    sets = (WindowDataset(InMemory(letters), own, reading, facts) for own in places.values())
    return Data(*sets, {own.saturation.name: str(fold) for own in measured})


def _pairs(of: Saturation) -> Iterator[str]:
    """The reference around each variant, and behind it the same with the alternative."""
    padded = "N" * SIDE + of.sequence.upper() + "N" * SIDE
    for variant in of.variants:
        left, right = padded[variant.position : variant.position + SIDE], variant.position + SIDE + 1
        after = padded[right : right + SIDE]
        yield left + variant.reference.upper() + after + left + variant.alternative.upper() + after


def zero_shot(seed: int, runs: Path) -> list[Row]:
    """A network that learnt to guess hidden bases: how much less it expects the alternative. No label was seen."""
    before, app = time.process_time(), load_app("genome")
    changes = LANGUAGE | {"seed": seed}
    yeast = replace(app, data=lambda settings: _thinned(app.data(settings)), report=None)
    first = train(yeast, app.presets["language"].changed(**changes), runs / f"language-{seed}", is_quiet=True)
    rows = _expected("zero-shot, hidden bases of yeast", first, before)
    before = time.process_time()
    human = replace(app, data=lambda settings: _human(settings.data), report=None)
    more = changes | {"start": str(first.folder), "fit": changes["fit"] | {"epochs": HUMAN_EPOCHS}}
    then = train(human, app.presets["language"].changed(**more), runs / f"language-human-{seed}", is_quiet=True)
    return rows + _expected("zero-shot, hidden bases of yeast, then of these regions", then, before)


def _expected(what: str, done: Trained, before: float) -> list[Row]:
    model, settings = trained(str(done.folder), "cpu")
    rows = []
    for name, measured in regions().items():
        values = []
        for own in measured:
            region = InMemory({own.saturation.name: own.saturation.sequence})
            asked = Asked(model, region, context_of(settings.data), Names((), (), ()))
            variants = [replace(v, chrom=own.saturation.name) for v in own.saturation.variants]
            values.append(np.array([-(found["log_p_ratio"] or 0.0) for _, found in effects(variants, asked)]))
        bits = done.scores["test"]["bits_per_base"]
        rows.append(_row(name, what, measured, values, time.process_time() - before, bits=bits))
    return rows


def _thinned(data: Data) -> Data:
    """With fewer windows that validate and test."""
    return replace(data, valid=_some(data.valid), test=_some(data.test))


def _some(windows: Any) -> WindowDataset:
    assert isinstance(windows, WindowDataset)
    return WindowDataset(windows.sequences, thinned(windows.places, N_GUESSED), windows.reading, windows.facts)


def _human(settings: Any) -> Data:
    """The regions' own bases, without labels: stretches of BRCA1 validate and test, all else trains."""
    of = {own.saturation.name: own.saturation.sequence for measured in regions().values() for own in measured}
    length, sequences = settings.length, InMemory(of)
    places = side_by_side(sequences.lengths, list(of), length, length // 4)
    turn = [_turn(place, length) for place in places]
    drawn = Reading(length, hidden=settings.hidden, flips=True)
    still = Reading(length, hidden=settings.hidden)

    def made(which: str, reading: Reading) -> WindowDataset:
        return WindowDataset(sequences, [p for p, t in zip(places, turn, strict=True) if t == which], reading, Facts())

    return Data(made("train", drawn), made("valid", still), made("test", still), {"regions": ", ".join(of)})


def _turn(place: Place, length: int) -> str:
    """Of every 20 windows' lengths of BRCA1 one validates, one tests, and one on either side of each is left out."""
    if place.chrom != "brca1":
        return "train"
    turn = (place.start + length // 2) // length % 20
    return {1: "valid", 11: "test"}.get(turn, "none" if turn in (0, 2, 10, 12) else "train")


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
    names = ("seeds", "AUROC", "AUPRC", "AUROC within folds", "r of size")
    lines = ["| " + " | ".join(("set", "predictor", "records", "positive", *names)) + " |", "|---" * 9 + "|"]
    for key in sorted({(row["set"], row["what"]) for row in rows}, key=lambda key: _place(key, rows)):
        own = [row for row in rows if (row["set"], row["what"]) == key]
        scores = " | ".join(_mean(own, name) for name in ("auroc", "auprc", "within", "r"))
        first = f"| {key[0]} | {key[1]} | {own[0]['n']:,} | {own[0]['positive']:,} | {len(own)} | "
        lines.append(f"{first}{scores} |")
    return "\n".join(lines)


def _mean(rows: list[Row], name: str) -> str:
    return f"{statistics.mean(row[name] for row in rows):.3f}" if name in rows[0] else ""


def _place(key: tuple[str, str], rows: list[Row]) -> tuple[str, float]:
    return key[0], min(row["auroc"] for row in rows if (row["set"], row["what"]) == key)
