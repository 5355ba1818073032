"""The report: a whole run as one HTML file that needs nothing else, on screen, in the dark and on paper."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isometry import __version__
from isometry.curves import curves
from isometry.durable import write_whole
from isometry.events import Event, seconds_trained
from isometry.health_curves import findings_told, health_curves
from isometry.html import gallery, page, section, table
from isometry.lines import scores_of
from isometry.spell import duration, number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_FAULTS = 100  # listed one by one


def write_report(
    path: str | Path,
    events: list[Event],
    *,
    title: str,
    summary: str = "",
    scores: Mapping[str, Any] | None = None,
    figures: Mapping[str, Figure] | None = None,
    tables: Mapping[str, list[dict[str, Any]]] | None = None,
) -> Path:
    """Write the report of a run beside `path`, then put it in place at once; returns `path`.

    Args:
        events: of the run, as `read_events` gives them; any kind may be missing.
        summary: plain text; an empty line starts a new paragraph.
        scores: {score: value}, or {who: {score: value}} to set the run beside its baselines, one column each.
        figures: matplotlib figures under their captions.
        tables: rows under their headings; the keys are the columns, units in their names.
    """
    trained = curves(events)
    n_before = len(figures or {})
    sections = [
        _header(events, title, summary),
        _scores(scores or {}),
        section("Results", gallery([(name, "", figure) for name, figure in (figures or {}).items()], "wide", 1)),
        *(section(name, table(rows)) for name, rows in (tables or {}).items()),
        section("Training", gallery(trained, "pair", 1 + n_before)),
        section("Health", _health(events, 1 + n_before + len(trained))),
        _faults(events),
        _details(events),
    ]
    write_whole(Path(path), page(title, "\n".join(sections)))
    return Path(path)


def _header(events: list[Event], title: str, summary: str) -> str:
    paragraphs = "".join(f"<p>{escape(part)}</p>" for part in summary.split("\n\n") if part.strip())
    facts = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in _facts(events))
    known = f"<dl>{facts}</dl>" if facts else ""
    return f"<header><h1>{escape(title)}</h1>{paragraphs}{known}<p class=fine>{_versions(events)}</p></header>"


def _facts(events: list[Event]) -> list[tuple[str, str]]:
    """What, when, how large, on what: (name, text), those that are known."""
    starts, start, stop = _of(events, "start"), _last(events, "start"), _last(events, "stop")
    best = next((event for event in reversed(_of(events, "eval")) if event.get("is_best")), {})
    resumed = [number(event["resumed_at"]) for event in starts if event.get("resumed_at")]
    facts = {
        "App": start.get("app"),
        "Run": start.get("run"),
        "Started": _moment(starts[0]) if starts else None,
        "Trained for": duration(seconds_trained(events)) if starts else None,
        "Ended": stop.get("reason"),
        "Steps": max((event["step"] for event in events if event.get("step") is not None), default=None),
        "Best at step": best.get("step"),
        "Resumed at step": ", ".join(resumed) or None,
        "Parameters": start.get("n_parameters"),
        "Training records": start.get("n_train"),
        "Validation records": start.get("n_valid"),
        "Device": start.get("device"),
        "Precision": start.get("precision"),
        "Faults": len(_of(events, "fault")) if starts else None,
    }
    return [(name, number(value)) for name, value in facts.items() if value is not None]


def _versions(events: list[Event]) -> str:
    """As the run tells them, else those of the program that writes the report."""
    here = {"isometry": __version__, "Python": platform.python_version(), "torch": _version("torch")}
    told = _last(events, "start").get("versions") or here | {platform.system(): platform.machine()}
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return escape(" · ".join([*(f"{name} {what}" for name, what in told.items() if what), f"written {now}"]))


def _scores(scores: Mapping[str, Any]) -> str:
    if all(isinstance(value, Mapping) for value in scores.values()):
        names = dict.fromkeys(name for row in scores.values() for name in row if "/" not in name)
        rows = [{"score": name, **{who: row.get(name) for who, row in scores.items()}} for name in names]
        return section("Scores", table(rows))
    return section("Scores", table([{"score": name, "value": value} for name, value in scores.items()]))


def _health(events: list[Event], first: int) -> str:
    """What the looks at the network found, and how its layers fared."""
    looks = _of(events, "health")
    if not looks:
        return ""
    rows = findings_told(looks)
    told = f"<p>{number(len(looks))} looks; {'findings, when they appeared:' if rows else 'no finding.'}</p>"
    return told + table(rows) + gallery(health_curves(looks), "pair", first)


def _faults(events: list[Event]) -> str:
    faults = _of(events, "fault")
    columns = ("step", "epoch", "kind", "records", "scale", "message")
    rows = [{name: fault[name] for name in columns if fault.get(name) not in (None, [])} for fault in faults]
    kinds = [str(fault.get("kind")) for fault in faults]
    counts = ", ".join(f"{kinds.count(kind)} × {kind}" for kind in sorted(set(kinds)))
    more = f" The first {MOST_FAULTS} are listed." if len(rows) > MOST_FAULTS else ""
    return section("Faults", f"<p>{escape(counts)}.{more}</p>{table(rows[:MOST_FAULTS], columns)}") if rows else ""


def _details(events: list[Event]) -> str:
    """What only some readers look up, folded away: every evaluation, the notes, the settings (printed all the same)."""
    checks = [_check(event) for event in _of(events, "eval")]
    notes = [{"when": _moment(event), "note": event.get("message")} for event in _of(events, "note")]
    settings = [{"setting": key, "value": value} for key, value in _flat(_last(events, "start").get("settings") or {})]
    folded = [("Evaluations", checks, ""), ("Notes", notes, ""), ("Settings", settings, " class=printed")]
    return "".join(
        f"<details{kind}><summary>{name} ({len(rows)})</summary>{table(rows)}</details>"
        for name, rows, kind in folded
        if rows
    )


def _check(event: Event) -> dict[str, Any]:
    mark = "★" if event.get("is_best") else ""
    return {"step": event.get("step"), "split": event.get("split"), **scores_of(event), "best": mark}


def _flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested sections as dotted keys. Values are told to the last digit: they are what one types to run it again."""
    pairs: list[tuple[str, Any]] = []
    for key, value in settings.items():
        is_section = isinstance(value, Mapping) and value
        pairs += _flat(value, f"{prefix}{key}.") if is_section else [(f"{prefix}{key}", str(value))]
    return pairs


def _of(events: list[Event], name: str) -> list[Event]:
    return [event for event in events if event["event"] == name]


def _last(events: list[Event], name: str) -> Event:
    return next((event for event in reversed(events) if event["event"] == name), {})


def _moment(event: Event) -> str:
    return datetime.fromtimestamp(event["time"], UTC).strftime("%Y-%m-%d %H:%M UTC")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
