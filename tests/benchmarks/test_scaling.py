"""How far a run scales: the model's sums, workers that are simulated, and a short long run."""

import json

import pytest

from benchmarks.scaling.command import key
from benchmarks.scaling.costs import commit_cost, filled, store_cost
from benchmarks.scaling.fake import FakeEngine, fake_images, fake_plan
from benchmarks.scaling.fleet import Scene, VirtualRay, driver_cost, under_one_driver
from benchmarks.scaling.long_run import long_run
from benchmarks.scaling.model import Costs, Setting, foreseen, limits
from benchmarks.show import scaling as tables
from gaxjax.results import inspect_run, read_scores
from gaxjax.runs.shell import run_engine

COSTS = Costs(start=10.0, commit=0.002, bytes_per_image=4e5, part=0.001, lock=0.01)


def test_one_worker_takes_the_sum_of_its_parts():
    found = foreseen(COSTS, Setting(10_000, 100.0), 1)
    assert found["seconds"] == pytest.approx(
        {
            "start": 10.0 + 0.01,
            "work": 100.0,
            "slices": 2.56,
            "last": 256 * 0.002,
            "end": 2 * 40 * 0.001 + 0.01,
        }
    )
    assert found["images_per_s"] == pytest.approx(10_000 / sum(found["seconds"].values()))
    assert found["limit"] == "devices"


@pytest.mark.parametrize(
    ("rate", "store", "limit", "work"),
    [
        (100.0, None, "devices", 100.0),
        (1000.0, None, "commits", 20.0),
        (100.0, 8 * 4e5 * 50, "storage", 200.0),
    ],
)
def test_the_slowest_of_device_commits_and_storage_is_the_limit(rate, store, limit, work):
    found = foreseen(COSTS, Setting(80_000, rate, store=store), 8)
    assert found["limit"] == limit
    assert found["seconds"]["work"] == pytest.approx(work)


@pytest.mark.parametrize("driver", [False, True])
def test_no_worker_idles_while_others_have_a_slice_more(driver):
    for images in (50_000, 1_000_000):
        for workers in (1, 2, 4, 8, 16, 32, 64):
            found = foreseen(COSTS, Setting(images, 300.0, driver=driver), workers)
            even = images / workers / 300.0
            assert even <= found["seconds"]["work"] <= 1.01 * even


def test_limits_are_what_is_left_of_a_second():
    costs = Costs(0.0, 0.004, 5e5, 0.001, 0.0, driver_slice=0.001, driver_call=0.0005)
    found = limits(costs, Setting(256_000, 333.0))
    assert found["commit_rate"] == 250
    assert found["workers_at_1_gb_per_s"] == pytest.approx(1e9 / (333 * 5e5))
    assert found["slices_per_s"] == pytest.approx((1 - 64 * 0.0005) / 0.002)
    assert found["end_seconds"] == pytest.approx(2.0)


def test_a_driver_whose_workers_answer_at_once_loses_no_time():
    found = driver_cost(8, slices=4, images=64, rate=100.0)
    assert found["virtual_seconds"] == pytest.approx(found["ideal_seconds"])
    assert found["calls_per_slice"] < 2  # asking all at each slice's end would be 9


def test_virtual_time_goes_on_to_the_next_that_is_ready():
    ray = VirtualRay(1.0)
    late, soon = (type("Reference", (), {"due": due})() for due in (5.0, 2.0))
    assert ray.wait([late, soon], num_returns=1, timeout=1.0) == ([soon], [late])
    assert ray.now == 2.0


def test_a_device_is_never_early(tmp_path):
    engine = FakeEngine(4, rate=200.0, batch_size=10)
    run_engine(fake_plan(fake_images(40, 4), part_size=8), tmp_path / "run", engine)
    assert engine.stats.seconds >= 40 / 200.0
    assert len(read_scores(tmp_path / "run")) == 40


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
def test_simulated_workers_under_one_driver_write_one_whole_run(tmp_path, workers):
    scene = Scene(workers, 64, rate=500.0, part_size=16, size=4)
    found = under_one_driver(scene, tmp_path / "run")
    assert 0 < found["of_ideal"] <= 1
    assert not inspect_run(tmp_path / "run").damages
    assert sorted(read_scores(tmp_path / "run")["image_id"].to_pylist()) == [
        record.image_id for record in scene.plan().images.records
    ]


def test_costs_are_of_commits_and_stores_that_were_made(tmp_path):
    found = commit_cost(tmp_path / "commits", size=8, images=16, turns=2)
    assert found["seconds"]["min"] > found["durable_seconds"]["min"] > 0
    index = 16 * 256 / 16  # of the shard: 16 bytes for each row that it could hold
    assert 0 < found["bytes_per_image"] - index < 1.1 * 8 * 8 * 3 * 2
    found = store_cost(tmp_path / "store", parts=4, images=8, turns=1)
    assert len(read_scores(tmp_path / "store")) == 32
    assert found["open_seconds"]["min"] > 0


def test_a_filled_store_is_whole_and_complete(tmp_path):
    total = filled(tmp_path / "run", 70, images=2, size=4)
    found = inspect_run(tmp_path / "run")
    assert total == 140
    assert (found.damages, found.missing) == ((), 0)


@pytest.mark.slow
def test_a_long_run_s_steps_are_told_and_shown(tmp_path):
    found = long_run(tmp_path, 2000, size=4)
    assert found["parts_lost"] == 1
    assert all(each["seconds"] > 0 < each["peak_mb"] for each in found["steps"].values())
    row = json.loads(json.dumps(found)) | {
        **{"workload": "scaling_long", "processor": "one", "cores": 2, "load": 1.0},
        "commit": "abc",
    }
    assert "| gaxjax report |" in tables.scaling_long([row])


def test_rows_of_other_ways_workers_and_notes_do_not_replace_one_another():
    rows = [{"way": way, "workers": count} for way in ("slices", "driver") for count in (1, 2)]
    keys = [key("simulate", row, note) for row in rows for note in ("", "before")]
    assert len(set(keys)) == 8
