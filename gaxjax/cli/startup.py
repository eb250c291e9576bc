"""What a process sets before it computes, and only where the user has set nothing."""

import hashlib
import os
import platform
import sys
from pathlib import Path

__all__ = ["HUGE_PAGES", "keep_compiled_programs", "restart_with_huge_pages"]

HUGE_PAGES = "glibc.malloc.hugetlb=1"
"""For ``GLIBC_TUNABLES``: ask the kernel for huge pages."""

_KERNEL_SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def restart_with_huge_pages() -> None:
    """Start this process again with glibc's allocator on huge pages, where Linux leaves the choice.

    XLA allocates a step's buffers anew at every call on a CPU, hundreds of MB, and the kernel
    hands them out in pages of 4 KiB: 5 to 20 % of a step. glibc reads its setting only once, when
    a process starts. With ``GLIBC_TUNABLES`` already naming it (any value) nothing happens.
    """
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    if HUGE_PAGES.partition("=")[0] in tunables or not _pages_are_a_choice():
        return
    os.environ["GLIBC_TUNABLES"] = ":".join(filter(None, (tunables, HUGE_PAGES)))
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _pages_are_a_choice() -> bool:
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return False
    try:
        return "[madvise]" in _KERNEL_SETTING.read_text()
    except OSError:
        return False


def keep_compiled_programs() -> None:
    """Let JAX keep compiled programs in the cache folder, for this kind of processor alone."""
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    import jax

    from gaxjax.common import cache_folder, processor

    kind = hashlib.sha256(processor().encode()).hexdigest()[:12]
    folder = cache_folder() / "compiled" / kind
    jax.config.update("jax_compilation_cache_dir", str(folder))
