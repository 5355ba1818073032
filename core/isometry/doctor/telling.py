"""An examination in words: findings, the network as a whole, and a table of its layers."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from isometry.doctor.findings import Finding, Severity
from isometry.doctor.verdict import last_hidden, log_gain, told_in_time
from isometry.spell import number

if TYPE_CHECKING:
    from isometry.doctor.examination import Examination
    from isometry.doctor.half import Half
    from isometry.doctor.recurrence import Recurrence
    from isometry.doctor.treatment import Treatment, Trial

COLOURS: dict[Severity, str] = {"fatal": "bold red", "warning": "yellow", "note": "cyan"}
WHEN = ("unscaled", "scaled")
MOST_LAYERS = 24  # told; the middle of a deeper network is left to the page and to JSON


def text(found: Examination, width: int) -> str:
    """Without colours, for a log."""
    stream = io.StringIO()
    show(found, Console(file=stream, width=width, no_color=True, highlight=False, force_terminal=False))
    return stream.getvalue()


def show(found: Examination, console: Console) -> None:
    console.print(headline(found), highlight=False)
    console.print()
    for finding in found.findings:
        _show_finding(finding, console)
    if not found.findings:
        console.print("Nothing was found that stands against training.", style="green")
    console.print()
    grid = Table.grid(padding=(0, 2))
    for name, value in whole(found):
        grid.add_row(Text(name), Text(value))
    console.print(grid)
    rows = layer_rows(found)
    if rows:
        console.print()
        _show_rows(_ends(rows), console)
    for name, reason in found.missing.items():
        console.print(f"{name}: not measured: {reason}", highlight=False)


def headline(found: Examination) -> str:
    return (
        f"{found.network}: {found.n_layers} layers, {number(found.n_parameters)} parameters, "
        f"loss {number(found.loss)}; examined at the cost of {found.cost:.0f} training steps "
        f"({sum(found.seconds.values()):.2g} s)"
    )


def whole(found: Examination) -> Iterator[tuple[str, str]]:
    """The network as a whole: (measure, value in words)."""
    forward, backward, jacobian = found.forward, found.backward, found.jacobian
    if forward is not None and forward.growth is not None:
        yield "signal", f"second moment changes by {forward.growth:+.2f} nats from the first to the last layer"
    if forward is not None and forward.entry_correlation is not None:
        last = last_hidden(forward.rows)
        end = "" if last is None else f", {number(last.correlation, 3)} at {last.name}"
        yield "two inputs", f"cosine {forward.entry_correlation:.3f} at the entry{end}"
    if backward is not None and backward.log_gain is not None:
        bound = "" if backward.bound is None else f" (for any loss at most {backward.bound:+.1f})"
        yield "gradient", f"{backward.log_gain:+.2f} nats from the last to the first layer{bound}"
    if jacobian is not None and jacobian.largest is not None:
        yield (
            "Jacobian",
            f"singular values {number(jacobian.smallest, 3)} … {number(jacobian.largest, 3)}, condition "
            f"{number(jacobian.condition, 3)}, isometry error {number(jacobian.isometry_error, 3)}",
        )
    if jacobian is not None and jacobian.lyapunov is not None:
        error = "" if jacobian.lyapunov_error is None else f" ± {jacobian.lyapunov_error:.3f}"
        edge = "" if found.predicted is None else _edge(found)
        yield "Lyapunov exponent", f"{jacobian.lyapunov:+.4f}{error} per layer{edge}"
    for layer in found.recurrence:
        yield f"{told_in_time(layer)} in time", _over_time(layer)
    if found.half is not None:
        yield "half precision", _half(found.half)
    if found.depth is not None:
        yield "effective depth", f"{found.depth.total:.1f} of {len(found.depth.blocks)} residual blocks"
    if found.memory is not None:
        yield "optimizer's memory", "endless" if math.isinf(found.memory) else f"{found.memory:,.0f} steps"
    if found.curvature is not None:
        limit = found.curvature.stable_rate
        holds = "" if limit is None else f"; gradient descent holds up to a rate of {limit:.2g}"
        largest = found.curvature.largest
        yield "curvature", found.curvature.reason or "" if largest is None else f"largest {number(largest, 3)}{holds}"
    for name in dict.fromkeys(kept.symmetry for kept in found.symmetries):
        own = [kept for kept in found.symmetries if kept.symmetry == name]
        told = ", ".join(f"{kept.output} {kept.deviation:.1e}" for kept in own)
        yield name, f"relative deviation: {told} (allowed {own[0].tolerance:.0e})"


def layer_rows(found: Examination) -> list[dict[str, Any]]:
    """One row per layer: what was measured, beside what theory says of such weights."""
    if found.forward is None:
        return []
    gradients = {row.name: row.rms for row in found.backward.rows} if found.backward else {}
    predicted = predicted_moments(found)
    return [
        {
            "layer": row.name,
            "kind": row.kind,
            "E[x²]": row.moment,
            **({"predicted": predicted.get(row.name)} if predicted else {}),
            "gradient": gradients.get(row.name),
            "dead": row.dead,
            "saturated": row.saturated,
            "cosine": row.correlation,
            "rank": row.rank,
        }
        for row in found.forward.rows
    ]


def _show_finding(finding: Finding, console: Console) -> None:
    label = Text(f"{finding.severity:<8}", style=COLOURS[finding.severity])
    console.print(label + Text(f"{finding.name} ({finding.where})", style="bold"))
    console.print(Padding(Text(finding.reason), (0, 0, 0, 8)))
    console.print(Padding(Text(f"→ {finding.remedy}"), (0, 0, 0, 8)))


def _ends(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if len(rows) <= MOST_LAYERS:
        return rows
    half = MOST_LAYERS // 2
    return [*rows[:half], {"layer": f"… {len(rows) - MOST_LAYERS} more"}, *rows[-half:]]


def _show_rows(rows: list[dict[str, Any]], console: Console) -> None:
    """Numbers are shown whole: on a narrow terminal names are cut, and columns without any number are left out."""
    columns = [c for c in dict.fromkeys(c for row in rows for c in row) if any(row.get(c) is not None for row in rows)]
    table = Table(box=None, pad_edge=False)
    for column in columns:
        is_text = any(isinstance(row.get(column), str) for row in rows)
        cells = [_cell(row.get(column)) for row in rows]
        least = 8 if is_text else max(map(len, [column, *cells]))
        table.add_column(
            escape(column), justify="left" if is_text else "right", no_wrap=True, overflow="ellipsis", min_width=least
        )
    for row in rows:
        table.add_row(*(escape(_cell(row.get(column))) for column in columns))
    console.print(table)


def _cell(value: Any) -> str:
    return "" if value is None else number(value, 3)


def show_treatment(treatment: Treatment, console: Console, app: str) -> None:
    """Before and after, and what was tried."""
    show(treatment.after, console)
    console.print()
    if not treatment.trials:
        console.print("No safe remedy is called for.", style="green")
        return
    rows = [{"remedy": " + ".join(trial.remedies), **_outcome(trial)} for trial in treatment.trials]
    _show_rows([_was(treatment.before), *rows], console)
    console.print()
    if not treatment.remedies:
        console.print("None of the safe remedies helps: the network is as it was.", style="yellow")
        return
    console.print(f"Applied: {'; '.join(treatment.remedies)}.", style="green")
    console.print(f"To train so: isometry train {app} … --initialise doctor")


def show_attack(attacked: dict[str, Any], console: Console) -> None:
    """The loss and the flipped decisions for each strength of the attack."""
    console.print()
    _show_rows(attacked["rows"], console)
    bound = attacked["lipschitz_bound"]
    why = attacked.get("no_bound_because")
    console.print(f"certified slope: at most {number(bound)}" if why is None else f"no certified slope: {why}")


def _was(found: Examination) -> dict[str, Any]:
    severities = [finding.severity for finding in found.findings if finding.fix]
    return {
        "remedy": "(as it was)",
        "fatal": severities.count("fatal"),
        "warnings": severities.count("warning"),
        "gradient (nats)": log_gain(found),
        "note": "",
    }


def _outcome(trial: Trial) -> dict[str, Any]:
    if trial.reason is not None:
        return {"note": trial.reason}
    return {"fatal": trial.n_fatal, "warnings": trial.n_warnings, "gradient (nats)": trial.log_gain}


def predicted_moments(found: Examination) -> dict[str, float | None]:
    """By weight layer: E[x²] by mean-field theory."""
    return {} if found.predicted is None else {row.name: row.moment for row in found.predicted.rows}


def _edge(found: Examination) -> str:
    edge = found.predicted.edge if found.predicted else None
    if edge is None:
        return ""
    phase = "at the edge of chaos" if abs(edge.chi - 1) < 0.02 else ("ordered" if edge.chi < 1 else "chaotic")
    return f"; in theory {phase}, χ = {edge.chi:.3f}"


def _half(half: Half) -> str:
    if half.start is None:
        return half.reason or "not measured"
    window = f"2^{math.log2(half.need or 1):.0f} … 2^{math.log2(half.allow or 1):.0f}"
    shares = [(when, [of[when].flushed for of in (half.weights, half.activations) if when in of]) for when in WHEN]
    told = "; ".join(f"{when}: {' and '.join(f'{share:.2%}' for share in each)}" for when, each in shares if each)
    start = f"start at 2^{math.log2(half.start):.0f}"
    return f"fp16 loss scales {window} are safe, {start} (gradients of weights and activations flushed to 0 {told})"


def _over_time(layer: Recurrence) -> str:
    if layer.first_share is None:
        return layer.reason or "not measured"
    rate = "" if layer.lyapunov is None else f", Lyapunov exponent {layer.lyapunov:+.4f} per step"
    radii = [
        f"{gate.name} {gate.spectral_radius:.2f}" for gate in layer.gates or [] if gate.spectral_radius is not None
    ]
    told = f"; spectral radius {', '.join(radii)}" if radii else ""
    return f"of the last step's gradient {layer.first_share:.1e} reaches the first of {layer.n_steps}{rate}{told}"
