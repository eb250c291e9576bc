"""Kills whole commands, and their resumption: `python tests/faults/killer.py --kills 300`.

A command is run once undisturbed, counting its calls. Then it is run again and again in folders of
its own, killed at one of those calls or at a random instant, looked at, and given again, until it
ends by itself; what it leaves then must be what the undisturbed run left.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from calls import Death, Plan
from kill_table import KillTable
from looking import Look, faults_since, look
from PIL import Image

from gaxjax.common import file_sha256

__all__ = ["COMMANDS", "kill_commands", "make_model"]

COMMANDS = ("gax", "ax", "finetune")
_CALLS = Path(__file__).with_name("calls.py")
_LIVES = 5  # in one folder, before it may end by itself
_SECONDS = 300  # no life takes so long


@dataclass(frozen=True)
class _Command:
    """A command line without its --output, and how its folder is read."""

    words: list[str]
    look: Callable[[Path], Look]


@dataclass(frozen=True)
class _Whole:
    """The undisturbed run: what it left, its calls, its seconds from the first call to the end."""

    look: Look
    counts: Counter[tuple[str, str]]
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=300, help="over all commands")
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="file for the table as JSON")
    arguments = parser.parse_args()
    table = KillTable()
    with (
        contextlib.suppress(KeyboardInterrupt),  # then the table is of what was done
        tempfile.TemporaryDirectory(prefix="gaxjax-killer-") as folder,
    ):
        kill_commands(Path(folder), arguments.kills, arguments.commands, arguments.seed, into=table)
    print(table.to_markdown())
    if arguments.output:
        arguments.output.write_text(json.dumps(table.to_dict(), indent=1) + "\n")
    sys.exit(table.any_fault)


def kill_commands(
    folder: Path, kills: int, commands=COMMANDS, seed: int = 0, into: KillTable | None = None
) -> KillTable:
    """Kill commands so often in all; return where, and what it did.

    Args:
        folder: an empty one to work in.
        kills: how many.
        commands: which of gax, ax and finetune.
        seed: of the choice of calls and instants.
        into: a table to count in; a new one when not given.
    """
    table, chosen = into or KillTable(), random.Random(seed)
    made = _commands(folder)
    for number, name in enumerate(commands):
        share = (kills * (number + 1)) // len(commands)
        whole, tried = _whole(made[name], folder / name), Counter()
        while table.kills < share:
            _kill_until_done(name, made[name], whole, folder / name, share, table, tried, chosen)
            print(f"{name}: {table.kills} kills", file=sys.stderr)
    return table


def _whole(command: _Command, folder: Path) -> _Whole:
    folder.mkdir()
    started: list[float] = []
    code = _life(command, folder / "whole", None, lambda: started.append(time.monotonic()))
    seconds = time.monotonic() - started[0]
    assert code == 0, f"the undisturbed run failed: {(folder / 'whole.log').read_text()[-2000:]}"
    counts = {
        (call, kind): count
        for call, kind, count in json.loads((folder / "whole.notes").read_text())
    }
    return _Whole(command.look(folder / "whole"), Counter(counts), seconds)


def _kill_until_done(
    name: str,
    command: _Command,
    whole: _Whole,
    folder: Path,
    kills: int,
    table: KillTable,
    tried: Counter[tuple[str, str, str]],
    chosen: random.Random,
) -> None:
    """Live in one folder until the command ends by itself."""
    run, before = folder / "killed", Look()
    for life in range(_LIVES + 1):
        death = wait = None
        if life < _LIVES and table.kills < kills:
            if life % 3 == 2:
                wait = chosen.uniform(0, whole.seconds)
            else:
                left = 1 - len(before.rows) / len(whole.look.rows)
                death = _next_death(whole.counts, left, tried, chosen)
        code = _life(command, run, death, wait)
        now = command.look(run)
        if code == -9:
            where = death or Death("random instant", "any", 0, "—")
            table.add(name, where, faults_since(before, now, whole.look))
        else:
            faults = faults_since(before, now, whole.look)
            faults["differing"] += len(whole.look.rows.keys() - now.rows.keys())
            faults["refused"] += code != 0
            table.add(name, None, faults)
            if code:
                print(f"{name}: exit {code}: {_last_line(run)}", file=sys.stderr)
            break
        before = now
    shutil.rmtree(run)


def _next_death(counts, left: float, tried: Counter, chosen: random.Random) -> Death:
    """Choose among the least tried calls, and one of those that a run with so much left makes.

    Not the least hit: what only a new run does cannot be hit when one goes on. Where something is
    there, so that one does, what is called once or twice is left out.
    """
    moments = [
        (*pair, moment)
        for pair, count in counts.items()
        if count > 2 or left == 1
        for moment in ("before", "after", *["half"] * (pair[0] == "write"))
    ]
    fewest = min(tried[each] for each in moments)
    call, kind, moment = chosen.choice([each for each in moments if tried[each] == fewest])
    tried[call, kind, moment] += 1
    number = chosen.randint(1, max(1, round(left * counts[call, kind])))
    return Death(call, kind, number, moment)


def _life(command: _Command, run: Path, death: Death | None, wait=None) -> int:
    """Run the command until it ends or dies.

    Args:
        command: which.
        run: its output folder.
        death: where it kills itself.
        wait: kill it so many seconds after its first call; or a function to call at that moment.

    Returns:
        Its exit status, negative for a signal.
    """
    notes = run.with_suffix(".notes")
    begun = notes.with_suffix(".begun")
    begun.unlink(missing_ok=True)
    plan = Plan(str(run), str(notes), death)
    # No second start with the allocator's settings: hugetlb=0 stands for a choice of the user's.
    compiled = str(run.parent.parent / "compiled")
    environment = os.environ | {
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=0",
        "JAX_COMPILATION_CACHE_DIR": compiled,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    words = [sys.executable, str(_CALLS), plan.to_json(), *command.words, "--output", str(run)]
    with open(run.with_suffix(".log"), "w") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, env=environment)
        try:
            if wait is not None:
                while not begun.exists() and process.poll() is None:
                    time.sleep(0.005)
                if callable(wait):
                    wait()
                else:
                    time.sleep(wait)
                    process.kill()
            process.wait(_SECONDS)
        finally:
            process.kill()
    return process.returncode


def _last_line(run: Path) -> str:
    lines = run.with_suffix(".log").read_text().strip().splitlines()
    return lines[-1] if lines else ""


# --- The commands: little work, many commits ------------------------------------------------------


def _commands(folder: Path) -> dict[str, _Command]:
    """Make the model and the images, and the commands' words."""
    model, images = folder / "small.ckpt", folder / "images"
    make_model(model)
    random_pixels = np.random.default_rng(0)
    for place in ("train", "test"):
        for label in ("a", "b"):
            (images / place / label).mkdir(parents=True)
            for number in range(8):
                pixels = random_pixels.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(images / place / label / f"{number}.png")
    run = f"--model {model} --data digits --size 16 --num-images 48 --part-size 6"
    return {
        "gax": _Command(
            f"gax {run} --include-misclassified --target 1e9 --max-steps 8 --slots 2".split(),
            look,
        ),
        "ax": _Command(
            f"ax {run} --methods saliency layer_grad_cam --batch-size 8".split(),
            look,
        ),
        "finetune": _Command(
            f"finetune --data {images} --architecture small_resnet --size 16 --batch-size 4 "
            "--validate-every 2 --validation-accuracy 1 --min-iterations 16 --max-iterations 16 "
            "--validation 0.25".split(),
            _look_at_training,
        ),
    }


