"""Compare: runs side by side, the settings in which they differ and what each of them reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from isometry.events import Event, read_events, seconds_trained
from isometry.manifest import MANIFEST, Damage, verified
from isometry.runfolder import RunFolder

WITHOUT_EFFECT = ("device", "fleet", "log", "threads")  # of a checkpoint's settings: where it ran, not what it is


@dataclass(frozen=True)
class Entry:
    """One run, or one checkpoint, as it is compared."""

    path: Path
    app: str
    state: str
    """finished, early stop, unfinished, failed, or checkpoint."""
    asked: dict[str, Any]
    """Settings by dotted name, as they were typed; of a checkpoint: completed by what the data say."""
    complete: dict[str, Any]
    """The same, completed by what the data say."""
    scores: dict[str, dict[str, float]]
    """By split. Of an unfinished run: those of its last evaluation."""
    calibration: dict[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    steps: int | None = None
    n_parameters: int | None = None


def read_entry(path: str | Path) -> Entry:
    """A run folder, finished or not, or a checkpoint folder.

    Raises FileNotFoundError if it is neither, ValueError if it is damaged or holds nothing to compare yet.
    """
    path = Path(path)
    return _checkpoint(path) if (path / MANIFEST).is_file() else _run(RunFolder.existing(path))


def compare(paths: Sequence[str | Path]) -> list[Entry]:
    """The entries of several runs of one app. Raises ValueError where they are of different apps."""
    entries = [read_entry(path) for path in paths]
    apps = {entry.app: entry for entry in entries}
    if len(apps) > 1:
        found = ", ".join(f"{entry.path} is of {app}" for app, entry in apps.items())
        raise ValueError(f"runs of different apps have no scores in common ({found}); compare runs of one app")
    return entries


def differing(entries: Sequence[Entry]) -> dict[str, list[Any]]:
    """The dotted settings that are not the same everywhere, each with its value per entry (None where unknown)."""
    # A checkpoint knows only its completed settings; then all are compared in that form.
    are_typed = all(entry.state != "checkpoint" for entry in entries)
    settings = [entry.asked if are_typed else entry.complete for entry in entries]
    names = dict.fromkeys(name for each in settings for name in each)
    columns = {name: [each.get(name) for each in settings] for name in names}
    return {name: values for name, values in columns.items() if any(value != values[0] for value in values)}


def as_rows(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """One flat row per entry: the differing settings, the scores as "split name", calibration, steps, seconds."""
    settings = differing(entries)
    return [
        {"run": str(entry.path)}
        | {name: as_typed(values[place]) for name, values in settings.items()}
        | {"state": entry.state}
        | {f"{split} {name}": value for split, scores in entry.scores.items() for name, value in scores.items()}
        | {f"calibration {name}": value for name, value in entry.calibration.items()}
        | {"steps": entry.steps, "seconds": entry.seconds, "parameters": entry.n_parameters}
        for place, entry in enumerate(entries)
    ]


def as_typed(value: Any) -> Any:
    """A setting as one writes it after its flag; numbers stay numbers."""
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return value if isinstance(value, int | float | str) and not isinstance(value, bool) else str(value)


def dotted(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as one level of dotted names."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= dotted(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _run(run: RunFolder) -> Entry:
    asked = run.read_json(run.settings.name)
    events = read_events(run.events) if run.events.is_file() else []
    start = next((event for event in reversed(events) if event["event"] == "start"), {})
    result = run.read_json(run.scores.name) if run.scores.is_file() else {}
    steps = [event["step"] for event in events if event.get("step") is not None]
    return Entry(
        path=run.path,
        app=asked["app"],
        state=_state(run, events),
        asked=dotted(asked["settings"]),
        complete=dotted(_that_matter(start.get("settings") or asked["settings"])),
        scores=result.get("scores") or _last_scores(events),
        calibration=dotted(result.get("calibration") or {}),
        seconds=seconds_trained(events) if start else None,
        steps=max(steps, default=None),
        n_parameters=start.get("n_parameters"),
    )


def _state(run: RunFolder, events: list[Event]) -> str:
    """How a run ended; a stop by a signal or a crash leaves it unfinished, to be gone on with."""
    stop = next((event for event in reversed(events) if event["event"] in ("stop", "start")), {})
    if run.report.is_file():  # the last thing a run writes
        return str(stop.get("reason", "finished"))
    return "failed" if stop.get("reason") == "error" else "unfinished"


def _last_scores(events: list[Event]) -> dict[str, dict[str, float]]:
    checks = [event for event in events if event["event"] == "eval" and event.get("split") == "valid"]
    return {"valid": checks[-1]["scores"]} if checks else {}


def _checkpoint(path: Path) -> Entry:
    try:
        manifest = verified(path)
    except Damage as damage:
        raise ValueError(f"{path} is damaged ({damage}): copy it again, or use another one") from None
    settings = dotted(_that_matter(manifest["settings"]))
    scores = {"valid": manifest["scores"]} if manifest["scores"] else {}
    calibration = dotted(manifest.get("calibration") or {})
    return Entry(path, manifest["app"], "checkpoint", settings, settings, scores, calibration, steps=manifest["step"])


def _that_matter(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in WITHOUT_EFFECT}
