"""Where JAX keeps compiled programs between processes."""

import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gaxjax.common.errors import UserError
from gaxjax.common.files import cache_folder
from gaxjax.common.paths import path_to_write

__all__ = ["keep_compiled_programs"]


def keep_compiled_programs(note: Callable[[str], None]) -> None:
    """Let JAX keep compiled programs in the cache folder, for this kind of processor alone.

    Args:
        note: is told where they cannot be kept.
    """
    import jax

    from gaxjax.common.devices import processor

    update: Any = jax.config.update
    own = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if own is None:
        kind = hashlib.sha256(processor().encode()).hexdigest()[:12]
        folder = cache_folder() / "compiled" / kind
    elif not own or "://" in own:  # none is wanted, or it is in the net
        return
    else:
        folder = Path(own)
    try:
        path_to_write(folder / "program", "compiled")
    except UserError:
        update("jax_compilation_cache_dir", None)
        name = "JAX_COMPILATION_CACHE_DIR" if own else "GAXJAX_CACHE"
        note(
            f"compiled programs are not kept: {folder} cannot be written; {name} names another "
            "folder"
        )
        return
    if own is None:
        with contextlib.suppress(ImportError):  # of a JAX with another inside: it checks nothing
            from gaxjax.common.checked_programs import check_entries

            check_entries()
        update("jax_compilation_cache_dir", str(folder))
