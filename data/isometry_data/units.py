"""Amounts written with a unit, "10 ng/mL" or "333nM", as numbers in one unit."""

from __future__ import annotations

import re
from typing import NamedTuple

# unit, in lower letters without spaces -> kind, and how many of the kind's smallest unit
_SCALES = {
    "mass per volume": {"pg": 1e-3, "ng": 1.0, "ug": 1e3, "mg": 1e6, "g": 1e9},  # ng/mL
    "molar": {"pm": 1e-3, "nm": 1.0, "um": 1e3, "mm": 1e6, "m": 1e9},  # nM
}
# No unit begins with a comma, a point or a dash: "0,5" and "10-20" are no amounts.
_WRITTEN = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*([^\d\s.,;:+\-–].*?)?\s*")
_COMMA = re.compile(r"\s*[-+]?\d*,\d+(?:[eE][-+]?\d+)?\s*([^\d\s.,;:+\-–].*?)?\s*")


class Unit(NamedTuple):
    """A unit as it was written, what kind it is of, and its size among its kind."""

    name: str
    kind: str
    size: float


def unit(name: str) -> Unit:
    """The unit of that name; one that is not known is a kind of its own."""
    plain = name.replace("µ", "u").replace("μ", "u").replace(" ", "").lower()
    for per, factor in (("/ml", 1.0), ("/l", 1e-3), ("_ml", 1.0)):
        mass = plain.removesuffix(per)
        if mass != plain and mass in _SCALES["mass per volume"]:
            return Unit(name.strip(), "mass per volume", _SCALES["mass per volume"][mass] * factor)
    # A bare mass is a dose too, as in "100ng"; "nm" and "mm" are concentrations here, never lengths.
    for kind, scale in _SCALES.items():
        if plain in scale and plain != "g":
            return Unit(name.strip(), kind, scale[plain])
    return Unit(name.strip(), plain, 1.0)


def amount(text: str) -> tuple[float, str] | None:
    """A number and the unit behind it ("" where none is written); None where the text is no amount."""
    found = _WRITTEN.fullmatch(text)
    return (float(found[1]), found[2] or "") if found else None


def has_comma(text: str) -> bool:
    """Whether it would be an amount if its comma were a point: "0,5" or "1,5 ng/mL", also "1,000"."""
    return _COMMA.fullmatch(text) is not None


def unit_of_header(header: str) -> str:
    """The unit that a column's name ends with, "dose_ng_ml" or "iptg_uM" or "dose (nM)"; "" where it names none."""
    found = re.search(r"(?:[_ (\[])((?:[pnuµm]?g)[ _/]?(?:per)?[ _/]?m?[lL]|[pnuµm]?M)[)\]]?$", header)
    if found is None:
        return ""
    written = found[1].replace("_", "/").replace(" ", "/").replace("per", "").replace("//", "/")
    return re.sub("/m?l$", lambda per: per[0].upper().replace("M", "m"), written)
