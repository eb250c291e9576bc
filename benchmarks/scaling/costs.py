"""What the parts of a run beside the device cost on this machine, each measured by itself."""

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.scaling.fake import fake_images, fake_plan, heatmaps
from gaxjax.common import files
from gaxjax.results import PartWriter, Result, Store, joined_run
from gaxjax.results.solution import Outcome, Solution
from gaxjax.runs.shell import Plan

WRITERS = 64
_CHILD = """
import json, time
begun = time.perf_counter()
import jax
from flax import nnx
from gaxjax.common import keep_compiled_programs
from gaxjax.config import EngineConfig, GaxConfig
from gaxjax.gax import GaxEngine
from gaxjax.models import as_classifier, build
import gaxjax.runs.gax
imported = time.perf_counter()
keep_compiled_programs(note=lambda text: None)
net = build("squeezenet1_0", num_classes=1000, rngs=nnx.Rngs(0))
classifier = as_classifier(net, num_classes=1000, fingerprint="scaling")
opened = time.perf_counter()
GaxEngine(
    classifier, GaxConfig(), EngineConfig(slots=16), image_shape=(256, 256, 3), num_images=64
).warm_up()
print(json.dumps([imported - begun, opened - imported, time.perf_counter() - opened]))
"""


def spread(values: list[float]) -> dict[str, float]:
    """Return median, least and most."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def results(begin: int, end: int, kept: np.ndarray) -> list[Result]:
    """Return results with heatmaps, those given in turn."""
    return [
        Result(
            f"fake/{index:08d}",
            1,
            "one",
            Solution(
                index,
                Outcome.REACHED,
                label=1,
                prediction=1,
                steps=5,
                co_score=48.5,
                curve=np.zeros(6, np.float32),
                heatmap=kept[index % len(kept)].copy(),
            ),
        )
        for index in range(begin, end)
    ]


def opened(folder: Path, num_images: int, size: int, *, writer: int = 0, writers: int = 1) -> Store:
    """Open a store of made-up images, as the only process or as one of several."""
    plan = fake_plan(fake_images(num_images, size))
    return plan.open_store(folder, 1, writer=writer, writers=writers, side_by_side=writers > 1)


# --- A commit ------------------------------------------------------------------------------------


def commit_cost(folder: Path, *, size: int = 256, images: int = 256, turns: int = 5) -> Any:
    """Measure commits of parts: seconds, of them what hashing, durability and the rest take."""
    kept = heatmaps(min(64, images), size)
    durable: list[float] = []
    found: dict[str, list[float]] = {"seconds": [], "hash": [], "durable": [], "bytes": []}
    with opened(folder, images * (turns + 1), size) as store, _timed(durable):
        for turn in range(turns + 1):
            part = results(turn * images, (turn + 1) * images, kept)
            durable.clear()
            begun = time.perf_counter()
            store.commit(part)
            seconds = time.perf_counter() - begun
            shard = max(
                (folder / "heatmaps.zarr").glob("c.*"), key=lambda file: file.stat().st_mtime
            )
            if turn:  # the first one imports
                found["seconds"].append(seconds)
                found["durable"].append(sum(durable))
                found["hash"].append(_hashing(part))
                found["bytes"].append(shard.stat().st_size / images)
    raw = size * size * 3 * 2
    return {
        "size": size,
        "images": images,
        "seconds": spread(found["seconds"]),
        "seconds_per_image": spread([each / images for each in found["seconds"]]),
        "hash_seconds": spread(found["hash"]),
        "durable_seconds": spread(found["durable"]),
        "bytes_per_image": statistics.median(found["bytes"]),
        "compressed_to": statistics.median(found["bytes"]) / raw,
        "files": 2,
    }


def _hashing(part: list[Result]) -> float:
    from gaxjax.results import heatmap_sha256

    begun = time.perf_counter()
    for result in part:
        assert result.solution.heatmap is not None
        heatmap_sha256(result.solution.heatmap)
    return time.perf_counter() - begun


@contextlib.contextmanager
def _timed(seconds: list[float]) -> Iterator[None]:
    """Note what making things durable takes, within the block."""
    really = files._make_durable

    def make_durable(path: Any) -> None:
        begun = time.perf_counter()
        really(path)
        seconds.append(time.perf_counter() - begun)

    files._make_durable = make_durable
    try:
        yield
    finally:
        files._make_durable = really


# --- The store, opened and ended -----------------------------------------------------------------


def filled(folder: Path, parts: int, *, images: int = 256, size: int = 8) -> int:
    """Make a store of so many parts, evenly of `WRITERS` writers; return its images."""
    total = parts * images
    kept = heatmaps(64, size)
    plan = fake_plan(fake_images(total, size), part_size=images)
    with plan.open_store(folder, 1, writer=0, writers=WRITERS, side_by_side=True):
        pass
    each = -(-parts // WRITERS)
    for writer in range(WRITERS):
        with joined_run(folder, writer, total) as joined:
            for part in range(writer * each, min(parts, (writer + 1) * each)):
                joined.commit(results(part * images, (part + 1) * images, kept))
    return total


def store_cost(folder: Path, *, parts: int, images: int = 256, turns: int = 3) -> Any:
    """Measure opening, header and end of a store of so many parts, as one of `WRITERS` writers."""
    total = filled(folder, parts, images=images)
    plan = fake_plan(fake_images(total, 8), part_size=images)
    turned = [_store_turn(plan, folder, turn, total) for turn in range(turns)]
    return {
        "parts": parts,
        "images": images,
        "writers": WRITERS,
        **{f"{name}_seconds": spread([each[name] for each in turned]) for name in turned[0]},
    }


def _store_turn(plan: Plan, folder: Path, writer: int, total: int) -> dict[str, float]:
    begun = time.perf_counter()
    store = plan.open_store(folder, 1, writer=writer, writers=WRITERS, side_by_side=True)
    found = {"open": time.perf_counter() - begun}
    with store:
        found["begin"] = _seconds(lambda: store.begin_session({"device": "none"}))
        found["end"] = _seconds(lambda: store.end_session({"seconds": 1.0}))
        store._read = set()  # as where others have committed all of it since
        found["complete"] = _seconds(lambda: store.complete(total + 1))
    found["join"] = _seconds(lambda: _join(folder, writer, total))
    return found


def _join(folder: Path, writer: int, total: int) -> PartWriter:
    with joined_run(folder, writer, total) as joined:
        return joined


def _seconds(function: Callable[[], object]) -> float:
    begun = time.perf_counter()
    function()
    return time.perf_counter() - begun


# --- A worker's start ----------------------------------------------------------------------------


def start_cost(turns: int = 2) -> Any:
    """Measure a worker's start on this machine: imports, network, compiling, cold and kept."""
    cold, kept = [], []
    for _ in range(turns):
        with tempfile.TemporaryDirectory(prefix="gaxjax-scaling-") as cache:
            environment = {**os.environ, "GAXJAX_CACHE": cache, "JAX_PLATFORMS": "cpu"}
            cold.append(_child(environment))
            kept.append(_child(environment))
    return {
        "what": "squeezenet1_0, random weights, 256 x 256, 16 slots, on the CPU",
        "import_seconds": spread([each[0] for each in cold + kept]),
        "model_seconds": spread([each[1] for each in cold + kept]),
        "compile_seconds": spread([each[2] for each in cold]),
        "compile_kept_seconds": spread([each[2] for each in kept]),
    }


def _child(environment: dict[str, str]) -> list[float]:
    import json

    done = subprocess.run(
        [sys.executable, "-c", _CHILD], env=environment, capture_output=True, text=True, check=True
    )
    found: list[float] = json.loads(done.stdout.splitlines()[-1])
    return found
