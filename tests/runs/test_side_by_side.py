"""Slices of one run, done by processes side by side into one store."""

import contextlib
import uuid
from dataclasses import replace

import pytest
import tiny_runs
from looking import look

from gaxjax.common import UserError, lock, place_at
from gaxjax.config import SnapshotConfig, SpreadConfig
from gaxjax.results import read_header, read_scores
from gaxjax.results.inspection import inspect_run
from gaxjax.runs.gax import explain_nothing_correct, run_gax

COUNT = len(tiny_runs.PIXELS)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny_runs.write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def alone(data, tmp_path_factory):
    """One process's run."""
    output = tmp_path_factory.mktemp("alone") / "run"
    run(data, output)
    return look(output)


def run(data, output, shard=None, **settings):
    config = replace(
        tiny_runs.run_config(data, slots=2, **settings), spread=SpreadConfig(shard=shard)
    )
    small = replace(config, store=replace(config.store, part_size=2))
    return run_gax(small, output, classifier=tiny_runs.CLASSIFIER, note=lambda _: None)


@pytest.mark.parametrize("count", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_slices_make_one_run_that_equals_one_process_s(data, alone, tmp_path, count):
    for index in reversed(range(count)):
        summary = run(data, tmp_path / "run", f"{index}/{count}")
        header = read_header(tmp_path / "run")
        rest = index * COUNT // count  # images of the slices that are to come
        assert header["status"] == ("running" if rest else "complete")
        assert summary.missing == rest
    found = look(tmp_path / "run")
    assert found.rows == alone.rows
    assert not found.doubled
    worked = {session["shard"] for session in header["sessions"]}
    assert worked == {f"{i}/{count}" for i in range(count)}
    assert not inspect_run(tmp_path / "run").damages


def test_of_more_slices_than_images_some_have_nothing_to_do(data, tmp_path):
    summary = run(data, tmp_path / "run", f"0/{COUNT + 2}")
    assert (summary.stats, summary.missing) == (None, COUNT)


def test_every_writer_has_part_numbers_of_its_own(data, tmp_path):
    for index in range(3):
        run(data, tmp_path / "run", f"{index}/3")
    parts = (tmp_path / "run" / "scores").glob("part-*.parquet")
    numbers = sorted(int(path.name.split("-")[1]) for path in parts)
    assert {number // COUNT for number in numbers} == {0, 1, 2}
    assert len(set(numbers)) == len(numbers)


def test_a_slice_goes_on_where_it_was_and_does_nothing_twice(data, alone, tmp_path):
    class Stopped(Exception):
        pass

    def stop(*_):
        raise Stopped

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gaxjax.results.store.Store.complete", stop)  # killed at the very end
        with pytest.raises(Stopped):
            run(data, tmp_path / "run", "1/2")
    assert run(data, tmp_path / "run", "1/2").stats is None
    assert run(data, tmp_path / "run", "0/2").missing == 0
    assert look(tmp_path / "run").rows == alone.rows


def test_another_division_and_one_process_go_on_with_it(data, alone, tmp_path):
    run(data, tmp_path / "run", "2/3")
    run(data, tmp_path / "run", "0/5")
    assert run(data, tmp_path / "run").missing == 0
    assert look(tmp_path / "run").rows == alone.rows
    assert run(data, tmp_path / "run", "1/4").stats is None


@contextlib.contextmanager
def at_work(data, output, shard):
    """Within the block, a process is at work on a slice."""
    run(data, output, shard)
    name = f"writer-{shard.partition('/')[0]}"
    with lock(output, name):
        yield


def test_one_process_a_slice_and_one_division_at_a_time(data, tmp_path, monkeypatch):
    monkeypatch.setattr("gaxjax.results.part_writer._DYING", 0.1)
    monkeypatch.setattr("gaxjax.results.store._ENTERING", 0.1)
    output = tmp_path / "run"
    with at_work(data, output, "0/3"):
        with pytest.raises(UserError, match=r"in use by another gaxjax process \(writer-0\)"):
            run(data, output, "0/3")
        with pytest.raises(UserError, match=r"write it side by side \(slices or workers 0\)"):
            run(data, output, "1/2")
        with pytest.raises(UserError, match="write it side by side"):
            run(data, output)
        with pytest.raises(UserError, match="write it side by side"):
            inspect_run(output, repair=True)
        run(data, output, "1/3")
    run(data, output, "1/2")


def test_two_different_runs_do_not_go_into_one_store(data, tmp_path):
    run(data, tmp_path / "run", "0/2")
    with pytest.raises(UserError, match=r"another run: target is 100\.0 there and 90\.0 here"):
        run(data, tmp_path / "run", "1/2", target=90.0)


def test_others_leftovers_are_left_alone(data, tmp_path):
    output = tmp_path / "run"
    run(data, output, "0/2")
    halves = [output / "heatmaps.zarr" / f"c.{number}.0.0.0" for number in (COUNT - 1, COUNT + 9)]
    half_part = output / "scores" / f".part-{COUNT + 10:05d}-0123456789abcdef.parquet.tmp"
    for path in (*halves, half_part):
        path.write_bytes(b"half")
    run(data, output, "0/2")
    assert [path.exists() for path in (*halves, half_part)] == [False, True, True]
    run(data, output, "1/2")
    assert not any(path.exists() for path in (*halves, half_part))


def test_a_damaged_part_of_its_own_stops_a_slice(data, tmp_path):
    output = tmp_path / "run"
    run(data, output, "1/2")
    shard = sorted((output / "heatmaps.zarr").glob("c.*"))[0]
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match="is damaged"):
        run(data, output, "1/2")
    run(data, output, "0/2")  # not of its own: the one whose it is says so, and inspect


def test_nothing_optimised_is_said_of_the_whole_run_alone(data, tmp_path):
    half = run(data, tmp_path / "run", "0/2")
    assert explain_nothing_correct(replace(half, outcomes=type(half.outcomes)())) is None
    assert explain_nothing_correct(replace(half, outcomes=type(half.outcomes)(), missing=0))


def test_snapshots_wait_for_the_whole(data, tmp_path):
    wanted = SnapshotConfig(snapshots=1)
    with pytest.raises(UserError, match="snapshots are taken of a whole run by one process"):
        run(data, tmp_path / "run", "0/2", wanted=wanted)


def test_slices_go_to_a_url_too(data, alone):
    output = place_at(f"memory://{uuid.uuid4().hex}/run", "--output")
    for index in (1, 0):
        summary = run(data, output, f"{index}/2")
    assert summary.missing == 0
    assert look(output).rows == alone.rows
    assert len(read_scores(output)) == COUNT
