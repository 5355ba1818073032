"""How far signals travel: attention, an LSTM and dilated convolutions of equal size on the simulated genome.

    python docs/longrange.py                        # everything: hours of one core; goes on where it stopped
    python docs/longrange.py --distances 50000 --trunks attention lstm "attention, not stretched"
    python docs/longrange.py --draw                 # only gradients, the page and the picture; trains nothing

Each network is trained by the preset `longrange` with the enhancer at that distance, every trunk alike: 810 steps of 8
windows, of which the first 540 are at 0.64 kb, 120 at 3.2 kb, 90 at 13 kb, and the last 60 at the distance itself; no
stage is farther than the distance (`--no-curriculum`: all at the distance, at many times the price). Tested on 300
windows never seen, at exactly the distance.
Gradient: of what the untrained network says at the promoter, by the bases of the bin there and of that at the
enhancer's distance; their ratio, the median of three seeds. Results are kept one by one in docs/longrange.json.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
from pathlib import Path
from typing import Any

import torch
from isometry.app import load_app
from isometry.durable import write_whole
from isometry.figures import FAINT, PALETTE, panels, style
from isometry.randomness import seed_everything
from isometry.story import train
from isometry_genome.dataset import GrammarDataset, collate
from isometry_genome.grammar import RULES, accuracy_of
from isometry_genome.model import GenomeModel
from isometry_genome.objective import probabilities
from page import fill

DISTANCES = (1_000, 5_000, 20_000, 50_000, 100_000)
TRUNKS = {
    "attention": {},
    "lstm": {"trunk": "lstm", "t_max": None, "forget": 0.0},
    "lstm, long memory": {"trunk": "lstm", "t_max": 3000},
    "conv": {"trunk": "conv", "n_layers": 4},
}
"""An LSTM begins as torch's own does (forget bias 0), or with gates that remember up to 3,000 bins; the convolutions
have more layers, so that all are of about one size."""
WITHOUT = {"attention, not stretched": {"is_stretched": False}, "attention, not sharpened": {"is_sharpened": False}}
"""Without one of the things by which attention keeps far away what it learnt near."""
PAGE, RESULTS, PICTURE = (Path(__file__).with_suffix(ending) for ending in (".md", ".json", ".png"))
NEARER = (640, 3_200, 13_000)
"""Distances of the curriculum before the last; farther ones would need windows twice as long."""


def settings_of(trunk: str, distance: int, seed: int, *, has_curriculum: bool) -> Any:
    """The preset at a distance, whose curriculum begins at 0.64 kb."""
    preset = load_app("genome").presets["longrange"]
    levels = [min(level / distance, 1.0) for level in NEARER] + [1.0]
    curriculum = {"levels": levels if has_curriculum else ()}
    if not has_curriculum:
        curriculum["begins"] = ()
    changes = {"data": {"distance": distance}, "model": (TRUNKS | WITHOUT)[trunk], "fit": {"curriculum": curriculum}}
    return preset.changed(seed=seed, **changes)


def trained(trunk: str, distance: int, seed: int, runs: Path, *, has_curriculum: bool) -> dict[str, Any]:
    """Test accuracy of one network; goes on with a run that was stopped."""
    name = f"{trunk}-{distance}-{seed}{'' if has_curriculum else '-plain'}".replace(", ", "-").replace(" ", "-")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    settings = settings_of(trunk, distance, seed, has_curriculum=has_curriculum)
    scores = train(load_app("genome"), settings, runs / name, is_quiet=True).scores["test"]
    return {
        "trunk": trunk,
        "distance": distance,
        "seed": seed,
        "curriculum": has_curriculum,
        "accuracy": scores["accuracy"],
        "auroc": scores["auroc"],
        "cpu_s": resource.getrusage(resource.RUSAGE_SELF).ru_utime - before,
    }


def reach(trunk: str, distance: int) -> dict[str, Any]:
    """Gradient by the bases of the far bin over that of the promoter's, in an untrained network; median of 3 seeds."""
    app, ratios, n_parameters = load_app("genome"), [], 0
    for seed in range(3):
        settings = settings_of(trunk, distance, seed, has_curriculum=True)
        windows = GrammarDataset(1, seed, distance, settings.model.resolution)
        settings = settings.changed(model={"n_classes": 2, "n_tracks": 3})
        seed_everything(seed)
        model = app.model(settings).double().eval()
        assert isinstance(model, GenomeModel)
        x = probabilities(collate([windows[0]]).codes, model).requires_grad_(True)
        model(x)["classes"].square().sum().backward()
        assert x.grad is not None
        size, middle = settings.model.bin, x.shape[1] // 2
        far = x.grad[0, middle + distance : middle + distance + size].norm()
        ratios.append(float(far / x.grad[0, middle : middle + size].norm()))
        n_parameters = sum(p.numel() for p in model.parameters())
    return {"trunk": trunk, "distance": distance, "gradient": statistics.median(ratios), "parameters": n_parameters}


# The results, the page, the picture


