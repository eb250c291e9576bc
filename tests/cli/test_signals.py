"""A run that is told to stop, by each signal there is, keeps what is finished and says so."""

import os
import signal
import subprocess
import sys
import time

import pytest
from altered_runs import part_paths
from flax import nnx

from gaxjax import models
from gaxjax.models import checkpoint
from gaxjax.results.reading import read_scores
from gaxjax.results.run_header import read_header

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the numbers are Linux's")


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """A run that is never over, and its folder: each test resumes it."""
    folder = tmp_path_factory.mktemp("signals")
    net = models.build("small_resnet", num_classes=10, rngs=nnx.Rngs(0))
    metadata = checkpoint.CheckpointMetadata(
        architecture="small_resnet", num_classes=10, input_size=16
    )
    checkpoint.save(folder / "small.ckpt", net, metadata)
    return folder / "run", [
        *(sys.executable, "-m", "gaxjax", "gax", "--model", str(folder / "small.ckpt")),
        *("--data", "digits", "--size", "16", "--include-misclassified", "--output"),
        *(str(folder / "run"), "--target", "1e9", "--max-steps", "40", "--slots", "8"),
        *("--part-size", "4"),
    ]


def started(command, **options):
    """Start it, and wait until it has committed something of its own."""
    output, words = command
    before = len(part_paths(output))
    process = subprocess.Popen(words, **{"stderr": subprocess.PIPE, "text": True} | options)
    grown(output, before, process)
    return process


def grown(output, before, process):
    until = time.monotonic() + 100
    while len(part_paths(output)) <= before:
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < until
        time.sleep(0.01)


def ended(process):
    said = process.communicate(timeout=60)[1]
    assert "Traceback" not in said, said
    return process.returncode, said


def rows(output):
    """Count the committed rows, of which no image has two."""
    found = read_scores(output, columns=["image_id"])["image_id"].to_pylist()
    assert len(set(found)) == len(found)
    return len(found)


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("SIGTERM", 143),
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in (("SIGINT", 130), ("SIGHUP", 129), ("SIGUSR1", 138), ("SIGUSR2", 140))
        ),
    ],
)
def test_each_signal_keeps_what_is_finished_and_has_its_own_status(command, name, status):
    process = started(command)
    process.send_signal(getattr(signal, name))
    found, said = ended(process)
    by = "" if name == "SIGINT" else f" by {name}"
    assert found == status
    assert f"gaxjax: stopped{by}; finished images are stored, the same command resumes" in said
    assert f"{rows(command[0])} of 449 images" in said
    assert read_header(command[0])["sessions"][-1]["seconds"] > 0


@pytest.mark.slow
def test_further_signals_do_not_spoil_the_last_part(command):
    process = started(command)
    process.send_signal(signal.SIGINT)
    while process.poll() is None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
            process.send_signal(number)
        time.sleep(0.02)  # CPython calls handlers within handlers: a flood would end it
    status, said = ended(process)
    assert status == 130, said
    assert f"{rows(command[0])} of 449 images" in said


@pytest.mark.slow
def test_a_run_under_nohup_outlives_its_terminal(command):
    process = started((command[0], ["nohup", *command[1]]))
    process.send_signal(signal.SIGHUP)
    grown(command[0], len(part_paths(command[0])), process)
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == 143


@pytest.mark.slow
def test_a_terminal_that_is_closed_stops_the_run_and_nothing_is_lost(command):
    ours, its = os.openpty()
    words = ["setsid", "--ctty", *command[1]]
    process = started((command[0], words), **dict.fromkeys(("stdin", "stdout", "stderr"), its))
    os.close(its)
    os.close(ours)
    assert process.wait(60) == 129
    assert rows(command[0]) > 0
    assert read_header(command[0])["sessions"][-1]["seconds"] > 0
