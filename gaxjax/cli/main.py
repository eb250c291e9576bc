"""The command line: parse, execute, and turn what went wrong into an exit status."""

import contextlib
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, Union

import tyro

from gaxjax.cli.ax import Ax
from gaxjax.cli.command import Command
from gaxjax.cli.console import complain, note
from gaxjax.cli.convert import Convert
from gaxjax.cli.demo import Demo
from gaxjax.cli.evaluate import Evaluate
from gaxjax.cli.finetune import Finetune
from gaxjax.cli.gax import Gax
from gaxjax.cli.indicator import Indicator
from gaxjax.cli.inspect import Inspect
from gaxjax.cli.report import Report
from gaxjax.cli.startup import (
    restart_with_kept_memory,
    settle_with_jax,
)
from gaxjax.cli.statistics import Statistics
from gaxjax.cli.toy import Toy
from gaxjax.cli.verify import Verify
from gaxjax.cli.view import View
from gaxjax.common import (
    NotWrittenError,
    UserError,
    cache_folder,
    interruption,
    interruptions,
    keep_compiled_programs,
    nearest,
    one_line,
    printable,
    reason_of,
)
from gaxjax.config import AX_PRESETS, GAX_PRESETS, to_dict

__all__ = ["COMMANDS", "entry", "main", "parse"]

# In the order of the help.
COMMANDS: tuple[type[Command], ...] = (
    Demo,
    Convert,
    Evaluate,
    Finetune,
    Gax,
    Ax,
    Verify,
    Inspect,
    Report,
    Statistics,
    Indicator,
    View,
    Toy,
)
USER_ERROR = 2
STOPPED = 128  # and the signal's number above it, as shells have it


def entry() -> None:
    """Run the console script: set the process up, and leave at once after a stop."""
    _open_streams()
    if _named(sys.argv[1:]).computes:
        restart_with_kept_memory()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # an ASCII terminal gets "?" for "×"
    interruption.absorb()
    status = _flushed(main(before=_set_up))
    if status > STOPPED:
        # Threads of XLA and torch may still compute, and crash when Python takes itself down.
        os._exit(status)
    sys.exit(status)


def _open_streams() -> None:
    """Give a process that was started without an output one that leads nowhere."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 (open as long as we run)


def _set_up(command: Command) -> None:
    settle_with_jax(on_devices=command.computes_here)
    keep_compiled_programs(note)


def _flushed(status: int) -> int:
    """Have all that was printed written; a disk that is full is told, not met at the very end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            if stream is sys.stdout and not isinstance(error, BrokenPipeError):
                complain(f"cannot print: {reason_of(error)}")
                status = status or USER_ERROR
    return status


def main(
    arguments: Sequence[str] | None = None, *, before: Callable[[Command], object] = lambda _: None
) -> int:
    """Run one command and return the exit status.

    Args:
        arguments: the words after `gaxjax`; this process's own when not given.
        before: called with the command when the command line is understood, before it is executed.

    Returns:
        0; 1 where a verification failed; 2 for a user's mistake; after a signal to stop 128 and its
        number: 130 after Ctrl-C (SIGINT), 129 after SIGHUP, 143 after SIGTERM, and on Linux 138 and
        140 after SIGUSR1 and SIGUSR2.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given == ["--version"]:
        import importlib.metadata  # slow for what few ask

        print(f"gaxjax {importlib.metadata.version('gaxjax')}")
        return 0
    try:
        with interruptions() as interrupted:
            try:
                command = parse(given)
                before(command)
                return command.execute(given)
            except (KeyboardInterrupt, UserError, OSError) as error:
                # A library interrupted halfway may have called the interruption something else, and
                # to a terminal that was closed nothing can be printed any more.
                stopped = interrupted() or isinstance(error, KeyboardInterrupt)
                if not stopped or isinstance(error, NotWrittenError):
                    raise
                return _stopped(interrupted() or signal.SIGINT, _named(given))
    except UserError as error:
        complain(str(error))
        return USER_ERROR
    except BrokenPipeError:  # `gaxjax … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (OSError, MemoryError, RuntimeError) as error:
        refusal = _refusal(error)
        if refusal is None:
            raise
        complain(refusal)
        return USER_ERROR


def _stopped(received: signal.Signals, command: type[Command]) -> int:
    by = "" if received == signal.SIGINT else f" by {received.name}"
    with contextlib.suppress(OSError):
        print(f"\ngaxjax: stopped{by}{command.kept}", file=sys.stderr, flush=True)
    return STOPPED + received


def _refusal(error: Exception) -> str | None:
    """Return the one line for what the system refused, None for a fault of ours."""
    if isinstance(error, MemoryError):
        return f"the memory ran out ({one_line(error)}): give smaller images, or fewer at a time"
    if not isinstance(error, OSError):
        if type(error).__name__ == "JaxRuntimeError" and "RESOURCE_EXHAUSTED" in str(error):
            return "the device's memory ran out: give smaller images, or fewer at a time"
        return None
    reason = reason_of(error)
    if error.filename is None:
        return f"the system refuses to go on: {reason}"
    name = os.fsdecode(error.filename) if not isinstance(error.filename, int) else "a file"
    refusal = f"cannot go on with {name}: {reason}"
    if name.startswith(str(cache_folder())):
        refusal += "; GAXJAX_CACHE names another folder for what is kept"
    return refusal


def parse(arguments: Sequence[str]) -> Command:
    """Turn a command line into a command; unknown flags exit with status 2 and the nearest name.

    Raises:
        UserError: an impossible value.
    """
    for position, word in enumerate(arguments):
        flag, equals, value = word.partition("=")
        if not word or (equals and not value and flag.startswith("--")):
            before = flag or " ".join(arguments[max(0, position - 1) : position])
            raise UserError(f"an empty text is given after {before or 'gaxjax'}: give a value")
    words = [*arguments[:1], *_preset_flags(arguments), *arguments[1:]] or ["--help"]
    shown = [printable(word) for word in words]
    if shown == words:
        return _parsed(words)
    try:
        return _parsed(words, console_outputs=False)
    except SystemExit:  # once more, for its message alone, which repeats the words
        return _parsed(shown)


def _parsed(words: Sequence[str], **options: Any) -> Command:
    union: Any = Union[COMMANDS]  # noqa: UP007 (of A | B, tyro has typeguard check the values)
    return tyro.cli(
        union,
        prog="gaxjax",
        description="Heatmaps that raise an image classifier's confidence, in bulk.",
        args=words,
        config=(tyro.conf.OmitArgPrefixes,),
        **options,
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
