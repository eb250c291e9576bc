"""A run over Ray's workers: here in one process; tests/faults/workers.py kills real ones."""

import contextlib
import sys
from dataclasses import replace

import pytest
import tiny_runs
from fake_ray import Died, FakeRay
from looking import look

from gaxjax.common import UserError
from gaxjax.config import SpreadConfig
from gaxjax.results import inspect_run, read_header
from gaxjax.results.part_writer import PartWriter
from gaxjax.runs import ray_run
from gaxjax.runs.gax import run_gax
from gaxjax.runs.ray_run import FleetStats, slices_of

COUNT = len(tiny_runs.PIXELS)


@pytest.fixture
def ray(monkeypatch):
    fake = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.setattr(ray_run, "open_classifier", lambda *_, **__: tiny_runs.CLASSIFIER)
    monkeypatch.setattr(ray_run, "_BATCHES_PER_SLICE", 0)  # so that few images are many slices
    monkeypatch.setattr(ray_run, "_POLL", 0.05)
    return fake


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny_runs.write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def alone(data, tmp_path_factory):
    output = tmp_path_factory.mktemp("alone") / "run"
    config = tiny_runs.run_config(data, slots=2)
    run_gax(config, output, classifier=tiny_runs.CLASSIFIER, note=lambda _: None)
    return look(output)


def config_of(data, address="auto", workers=2, **spread):
    config = tiny_runs.run_config(data, slots=2)
    return replace(
        config,
        spread=SpreadConfig(ray=address, workers=workers, **spread),
        store=replace(config.store, part_size=1),
    )


def run(config, output):
    with tiny_runs.tiny_model():
        return run_gax(config, output, note=lambda _: None)


def test_workers_make_the_run_of_one_process(ray, data, alone, tmp_path):
    summary = run(config_of(data), tmp_path / "run")
    assert (summary.missing, summary.resumed) == (0, 0)
    assert look(tmp_path / "run").rows == alone.rows
    header = read_header(tmp_path / "run")
    assert (header["status"], header["sessions"][0]["workers"]) == ("complete", 2)
    assert ray.names[:2] == ["gaxjax gax worker 0", "gaxjax gax worker 1"]
    assert any("images from" in name or "image from" in name for name in ray.names[2:])
    assert not ray.is_initialized()
    assert run(config_of(data, workers=3), tmp_path / "run").stats is None


def test_a_worker_that_dies_starts_again_and_does_nothing_twice(
    ray, data, alone, tmp_path, monkeypatch
):
    deaths = iter(range(3))
    commit = PartWriter.commit

    dead = []

    def dying(self, results):
        if any(self is one for one in dead):  # its other slices, which a dead process had none of
            raise Died
        commit(self, results)
        if results and next(deaths, None) is not None:
            dead.append(self)
            raise Died

    monkeypatch.setattr(PartWriter, "commit", dying)
    run(config_of(data), tmp_path / "run")
    assert ray.restarts >= 1
    found = look(tmp_path / "run")
    assert found.rows == alone.rows
    assert not found.doubled
    assert not inspect_run(tmp_path / "run").damages


def test_workers_that_die_for_good_end_the_run_in_a_line_and_it_goes_on(
    ray, data, alone, tmp_path, monkeypatch
):
    commit, left = PartWriter.commit, iter(range(4))

    def dying(self, results):
        if results and next(left, None) is None:
            raise Died
        commit(self, results)

    with monkeypatch.context() as patch:
        patch.setattr(PartWriter, "commit", dying)
        patch.setattr(ray_run, "_RESTARTS", 1)
        with pytest.raises(UserError, match=r"no worker is left .* committed is safe"):
            run(config_of(data), tmp_path / "run")
    assert 0 < len(look(tmp_path / "run").rows) < COUNT
    assert run(config_of(data), tmp_path / "run").resumed
    assert look(tmp_path / "run").rows == alone.rows


