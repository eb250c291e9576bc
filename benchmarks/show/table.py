"""The tables of the suite in Markdown, from stored rows alone."""

import statistics
from collections.abc import Callable

from benchmarks.measure.rows import Row
from benchmarks.show.cells import (
    NONE,
    captioned,
    error,
    markdown,
    number,
    percent,
    problem,
    slots,
    spread,
    times,
)
from benchmarks.show.comparison import (
    Unit,
    arithmetic_of,
    by_group,
    by_machine,
    counterpart,
    failed,
    fixed_steps,
    is_ours,
    method_of,
    milliseconds_per_image,
    name_of,
    of_workload,
    original,
    rate,
    ratio,
    unit_of,
)
from benchmarks.show.coverage import coverage, coverage_summary
from benchmarks.show.gpu_code import gpu_code, gpu_code_history
from benchmarks.show.scaling import (
    scaling_costs,
    scaling_limits,
    scaling_long,
    scaling_model,
    scaling_opening,
    scaling_simulated,
)
from benchmarks.show.sources import sources
from benchmarks.show.summary import summary

Column = tuple[str, Callable[[Row], str]]

_PROBLEM: Column = ("network", problem)
_CONTENDER: Column = ("contender", lambda row: row["contender"])
_ARITHMETIC: Column = ("arithmetic", arithmetic_of)
_SLOTS: Column = ("slots", slots)
_IMAGES: Column = ("images", lambda row: f"{row['num_images']:,}")
_STEP_RATE: Column = ("image-steps/s", lambda row: spread(rate(row, "image_steps")))
_IMAGE_RATE: Column = ("images/s", lambda row: spread(rate(row, "images")))
_STEP_ALONE: Column = ("step alone", lambda row: number(row.get("step_image_steps_per_s")))
_TFLOPS: Column = ("TFLOP/s", lambda row: number(row.get("tflops")))
_MFU: Column = ("MFU", lambda row: percent(row.get("mfu")))
_DEVICE_MEMORY: Column = ("device, GB", lambda row: number(row.get("peak_device_bytes"), 1e9))
_HOST_MEMORY: Column = ("host, GB", lambda row: number(row.get("peak_host_bytes"), 1e9))
_COMPILE: Column = ("compile, s", lambda row: number(row.get("compile_seconds")))
_OCCUPANCY: Column = ("occupancy", lambda row: percent(row.get("occupancy")))


def _device_check(rows: list[Row]) -> str:
    def told(name: str, title: str) -> Column:
        return title, lambda row: (row.get("gpu") or {}).get(name, NONE)

    def block(part: list[Row]) -> str:
        values: list[Column] = [
            ("bfloat16 product, TFLOP/s", lambda row: number(row.get("matmul_tflops"))),
            ("of the data sheet's", lambda row: percent(row.get("matmul_share_of_peak"))),
            ("copy, GB/s", lambda row: number(row.get("copy_gb_per_s"))),
            ("upload, GB/s", lambda row: number(row.get("upload_gb_per_s"))),
            *(told("driver_version", "driver"), told("memory.total", "memory")),
            ("runtime", lambda row: row.get("runtime") or NONE),
        ]
        return _table(part, [("framework", _CONTENDER[1])], values)

    return _of_machines(of_workload(rows, "device_check"), block)


def _fixed_steps(rows: list[Row]) -> str:
    def block(part: list[Row]) -> str:
        values = [
            *(_STEP_RATE, _STEP_ALONE),
            *_against_ours(part, "image_steps"),
            *(_TFLOPS, _MFU, _DEVICE_MEMORY, _HOST_MEMORY, _COMPILE),
        ]
        return _table(part, [_CONTENDER, _ARITHMETIC, _SLOTS], values)

    return _of_groups(of_workload(rows, "fixed_steps"), block)


def _to_target(rows: list[Row]) -> str:
    def steps(row: Row) -> str:
        found = row.get("steps")
        if not found:
            return NONE
        return f"{statistics.median(found):g} / {statistics.mean(found):.1f} / {max(found)}"

    def outcomes(row: Row) -> str:
        counts = row.get("outcomes") or {}
        return ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items())

    def block(part: list[Row]) -> str:
        values = [
            _IMAGE_RATE,
            *_against_ours(part, "images"),
            _STEP_RATE,
            ("images by outcome", lambda row: outcomes(row) or NONE),
            ("steps: median / mean / most", steps),
            *(_OCCUPANCY, _DEVICE_MEMORY, _HOST_MEMORY, _COMPILE),
        ]
        return _table(part, [_CONTENDER, _ARITHMETIC, _SLOTS, _IMAGES], values)

    return _of_groups(of_workload(rows, "to_target"), block)


