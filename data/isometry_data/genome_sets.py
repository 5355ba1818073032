"""The public genome data sets as checked records: bacteria, yeast, promoters, and measured variants.

Files are found through the catalogue (`locate`). Positions are 0-based half-open, whatever the file counts.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from isometry_data.annotations import Feature, read_features
from isometry_data.bases import ascii_of, is_base, text_of
from isometry_data.catalogue import locate
from isometry_data.genomes import Genome, open_genome
from isometry_data.intervals import Interval
from isometry_data.text_files import lines_of
from isometry_data.variants import Variant

PROMOTER_SETS = ("ecoli_s70", "ath_nontata", "mouse_tata")
TIMING_BIN = 1000  # bases


@dataclass(frozen=True)
class Timing:
    """Replication timing along each chromosome."""

    columns: tuple[str, ...]  # "sort_W303_S", ..., "Trep" (minutes)
    bin: int  # bases; the last of a chromosome is shorter
    values: dict[
        str, np.ndarray
    ]  # by chromosome: float32 [n_bins, n_columns], bin i begins at i * bin, the last is shorter; NaN unknown


@dataclass(frozen=True)
class Promoters:
    """Short sequences, each once, that are promoters (1) or not (0)."""

    name: str
    sequences: tuple[str, ...]  # of one length, upper case
    labels: np.ndarray  # int64 [n]
    n_duplicates: int  # left out


@dataclass(frozen=True)
class Saturation:
    """Every measured single change of a region."""

    name: str
    sequence: str  # of the region, plus strand
    variants: tuple[Variant, ...]  # positions within the region; their `chrom` is `name`
    offset: int  # position of the region's first base on `chrom`
    chrom: str
    assembly: str
    scores: dict[str, np.ndarray]  # by name [n_variants]; NaN unknown
    classes: dict[str, tuple[str, ...]]  # by name, one label for each variant


@dataclass(frozen=True)
class EnhancerPair:
    """An element, silenced or not, and what that did to a gene."""

    element: Interval
    gene: str
    tss: int
    distance: float  # bases to the start of transcription
    is_regulated: bool
    dataset: str
    signals: dict[str, float]  # further numeric columns by name; NaN unknown


def yeast_genome() -> Genome:
    """Saccharomyces cerevisiae S288C R64-1-1: sixteen chromosomes chrI to chrXVI (no mitochondrion)."""
    return open_genome(locate("yeast", "genome"))


def yeast_features() -> list[Feature]:
    """Genes, origins, tRNA, LTR, centromeres, telomeres of yeast; RefSeq's R64-4-1 annotation of the same bases."""
    return read_features(locate("yeast", "features"))