def test_a_stop_commits_what_is_finished(ray, data, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(ray_run.RunProgress, "advance", stop)
    with pytest.raises(KeyboardInterrupt):
        run(config_of(data), tmp_path / "run")
    assert read_header(tmp_path / "run")["status"] == "running"
    assert not inspect_run(tmp_path / "run").damages


def test_a_mistake_that_a_worker_meets_is_its_line(ray, data, tmp_path, monkeypatch):

    def refuse(*_, **__):
        raise UserError("no such model on this machine")

    with monkeypatch.context() as patch:
        patch.setattr("gaxjax.runs.gax.open_classifier", refuse)
        with pytest.raises(UserError, match="no such model on this machine"):
            run_gax(config_of(data), tmp_path / "run", note=lambda _: None)


def test_other_images_on_another_machine_are_refused(ray, data, tmp_path, monkeypatch):
    chosen = ray_run.chosen_images

    def other(*arguments):
        return replace(chosen(*arguments), fingerprint="another")

    monkeypatch.setattr(ray_run, "chosen_images", other)
    with pytest.raises(UserError, match="every machine must see the same"):
        run(config_of(data), tmp_path / "run")


def test_workers_on_several_kinds_of_devices_are_refused(ray, data, tmp_path, monkeypatch):
    answers = ray_run._answers
    monkeypatch.setattr(
        ray_run,
        "_answers",
        lambda *given: [
            about | {"method": {"precision": str(i)}} for i, about in enumerate(answers(*given))
        ],
    )
    with pytest.raises(UserError, match="several kinds"):
        run(config_of(data), tmp_path / "run")


@pytest.mark.parametrize(
    ("gpus", "spread", "each", "count"),
    [
        (0, {"workers": None}, {"num_gpus": 0, "num_cpus": 4}, 1),
        (4, {"workers": None, "devices_per_worker": 2}, {"num_gpus": 2, "num_cpus": 1}, 2),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                (0, {"workers": 2}, {"num_gpus": 0, "num_cpus": 2}, 2),
                (4, {"workers": None}, {"num_gpus": 1, "num_cpus": 1}, 4),
                (0, {"workers": 3, "devices_per_worker": 1}, {"num_gpus": 1, "num_cpus": 1}, 3),
            )
        ),
    ],
)
def test_workers_hold_the_devices_that_there_are(ray, data, tmp_path, gpus, spread, each, count):
    ray.resources["GPU"] = float(gpus)
    run(config_of(data, **spread), tmp_path / "run")
    assert len(ray.options) == count
    assert {name: ray.options[0][name] for name in each} == each


def test_too_few_gpus_are_refused(ray, data, tmp_path):
    ray.resources["GPU"] = 1.0
    with pytest.raises(UserError, match=r"--devices-per-worker 2: the cluster has 1 GPU"):
        run(config_of(data, workers=None, devices_per_worker=2), tmp_path / "run")


def test_no_cluster_and_no_ray_are_one_line(ray, data, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"--ray 127.0.0.1:1: no Ray cluster answers \(.* refused"):
        run(config_of(data, "127.0.0.1:1"), tmp_path / "run")
    with pytest.raises(
        UserError, match=r"--ray must be auto or host:port, such as head:6379; got h"
    ):
        run(config_of(data, "head"), tmp_path / "run")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'gaxjax\[ray\]'"):
        run(config_of(data), tmp_path / "run")


def test_objects_of_this_process_are_refused(ray, data, tmp_path):
    with pytest.raises(UserError, match="leave classifier and dataset out"):
        run_gax(config_of(data), tmp_path / "run", classifier=tiny_runs.CLASSIFIER)


@pytest.mark.parametrize("todo", [0, 1, 7, 1000])
@pytest.mark.parametrize("workers", [1, 3, 64])
def test_slices_are_all_that_is_left_once(todo, workers):
    found = slices_of(list(range(todo)), workers, 16)
    assert [position for slice_ in found for position in slice_] == list(range(todo))
    assert all(found)
    assert len(found) >= min(workers, todo)


def test_the_rate_is_all_workers_together():
    stats = FleetStats(workers=2)
    stats.figures = {0: {"rate": 10.0, "compile_seconds": 2.0}, 1: {"rate": 5.5}}
    assert stats.describe() == "15.5 image-steps/s · 2 workers"
    stats.restarts = 1
    assert stats.describe().endswith("· 1 restart")
    assert stats.summary()["image_steps_per_second"] == 15.5


with contextlib.suppress(ImportError):
    import ray as real_ray

    def test_the_fake_s_names_are_ray_s():
        for name in ("init", "shutdown", "is_initialized", "remote", "wait", "get", "nodes"):
            assert hasattr(real_ray, name)
        assert issubclass(real_ray.exceptions.RayTaskError, real_ray.exceptions.RayError)
