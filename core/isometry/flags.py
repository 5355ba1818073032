"""Settings as command-line flags: `--optim.rate 1e-3` changes that field and leaves its siblings as they are."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Sequence
from typing import TypeVar

import tyro
from pydantic import ValidationError

from isometry.settings import Settings, explained

_FRAME = str.maketrans("", "", "╭╮╰╯─│┌┐└┘")

AnySettings = TypeVar("AnySettings", bound=Settings)


def with_flags(settings: AnySettings, flags: Sequence[str], program: str) -> AnySettings:
    """`settings` with the fields that flags name; `--help` prints every field with its present value and exits.

    Raises:
        ValueError: one line for an unknown flag or a value of the wrong kind.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(type(settings), default=settings, args=list(flags), prog=program)
    except SystemExit as exit:
        if exit.code in (0, None):
            raise
        raise ValueError(_one_line(said.getvalue())) from None
    except ValidationError as error:
        raise ValueError(f"flags: {explained(error, type(settings))}") from None


def _one_line(said: str) -> str:
    """tyro's complaint without its frame, its help texts and its titles."""
    text = " ".join(re.sub(r"[-+]{4,}|(?<!\S)[|](?!\S)", " ", said.translate(_FRAME)).split())  # ASCII frames, too
    endings = r"(?: Perhaps you meant:? (--[\w.-]+)| Similar| For full|$)"
    if unknown := re.search(rf"Unrecognized options: (.*?){endings}", text):
        near = f"; did you mean {unknown[2]}?" if unknown[2] else "; --help lists them all"
        return f"unknown option {unknown[1].rstrip(' .')}{near}"
    text = re.split(r"Argument helptext|For full helptext|For further information|\[type=", text)[0]
    text = re.sub(r"^(Value error|Parsing error|Invalid choice) ", "", text.strip()).removeprefix("Error parsing ")
    text = re.sub(r"1 validation error for \w+ ", "", text)
    return f"flags: {text.strip() or 'could not be read'}"
