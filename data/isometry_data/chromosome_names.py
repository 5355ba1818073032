"""Names of chromosomes that are written in several ways: which one was probably meant."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches

SHOWN = 5  # names in a message
MOST_COMPARED = 10_000  # names
_ROMAN = ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII", "XIII", "XIV", "XV", "XVI"]
_ROMAN_FOR_SURE = {number for number in _ROMAN if len(number) > 1}
_MITOCHONDRION = {"M", "MT", "MITO", "MITOCHONDRION"}


def unknown_name(name: str, known: Collection[str], holder: str) -> str:
    """What to say of a name that `holder` (a file) does not have: what it has, and which of that was perhaps meant."""
    meant = probable_name(name, known)
    listed = ", ".join(list(known)[:SHOWN]) + (f" and {len(known) - SHOWN} more" if len(known) > SHOWN else "")
    return f"no sequence {name!r} in {holder}, which has {listed}" + (f"; did you mean {meant!r}?" if meant else "")


def probable_name(name: str, known: Collection[str]) -> str | None:
    """The name among `known` that means the same ("chr1", "1"; "chrM", "MT"; "chrIV", "4"; with a version), else a
    similar one, else None.
    """
    candidates = list(known)[:MOST_COMPARED]
    for is_roman in (False, True):
        essences = {_essence(candidate, is_roman): candidate for candidate in reversed(candidates)}
        if is_roman and not _ROMAN_FOR_SURE & {_essence(each, False) for each in (name, *candidates)}:
            break  # X and V may be letters
        if meant := essences.get(_essence(name, is_roman)):
            return meant
    close = get_close_matches(name, candidates, n=1, cutoff=0.8)
    return close[0] if close else None


def _essence(name: str, is_roman: bool) -> str:
    """Without "chr", version and case; Roman numbers of yeast as Arabic ones where asked."""
    short = name.upper().removeprefix("CHROMOSOME").removeprefix("CHR").strip("_ ")
    stem, _, version = short.rpartition(".")
    short = stem if stem and version.isdigit() else short
    if short in _MITOCHONDRION:
        return "M"
    return str(_ROMAN.index(short) + 1) if is_roman and short in _ROMAN else short
