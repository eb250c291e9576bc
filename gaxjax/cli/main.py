"""The command line: parse, execute, and turn what went wrong into an exit status."""

import functools
import importlib.metadata
import io
import operator
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

import tyro
from rich.console import Console

from gaxjax.cli.ax import Ax
from gaxjax.cli.command import Command
from gaxjax.cli.convert import Convert
from gaxjax.cli.demo import Demo
from gaxjax.cli.evaluate import Evaluate
from gaxjax.cli.finetune import Finetune
from gaxjax.cli.gax import Gax
from gaxjax.cli.report import Report
from gaxjax.cli.startup import keep_compiled_programs, restart_with_huge_pages
from gaxjax.cli.statistics import Statistics
from gaxjax.cli.toy import Toy
from gaxjax.cli.verify import Verify
from gaxjax.cli.view import View
from gaxjax.common import UserError, interruptions, nearest
from gaxjax.config import AX_PRESETS, GAX_PRESETS, to_dict

__all__ = ["COMMANDS", "STOPPED", "entry", "main", "parse"]

# In the order of the help.
COMMANDS: tuple[type[Command], ...] = (
    Demo,
    Convert,
    Evaluate,
    Finetune,
    Gax,
    Ax,
    Verify,
    Report,
    Statistics,
    View,
    Toy,
)
STOPPED = 130


def entry() -> None:
    """Run the console script: set the process up, and leave at once after a stop."""
    if _named(sys.argv[1:]).computes:
        restart_with_huge_pages()
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # an ASCII terminal gets "?" for "×"
    status = main(before=keep_compiled_programs)
    if status == STOPPED:
        # Threads of XLA and torch may still compute, and crash when Python takes itself down.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def main(
    arguments: Sequence[str] | None = None, *, before: Callable[[], object] = lambda: None
) -> int:
    """Run one command and return the exit status.

    Args:
        arguments: the words after `gaxjax`; this process's own when not given.
        before: called when the command line is understood, before the command.

    Returns:
        0; 1 where a verification failed; 2 for a user's mistake; 130 after Ctrl-C.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given == ["--version"]:
        print(f"gaxjax {importlib.metadata.version('gaxjax')}")
        return 0
    try:
        with interruptions() as interrupted:
            try:
                command = parse(given)
                before()
                return command.execute(given)
            except UserError:
                # A library interrupted halfway may have called the interruption something else.
                if interrupted():
                    raise KeyboardInterrupt from None
                raise
    except UserError as error:
        Console(stderr=True, highlight=False, soft_wrap=True, markup=False).print(
            f"gaxjax: {error}"
        )
        return 2
    except KeyboardInterrupt:
        print(f"\ngaxjax: stopped{_named(given).kept}", file=sys.stderr)
        return STOPPED
    except BrokenPipeError:  # `gaxjax … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def parse(arguments: Sequence[str]) -> Command:
    """Turn a command line into a command; unknown flags exit with status 2 and the nearest name.

    Raises:
        UserError: an impossible value.
    """
    union: Any = functools.reduce(operator.or_, COMMANDS)
    return tyro.cli(
        union,
        prog="gaxjax",
        description="Heatmaps that raise an image classifier's confidence, in bulk.",
        args=[*arguments[:1], *_preset_flags(arguments), *arguments[1:]] or ["--help"],
        config=(tyro.conf.OmitArgPrefixes,),
    )


def _named(arguments: Sequence[str]) -> type[Command]:
    """Return the command that a command line names; `Command` itself where it names none."""
    commands = {command.__name__.lower(): command for command in COMMANDS}
    return commands.get(arguments[0], Command) if arguments else Command


def _preset_flags(arguments: Sequence[str]) -> list[str]:
    """Spell a --preset out as flags, to stand before the user's own: of two, the last one counts.

    Raises:
        UserError: no such preset.
    """
    presets: dict[Any, Any] = AX_PRESETS if arguments[:1] == ["ax"] else GAX_PRESETS
    for position, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name == "--preset":
            value = value if equals else "".join(arguments[position + 1 : position + 2])
            if value not in presets:
                known = ", ".join(presets)
                raise UserError(
                    f"no preset {value!r}{nearest(value, presets)} (there are: {known})"
                )
            preset, default = to_dict(presets[value]), to_dict(presets["default"])
            changed = {key: item for key, item in preset.items() if item != default[key]}
            return [f"--{key.replace('_', '-')}={item}" for key, item in changed.items()]
    return []
