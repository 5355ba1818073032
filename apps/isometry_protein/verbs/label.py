"""`isometry label RUN FILE ... --out labelled.ss`: a network's states of unlabelled proteins, to train another on.

Self-distillation: `--data.source files --data.train labelled.ss own.ss --data.valid known.ss` then trains on both;
without a validation file, part of what is set apart would be the network's own word. Residues of which the network is
not sure are masked, so that they do not count.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from isometry.events import as_json

SURE = 0.0


def add(commands: Any) -> argparse.ArgumentParser:
    """The parser of this verb."""
    parser = commands.add_parser("label", help="label proteins by a trained network, to train another on them")
    parser.add_argument("model", metavar="RUN", help="a run of the app protein, with a head for states (ss)")
    parser.add_argument("files", metavar="FILE", type=Path, nargs="+", help="FASTA, PDB or mmCIF")
    parser.add_argument("--out", type=Path, metavar="FILE", required=True, help="a file of states, ending in .ss")
    parser.add_argument(
        "--sure",
        type=float,
        metavar="P",
        default=SURE,
        help="probability of its state from which a residue counts in training (default: 0, every residue)",
    )
    parser.add_argument(
        "--with", dest="others", metavar="RUN", action="append", default=[], help="average with this one; repeatable"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:<n> or mps")
    parser.set_defaults(run=_run)
    return parser


def _run(options: argparse.Namespace, _rest: list[str]) -> int:
    if options.out.suffix != ".ss":
        raise ValueError(f"{options.out}: labels are written as a file of states; expected an ending .ss")
    if not 0 <= options.sure <= 1:
        raise ValueError(f"--sure {options.sure}: expected a probability, 0 to 1")
    counts = _labelled(options)
    if options.json:
        print(as_json({"written": str(options.out), **counts}))
        return 0
    share = counts["n_sure"] / max(counts["n_residues"], 1)
    print(
        f"{counts['n_proteins']:,} proteins, {counts['n_residues']:,} residues, of which {share:.1%} count "
        f"(probability {options.sure:g} or more)"
    )
    print(f"written: {options.out}")
    return 0


def _labelled(options: argparse.Namespace) -> dict[str, int]:
    import numpy as np
    from isometry.app import load_app
    from isometry.durable import write_whole
    from isometry.story import load
    from isometry.table import check_not_read, check_table_path

    from isometry_protein.formats import as_states
    from isometry_protein.predict import predictions
    from isometry_protein.together import ProteinEnsemble
    from isometry_protein.train import to_predict

    check_table_path(options.out, (".ss",))
    check_not_read(options.out, options.files)
    app = load_app("protein")
    loaded = [load(app, run, device=options.device) for run in (options.model, *options.others)]
    model = loaded[0].model if len(loaded) == 1 else ProteinEnsemble([one.model for one in loaded]).eval()
    records: list[Any] = to_predict(loaded[0].settings, options.files).records
    told = [
        (record, of.states, np.zeros((0, 3)) if of.three is None else of.three)
        for record, of in zip(records, predictions(model, records), strict=True)
    ]
    write_whole(options.out, as_states(told, options.sure))
    n_sure = sum(int((three.max(1) >= options.sure).sum()) for _, _, three in told)
    return {"n_proteins": len(told), "n_residues": sum(len(record) for record in records), "n_sure": n_sure}
