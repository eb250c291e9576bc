"""The cache of compiled programs: a damaged entry is dropped, and its program compiled once more.

JAX by itself warns of such an entry at every run and never replaces it. It writes entries in place,
so that a process which is killed leaves half of one: here each is written beside its place, whole,
and renamed. Where JAX compresses by zstandard, nothing in an entry would tell flipped bits, which
run as machine code. So each entry here ends with the SHA-256 of the rest.
"""

import contextlib
import hashlib
import secrets
import time
from pathlib import Path

from jax._src import compilation_cache, config  # there is no public way to put a cache in its place
from jax._src.lru_cache import LRUCache

__all__ = ["check_entries"]

_DIGEST_BYTES = 32
_LEFT_SECONDS = 3600  # nobody writes an entry for so long: who began it was killed


class _CheckedCache(LRUCache):
    """JAX's own cache in a folder, of entries that hold their digest and are put in place whole."""

    def __init__(self, path: str, *, max_size: int) -> None:
        super().__init__(path, max_size=max_size)
        with contextlib.suppress(OSError):
            for left in Path(path).glob(".*.tmp"):
                if time.time() - left.stat().st_mtime > _LEFT_SECONDS:
                    left.unlink(missing_ok=True)

    def get(self, key: str) -> bytes | None:
        try:
            entry = super().get(key)
        except OSError:
            return None
        if entry is None:
            return None
        program, digest = entry[:-_DIGEST_BYTES], entry[-_DIGEST_BYTES:]
        if hashlib.sha256(program).digest() == digest:
            return program
        (self.path / f"{key}-cache").unlink(missing_ok=True)
        return None

    def put(self, key: str, value: bytes) -> None:
        whole = value + hashlib.sha256(value).digest()
        if self.eviction_enabled:  # JAX counts sizes under a lock of its own
            super().put(key, whole)
            return
        place = Path(str(self.path)) / f"{key}-cache"
        temporary = place.with_name(f".{secrets.token_hex(8)}.tmp")
        try:
            temporary.write_bytes(whole)
            temporary.replace(place)
        finally:
            temporary.unlink(missing_ok=True)


def check_entries() -> None:
    """Have JAX check what it reads from its cache, from its first compilation on."""

    def checked(path: str) -> tuple[_CheckedCache, str]:
        return _CheckedCache(path, max_size=config.compilation_cache_max_size.value), path

    compilation_cache.get_file_cache = checked
