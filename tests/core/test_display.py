"""The display shows a run on any terminal, costs little, and neither swallows an interrupt nor leaves a mess."""

import io
import itertools
import os
import signal
import subprocess
import sys

import pytest
from isometry.display import LARGEST_SHARE, SHORTEST_PAUSE, LiveDisplay, display
from isometry.events import Broadcast, event
from isometry.lines import PlainLines, Standing
from rich.console import Console

HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


def run(n_steps: int = 40, every: int = 10):
    """The events of a small run, resumed at step 0, with one validation marked best and one fault."""
    yield event("start", app="toy", run="runs/toy-1", n_parameters=12345, n_train=80, n_valid=20, epochs=10)
    yield {**event("start", app="toy", run="runs/toy-1", n_parameters=12345), "steps_per_epoch": 8, "epochs": 10}
    for number in range(1, n_steps + 1):
        parts = {"energy": 0.25, "forces": 0.75}
        numbers = {"rate": 1e-3, "gradient_norm": 0.5, "scale": 65536.0, "samples_per_s": 412.34}
        yield event("step", step=number, epoch=number // 8, loss=0.0625, parts=parts, **numbers)
        if number % every == 0:
            scores = {"mae[eV]": 0.125, "rmse": 1.0 / number}
            yield event("eval", step=number, epoch=1, split="valid", scores=scores, loss=None, is_best=number == every)
    yield event("fault", step=n_steps, kind="gradient", records=["frame 7"], message="gradient is not finite: skipped")


def stop():
    return event("stop", step=40, epoch=5, reason="finished", seconds=245.0, message="")


def terminal(width: int, height: int = 40) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=width, height=height, legacy_windows=False)


def seconds(pause: float):
    """A clock that moves on by `pause` each time it is read."""
    return itertools.count(0.0, pause).__next__


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [40, 120])
def test_live_display_shows_every_field(width):
    console = terminal(width)
    live = LiveDisplay(console, clock=seconds(1.0))
    for one in run():
        live(one)
    console = Console(file=io.StringIO(), width=width)
    console.print(live.picture())
    text = " ".join(shown(console).split())
    fields = ["toy", "12,345", "epoch 5/10", "step 40/80", "loss 0.0625", "energy 0.25", "forces 0.75", "rate 0.001"]
    fields += ["gradient norm 0.5", "scale 65,536", "samples/s 412", "left", "mae[eV]", "★ best", "0.125"]
    fields += ["faults: 1", "not finite", "frame 7"]
    assert [field for field in fields if field not in text] == []


@pytest.mark.parametrize("width", [1, 2, 3, 7, 15, 30, 79, 500])
@pytest.mark.parametrize("height", [1, 5, 24])
def test_no_size_of_terminal_is_too_strange(width, height):
    console = terminal(width, height)
    live = LiveDisplay(console)
    with Broadcast(live) as tell:
        for one in [*run(), stop()]:
            tell(one)
            console.print(live.picture())
    assert shown(console).rfind(SHOW_CURSOR) > shown(console).rfind(HIDE_CURSOR)


def test_a_terminal_of_unknown_size_gets_plain_lines(monkeypatch):
    monkeypatch.setenv("COLUMNS", "0")
    monkeypatch.setenv("LINES", "nonsense")
    console = Console(file=io.StringIO(), force_terminal=True)
    shows = display(console)
    with Broadcast(shows) as tell:
        for one in run():
            tell(one)
    assert isinstance(shows, PlainLines)
    assert "toy" in shown(console)


def test_missing_fields_are_left_out():
    console = terminal(80)
    plain = PlainLines(io.StringIO())
    for name in ("step", "start", "step", "eval", "fault", "save", "note", "stop", "something new"):
        LiveDisplay(console)({"event": name, "time": 0.0, "step": 1})
        plain({"event": name, "time": 0.0, "step": 1})


def test_the_best_validation_stays_in_sight():
    console = terminal(120)
    live = LiveDisplay(console)
    for one in run(n_steps=400, every=10):
        live(one)
    live.close()
    (best,) = [line for line in shown(console).splitlines()[-15:] if "★ best" in line]
    assert best.replace("\x1b", " ").split()[1:] != []
    assert "10" in best


def test_redraws_are_rare_and_cheap():
    now = [0.0]
    live = LiveDisplay(terminal(100), clock=lambda: now[0])
    drawn = []

    def picture(original=live.picture):
        drawn.append(now[0])
        now[0] += 0.01  # seconds that a drawing takes
        return original()

    live.picture = picture
    for one in run(n_steps=10_000, every=100):
        live(one)
        now[0] += 0.002
    pauses = [after - before for before, after in itertools.pairwise(drawn)]
    assert min(pauses) >= SHORTEST_PAUSE
    assert 0.01 * len(drawn) <= (LARGEST_SHARE * now[0]) + 0.02  # two more drawings: the first and the last


