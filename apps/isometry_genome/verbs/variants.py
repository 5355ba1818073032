"""`isometry variants RUN --vcf FILE --genome FILE`: what each variant changes in what a network says."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from isometry.events import as_json

VCF = ".vcf"
SHOWN = 40
"""Rows on the terminal."""
LONGEST_SHOWN = 12  # letters of an allele


def add(commands: Any) -> argparse.ArgumentParser:
    """The parser of this verb."""
    parser = commands.add_parser("variants", help="effects of variants (VCF) on what a network says (genome)")
    parser.add_argument("model", metavar="RUN", help="a run of the app genome, or a checkpoint of one")
    parser.add_argument("--vcf", type=Path, metavar="FILE", required=True, help="the variants; .gz as well, - is stdin")
    parser.add_argument("--genome", type=Path, metavar="FILE", required=True, help="FASTA, 2bit or GenBank")
    parser.add_argument(
        "--about", type=Path, metavar="FILE", help="BED: read each variant in the window about the nearest interval"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="a table, or .vcf with the effects as INFO")
    strands = parser.add_mutually_exclusive_group()
    both, one = "the mean over both strands (default where training saw both)", "the genome's strand alone"
    strands.add_argument("--both-strands", dest="is_both", action="store_true", default=None, help=both)
    strands.add_argument("--one-strand", dest="is_both", action="store_false", default=None, help=one)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:<n> or mps")
    parser.set_defaults(run=_run)
    return parser


def _run(options: argparse.Namespace, _rest: list[str]) -> int:
    from isometry.table import check_not_read, check_table_path, print_rows

    if options.out is not None:
        check_table_path(options.out, (VCF,))
        check_not_read(options.out, [file for file in (options.vcf, options.genome, options.about) if file])
    from isometry_genome.readout import ONE_STRAND

    header: list[str] = []
    told, is_both = _told(options, header)
    if options.out is None:
        rows = [_row(*pair) for pair in told]
        print(as_json(rows)) if options.json else print_rows(_narrow(rows), SHOWN)
    else:
        n, shown = _written(options.out, told, header)
        print(as_json({"written": str(options.out), "variants": n})) if options.json else print_rows(_narrow(shown))
    if not options.json and options.is_both is None and not is_both:
        print(ONE_STRAND)
    if not options.json and options.out is not None:
        print(f"written: {options.out} ({n:,} variants)")
    return 0


def _told(options: argparse.Namespace, header: list[str]) -> tuple[Iterator[Any], bool]:
    """Variants with their effects, and whether these are of both strands; lines of the header are told to `header`."""
    from isometry_data.variants import check_references, read_vcf

    from isometry_genome.asked import context_of
    from isometry_genome.files import genome_of
    from isometry_genome.readout import names_of, reads_both, trained
    from isometry_genome.variant_effects import Asked, effects

    variants, (model, settings) = read_vcf(options.vcf, header=header), trained(options.model, options.device)
    genome = genome_of(options.genome, settings.data)
    check_references(variants, genome)
    middles = None if options.about is None else _middles(options.about, genome)
    is_both = reads_both(settings, options.is_both)
    asked = Asked(model, genome, context_of(settings.data), names_of(settings), is_both, middles)
    return effects(variants, asked), is_both


def _middles(file: Path, genome: Any) -> dict[str, Any]:
    import numpy as np
    from isometry_data.intervals import check_intervals, read_bed

    intervals = read_bed(file)
    check_intervals(intervals, genome)
    found: dict[str, list[int]] = {}
    for interval in intervals:
        middle, length = (interval.start + interval.end) // 2, genome.lengths[interval.chrom]
        turns = (-length, 0, length) if genome.is_circle(interval.chrom) else (0,)
        found.setdefault(interval.chrom, []).extend(middle + turn for turn in turns)
    return {chrom: np.sort(own) for chrom, own in found.items()}


def _row(variant: Any, effects: dict[str, Any]) -> dict[str, Any]:
    """Positions as in VCF, counted from 1."""
    at = {"chrom": variant.chrom, "position": variant.position + 1, "name": variant.name}
    return at | {"reference": variant.reference, "alternative": variant.alternative} | effects


def _narrow(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For the terminal: differences alone."""
    names = [name for name in (rows[0] if rows else {}) if not name.endswith(("_reference", "_alternative"))]
    effects = [name for name in names if name not in ("chrom", "position", "name", "reference", "alternative")]
    return [
        {"variant": f"{row['chrom']}:{row['position']} {_short(row['reference'])}>{_short(row['alternative'])}"}
        | {name: row[name] for name in effects}
        for row in rows
    ]


def _short(allele: str) -> str:
    return allele if len(allele) <= LONGEST_SHOWN else f"{allele[:4]}…[{len(allele)}]"


def _written(out: Path, told: Iterable[Any], header: list[str]) -> tuple[int, list[dict[str, Any]]]:
    """How many, and the first rows."""
    from isometry_data.variants import write_vcf

    from isometry_genome.streams import write_rows

    n, shown = 0, []

    def counted() -> Iterator[Any]:
        nonlocal n
        for pair in told:
            if n < SHOWN:
                shown.append(_row(*pair))
            n += 1
            yield pair

    if out.suffix == VCF:
        write_vcf(out, counted(), header=header)
    else:
        write_rows(out, (_row(*pair) for pair in counted()))
    return n, shown
