"""A user's own files as windows: what is taken, what is left out and why, and that held-out sequence is really new."""

from __future__ import annotations

import csv
import logging
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np
from isometry_data.annotations import Feature, circles_of, read_features
from isometry_data.chromosome_names import unknown_name
from isometry_data.genomes import Genome, open_genome
from isometry_data.homology import Fetched, sequences_of, shared_share, shared_windows
from isometry_data.intervals import Interval, check_intervals, read_bed
from isometry_data.text_files import lines_of
from isometry_data.tracks import Track

from isometry_genome import genes
from isometry_genome.asked import Found, SourceSettings, Split, Wanted, context_of, reading, thinned
from isometry_genome.dataset import Facts, Place, WindowDataset
from isometry_genome.folds import chromosome_split, stretch_split, thirds
from isometry_genome.signals import Files

_log = logging.getLogger(__name__)
TILE = 16_384
"""Bases of a window where neither data.length nor an interval says."""


class Kept(NamedTuple):
    """Windows that are used, and how many were left out for which reason."""

    places: list[Place]
    left_out: Counter[str]

    def note(self, what: str) -> str:
        """Every window is counted once: used, or left out for the first reason that holds."""
        n = len(self.places) + self.left_out.total()
        told = "".join(f"; {count:,} left out: {reason}" for reason, count in self.left_out.items())
        return f"{what}: {n:,} windows, {len(self.places):,} used{told}"


def of_files(settings: SourceSettings, wanted: Wanted, _seed: int) -> Found:
    """A genome with intervals, classes, tracks or annotation."""
    if settings.genome is None:
        raise ValueError("data.source is files, but data.genome names none; give --data.genome FILE (FASTA, 2bit …)")
    _check_heads(settings, wanted)
    genome = genome_of(settings.genome, settings, [settings.annotation] if settings.annotation else [])
    for name in settings.circular:
        if name not in genome.names:
            raise ValueError(f"data.circular: {unknown_name(name, genome.lengths, str(genome.file))}")
    classes, candidates = _candidates(settings, genome)
    if "classes" in wanted.heads and len(classes) < 2:
        raise ValueError(
            f"{settings.labels or settings.intervals}: the windows have {len(classes)} classes "
            f"({', '.join(classes) or 'no names'}); expected two or more, by name (BED's fourth column)"
        )
    length = settings.length or max(place.end - place.start for place in candidates)
    whole = settings.labels is not None
    kept = kept_of(candidates, genome, length, settings.most_unknown, "classes" in wanted.heads, are_whole=whole)
    if not kept.places:
        raise ValueError(f"{kept.note(str(settings.genome))}; windows have {length:,} bases (data.length)")
    parts, how = _split(settings, genome, kept.places, length)
    notes = [kept.note(str(settings.genome)), *how, *_homology(settings, genome, parts, length)]
    signal = signal_of(settings.tracks, genome)
    segments, of_bases = (), None
    if settings.annotation:
        features, n_elsewhere = features_of(settings.annotation, settings.kinds, genome)
        segments = genes.classes_for(features)
        of_bases = genes.labels(features, genome.lengths, segments)
        if n_elsewhere:
            notes.append(f"{settings.annotation}: {n_elsewhere:,} features left out: not on a sequence of the genome")
    strands = wanted.strands._replace(segments=genes.SWAPS.get(segments, ()))
    facts = Facts(classes, signal.names if signal else (), segments, strands=strands)
    own = reading(settings, wanted, length, flips=bool(settings.flips))
    parts["train"] = thinned(parts["train"], settings.n_train)
    if not parts["train"]:
        raise ValueError(f"{settings.genome}: no training window is left; {kept.note('found')}")

    def made(part: str) -> WindowDataset:
        return WindowDataset(genome, parts[part], own, facts, signal, of_bases)

    split = Split(made("train"), *(made(part) if parts[part] else None for part in ("valid", "test")))
    read = (settings.genome, settings.intervals, settings.labels, settings.annotation, *settings.tracks)
    return Found(split, tuple(file for file in read if file), tuple(notes))


def genome_of(file: Path, settings: SourceSettings, annotation: Iterable[Path] = ()) -> Genome:
    """A genome, and which of its sequences are circles: as the run, the annotation, or the file itself has it."""
    return open_genome(file, {*settings.circular, *(name for own in annotation for name in circles_of(own))})


