"""Kills at every writing system call of the store alone: `python tests/faults/commits.py`.

Each life is a fork of this process, which has no JAX and reads no run itself: what it imports has
no threads that work. A run of a few parts is killed at a call, looked at, killed again as it goes
on, and finished.
"""

import argparse
import contextlib
import itertools
import json
import multiprocessing
import os
import pickle
import random
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy: its threads would be forked

import filelock  # noqa: F401 (what every life would import anew)
import numpy as np
import pandas  # noqa: F401
import pyarrow.dataset  # noqa: F401
from calls import Calls, Death
from kill_table import KillTable
from looking import Look, faults_since, look

from gaxjax.results.part_writer import Result
from gaxjax.results.solution import Outcome, Solution
from gaxjax.results.store import Store

SHAPE = (6, 6, 3)
PARTS = (3, 0, 4, 2)
"""Heatmaps in each part; every part has one more image, without."""

HEADER = {
    "command": "gax",
    "config": {},
    "model": {"name": "none", "fingerprint": "none"},
    "data": {"name": "none", "fingerprint": "none", "num_images": sum(PARTS) + len(PARTS)},
    "status": "running",
}

_FORK = multiprocessing.get_context("fork")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="only every so manieth kill")
    parser.add_argument("--json", action="store_true", help="print the table as JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gaxjax-commits-") as folder:
        table = kill_at_every_call(Path(folder), arguments.every)
    print(json.dumps(table.to_dict()) if arguments.json else table.to_markdown())
    sys.exit(table.any_fault)


def kill_at_every_call(folder: Path, every: int = 1) -> KillTable:
    """Kill at each call of an undisturbed run, before, after and halfway; return what it did.

    Args:
        folder: an empty one to work in.
        every: kill only at every so manieth.
    """
    code, counts = _forked(_write, folder / "whole", None)
    assert code == 0, "the undisturbed run failed"
    whole = _look(folder / "whole")
    deaths = [
        Death(*pair, number, moment)
        for pair, count in counts.items()
        for number in range(1, count + 1)
        for moment in ("before", "after", *["half"] * (pair[0] == "write"))
    ]
    chosen = random.Random(0)
    table = KillTable()
    for first in deaths[::every]:
        run = folder / "run"
        before = Look()
        # What the first death left is cleared away by unlink, which no undisturbed run calls.
        leftover = Death("unlink", first.kind, 1, first.moment)
        for death in (first, chosen.choice((leftover, *chosen.sample(deaths, 2))), None):
            code, _ = _forked(_write, run, death)
            now = _look(run)
            table.add("store", death if code < 0 else None, faults_since(before, now, whole))
            before = now
            if code > 0:
                table.add_faults("store", Counter(refused=1))
            if code >= 0:
                break
        table.add_faults("store", Counter(differing=len(whole.rows) - len(now.rows)))
        shutil.rmtree(run)
    return table


def _write(folder: Path, death: Death | None) -> Counter:
    """Write the run, or what is left of it, as a command would."""
    calls = Calls(folder, death)
    calls.install()
    store = Store(
        folder,
        identity={"command": "gax"},
        header=HEADER,
        image_shape=SHAPE,
        heatmap_dtype="float16",
        num_images=HEADER["data"]["num_images"],
        heatmaps_per_part=max(PARTS),
    )
    with store:
        store.header.begin_session({"device": "none"})
        left = [result for result in _results() if result.image_id not in store.done]
        numbers = np.cumsum([0, *(each + 1 for each in PARTS)])
        for start, end in itertools.pairwise(numbers):
            store.commit([each for each in left if start <= each.solution.index < end])
        store.header.update_session({"seconds": 1.0})
        store.header.write(status="complete")
    return calls.counts


def _results() -> list[Result]:
    found = []
    for heatmaps in PARTS:
        for place in range(heatmaps + 1):
            index = len(found)
            outcome = Outcome.REACHED if place < heatmaps else Outcome.UNREADABLE
            solution = Solution(index, outcome, label=1, reason="truncated")
            if place < heatmaps:
                heatmap = np.random.default_rng(index).uniform(-1, 1, SHAPE).astype(np.float16)
                solution = Solution(
                    index,
                    outcome,
                    label=1,
                    prediction=1,
                    steps=2,
                    co_score=48.5 + index,
                    curve=np.array([1, 20, 48.5 + index], np.float32),
                    heatmap=heatmap,
                )
            found.append(Result(f"class/{index:03d}.png", 1, "one", solution))
    return found


def _look(run: Path) -> Look:
    code, found = _forked(look, run)
    assert code == 0, "the run cannot be looked at"
    return found


def _forked(function: Callable[..., Any], *arguments: Any) -> tuple[int, Any]:
    """Call a function in a fork; return its exit status, negative for a signal, and its answer."""
    here, there = _FORK.Pipe(duplex=False)

    def child() -> None:
        try:
            there.send_bytes(pickle.dumps(function(*arguments)))
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)

    process = _FORK.Process(target=child)
    process.start()
    there.close()
    answer = None
    with contextlib.suppress(EOFError):
        answer = pickle.loads(here.recv_bytes())
    here.close()
    process.join()
    return process.exitcode, answer


if __name__ == "__main__":
    main()
