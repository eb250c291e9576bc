"""Tables of how far a run scales: what was measured, foreseen by the model, and simulated."""

from typing import Any

from benchmarks.measure.rows import Row
from benchmarks.show.cells import NONE, markdown, number, percent

_WAYS = ("slices side by side", "one driver")


def scaling_costs(rows: list[Row]) -> str:
    """Return what the parts of a run cost, from the newest rows."""
    costs, ray = _newest(rows, "costs"), _newest(rows, "ray")
    if costs is None or ray is None:
        return ""
    commits, store, start = costs["commits"], costs["store"], costs["start"]
    calls = ray["ray"]
    image, driver = f"{commits['size']} × {commits['size']}", costs["driver"][-1]
    loops = list(calls["slices_per_s"].items())[-1]
    each = 1000 / store["parts"]
    lines = [
        [
            f"committing an image's heatmap, {image}, float16, {commits['images']} a part",
            _spread(commits["seconds_per_image"], 1e3, "ms"),
        ],
        ["of that hashing it", _spread(commits["hash_seconds"], 1e3 / commits["images"], "ms")],
        [
            "of that waiting for the disk",
            _spread(commits["durable_seconds"], 1e3 / commits["images"], "ms"),
        ],
        [
            "bytes of a stored heatmap (noise: about as hard to compress as a photograph's)",
            f"{number(commits['bytes_per_image'], 1e3)} KB, {percent(commits['compressed_to'])}",
        ],
        [
            f"opening a run of {store['parts']:,} parts as one of {store['writers']} writers, "
            "a part",
            _spread(store["open_seconds"], each, "ms"),
        ],
        ["counting its rows at the end, a part", _spread(store["complete_seconds"], each, "ms")],
        ["noting a session's begin in run.json", _spread(store["begin_seconds"], 1e3, "ms")],
        ["noting its end", _spread(store["end_seconds"], 1e3, "ms")],
        ["a call of a Ray worker, there and back", _spread(calls["round_trip_seconds"], 1e3, "ms")],
        ["a call, many side by side", f"{number(calls['call_seconds'], 1e-3)} ms"],
        [
            f"slices a second that the driver hands to {loops[0]} Ray workers that do nothing",
            number(loops[1]),
        ],
        [
            f"what the driver computes for a slice of {driver['workers']} workers",
            f"{number(driver['seconds_per_slice'], 1e-3)} ms",
        ],
        ["a worker's imports", _spread(start["import_seconds"], 1, "s")],
        ["its network (SqueezeNet 1.0, on the CPU)", _spread(start["model_seconds"], 1, "s")],
        ["compiling, 16 slots of 256 × 256", _spread(start["compile_seconds"], 1, "s")],
        ["compiled programs kept from before", _spread(start["compile_kept_seconds"], 1, "s")],
    ]
    return markdown(["what", "cost"], lines) + _about([costs, ray])


def scaling_model(rows: list[Row]) -> str:
    """Return what the model foresees, from its newest rows."""
    found = _newest_each(rows, "model", ("images", "way"))
    lines = [
        [
            f"{row['images']:,}",
            row["way"],
            str(one["workers"]),
            number(one["images_per_s"]),
            percent(one["of_ideal"]),
            *(number(one["seconds"][name]) for name in ("start", "work", "slices", "last", "end")),
            one["limit"],
        ]
        for row in found
        for one in row["foreseen"]
    ]
    titles = ["images", "by", "workers", "images/s", "of the devices' rate"]
    titles += ["start, s", "work", "slots that empty", "last commit", "end", "work's limit"]
    return markdown(titles, lines) if lines else ""


