"""The report: a whole run as one HTML file that needs nothing else, on screen, in the dark and on paper."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isometry import __version__
from isometry.curves import curves
from isometry.events import Event, seconds_trained
from isometry.figures import data_uris
from isometry.health_curves import findings_told, health_curves
from isometry.lines import scores_of
from isometry.report_style import STYLE
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
        _section("Results", _gallery([(name, "", figure) for name, figure in (figures or {}).items()], "wide", 1)),
        *(_section(name, _table(rows)) for name, rows in (tables or {}).items()),
        _section("Training", _gallery(trained, "pair", 1 + n_before)),
        _section("Health", _health(events, 1 + n_before + len(trained))),
        _faults(events),
        _details(events),
    ]
    return _put(Path(path), _page(title, "\n".join(sections)))


def _page(title: str, body: str) -> str:
    # The policy makes the promise binding: no browser fetches or runs anything for this page.
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


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
        return _section("Scores", _table(rows))
    return _section("Scores", _table([{"score": name, "value": value} for name, value in scores.items()]))


def _gallery(figures: Iterable[tuple[str, str, Figure]], layout: str, first: int) -> str:
    items = [_figure(name, note, figure, place) for place, (name, note, figure) in enumerate(figures, first)]
    return f"<div class={layout}>{''.join(items)}</div>" if items else ""


def _figure(name: str, note: str, figure: Figure, place: int) -> str:
    light, dark = data_uris(figure)
    width = round(figure.get_size_inches()[0] * 96)
    image = f'<img src="{light}" alt="{escape(name)}" width={width}>'
    if dark is None:
        picture = f"<div class=paper>{image}</div>"
    else:
        in_the_dark = f'<source media="screen and (prefers-color-scheme: dark)" srcset="{dark}">'
        picture = f"<picture>{in_the_dark}{image}</picture>"
    caption = f"<b>Figure {place}. {escape(name)}.</b> {escape(note)}"
    return f"<figure>{picture}<figcaption>{caption}</figcaption></figure>\n"


def _health(events: list[Event], first: int) -> str:
    """What the looks at the network found, and how its layers fared."""
    looks = _of(events, "health")
    if not looks:
        return ""
    rows = findings_told(looks)
    told = f"<p>{number(len(looks))} looks; {'findings, when they appeared:' if rows else 'no finding.'}</p>"
    return told + _table(rows) + _gallery(health_curves(looks), "pair", first)


def _faults(events: list[Event]) -> str:
    faults = _of(events, "fault")
    columns = ("step", "epoch", "kind", "records", "scale", "message")
    rows = [{name: fault[name] for name in columns if fault.get(name) not in (None, [])} for fault in faults]
    kinds = [str(fault.get("kind")) for fault in faults]
    counts = ", ".join(f"{kinds.count(kind)} × {kind}" for kind in sorted(set(kinds)))
    more = f" The first {MOST_FAULTS} are listed." if len(rows) > MOST_FAULTS else ""
    return _section("Faults", f"<p>{escape(counts)}.{more}</p>{_table(rows[:MOST_FAULTS], columns)}") if rows else ""


def _details(events: list[Event]) -> str:
    """What only some readers look up, folded away: every evaluation, the notes, the settings (printed all the same)."""
    checks = [_check(event) for event in _of(events, "eval")]
    notes = [{"when": _moment(event), "note": event.get("message")} for event in _of(events, "note")]
    settings = [{"setting": key, "value": value} for key, value in _flat(_last(events, "start").get("settings") or {})]
    folded = [("Evaluations", checks, ""), ("Notes", notes, ""), ("Settings", settings, " class=printed")]
    return "".join(
        f"<details{kind}><summary>{name} ({len(rows)})</summary>{_table(rows)}</details>"
        for name, rows, kind in folded
        if rows
    )


def _check(event: Event) -> dict[str, Any]:
    mark = "★" if event.get("is_best") else ""
    return {"step": event.get("step"), "split": event.get("split"), **scores_of(event), "best": mark}


def _section(heading: str, content: str) -> str:
    return f"<section><h2>{escape(heading)}</h2>\n{content}\n</section>" if content else ""


def _table(rows: list[dict[str, Any]], columns: Iterable[str] = ()) -> str:
    """Rows under the union of their keys; a column of nothing but numbers is set to the right."""
    if not rows:
        return ""
    present = dict.fromkeys(name for row in rows for name in row)
    names = [name for name in columns if name in present] or list(present)
    kinds = {name: " class=n" if all(_is_number(row.get(name)) for row in rows) else "" for name in names}
    head = "".join(f"<th{kinds[name]}>{escape(name)}</th>" for name in names)
    body = "".join(
        f"<tr>{''.join(f'<td{kinds[name]}>{escape(_cell(row.get(name)))}</td>' for name in names)}</tr>\n"
        for row in rows
    )
    return f"<div class=scroll><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>"


def _cell(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else number(value)


def _is_number(value: Any) -> bool:
    return not isinstance(value, bool) and (value is None or isinstance(value, int | float) or hasattr(value, "dtype"))


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


def _put(path: Path, text: str) -> Path:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(beside, "w", encoding="utf-8", errors="replace") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    return path
