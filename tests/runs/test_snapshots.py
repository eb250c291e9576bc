"""Snapshots: a replay goes through the run's own weights, and all of it is kept or nothing."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from altered_runs import part_paths
from flax import nnx
from tiny_runs import CLASSIFIER, PIXELS, run_config, tiny_model, write_images

from gaxjax.common.devices import same_bits_at_any_count
from gaxjax.common.errors import UserError
from gaxjax.config.inputs import DataConfig
from gaxjax.config.methods import GaxConfig
from gaxjax.config.runs import EngineConfig, SnapshotConfig
from gaxjax.data.sources import open_images
from gaxjax.gax.engine import GaxEngine
from gaxjax.gax.replay import Replay
from gaxjax.models.classifier import as_classifier
from gaxjax.models.layers import Conv, Linear
from gaxjax.models.rewriting import fast_form
from gaxjax.ops.operations import global_average_pool
from gaxjax.results.reading import read_heatmaps, read_scores
from gaxjax.results.run_header import read_header
from gaxjax.results.snapshots import (
    has_snapshots,
    read_snapshot_heatmaps,
    read_snapshots,
    summarise_snapshots,
)
from gaxjax.runs import snapshots
from gaxjax.runs.gax import run_gax
from gaxjax.runs.snapshots import describe_disk, snapshot_steps, take_snapshots

SAME_BITS = same_bits_at_any_count(jax.devices()[0])
CLOSE = 0 if SAME_BITS else 2e-3  # with AVX2 alone the replay's other neighbours count, a little
WANTED = SnapshotConfig(snapshots=9, snapshot_every=4, snapshot_scores=(30.0, 1e6))


def _breaks(weights, images):
    """Compute the tiny net's logits, NaN once class 3 is far ahead."""
    logits = tiny._network(weights, images)
    return jnp.where(logits[:, 3:4] > 90, jnp.nan, logits)


FRAGILE = dataclasses.replace(CLASSIFIER, apply=_breaks)


def fragile_config(data, **changes):
    """Config of a run that ends in every outcome: sum, with a bias."""
    method = {"target": 62.0, "learning_rate": 0.01, "include_misclassified": False}
    return run_config(data, bias=True, **(method | changes))


class WinogradNet(nnx.Module):
    """A first convolution, one that becomes Winograd's while optimising, and a head."""

    def __init__(self, rngs):
        self.first = Conv(3, 48, 3, stride=2, padding=1, rngs=rngs)
        self.second = Conv(48, 48, 3, padding=1, rngs=rngs)
        self.head = Linear(48, tiny.CLASSES, rngs=rngs)

    def __call__(self, x):
        return 100 * self.head(global_average_pool(nnx.relu(self.second(self.first(x)))))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(autouse=True, scope="module")
def _tiny_model():
    with tiny_model(FRAGILE):
        yield


@pytest.fixture(scope="module")
def plain(data, tmp_path_factory):
    """A finished run without snapshots."""
    output = tmp_path_factory.mktemp("run") / "run"
    run_gax(fragile_config(data), output)
    return output


