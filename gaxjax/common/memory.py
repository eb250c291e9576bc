"""What memory and how many processors a process may use: the host's, its groups', its own limits.

A container or a batch job is a control group (cgroup) with limits of its own, which the host's
figures know nothing of; every group above it limits it as well.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from gaxjax.common.errors import UserError
from gaxjax.common.text import in_bytes

__all__ = ["affordable", "allowed_cores", "host_free_bytes", "require_memory"]

_NO_LIMIT = 2**60  # version 1 writes nearly 2**63 where there is none


def host_free_bytes(root: Path = Path("/")) -> int:
    """Return the bytes of host memory that this process can still take.

    The least of what the system has available, what each control group leaves, and what the
    process's own limits (`ulimit -v`, `ulimit -d`) leave. What is held for files that could be
    read again is free.

    Args:
        root: where /proc and /sys are; another place in tests.
    """
    free = [int(psutil.virtual_memory().available)]
    free += [max(0, limit - used) for limit, used in _group_memory(root)]
    return min([*free, *_own_limits()])


def allowed_cores(root: Path = Path("/")) -> float | None:
    """Return the number of processors that the control groups grant, None where they set none.

    Example:
        >>> allowed_cores(Path("nowhere")) is None
        True
    """
    shares: list[float] = []
    for folder in _groups(root, "cpu"):
        quota, period = _words(folder / "cpu.max")[:2] or ("max", "1")
        if quota == "max":
            quota, period = (
                " ".join(_words(folder / f"cpu.cfs_{name}_us")) for name in ("quota", "period")
            )
        if quota.isdigit() and period.isdigit() and int(period) > 0 and int(quota) > 0:
            shares.append(int(quota) / int(period))
    return min(shares, default=None)


def require_memory(needed: int, free: int, what: str, mend: str) -> None:
    """Refuse what cannot fit, before anything of it is allocated.

    Args:
        needed: bytes, at least.
        free: bytes.
        what: it is for, such as "an image of 256 × 256".
        mend: what to give instead.

    Raises:
        UserError: more is needed than is free; both are told.

    Example:
        >>> require_memory(2_000_000_000, 2_100_000_000, "--size 256", "give a smaller one")
    """
    if needed > free:
        raise UserError(
            f"{what} needs about {in_bytes(needed)}, {in_bytes(max(0, free))} are free: {mend}"
        )


def affordable(
    count: int, each: int, free: int, flag: str, shape: Sequence[int], *, halves: bool
) -> int:
    """Return how many images side by side to begin with: as many as asked, where they may fit.

    Args:
        count: how many are asked for.
        each: bytes that one needs, at least.
        free: bytes.
        flag: what asks for them, such as `--batch-size`.
        shape: of an image, (H, W, 3).
        halves: whether running out of memory is told, and answered with half as many: then what is
            hopeless alone is halved here. Else it is refused: a host ends the process instead.

    Raises:
        UserError: one does not fit; or so many do not, and nobody would tell.

    Example:
        >>> affordable(8, 10**9, 10**10, "--slots", (64, 64, 3), halves=False)
        8
        >>> affordable(64, 10**9, 10**10, "--slots", (64, 64, 3), halves=True)
        32
    """
    image = f"an image of {shape[0]} × {shape[1]}"
    require_memory(each, free, image, "give smaller ones (--size)")
    if not halves:
        fits = 2 ** (max(1, free // (2 * max(each, 1))).bit_length() - 1)
        require_memory(count * each, free, f"{flag} {count}", f"{flag} {fits} would fit")
    while count > 1 and count * each > _HOPELESS * free:
        count //= 2
    return count


_HOPELESS = 4  # times the free memory: estimates are rough, and what may fit is tried


def _group_memory(root: Path) -> Iterator[tuple[int, int]]:
    """Yield limit and use, in bytes, of every group that limits this process."""
    for folder in _groups(root, "memory"):
        for limit_file, use_file, prefix in (
            ("memory.max", "memory.current", ""),
            ("memory.high", "memory.current", ""),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
        ):
            limit, used = _number(folder / limit_file), _number(folder / use_file)
            if limit is None or used is None or limit >= _NO_LIMIT:
                continue
            words = _words(folder / "memory.stat")
            held = dict(zip(words[::2], words[1::2], strict=False))
            kinds = (f"{kind}_file" for kind in ("inactive", "active"))
            files = [held.get(prefix + kind) or held.get(kind) or "0" for kind in kinds]
            yield limit, max(0, used - sum(int(size) for size in files if size.isdigit()))


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of this process's group and of all above it, of both versions."""
    mounted = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        if controller in controllers.split(","):
            tops = [mounted / controllers, mounted / controller]
        elif number == "0" and not controllers:
            tops = [mounted, mounted / "unified"]
        else:
            continue
        # A container may see only its own part of the tree, under the name of the whole.
        parts = [part for part in name.split("/") if part not in ("", ".", "..")]
        for top in dict.fromkeys(tops):
            yield from (top.joinpath(*parts[:count]) for count in range(len(parts), -1, -1))


def _own_limits() -> list[int]:
    """Return what the process's limits on its address space and its data leave, in bytes."""
    try:
        import resource
    except ImportError:  # Windows has none
        return []
    memory = psutil.Process().memory_info()
    taken = {resource.RLIMIT_AS: memory.vms, resource.RLIMIT_DATA: getattr(memory, "data", 0)}
    limits = {name: resource.getrlimit(name)[0] for name in taken}
    return [
        max(0, limit - taken[name])
        for name, limit in limits.items()
        if limit != resource.RLIM_INFINITY and limit < _NO_LIMIT
    ]


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _words(file: Path) -> list[str]:
    return _text(file).split()


def _number(file: Path) -> int | None:
    text = _text(file).strip()
    return int(text) if text.isdigit() else None