def _check_heads(settings: SourceSettings, wanted: Wanted) -> None:
    has = {
        "classes": settings.intervals or settings.labels,
        "profile": settings.tracks,
        "segments": settings.annotation,
        "language": True,
    }
    options = {"classes": "data.intervals (BED with names) or data.labels", "profile": "data.tracks"}
    for head in wanted.heads:
        if not has[head]:
            option, others = options.get(head, "data.annotation"), [other for other in wanted.heads if has[other]]
            without = f", or leave the head out (--model.heads {' '.join(others)})" if others else ""
            raise ValueError(f"the head {head} learns from {option}, which is not given; give it{without}")


def _candidates(settings: SourceSettings, genome: Genome) -> tuple[tuple[str, ...], Sequence[Place]]:
    """Names of classes, and all windows."""
    if settings.labels is not None:
        of_name = read_labels(settings.labels)
        if unknown := of_name.keys() - set(genome.names):
            raise ValueError(f"{settings.labels}: {sorted(unknown)[0]!r} is no sequence of {settings.genome}")
        classes = tuple(sorted(set(of_name.values())))
        numbers = {name: classes.index(kind) for name, kind in of_name.items()}
        return classes, [Place(n, 0, genome.lengths[n], numbers.get(n, -1), name=n) for n in genome.names]
    if settings.intervals is not None:
        intervals = read_bed(settings.intervals)
        check_intervals(intervals, genome)
        classes = tuple(sorted({interval.name for interval in intervals} - {""}))
        return classes, [place_of(interval, classes) for interval in intervals]
    length = settings.length or TILE
    return (), Tiles(genome.lengths, length)


def _tell_strange_names(file: Path, intervals: Sequence[Interval], classes: Sequence[str]) -> None:
    """Where some names are classes, others are perhaps meant to be."""
    strange = [interval for interval in intervals if interval.name and interval.name not in classes]
    if strange and len(strange) < sum(interval.name != "" for interval in intervals):
        _log.warning(
            "%s: %d names are no classes of the model (%s) and have no label, first: %s in %s",
            file, len(strange), ", ".join(classes), strange[0].name, strange[0].source,
        )  # fmt: skip


def place_of(interval: Interval, classes: Sequence[str]) -> Place:
    label = classes.index(interval.name) if interval.name in classes else -1
    return Place(interval.chrom, interval.start, interval.end, label, interval.strand == "-", source=interval.source)


