"""Settings: immutable, complete, and intolerant of a key they do not know.

A run's settings start as a preset, may be changed by a TOML file, then by flags; what was not named keeps the preset's
value. The same object is stored with every checkpoint.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError


class Settings(BaseModel):
    """Base of every settings class: frozen, unknown keys are errors, numbers must be finite where they matter."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True)

    def changed(self, **changes: Any) -> Self:
        """A copy with some fields replaced and everything checked again; nested dicts reach into sections.

        >>> settings.changed(optim={"rate": 1e-3})  # the other fields of `optim` stay
        """
        return validated(type(self), merged(self.model_dump(), changes), "settings")


AnySettings = TypeVar("AnySettings", bound=Settings)


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with `changes` laid over it, section by section: a sibling of a changed field keeps its value."""
    result = dict(base)
    for key, value in changes.items():
        below = result.get(key)
        result[key] = merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return result


def validated(cls: type[AnySettings], values: dict[str, Any], where: str) -> AnySettings:
    """`values` as checked settings. Raises ValueError with one line naming place, key, value and what was expected."""
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        raise ValueError(f"{where}: {explained(error, cls)}") from None


def read_toml(path: str | Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises ValueError or FileNotFoundError with one clear line."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such settings file")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid TOML: {error}") from None


def canonical_json(values: dict[str, Any]) -> str:
    """One spelling for equal settings: sorted keys, no spaces."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"))


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """The dotted keys under which two dumps differ, each as "key: old -> new"."""
    rows: list[str] = []
    for key in sorted(old.keys() | new.keys()):
        left, right = old.get(key), new.get(key)
        if isinstance(left, dict) and isinstance(right, dict):
            rows += differences(left, right, f"{prefix}{key}.")
        elif left != right:
            rows.append(f"{prefix}{key}: {left!r} -> {right!r}")
    return rows


def explained(error: ValidationError, cls: type[BaseModel]) -> str:
    """The first complaints of pydantic in one line: key, what was found, what was expected."""
    return "; ".join(_explain(item, cls) for item in error.errors()[:3])


def _explain(item: Any, cls: type[BaseModel]) -> str:
    key = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        return f"unknown key '{key}'{_nearest(item['loc'], cls)}"
    if item["type"] == "missing":
        return f"'{key}' is missing"
    return f"'{key}' is {item['input']!r}: {item['msg'][0].lower()}{item['msg'][1:]}"


def _nearest(location: tuple[Any, ...], cls: type[BaseModel]) -> str:
    section: Any = cls
    for part in location[:-1]:
        field = getattr(section, "model_fields", {}).get(part)
        section = getattr(field, "annotation", None)
    known = list(getattr(section, "model_fields", {}))
    close = difflib.get_close_matches(str(location[-1]), known, n=1)
    return f", did you mean '{close[0]}'?" if close else f"; known here: {', '.join(known)}"
