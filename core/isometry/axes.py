"""Axes: which settings a sweep walks over, and the points at which it stops.

optim.decay=1e-6:1e-1        a range, evenly spaced in the logarithm
model.width=8:64             a range of whole numbers, because the setting is one
optim.name=adamw,muon        exactly these
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

from isometry.settings import Settings

N_DIGITS = 6  # significant digits of a point; what is tabulated is what was trained


@dataclass(frozen=True)
class Axis:
    """One setting and where it is tried: from `low` to `high`, or at each of `choices` (as typed)."""

    setting: str
    low: float = math.nan
    high: float = math.nan
    is_integer: bool = False
    is_log: bool = True
    choices: tuple[str, ...] = ()

    @property
    def is_range(self) -> bool:
        return not self.choices

    def at(self, share: float) -> float | int:
        """The value at that share of the way, 0 to 1; the ends exactly."""
        if share in (0, 1):
            value = self.high if share else self.low
        elif self.is_log:
            value = math.exp(math.log(self.low) + share * math.log(self.high / self.low))
        else:
            value = self.low + share * (self.high - self.low)
        value = min(max(float(f"{value:.{N_DIGITS}g}"), self.low), self.high) if share not in (0, 1) else value
        return round(value) if self.is_integer else value

    def value(self, typed: Any) -> Any:
        """A choice as a setting takes it; numbers of a range stay as they are."""
        if not isinstance(typed, str) or typed == "None":
            return None if typed == "None" else typed
        return typed.split() if " " in typed else typed

    def numbers(self) -> bool:
        """Whether every point is a number, so that points have an order and a distance."""
        return self.is_range or all(_is_number(choice) for choice in self.choices)


def read_axis(text: str, settings: Settings, *, is_linear: bool = False) -> Axis:
    """An axis as typed: SETTING=LOW:HIGH or SETTING=A,B,C.

    Raises:
        ValueError: one line; the setting is unknown, or does not take these values.
    """
    name, equals, values = text.partition("=")
    name = name.strip().replace("-", "_")
    if not equals or not name or not values.strip():
        raise ValueError(f"--over {text}: expected SETTING=LOW:HIGH or SETTING=A,B,C, as in optim.decay=1e-6:1e-1")
    if name == "seed":
        raise ValueError(f"--over {text}: every point is trained with several seeds anyway; say how many by --seeds")
    kinds = _kinds(name, settings)
    is_range = ":" in values and "," not in values
    axis = _range(text, name, values, kinds, is_linear) if is_range else _choices(name, values, is_linear)
    for typed in (axis.at(0), axis.at(1)) if is_range else axis.choices:
        with_values(settings, [axis], {name: typed})
    return axis


def read_axes(texts: Sequence[str], settings: Settings, *, is_linear: bool = False) -> list[Axis]:
    """All axes of a sweep. Raises ValueError as `read_axis`, and for a setting that is named twice."""
    axes = [read_axis(text, settings, is_linear=is_linear) for text in texts]
    names = [axis.setting for axis in axes]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"--over names {', '.join(names) or 'no setting'}; expected one or more, each once")
    return axes


def points(axes: Sequence[Axis], n: int) -> list[dict[str, Any]]:
    """The points of a sweep: every combination of the choices, with `n` points of the ranges each.

    One range is cut evenly; several are filled by a Halton sequence, which leaves no corner empty. Whole numbers that
    coincide are tried once.
    """
    if n < 2:
        raise ValueError(f"--trials {n}: a range needs at least 2 points")
    ranges = [axis for axis in axes if axis.is_range]
    lists = [axis for axis in axes if not axis.is_range]
    combined = [
        {axis.setting: choice for axis, choice in zip(lists, chosen, strict=True)}
        | {axis.setting: axis.at(share) for axis, share in zip(ranges, shares, strict=True)}
        for chosen in itertools.product(*(axis.choices for axis in lists))
        for shares in _shares(len(ranges), n)
    ]
    return [point for place, point in enumerate(combined) if point not in combined[:place]]


def with_values(settings: Any, axes: Sequence[Axis], point: dict[str, Any]) -> Any:
    """The settings at a point. Raises ValueError where they do not fit together."""
    changes: dict[str, Any] = {}
    for axis in axes:
        *sections, last = axis.setting.split(".")
        below = changes
        for section in sections:
            below = below.setdefault(section, {})
        below[last] = axis.value(point[axis.setting])
    return settings.changed(**changes)


def _shares(n_ranges: int, n: int) -> list[tuple[float, ...]]:
    if n_ranges == 0:
        return [()]
    if n_ranges == 1:
        return [(place / (n - 1),) for place in range(n)]
    from scipy.stats.qmc import Halton

    # Unscrambled, so that every version draws the same points; the first one is the corner of all lower ends.
    return [tuple(map(float, row)) for row in Halton(n_ranges, scramble=False).random(n + 1)[1:]]


def _range(text: str, name: str, values: str, kinds: set[Any], is_linear: bool) -> Axis:
    ends = values.split(":")
    if len(ends) != 2 or not all(_is_number(end) for end in ends):
        raise ValueError(f"--over {text}: found '{values}', expected two numbers LOW:HIGH")
    if not kinds & {int, float}:
        raise ValueError(f"--over {text}: '{name}' is no number; list its values with commas")
    low, high = map(float, ends)
    if not low < high:
        raise ValueError(f"--over {text}: LOW must be below HIGH")
    if low <= 0 and not is_linear:
        raise ValueError(f"--over {text}: a range in the logarithm begins above 0; raise LOW, or say --linear")
    is_integer = float not in kinds
    if is_integer and not (low.is_integer() and high.is_integer()):
        raise ValueError(f"--over {text}: '{name}' takes whole numbers")
    return Axis(name, low, high, is_integer=is_integer, is_log=not is_linear)


def _choices(name: str, values: str, is_linear: bool) -> Axis:
    choices = tuple(dict.fromkeys(value.strip() for value in values.split(",") if value.strip()))
    axis = Axis(name, is_log=not is_linear, choices=choices)
    if not axis.numbers():
        return axis
    choices = tuple(sorted(choices, key=float))
    return Axis(name, is_log=axis.is_log and float(choices[0]) > 0, choices=choices)


def _kinds(name: str, settings: Any) -> set[Any]:
    """The types that a setting takes. Raises ValueError, with the nearest name, if there is no such setting."""
    *sections, last = name.split(".")
    section = settings
    for part in sections:
        section = getattr(section, part, None)
    fields = getattr(type(section), "model_fields", {})
    if last not in fields:
        changes: dict[str, Any] = {last: None}
        for part in reversed(sections):
            changes = {part: changes}
        settings.changed(**changes)  # its complaint names what is near
        raise ValueError(f"--over {name}: no such setting")
    if isinstance(getattr(section, last), Settings):
        below = ", ".join(f"{name}.{field}" for field in type(getattr(section, last)).model_fields)
        raise ValueError(f"--over {name}: a section, expected one of its settings: {below}")
    return _leaves(fields[last].annotation)


def _leaves(annotation: Any) -> set[Any]:
    arguments = get_args(annotation)
    return (
        set().union(*map(_leaves, arguments)) if arguments else {annotation} if isinstance(annotation, type) else set()
    )


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