class Tiles(Sequence[Place]):
    """Windows side by side along whole sequences, made when they are asked for; the last of a sequence reaches beyond
    its end."""

    def __init__(self, lengths: Mapping[str, int], length: int):
        self._names, self._length = list(lengths), length
        self._firsts = [0, *accumulate(-(-n // length) for n in lengths.values())]

    def __len__(self) -> int:
        return self._firsts[-1]

    @overload
    def __getitem__(self, index: int) -> Place: ...
    @overload
    def __getitem__(self, index: slice) -> list[Place]: ...

    def __getitem__(self, index: int | slice) -> Place | list[Place]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        sequence = bisect_right(self._firsts, number) - 1
        start = (number - self._firsts[sequence]) * self._length
        return Place(self._names[sequence], start, start + self._length)


def read_labels(file: Path) -> dict[str, str]:
    """Class by name of a sequence. Raises ValueError with file and line."""
    reader = csv.DictReader(lines_of(file))
    if not {"name", "class"} <= set(reader.fieldnames or ()):
        found = ", ".join(reader.fieldnames or ()) or "nothing"
        raise ValueError(f"{file}, line 1: columns {found}; expected name and class, separated by a comma")
    labels: dict[str, str] = {}
    for row in reader:
        if row["name"] in labels:
            where = f"{file}, line {reader.line_num}"
            raise ValueError(f"{where}: {row['name']} has a class already; name each sequence once")
        labels[row["name"]] = row["class"] or ""
    return {name: kind for name, kind in labels.items() if kind}


def kept_of(
    candidates: Iterable[Place],
    genome: Genome,
    length: int,
    most_unknown: float,
    needs_label: bool,
    *,
    are_whole: bool = False,
) -> Kept:
    """The windows that can be used; of the others, the first reason that holds.

    Args:
        are_whole: whole sequences, which must not have the same letters; others must not lie at the same place.
    """
    kept: list[Place] = []
    left_out: Counter[str] = Counter()
    seen: dict[object, int] = {}
    again = "the same sequence again" if are_whole else "the same window again"
    for place in candidates:
        at = (place.chrom, place.start, place.end)
        key = genome.fetch(*at).tobytes().upper() if are_whole else (*at, place.is_minus)
        if needs_label and place.label < 0:
            left_out["no class"] += 1
        elif key in seen:
            left_out[again if seen[key] == place.label else f"{again}, of another class"] += 1
        elif unknown_share(genome, place, place.end - place.start if are_whole else length) > most_unknown:
            left_out[f"more than {most_unknown:.0%} unknown"] += 1
        else:
            kept.append(place)
        if place.label >= 0 or not needs_label:
            seen.setdefault(key, place.label)
    return Kept(kept, left_out)


def unknown_share(genome: Genome, place: Place, length: int) -> float:
    """Of N, and of what lies beyond the sequence, in the window about the place's centre."""
    start = (place.start + place.end) // 2 - length // 2
    letters = genome.fetch(place.chrom, start, start + length, pads=True)
    return float(np.isin(letters, (ord("N"), ord("n"))).mean())


def _split(
    settings: SourceSettings, genome: Genome, places: list[Place], length: int
) -> tuple[dict[str, list[Place]], list[str]]:
    """The parts, and what is to be said of them."""
    if settings.labels is not None and not settings.valid and not settings.test:
        letters = [genome.fetch(p.chrom, p.start, p.end).tobytes().decode() for p in places]
        parts = thirds(letters, np.array([place.label for place in places]), settings.fold)
        return {name: [places[i] for i in own] for name, own in parts.items()}, []
    used = {place.chrom for place in places}
    if len(used) == 1 and not settings.valid and not settings.test:
        return _by_stretches(genome, places, length)
    lengths = {name: length for name, length in genome.lengths.items() if name in used}
    names = chromosome_split(lengths, settings.valid, settings.test)
    return {part: [place for place in places if place.chrom in set(own)] for part, own in names.items()}, []


def _by_stretches(genome: Genome, places: list[Place], length: int) -> tuple[dict[str, list[Place]], list[str]]:
    """Of the only sequence; raises ValueError where a part has no window."""
    chrom, middles = places[0].chrom, np.array([(place.start + place.end) // 2 for place in places])
    numbers = stretch_split(middles, length, genome.lengths[chrom] if genome.is_circle(chrom) else None)
    if not all(map(len, numbers.values())):
        raise ValueError(
            f"{genome.file}: {len(places):,} windows of {length:,} bases on {chrom} alone make no three stretches that "
            "lie a window apart; give more windows, shorter ones (data.length), or more sequences"
        )
    parts = {part: [places[i] for i in own] for part, own in numbers.items()}
    told = [
        f"{part} {first:,}-{last:,}" for part, own in parts.items() for first, last in [_reach(own, length, genome)]
    ]
    n_between = len(places) - sum(map(len, parts.values()))
    return parts, [f"stretches of {chrom}: {', '.join(told)}; {n_between:,} windows left out between them"]


def _reach(places: Sequence[Place], length: int, genome: Genome) -> tuple[int, int]:
    """From the first to the last base of windows on one sequence."""
    starts = [(place.start + place.end) // 2 - length // 2 for place in places]
    return max(min(starts), 0), min(max(starts) + length, genome.lengths[places[0].chrom])


def _homology(settings: SourceSettings, genome: Genome, parts: dict[str, list[Place]], length: int) -> list[str]:
    """What the held-out sequences share with those of training. Raises ValueError where it is too much."""
    if settings.most_shared is None:
        return ["held-out sequences were not compared with those of training (data.most_shared none)"]
    names = {part: {place.chrom for place in own} for part, own in parts.items()}
    if names["train"] & (names["valid"] | names["test"]):  # stretches
        spans = {part: _reach(own, length, genome) for part, own in parts.items()}
        (chrom,) = names["train"]
        named = {part: {f"{chrom}:{a}-{b}": (chrom, a, b)} for part, (a, b) in spans.items()}
        train, held = (Fetched(genome, own) for own in (named["train"], named["valid"] | named["test"]))
    else:
        train, held = sequences_of(genome, names["train"]), sequences_of(genome, names["valid"] | names["test"])
    found = shared_windows(train, held)
    share = shared_share(found, held)
    if share > settings.most_shared:
        first = found[0]
        raise ValueError(
            f"{settings.genome}: {share:.1%} of the held-out bases have a near copy in training, more than "
            f"data.most_shared, {settings.most_shared:.1%}; first {first.test}:{first.start}-{first.end} in "
            f"{first.train} at {first.train_start}; hold out others (data.valid, data.test), or raise the limit"
        )
    return [f"{share:.1%} of the held-out bases have a near copy in training ({len(found):,} stretches)"]


def signal_of(files: Sequence[Path], genome: Genome, names: Sequence[str] = ()) -> Files | None:
    """Tracks that lie on the genome; None where there are no files.

    Args:
        names: those of a model, to which the files belong by their names, or where these are others in their order.
    Raises ValueError for two files of one name, for files of another genome, and where files and names do not match.
    """
    if not files:
        return None
    tracks = {file.stem: Track(file) for file in files}
    if len(tracks) < len(files):
        twice = next(file for file in files if [other.stem for other in files].count(file.stem) > 1)
        raise ValueError(f"{twice}: another track is called {twice.stem}, too; tracks have the names of their files")
    for track in tracks.values():
        track.check_genome(genome)
    if set(tracks) <= set(names):
        return Files([tracks.get(name) for name in names], names)
    if names and len(names) != len(files):
        raise ValueError(
            f"{len(files)} tracks ({', '.join(tracks)}), but the model has {len(names)}: {', '.join(names)}; give one "
            "file for each, or name files so"
        )
    return Files(list(tracks.values()), list(tracks))


def features_of(file: Path, kinds: Collection[str], genome: Genome) -> tuple[list[Feature], int]:
    """Features of the kinds on the genome, and how many lie on other sequences. Raises ValueError where all of them
    do, or one ends past its sequence."""
    circles = {name: length for name, length in genome.lengths.items() if genome.is_circle(name)}
    found = [feature for feature in read_features(file, circles) if feature.kind in kinds]
    if not found:
        raise ValueError(f"{file}: no feature of the kinds {', '.join(kinds)} (data.kinds)")
    there = [feature for feature in found if feature.interval.chrom in genome.lengths]
    check_intervals([feature.interval for feature in there or found], genome)
    return there, len(found) - len(there)


# What a run is asked to predict or to be evaluated on

SEQUENCES, INTERVALS = (".fa", ".fasta", ".fna", ".2bit", ".gb", ".gbk", ".gbff"), (".bed",)
TRACKS, FEATURES = (".bw", ".bigwig", ".bedgraph", ".bg"), (".gff", ".gff3")


def read(settings: SourceSettings, wanted: Wanted, files: Sequence[Path]) -> WindowDataset:
    """Windows of one file of sequences; of its intervals (BED), or side by side along it; with labels where given.

    Raises ValueError for files of no known kind, and for none or several files of sequences.
    """
    of_kind: dict[tuple[str, ...], list[Path]] = {kind: [] for kind in (SEQUENCES, INTERVALS, TRACKS, FEATURES)}
    for file in files:
        ending = file.with_suffix("").suffix if file.suffix.lower() in (".gz", ".bgz") else file.suffix
        kind = next((kind for kind in of_kind if ending.lower() in kind), None)
        if kind is None:
            known = " ".join(ending for kind in of_kind for ending in kind)
            raise ValueError(f"{file}: ending {ending or 'none'}; expected one of {known}, also as .gz")
        of_kind[kind].append(file)
    if len(of_kind[SEQUENCES]) != 1:
        given = ", ".join(map(str, of_kind[SEQUENCES] or files))
        raise ValueError(
            f"{given}: {len(of_kind[SEQUENCES])} files of sequences; give one FASTA, 2bit or GenBank, and a BED"
        )
    genome = genome_of(of_kind[SEQUENCES][0], settings, of_kind[FEATURES])
    length = context_of(settings)
    places: list[Place] = []
    for file in of_kind[INTERVALS]:
        intervals = read_bed(file)
        check_intervals(intervals, genome)
        places += [place_of(interval, settings.class_names) for interval in intervals]
        _tell_strange_names(file, intervals, settings.class_names)
    features = [own for file in of_kind[FEATURES] for own in features_of(file, settings.kinds, genome)[0]]
    facts = Facts(settings.class_names, settings.track_names, settings.segment_names, strands=wanted.strands)
    return WindowDataset(
        genome,
        places or Tiles(genome.lengths, length),
        reading(settings, wanted, length),
        facts,
        signal_of(of_kind[TRACKS], genome, settings.track_names),
        genes.labels(features, genome.lengths, facts.segments) if features else None,
        are_tiles=not places,
    )
