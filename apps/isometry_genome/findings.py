"""What the genome app adds to a run's report: the model beside rules, short contexts and other baselines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from isometry.app import Data, Findings

from isometry_genome.attention_distances import as_rows, attention_distances, distance_figure
from isometry_genome.baselines import (
    Markov,
    by_position,
    linear_regression,
    logistic_regression,
    skew,
    word_counts,
)
from isometry_genome.dataset import GrammarDataset, Place, Window, WindowDataset, collate
from isometry_genome.gene_calls import agreement, called_along, longest_frames
from isometry_genome.genes import genes_of
from isometry_genome.grammar import RULES, accuracy_of, drawn
from isometry_genome.objective import LossSettings, measure
from isometry_genome.predict import of_dataset, predictions
from isometry_genome.scores import class_scores, gene_scores
from isometry_genome.windows import Stretch, plan_of, stretches

Table = list[dict[str, Any]]

SKEWS = (1_000, 5_000, 10_000, 20_000, 50_000, 100_000)  # bases
ORDERS = (1, 3, 6, 10)
N_READ = 500
"""Windows, evenly spaced, by which languages are compared."""
LONGER = (1, 2, 4, 8)
"""Times the length of training windows."""
N_LONGER, MOST_BASES = 60, 1 << 24
"""Windows of each length, as long as they have so many bases together."""
N_WATCHED = 8
"""Windows, evenly spaced, whose attention is told."""


def findings(model: Any, settings: Any, data: Data) -> Findings:
    """Tables of a trained model; the test set is used only if there is one."""
    heads, source = settings.model.heads, settings.data.source
    makes: dict[str, Callable[[Any, Data], Table]] = {}
    if source in ("simulated", "strand", "promoters") and "classes" in heads:
        makes["Test set beside what is simpler"] = _BESIDE[source]
    if source == "simulated" and "classes" in heads and settings.model.pool != "positions":
        makes["Windows longer than those of training"] = in_longer_windows
    if source == "timing" and "profile" in heads:
        makes["Test set by chromosome"] = by_chromosome
    if source == "genes" and "segments" in heads:
        makes["Genes of the test genome, both ends exact"] = beside_reading_frames
    if "language" in heads and not settings.model.is_causal:
        makes["Bits per hidden base of the test set"] = beside_markov
    if data.test is None:
        return Findings()
    found = Findings({name: make(model, data) for name, make in makes.items()})
    if settings.model.trunk == "attention":
        n = min(N_WATCHED, len(data.test))
        distances = attention_distances(model, [data.test[i * len(data.test) // n].codes for i in range(n)])
        found.tables["How far attention looks"] = as_rows(distances)
        found.figures["How far attention looks"] = distance_figure(distances)
    return found


# Classes


def beside_rules(model: Any, data: Data) -> Table:
    """Accuracy of the model, and of every rule by computation."""
    logits, labels = _classes(model, data.test)
    rows: Table = [{"what": f"rule: {name}", "accuracy": accuracy_of(rule)} for name, rule in RULES.items()]
    return [*rows, {"what": "model", "accuracy": class_scores(logits, labels)["accuracy"]}]


def in_longer_windows(model: Any, data: Data) -> Table:
    """Accuracy where there is more around the same task: how well a network reads lengths it was not trained on."""
    windows, rows = data.test, []
    assert isinstance(windows, GrammarDataset)
    for length in (times * windows.length(0) for times in LONGER):
        if N_LONGER * length <= MOST_BASES:
            found = [drawn(np.random.default_rng([windows.seed, i]), windows.distance, length) for i in range(N_LONGER)]
            said = predictions(model, [torch.from_numpy(1 << own.bases) for own in found])
            active = [own.classes[1] > 0.5 for own in said if own.classes is not None]
            hits = np.array(active) == [own.case.is_active for own in found]
            rows.append({"bases": length, "windows": N_LONGER, "accuracy": float(hits.mean())})
    return rows


def beside_skew(model: Any, data: Data) -> Table:
    """Ranking by the GC skew of ever longer stretches about the centre."""
    logits, labels = _classes(model, data.test)
    windows = data.test
    assert isinstance(windows, WindowDataset)
    rows: Table = []
    for width in SKEWS:
        if width <= windows.reading.length:
            values = np.array([skew(windows[i].codes, width) for i in range(len(windows))])
            rows.append({"what": f"GC skew of {width:,} bases", **_ranking(values, labels)})
    return [*rows, {"what": "model", **_chosen(class_scores(logits, labels))}]


def beside_words(model: Any, data: Data) -> Table:
    """Logistic regression on counts of words of 1 to 4 bases."""
    logits, labels = _classes(model, data.test)
    train = data.train
    assert isinstance(train, WindowDataset)
    assert isinstance(data.test, WindowDataset)
    features, asked = (word_counts(part[i].codes for i in range(len(part))) for part in (train, data.test))
    values = logistic_regression(features, np.array([place.label for place in train.places]), asked)
    rows: Table = [{"what": "words of 1 to 4 bases, logistic regression", **_ranking(values, labels)}]
    return [*rows, {"what": "model", **_chosen(class_scores(logits, labels))}]


def _classes(model: Any, windows: Any) -> tuple[np.ndarray, np.ndarray]:
    """[n, n_classes] log-probabilities and [n] labels."""
    found = np.array([own.classes for own in of_dataset(model, windows)])
    return np.log(found.clip(1e-300)), np.array([int(windows[i].label) for i in range(len(windows))])


def _ranking(values: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    return _chosen(class_scores(np.stack([-values, values], 1), labels))


def _chosen(scores: dict[str, float]) -> dict[str, float]:
    return {name: scores[name] for name in ("auroc", "auprc", "mcc") if name in scores}


_BESIDE: dict[str, Callable[[Any, Data], Table]] = {
    "simulated": beside_rules,
    "strand": beside_skew,
    "promoters": beside_words,
}


# Profiles


def by_chromosome(model: Any, data: Data) -> Table:
    """Correlation along each held-out chromosome, of the model, of the model where whole chromosomes are predicted, and
    of its distances to centromere and ends."""
    said, truth = along(data.test, [own.profile for own in of_dataset(model, data.test)])
    _, learnt = along(data.train, None)
    at = {name: _features(data.train, name, places) for name, (places, _) in learnt.items()}
    x, y = (np.concatenate(parts) for parts in ([at[n] for n in at], [learnt[n][1] for n in at]))
    rows: Table = []
    for name, (places, values) in truth.items():
        position = linear_regression(x, y, _features(data.test, name, places))
        rows.append(
            {
                "chromosome": name,
                "bins": len(values),
                "r": float(np.corrcoef(said[name], values)[0, 1]),
                "r of the whole": float(np.corrcoef(of_whole(model, data.test, name, places), values)[0, 1]),
                "r of position": float(np.corrcoef(position, values)[0, 1]),
            }
        )
    means = {key: float(np.mean([row[key] for row in rows])) for key in rows[0] if key.startswith("r")}
    return [*rows, {"chromosome": "mean", "bins": sum(row["bins"] for row in rows), **means}]


def along(windows: Any, said: list[Any] | None) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """By chromosome: what is said of the first track where it is known, and places with their true values.

    Of cells smaller than the table's bins, those that hold the middle of one.
    """
    from isometry_data.genome_sets import yeast_timing

    width = yeast_timing().bin
    parts: dict[str, list[np.ndarray]] = {}
    for number, place in enumerate(windows.places):
        profile, size = windows[number].profile[:, 0].numpy(), windows.reading.resolution
        start = (place.start + place.end) // 2 - windows.reading.length // 2
        own = profile if said is None else said[number][:, 0]
        rows = np.stack([start + (np.arange(len(profile)) + 0.5) * size, profile, own])
        is_middle = (rows[0] - size / 2 + width / 2) // width < (rows[0] + size / 2 + width / 2) // width
        parts.setdefault(place.chrom, []).append(rows[:, ~np.isnan(profile) & (is_middle | (size >= width))])
    joined = {chrom: np.concatenate(own, 1) for chrom, own in parts.items()}
    return {c: own[2] for c, own in joined.items()}, {c: (own[0], own[1]) for c, own in joined.items()}


def of_whole(model: Any, windows: Any, chrom: str, places: np.ndarray) -> np.ndarray:
    """Of the first track at each place, as `predict` tells it of a chromosome."""
    parts = (part.profile for part in whole_sequence(model, windows, chrom))
    profile = np.concatenate([own[:, 0] for own in parts if own is not None])
    return profile[(places // model.settings.resolution).astype(int)]


def _features(windows: Any, chrom: str, places: np.ndarray) -> np.ndarray:
    return by_position(windows.sequences.lengths, centromeres(), chrom, places)


def centromeres() -> dict[str, float]:
    """Of yeast, the middle of each."""
    from isometry_data.genome_sets import yeast_features

    at = [feature.interval for feature in yeast_features() if feature.kind == "centromere"]
    return {interval.chrom: (interval.start + interval.end) / 2 for interval in at}


# Genes


def beside_reading_frames(model: Any, data: Data) -> Table:
    """Of the whole held-out genome, read by overlapping windows."""
    windows = data.test
    assert isinstance(windows, WindowDataset)
    assert windows.segments is not None
    (chrom,) = {place.chrom for place in windows.places}
    letters = windows.sequences.fetch(chrom, 0, windows.sequences.lengths[chrom]) & 0xDF  # upper case
    true = genes_of(windows.segments[chrom], letters)
    (own,) = called_along(whole_sequence(model, windows, chrom), windows.sequences)
    found = {
        "longest reading frames of 300 bases or more": longest_frames(letters, 300),
        # labels know none across the origin
        "model": {call.gene for call in own.calls if call.gene.end <= len(letters)},
    }
    return [
        {"what": what, "genes": len(genes), **gene_scores(*next(agreement(genes, true)))}
        for what, genes in found.items()
    ]


def whole_sequence(model: Any, windows: WindowDataset, chrom: str) -> Iterator[Stretch]:
    """What is said of a whole sequence."""
    plan = plan_of(windows.reading.length, model.settings)
    place = Place(chrom, 0, windows.sequences.lengths[chrom])
    return stretches(model, windows.sequences, [place], plan)


# Language


def beside_markov(model: Any, data: Data) -> Table:
    """Of the same hidden bases; a Markov model knows those before them alone."""
    assert data.test is not None
    train, test = ([part[i * len(part) // N_READ] for i in range(N_READ)] for part in (data.train, data.test))
    rows: Table = []
    for order in ORDERS:
        bits = Markov(order).learn(window.codes for window in train)
        asked = [window.hidden for window in test]
        rows.append({"what": f"Markov model of order {order}", "bits": bits.bits([w.codes for w in test], asked)})
    return [*rows, {"what": "model", "bits": language_bits(model, test)}]


def language_bits(model: Any, windows: list[Window]) -> float:
    """Mean bits of the hidden bases."""
    total, n = 0.0, 0.0
    for window in windows:
        with torch.no_grad():
            row = measure(model, collate([window]), LossSettings())["language"][0].tolist()
        total, n = total + row[0], n + row[1]
    return total / n
