"""`isometry capacity FILE --input COLUMN --output 'response_*'`: the bits cells carry about what they were given."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from isometry.events import as_json

WRITTEN = ("inputs.csv", "estimators.csv", "capacity.png", "capacity.json")  # in a folder named by --out


def add(commands: Any) -> argparse.ArgumentParser:
    """The parser of this verb."""
    parser = commands.add_parser("capacity", help="channel capacity and information from a table of single cells")
    parser.add_argument("file", metavar="FILE", type=Path, help="CSV, TSV (.gz), Parquet or .h5ad, one row per cell")
    parser.add_argument(
        "--input", metavar="COLUMN", nargs="+", required=True, help="what cells were given: doses or names"
    )
    parser.add_argument(
        "--output", metavar="COLUMN", nargs="+", default=["response_*"], help="what was measured (default: response_*)"
    )
    parser.add_argument("--batch", metavar="COLUMN", help="replicate or day, whose effect is told")
    parser.add_argument("--group", metavar="COLUMN", help="cells that belong together, never learnt from and scored")
    parser.add_argument("--unit", default="", help="of doses written without one, as ng/mL")
    parser.add_argument(
        "--where", metavar="COLUMN=VALUE", nargs="+", default=[], help="take only the rows with these values"
    )
    parser.add_argument(
        "--missing",
        choices=["drop", "keep"],
        default="drop",
        help="cells with a missing response: leave them out, or take them as they are (default: drop)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of folds, weights and resampling (default: 0)")
    parser.add_argument(
        "--out",
        metavar="PATH",
        type=Path,
        help="a folder for everything; a table (.csv, ...) of the inputs; or the figure (.png, .svg, .pdf)",
    )
    parser.set_defaults(run=_run)
    return parser


def _run(options: argparse.Namespace, _rest: list[str]) -> int:
    where = dict(_equation(text) for text in options.where)
    if options.seed < 0:
        raise ValueError(f"--seed {options.seed}: expected 0 or more")
    _check_out(options.out, options.file)
    from isometry_data.cell_tables import read_cells

    from isometry_signaling.capacity import as_plain, measure_capacity

    cells = read_cells(
        options.file,
        inputs=options.input,
        responses=options.output,
        batch=options.batch,
        group=options.group,
        unit=options.unit,
        where=where,
    )
    found = measure_capacity(cells, missing=options.missing, seed=options.seed)
    _write(options.out, found)
    if options.json:
        print(as_json(as_plain(found)))
    else:
        _print(found)
        if options.out is not None:
            print(f"written: {options.out}")
    return 0


def _equation(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise ValueError(f"--where {text}: expected COLUMN=VALUE")
    return name, value


def _check_out(out: Path | None, file: Path) -> None:
    """Before anything is measured: can it be written there, and is it none of what is read?"""
    from isometry.durable import check_writable
    from isometry.table import check_not_read, check_table_path

    if out is None:
        return
    if out.suffix and not out.is_dir():
        check_table_path(out, (".png", ".svg", ".pdf"))
        check_not_read(out, [file])
        return
    nearest = next(place for place in (out, *out.absolute().parents) if place.exists())
    if not nearest.is_dir():
        raise FileExistsError(f"{nearest}: is a file, expected a folder; name another place")
    missing = [place for place in (out, *out.absolute().parents) if not place.exists()]
    check_writable(missing[-1] if missing else out / WRITTEN[0])
    for name in WRITTEN:
        check_not_read(out / name, [file])


def _write(out: Path | None, found: Any) -> None:
    if out is None:
        return
    from isometry.durable import write_whole
    from isometry.table import write_table

    from isometry_signaling.capacity import as_plain, estimator_rows, input_rows
    from isometry_signaling.capacity_pictures import PICTURES, write_figure

    if out.suffix in PICTURES and not out.is_dir():
        write_figure(out, found)
    elif out.suffix and not out.is_dir():
        write_table(out, input_rows(found))
    else:
        out.mkdir(parents=True, exist_ok=True)
        inputs, estimators, figure, everything = (out / name for name in WRITTEN)
        write_table(inputs, input_rows(found))
        write_table(estimators, estimator_rows(found))
        write_figure(figure, found)
        write_whole(everything, as_json(as_plain(found)) + "\n")


def _print(found: Any) -> None:
    from isometry.table import print_rows

    from isometry_signaling.capacity import estimator_rows, input_rows

    cells, bits = found.cells, found.estimates()
    of = f"{len(cells):,} cells" + "".join(f"; left out: {why}" for why in cells.left_out)
    print(f"{cells.path}: {of}")
    for name, told in (
        ("capacity", "capacity_bits"),
        ("information at the given inputs", "information_bits"),
        ("information at uniform inputs", "information_bits_uniform"),
        ("shuffled control, capacity", "shuffled_capacity_bits"),
    ):
        print(f"{name}: {bits[told].value:.3f} bits [{bits[told].low:.3f}, {bits[told].high:.3f}]")
    rows = [{key: _short(value) for key, value in row.items() if key != "what"} for row in estimator_rows(found)]
    print_rows(rows)
    print_rows([{key: _short(value) for key, value in row.items()} for row in input_rows(found)])
    if found.pattern is not None:
        print(f"the pattern of missing responses alone: {found.pattern.value:.3f} bits")
    if found.batch is not None:
        print(f"about the batch, at a given input: {found.batch.value:.3f} bits")
    elif found.cells.batch is not None:
        print("about the batch: not to be measured; it takes an input in two batches, of three groups or more each")
    for name, (own, n) in found.within.items():
        print(f"within batch {name}: {own.value:.3f} bits [{own.low:.3f}, {own.high:.3f}], {n:,} cells")
    print("the decoder's numbers are lower bounds on average; intervals resample cells, or groups, not the decoders")


def _short(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value