def test_the_end_is_always_drawn():
    console = terminal(100)
    live = LiveDisplay(console, clock=lambda: 0.0)  # no time passes: nothing after the first drawing is due
    for one in run():
        live(one)
    assert "step 40/80" not in shown(console)
    live(stop())
    assert "step 40/80" in shown(console)
    assert "finished" in shown(console)


def test_what_comes_after_the_stop_is_printed_as_lines():
    console = terminal(100)
    live = LiveDisplay(console)
    for one in [*run(), stop(), event("eval", step=40, split="test", scores={"mae": 0.5}, is_best=False)]:
        live(one)
    assert shown(console).rstrip().endswith("test   step 40  mae 0.5")


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, SystemExit])
def test_an_exception_restores_the_terminal_and_goes_on(error):
    console = terminal(100)
    stdout, stderr = sys.stdout, sys.stderr

    def stopped_by_error(tell):
        for one in run():
            tell(one)
        raise error

    with pytest.raises(error), Broadcast(LiveDisplay(console)) as tell:
        stopped_by_error(tell)
    assert shown(console).count(HIDE_CURSOR) == 1
    assert shown(console).endswith(SHOW_CURSOR)
    assert (sys.stdout, sys.stderr) == (stdout, stderr)


def test_an_interrupt_while_drawing_is_not_swallowed():
    console = terminal(100)
    now = [0.0]
    live = LiveDisplay(console, clock=lambda: now[0])

    def interrupted():
        raise KeyboardInterrupt

    start, *_, fault = run()
    live(start)
    live.picture = interrupted
    now[0] += SHORTEST_PAUSE
    with pytest.raises(KeyboardInterrupt):
        live(fault)


def test_a_lost_terminal_silences_the_display_and_not_the_run():
    class Gone(io.StringIO):
        lost = False

        def write(self, text):
            if self.lost:
                raise OSError(5, "Input/output error")
            return super().write(text)

    stream = Gone()
    live = LiveDisplay(Console(file=stream, force_terminal=True, width=80, height=24), clock=seconds(1.0))
    plain = PlainLines(stream)
    for number, one in enumerate([*run(), event("note", message="still here"), stop()]):
        stream.lost = number > 5
        live(one)
        plain(one)
    live.close()


def test_plain_lines_tell_each_event_on_its_own_line():
    stream = io.StringIO()
    events = [
        *run(),
        event("save", step=40, path="last", seconds=0.1),
        event("note", message="two\nlines\x1b[2J"),
        stop(),
    ]
    plain = PlainLines(stream, clock=seconds(1.0))
    for one in events:
        plain(one)
    lines = stream.getvalue().splitlines()
    assert [line.split()[0] for line in lines] == [{"eval": "valid"}.get(one["event"], one["event"]) for one in events]
    assert "\x1b" not in stream.getvalue()
    assert "best so far" in next(line for line in lines if line.startswith("valid"))
    assert lines[-1] == "stop   finished at step 40 after 4 min 05 s"


def test_plain_lines_fit_the_encoding_of_the_stream():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    PlainLines(stream)(event("note", message="0.1 Å"))
    assert stream.buffer.getvalue() == b"note   0.1 ?\n"  # type: ignore[attr-defined]


def test_time_left_is_what_remains_at_the_speed_so_far():
    now = [100.0]
    standing = Standing(lambda: now[0])
    standing.take(event("start", steps_per_epoch=10, epochs=10, resumed_at=20))
    now[0] += 50  # seconds of warming up, which say nothing about the steps to come
    for number in range(21, 41):
        standing.take(event("step", step=number, epoch=number // 10))
        now[0] += 2.0
    assert standing.seconds_left == pytest.approx(60 * 40 / 19)


def test_the_display_is_live_on_terminals_only(monkeypatch):
    assert isinstance(display(terminal(80)), LiveDisplay)
    assert isinstance(display(Console(file=io.StringIO())), PlainLines)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert isinstance(display(), PlainLines)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(display(terminal(80)), PlainLines)


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudo-terminal")
def test_ctrl_c_on_a_real_terminal_ends_the_run_and_shows_the_cursor():
    code = """
import time
from isometry.display import LiveDisplay, display
from isometry.events import Broadcast, event
shows = display()
assert isinstance(shows, LiveDisplay)
with Broadcast(shows) as tell:
    tell(event("start", app="toy"))
    while True:
        tell(event("step", step=1, epoch=0, loss=0.5))
        time.sleep(0.01)
"""
    control, screen = os.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
    # A test run in the background ignores SIGINT, and what it starts inherits that; a terminal's programs do not.
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stderr=screen,
        stdout=subprocess.PIPE,
        env=environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    seen = b""
    while b"0.5" not in seen:
        seen += os.read(control, 1024)
    process.send_signal(signal.SIGINT)
    os.close(screen)
    while chunk := _read(control):
        seen += chunk
    assert process.wait() in (-signal.SIGINT, 130)
    assert seen.rfind(SHOW_CURSOR.encode()) > seen.rfind(HIDE_CURSOR.encode())
    assert b"KeyboardInterrupt" in seen


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1024)
    except OSError:  # the other end is closed
        return b""
