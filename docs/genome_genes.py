"""Genes of E. coli, base by base and with exact ends: this app, long reading frames, and Prodigal.

What a gene finder has to choose is chosen on the two genomes that train: for this app the rule that turns
probabilities into genes, by the genes of the stretches that validate; for long reading frames their least length and
the start codons. Prodigal (Hyatt et al. 2010, BMC Bioinformatics 11, 119; `pip install pyrodigal`) learns from the test
genome itself, without labels.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from isometry.app import Data
from isometry_data.genome_sets import ecoli_genes
from isometry_genome.dataset import Place, WindowDataset
from isometry_genome.findings import whole_sequence
from isometry_genome.gene_calls import Rule, agreement, called, evidence_of, longest_frames
from isometry_genome.genes import CODING, STARTS, Gene, true_genes
from isometry_genome.model import GenomeModel
from isometry_genome.public import VALID_STRETCHES
from isometry_genome.scores import base_scores, gene_scores
from isometry_genome.windows import plan_of, stretches

Row = dict[str, Any]

LEAST_LENGTHS = tuple(range(90, 601, 30))
GRID: dict[str, tuple[float, ...]] = {
    "start": (16, 32, 64, 128, 192, 256, 384, 512, 768, 1024),
    "base": (-3, -2, -1.5, -1, -0.5, 0, 0.5),
    "least": (-200, 0, 100, 200, 300, 400, 500, 600, 700, 800, 1000, 1200, 1400),
}


class Known(NamedTuple):
    """A stretch, its upper-case letters, and the genes that lie wholly within."""

    letters: np.ndarray
    genes: set[Gene]


def genes(model: GenomeModel, data: Data, *, with_others: bool) -> list[Row]:
    """A row for each predictor of the test genome: this app, and the others."""
    train, test = data.train, data.test
    assert isinstance(train, WindowDataset)
    assert isinstance(test, WindowDataset)
    (held,) = {place.chrom for place in test.places}
    learnt = sorted({place.chrom for place in train.places})
    known, n_left_out = of_genome(test, held)
    assert test.segments is not None
    labels = test.segments[held]

    def row(what: str, found: set[Gene], before: float) -> Row:
        of_genes = scores(found, known.genes) | of_bases(labels, painted(found, len(labels)))
        told = {"what": what, "held_out": held, "left_out": n_left_out, "cpu_s": time.process_time() - before}
        return told | of_genes

    rows = []
    if with_others:
        least, codons = chosen_lengths([of_genome(train, name)[0] for name in learnt])
        before = time.process_time()
        found = longest_frames(known.letters, least, codons)
        note = {"least": least, "starts": [codon.decode() for codon in codons]}
        rows.append(row("long reading frames", found, before) | note)
        before = time.process_time()
        if (found := prodigal(known.letters)) is not None:
            rows.append(row("Prodigal", found, before))
    rule = chosen_rule(list(valid_stretches(model, train, learnt)))
    before = time.process_time()
    said = [(strands(part.segments), evidence_of(part.segments)) for part in whole_sequence(model, test, held)]
    verdicts, evidence = (np.concatenate(parts) for parts in zip(*said, strict=True))
    found = {call.gene for call in called(evidence, known.letters, rule)}
    by_base = {"what": "this app, each base by itself", "held_out": held, **of_bases(labels, verdicts)}
    return [*rows, row("this app", found, before) | {"rule": rule._asdict()}, by_base]


# What is known


def of_genome(windows: WindowDataset, name: str) -> tuple[Known, int]:
    """A whole genome, and how many annotated genes are no reading frames."""
    letters = windows.sequences.fetch(name, 0, windows.sequences.lengths[name]) & 0xDF
    found, n_left_out = true_genes(ecoli_genes(), name, letters)
    return Known(letters, found), n_left_out


def valid_stretches(model: GenomeModel, windows: WindowDataset, names: list[str]) -> Iterator[tuple[np.ndarray, Known]]:
    """Evidence of the stretches that validate, and what is known of them."""
    plan = plan_of(windows.reading.length, model.settings)
    for name in names:
        whole, _ = of_genome(windows, name)
        for first, last in VALID_STRETCHES:
            start, end = int(first * len(whole.letters)), int(last * len(whole.letters))
            own = {g._replace(start=g.start - start, end=g.end - start) for g in whole.genes
                   if start <= g.start and g.end <= end}  # fmt: skip
            parts = stretches(model, windows.sequences, [Place(name, start, end)], plan)
            evidence = np.concatenate([evidence_of(part.segments) for part in parts if part.segments is not None])
            yield evidence, Known(whole.letters[start:end], own)


# What is chosen


def chosen_lengths(genomes: list[Known]) -> tuple[int, tuple[bytes, ...]]:
    """Least length and start codons with the most genes exact."""
    choices = [(least, codons) for codons in (STARTS, STARTS[:1]) for least in LEAST_LENGTHS]
    return max(choices, key=lambda choice: _f1((longest_frames(own.letters, *choice), own.genes) for own in genomes))


def chosen_rule(known: list[tuple[np.ndarray, Known]]) -> Rule:
    """With the most genes exact, one number after the other, twice."""
    rule = Rule()
    for _ in range(2):
        for name, values in GRID.items():
            rules = [rule._replace(**{name: value}) for value in values]
            rule = max(rules, key=lambda rule: _f1((calls(*own, rule), own[1].genes) for own in known))
    return rule


def calls(evidence: np.ndarray, known: Known, rule: Rule) -> set[Gene]:
    return {call.gene for call in called(evidence, known.letters, rule)}


def _f1(pairs: Iterator[tuple[set[Gene], set[Gene]]]) -> float:
    hits, n_true, n_found = np.sum([next(agreement(found, true)) for found, true in pairs], axis=0)
    return 2 * hits / (n_true + n_found)


# Peers and scores


def prodigal(letters: np.ndarray) -> set[Gene] | None:
    """Of a genome of one sequence, whole genes alone; None where it is not installed."""
    try:
        import pyrodigal
    except ImportError:
        print("pyrodigal is not installed: no row of Prodigal (pip install pyrodigal)")
        return None
    text, finder = letters.tobytes(), pyrodigal.GeneFinder(closed=True)
    finder.train(text)
    return {Gene(gene.begin - 1, gene.end, gene.strand < 0) for gene in finder.find_genes(text)}


def strands(probabilities: Any) -> np.ndarray:
    """[length] nothing, plus or minus strand, whichever is most probable."""
    merged = probabilities @ np.eye(3)[list(CODING)]
    return merged.argmax(1).astype(np.int8)


def painted(found: set[Gene], n: int) -> np.ndarray:
    """[n] nothing, plus or minus strand."""
    verdicts = np.zeros(n, dtype=np.int8)
    for gene in found:
        verdicts[gene.start : gene.end] = 2 if gene.is_minus else 1
    return verdicts


def of_bases(labels: np.ndarray, verdicts: np.ndarray) -> Row:
    """Accuracy, F1 of coding bases with their strand, and MCC, of three classes; unknown bases do not count."""
    truth, said = np.array(CODING)[labels[labels >= 0]], verdicts[labels >= 0]
    confusion = np.bincount(3 * truth + said, minlength=9).reshape(3, 3).astype(float)
    return {**base_scores(confusion), "base_mcc": correlation(confusion), "bases": int(confusion.sum())}


def correlation(confusion: np.ndarray) -> float:
    """Of truth and verdict (Gorodkin 2004, eq. 8)."""
    n, true, said = confusion.sum(), confusion.sum(1), confusion.sum(0)
    spread = (n**2 - said @ said) * (n**2 - true @ true)
    return float((n * np.trace(confusion) - said @ true) / np.sqrt(spread))


def scores(found: set[Gene], true: set[Gene]) -> Row:
    exact, stops = agreement(found, true)
    return {
        "genes": exact[1],
        "found": exact[2],
        **gene_scores(*exact),
        **{f"stop_{key}": value for key, value in gene_scores(*stops).items()},
    }


COLUMNS = (
    *("base_accuracy", "base_mcc", "base_f1"),
    *("gene_precision", "gene_recall", "gene_f1"),
    *("stop_gene_precision", "stop_gene_recall", "stop_gene_f1"),
)
HEAD = (
    *("held out", "predictor", "seeds", "genes found", "bases: accuracy", "MCC", "F1"),
    *("both ends: precision", "recall", "F1", "stop: precision", "recall", "F1", "CPU s"),
)


def gene_page(rows: list[Row]) -> str:
    lines = ["| " + " | ".join(HEAD) + " |", "|---" * len(HEAD) + "|"]
    for held in dict.fromkeys(row["held_out"] for row in rows):
        of_genome = [row for row in rows if row["held_out"] == held]
        for what in dict.fromkeys(row["what"] for row in of_genome):
            own = [row for row in of_genome if row["what"] == what]
            n = f"{_mean(own, 'found'):,.0f} of {own[0]['genes']:,}" if "found" in own[0] else ""
            values = [f"{_mean(own, key):.3f}" if key in own[0] else "" for key in COLUMNS]
            seconds = f"{_mean(own, 'cpu_s'):.0f}" if "cpu_s" in own[0] else ""
            seeds = str(len(own)) if what.startswith("this app") else ""
            lines.append("| " + " | ".join([held, what, seeds, n, *values, seconds]) + " |")
    return "\n".join(lines)


def _mean(rows: list[Row], key: str) -> float:
    return statistics.mean(row[key] for row in rows)
