"""A sweep in one run against a run for each of its settings, by turns, in one process.

    python -m benchmarks.sweeps --model squeezenet.ckpt --data IMAGES --images 20

Both write their stores. The settings of the separate runs are constants of their programs, so each
compiles its own, once: the time of compiling is told apart.
"""

import contextlib
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from benchmarks.measure.machine import commit, machine
from benchmarks.measure.rows import Row, append_row, rounded
from benchmarks.measure.run import BENCHMARKS
from gaxjax.cli.startup import restart_with_kept_memory
from gaxjax.config import (
    DataConfig,
    EngineConfig,
    GaxConfig,
    GaxRunConfig,
    ModelConfig,
    SweepConfig,
    with_setting,
)
from gaxjax.gax import EngineStats
from gaxjax.runs import run_gax

_SWEEP = ("learning-rate=0.001,0.01,0.1,1", "similarity-factor=10,100,1000")


@dataclass(frozen=True)
class Settings:
    """What to measure.

    Attributes:
        model: As of `gaxjax gax`.
        data: As of `gaxjax gax`.
        images: Drawn at random.
        size: Height and width of the images.
        max_steps: As of `gaxjax gax`.
        slots: Images side by side; chosen as by `gaxjax gax` when not given.
        sweep: As of `gaxjax gax`.
        turns: How often each of the two is run.
        output: File of rows to append to.
    """

    model: str
    data: str
    images: int = 20
    size: int = 128
    max_steps: int = 100
    slots: int | None = None
    sweep: tuple[str, ...] = _SWEEP
    turns: int = 2
    output: Path = BENCHMARKS / "results" / "sweeps.jsonl"


def measure(settings: Settings) -> Row:
    """Run both by turns and append the row."""
    whole = GaxRunConfig(
        model=ModelConfig(model=settings.model),
        data=DataConfig(data=settings.data, num_images=settings.images, size=settings.size),
        gax=GaxConfig(max_steps=settings.max_steps),
        sweep=SweepConfig(sweep=settings.sweep),
        engine=EngineConfig(slots=settings.slots),
    )
    single = [
        GaxRunConfig(
            model=whole.model,
            data=whole.data,
            gax=with_setting(whole.gax, setting),
            engine=whole.engine,
        )
        for setting in whole.sweep.settings
    ]
    turns: dict[str, list[dict[str, float]]] = {"sweep": [], "separate": []}
    for _ in range(settings.turns):
        turns["sweep"].append(_turn([whole]))
        turns["separate"].append(_turn(single))
        print({name: found[-1] for name, found in turns.items()}, flush=True)
    row = {
        "workload": "sweep",
        **machine(),
        "commit": commit(),
        "model": Path(settings.model).name,
        "size": settings.size,
        "images": settings.images,
        "max_steps": settings.max_steps,
        "settings": len(single),
        "sweep": list(settings.sweep),
        "turns": turns,
    }
    append_row(rounded(row), settings.output)
    return row


def _turn(configs: Sequence[GaxRunConfig]) -> dict[str, float]:
    """Do runs one after the other; `seconds` is all, `working` without compiling."""
    found = {
        "seconds": 0.0,
        "compiling": 0.0,
        "working": 0.0,
        "image_steps": 0.0,
        "slot_steps": 0.0,
    }
    for config in configs:
        with _folder() as folder:
            started = time.perf_counter()
            stats = run_gax(config, folder / "run", note=lambda _: None).stats
            found["seconds"] += time.perf_counter() - started
        assert isinstance(stats, EngineStats)
        found["compiling"] += stats.compile_seconds
        found["working"] += stats.seconds
        found["image_steps"] += stats.image_steps
        found["slot_steps"] += stats.slot_steps
    return found


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="gaxjax-sweeps-") as folder:
        yield Path(folder)


def main() -> None:
    """Measure and append the row."""
    restart_with_kept_memory()  # as `gaxjax gax` does
    found: Any = measure(tyro.cli(Settings))["turns"]
    for name, turns in found.items():
        print(name, *(f"{turn['seconds']:.1f} s" for turn in turns))


if __name__ == "__main__":
    main()
