"""`isometry leak FILE ... --test FILE ...`: test proteins with a near copy among the training ones.

Exit code 1 if there is one, 0 if there is none, 2 if a file or an option cannot be used.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from isometry.events import as_json

FOUND, BAD_INPUT = 1, 2
COLUMNS = ("test", "test_file", "test_line", "train", "train_file", "train_line", "identity", "coverage")


class BadInput(Exception):
    """A file cannot be used; not told by the exit code of a leak."""

    exit_code = BAD_INPUT


def add(commands: Any) -> argparse.ArgumentParser:
    """The parser of this verb."""
    parser = commands.add_parser(
        "leak",
        help="list test proteins with a near copy among training proteins",
        description="Exit code 1 if a near copy was found, 0 if none, 2 if a file or an option cannot be used.",
    )
    parser.add_argument("files", metavar="FILE", type=Path, nargs="+", help="training proteins: FASTA, .ss, PDB, mmCIF")
    parser.add_argument("--test", metavar="FILE", type=Path, nargs="+", required=True, help="test proteins, as above")
    parser.add_argument(
        "--most-identical",
        metavar="SHARE",
        type=_share,
        default=0.25,
        help="share of identical residues from which a pair is a near copy (default: 0.25)",
    )
    parser.add_argument(
        "--least-covered",
        metavar="SHARE",
        type=_share,
        default=0.5,
        help="... over at least this share of the shorter sequence (default: 0.5)",
    )
    parser.add_argument(
        "--search",
        choices=("words", "mmseqs", "all"),
        default="words",
        help="our own search, the program MMseqs2, or all: every pair is aligned (default: words)",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the list; the ending chooses the format")
    parser.set_defaults(run=_run)
    return parser


def _run(options: argparse.Namespace, _rest: list[str]) -> int:
    try:
        rows, counts = _found(options)
    except (ValueError, OSError) as error:
        raise BadInput(" ".join(str(error).split())) from None
    if options.json:
        print(as_json({**counts, "search": options.search, "near_copies": rows}))
    else:
        _print(rows, counts, options)
    return FOUND if rows else 0


def _found(options: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, int]]:
    from isometry.table import check_not_read, check_table_path, write_table
    from isometry_data.sequence_clusters import near_copies

    if options.out is not None:
        check_table_path(options.out)
        check_not_read(options.out, [*options.files, *options.test])
    train, test = _records(options.files), _records(options.test)
    found = near_copies(train, test, options.most_identical, options.least_covered, options.search)
    rows: list[dict[str, Any]] = [
        {
            "test": copy.test.name,
            "test_file": copy.test.source,
            "test_line": copy.test.line or None,
            "train": copy.train.name,
            "train_file": copy.train.source,
            "train_line": copy.train.line or None,
            "identity": round(copy.identity, 4),
            "coverage": round(copy.coverage, 4),
        }
        for copy in found
    ]
    if options.out is not None:
        write_table(options.out, rows, COLUMNS)
    return rows, {"n_train": len(train), "n_test": len(test), "n_found": len(rows)}


def _records(files: Sequence[Path]) -> list[Any]:
    from isometry_data.proteins import Labelling, read_proteins

    sequences_alone = Labelling(with_any=False)
    records = [record for file in files for record in read_proteins(file, sequences_alone).records]
    if not records:
        raise ValueError(f"{files[0]}: no protein in it; expected FASTA, .ss, PDB or mmCIF with at least one")
    return records


def _print(rows: list[dict[str, Any]], counts: dict[str, int], options: argparse.Namespace) -> None:
    from isometry.table import print_rows

    if rows:
        print_rows([{name: row[name] for name in ("test", "train", "identity", "coverage")} for row in rows])
    print(
        f"{counts['n_found']:,} of {counts['n_test']:,} test proteins have a near copy among {counts['n_train']:,} "
        f"training proteins: {options.most_identical:.0%} or more identical over {options.least_covered:.0%} of the "
        f"shorter sequence (found by {options.search})"
    )
    if options.out is not None:
        print(f"written: {options.out}")


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a share above 0, up to 1, as in 0.25")
    return value
