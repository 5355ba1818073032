"""The command line, the same for every app.

    isometry apps
    isometry train APP [--preset P] [--config FILE] [--out DIR] [settings as flags]
    isometry evaluate APP RUN [--with RUN ...] [FILE ...]
    isometry predict APP RUN [--with RUN ...] FILE ... [--out FILE]
    isometry export APP RUN DIR [--half]

    isometry doctor APP [--preset P] [--fix] [settings as flags]
    isometry rate APP [--preset P] [settings as flags]
    isometry sweep APP --over SETTING=LOW:HIGH [--preset P] [settings as flags]
    isometry compare RUN RUN ...

and what an app adds: each module of its folder `verbs/` adds a command as those of `isometry.verbs` do.

Torch is imported only once an app is needed: help answers at once.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import isometry
from isometry.app import App, find_apps, find_verbs, load_app
from isometry.choice import EXIT_BAD_INPUT, add_choice, with_choice
from isometry.events import as_json
from isometry.table import print_rows
from isometry.verbs import compare, doctor, rate, sweep

VERBS: tuple[Any, ...] = (doctor, rate, sweep, compare)
"""Modules of `isometry.verbs`; each adds its parser by `add(commands)`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. A user error is one line on stderr (ISOMETRY_TRACEBACK=1: all)."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if hasattr(options, "files") and not any(word.startswith("-") for word in rest):
        options.files, rest = [*options.files, *map(Path, rest)], []  # argparse ends FILE ... at the first flag
    if rest and not getattr(options, "takes_settings", False):
        parser.error(f"unknown argument: {' '.join(rest)}")
    try:
        return options.run(options, rest)
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except (ValueError, OSError, FloatingPointError, RuntimeError) as error:
        return _failed(error)
    except KeyboardInterrupt:
        return _say("interrupted", 128 + signal.SIGINT)
    except Exception as error:
        if hasattr(error, "exit_code"):
            return _say(str(error), error.exit_code)  # type: ignore[attr-defined]
        raise


def script(app: str) -> None:
    """What `python apps/isometry_<app>/train.py [flags]` does: the same as `isometry train <app> [flags]`."""
    run(["train", app, *sys.argv[1:]])