def kept() -> dict[str, list[dict[str, Any]]]:
    return json.loads(RESULTS.read_text()) if RESULTS.is_file() else {"accuracy": [], "gradient": []}


def keep(kind: str, row: dict[str, Any]) -> None:
    results = kept()
    results[kind].append(row)
    write_whole(RESULTS, (json.dumps(results, indent=1) + "\n").encode())


def has(kind: str, **wanted: Any) -> bool:
    return any(all(row[key] == value for key, value in wanted.items()) for row in kept()[kind])


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    lines = [
        "| network | curriculum | distance (kb) | seeds | test accuracy | AUROC | CPU s |",
        "|---|---|---|---|---|---|---|",
    ]
    keys = sorted({(r["trunk"], not r["curriculum"], r["distance"]) for r in results["accuracy"]})
    for trunk, is_plain, distance in keys:
        own = [
            r for r in results["accuracy"]
            if (r["trunk"], not r["curriculum"], r["distance"]) == (trunk, is_plain, distance)
        ]  # fmt: skip
        mean = {key: statistics.mean(r[key] for r in own) for key in ("accuracy", "auroc", "cpu_s")}
        lines.append(
            f"| {trunk} | {'no' if is_plain else 'yes'} | {distance / 1000:g} | {len(own)} | {mean['accuracy']:.3f} | "
            f"{mean['auroc']:.3f} | {mean['cpu_s']:.0f} |"
        )
    rules = ", ".join(f"{name} {accuracy_of(rule):.3f}" for name, rule in RULES.items())
    lines += ["", f"Rules, by computation: {rules}.", "", "| network | parameters | " + _kb("gradient at {} kb") + " |"]
    lines.append("|---" * (2 + len(DISTANCES)) + "|")
    for trunk in TRUNKS:
        own = {r["distance"]: r for r in results["gradient"] if r["trunk"] == trunk}
        cells = [f"{own[d]['gradient']:.1e}" if d in own else "" for d in DISTANCES]
        if own:
            lines.append(f"| {trunk} | {next(iter(own.values()))['parameters']:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _kb(text: str) -> str:
    return " | ".join(text.format(f"{distance / 1000:g}") for distance in DISTANCES)


def draw(results: dict[str, list[dict[str, Any]]]) -> None:
    with style():
        figure, (left, right) = panels(1, 2, width=4.4, height=3.2)
        for number, trunk in enumerate(TRUNKS):
            color = PALETTE[number % len(PALETTE)]
            own = [r for r in results["accuracy"] if r["trunk"] == trunk]
            for with_curriculum, fill_style, label in ((True, "full", trunk), (False, "none", "")):
                some = [(r["distance"] / 1000, r["accuracy"]) for r in own if r["curriculum"] is with_curriculum]
                left.plot(
                    *zip(*some, strict=True) if some else ((), ()), "o", color=color, fillstyle=fill_style, label=label
                )
            far = sorted((r["distance"], r["gradient"]) for r in results["gradient"] if r["trunk"] == trunk)
            seen = [(d / 1000, g) for d, g in far if g > 0]
            if seen:  # beyond the convolutions' field nothing is left to draw
                right.plot([d for d, _ in seen], [g for _, g in seen], "o-", color=color, label=trunk)
        for rule in ("always active", "enhancer only", "full"):
            left.axhline(accuracy_of(RULES[rule]), color=FAINT, linewidth=1)
        left.set(xlabel="distance (kb)", ylabel="test accuracy", xlim=(0.8, 130), ylim=(0.45, 1.02), xscale="log")
        right.set(xlabel="distance (kb)", ylabel="gradient, far / near", xlim=(0.8, 130), ylim=(1e-20, 2))
        right.set(xscale="log", yscale="log")
        left.legend(loc="center left", bbox_to_anchor=(0, 0.4), title="open: without curriculum")
        figure.savefig(PICTURE, dpi=160)


def write() -> None:
    """The page's table and the picture."""
    results = kept()
    fill(PAGE, table(results))
    draw(results)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--distances", type=int, nargs="*", default=DISTANCES)
    parser.add_argument("--trunks", nargs="*", choices=[*TRUNKS, *WITHOUT], default=list(TRUNKS))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--runs", type=Path, default=Path("runs/longrange"))
    parser.add_argument("--no-curriculum", action="store_true")
    parser.add_argument("--draw", action="store_true", help="train nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for trunk in TRUNKS:
        for distance in DISTANCES:
            if not has("gradient", trunk=trunk, distance=distance):
                keep("gradient", reach(trunk, distance))
    plan = [(d, t, s) for s in options.seeds for d in options.distances for t in options.trunks]
    for distance, trunk, seed in [] if options.draw else plan:
        has_curriculum = not options.no_curriculum
        key = {"trunk": trunk, "distance": distance, "seed": seed, "curriculum": has_curriculum}
        if not has("accuracy", **key):
            keep("accuracy", trained(trunk, distance, seed, options.runs, has_curriculum=has_curriculum))
        write()
    write()


if __name__ == "__main__":
    main()
