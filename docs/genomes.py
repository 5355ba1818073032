"""What the genome app reaches on measured genomes, beside simpler predictors of the same split.

    python docs/genomes.py replichore --write               # E. coli: leading or lagging strand, by context
    python docs/genomes.py promoters --seeds 0 1 2 --write  # five folds of E. coli sigma-70 and mouse TATA
    python docs/genomes.py timing --write                   # yeast, four folds of chromosomes, by context
    python docs/genomes.py together --seeds 0 1 2 --write   # the networks of 256 kb of all seeds (after the line above)
    python docs/genomes.py shown --write                    # the network of 256 kb and of seed 0, shown less
    python docs/genomes.py reread --write                   # its elements, read by ridge regression
    python docs/genomes.py ladder --write                   # the same without a network: words, distances, origins
    python docs/genomes.py genes --seeds 0 1 --write        # E. coli: genes with exact ends, beside Prodigal
    python docs/genomes.py variants --write                 # BRCA1, CAGI5, enhancers and genes; --nets: networks, too

Needs ISOMETRY_DATA. Each result is kept in docs/genomes.json as soon as it is there; a command goes on where it
stopped. Without --write the table is only printed. CPU seconds are those of one thread, with scores and report.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from genome_genes import gene_page, genes
from genome_promoters import SETS, by_set, promoters, promoters_page
from genome_rows import Row, groups, mean, of_values, spread, trained
from genome_timing import ladder, reread
from genome_variants import VARIANTS, variant_page
from isometry.app import load_app
from isometry.durable import write_whole
from isometry.loaded import load
from isometry_genome.baselines import skew
from isometry_genome.dataset import WindowDataset, collate
from isometry_genome.findings import along, by_chromosome, of_whole
from isometry_genome.letters import reverse_complement
from isometry_genome.model import GenomeModel
from isometry_genome.objective import probabilities
from page import fill
from torch import Tensor

PAGE, RESULTS = Path(__file__).with_suffix(".md"), Path(__file__).with_suffix(".json")

CONTEXTS: dict[int, Row] = {
    1_000: {"n_train": None, "epochs": 8, "batch_size": 64},
    5_000: {"n_train": None, "epochs": 4, "batch_size": 32},
    20_000: {"n_train": 1_200, "epochs": 2, "batch_size": 16},
    100_000: {"n_train": 480, "epochs": 1, "batch_size": 8},
}
"""Of the strand task: about 20 to 50 million bases are read in training, whatever the context."""
TIMING_CONTEXTS = (1_024, 8_192, 32_768, 131_072, 262_144)
N_TURNED = 32
"""Test windows, evenly spaced, of which both strands are read."""


# Strands of E. coli


def replichore(context: int, fold: int, seed: int, runs: Path) -> list[Row]:
    own = dict(CONTEXTS[context])
    fit = {"epochs": own["epochs"], "batch_size": own["batch_size"], "evaluate_every": own["epochs"]}
    changes = {"data": {"fold": fold, "length": context, "n_train": own["n_train"]}, "fit": fit}
    model, data, scores, seconds = trained("replichore", f"strand-{context}-{fold}-{seed}", seed, runs, changes)
    windows = data.test
    assert isinstance(windows, WindowDataset)
    read = [windows[i] for i in range(len(windows))]
    labels = np.array([int(window.label) for window in read])
    skews = of_values(np.array([skew(window.codes, context) for window in read]), labels)
    (held,) = {place.chrom for place in windows.places}
    codes = collate(read[:: max(len(read) // N_TURNED, 1)]).codes
    row = {"held_out": held, "n_test": len(read), "skew": skews["auroc"], "cpu_s": seconds}
    return [row | {"auroc": scores["auroc"], "accuracy": scores["accuracy"], "strands": strands_apart(model, codes)}]


def strands_apart(model: GenomeModel, codes: Tensor) -> float:
    """The largest difference between logits of one strand and swapped logits of the other, over their size."""
    with torch.no_grad():
        said = model(probabilities(codes, model))["classes"]
        other = model(probabilities(reverse_complement(codes), model))["classes"].flip(-1)
    return float((said - other).abs().max() / said.square().mean().sqrt())


def replichore_page(rows: list[Row]) -> str:
    lines = [
        "| context (kb) | strains held out | seeds | AUROC | accuracy | AUROC of GC skew | strands apart | CPU s |"
    ]
    lines.append("|---" * 8 + "|")
    for context, own in groups(rows, "context"):
        lines.append(
            f"| {context / 1000:g} | {len({r['fold'] for r in own})} | {len({r['seed'] for r in own})} | "
            f"{spread(own, 'auroc', 4)} | {spread(own, 'accuracy')} | {spread(own, 'skew', 4)} | "
            f"{max(r['strands'] for r in own):.0e} | {mean(own, 'cpu_s'):.0f} |"
        )
    return "\n".join(lines)


# Genes of E. coli


def gene_rows(fold: int, seed: int, runs: Path) -> list[Row]:
    model, data, _, _ = trained("genes", f"genes-{fold}-{seed}", seed, runs, {"data": {"fold": fold}})
    return genes(model, data, with_others=seed == 0)  # nothing in the others is drawn


# Timing of yeast


def timing(context: int, fold: int, seed: int, runs: Path) -> list[Row]:
    changes = {"data": {"length": context, "fold": fold}, "fit": {"batch_size": min(262_144 // context, 64)}}
    model, data, scores, seconds = trained("timing", f"timing-{context}-{fold}-{seed}", seed, runs, changes)
    average = by_chromosome(model, data)[-1]
    # Pooled are cells of 128 bases, whose timing is that of the table's bin.
    said = {"r": average["r"], "r_whole": average["r of the whole"], "r_pooled": scores["pearson_pooled"]}
    return [said | {"position": average["r of position"], "cpu_s": seconds}]


def timing_page(rows: list[Row]) -> str:
    whats = [
        "context (kb)",
        "folds",
        "seeds",
        "r of windows",
        "r of whole chromosomes",
        "pooled",
        "r of position",
        "CPU s",
    ]
    lines = [f"| {' | '.join(whats)} |", "|---" * len(whats) + "|"]
    for context, own in groups(rows, "context"):
        lines.append(
            f"| {context / 1024:g} | {len({r['fold'] for r in own})} | {len({r['seed'] for r in own})} | "
            f"{spread(own, 'r')} | {spread(own, 'r_whole')} | {spread(own, 'r_pooled')} | "
            f"{spread(own, 'position')} | {mean(own, 'cpu_s'):.0f} |"
        )
    return "\n".join(lines)


def timing_together(fold: int, seeds: str, runs: Path) -> list[Row]:
    """Of whole chromosomes the mean of what the networks of all seeds say."""
    app = load_app("genome")
    loaded = [load(app, runs / f"timing-{max(TIMING_CONTEXTS)}-{fold}-{seed}") for seed in seeds.split()]
    windows = app.data(loaded[0].settings).test
    found = []
    for chrom, (places, truth) in along(windows, None)[1].items():
        said = np.mean([of_whole(own.model.eval(), windows, chrom, places) for own in loaded], 0)
        found.append(float(np.corrcoef(said, truth)[0, 1]))
    return [{"r_whole": statistics.mean(found)}]


def together_page(rows: list[Row]) -> str:
    lines = ["| seeds together | folds | r of whole chromosomes |", "|---" * 3 + "|"]
    return "\n".join(
        [*lines, *(f"| {s} | {len(own)} | {spread(own, 'r_whole')} |" for s, own in groups(rows, "seeds"))]
    )


def shown(context: int, fold: int, seed: int, runs: Path) -> list[Row]:
    """The network of the longest context, where windows are shorter: it was not trained for them."""
    longest = max(TIMING_CONTEXTS)
    app = load_app("genome")
    loaded = load(app, runs / f"timing-{longest}-{fold}-{seed}")
    average = by_chromosome(loaded.model.eval(), app.data(loaded.settings.changed(data={"length": context})))[-1]
    return [{"r": average["r"]}]


def read_again(fold: int, seed: int, runs: Path) -> list[Row]:
    app = load_app("genome")
    loaded = load(app, runs / f"timing-{max(TIMING_CONTEXTS)}-{fold}-{seed}")
    return [
        {
            "what": "elements of this network, by ridge regression",
            **reread(loaded.model.eval(), app.data(loaded.settings)),
        }
    ]


def shown_page(rows: list[Row]) -> str:
    lines = ["| shown (kb) | folds | r, mean of chromosomes |", "|---" * 3 + "|"]
    for context, own in groups(rows, "context"):
        lines.append(f"| {context / 1024:g} | {len(own)} | {spread(own, 'r')} |")
    return "\n".join(lines)


def ladder_page(rows: list[Row]) -> str:
    lines = ["| predictor | folds | r, mean of chromosomes | r, pooled |", "|---" * 4 + "|"]
    for what, own in groups(rows, "what"):
        lines.append(f"| {what} | {len(own)} | {spread(own, 'r')} | {spread(own, 'r_pooled')} |")
    return "\n".join(lines)


# The results and the page


class Table(NamedTuple):
    """`keys` of all results, how the rows of one are measured, and what the page says of all rows."""

    keys: Callable[[argparse.Namespace], Iterable[Row]]
    measure: Callable[..., list[Row]]
    page: Callable[[list[Row]], str]


def _by_context(contexts: Iterable[int], n_folds: int) -> Callable[[argparse.Namespace], list[Row]]:
    def keys(asked: argparse.Namespace) -> list[Row]:
        folds = range(n_folds) if asked.folds is None else asked.folds
        chosen = [c for c in contexts if asked.contexts is None or c in asked.contexts]
        return [{"context": c, "fold": f, "seed": s} for s in asked.seeds for f in folds for c in chosen]

    return keys


TABLES = {
    "replichore": Table(_by_context(CONTEXTS, 3), lambda key, runs: replichore(**key, runs=runs), replichore_page),
    "promoters": Table(by_set, lambda key, runs: promoters(key, runs, kept()["promoters"]), promoters_page),
    "genes": Table(
        lambda asked: [{"fold": f, "seed": s} for s in asked.seeds for f in (asked.folds or range(3))],
        lambda key, runs: gene_rows(**key, runs=runs),
        gene_page,
    ),
    "shown": Table(_by_context(TIMING_CONTEXTS, 1), lambda key, runs: shown(**key, runs=runs), shown_page),
    "reread": Table(
        lambda asked: [{"fold": f, "seed": s} for s in asked.seeds for f in (asked.folds or range(4))],
        lambda key, runs: read_again(**key, runs=runs),
        ladder_page,
    ),
    "ladder": Table(
        lambda asked: [{"fold": f} for f in (range(4) if asked.folds is None else asked.folds)],
        lambda key, runs: ladder(**key),
        ladder_page,
    ),
    "timing": Table(_by_context(TIMING_CONTEXTS, 4), lambda key, runs: timing(**key, runs=runs), timing_page),
    "together": Table(
        lambda asked: [
            {"fold": f, "seeds": " ".join(map(str, asked.seeds))}
            for f in (range(4) if asked.folds is None else asked.folds)
        ],
        lambda key, runs: timing_together(**key, runs=runs),
        together_page,
    ),
    "variants": Table(
        lambda asked: [
            {"task": task, "seed": s}
            for s in asked.seeds
            for task in VARIANTS
            if asked.nets or not VARIANTS[task].is_net
        ],
        lambda key, runs: VARIANTS[key["task"]].measure(key["seed"], runs),
        variant_page,
    ),
}


def kept() -> dict[str, list[Row]]:
    found = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    return {name: [] for name in TABLES} | found  # also tables of which this process knows nothing


def measure(name: str, asked: argparse.Namespace) -> None:
    for key in TABLES[name].keys(asked):
        if not any(key.items() <= row.items() for row in kept()[name]):
            found = [key | row for row in TABLES[name].measure(key, asked.runs)]
            results = kept()
            results[name] += found
            write_whole(RESULTS, (json.dumps(results, indent=1) + "\n").encode())
            print(*found, sep="\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=list(TABLES))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--folds", type=int, nargs="*", default=None, help="all, unless named")
    parser.add_argument("--contexts", type=int, nargs="*", default=None, help="bases; all, unless named")
    parser.add_argument("--sets", nargs="*", choices=SETS, default=SETS)
    parser.add_argument("--nets", action="store_true", help="variants: train networks, too")
    parser.add_argument("--runs", type=Path, default=Path("runs/genomes"))
    parser.add_argument("--write", action="store_true", help="into docs/genomes.md")
    parser.add_argument("--draw", action="store_true", help="measure nothing")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if not asked.draw:
        measure(asked.table, asked)
    text = TABLES[asked.table].page(kept()[asked.table])
    print(text)
    if asked.write:
        fill(PAGE, text, asked.table)


if __name__ == "__main__":
    main()