def run(arguments: Sequence[str] | None = None) -> NoReturn:
    """`main` as a process of its own, which ends with its exit code."""
    code = main(arguments)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # Python is not taken down: a thread of the process group that lets go of its last exchange just then would
        # abort the process, and the others with it.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        sys.exit(_say(f"{message}; {self.prog} --help shows what is expected", EXIT_BAD_INPUT))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser("isometry", description=isometry.__doc__)
    parser.add_argument("--version", action="version", version=f"isometry {isometry.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    apps = commands.add_parser("apps", help="list the installed apps")
    apps.set_defaults(run=_apps)

    train = commands.add_parser("train", help="train an app, or go on with a run", add_help=False, allow_abbrev=False)
    add_choice(train)
    train.add_argument("--out", type=Path, metavar="DIR", help="the run's folder (default: runs/APP-PRESET)")
    train.set_defaults(run=_train)

    evaluate = commands.add_parser("evaluate", help="scores of a trained model on its test set or on labelled files")
    _add_model(evaluate)
    evaluate.add_argument("files", metavar="FILE", type=Path, nargs="*")
    evaluate.add_argument(
        "--bootstrap", type=int, metavar="N", help="95 %% intervals from N resamples of the records, 1000 for instance"
    )
    evaluate.set_defaults(run=_evaluate)

    predict = commands.add_parser("predict", help="predictions of a trained model for files")
    _add_model(predict)
    predict.add_argument("files", metavar="FILE", type=Path, nargs="+")
    predict.add_argument("--out", type=Path, metavar="FILE", help="where to write; the ending chooses the format")
    predict.add_argument(
        "--stride",
        type=int,
        metavar="N",
        help="how far apart windows of long records begin, where the app reads such (default: a sixteenth of a window)",
    )
    predict.set_defaults(run=_predict)

    export = commands.add_parser("export", help="the best checkpoint of a run without its training state, to share")
    export.add_argument("app", metavar="APP")
    export.add_argument("model", metavar="RUN", help="a run folder or a checkpoint folder")
    export.add_argument("folder", metavar="DIR", type=Path)
    export.add_argument("--half", action="store_true", help="weights in fp16, at half the size")
    export.set_defaults(run=_export)

    own = [verb.add(commands) for verb in VERBS]
    for command in (apps, train, evaluate, predict, export, *own, *_of_apps(commands)):
        command.add_argument("--json", action="store_true", help="print results as JSON")
    return parser


def _of_apps(commands: Any) -> Iterator[argparse.ArgumentParser]:
    """The parsers of the apps' own verbs. One that cannot be had is told, and hides no other."""
    for name, file in find_verbs():
        try:
            yield importlib.import_module(name).add(commands)
        except Exception as error:
            _say(f"{file}: this command cannot be had: {_one_line(error)}", EXIT_BAD_INPUT)


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("app", metavar="APP")
    parser.add_argument(
        "model", metavar="RUN", help="a run folder, a checkpoint folder, or a shipped checkpoint's name"
    )
    parser.add_argument(
        "--with", dest="others", metavar="RUN", action="append", default=[], help="average with this one; repeatable"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:<n> or mps")
    parser.add_argument("--dtype", default="fp32", choices=["fp32", "fp64"], help="number format of the computation")


def _apps(options: argparse.Namespace, _rest: list[str]) -> int:
    entries = find_apps().values()
    if options.json:
        print(as_json([{"name": e.name, "package": e.package, "summary": e.summary} for e in entries]))
        return 0
    for entry in entries:
        print(f"{entry.name:<12} {entry.summary}")
    if not entries:
        print("no app is installed")
    return 0


@with_choice
def _train(options: argparse.Namespace, app: App, settings: Any) -> int:
    from isometry.story import train

    out = options.out or Path("runs") / f"{app.name}-{options.preset}"
    trained = train(app, settings, out, is_quiet=options.json)
    if int(os.environ.get("RANK", "0")) == 0:
        _print_trained(trained, app.name, options.json)
    return 0


def _evaluate(options: argparse.Namespace, _rest: list[str]) -> int:
    app = load_app(options.app)
    from isometry import story

    loaded = story.load(app, options.model, device=options.device, dtype=options.dtype)
    if options.others:
        return _evaluate_together([loaded, *_others(app, options)], options)
    scores, rows = story.measured(loaded, options.files)
    around = _intervals(loaded, rows, options.bootstrap)
    if options.json:
        print(as_json({"checkpoint": str(loaded.checkpoint.path), "scores": scores} | _as_field(around)))
    else:
        print_rows([{"score": name, "value": value} | _as_columns(around, name) for name, value in scores.items()])
    return 0


def _intervals(loaded: Any, rows: Any, n: int | None) -> dict[str, Any]:
    """Low and high of each score, {} where no resample is asked for."""
    if n is None:
        return {}
    from isometry.bootstrap import intervals

    return intervals(loaded.app.objective(loaded.settings).score, rows, n)


def _as_field(around: dict[str, Any]) -> dict[str, Any]:
    return {"intervals": {name: list(interval) for name, interval in around.items()}} if around else {}


def _as_columns(around: dict[str, Any], name: str) -> dict[str, float]:
    return around[name]._asdict() if name in around else {}


def _predict(options: argparse.Namespace, _rest: list[str]) -> int:
    app = load_app(options.app)
    from isometry import story

    loaded = story.load(app, options.model, device=options.device, dtype=options.dtype)
    loaded = story.strided(loaded, options.stride)
    if options.others:
        from isometry.ensemble import predict_together

        others = [story.strided(other, options.stride) for other in _others(app, options)]
        rows = predict_together([loaded, *others], options.files, options.out)
    else:
        rows = story.predict(loaded, options.files, options.out)
    if options.json:
        print(as_json(rows))
    else:
        print_rows(rows)
        if options.out is not None and options.out.is_file():  # an app may have written several, told in its rows
            print(f"written: {options.out}")
    return 0


def _others(app: Any, options: argparse.Namespace) -> list[Any]:
    from isometry.story import load

    return [load(app, run, device=options.device, dtype=options.dtype) for run in options.others]


def _evaluate_together(members: list[Any], options: argparse.Namespace) -> int:
    from isometry.ensemble import evaluate_together

    scores, alone, spread, rows = evaluate_together(members, options.files)
    around = _intervals(members[0], rows, options.bootstrap)
    if options.json:
        paths = [str(member.checkpoint.path) for member in members]
        told = {"checkpoints": paths, "scores": scores, "members": alone, "spread": spread}
        print(as_json(told | _as_field(around)))
        return 0
    names = [f"member {number}" for number in range(1, len(alone) + 1)]
    print_rows(
        [
            {"score": name, "together": value, **_as_columns(around, name), "spread": spread[name]}
            | {member: of.get(name) for member, of in zip(names, alone, strict=True)}
            for name, value in scores.items()
        ]
    )
    return 0


def _export(options: argparse.Namespace, _rest: list[str]) -> int:
    app = load_app(options.app)
    from isometry import story

    folder = story.export(app, options.model, options.folder, is_half=options.half)
    print(as_json({"checkpoint": folder}) if options.json else f"written: {folder}")
    return 0


def _print_trained(trained: Any, app: str, is_json: bool) -> None:
    if is_json:
        print(as_json({"run": trained.folder, "reason": trained.reason, "scores": trained.scores}))
        return
    if trained.reason == "finished before":
        print("this run was finished before; another --out starts a new one")
    names = dict.fromkeys(name for scores in trained.scores.values() for name in scores if "/" not in name)
    by_split = trained.scores.items()
    if names:
        print_rows([{"score": name, **{split: scores.get(name) for split, scores in by_split}} for name in names])
    else:
        print("no scores: there is neither a validation nor a test set with labels")
    print(f"run:      {trained.folder}")
    print(f"report:   {trained.folder / 'report.html'}")
    print(f"predict:  isometry predict {app} {trained.folder} FILE")


def _failed(error: BaseException) -> int:
    if os.environ.get("ISOMETRY_TRACEBACK"):
        raise error
    return _say(_one_line(error), 1)


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def _say(message: str, code: int) -> int:
    print(f"isometry: {message}", file=sys.stderr)
    return code
