"""The cache of compiled programs: a damaged entry is dropped, and its program compiled once more.

JAX by itself warns of such an entry at every run and never replaces it. It writes entries in place,
so that a process which is killed leaves half of one; and where it compresses by zstandard, nothing
in an entry would tell flipped bits, which run as machine code. So each entry here ends with the
SHA-256 of the rest.
"""

import hashlib

from jax._src import compilation_cache, config  # there is no public way to put a cache in its place
from jax._src.lru_cache import LRUCache

__all__ = ["check_entries"]

_DIGEST_BYTES = 32


class _CheckedCache(LRUCache):
    """JAX's own cache in a folder, of entries that hold their digest."""

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
        super().put(key, value + hashlib.sha256(value).digest())


def check_entries() -> None:
    """Have JAX check what it reads from its cache, from its first compilation on."""

    def checked(path: str) -> tuple[_CheckedCache, str]:
        return _CheckedCache(path, max_size=config.compilation_cache_max_size.value), path

    compilation_cache.get_file_cache = checked
