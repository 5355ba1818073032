"""Promoters in five folds: the genome app beside a two-layer CNN, and linear models of words and letters."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from genome_cnn import Labelled, two_layer_cnn
from genome_rows import Row, groups, mean, of_values, spread, trained_as
from isometry.app import load_app
from isometry_genome.baselines import base_numbers, logistic_regression, word_counts
from isometry_genome.dataset import collate
from isometry_genome.objective import probabilities
from torch import Tensor

SETS = ("ecoli_s70", "mouse_tata")
PROMOTER_SCORES = ("auroc", "mcc", "sensitivity", "specificity")
PUBLISHED = {"ecoli_s70": (0.90, 0.96)}
"""Sensitivity and specificity, Umarov & Solovyev 2017, on splits of their own."""


def promoters(key: Row, runs: Path, measured: list[Row]) -> list[Row]:
    """The predictor `what` on the test part of a fold; its networks that are trained already are not trained again."""
    name, fold, seed, what = key["set"], key["fold"], key["seed"], key["what"]
    if what in (OURS, TOGETHER):
        seeds = [seed] if what == OURS else [int(s) for s in seed.split()]
        return [_ours(name, fold, seeds, runs, measured)]
    data = load_app("genome").data(_promoter_settings(name, fold, 0))
    train_, valid, (asked, truth) = (_read(part) for part in (data.train, data.valid, data.test))
    before = time.process_time()
    values = OTHERS[what](train_, valid, asked, seed)
    return [{**of_values(values, truth), "cpu_s": time.process_time() - before}]


def _ours(name: str, fold: int, seeds: list[int], runs: Path, measured: list[Row]) -> Row:
    """Of several networks the mean of their log-odds."""
    values, seconds = [], 0.0
    for seed in seeds:
        settings = _promoter_settings(name, fold, seed)
        model, data, _, spent = trained_as(settings, f"{name}-{fold}-{seed}", runs)
        asked, truth = _read(data.test)
        with torch.no_grad():
            logits = model(probabilities(asked, model))["classes"].double().numpy()
        values.append(logits[:, 1] - logits[:, 0])
        seconds += spent
    if len(seeds) > 1:  # they were trained before
        trained = {"set": name, "fold": fold, "what": OURS}
        seconds += sum(r["cpu_s"] for r in measured if trained.items() <= r.items() and r["seed"] in seeds)
    return {**of_values(np.mean(values, 0), truth), "cpu_s": seconds}


def _promoter_settings(name: str, fold: int, seed: int) -> Any:
    return load_app("genome").presets["promoters"].changed(seed=seed, data={"promoters": name, "fold": fold})


def _read(windows: Any) -> tuple[Tensor, np.ndarray]:
    batch = collate([windows[i] for i in range(len(windows))])
    return batch.codes, batch.label.numpy()


def _letters(codes: Tensor) -> np.ndarray:
    """[n, 4 · length] 1 where a base is that letter."""
    return np.stack([(base_numbers(own)[:, None] == np.arange(4)).ravel() for own in codes]).astype(np.float64)


def _cnn(train_: Labelled, valid: Labelled, asked: Tensor, seed: int) -> np.ndarray:
    return two_layer_cnn(train_, valid, asked, seed)


def _words(train_: Labelled, _valid: Labelled, asked: Tensor, _seed: int) -> np.ndarray:
    return logistic_regression(word_counts(train_[0]), train_[1], word_counts(asked))


def _by_letters(train_: Labelled, _valid: Labelled, asked: Tensor, _seed: int) -> np.ndarray:
    return logistic_regression(_letters(train_[0]), train_[1], _letters(asked))


OURS, TOGETHER = "this app", "this app, networks of all seeds together"
CNN = "two-layer CNN"
OTHERS: dict[str, Callable[[Labelled, Labelled, Tensor, int], np.ndarray]] = {
    CNN: _cnn,
    "words of 1 to 4 bases": _words,
    "letters by position": _by_letters,
}


def promoters_page(rows: list[Row]) -> str:
    lines = ["| set | predictor | folds × seeds | AUROC | MCC | sensitivity | specificity | CPU s |", "|---" * 8 + "|"]
    for name, of_set in groups(rows, "set"):
        order = [OURS, TOGETHER, *OTHERS]
        for what, own in sorted(groups(of_set, "what"), key=lambda group: order.index(group[0])):
            scores = " | ".join(spread(own, key, 4 if key == "auroc" else 3) for key in PROMOTER_SCORES)
            n = f"{len({r['fold'] for r in own})} × {len({r['seed'] for r in own})}"
            lines.append(f"| {name} | {what} | {n} | {scores} | {mean(own, 'cpu_s'):.1f} |")
        if name in PUBLISHED:
            lines.append("| {} | published | own split | | | {:.2f} | {:.2f} | |".format(name, *PUBLISHED[name]))
    return "\n".join(lines)


def by_set(asked: argparse.Namespace) -> list[Row]:
    """Networks by seed, what draws nothing once, and last all networks of a fold together."""
    folds = range(5) if asked.folds is None else asked.folds
    keys: list[Row] = []
    for name in asked.sets:
        whats = [OURS, *OTHERS]
        drawn = [(s, what) for s in asked.seeds for what in whats if s == asked.seeds[0] or what in (OURS, CNN)]
        keys += [{"set": name, "fold": f, "seed": s, "what": what} for s, what in drawn for f in folds]
        if len(asked.seeds) > 1:
            seeds = " ".join(map(str, asked.seeds))
            keys += [{"set": name, "fold": f, "seed": seeds, "what": TOGETHER} for f in folds]
    return keys
