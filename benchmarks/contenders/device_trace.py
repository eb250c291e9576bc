"""A profiler's trace read without TensorBoard: which kind of work a device's time went into.

On a GPU every kernel is an event of a stream. On a CPU every operation of XLA is an event of the
thread that called it; where other threads finish it, an event `end: NAME` says when.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jax.profiler import ProfileData

from benchmarks.measure.measurement import Fields

Category = Literal["convolution", "reduction", "elementwise", "copies", "other"]
CATEGORIES: tuple[Category, ...] = ("convolution", "reduction", "elementwise", "copies", "other")
"""Where several kinds of work overlap, the moment counts as the first of these."""

_TOP = 10
_LONGEST_NAME = 120

# Libraries' changes of layout around a convolution carry the library's name, so they go first.
_LAYOUT = re.compile(
    r"nchwtonhwc|nhwctonchw|nhwcaddpadding|transformtensor|tensortransform|converttensor"
    r"|memcpy|memset"
)
_MATRIX = re.compile(
    r"conv(?!ert)|fprop|dgrad|wgrad|gemm|gemv|matmul|winograd|cudnn|cublas|cutlass|xmma|nvjet"
    r"|splitk|(?:^|[^a-z])dot(?:$|[^a-z])"
)
_REDUCING = frozenset({"reduce", "argmax", "argmin", "softmax"})
_COMPUTING = frozenset(
    "abs add and clamp compare convert divide elementwise exp exponential floor is log "  # noqa: SIM905
    "maximum minimum multiply negate not or power rsqrt select sign sqrt subtract tanh xor".split()
)
_MOVING = frozenset(
    "bitcast broadcast concatenate copy dynamic gather iota pad reshape reverse "  # noqa: SIM905
    "scatter slice transpose update".split()
)
_CONTAINER = re.compile(r"(while|conditional|call)\b")  # its parts have events of their own


@dataclass(frozen=True)
class Event:
    """Some work of the device, from `start` to `end` in nanoseconds.

    `is_wait` where an operation has been handed to other threads and is not seen itself: it counts
    only while no other work is seen.
    """

    name: str
    start: float
    end: float
    category: Category
    is_wait: bool = False


def summarise(folder: Path) -> Fields:
    """Tell what the traced time went into.

    Args:
        folder: where `jax.profiler.trace` wrote.

    Returns:
        `shares` of the time from the first event to the last, by category and `idle`, which sum to
        1; `top`: the operations that took longest, with their share and number; a `note` where
        the trace is of an unknown layout, and then no shares.
    """
    try:
        events, plane = _read(folder)
        if not events:
            return _unknown(f"no events of a device in {plane}")
        return divide(events) | {"traced_plane": plane}
    except Exception as error:  # a profiler's layout is no interface: a row without shares will do
        return _unknown(f"{type(error).__name__}: {error}")


def divide(events: Sequence[Event]) -> Fields:
    """Give each moment from the first event to the last to one operation, or to none.

    Returns:
        `shares` and `top`, as `summarise` does.
    """
    ranks = [(event.is_wait, CATEGORIES.index(event.category)) for event in events]
    boundaries = sorted(
        (moment, number)
        for number, event in enumerate(events)
        for moment in (event.start, event.end)
    )
    active: set[int] = set()
    spent: defaultdict[tuple[str, Category], float] = defaultdict(float)
    before = boundaries[0][0]
    for moment, number in boundaries:
        if active and moment > before:
            doing = events[min(active, key=lambda one: (ranks[one], one))]
            spent[doing.name, doing.category] += moment - before
        before = moment
        active ^= {number}  # each event has two boundaries
    whole = boundaries[-1][0] - boundaries[0][0]
    if not whole:
        raise ValueError("the events last no time")
    shares = dict.fromkeys(CATEGORIES, 0.0)
    for (_, category), time in spent.items():
        shares[category] += time / whole
    counts = Counter((event.name, event.category) for event in events if not event.is_wait)
    longest = sorted(spent.items(), key=lambda item: -item[1])[:_TOP]
    top = [
        {
            "name": name[:_LONGEST_NAME],
            "category": category,
            "share": time / whole,
            "count": counts[name, category],
        }
        for (name, category), time in longest
    ]
    return {"shares": shares | {"idle": 1 - sum(shares.values())}, "top": top}


def categorise(*names: str) -> Category:
    """Tell the kind of work by an operation's names, the kernel's own first.

    Matrix products count as convolutions: XLA and cuDNN compute 1 × 1 convolutions by them.

    Example:
        >>> categorise("sm90_xmma_fprop_implicit_gemm_bf16bf16_bf16f32_f32_nhwckrsc_nhwc")
        'convolution'
        >>> categorise("wrapped_convert")
        'elementwise'
    """
    for name in names:
        category = _by_name(name.lower())
        if category != "other":
            return category
    return "other"


def _by_name(name: str) -> Category:
    if _LAYOUT.search(name):
        return "copies"
    if _MATRIX.search(name):
        return "convolution"
    # A fusion is named after the operations in it: loop_add_fusion, transpose_copy_fusion.7.
    words = set(re.findall(r"[a-z]+", name))
    if words & _REDUCING or {"select", "and", "scatter"} <= words:
        return "reduction"
    if words & _COMPUTING:
        return "elementwise"
    if words & _MOVING:
        return "copies"
    return "elementwise" if "fusion" in words else "other"


def _read(folder: Path) -> tuple[list[Event], str]:
    """Return the events of the first device, and the name of their plane."""
    files = sorted(folder.rglob("*.xplane.pb"))
    if not files:
        raise FileNotFoundError("the profiler wrote no xplane.pb")
    planes = {plane.name: plane for plane in ProfileData.from_file(str(files[-1])).planes}
    gpus = sorted(name for name in planes if name.startswith("/device:GPU"))
    for name in gpus:
        events = list(_kernels(planes[name]))
        if events:
            return events, name
    if gpus:  # the host's plane shows when kernels were launched, not how long they ran
        return [], gpus[0]
    return list(_host_operations(planes["/host:CPU"])), "/host:CPU"


def _kernels(plane: Any) -> Iterator[Event]:
    """Yield what ran on the GPU's streams; other lines repeat it, grouped."""
    for line in plane.lines:
        if not line.name.startswith("Stream"):
            continue
        for event in line.events:
            stats = _stats(event)
            names = (str(stats.get(key, "")) for key in ("hlo_op", "hlo_category"))
            yield Event(event.name, event.start_ns, event.end_ns, categorise(event.name, *names))


def _host_operations(plane: Any) -> Iterator[Event]:
    """Yield XLA's operations on the CPU; where other threads finish one, the wait until then.

    The end of a wait is noted late, after the operations that waited for it: they are seen
    themselves, and outrank it.
    """
    calls, ended = [], {}
    for line in plane.lines:
        for event in line.events:
            stats = _stats(event)
            if event.name.startswith("end: "):
                ended[stats.get("_c")] = event.start_ns
            elif "hlo_op" in stats and not _CONTAINER.match(event.name):
                calls.append((event.name, event.start_ns, event.end_ns, stats.get("_p")))
    for name, start, end, number in calls:
        category = categorise(name)
        yield Event(name, start, end, category)
        if ended.get(number, end) > end:
            yield Event(name, end, ended[number], category, is_wait=True)


def _stats(event: Any) -> dict[str, Any]:
    # Some statistics have neither name nor value.
    return {str(pair[0]): pair[1] for pair in event.stats if pair is not None}


def _unknown(note: str) -> Fields:
    return {"shares": None, "top": [], "note": note[:300]}
