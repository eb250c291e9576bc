"""The folder that outlives runs: converted checkpoints, compiled programs, swept slot counts."""

import os
import platform
from pathlib import Path

__all__ = ["cache_folder", "processor"]


def cache_folder() -> Path:
    """Return ``$GAXJAX_CACHE``, or ``~/.cache/gaxjax`` where it is not set."""
    return Path(os.environ.get("GAXJAX_CACHE") or Path.home() / ".cache" / "gaxjax")


def processor() -> str:
    """Return what programs for the host may depend on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() + platform.machine()
    return "".join(sorted({line for line in lines if line.startswith(("model name", "flags"))}))