def scaling_limits(rows: list[Row]) -> str:
    """Return where each part becomes the limit, from the model's newest row."""
    row = _newest(rows, "model")
    if row is None:
        return ""
    found = row["limits"]
    lines = [
        ["a worker's commits, above", f"{number(found['commit_rate'])} images/s of its devices"],
        [
            f"the storage: each worker gives it, at {row['rate']:,.0f} images/s",
            f"{number(found['bytes_per_s'], 1e6)} MB/s in {number(found['files_per_s'])} files/s",
        ],
        ["so 1 GB/s is filled by", f"{number(found['workers_at_1_gb_per_s'])} workers"],
        ["the driver of 64 workers, above", f"{number(found['slices_per_s'])} slices/s"],
        [
            f"the end of {row['images']:,} images: reading all parts twice",
            f"{number(found['end_seconds'])} s",
        ],
    ]
    return markdown(["what", "limit"], lines)


def scaling_simulated(rows: list[Row]) -> str:
    """Return how simulated workers did, from the newest rows."""
    found = _newest_each(rows, "simulate", ("workers", "way"))
    counts = sorted({row["workers"] for row in found})
    of = {(row["workers"], row["way"]): row for row in found}
    lines = []
    for count in counts:
        line = [str(count)]
        for way in _WAYS:
            row = of.get((count, way))
            if row is None or "of_ideal" not in row:
                line += [NONE] * 4
                continue
            line += [percent(row["of_ideal"])]
            line += [number(row["slowest"][name]) for name in ("start", "work", "end")]
        lines.append(line)
    titles = ["workers"]
    for way in _WAYS:
        titles += [f"{way}: of the devices' rate", "start, s", "work", "end"]
    return markdown(titles, lines) + _about(found) if lines else ""


def scaling_opening(rows: list[Row]) -> str:
    """Return how long writers that open one run at once take, before and after a change."""
    found = [row for row in rows if row.get("workload") == "scaling_opening"]
    lines = [
        [
            row.get("note", "now"),
            f"{row['workers']} writers, {row['parts']:,} parts",
            f"{number(row.get('seconds'))} s",
            str(row["errors"]),
            row["commit"],
        ]
        for row in found
    ]
    titles = ["", "run", "the last is through after", "refused", "commit"]
    return markdown(titles, lines) if lines else ""


def scaling_long(rows: list[Row]) -> str:
    """Return what a long run's steps took, from its newest row."""
    row = _newest(rows, "long")
    if row is None:
        return ""
    lines = [
        [name, f"{number(each['seconds'])} s", f"{each['peak_mb']:,.0f} MB"]
        for name, each in row["steps"].items()
    ]
    grown = row["bytes_per_image"]
    lines.insert(
        1,
        [
            "its rate, and by how much memory grows after the first 30%",
            f"{number(row['images_per_s'])} images/s",
            f"{grown['slope']:,.0f} ({grown['low']:,.0f}–{grown['high']:,.0f}) bytes an image",
        ],
    )
    title = f"{row['num_images']:,} rows, {row['parts']:,} parts, {row['disk_mb']:,.0f} MB"
    return markdown([title, "a fresh process takes", "most memory"], lines) + _about([row])


# --- Rows ----------------------------------------------------------------------------------------


def _newest(rows: list[Row], part: str) -> Row | None:
    found = [r for r in rows if r.get("workload") == f"scaling_{part}" and "note" not in r]
    return found[-1] if found else None


def _newest_each(rows: list[Row], part: str, names: tuple[str, ...]) -> list[Row]:
    found: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        if row.get("workload") == f"scaling_{part}" and "note" not in row:
            found[tuple(row[name] for name in names)] = row
    return list(found.values())


def _spread(values: dict[str, float], times: float, unit: str) -> str:
    middle, low, high = (number(times * values[name]) for name in ("median", "min", "max"))
    return f"{middle} {unit} ({low}–{high})"


def _about(rows: list[Row]) -> str:
    """Say where and how the rows were measured."""
    row, loads = rows[-1], [each["load"] for each in rows]
    commits = ", ".join(dict.fromkeys(each["commit"] for each in rows))
    load = number(min(loads)) if len(loads) < 2 else f"{number(min(loads))} to {number(max(loads))}"
    return (
        f"\n{row['processor']}, {row['cores']} cores, which others used too (load {load} "
        f"when the rows were written), commit {commits}.\n"
    )
