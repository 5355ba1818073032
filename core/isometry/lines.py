"""A run as lines of text, one per event, and where a run stands, folded from its events."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import IO, Any

from isometry.events import Event
from isometry.spell import duration, number, one_line


class Standing:
    """Where a run stands after the events taken so far; `clock` gives seconds that never jump."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.start: Event = {}
        self.step: Event = {}
        self.stop: Event = {}
        self.best: Event | None = None
        self.evaluations: deque[Event] = deque(maxlen=50)
        self.faults: deque[Event] = deque(maxlen=3)
        self.n_faults = 0
        self._clock = clock
        self._began = clock()
        self._anchor = (0, self._began)  # step and seconds that the speed is measured from

    def take(self, event: Event) -> None:
        match event["event"]:
            case "start":
                self.start = event
                self._began = self._clock()
            case "step":
                # The first step is left out of the speed: what comes before it happens once.
                self._anchor = self._anchor if self.step else (event["step"], self._clock())
                self.step = event
            case "eval":
                self.evaluations.append(event)
                self.best = event if event.get("is_best") else self.best
            case "fault":
                self.faults.append(event)
                self.n_faults += 1
            case "stop":
                self.stop = event

    @property
    def n_steps(self) -> int | None:
        """Steps of the whole run, None where it is not known."""
        return (self.start.get("steps_per_epoch") or 0) * (self.start.get("epochs") or 0) or None

    @property
    def seconds(self) -> float:
        """Since the start, or since the run was resumed."""
        return self._clock() - self._began

    @property
    def seconds_left(self) -> float | None:
        """At the mean speed so far, evaluations included; None before there is one."""
        done = self.step.get("step", 0) - self._anchor[0]
        if done <= 0 or self.n_steps is None:
            return None
        return max(self.n_steps - self.step["step"], 0) * (self._clock() - self._anchor[1]) / done


class PlainLines:
    """One line of text per event, for logs and pipes. A stream that went away is left alone: the run goes on."""

    def __init__(self, stream: IO[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._stream: IO[str] | None = stream
        self._standing = Standing(clock)

    def __call__(self, event: Event) -> None:
        self._standing.take(event)
        if self._stream is None:
            return
        line = plain(event, self._standing)
        if not line:
            return
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        try:
            print(line.encode(encoding, "replace").decode(encoding), file=self._stream, flush=True)
        except (OSError, ValueError):
            self._stream = None


def plain(event: Event, standing: Standing) -> str:
    """One event as one line of text, whatever fields are missing; a look at the network's health as one for each of
    its findings, which may be none."""
    match event["event"]:
        case "start":
            return f"start  {', '.join(facts_of(event))}"
        case "step":
            return _step_line(event, standing)
        case "eval":
            return _evaluation_line(event)
        case "fault":
            return f"fault  {fault_line(event)}"
        case "save":
            seconds = number(event.get("seconds"), 2)
            return f"save   step {number(event.get('step'))}  {one_line(event.get('path', ''))}  {seconds} s"
        case "stop":
            return _stop_line(event)
        case "health":
            return "\n".join(f"health {line}" for line in finding_lines(event))
        case name:
            return f"{one_line(name):<5}  {one_line(event.get('message', ''))}"


def facts_of(start: Event) -> list[str]:
    """What a start event says of its run, each fact in a few words."""
    counts = [("n_parameters", "parameters"), ("n_train", "training records"), ("n_valid", "validation records")]
    facts = [start[key] for key in ("app", "run") if start.get(key)]
    facts += [f"{number(start[key])} {what}" for key, what in counts if start.get(key) is not None]
    facts += [start[key] for key in ("device", "precision") if start.get(key)]
    facts += [f"resumed at step {number(start['resumed_at'])}"] if start.get("resumed_at") else []
    return [one_line(fact) for fact in facts]


def epoch_of(event: Event, standing: Standing) -> str:
    epochs = standing.start.get("epochs")
    return f"epoch {number(event.get('epoch'))}" + (f"/{number(epochs)}" if epochs else "")


def gauges_of(step: Event) -> list[tuple[str, str]]:
    """The numbers of a step event, as (name, text): loss, its parts, rate, gradient norm, loss scale, speed."""
    pairs = [("loss", step.get("loss")), *(step.get("parts") or {}).items()]
    pairs += [(key.replace("_", " "), step.get(key)) for key in ("rate", "gradient_norm", "scale")]
    told = [(one_line(name), number(value)) for name, value in pairs if value is not None]
    speed = step.get("samples_per_s")
    return told if speed is None else [*told, ("samples/s", number(speed, 3))]


def scores_of(evaluation: Event) -> dict[str, Any]:
    """The loss, where there is one, and the overall scores; those of a group ("aimd/mae") are for tables."""
    loss = {"loss": evaluation["loss"]} if evaluation.get("loss") is not None else {}
    scores = (evaluation.get("scores") or {}).items()
    return loss | {one_line(name): value for name, value in scores if "/" not in name}


def fault_line(fault: Event) -> str:
    records = ", ".join(map(str, fault.get("records") or []))
    where = f"  records: {records}" if records else ""
    return one_line(f"step {number(fault.get('step'))}  {fault.get('kind')}: {fault.get('message', '')}{where}")


def finding_lines(health: Event) -> list[str]:
    """Each finding of a look at the network in one line."""
    step = number(health.get("step"))
    return [
        one_line(
            f"step {step}  {found.get('name')} in {found.get('where')}: {found.get('reason')} {found.get('remedy')}"
        )
        for found in health.get("findings") or []
    ]


def _step_line(event: Event, standing: Standing) -> str:
    gauges = "  ".join(f"{name} {value}" for name, value in gauges_of(event))
    left = standing.seconds_left
    ending = "" if left is None else f"  left {duration(left)}"
    return f"step   {number(event.get('step'))}  {epoch_of(event, standing)}  {gauges}{ending}"


def _evaluation_line(event: Event) -> str:
    scores = "  ".join(f"{name} {number(value)}" for name, value in scores_of(event).items())
    mark = "  (best so far)" if event.get("is_best") else ""
    return f"{one_line(event.get('split', 'valid')):<5}  step {number(event.get('step'))}  {scores}{mark}"


def _stop_line(event: Event) -> str:
    message = f": {event['message']}" if event.get("message") else ""
    took = duration(event.get("seconds"))
    return one_line(f"stop   {event.get('reason')} at step {number(event.get('step'))} after {took}{message}")
