"""A run of many rows through shell and store, and what opening it costs: a fresh process each."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.scaling.fake import FakeEngine, fake_images, fake_plan
from benchmarks.soak import FLAT, Sampler, growth
from gaxjax.runs.shell import run_engine

_LACKING = 0.01
"""Of the parts: those that a run which is gone on with lacks."""
_EVERY = 1.0


def long_run(folder: Path, images: int, *, size: int = 8) -> dict[str, Any]:
    """Write a run, go on with it, and read it; return seconds and peak memory of each.

    Args:
        folder: an empty one.
        images: of the run.
        size: height and width of its heatmaps.
    """
    run = folder / "run"
    write, resume = (
        [
            "-c",
            f"from pathlib import Path; from benchmarks.scaling import long_run; "
            f"long_run.{name}(Path({str(run)!r}), {images}, {size})",
        ]
        for name in ("write", "resume")
    )
    command = ["-m", "gaxjax"]
    found = {"write": fresh(write)}
    samples = found["write"].pop("told")
    found["resume, complete"] = fresh(resume)
    lost = _lose_some(run)
    found["resume, 1% to do"] = fresh(resume)
    found["open_run(…).statistics"] = fresh(
        ["-c", f"import gaxjax; print(len(gaxjax.open_run({str(run)!r}).statistics.methods))"]
    )
    for name in ("inspect", "statistics"):
        found[f"gaxjax {name}"] = fresh([*command, name, str(run)])
    page = folder / "report.html"
    found["gaxjax report"] = fresh([*command, "report", str(run), "--output", str(page)])
    slope = growth(samples["images"], [1e6 * each for each in samples["rss_mb"]])
    return {
        "num_images": images,
        "size": size,
        "parts": len(list((run / "scores").glob("part-*"))),
        "parts_lost": lost,
        "disk_mb": sum(file.stat().st_size for file in run.rglob("*") if file.is_file()) / 1e6,
        "page_mb": page.stat().st_size / 1e6,
        "images_per_s": images / samples["seconds"][-1],
        "bytes_per_image": slope,
        "flat": slope["high"] < FLAT,
        "samples": samples,
        "steps": {
            name: {key: each[key] for key in ("seconds", "peak_mb")} for name, each in found.items()
        },
    }


def fresh(arguments: list[str]) -> dict[str, Any]:
    """Run a Python process; return its seconds, its most memory, and what its last line tells.

    Raises:
        RuntimeError: it failed.
    """
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    begun = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, *arguments], env=environment, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        text = process.stdout.read().decode()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(arguments)} ended with {process.returncode}")
    lines = text.splitlines()
    told = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else None
    seconds = time.perf_counter() - begun
    return {"seconds": seconds, "peak_mb": used.ru_maxrss / 1024, "told": told}


def write(run: Path, images: int, size: int) -> None:
    """Write a run with a device that takes no time; print its samples."""
    engine = FakeEngine(size)
    sampler = Sampler(engine, _EVERY)
    plan = fake_plan(fake_images(images, size))
    sampler.start()
    run_engine(plan, run, engine)
    sampler.finish()
    print(json.dumps(sampler.samples))


def resume(run: Path, images: int, size: int) -> None:
    """Go on with a run."""
    summary = run_engine(fake_plan(fake_images(images, size)), run, FakeEngine(size))
    print(summary.resumed)


def _lose_some(run: Path) -> int:
    """Remove the last parts, as if they had not been committed; return how many."""
    parts = sorted((run / "scores").glob("part-*"))
    lost = parts[-max(1, round(_LACKING * len(parts))) :]
    for part in lost:
        part.unlink()
    return len(lost)
