"""What the console script sets before it computes."""

import os
import signal
import subprocess
import sys

import jax
import pytest

from gaxjax.cli.startup import ALLOCATOR
from gaxjax.common import keep_compiled_programs

CHILD = """
import os, sys
from gaxjax.cli import startup
from gaxjax.common.kept_programs import keep_compiled_programs
startup._is_glibc = lambda: {glibc}
startup.restart_with_kept_memory()
print(sys.argv[1:], os.environ.get("GLIBC_TUNABLES"), sys.flags.optimize)
"""


def started(tunables=None, *, glibc=True):
    environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    if tunables is not None:
        environment["GLIBC_TUNABLES"] = tunables
    return subprocess.run(
        [sys.executable, "-O", "-c", CHILD.format(glibc=glibc), "gax", "--model=a b"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_the_process_starts_again_once_with_its_arguments_and_flags():
    assert started() == f"['gax', '--model=a b'] {ALLOCATOR} 1\n"


@pytest.mark.slow
def test_a_users_other_tunables_stay():
    found = started("glibc.malloc.tcache_count=2")
    assert found == f"['gax', '--model=a b'] glibc.malloc.tcache_count=2:{ALLOCATOR} 1\n"


@pytest.mark.parametrize(
    "chosen",
    [
        "glibc.malloc.hugetlb=0",
        pytest.param(ALLOCATOR.replace("=1", "=2"), marks=pytest.mark.slow),
    ],
)
def test_a_user_who_chose_is_left_alone(chosen):
    assert started(chosen) == f"['gax', '--model=a b'] {chosen} 1\n"


@pytest.mark.slow
def test_what_a_user_chose_stays_and_the_rest_is_set():
    chosen = "glibc.malloc.arena_max=2"
    rest = ALLOCATOR.replace("glibc.malloc.arena_max=1:", "")
    assert started(chosen) == f"['gax', '--model=a b'] {chosen}:{rest} 1\n"


def test_nothing_happens_without_glibc():
    assert started(glibc=False) == "['gax', '--model=a b'] None 1\n"


HEAVY = """
import os, sys
from gaxjax.cli import main, startup
startup._is_glibc = lambda: True
def told(*_):
    print("heavy:", sorted({"jax", "numpy", "torch", "psutil", "pyarrow"} & sys.modules.keys()))
    raise SystemExit
os.execv = told
try:
    main.entry()
finally:
    told()
"""


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["gax", "--help"],
        ["--version"],
        ["gax", "--model=m", "--data=d", "--output=o"],  # as far as the restart
    ],
)
def test_nothing_heavy_is_imported_for_help_or_before_the_restart(words):
    environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    done = subprocess.run(
        [sys.executable, "-c", HEAVY, *words], env=environment, capture_output=True, text=True
    )
    assert done.stdout.endswith("heavy: []\n"), done.stderr


@pytest.mark.parametrize("chosen", [None, "elsewhere"])
def test_compiled_programs_are_kept_unless_the_user_says_where(monkeypatch, tmp_path, chosen):
    monkeypatch.setenv("GAXJAX_CACHE", str(tmp_path))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    if chosen:
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", chosen)
    settings = {}
    monkeypatch.setattr(jax.config, "update", settings.__setitem__)
    keep_compiled_programs(print)
    if chosen:
        assert not settings
    else:
        assert settings["jax_compilation_cache_dir"].startswith(str(tmp_path / "compiled"))


COMPILE = """
import sys, jax, jax.numpy as jnp
from gaxjax.common import keep_compiled_programs
keep_compiled_programs(print)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
hits = []
jax.monitoring.register_event_listener(
    lambda event, **_: hits.append(event.endswith("cache_hits"))
)
print(jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((3, 3)))[0, 0].item(), sum(hits))
"""


def compiled(folder):
    """Compile in another process; return the result, the programs found in the cache, and them."""
    environment = os.environ | {"GAXJAX_CACHE": str(folder)}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    done = subprocess.run(
        [sys.executable, "-c", COMPILE],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    result, hits = done.stdout.split()
    return float(result), int(hits), {file: file.read_bytes() for file in folder.rglob("*-cache")}


@pytest.mark.slow
def test_damaged_compiled_programs_are_dropped_without_a_word_and_compiled_once_more(tmp_path):
    result, hits, kept = compiled(tmp_path)
    assert hits == 0
    assert len(kept) > 1
    assert compiled(tmp_path) == (result, len(kept), kept)
    for damage in (
        lambda entry: entry[
            : len(entry) // 2
        ],  # what a process leaves that is killed while writing
        lambda entry: b"",
        lambda entry: entry[:99] + bytes([entry[99] ^ 1]) + entry[100:],
        lambda entry: entry[:-1] + bytes([entry[-1] ^ 1]),
    ):
        for file, entry in kept.items():
            file.write_bytes(damage(entry))
        assert compiled(tmp_path)[:2] == (result, 0)
        assert compiled(tmp_path)[:2] == (result, len(kept))


KILLED = """
import resource, signal, sys
from gaxjax.common.checked_programs import _CheckedCache
cache = _CheckedCache(sys.argv[1], max_size=-1)
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # the system ends who writes past the limit
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
cache.put("program", bytes(10_000))
"""


def test_a_process_killed_while_writing_leaves_no_entry(tmp_path):
    from gaxjax.common.checked_programs import _CheckedCache

    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path], capture_output=True)
    assert done.returncode == -signal.SIGXFSZ, done.stderr
    [left] = tmp_path.iterdir()
    assert left.stat().st_size == 4096
    assert not left.name.endswith("-cache")

    cache = _CheckedCache(str(tmp_path), max_size=-1)
    assert left.exists()  # another process may be writing it
    assert cache.get("program") is None
    cache.put("program", b"whole")
    assert cache.get("program") == b"whole"
    os.utime(left, (0, 0))
    _CheckedCache(str(tmp_path), max_size=-1)
    assert [file.name for file in tmp_path.iterdir()] == ["program-cache"]
