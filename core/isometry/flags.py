"""Settings as command-line flags: `--optim.rate 1e-3` changes that field and leaves its siblings as they are."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import TypeVar

import tyro
from pydantic import ValidationError

from isometry.settings import Settings, explained

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
    """tyro frames its complaint in a box of several lines; this is its text alone."""
    frame = str.maketrans("", "", "╭╮╰╯─│┌┐└┘")
    text = " ".join(said.translate(frame).split())
    return text.partition("For full helptext")[0].strip() or "the flags could not be read"
