"""`isometry mutagenesis RUN --genome FILE --region chrom:start-end`: what each base of a region is worth."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isometry.events import as_json

if TYPE_CHECKING:
    from isometry_genome.mutagenesis import Map

PICTURES = (".png", ".svg", ".pdf")
NOT_SHOWN = {"end", *(f"gradient_to_{base}" for base in "ACGT")}
"""On the terminal."""


def add(commands: Any) -> argparse.ArgumentParser:
    """The parser of this verb."""
    parser = commands.add_parser("mutagenesis", help="what each base of a region is worth to a network (genome)")
    parser.add_argument("model", metavar="RUN", help="a run of the app genome, or a checkpoint of one")
    parser.add_argument("--genome", type=Path, metavar="FILE", required=True, help="FASTA, 2bit or GenBank")
    parser.add_argument(
        "--region", metavar="CHROM:START-END", required=True, help="0-based, the end not included, as in tables and BED"
    )
    parser.add_argument(
        "--centre", type=int, metavar="BASE", help="of the window in which it is read (default: the region's own)"
    )
    parser.add_argument("--target", metavar="NAME", help="a class, a track, or language (default: of the first head)")
    strands = parser.add_mutually_exclusive_group()
    both, one = "the mean over both strands (default where training saw both)", "the genome's strand alone"
    strands.add_argument("--both-strands", dest="is_both", action="store_true", default=None, help=both)
    strands.add_argument("--one-strand", dest="is_both", action="store_false", default=None, help=one)
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        action="append",
        default=[],
        help="table or picture by its ending; repeatable",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:<n> or mps")
    parser.set_defaults(run=_run)
    return parser


def _run(options: argparse.Namespace, _rest: list[str]) -> int:
    from isometry.table import check_not_read, check_table_path, print_rows

    for out in options.out:
        check_table_path(out, PICTURES)
        check_not_read(out, [options.genome])
    from isometry_genome.readout import ONE_STRAND

    told, is_both = _told(options)
    rows = as_rows(told)
    for out in options.out:
        _write(out, told, rows)
    if options.json:
        print(as_json({"region": str(told.place), **_summary(told), "bases": rows}))
        return 0
    print_rows([{name: value for name, value in row.items() if name not in NOT_SHOWN} for row in rows])
    value = "" if told.value is None else f": {told.value:.4g}"
    print(f"{told.target.name}{value} ({told.target.unit})")
    if told.slopes is not None:
        print(f"integrated gradients miss the difference that they share out by {told.slopes.incomplete:.2g}")
    if options.is_both is None and not is_both:
        print(ONE_STRAND)
    for out in options.out:
        print(f"written: {out}")
    return 0


def _told(options: argparse.Namespace) -> tuple[Map, bool]:
    """What is told, and whether of both strands."""
    from isometry_data.intervals import Interval, check_intervals

    from isometry_genome.asked import context_of
    from isometry_genome.dataset import Place
    from isometry_genome.files import genome_of
    from isometry_genome.mutagenesis import mutate, region_of, target_of
    from isometry_genome.readout import names_of, reads_both, trained
    from isometry_genome.variant_effects import Asked

    chrom, start, end = parsed(options.region)
    model, settings = trained(options.model, options.device)
    genome = genome_of(options.genome, settings.data)
    check_intervals([Interval(chrom, start, end, source="--region")], genome)
    names, length = names_of(settings), context_of(settings.data)
    asked = Asked(model, genome, length, names, reads_both(settings, options.is_both))
    region = region_of(Place(chrom, start, end), length, options.centre)
    return mutate(region, target_of(options.target, model, names), asked), asked.is_both


def parsed(text: str) -> tuple[str, int, int]:
    """Thousands may be set apart by commas."""
    found = re.fullmatch(r"(.+):([\d,]+)-([\d,]+)", text)
    if found is None:
        raise ValueError(f"--region {text!r}: expected CHROM:START-END, such as chr1:1000-1100")
    start, end = (int(number.replace(",", "")) for number in found.groups()[1:])
    return found[1], start, end


def as_rows(told: Map) -> list[dict[str, Any]]:
    """One for each base: what the target gains by each substitution, and what gradients say."""
    from isometry_genome.letters import BASES, IUPAC

    letters = {code: letter for letter, code in reversed(IUPAC.items())}
    rows = []
    for at, code in enumerate(told.codes.tolist()):
        place = told.place.start + at
        row: dict[str, Any] = {"chrom": told.place.chrom, "start": place, "end": place + 1, "base": letters[code]}
        row |= {f"to_{base}": float(told.effects[at, i]) for i, base in enumerate(BASES)}
        if told.slopes is not None:
            row |= {"gradient_x_input": float(told.slopes.contributions[at])}
            row |= {"integrated_gradient": float(told.slopes.integrated[at])}
            row |= {f"gradient_to_{base}": float(told.slopes.estimates[at, i]) for i, base in enumerate(BASES)}
        rows.append(row)
    return rows


def _summary(told: Map) -> dict[str, Any]:
    summary = {"target": told.target.name, "unit": told.target.unit, "value": told.value}
    return summary | {"incomplete": None if told.slopes is None else told.slopes.incomplete}


def _write(out: Path, told: Map, rows: list[dict[str, Any]]) -> None:
    from isometry.table import write_table

    from isometry_genome.pictures import write_picture

    if out.suffix in PICTURES:
        write_picture(out, told)
    else:
        write_table(out, rows)
