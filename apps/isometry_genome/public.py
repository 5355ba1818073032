"""The public sets as windows: promoters, leading strands and genes of E. coli, replication timing of yeast."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from isometry_genome import genes
from isometry_genome.asked import Found, SourceSettings, Split, Wanted, reading, thinned
from isometry_genome.dataset import Facts, Place, Strands, WindowDataset
from isometry_genome.folds import chromosome_folds, thirds
from isometry_genome.memory import InMemory
from isometry_genome.signals import Beside, Steps, covered

LENGTHS = {"strand": 131_072, "timing": 262_144, "genes": 8_160}
"""Bases of a window where none is asked for."""
TARGET = "sort_W303_S"
"""The timing that is learnt: copy number of sorted cells in S phase against G2 (Müller et al. 2014)."""
HELPING = ("sort_Dbf4myc_S", "sync_25min", "sync_30min", "sync_35min", "sync_40min")
"""Beside it: another strain, and cells some minutes after their release."""
ANNOTATION = ("origin_of_replication", "gene+", "gene-", "tRNA", "centromere", "telomere", "long_terminal_repeat")
VALID_STRETCHES = ((0.20, 0.25), (0.55, 0.60))
"""Shares of each training genome that validate: one on either side of the origin in K-12."""
STEP = 4_096  # bases between training windows of a strand, at least


def promoters(settings: SourceSettings, wanted: Wanted, _seed: int) -> Found:
    """Sequences in five stratified folds, `folds.fold_of`."""
    from isometry_data.genome_sets import promoters as read

    found = read(settings.promoters)
    parts = thirds(found.sequences, found.labels, settings.fold)
    length = settings.length or max(len(sequence) for sequence in found.sequences)
    sequences = InMemory({f"{found.name}_{i}": sequence for i, sequence in enumerate(found.sequences)})
    own = reading(settings, wanted, length, flips=bool(settings.flips), shift=settings.shift)
    facts = Facts(("no promoter", "promoter"))

    def made(numbers: np.ndarray) -> WindowDataset:
        names = [f"{found.name}_{i}" for i in numbers]
        labelled = zip(names, numbers.tolist(), strict=True)
        places = [Place(name, 0, len(found.sequences[i]), int(found.labels[i]), name=name) for name, i in labelled]
        return WindowDataset(sequences, places, own, facts)

    train = thinned(parts["train"].tolist(), settings.n_train)
    split = Split(made(np.array(train)), made(parts["valid"]), made(parts["test"]))
    note = f"{found.n_duplicates} duplicates left out; fold {settings.fold} of 5 tests"
    return Found(split, _files("promoters"), (note,))


def strand(settings: SourceSettings, wanted: Wanted, _seed: int) -> Found:
    """Is the strand that is read the leading one at the window's centre? One genome tests, on both strands."""
    from isometry_data.genome_sets import ecoli_genomes
    from isometry_data.replichores import replichores

    genome, length = ecoli_genomes(), settings.length or LENGTHS["strand"]
    held = _held_out(genome.names, settings.fold)
    halves = replichores(genome)
    facts = Facts(("lagging", "leading"), strands=Strands(classes=(1, 0)))

    def places(name: str, centres: Iterable[int], both: bool) -> list[Place]:
        found = []
        for centre in centres:
            label = int(halves[name].plus_is_leading(centre))
            at = (name, centre - length // 2, centre - length // 2 + length)
            found.append(Place(*at, label))
            if both:
                found.append(Place(*at, 1 - label, is_minus=True))
        return found

    train: list[Place] = []
    valid: list[Place] = []
    for name in genome.names:
        n = genome.lengths[name]
        if name != held:
            train += places(name, _outside(n, length, STEP), both=False)
            valid += places(name, _inside(n, 25), both=True)
    test = places(held, range(0, genome.lengths[held], 10_000), both=True)
    flips = settings.flips if settings.flips is not None else True
    own = reading(settings, wanted, length, flips=flips, shift=STEP // 2)
    sets = (WindowDataset(genome, part, own, facts) for part in (thinned(train, settings.n_train), valid, test))
    return Found(Split(*sets), (genome.file,), (f"{held} tests",))


def timing(settings: SourceSettings, wanted: Wanted, _seed: int) -> Found:
    """Replication timing, four folds of whole chromosomes; the two shortest of the next fold validate."""
    from isometry_data.genome_sets import yeast_features, yeast_genome, yeast_timing

    genome, table, length = yeast_genome(), yeast_timing(), settings.length or LENGTHS["timing"]
    names = (TARGET, *HELPING) if settings.with_annotation else (TARGET,)
    columns = [table.columns.index(name) for name in names]
    signal: Steps | Beside = Steps(names, {c: v[:, columns] for c, v in table.values.items()}, table.bin)
    tracks = tuple(range(len(names)))
    if settings.with_annotation:
        signal = Beside(signal, covered(yeast_features(), ANNOTATION, genome.lengths))
        tracks = (*tracks, *(len(names) + ANNOTATION.index(_other(kind)) for kind in ANNOTATION))
    parts = timing_split(genome.lengths, settings.fold)
    facts = Facts(tracks=signal.names, n_targets=1, n_shares=len(tracks) - len(names), strands=Strands(tracks=tracks))
    flips = settings.flips if settings.flips is not None else True
    step = max(length // 2, 2_048)
    train = reading(settings, wanted, length, flips=flips, shift=step // 2)
    held = reading(settings, wanted, length, core=max(length // 2, wanted.resolution))
    assert held.core is not None
    asks = signal if "profile" in wanted.heads else None
    first = thinned(side_by_side(genome.lengths, parts["train"], length, step), settings.n_train)
    others = (side_by_side(genome.lengths, parts[part], length, held.core) for part in ("valid", "test"))
    sets = (
        WindowDataset(genome, first, train, facts, asks),
        *(WindowDataset(genome, places, held, facts, asks) for places in others),
    )
    notes = tuple(f"{name}: {', '.join(own)}" for name, own in parts.items())
    return Found(Split(*sets), (genome.file, *_files("timing")), notes)


def timing_split(lengths: dict[str, int], fold: int) -> dict[str, list[str]]:
    """Chromosomes of training, validation and test."""
    folds = chromosome_folds(lengths)
    if not 0 <= fold < len(folds):
        raise ValueError(f"data.fold is {fold}; expected 0 to {len(folds) - 1}")
    valid = sorted(folds[(fold + 1) % len(folds)], key=lambda name: lengths[name])[:2]
    train = [name for name in lengths if name not in (*folds[fold], *valid)]
    return {"train": train, "valid": valid, "test": list(folds[fold])}


def gene_structure(settings: SourceSettings, wanted: Wanted, _seed: int) -> Found:
    """The class of each base; two genomes train, the third tests."""
    from isometry_data.genome_sets import ecoli_genes, ecoli_genomes

    genome, length = ecoli_genomes(), settings.length or LENGTHS["genes"]
    held = _held_out(genome.names, settings.fold)
    classes = genes.labels(ecoli_genes(), genome.lengths) if "segments" in wanted.heads else None
    facts = Facts(segments=genes.CLASSES, strands=Strands(segments=genes.SWAPS[genes.CLASSES]))

    def places(name: str, centres: Iterable[int]) -> list[Place]:
        return [Place(name, centre - length // 2, centre - length // 2 + length) for centre in centres]

    train: list[Place] = []
    valid: list[Place] = []
    for name in genome.names:
        n = genome.lengths[name]
        if name != held:
            train += places(name, _outside(n, length, length))
            valid += places(name, _inside(n, 12))
    test = places(held, range(length // 2, genome.lengths[held], length))
    flips = settings.flips if settings.flips is not None else True
    own = reading(settings, wanted, length, flips=flips, shift=length // 2)
    sets = (
        WindowDataset(genome, part, own, facts, None, classes)
        for part in (thinned(train, settings.n_train), valid, test)
    )
    return Found(Split(*sets), (genome.file,), (f"{held} tests",))


# Where windows lie


def side_by_side(lengths: dict[str, int], names: Sequence[str], length: int, step: int) -> list[Place]:
    """Windows every `step` bases, so that their middle `step` bases cover each sequence once, its ends included."""
    edge = (length - step) // 2
    return [
        Place(name, start - edge, start - edge + length) for name in names for start in range(0, lengths[name], step)
    ]


def _inside(n: int, count: int) -> list[int]:
    """Centres within the stretches that validate."""
    return [int(c) for a, b in VALID_STRETCHES for c in np.linspace(a * n, b * n, count)]


def _outside(n: int, length: int, step: int) -> list[int]:
    """Centres of windows that share no base with those that validate, wherever training shifts them."""
    room = 1.5 * length + step
    apart = [(a * n - room, b * n + room) for a, b in VALID_STRETCHES]
    return [c for c in range(0, n, step) if not any(a < c < b for a, b in apart)]


def _held_out(names: Sequence[str], fold: int) -> str:
    if not 0 <= fold < len(names):
        raise ValueError(f"data.fold is {fold}; expected 0 to {len(names) - 1}, a genome of {', '.join(names)}")
    return names[fold]


def _other(kind: str) -> str:
    return {"+": kind[:-1] + "-", "-": kind[:-1] + "+"}.get(kind[-1], kind)


def _files(name: str) -> tuple[Path, ...]:
    from isometry_data.catalogue import locate

    return {
        "promoters": lambda: (locate("promoters"),),
        "timing": lambda: (locate("yeast", "timing"), locate("yeast", "features")),
    }[name]()