def make_model(path: Path) -> None:
    """Keep a small_resnet for the digits, with random weights."""
    from converters import convert_state_dict
    from converters.random_weights import random_state_dict
    from gaxjax.models import checkpoint

    net = convert_state_dict(random_state_dict("small_resnet", num_classes=10), "small_resnet")
    metadata = checkpoint.CheckpointMetadata(
        architecture="small_resnet", num_classes=10, input_size=16
    )
    checkpoint.save(path, net, metadata)


def _look_at_training(output: Path) -> Look:
    """As rows the curve as far as it counts, the model and the test's figures; states by hash."""
    from gaxjax.models import load_classifier

    rows, unreadable = {}, 0
    header, states = output / "finetune.json", output / "state"
    whole = [path for path in states.glob("*") if (path / "state.json").exists()]
    latest = max((path for path in whole if not path.suffix), default=None)
    if latest is not None:
        files = json.loads((latest / "state.json").read_text())["files"]
        unreadable += any(file_sha256(latest / name) != sha256 for name, sha256 in files.items())
        lines = (output / "curve.csv").read_text().splitlines()[1:]
        for iteration, loss, accuracy, _ in (line.split(",") for line in lines):
            if int(iteration) <= int(latest.name):
                rows[f"iteration {iteration}",] = f"{loss} {accuracy}"
        if f"iteration {int(latest.name)}" not in {key for (key,) in rows}:
            unreadable += 1
    if (output / "split.csv").exists():
        rows["split",] = file_sha256(output / "split.csv")
    if header.exists():
        values = json.loads(header.read_text())
        if values.get("status") == "complete":
            rows["test",] = repr(values["test"])
    if (output / "model.ckpt").exists():
        rows["model",] = load_classifier(output / "model.ckpt").fingerprint
    return Look(rows, {}, 0, unreadable)


if __name__ == "__main__":
    main()
