"""The soak: what it calls flat, and a rehearsal of it."""

import json

import numpy as np
import pytest

from benchmarks.soak import FLAT, Soak, growth, soak


@pytest.mark.parametrize(("leak", "flat"), [(0, True), (100, True), (1536, False)])
def test_a_heatmap_kept_for_each_image_is_not_flat(leak, flat):
    images = list(range(1000, 101_000, 1000))
    noise = np.random.default_rng(0).normal(0, 2e6, len(images))
    warming = [5e8 * min(1, done / 20_000) for done in images]
    rss = [
        leak * done + each + warm for done, each, warm in zip(images, noise, warming, strict=True)
    ]
    found = growth(images, rss)
    assert found["low"] <= leak <= found["high"]
    assert (found["high"] < FLAT) is flat


def test_too_few_samples_are_not_called_flat():
    found = growth([0, 100], [1.0, 1.0])
    assert not found["high"] < FLAT


@pytest.mark.slow
def test_a_soak_ends_when_its_time_is_over_and_keeps_its_curve(tmp_path):
    file, run = tmp_path / "soak.jsonl", tmp_path / "run"
    soak(Soak(images=10**6, minutes=0.03, slots=32, every=0.05, folder=run, output=file))
    row = json.loads(file.read_text())
    samples = row["samples"]
    assert samples["images"] == sorted(samples["images"])
    assert 0 < samples["images"][-1] == row["num_images"] < 10**6
    assert len(samples["rss_mb"]) == len(samples["files"]) == len(samples["threads"]) > 3
    assert json.loads((run / "run.json").read_text())["status"] == "running"