def _end_to_end(rows: list[Row]) -> str:
    def busy(part: str) -> Column:
        def cell(row: Row) -> str:
            seconds, wall = row.get("seconds_by_part", {}).get(part), row.get("wall_seconds")
            return f"{number(seconds)} ({percent(seconds / wall)})" if seconds and wall else NONE

        return f"{part}, s (of wall)", cell

    def block(part: list[Row]) -> str:
        values = [
            _IMAGE_RATE,
            ("wall, s", lambda row: number(row.get("wall_seconds"))),
            *map(busy, _names(part, "seconds_by_part")),
            *(_OCCUPANCY, _DEVICE_MEMORY, _HOST_MEMORY),
        ]
        return _table(part, [_PROBLEM, _CONTENDER, _ARITHMETIC, _SLOTS, _IMAGES], values)

    return _of_machines(of_workload(rows, "end_to_end"), block)


def _attribution(rows: list[Row]) -> str:
    def score_difference(row: Row) -> str:
        return NONE if is_ours(row) else number(row.get("ax_score_difference"))

    def block(part: list[Row]) -> str:
        values = [
            _IMAGE_RATE,
            ("ms per image", lambda row: spread(milliseconds_per_image(row))),
            *_against_ours(part, "images"),
            ("scores off native's, at most", score_difference),
            *(_DEVICE_MEMORY, _HOST_MEMORY, _COMPILE),
        ]
        names: list[Column] = [("method", method_of), ("contender", name_of), _ARITHMETIC]
        return _table(part, [*names, ("batch", _SLOTS[1])], values)

    return _of_groups(of_workload(rows, "attribution"), block)


def _slots(rows: list[Row]) -> str:
    def block(part: list[Row]) -> str:
        values = [_STEP_RATE, _TFLOPS, _MFU, _DEVICE_MEMORY, _HOST_MEMORY, _COMPILE]
        return _table(part, [_CONTENDER, _ARITHMETIC, _SLOTS], values)

    return _of_groups(of_workload(rows, "slots"), block)


def _images(rows: list[Row]) -> str:
    def block(part: list[Row]) -> str:
        values = [_IMAGE_RATE, _STEP_RATE, _OCCUPANCY, _DEVICE_MEMORY, _HOST_MEMORY]
        return _table(part, [_CONTENDER, _ARITHMETIC, _SLOTS, _IMAGES], values)

    return _of_groups(of_workload(rows, "images"), block)


def _devices(rows: list[Row]) -> str:
    def block(part: list[Row]) -> str:
        fewest = min(part, key=lambda row: row["devices"])

        def same(row: Row) -> str:
            found = row.get("results_sha256")
            return NONE if not found else "yes" if found == fewest["results_sha256"] else "no"

        values = [
            *(_IMAGE_RATE, _STEP_RATE),
            ("results, sha256", lambda row: f"`{(row.get('results_sha256') or NONE)[:12]}`"),
            (f"the same as with {fewest['devices']}", same),
        ]
        names: list[Column] = [("devices", lambda row: str(row["devices"])), _ARITHMETIC]
        return _table(part, [*names, ("slots on each", _SLOTS[1]), _IMAGES], values)

    return _of_groups(of_workload(rows, "devices"), block)


def _first_result(rows: list[Row]) -> str:
    def seconds(part: str) -> Column:
        title = part.replace("_", " ")
        return f"{title}, s", lambda row: number(row.get("seconds_by_part", {}).get(part))

    def block(part: list[Row]) -> str:
        total: Column = ("together, s", lambda row: number(sum(row["seconds_by_part"].values())))
        values = [*map(seconds, _names(part, "seconds_by_part")), total]
        names: list[Column] = [_PROBLEM, ("compilation cache", _CONTENDER[1]), _ARITHMETIC, _SLOTS]
        return _table(part, names, values)

    return _of_machines(of_workload(rows, "first_result"), block)


def _permutation(rows: list[Row]) -> str:
    def again(row: Row) -> str:
        found = row.get("rerun_differing")
        return NONE if found is None else f"{found:,}"

    def block(part: list[Row]) -> str:
        values: list[Column] = [
            ("equal bit for bit", lambda row: "no" if row["differing"] else "yes"),
            ("images that differ", lambda row: f"{row['differing']:,}"),
            ("worst difference of a pixel", lambda row: number(row["worst"])),
            ("that differ in the same order again", again),
        ]
        return _table(part, [_PROBLEM, _CONTENDER, _ARITHMETIC, _SLOTS, _IMAGES], values)

    return _of_machines(of_workload(rows, "permutation"), block)


