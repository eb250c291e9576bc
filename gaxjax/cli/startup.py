"""What a process sets before it computes, and only where the user has set nothing."""

import os
import platform
import subprocess
import sys

from gaxjax.cli.console import note
from gaxjax.common import UserError, one_line

__all__ = [
    "ALLOCATOR",
    "restart_with_kept_memory",
    "settle_with_jax",
]

ALLOCATOR = ":".join(
    f"glibc.malloc.{name}={value}"
    for name, value in (
        ("hugetlb", 1),  # ask the kernel for huge pages, where it leaves the choice to programs
        ("arena_max", 1),  # one heap for all threads; another one could not grow beyond 64 MB
        ("mmap_max", 0),  # large blocks from the heap too,
        ("trim_threshold", 2**33),  # whose free end stays ours up to 8 GiB
    )
)
"""For ``GLIBC_TUNABLES``: keep what was freed, in huge pages."""


def restart_with_kept_memory() -> None:
    """Start this process again with glibc's allocator keeping what was freed, in huge pages.

    XLA allocates a step's buffers anew at every call on a CPU, hundreds of MB, from threads of its
    own; glibc gives such blocks back to the kernel when they are freed, which hands them out anew
    in pages of 4 KiB. A step takes up to 40% less time so (MobileNetV2, whose passes are short), of
    which huge pages alone give the larger part. glibc reads its settings only once, when a process
    starts. What ``GLIBC_TUNABLES`` already names stays as the user has it; with hugetlb, the first
    of them, set to 0 nothing happens.
    """
    tunables = [each for each in os.environ.get("GLIBC_TUNABLES", "").split(":") if each]
    named = {each.partition("=")[0] for each in tunables}
    added = [each for each in ALLOCATOR.split(":") if each.partition("=")[0] not in named]
    if not added or "glibc.malloc.hugetlb=0" in tunables or not _is_glibc():
        return
    os.environ["GLIBC_TUNABLES"] = ":".join((*tunables, *added))
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _is_glibc() -> bool:
    return sys.platform == "linux" and platform.libc_ver()[0] == "glibc"


def settle_with_jax(*, on_devices: bool) -> None:
    """Have JAX start as this environment wants it, and set back what would change our numbers.

    Args:
        on_devices: whether the command computes with JAX.

    Raises:
        UserError: JAX or XLA refuses an environment variable, or finds none of the devices named.
    """
    if on_devices and os.environ.get("XLA_FLAGS"):
        _try_flags()
    try:
        import jax
    except ValueError as error:  # of a variable such as JAX_ENABLE_X64=maybe
        raise UserError(f"JAX refuses an environment variable: {one_line(error)}") from None
    from gaxjax.common import foreign_settings, no_devices

    foreign = foreign_settings()
    for name, default in foreign.items():
        jax.config.update(name, default)
    if foreign:
        note(f"{', '.join(map(str.upper, foreign))} is set, and left aside: results are the same")
    if on_devices:
        try:
            jax.local_devices()
        except (RuntimeError, AssertionError) as error:
            raise no_devices(error) from None


def _try_flags() -> None:
    """Refuse XLA_FLAGS that XLA does not know, at which it would end the process.

    Raises:
        UserError: it does not, told by another process.
    """
    asking = [sys.executable, "-c", "import jax; jax.local_devices()"]
    memory = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    tried = subprocess.run(
        asking, env=os.environ | memory, capture_output=True, text=True, errors="replace"
    )
    refusal = [line for line in tried.stderr.splitlines() if "XLA_FLAGS" in line]
    if tried.returncode and refusal:
        reason = refusal[-1].rpartition("] ")[2]
        raise UserError(f"XLA refuses its environment variable ({reason}): mend or unset XLA_FLAGS")
