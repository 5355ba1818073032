"""The display: a run as one looks at it, live on a terminal, one line per event elsewhere.

Both are listeners to events. The live display redraws at most four times a second and spends at most a hundredth of
the time on it; it starts no thread and catches no interrupt.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterable

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from isometry.events import Event
from isometry.lines import PlainLines, Standing, epoch_of, facts_of, fault_line, gauges_of, plain, scores_of
from isometry.spell import duration, number, one_line

SHORTEST_PAUSE = 0.25  # seconds between two redraws
LARGEST_SHARE = 0.01  # of the time spent on drawing
SMALLEST_SIZE = (20, 5)  # columns and rows worth drawing on; a terminal of unknown size may claim 0


def display(console: Console | None = None) -> LiveDisplay | PlainLines:
    """The live display where it can be shown, else plain lines. On stderr unless told: stdout is for results."""
    console = console or Console(stderr=True)
    # FORCE_COLOR makes rich take a log file for a terminal; the standard streams are asked themselves.
    is_honest = console.file.isatty() or console.file not in (sys.stdout, sys.stderr)
    can_draw = console.is_terminal and not console.is_dumb_terminal and not console.is_jupyter
    has_room = console.width >= SMALLEST_SIZE[0] and console.height >= SMALLEST_SIZE[1]
    if is_honest and can_draw and has_room and console.encoding.lower().startswith("utf"):
        return LiveDisplay(console)
    return PlainLines(console.file)


class LiveDisplay:
    """A panel that follows the run. A "stop" event or `close` (leaving a `with Broadcast(…)`) restores the terminal.

    What comes after the stop is printed as plain lines. A terminal that went away silences the display, not the run.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._standing = Standing(clock)
        self._next = -float("inf")  # seconds on the clock before which nothing is drawn
        self._is_closed = False
        # Prints and warnings appear above the panel; a stdout that is a file or a pipe keeps its lines.
        to_terminal = sys.stdout is not None and sys.stdout.isatty()
        self._live = Live(console=console, auto_refresh=False, redirect_stdout=to_terminal, vertical_overflow="crop")

    def __call__(self, event: Event) -> None:
        self._standing.take(event)
        if self._is_closed:
            self._say(plain(event, self._standing))
        elif event["event"] == "stop":
            self.close()
        elif event["event"] == "note":
            self._say(one_line(event.get("message", "")))
        elif event["event"] == "health" and event.get("findings"):
            self._say(plain(event, self._standing))
        else:
            self._draw_if_due()

    def close(self) -> None:
        """Draw the last state once more and give the terminal back."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            if self._standing.start:
                self._live.start()
                self._live.update(self.picture())
        except (OSError, ValueError):
            self._console.quiet = True
        finally:
            # A terminal that went away leaves nothing to restore.
            with contextlib.suppress(OSError, ValueError):
                self._live.stop()

    def picture(self) -> RenderableType:
        """The panel as it would be drawn now."""
        standing, width = self._standing, self._console.width
        n_rows = max(min(6, self._console.height - 10), 1)
        parts = [_headline(standing), _progress(standing, width), _gauges(standing)]
        parts += [_scores(standing, width, n_rows), _faults(standing)]
        return Group(*(part for part in parts if part is not None))

    def _draw_if_due(self) -> None:
        began = self._clock()
        if began < self._next:
            return
        try:
            self._live.start()
            self._live.update(self.picture(), refresh=True)
        except (OSError, ValueError):
            self._fall_silent()
        self._next = began + max(SHORTEST_PAUSE, (self._clock() - began) / LARGEST_SHARE)

    def _say(self, line: str) -> None:
        try:
            self._console.print(Text(line))
        except (OSError, ValueError):
            self._fall_silent()

    def _fall_silent(self) -> None:
        self._console.quiet = True
        self.close()


def _headline(standing: Standing) -> Text:
    return Text(" · ".join(facts_of(standing.start)) or "preparing", style="bold")


def _progress(standing: Standing, width: int) -> RenderableType | None:
    """Epoch and step, a bar, the time gone and left: in one row, or in three where one is too narrow."""
    if not standing.step:
        return None
    step, total = standing.step.get("step", 0), standing.n_steps
    done = f"{epoch_of(standing.step, standing)}  step {number(step)}" + (f"/{number(total)}" if total else "")
    times = f"{duration(standing.seconds)}  {_ending(standing)}".rstrip()
    bar = ProgressBar(total=total, completed=step) if total else ""
    table = Table.grid(padding=(0, 2, 0, 0), expand=True)
    if width < len(done) + len(times) + 16:
        for row in (Text(done), bar, Text(times)):
            table.add_row(row)
        return table
    for share in (None, 1, None):
        table.add_column(no_wrap=True, ratio=share)
    table.add_row(Text(done), bar, Text(times))
    return table


def _ending(standing: Standing) -> str:
    if standing.stop:
        return one_line(standing.stop.get("reason") or "stopped")
    return "" if standing.seconds_left is None else f"{duration(standing.seconds_left)} left"


def _gauges(standing: Standing) -> RenderableType:
    gauges = gauges_of(standing.step)
    return Columns([Text.assemble((name, "dim"), " ", (value, "bold")) for name, value in gauges], padding=(0, 3))


def _scores(standing: Standing, width: int, n_rows: int) -> RenderableType | None:
    """The last evaluations and, if it is older, the best; as many scores as the width holds."""
    rows = list(standing.evaluations)[-n_rows:]
    if not rows:
        return None
    if standing.best is not None and not any(row is standing.best for row in rows):
        rows = [standing.best, *rows[1:]]
    names = _fitting(dict.fromkeys(name for row in rows for name in scores_of(row)), width - 16)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("", "step", *names):
        table.add_column(Text(name), justify="right" if name else "left", overflow="fold")
    for row in rows:
        is_best, scores = row is standing.best, scores_of(row)
        cells = [number(row.get("step")), *(number(scores.get(name)) for name in names)]
        label = "★ best" if is_best else one_line(row.get("split", "valid"))
        table.add_row(Text(label), *cells, style="bold green" if is_best else "")
    return table


def _fitting(names: Iterable[str], width: int) -> list[str]:
    """The first names whose columns share `width`; at least one, if there is one."""
    chosen: list[str] = []
    for name in names:
        width -= max(len(name), 9) + 2
        if width < 0 and chosen:
            break
        chosen.append(name)
    return chosen


def _faults(standing: Standing) -> RenderableType | None:
    if not standing.n_faults:
        return None
    lines = [f"faults: {number(standing.n_faults)}", *(f"  {fault_line(fault)}" for fault in standing.faults)]
    return Text("\n".join(lines), style="yellow")
