"""What a stage found, in one line, from its rows alone."""

from collections.abc import Iterator, Sequence

from benchmarks.measure.measurement import Measurement
from benchmarks.measure.rows import Row
from benchmarks.show.cells import number, percent
from benchmarks.show.comparison import (
    Unit,
    arithmetic_of,
    by_group,
    counterpart,
    failed,
    fastest,
    is_ours,
    of_workload,
    rate,
    ratio,
)

_UNITS: dict[str, Unit] = {"fixed_steps": "image_steps", "to_target": "images"}


def stage_line(name: str, measurements: Sequence[Measurement], rows: Sequence[Row]) -> str:
    """Say how many rows a stage has, what matters most of them, and how long they took.

    Args:
        name: of the stage.
        measurements: what it measures.
        rows: of one commit, in the order in which they were written; those of other stages too.
    """
    keys = {one.key for one in measurements}
    found = {row["key"]: row for row in rows if row["key"] in keys}  # the latest of each
    good = [row for row in found.values() if not failed(row)]
    parts = [
        _counts(list(found.values()), len(keys)),
        *_device(good),
        *_against_torch(good),
        *_most_slots(good),
        *_whole_runs(good),
        *_permutation(good),
        *_attribution(good),
        *_first_results(good),
        f"{sum(row.get('took_seconds', 0) for row in found.values()):.0f} s",
    ]
    return f"{name}: {'; '.join(parts)}"


def _counts(rows: list[Row], wanted: int) -> str:
    cut_off = sum(bool(row.get("cut_off")) for row in rows)
    counts = {
        "failed": sum(map(failed, rows)) - cut_off,
        "cut off": cut_off,
        "left": wanted - len(rows),
    }
    told = "".join(f", {count} {what}" for what, count in counts.items() if count)
    return f"{len(rows)} row{'s' * (len(rows) != 1)}{told}"


def _device(rows: list[Row]) -> Iterator[str]:
    for row in of_workload(rows, "device_check"):
        yield (
            f"{row['device']} by {row['contender']}: {number(row['matmul_tflops'])} TFLOP/s, "
            f"{number(row['copy_gb_per_s'])} GB/s"
        )


def _against_torch(rows: list[Row]) -> Iterator[str]:
    """Hold ours against the best of torch, both at their best slots, in each arithmetic."""
    for workload, unit in _UNITS.items():
        for group in by_group(of_workload(rows, workload)):
            for arithmetic in dict.fromkeys(map(arithmetic_of, group)):
                part = [row for row in group if arithmetic_of(row) == arithmetic]
                ours = fastest(filter(is_ours, part), unit)
                if ours is None or (mine := rate(ours, unit)) is None:
                    continue
                per_second = f"{unit.replace('_', '-')}/s"
                said = f"{ours['model']} in {arithmetic}: ours {number(mine.median)} {per_second}"
                said += f" at {ours['slots']:,} slots"
                said += f" (MFU {percent(ours['mfu'])})" if ours.get("mfu") else ""
                peers = [row for row in part if row["contender"].startswith("torch")]
                torch = fastest((row for row in peers if ratio(ours, row, unit)), unit)
                if torch and (times := ratio(ours, torch, unit)):
                    said += f", {number(times.median)} × the best torch ({torch['contender']}"
                    said += f" at {torch['slots']:,})"
                yield said


def _most_slots(rows: list[Row]) -> Iterator[str]:
    best = fastest(of_workload(rows, "slots"), "image_steps")
    if best and (found := rate(best, "image_steps")):
        yield f"of all slots {best['slots']:,} the fastest: {number(found.median)} image-steps/s"


def _whole_runs(rows: list[Row]) -> Iterator[str]:
    for row in of_workload(rows, "end_to_end"):
        seconds = number(row["wall_seconds"])
        yield f"{row['num_images']:,} images of {row['model']} from file to store in {seconds} s"


def _permutation(rows: list[Row]) -> Iterator[str]:
    for row in of_workload(rows, "permutation"):
        differing, worst = row["differing"], number(row["worst"])
        differ = f"{differing:,} of {row['num_images']:,} images differ, by {worst} at most"
        yield f"permutation: {differ if differing else 'same bits'}"


def _attribution(rows: list[Row]) -> Iterator[str]:
    part = of_workload(rows, "attribution")
    for peer in part:
        ours = None if is_ours(peer) else counterpart(peer, part, "images")
        times = ratio(ours, peer, "images") if ours else None
        if times:
            yield f"AX: {number(times.median)} × {peer['contender']}"


def _first_results(rows: list[Row]) -> Iterator[str]:
    for row in of_workload(rows, "first_result"):
        seconds = number(sum(row["seconds_by_part"].values()))
        yield f"first result, {row['contender']}: {seconds} s"
