"""Which app with which settings a command line means: preset, then TOML file, then flags."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from isometry.app import App, load_app, preset

EXIT_BAD_INPUT = 2


def add_choice(parser: argparse.ArgumentParser) -> None:
    """APP, --preset, --config and --help; every other flag is a setting of the app. Make `parser` without help."""
    parser.add_argument("app", metavar="APP", nargs="?")
    parser.add_argument("--preset", default="tiny", help="ready-made settings to start from (default: tiny)")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="a TOML file with settings that differ from the preset"
    )
    parser.add_argument("-h", "--help", action="store_true", help="with APP: every setting of the app")
    parser.set_defaults(takes_settings=True, parser=parser)


def with_choice(run: Callable[[argparse.Namespace, App, Any], int]) -> Callable[[argparse.Namespace, list[str]], int]:
    """A command's `run` from what it does with the chosen app and settings; without an app it prints the help."""

    def chosen_first(options: argparse.Namespace, flags: list[str]) -> int:
        choice = chosen(options, flags)
        if choice is None:
            return 0 if options.help else EXIT_BAD_INPUT
        return run(options, *choice)

    return chosen_first


def chosen(options: argparse.Namespace, flags: list[str]) -> tuple[App, Any] | None:
    """The app and its settings; each source changes what it names and nothing else. None: the help was printed.

    Raises:
        ValueError: one line for an unknown app, preset, setting or value.
    """
    if options.app is None:
        options.parser.print_help()
        return None
    app = load_app(options.app)
    from isometry.flags import with_flags
    from isometry.settings import merged, read_toml, validated

    settings = preset(app, options.preset)
    if options.config is not None:
        values = merged(settings.model_dump(), read_toml(options.config))
        settings = validated(app.settings, values, str(options.config))
    program = f"{options.parser.prog} {app.name}"
    return app, with_flags(settings, ["--help"] if options.help else flags, program)