@pytest.fixture
def run(plain, tmp_path):
    shutil.copytree(plain, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture(scope="module")
def engine(data):
    config = fragile_config(data)
    return GaxEngine(
        FRAGILE,
        config.gax,
        config.engine,
        image_shape=PIXELS.shape[1:],
        heatmap_dtype=np.float16,
        num_images=len(PIXELS),
    )


@pytest.fixture(scope="module")
def replay(engine):
    return Replay(engine.objective, engine.devices[0], engine.slots, engine.heatmap_dtype)


@pytest.fixture(scope="module")
def take(data, engine, replay):
    """Take snapshots as `run_gax` does, with one replay compiled for all tests."""
    images = open_images(run_config(data).data, num_classes=tiny.CLASSES)

    def take(run, wanted=WANTED):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(snapshots, "Replay", lambda *_: replay)
            return take_snapshots(engine, wanted, images, run)

    return take


def stored(run):
    return {row["image_id"]: row for row in read_scores(run).to_pylist()}


@pytest.mark.slow
def test_a_replay_by_winograds_convolutions_is_the_run_to_the_bit(data, tmp_path):
    net = WinogradNet(nnx.Rngs(0))
    classifier = as_classifier(net, num_classes=tiny.CLASSES, mean=tiny.MEAN, std=tiny.STD)
    config = run_config(data, wanted=WANTED, heatmaps="float32", operation="mult", target=2.0)
    config = dataclasses.replace(config, engine=EngineConfig(slots=4))
    assert fast_form(classifier, "float32", "cpu") is not None
    with tiny_model(classifier):
        found = run_gax(config, tmp_path / "run").snapshots
    assert_true(tmp_path / "run", found, WANTED, "float32")
    assert max(len(row["curve"]) for row in stored(tmp_path / "run").values()) == 13


def assert_true(run, found, wanted, heatmaps):
    """Check everything that snapshots share with the run itself."""
    rows = stored(run)
    assert found.left_out == {}
    assert found.difference <= CLOSE
    optimised = sorted(image_id for image_id, row in rows.items() if row["steps"] is not None)
    assert list(found.image_ids) == optimised[: wanted.snapshots]
    table = read_snapshots(run).to_pylist()
    assert len(table) == found.rows
    seen = {row["image_id"]: [] for row in table}
    for row in table:
        seen[row["image_id"]].append(row["step"])
        result = rows[row["image_id"]]
        heatmap = read_snapshot_heatmaps(run, [row["row"]])[0]
        assert heatmap.dtype == np.float16
        if row["step"] == result["steps"] and result["heatmap_row"] is not None:
            kept = read_heatmaps(run, [result["heatmap_row"]])[0]
            np.testing.assert_allclose(heatmap, kept.astype(np.float16), rtol=0, atol=CLOSE)
        if row["step"] == result["steps"] and heatmaps == "float16":
            assert row["co_score"] == pytest.approx(result["co_score"], rel=CLOSE, abs=0)
        # The rounding to float16 alone: measured 0.02
        assert row["co_score"] == pytest.approx(result["curve"][row["step"]], abs=0.05, rel=2e-3)
    for image_id, steps in seen.items():
        curve = np.array(rows[image_id]["curve"], np.float32)
        assert steps == snapshot_steps(curve, rows[image_id]["steps"], wanted)


def test_scores_and_classes_are_those_of_the_heatmap_as_stored(data, take, run):
    take(run)
    images = open_images(run_config(data).data, num_classes=tiny.CLASSES)
    positions = {record.image_id: i for i, record in enumerate(images.records)}
    rows = stored(run)
    for row in read_snapshots(run).to_pylist()[::7]:
        heatmap = read_snapshot_heatmaps(run, [row["row"]])[0]
        x = images.load(positions[row["image_id"]]).astype(np.float32) / 255
        pixels = CLASSIFIER.normalize(jnp.stack([x, x + heatmap.astype(np.float32)]))
        logits = CLASSIFIER.apply(CLASSIFIER.weights, pixels)
        before, after = np.asarray(logits).astype(np.float64)
        label = rows[row["image_id"]]["label"]
        rise = after - before
        score = rise[label] - np.delete(rise, label).mean()
        assert row["co_score"] == pytest.approx(score, rel=1e-4, abs=1e-3)
        softmax = np.exp(after - after.max())
        softmax /= softmax.sum()
        assert len(row["top_classes"]) == 5
        np.testing.assert_allclose(
            row["top_probabilities"], np.sort(softmax)[::-1][:5], rtol=1e-3, atol=1e-6
        )
        assert row["top_classes"][0] == softmax.argmax()


def test_steps_are_every_k_the_ends_the_stored_one_and_the_milestones():
    curve = np.array([0, 1, 5, 4, 9, 11, 20, 18], np.float32)
    every = SnapshotConfig(snapshot_every=3)
    assert snapshot_steps(curve, 6, every) == [0, 3, 6, 7]
    assert snapshot_steps(curve, 7, dataclasses.replace(every, snapshot_every=100)) == [0, 7]
    milestones = SnapshotConfig(snapshot_every=100, snapshot_scores=(5.0, 10.0, 99.0))
    assert snapshot_steps(curve, 7, milestones) == [0, 2, 5, 7]
    broken = np.array([0, 1, np.nan], np.float32)
    assert snapshot_steps(broken, 1, SnapshotConfig(snapshot_every=1)) == [0, 1]
    assert snapshot_steps(curve[:1], 0, SnapshotConfig()) == [0]


def test_a_finished_run_gets_snapshots_later_and_keeps_its_results(data, replay, run, monkeypatch):
    monkeypatch.setattr(snapshots, "Replay", lambda *_: replay)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert not has_snapshots(run)
    found = run_gax(fragile_config(data, wanted=WANTED), run).snapshots
    assert_true(run, found, WANTED, "float16")
    replayed = [row for row in stored(run).values() if (row["steps"] or 0) > 5]
    assert {row["outcome"] for row in replayed} == {"reached", "step_limit", "not_finite"}
    assert len(found.image_ids) == 9 < len(stored(run))  # misclassified images are passed over
    for path, content in before.items():
        assert path.read_bytes() == content, path
    assert len(read_header(run)["sessions"]) == 1


def test_the_same_request_replays_nothing_and_another_one_replaces_it(data, take, run, monkeypatch):
    first = take(run)
    written = (run / "snapshots.parquet").stat().st_mtime_ns
    with monkeypatch.context() as patch:
        patch.setattr(snapshots, "Replay", None)
        again = run_gax(fragile_config(data, wanted=WANTED), run)
        assert (again.snapshots, again.stats) == (first, None)
        assert run_gax(fragile_config(data), run).snapshots is None
    assert (run / "snapshots.parquet").stat().st_mtime_ns == written
    other = take(run, SnapshotConfig(snapshots=2, snapshot_every=1))
    assert other.image_ids == first.image_ids[:2]
    table = read_snapshots(run)
    assert len(table) == other.rows
    assert set(table["image_id"].to_pylist()) == set(other.image_ids)
    rows = stored(run)
    assert other.rows == sum(len(rows[image_id]["curve"]) for image_id in other.image_ids)


def test_a_crash_before_the_table_leaves_no_snapshots_and_the_next_call_makes_them(
    take, run, monkeypatch
):
    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(snapshots, "write_snapshots", killed)
        with pytest.raises(KeyboardInterrupt):
            take(run)
    assert (run / "snapshots.zarr").exists()
    assert not has_snapshots(run)
    with pytest.raises(UserError, match="has no snapshots: give its gaxjax gax command again"):
        read_snapshots(run)
    assert len(take(run).image_ids) == 9
    read_snapshot_heatmaps(run, read_snapshots(run)["row"].to_pylist())


def test_a_full_disk_is_one_clear_line(take, run, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(snapshots, "write_snapshots", full)
    with pytest.raises(UserError, match=r"could not write snapshots .*No space left on device"):
        take(run)
    assert not has_snapshots(run)


@pytest.mark.skipif(not SAME_BITS, reason="needs a processor that keeps bits: AVX-512")
def test_an_image_that_does_not_go_the_way_of_the_run_is_left_out(take, run, monkeypatch):
    chosen = snapshots._choose

    def altered(*arguments):
        found = chosen(*arguments)
        curve = found[1].curve.copy()
        curve[-1] += 0.25
        other = found[3]._replace(heatmap_row=found[4].heatmap_row)
        return [found[0], found[1]._replace(curve=curve), found[2], other, *found[4:]]

    monkeypatch.setattr(snapshots, "_choose", altered)
    found = take(run)
    assert len(found.image_ids) == 7
    first, second = sorted(found.left_out)
    assert found.left_out[first].startswith("its scores leave the stored ones at step ")
    assert found.left_out[first].endswith(", by up to 0.25")
    assert found.left_out[second].startswith("its final heatmap is not the stored one")
    kept = read_snapshots(run)
    assert set(kept["image_id"].to_pylist()) == set(found.image_ids)
    rows = kept["row"].to_pylist()
    assert len(set(rows)) == len(rows)
    assert np.all(np.isfinite(read_snapshot_heatmaps(run, rows).astype(np.float32)))


def test_small_differences_pass_off_the_cpu_and_large_ones_do_not(plain):
    row = next(row for row in stored(plain).values() if (row["steps"] or 0) > 3)
    curve = np.array(row["curve"], np.float32)
    kept = snapshots._Stored(row["image_id"], 0, row["steps"], curve, row["heatmap_row"])
    final = read_heatmaps(plain, [row["heatmap_row"]])[0]

    def departure(curve, final, *, exactly):
        replayed = snapshots.Replayed(0.0, curve, final[None], final)
        return snapshots._departure(kept, replayed, plain, exactly=exactly)

    assert departure(curve, final, exactly=True) is None
    close = curve + np.float32(0.01)
    assert departure(close, final, exactly=False) is None
    assert "by up to 0.01" in departure(close, final, exactly=True)
    assert "by up to 99" in departure(curve + np.float32(99), final, exactly=False)
    assert "final heatmap" in departure(curve, final / 2 + np.float16(0.1), exactly=False)
    kept = kept._replace(heatmap_row=None)  # --heatmaps none
    assert departure(curve, final / 2, exactly=True) is None
    lost = curve.copy()
    lost[0] = np.nan
    assert "by up to inf" in departure(lost, final, exactly=False)


def test_an_image_that_can_no_longer_be_read_is_left_out(take, run, monkeypatch):
    from gaxjax.data.decode import UnreadableImageError
    from gaxjax.data.image_set import ImageSet

    load = ImageSet.load
    found_id = next(name for name, row in stored(run).items() if row["steps"] is not None)

    def lost(self, index):
        if self.records[index].image_id == found_id:
            raise UnreadableImageError("no such file")
        return load(self, index)

    monkeypatch.setattr(ImageSet, "load", lost)
    found = take(run)
    assert len(found.image_ids) == 8
    assert list(found.left_out.values()) == ["it can no longer be read (no such file)"]


def test_images_are_chosen_by_name_too(data, take, run):
    rows = sorted(stored(run).values(), key=lambda row: row["image_id"])
    optimised = [row["image_id"] for row in rows if row["steps"] is not None]
    other = next(row for row in rows if row["outcome"] == "misclassified")["image_id"]
    ending = optimised[5].rpartition("/")[2]
    found = take(run, SnapshotConfig(snapshots=2, snapshot_images=(ending, other)))
    assert found.image_ids == (*optimised[:2], optimised[5])
    assert found.left_out == {other: "it was not optimised (misclassified)"}


def test_an_image_that_is_not_there_is_said_before_the_run(data, tmp_path):
    config = fragile_config(data, wanted=SnapshotConfig(snapshot_images=("no such",)))
    with pytest.raises(UserError, match=r"no image 'no such' in .* \(one is "):
        run_gax(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_without_an_image_there_are_no_snapshots_and_it_is_kept_why(run, take):
    name = next(name for name, row in stored(run).items() if row["outcome"] == "misclassified")
    found = take(run, SnapshotConfig(snapshot_images=(name,)))
    assert (found.image_ids, found.rows) == ((), 0)
    assert summarise_snapshots(read_snapshots(run)) == found
    assert found.left_out == {name: "it was not optimised (misclassified)"}


def test_snapshots_of_an_earlier_request_stay_until_the_new_ones_are_there(take, run, monkeypatch):
    take(run)
    before = read_snapshots(run)

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(snapshots.Replay, "see", stop)
    with pytest.raises(KeyboardInterrupt):
        take(run, dataclasses.replace(WANTED, snapshot_every=3))
    assert read_snapshots(run).equals(before)
    assert np.isfinite(read_snapshot_heatmaps(run, before["row"].to_pylist())).all()


def test_a_run_that_computes_images_again_drops_their_snapshots(data, take, run):
    take(run)
    part_paths(run)[0].unlink()
    run_gax(fragile_config(data), run)
    assert not has_snapshots(run)


def test_the_disk_is_told_before_the_run(data):
    config = run_config(data, wanted=SnapshotConfig(snapshots=8))
    full = dataclasses.replace(
        config,
        data=DataConfig(data="digits", size=256),
        gax=GaxConfig(max_steps=1000),
    )
    # 8 images × 203 snapshots × 256 × 256 × 3 × 2 bytes
    assert describe_disk(full) == (
        "snapshots of 8 images take at most 639 MB of disk (1,000 steps each), "
        "62.9 MB for every 100 steps"
    )
    one = dataclasses.replace(
        config, data=DataConfig(data="digits", size=16, num_images=1), gax=GaxConfig(max_steps=1)
    )
    assert describe_disk(one).startswith("snapshots of 1 image take at most 3.07 kB of disk")


def test_the_disk_is_at_most_what_was_told(data, take, run):
    take(run)
    table = read_snapshots(run)
    config = fragile_config(data, wanted=WANTED)
    longest = config.gax.max_steps
    most = min(longest // 4 + 3 + 2, longest + 1)
    counts = table["image_id"].value_counts().to_pylist()
    assert max(entry["counts"] for entry in counts) <= most


def test_zarr_and_pandas_read_snapshots_without_us(take, run):
    import pandas as pd
    import zarr

    take(run)
    frame = pd.read_parquet(run / "snapshots.parquet")
    array = zarr.open_array(run / "snapshots.zarr", mode="r")
    assert array.shape[1:] == PIXELS.shape[1:]
    np.testing.assert_array_equal(
        array[int(frame["row"][3])], read_snapshot_heatmaps(run, [int(frame["row"][3])])[0]
    )


def test_a_damaged_table_is_one_clear_line(take, run):
    take(run)
    (run / "snapshots.parquet").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"snapshots\.parquet is damaged .*delete it and give"):
        read_snapshots(run)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"snapshots": -1}, "--snapshots must be at least 0; got -1"),
        ({"snapshot_every": 0}, "--snapshot-every must be at least 1; got 0"),
        ({"snapshot_scores": (float("nan"),)}, "--snapshot-scores must be finite numbers; got nan"),
    ],
)
def test_impossible_settings_are_one_clear_line(values, said):
    with pytest.raises(UserError, match=said):
        SnapshotConfig(**values)


def test_flags_ask_for_snapshots():
    from gaxjax.cli.main import parse

    given = ["gax", "--model", "m", "--data", "d", "--output", "o", "--snapshots", "3"]
    command = parse([*given, "--snapshot-every", "2", "--snapshot-scores", "10", "20"])
    assert command.run.snapshots == SnapshotConfig(
        snapshots=3, snapshot_every=2, snapshot_scores=(10.0, 20.0)
    )
