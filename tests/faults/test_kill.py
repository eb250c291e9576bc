"""A run killed without warning, at several moments, and finished by the same command."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from altered_runs import part_paths
from flax import nnx

from gaxjax import models
from gaxjax.models import checkpoint
from gaxjax.results.run_header import read_header
from gaxjax.results.store import read_heatmaps, read_scores

NUM_IMAGES = 120


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "small.ckpt"
    net = models.build("small_resnet", num_classes=10, rngs=nnx.Rngs(0))
    metadata = checkpoint.CheckpointMetadata(
        architecture="small_resnet", num_classes=10, input_size=16
    )
    checkpoint.save(path, net, metadata)
    return [
        *(sys.executable, "-m", "gaxjax", "gax", "--model", str(path), "--data", "digits"),
        *("--size", "16", "--num-images", str(NUM_IMAGES), "--include-misclassified"),
        *("--target", "1e9", "--max-steps", "40", "--slots", "8", "--part-size", "8"),
    ]


def rows(output):
    found = read_scores(output).to_pylist()
    assert len({row["image_id"] for row in found}) == len(found), "an image has two rows"
    return {row["image_id"]: row for row in found}


def test_a_killed_run_resumes_to_the_same_results(command, tmp_path):
    whole = tmp_path / "whole"
    subprocess.run([*command, "--output", str(whole)], check=True, timeout=300)

    killed = tmp_path / "killed"
    lives, seen = 0, 0
    while lives < 12:
        process = subprocess.Popen(
            [*command, "--output", str(killed)], stdout=subprocess.DEVNULL, start_new_session=True
        )
        lives += 1
        if lives <= 3:  # kill it once it has committed something new
            while process.poll() is None and len(part_paths(killed)) < seen + 1 + lives:
                time.sleep(0.01)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            done = len(rows(killed))
            assert done >= 8 * seen, "committed results were lost"
            seen = len(part_paths(killed))
        else:
            assert process.wait(timeout=300) == 0
            break
    assert seen >= 3, "it was never killed in the middle"
    assert read_header(killed)["status"] == "complete"
    expected, found = rows(whole), rows(killed)
    assert found.keys() == expected.keys()
    assert len(found) == NUM_IMAGES
    for image_id, row in expected.items():
        for name in ("outcome", "steps", "co_score", "curve"):
            assert found[image_id][name] == row[name]
    order = sorted(expected)
    np.testing.assert_array_equal(
        read_heatmaps(killed, [found[i]["heatmap_row"] for i in order]),
        read_heatmaps(whole, [expected[i]["heatmap_row"] for i in order]),
    )
