"""The command line: parse, execute, and turn what went wrong into an exit status."""

import importlib.metadata
import io
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

import tyro
from rich.console import Console

from gaxjax.cli.flags import Command
from gaxjax.common.errors import UserError, nearest
from gaxjax.common.interruption import interruptions
from gaxjax.config.base import to_dict
from gaxjax.config.methods import AX_PRESETS, PRESETS

STOPPED = 130
_KEPT = dict.fromkeys(("gax", "ax"), "; finished images are stored, the same command resumes") | {
    "finetune": "; the same command resumes from the last validation"
}


def entry() -> None:
    """Run the console script: also stop on SIGTERM, and leave at once after a stop."""
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # an ASCII terminal gets "?" for "×"
    status = main()
    if status == STOPPED:
        # Threads of XLA and torch may still compute, and crash when Python takes itself down.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status.

    0; 1 where a verification failed; 2 for a user's mistake; 130 after Ctrl-C.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given == ["--version"]:
        print(f"gaxjax {importlib.metadata.version('gaxjax')}")
        return 0
    from gaxjax.cli.commands import execute

    try:
        with interruptions() as interrupted:
            try:
                return execute(parse(given), given)
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
        kept = _KEPT.get(given[0] if given else "", "")
        print(f"\ngaxjax: stopped{kept}", file=sys.stderr)
        return STOPPED
    except BrokenPipeError:  # `gaxjax … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def parse(arguments: Sequence[str]) -> Command:
    """Turn a command line into a command; unknown flags exit with status 2 and the nearest name.

    Raises:
        UserError: an impossible value.
    """
    return tyro.cli(
        Command,
        prog="gaxjax",
        description="Heatmaps that raise an image classifier's confidence, in bulk.",
        args=[*arguments[:1], *_preset_flags(arguments), *arguments[1:]] or ["--help"],
        config=(tyro.conf.OmitArgPrefixes,),
    )


def _preset_flags(arguments: Sequence[str]) -> list[str]:
    """Spell a --preset out as flags, to stand before the user's own: of two, the last one counts.

    Raises:
        UserError: no such preset.
    """
    presets: dict[Any, Any] = AX_PRESETS if arguments[:1] == ["ax"] else PRESETS
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
