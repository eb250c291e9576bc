"""Memory and processors are those of the smallest group around the process, not the host's."""

from types import SimpleNamespace

import psutil
import pytest

from gaxjax.common import UserError
from gaxjax.common.memory import affordable, allowed_cores, host_free_bytes, require_memory

GB = 10**9


@pytest.fixture(autouse=True)
def host(monkeypatch):
    """Give the host 100 GB, all available, and the process no limits of its own."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=100 * GB))
    monkeypatch.setattr("resource.getrlimit", lambda name: (-1, -1))


def system(root, groups: str, files: dict[str, object]):
    """Write /proc and /sys as the kernel would show them."""
    for name, text in {"proc/self/cgroup": groups, **files}.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
    return root


def v2(place: str, limit: object, used: int, inactive: int = 0, active: int = 0):
    folder = f"sys/fs/cgroup/{place}".rstrip("/")
    return {
        f"{folder}/memory.max": limit,
        f"{folder}/memory.current": used,
        f"{folder}/memory.stat": f"anon 5\ninactive_file {inactive}\nactive_file {active}",
    }


def test_without_groups_the_hosts_available_memory_is_free(tmp_path):
    assert host_free_bytes(tmp_path) == 100 * GB


def test_a_groups_limit_less_its_use_is_free_and_its_page_cache_is_no_use(tmp_path):
    root = system(tmp_path, "0::/job", v2("job", 8 * GB, 6 * GB, inactive=2 * GB, active=1 * GB))
    assert host_free_bytes(root) == 5 * GB


def test_the_tightest_group_above_counts(tmp_path):
    files = v2("a/b", "max", 1 * GB) | v2("a", 4 * GB, 3 * GB) | v2("", 50 * GB, 3 * GB)
    assert host_free_bytes(system(tmp_path, "0::/a/b", files)) == 1 * GB


def test_a_container_that_sees_only_its_own_part_is_limited_by_it(tmp_path):
    root = system(tmp_path, "0::/docker/abc", v2("", 3 * GB, 1 * GB))
    assert host_free_bytes(root) == 2 * GB
    root = system(tmp_path / "moved", "0::/../../other", v2("", 3 * GB, 2 * GB))
    assert host_free_bytes(root) == 1 * GB


def test_a_soft_limit_counts_too(tmp_path):
    files = v2("job", "max", 1 * GB) | {"sys/fs/cgroup/job/memory.high": 3 * GB}
    assert host_free_bytes(system(tmp_path, "0::/job", files)) == 2 * GB


def test_groups_of_version_1_count(tmp_path):
    folder = "sys/fs/cgroup/memory/slurm/job_7"
    files = {
        f"{folder}/memory.limit_in_bytes": 16 * GB,
        f"{folder}/memory.usage_in_bytes": 10 * GB,
        f"{folder}/memory.stat": f"inactive_file 1\ntotal_inactive_file {4 * GB}",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": 9223372036854771712,
        "sys/fs/cgroup/memory/memory.usage_in_bytes": 90 * GB,
    }
    groups = "9:name=systemd:/\n4:memory:/slurm/job_7\n1:cpu:/\n0::/"
    assert host_free_bytes(system(tmp_path, groups, files)) == 10 * GB


@pytest.mark.parametrize("limit", ["max", 2**63 - 4096, "", "nonsense", -1])
def test_what_is_no_limit_limits_nothing(limit, tmp_path):
    assert host_free_bytes(system(tmp_path, "0::/job", v2("job", limit, 1 * GB))) == 100 * GB


def test_a_group_over_its_limit_leaves_nothing(tmp_path):
    assert host_free_bytes(system(tmp_path, "0::/job", v2("job", 1 * GB, 2 * GB))) == 0


def test_the_processs_own_limits_count(tmp_path, monkeypatch):
    import resource

    limits = {resource.RLIMIT_AS: 5 * GB, resource.RLIMIT_DATA: 4 * GB}
    used = SimpleNamespace(vms=3 * GB, data=1 * GB)
    monkeypatch.setattr("resource.getrlimit", lambda name: (limits[name], -1))
    monkeypatch.setattr(psutil, "Process", lambda: SimpleNamespace(memory_info=lambda: used))
    assert host_free_bytes(tmp_path) == 2 * GB


@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "250000 100000"}, 2.5),
        ("0::/", {"cpu.max": "max 100000"}, None),
        ("2:cpu,cpuacct:/j", {"cpu/j/cpu.cfs_quota_us": "50000"}, None),
        (
            "2:cpu,cpuacct:/j",
            {"cpu/j/cpu.cfs_quota_us": "50000", "cpu/j/cpu.cfs_period_us": "100000"},
            0.5,
        ),
        ("1:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
    ],
)
def test_processors_are_those_that_the_groups_grant(groups, files, cores, tmp_path):
    files = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    assert allowed_cores(system(tmp_path, groups, files)) == cores


def test_what_needs_more_than_is_free_is_refused_with_both_numbers():
    with pytest.raises(UserError, match=r"^--size 9 needs about 5 GB, 4 GB are free: smaller$"):
        require_memory(5 * GB, 4 * GB, "--size 9", "smaller")
    require_memory(4 * GB, 4 * GB, "--size 9", "smaller")


def test_a_count_that_cannot_fit_is_refused_on_a_host_and_halved_on_a_card():
    shape = (64, 64, 3)
    assert affordable(4, GB, 4 * GB, "--slots", shape, halves=False) == 4
    with pytest.raises(
        UserError, match=r"--slots 9 needs about 9 GB, 4 GB .*: --slots 2 would fit"
    ):
        affordable(9, GB, 4 * GB, "--slots", shape, halves=False)
    assert affordable(16, GB, 4 * GB, "--slots", shape, halves=True) == 16  # it may fit after all
    assert affordable(10**20, GB, 4 * GB, "--slots", shape, halves=True) <= 16
    for halves in (False, True):
        with pytest.raises(UserError, match="an image of 64 × 64 needs about 5 GB"):
            affordable(1, 5 * GB, 4 * GB, "--slots", shape, halves=halves)
