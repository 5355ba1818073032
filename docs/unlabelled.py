"""What chains without labels are worth to a small network that has few with labels.

    ISOMETRY_DATA=... python docs/unlabelled.py --write              # 12 CPU minutes a seed; goes on where it stopped
    ISOMETRY_DATA=... python docs/unlabelled.py --seeds 0 1 2 --write

Of the training chains of the preset `netsurfp2`, 500 keep their labels and 6,000 others lose them. One network learns
from the 500 alone; one begins as a language model of the 6,000; one learns from the 500 and from what the first said of
the 6,000 (self-distillation); a last one is given all 6,500 labels. Scores are those of the validation set; the test
set is not read. Results are kept in docs/unlabelled.json.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from isometry.app import load_app
from isometry.durable import write_whole
from isometry.loaded import load
from isometry.story import train
from isometry_data.protein_records import ProteinRecord
from isometry_data.state_files import write_states
from isometry_protein.predict import predictions
from isometry_protein.sources import SourceSettings, proteins
from page import fill

PAGE, RESULTS = Path(__file__).with_suffix(".md"), Path(__file__).with_suffix(".json")
N_LABELLED, N_UNLABELLED = 500, 6_000
SMALL = {"heads": ("ss",), "width": 96, "n_layers": 1, "stem": 32}
FEW, MANY = {"epochs": 12, "evaluate_every": 4}, {"epochs": 4, "evaluate_every": 2}
"""Passes over some hundred chains, and over some thousand."""
APP = load_app("protein")


class Files:
    """The chains as state files: those with labels, the others without and with them, and those to validate on."""

    def __init__(self, folder: Path, search: str):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        n = N_LABELLED + N_UNLABELLED
        source = SourceSettings.model_validate({"source": "netsurfp2", "n_train": n, "search": search})
        split = proteins(source, "GHI/EB", 0).split
        every = len(split.train) // N_LABELLED
        has_labels = [i % every == 0 and i < every * N_LABELLED for i in range(len(split.train))]
        few = [record for record, is_own in zip(split.train, has_labels, strict=True) if is_own]
        self.others = [record for record, is_own in zip(split.train, has_labels, strict=True) if not is_own]
        self.few, self.many = self.written("few", few), self.written("many", self.others)
        self.valid = self.written("valid", split.valid)

    def written(self, name: str, records: list[ProteinRecord]) -> Path:
        file = self.folder / f"{name}.ss"
        write_states(file, records)
        return file

    def told_by(self, run: Path, seed: int) -> Path:
        """What a network says of the others."""
        said = predictions(load(APP, run).model, self.others)
        told = [replace(r, ss3=p.states, ss8=None, mask=None) for r, p in zip(self.others, said, strict=True)]
        return self.written(f"told-{seed}", told)


def settings(
    preset: str, files: Files, train_on: tuple[Path, ...], seed: int, fit: dict[str, int], **changes: Any
) -> Any:
    data = {"source": "files", "train": train_on, "valid": (files.valid,)}
    model = SMALL if preset == "netsurfp2" else SMALL | {"heads": ("language",)}
    log = {"health": 0}
    return APP.presets[preset].changed(
        seed=seed, data=data, model=model, fit=fit | {"average": 0.98}, log=log, **changes
    )


def measured(seed: int, files: Files) -> list[dict[str, Any]]:
    """Validation scores of the four networks of a seed."""
    rows: list[dict[str, Any]] = []

    def run(name: str, labelled: int, asked: Any) -> Path:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
        done = train(APP, asked, files.folder / f"{name.replace(' ', '-')}-{seed}", is_quiet=True)
        seconds = resource.getrusage(resource.RUSAGE_SELF).ru_utime - before
        if name != "language":
            q3 = done.scores["valid"]["q3"]
            rows.append({"network": name, "seed": seed, "labelled": labelled, "q3": q3, "cpu_s": seconds})
            print(rows[-1], flush=True)
        return done.folder

    few, many = (files.few,), (files.few, files.many)
    teacher = run("labels alone", N_LABELLED, settings("netsurfp2", files, few, seed, FEW))
    language = run("language", 0, settings("language", files, (files.many,), seed, MANY))
    begun = settings("netsurfp2", files, few, seed, FEW, start=str(language))
    run("begun as a language model", N_LABELLED, begun)
    told = (files.few, files.told_by(teacher, seed))
    run("taught by the first", N_LABELLED, settings("netsurfp2", files, told, seed, MANY))
    run("all labels", N_LABELLED + N_UNLABELLED, settings("netsurfp2", files, many, seed, MANY))
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| network | labelled chains | seeds | validation Q3, each seed | mean | gain | CPU s |", "|---" * 7 + "|"]
    first = {row["seed"]: row["q3"] for row in rows if row["network"] == rows[0]["network"]}
    for name in dict.fromkeys(row["network"] for row in rows):
        own = [row for row in rows if row["network"] == name]
        gain = statistics.mean(row["q3"] - first[row["seed"]] for row in own)
        each = ", ".join(f"{100 * row['q3']:.1f}" for row in own)
        mean, seconds = (statistics.mean(row[key] for row in own) for key in ("q3", "cpu_s"))
        scores = f"{each} | {100 * mean:.1f} | {100 * gain:+.1f}"
        lines.append(f"| {name} | {own[0]['labelled']:,} | {len(own)} | {scores} | {seconds:.0f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--search", choices=("words", "mmseqs"), default="words")
    parser.add_argument("--runs", type=Path, default=Path("runs/unlabelled"))
    parser.add_argument("--write", action="store_true", help="into docs/unlabelled.md")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows = json.loads(RESULTS.read_text()) if RESULTS.is_file() else []
    missing = [seed for seed in asked.seeds if not any(row["seed"] == seed for row in rows)]
    files = Files(asked.runs, asked.search) if missing else None
    for seed in missing:
        assert files is not None
        rows += measured(seed, files)
        write_whole(RESULTS, (json.dumps(rows, indent=1) + "\n").encode())
    print(table(rows))
    if asked.write:
        fill(PAGE, table(rows))


if __name__ == "__main__":
    main()
