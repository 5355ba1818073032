"""Events: what happens in a run, said once and heard by every listener.

An event is one flat dict with "event" (its name) and "time" (unix seconds); a listener is any callable that takes one.
The ledger writes them as JSON lines, TensorBoard as scalars; the display and the report read the same dicts.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

Event = dict[str, Any]
Listener = Callable[[Event], None]

# JSON has no number for these; the strings are the ones protobuf's JSON mapping uses.
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def event(name: str, /, **fields: Any) -> Event:
    """An event of that name, stamped with the time. A field may be called anything, `kind` included."""
    return {"event": name, "time": time.time(), **fields}


class Broadcast:
    """One call, every listener, in the order given. As a context manager it closes those that have a `close`."""

    def __init__(self, *listeners: Listener) -> None:
        self.listeners = list(listeners)

    def __call__(self, event: Event) -> None:
        for listener in self.listeners:
            listener(event)

    def close(self) -> None:
        """Close every listener that can be closed, the last first, even when one of them fails."""
        with ExitStack() as stack:
            for listener in self.listeners:
                stack.callback(getattr(listener, "close", lambda: None))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Ledger:
    """Appends each event to a file as one line of JSON, handed to the operating system before the call returns.

    A line counts once its newline is written: opening a file drops a torn last line. A checkpoint keeps `sync()`, the
    bytes written so far; the run that resumes from it calls `truncate_to` with that number, so that no step is told
    twice. NaN and infinities are written as the strings "NaN", "Infinity", "-Infinity".
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115 (open for the life of the ledger)
        self.truncate_to(os.fstat(self._file.fileno()).st_size)

    @property
    def offset(self) -> int:
        """Bytes of whole lines in the file."""
        return self._offset

    def __call__(self, event: Event) -> None:
        """Write one line. Raises OSError naming the file when it cannot, and leaves no part of the line behind."""
        line = memoryview(encode(event))
        try:
            rest = line
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            os.ftruncate(self._file.fileno(), self._offset)
            reason = f"{error.strerror}: the event log cannot grow; free some space and run the same command again"
            raise OSError(error.errno, reason, str(self.path)) from None
        self._offset += len(line)

    def sync(self) -> int:
        """Force every line onto the disk; returns `offset`, to be kept in a checkpoint."""
        os.fsync(self._file.fileno())
        return self._offset

    def truncate_to(self, offset: int) -> None:
        """Drop every line that ends after byte `offset`. A shorter file stays as it is, less a torn last line."""
        if offset < 0:
            raise ValueError(f"{self.path}: cannot truncate to {offset} bytes, expected 0 or more")
        self._offset = self.path.read_bytes().rfind(b"\n", 0, offset) + 1
        os.ftruncate(self._file.fileno(), self._offset)

    def close(self) -> None:
        self._file.close()


class TensorBoard:
    """Writes numbers and faults of a run as TensorBoard event files into `folder`.

    `resumed_at` is the step of the checkpoint a run resumes from: TensorBoard forgets what it saw after it.
    """

    def __init__(self, folder: str | Path, *, resumed_at: int | None = None) -> None:
        # Imported here: TensorBoard takes seconds to import and most runs do without.
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=None if resumed_at is None else resumed_at + 1)

    def __call__(self, event: Event) -> None:
        match event["event"]:
            case "start":
                self._text("settings", json.dumps(plain(event.get("settings")), indent=2), event)
            case "step":
                self._numbers("train", event, ("loss", "rate", "gradient_norm", "scale", "samples_per_s"), "parts")
            case "eval":
                self._numbers(event.get("split", "valid"), event, ("loss", "mean_square_gradient"), "scores")
                self._writer.flush()
            case "health":
                self._health(event)
            case "fault" | "note" as name:
                self._text(name, json.dumps(plain(event)), event)
            case "save" | "stop":
                self._writer.flush()

    def close(self) -> None:
        self._writer.close()

    def _numbers(self, group: str, event: Event, names: tuple[str, ...], section: str) -> None:
        numbers = {name: event.get(name) for name in names} | (event.get(section) or {})
        for name, value in numbers.items():
            if value is not None:
                self._writer.add_scalar(f"{group}/{name}", float(value), event["step"], event["time"])

    def _health(self, event: Event) -> None:
        layers = event.get("layers") or {}
        by_layer = {f"{what}/{name}": x for name, seen in layers.items() for what, x in seen.items()}
        self._numbers("health", {**event, "by layer": by_layer}, ("spread", "n_zero"), "by layer")
        if event.get("findings"):
            self._text("health", json.dumps(plain(event["findings"]), indent=2), event)

    def _text(self, tag: str, text: str, event: Event) -> None:
        indented = "\n".join("    " + line for line in text.splitlines())  # a code block in Markdown
        self._writer.add_text(tag, indented, event.get("step", event.get("resumed_at") or 0), event["time"])


def encode(event: Event) -> bytes:
    """One event as one line of strict JSON in ASCII. Arrays and tensors become lists, paths and others text."""
    try:
        text = json.dumps(event, allow_nan=False)
    except (TypeError, ValueError):
        text = json.dumps(plain(event), allow_nan=False)
    return text.encode("ascii") + b"\n"


def read_events(path: str | Path) -> list[Event]:
    """Every whole line of a ledger; a torn or unreadable last line is passed over, as a killed writer leaves it.

    Raises FileNotFoundError without a file, ValueError naming the line where an earlier one is not an event.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no event log here; expected the events.jsonl of a run folder")
    lines = path.read_bytes().split(b"\n")[:-1]
    events = [_decode(line) for line in lines]
    if events and events[-1] is None:
        events.pop()
    if None in events:
        row = events.index(None)
        raise ValueError(f"{path}, line {row + 1}: found {lines[row][:60]!r}, expected one event as a JSON object")
    return [event for event in events if event is not None]


def seconds_trained(events: list[Event]) -> float:
    """From each start to the last event before the next one: the time a stopped run lay still does not count."""
    firsts = [place for place, event in enumerate(events) if event["event"] == "start"]
    ends = [*(place - 1 for place in firsts[1:]), len(events) - 1]
    return sum(max(events[end]["time"] - events[first]["time"], 0.0) for first, end in zip(firsts, ends, strict=True))


def _decode(line: bytes) -> Event | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    if not isinstance(found, dict) or "event" not in found:
        return None
    return _revived(found) if b'"NaN"' in line or b'Infinity"' in line else found


def as_json(value: Any) -> str:
    """Results as strict JSON to be read by people too; what is no number is spelled as in the event log."""
    return json.dumps(plain(value), indent=2, allow_nan=False)


def plain(value: Any) -> Any:
    """`value` in the types JSON knows."""
    if isinstance(value, dict):
        return {str(key): plain(below) for key, below in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(below) for below in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else _spell(value)
    if value is None or isinstance(value, str | int):
        return value
    return plain(value.tolist()) if hasattr(value, "tolist") else str(value)


def _spell(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _revived(value: Any) -> Any:
    """The reverse of `_spell`, all through an event."""
    if isinstance(value, dict):
        return {key: _revived(below) for key, below in value.items()}
    if isinstance(value, list):
        return [_revived(below) for below in value]
    return _NOT_FINITE.get(value, value) if isinstance(value, str) else value
