"""examples/slurm.sh under a Slurm that is not there: flags, what is queued again, what is not."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fake_slurm import FakeSlurm, directives

SCRIPT = Path(__file__).parents[2] / "examples/slurm.sh"
WORDS = ("net.ckpt", "/data/val", "/scratch/my run")
NUM_SHARDS = 8

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the numbers are Linux's")


@pytest.fixture
def slurm(tmp_path):
    return FakeSlurm(tmp_path)


def test_every_index_runs_its_shard_once_into_one_folder(slurm):
    statuses = slurm.sbatch(SCRIPT, *WORDS, "--num-images", "1000")
    assert statuses == dict.fromkeys(range(NUM_SHARDS), 0)
    assert sorted(slurm.calls) == list(range(NUM_SHARDS))
    for index, [call] in slurm.calls.items():
        assert call.arguments == [
            *("gax", "--model", "net.ckpt", "--data", "/data/val", "--output", "/scratch/my run"),
            *("--shard", "auto", "--num-images", "1000"),
        ]
        named = {key: call.environment[f"SLURM_ARRAY_TASK_{key}"] for key in ("ID", "COUNT", "MAX")}
        assert named == {"ID": str(index), "COUNT": "8", "MAX": "7"}
        assert "gaxjax inspect /scratch/my run" in slurm.log(index)
    assert not slurm.requeued


@pytest.mark.parametrize("ending", ["138", "143", "SIGUSR1", "SIGTERM", "shell:SIGTERM"])
def test_a_shard_that_was_stopped_is_queued_again_alone_and_goes_on(slurm, ending):
    slurm.endings(1, ending, "138")  # the last: Slurm's bare number of it is the whole array's
    assert slurm.sbatch(SCRIPT, *WORDS, array="0-1") == {0: 0, 1: 0}
    assert slurm.requeued == [f"{slurm.array_job}_1"] * 2
    assert len(slurm.calls[0]) == 1
    first, second, third = slurm.calls[1]
    assert first.arguments == second.arguments == third.arguments
    assert third.environment["SLURM_RESTART_COUNT"] == "2"
    assert slurm.log(1).count("gaxjax ends with") == 3  # the log is one


@pytest.mark.parametrize("ending", ["1", "2", "137", "139"])
def test_a_fault_is_not_queued_again_and_the_other_shards_go_on(slurm, ending):
    slurm.endings(0, ending)
    assert slurm.sbatch(SCRIPT, *WORDS, array="0-1") == {0: int(ending), 1: 0}
    assert not slurm.requeued
    assert "is done" not in slurm.log(0)


def test_a_shard_that_was_cancelled_is_not_queued_again(tmp_path):
    slurm = FakeSlurm(tmp_path, state="COMPLETING")
    slurm.endings(0, "143")
    assert slurm.sbatch(SCRIPT, *WORDS, array="0-0") == {0: 143}
    assert not slurm.requeued


def test_too_few_words_are_a_mistake(slurm):
    assert slurm.sbatch(SCRIPT, *WORDS[:2], array="0-0") == {0: 2}
    assert "usage: sbatch" in slurm.log(0)
    assert not (slurm.folder / "calls.jsonl").exists()


def test_what_slurm_is_asked_for_is_what_resuming_needs():
    flags = directives(SCRIPT)
    assert flags["array"] == f"0-{NUM_SHARDS - 1}"
    assert flags["open-mode"] == "append"
    assert "requeue" in flags
    assert "%a" in flags["output"]
    assert flags["gres"] == "gpu:1"
    signal, seconds = flags["signal"].split("@")
    assert signal == "USR1"  # without B:, which would go to the batch shell alone
    assert int(seconds) >= 60


def test_outside_of_slurm_it_says_what_it_is_for(slurm):
    ran = subprocess.run(["bash", SCRIPT, *WORDS], capture_output=True, text=True, env={})
    assert ran.returncode != 0
    assert "give this script to sbatch" in ran.stderr


def test_shellcheck_finds_nothing():
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not on PATH")
    scripts = sorted(SCRIPT.parent.glob("*.sh"))
    ran = subprocess.run([shellcheck, *scripts], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout
