"""python -m benchmarks scaling: costs, a model of them, a simulation to check it, a long run.

No device computes here: rates of devices are assumed, everything else is measured.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.measure.machine import commit, machine
from benchmarks.measure.rows import Row, append_row, read_lines, rounded
from benchmarks.measure.run import BENCHMARKS
from gaxjax.common import UserError

Part = Literal["costs", "ray", "model", "opening", "simulate", "long"]


@dataclass(frozen=True)
class Scaling:
    """How far a run scales over workers: measured costs, a model, a simulation, and a long run.

    Attributes:
        parts: What to do. costs, ray: what the parts of a run cost. model: images a second from
            the newest costs. opening: writers that open one run at once. simulate: workers with
            simulated devices. long: a run of many rows, and what opening it costs.
        rate: Images a second of a device: assumed, by default what 10,000 images in 30 s take.
        images: Of the runs of the model.
        workers: How many.
        slower: Simulated devices take so many times as long, for this machine has few cores.
        seconds: Work of each simulated device.
        store_parts: Parts of the stores that are opened.
        rows: Images of the long run.
        note: Kept in the rows.
        folder: Where stores are written; a temporary one when not given.
        output: File of rows; benchmarks/results/scaling.jsonl by default.
    """

    parts: tuple[Part, ...] = ("costs", "ray", "model", "opening", "simulate", "long")
    rate: float = 1000 / 3
    images: tuple[int, ...] = (50_000, 1_000_000)
    workers: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    slower: float = 8.0
    seconds: float = 20.0
    store_parts: int = 1000
    rows: int = 1_000_000
    note: str = ""
    folder: Path | None = None
    output: Path = BENCHMARKS / "results" / "scaling.jsonl"


def scaling(command: Scaling) -> list[Row]:
    """Do the parts, append their rows, and say in a line what each found."""
    parts = {
        "costs": _costs,
        "ray": _ray,
        "model": _model,
        "opening": _opening,
        "simulate": _simulate,
        "long": _long,
    }
    found = []
    for name in command.parts:
        for values in parts[name](command):
            row = rounded(
                {
                    **{"workload": f"scaling_{name}", "suite": "scaling"},
                    "key": key(name, values, command.note),
                    **machine(),
                    "load": _load(),
                    **values,
                    **({"note": command.note} if command.note else {}),
                    "commit": commit(),
                }
            )
            append_row(row, command.output)
            print(describe(row), flush=True)
            found.append(row)
    return found


def key(part: str, values: Row, note: str = "") -> str:
    """Return what names a row: of rows with one key the newest counts."""
    told = [values[name] for name in ("images", "workers", "way") if name in values]
    return "/".join(map(str, ("scaling", part, *told, *filter(None, [note]))))


def _load() -> float:
    """Return how many processes wanted this machine's cores over the last minute."""
    import os

    return os.getloadavg()[0]


def describe(row: Row) -> str:
    """Return what a row found, in a line."""
    match row["workload"]:
        case "scaling_costs":
            commit_, store = row["commits"], row["store"]
            return (
                f"costs: {1e3 * commit_['seconds_per_image']['median']:.2f} ms to commit an image, "
                f"{1e3 * store['open_seconds']['median'] / store['parts']:.2f} ms to read a part"
            )
        case "scaling_ray":
            return f"Ray: {1e3 * row['ray']['round_trip_seconds']['median']:.2f} ms a call"
        case "scaling_model":
            last = row["foreseen"][-1]
            return (
                f"model: {row['images']:,} images, {row['way']}, {last['workers']} workers: "
                f"{last['images_per_s']:,.0f} images/s, {last['of_ideal']:.0%} of the devices'"
            )
        case "scaling_opening":
            return (
                f"opening: {row['workers']} writers at once, {row['parts']:,} parts: "
                f"{row['seconds']:.1f} s, {row['errors']} refused"
            )
        case "scaling_simulate":
            return (
                f"simulated: {row['way']}, {row['workers']} workers: "
                f"{row['of_ideal']:.0%} of the devices'"
            )
    steps = ", ".join(f"{name} {each['seconds']:.1f} s" for name, each in row["steps"].items())
    return f"{row['num_images']:,} rows: memory {'flat' if row['flat'] else 'GROWS'}; {steps}"


