"""The one small table: ours, the released loop, and the strongest batched torch."""

from collections.abc import Iterable

from benchmarks.measure.rows import Row
from benchmarks.show.cells import NONE, captioned, error, markdown, number, problem, times
from benchmarks.show.comparison import (
    Unit,
    arithmetic_of,
    by_group,
    by_machine,
    counterpart,
    failed,
    fastest,
    is_ours,
    of_workload,
    rate,
    ratio,
)

_LINES: tuple[tuple[str, Unit, str], ...] = (
    ("fixed_steps", "image_steps", "image-steps/s"),
    ("to_target", "images", "images/s to target"),
)
_TITLES = [
    *("", "ours", "released loop", "fastest batched torch in float32"),
    "fastest batched torch against our fastest",
]


def summary(rows: list[Row]) -> str:
    """Return a table for each machine: a line for each network at fixed steps, and to target."""
    chosen = [row for workload, *_ in _LINES for row in of_workload(rows, workload)]
    made = [(part, _lines(part)) for part in by_machine(chosen)]
    return "\n".join(captioned(markdown(_TITLES, lines), part) for part, lines in made)


def _lines(rows: list[Row]) -> list[list[str]]:
    lines = []
    for workload, unit, words in _LINES:
        for part in by_group(row for row in rows if row["workload"] == workload):
            loops = [row for row in part if row["contender"].startswith("released")]
            released = [row for row in loops if row["contender"] == "released"] or loops
            torch = [row for row in part if row["contender"].startswith("torch")]
            if not released and not torch:
                continue  # ours and the bare step alone
            exact = [row for row in torch if arithmetic_of(row) == "float32"]
            lines.append(
                [
                    f"{problem(part[0])}: {words}",
                    _ours(part, unit),
                    _peer(released, part, unit),
                    _peer(exact, part, unit),
                    _peer(torch, part, unit, any_arithmetic=True),
                ]
            )
    return lines


def _ours(rows: list[Row], unit: Unit) -> str:
    """Write the fastest of each arithmetic."""
    mine = [row for row in rows if is_ours(row)]
    cells = []
    for name in dict.fromkeys(map(arithmetic_of, mine)):
        best = fastest((row for row in mine if arithmetic_of(row) == name), unit)
        if best and (found := rate(best, unit)):
            cells.append(f"{number(found.median)} {name}")
    return "<br>".join(cells) or _why_none(mine)


def _peer(
    peers: list[Row], rows: Iterable[Row], unit: Unit, *, any_arithmetic: bool = False
) -> str:
    """Write the fastest of the peers, and ours over it."""
    peer = fastest(peers, unit)
    if peer is None or (found := rate(peer, unit)) is None:
        return _why_none(peers)
    cell = f"{number(found.median)} {peer['contender']}, {arithmetic_of(peer)}"
    ours = counterpart(peer, rows, unit, any_arithmetic=any_arithmetic)
    if ours is None:
        return cell
    return f"{cell}<br>ours in {arithmetic_of(ours)}: {times(ratio(ours, peer, unit))}"


def _why_none(rows: list[Row]) -> str:
    return next((error(row) for row in rows if failed(row)), NONE)