def _profile(rows: list[Row]) -> str:
    def longest(row: Row) -> str:
        operations = row.get("top") or []
        return ", ".join(f"`{one['name']}` {percent(one['share'])}" for one in operations[:5])

    def share(name: str) -> Column:
        return name, lambda row: percent((row.get("shares") or {}).get(name))

    def block(part: list[Row]) -> str:
        names = [_PROBLEM, _CONTENDER, _ARITHMETIC, _SLOTS]
        table = _table(part, names, [_STEP_RATE, *map(share, _names(part, "shares"))])
        below = [
            f"- {problem(row)}, {row['contender']} in {arithmetic_of(row)}: {text}"
            for row in part
            if (text := row.get("note") or longest(row))
        ]
        return "\n".join([table, "Longest operations:\n", *below, ""]) if below else table

    return _of_machines(of_workload(rows, "profile"), block)


def _noise(rows: list[Row]) -> str:
    def block(part: list[Row]) -> str:
        def per_second(row: Row) -> str:
            unit = unit_of(row)
            return f"{spread(rate(row, unit))} {unit.replace('_', '-')}/s"

        def first(row: Row) -> str:
            found = original(row, rows)
            return per_second(found) if found else NONE

        def again(row: Row) -> str:
            found = original(row, rows)
            return times(ratio(row, found, unit_of(row)) if found else None)

        values: list[Column] = [("first", first), ("again", per_second), ("again ÷ first", again)]
        names: list[Column] = [("workload", lambda row: row["workload"]), _PROBLEM, _CONTENDER]
        return _table(part, [*names, _ARITHMETIC, _SLOTS], values)

    return _of_machines([row for row in rows if row.get("repeat")], block)


TABLES: dict[str, Callable[[list[Row]], str]] = {
    "summary": summary,
    "device_check": _device_check,
    "coverage": coverage,
    "coverage_summary": coverage_summary,
    "gpu_code": gpu_code,
    "scaling_costs": scaling_costs,
    "scaling_model": scaling_model,
    "scaling_limits": scaling_limits,
    "scaling_opening": scaling_opening,
    "scaling_simulated": scaling_simulated,
    "scaling_long": scaling_long,
    "gpu_code_history": gpu_code_history,
    "fixed_steps": _fixed_steps,
    "to_target": _to_target,
    "end_to_end": _end_to_end,
    "attribution": _attribution,
    "slots": _slots,
    "images": _images,
    "devices": _devices,
    "first_result": _first_result,
    "permutation": _permutation,
    "profile": _profile,
    "noise": _noise,
    "sources": sources,
}


def _table(rows: list[Row], names: list[Column], values: list[Column]) -> str:
    """Write a line for each row: what it is called, and what was measured or why it was not."""
    lines = []
    for row in rows:
        line = [cell(row) for _, cell in names]
        if failed(row):
            line += [error(row), *[NONE] * (len(values) - 1)]
        else:
            line += [cell(row) for _, cell in values]
        lines.append(line)
    return markdown([title for title, _ in (*names, *values)], lines)


def _against_ours(rows: list[Row], unit: Unit) -> list[Column]:
    """Hold what is not ours against ours: the ratio, and the arithmetic that ours took."""

    def ours(row: Row) -> Row | None:
        return None if is_ours(row) or failed(row) else counterpart(row, rows, unit)

    def ratio_to(row: Row) -> str:
        mine = ours(row)
        return times(ratio(mine, row, unit) if mine else None)

    def arithmetic(row: Row) -> str:
        mine = ours(row)
        return arithmetic_of(mine) if mine else NONE

    return [("ours ÷ this", ratio_to), ("ours in", arithmetic)]


def _of_groups(rows: list[Row], block: Callable[[list[Row]], str]) -> str:
    """Write a table for each network on each machine."""

    def title(row: Row) -> str:
        words = problem(row), fixed_steps(row), f"on {row['device']}"
        return ", ".join(filter(None, words))

    return "\n".join(
        f"{title(part[0])}:\n\n{captioned(block(part), part)}" for part in by_group(rows)
    )


def _of_machines(rows: list[Row], block: Callable[[list[Row]], str]) -> str:
    """Write a table for each machine."""
    return "\n".join(captioned(block(part), part) for part in by_machine(rows))


def _names(rows: list[Row], field: str) -> list[str]:
    """Return the names in a field's dictionaries, in the order in which they were stored."""
    return list(dict.fromkeys(name for row in rows for name in row.get(field) or {}))