def yeast_timing() -> Timing:
    """Replication timing of yeast in bins of 1 kb; bins that were not measured are NaN, and so are single cells.

    Columns: `sort_*_S`: ratios of copy number of sorted cells in S phase (two strains; `_smooth` smoothed), `sync_*`:
    of a synchronised culture by minute, `Trep` and `TrepErr`: minutes. Neighbouring bins are alike (autocorrelation
    0.93 at 1 kb): split by chromosome only.
    """
    file = locate("yeast", "timing")
    rows = list(_rows(file, ("chrom", "chromStart", "chromEnd"), "\t"))
    columns = tuple(rows[0][1])[3:]
    lengths = yeast_genome().lengths
    values = {chrom: np.full((-(-n // TIMING_BIN), len(columns)), np.nan, np.float32) for chrom, n in lengths.items()}
    seen: set[tuple[str, int]] = set()
    for where, row in rows:
        chrom, start, end = row["chrom"], int(row["chromStart"]), int(row["chromEnd"])
        if start % TIMING_BIN or end != min(start + TIMING_BIN, lengths.get(chrom, 0)) or (chrom, start) in seen:
            raise ValueError(f"{where}: {chrom}:{start}-{end} is no bin of {TIMING_BIN}, or stands twice")
        seen.add((chrom, start))
        values[chrom][start // TIMING_BIN] = [_number(row[name], where) for name in columns]
    return Timing(columns, TIMING_BIN, values)


def origins() -> list[Interval]:
    """Confirmed origins of yeast (OriDB), in the file's order.

    Their positions are those of an older assembly: against `yeast_genome` they are off by up to a few kilobases.
    `yeast_features` has the origins (ARS) of the right one.
    """
    rows = _rows(locate("yeast", "origins"), ("chrom", "chromStart", "chromEnd", "name"), "\t")
    return [
        Interval(row["chrom"], int(row["chromStart"]), int(row["chromEnd"]), name="origin", source=where)
        for where, row in rows
    ]


def ecoli_genomes() -> Genome:
    """Three complete chromosomes of E. coli: K-12 MG1655, IAI39, UMN026; each is a circle."""
    file = locate("ecoli", "genomes")
    return open_genome(file, open_genome(file).names)


def ecoli_genes(kinds: tuple[str, ...] = ("CDS",)) -> list[Feature]:
    """The annotated features of those kinds (CDS, tRNA, rRNA, ncRNA, ...) on the three chromosomes.

    A gene in several stretches (a programmed frame shift, one cut by an insertion element) is its hull, one stretch.
    """
    found = [feature for feature in read_features(locate("ecoli", "features")) if feature.kind in kinds]
    if not found:
        raise ValueError(f"no features of the kinds {', '.join(kinds)} in E. coli; there are CDS, tRNA, rRNA, ncRNA")
    return found


def promoters(name: str) -> Promoters:
    """One of `PROMOTER_SETS`: E. coli sigma-70 (81 bp), Arabidopsis without TATA box, mouse with (251 bp each).

    A sequence that stands twice in a class is kept once; one that stands in both is refused.
    """
    if name not in PROMOTER_SETS:
        raise ValueError(f"no promoters {name!r}; there are {', '.join(PROMOTER_SETS)}")
    found: dict[str, int] = {}
    n_rows = 0
    for where, row in _rows(locate("promoters"), ("set", "label", "seq"), ","):
        if row["set"] == name:
            sequence = row["seq"].upper()
            if row["label"] not in ("0", "1") or not sequence or not is_base(ascii_of(sequence)).all():
                raise ValueError(f"{where}: {row['label']!r}, {sequence[:20]!r}: expected 0 or 1 and letters of DNA")
            if found.setdefault(sequence, int(row["label"])) != int(row["label"]):
                raise ValueError(f"{where}: {sequence[:20]}... is a promoter and none; remove one of the two")
            n_rows += 1
    return Promoters(name, tuple(found), np.array(list(found.values()), dtype=np.int64), n_rows - len(found))


def brca1() -> Saturation:
    """BRCA1 by saturation genome editing; scores: function, CADD, phyloP; classes: func_class, consequence, clinvar.

    The region is chr17:43044294-43125483 of hg38, plus strand; BRCA1 itself lies on the minus strand.
    """
    genome = open_genome(locate("brca1", "region"))
    name = genome.names[0]
    chrom, _, span = name.partition(":")
    offset = int(span.partition("-")[0]) - 1
    rows = list(_rows(locate("brca1", "variants"), ("chrom", "pos_hg38_1based", "ref", "alt", "score"), ","))
    variants = tuple(
        Variant("brca1", int(row["pos_hg38_1based"]) - 1 - offset, row["ref"], row["alt"], source=where)
        for where, row in rows
    )
    columns = {"function": "score", "CADD": "CADD", "phyloP": "phyloP"}
    return _saturation(
        Saturation(
            name="brca1",
            sequence=text_of(genome.fetch(name, 0, genome.lengths[name])),
            variants=variants,
            offset=offset,
            chrom=chrom,
            assembly="hg38",
            scores={key: _column(rows, name) for key, name in columns.items()},
            classes={key: tuple(row[key] for _, row in rows) for key in ("func_class", "consequence", "clinvar")},
        )
    )


def cagi5() -> list[Saturation]:
    """Seven regulatory elements by reporter assay (hg19, the elements' own sequences as measured).

    Scores: log2_effect, confidence (0 to 1); classes: cls (-1, 0, 1: less, unchanged, more). Positions in the file
    count from 1.
    """
    genome = open_genome(locate("cagi5", "elements"))
    rows: dict[str, list[tuple[str, dict[str, str]]]] = {name: [] for name in genome.names}
    for where, row in _rows(locate("cagi5", "variants"), ("element", "chrom", "pos_hg19_1based", "index0"), ","):
        if row["element"] not in rows:
            raise ValueError(f"{where}: no element {row['element']!r} in {genome.file}")
        rows[row["element"]].append((where, row))
    return [_element(name, genome, of) for name, of in rows.items()]


def crispri_pairs() -> list[EnhancerPair]:
    """Enhancer-gene pairs in K562 tested by CRISPRi (GRCh38), in the file's order; no bases come with them.

    `distance` is the file's; of some genes it was measured to another start of transcription than `tss`.
    """
    found = []
    for where, row in _rows(locate("crispri_k562"), ("chrom", "startTSS", "Regulated", "distanceToTSS"), "\t"):
        element = Interval(row["chrom"], int(row["chromStart"]), int(row["chromEnd"]), name=row["name"], source=where)
        if row["Regulated"] not in ("TRUE", "FALSE"):
            raise ValueError(f"{where}: Regulated is {row['Regulated']!r}, expected TRUE or FALSE")
        signals = {key: _number(text, where) for key, text in row.items() if _is_signal(key)}
        found.append(
            EnhancerPair(
                element=element,
                gene=row["measuredGeneSymbol"],
                tss=int(row["startTSS"]),
                distance=float(row["distanceToTSS"]),
                is_regulated=row["Regulated"] == "TRUE",
                dataset=row["Dataset"],
                signals=signals,
            )
        )
    return found


def _is_signal(column: str) -> bool:
    """Numbers about the element that may be known before the experiment."""
    return column.startswith(("H3K", "DHS", "CTCF")) or column == "measuredGeneUbiquitousExpressed"


def _element(name: str, genome: Genome, rows: list[tuple[str, dict[str, str]]]) -> Saturation:
    if not rows:
        raise ValueError(f"{genome.file}: {name} has no measured variants")
    offsets = {int(row["pos_hg19_1based"]) - 1 - int(row["index0"]) for _, row in rows}
    if len(offsets) != 1:
        raise ValueError(f"{rows[0][0]}: positions of {name} do not count from one first base: {sorted(offsets)[:3]}")
    variants = [Variant(name, int(row["index0"]), row["ref"], row["alt"], source=where) for where, row in rows]
    scores = {key: _column(rows, key) for key in ("log2_effect", "confidence")}
    return _saturation(
        Saturation(
            name=name,
            sequence=text_of(genome.fetch(name, 0, genome.lengths[name])),
            variants=tuple(variants),
            offset=offsets.pop(),
            chrom=rows[0][1]["chrom"],
            assembly="hg19",
            scores=scores,
            classes={"cls": tuple(row["cls"] for _, row in rows)},
        )
    )


def _saturation(made: Saturation) -> Saturation:
    """Refused where a reference allele is not in the region's sequence."""
    for variant in made.variants:
        there = made.sequence[max(variant.position, 0) : variant.end]
        if there.upper() != variant.reference.upper():
            raise ValueError(f"{variant.source}: {variant}: the region has {there!r} there; another assembly?")
    return made


def _rows(file: Path, columns: tuple[str, ...], separator: str) -> Iterator[tuple[str, dict[str, str]]]:
    """File and line, and the cells by column, of a table that has at least these columns."""
    reader = csv.reader(lines_of(file), delimiter=separator)
    names = next(reader)
    if missing := [name for name in columns if name not in names]:
        raise ValueError(f"{file}, line 1: no column {missing[0]!r}, expected {' '.join(columns)}")
    for number, cells in enumerate(reader, start=2):
        if len(cells) != len(names):
            raise ValueError(f"{file}, line {number}: {len(cells)} cells, expected {len(names)}")
        yield f"{file}, line {number}", dict(zip(names, cells, strict=True))


def _column(rows: list[tuple[str, dict[str, str]]], name: str) -> np.ndarray:
    return np.array([_number(row[name], where) for where, row in rows])


def _number(text: str, where: str) -> float:
    """NaN for a cell without one."""
    if text in ("", "NA", "nan", "None", "."):
        return float("nan")
    if text in ("TRUE", "FALSE"):
        return float(text == "TRUE")
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{where}: {text!r}, expected a number") from None
