"""One contestant in a process of its own, so that memory and threads are its alone.

Started by `benchmarks.measure.process`; reads commands (prepare, turn, finish) as lines from stdin
and answers each with a line of JSON on the stdout it was born with. Whatever libraries print goes
to stderr.
"""

import dataclasses
import json
import os
import resource
import sys
import traceback
from pathlib import Path
from typing import Any

from benchmarks.contenders import make_contestant
from benchmarks.measure.machine import machine
from benchmarks.measure.measurement import Measurement
from benchmarks.measure.problem import open_problem


def main() -> None:
    """Serve one measurement until stdin ends."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def reply(fields: dict[str, Any]) -> None:
        replies.write(json.dumps(fields) + "\n")
        replies.flush()

    try:
        measurement = Measurement(**json.loads(sys.argv[1]))
        contestant = make_contestant(measurement, open_problem(Path(sys.argv[2])))
        reply({"ready": True})
        for command in sys.stdin:
            match command.strip():
                case "prepare":
                    reply(contestant.prepare() | {"machine": machine()})
                case "turn":
                    reply(dataclasses.asdict(contestant.turn()))
                case "finish":
                    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
                    reply({"peak_host_bytes": peak} | contestant.finish())
    except Exception as error:
        traceback.print_exc()
        text = str(error).strip().splitlines() or [""]
        reply({"error": f"{type(error).__name__}: {text[0][:300]}"})


if __name__ == "__main__":
    main()