def _costs(command: Scaling) -> list[Row]:
    from benchmarks.scaling.costs import commit_cost, start_cost, store_cost
    from benchmarks.scaling.fleet import driver_cost

    with tempfile.TemporaryDirectory(prefix="gaxjax-scaling-", dir=command.folder) as name:
        commits = commit_cost(Path(name) / "commits")
        store = store_cost(Path(name) / "store", parts=command.store_parts)
    driver = [driver_cost(count) for count in command.workers]
    return [{"commits": commits, "store": store, "driver": driver, "start": start_cost()}]


def _ray(command: Scaling) -> list[Row]:
    from benchmarks.scaling.ray_cost import ray_cost

    return [{"ray": ray_cost()}]


def _newest(command: Scaling, workload: str) -> Row:
    rows = read_lines(command.output) if command.output.exists() else []
    found = [row for row in rows if row["workload"] == workload and "note" not in row]
    if not found:
        raise UserError(f"{command.output} has no row of {workload}: measure it first")
    return found[-1]


def _model(command: Scaling) -> list[Row]:
    from benchmarks.scaling.model import Costs, Setting, foreseen, limits

    costs, ray = _newest(command, "scaling_costs"), _newest(command, "scaling_ray")["ray"]
    measured, start = costs["store"], costs["start"]

    def median(values: dict[str, Any], name: str) -> float:
        return float(values[f"{name}_seconds"]["median"])

    given = Costs(
        start=sum(median(start, name) for name in ("import", "model", "compile")),
        commit=costs["commits"]["seconds_per_image"]["median"],
        bytes_per_image=costs["commits"]["bytes_per_image"],
        part=median(measured, "open") / measured["parts"],
        lock=median(measured, "begin") + median(measured, "end"),
        driver_slice=costs["driver"][-1]["seconds_per_slice"],
        driver_call=ray["call_seconds"],
    )
    rows = []
    for images in command.images:
        for way in ("slices side by side", "one driver"):
            setting = Setting(images, command.rate, driver=way == "one driver")
            rows.append(
                {
                    **{"images": images, "rate": command.rate, "way": way},
                    "costs": vars(given),
                    "foreseen": [foreseen(given, setting, count) for count in command.workers],
                    "limits": limits(given, setting),
                }
            )
    return rows


def _opening(command: Scaling) -> list[Row]:
    from benchmarks.scaling.costs import WRITERS, filled
    from benchmarks.scaling.fleet import Scene, side_by_side

    each = -(-command.store_parts * 64 // WRITERS)
    scene = Scene(WRITERS, each, rate=1e9, part_size=64)
    with tempfile.TemporaryDirectory(prefix="gaxjax-scaling-", dir=command.folder) as name:
        run = Path(name) / "run"
        filled(run, scene.total // 64, images=64)
        found = side_by_side(scene, run, again=True)
    return [{"workers": WRITERS, "parts": scene.total // 64, **found}]


def _simulate(command: Scaling) -> list[Row]:
    from benchmarks.scaling.fleet import Scene, side_by_side, under_one_driver

    ways = {"slices side by side": side_by_side, "one driver": under_one_driver}
    rows = []
    for count in command.workers:
        for way, simulated in ways.items():
            # A quarter of the images a second and a commit: as many commits a second.
            rate, part = command.rate / command.slower / 4, 64
            scene = Scene(count, max(1, round(command.seconds * rate)), rate, part)
            with tempfile.TemporaryDirectory(prefix="gaxjax-scaling-", dir=command.folder) as name:
                found = simulated(scene, Path(name) / "run")
            rows.append({"way": way, **vars(scene), "slower": command.slower, **found})
    return rows


def _long(command: Scaling) -> list[Row]:
    from benchmarks.scaling.long_run import long_run

    with tempfile.TemporaryDirectory(prefix="gaxjax-scaling-", dir=command.folder) as name:
        return [long_run(Path(name), command.rows)]
