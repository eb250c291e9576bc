"""A disk that is full at any write of a run: one line says so, and nothing committed is lost."""

import contextlib
import dataclasses
import errno
import itertools
import resource
import signal
import time
from pathlib import Path

import pytest
from tiny_runs import PIXELS, run_config, tiny_model, write_images

from gaxjax.common import UserError, files
from gaxjax.config.runs import StoreConfig
from gaxjax.results import read_header, read_scores
from gaxjax.runs import shell
from gaxjax.runs.gax import run_gax


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    with tiny_model():
        yield dataclasses.replace(
            run_config(write_images(tmp_path_factory.mktemp("images"))),
            store=StoreConfig(part_size=5),
        )


def images(output):
    found = read_scores(output, columns=["image_id"])["image_id"].to_pylist()
    assert len(set(found)) == len(found)
    return set(found)


def refused(config, output) -> str | None:
    """Run; return the one line that refuses it, None where it went through."""
    try:
        run_gax(config, output, note=lambda _: None)
        return None
    except UserError as error:
        return str(error)


def test_a_disk_that_is_full_at_the_nth_write_loses_nothing(config, tmp_path, monkeypatch):
    """The run goes on at each refusal, as a user would let it, and is refused one write later."""
    done, refusals, synced = set(), [], files._make_durable
    for most in itertools.count(step=2):
        writes = itertools.count()

        def full(path, most=most, writes=writes):
            if next(writes) >= most:
                raise OSError(errno.ENOSPC, "No space left on device")
            synced(path)

        monkeypatch.setattr(files, "_make_durable", full)
        said = refused(config, tmp_path / "run")
        if said is None:
            break
        refusals.append(said)
        assert "\n" not in said
        assert "No space left on device" in said
        assert "is safe; mend it and give the same command again to resume" in said
        if most > 1:
            assert images(tmp_path / "run") >= done
            done = images(tmp_path / "run")
    assert len(refusals) > 4
    assert any("run.json" in line for line in refusals)
    assert any("could not write results" in line for line in refusals)
    assert len(images(tmp_path / "run")) == len(PIXELS)
    assert read_header(tmp_path / "run")["status"] == "complete"


@pytest.mark.parametrize("name", ["scores", "heatmaps.zarr"])
def test_a_disk_that_takes_no_folder_is_one_line(config, tmp_path, monkeypatch, name):
    mkdir = Path.mkdir

    def full(self, *arguments, **settings):
        if self.name == name:
            raise OSError(errno.ENOSPC, "No space left on device", str(self))
        mkdir(self, *arguments, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", full)
        said = refused(config, tmp_path / "run")
    assert said is not None
    assert "No space left on device" in said
    assert refused(config, tmp_path / "run") is None


@pytest.mark.slow
def test_a_slow_disk_and_a_clock_that_jumps_change_nothing(config, tmp_path, monkeypatch):
    assert refused(config, tmp_path / "whole") is None
    synced, jumps, now = files._make_durable, itertools.count(), time.time

    def slow(path):
        time.sleep(0.2)
        synced(path)

    monkeypatch.setattr(files, "_make_durable", slow)
    monkeypatch.setattr(time, "time", lambda: now() + (-1) ** next(jumps) * 1e8)
    assert refused(config, tmp_path / "slow") is None
    rows = [
        sorted((row | {"heatmap_row": None} for row in read_scores(run).to_pylist()), key=str)
        for run in (tmp_path / "whole", tmp_path / "slow")
    ]
    assert rows[0] == rows[1]
    assert len(rows[0]) == len(PIXELS)


def test_what_failed_first_is_told_and_not_that_its_note_failed_too(config, tmp_path, monkeypatch):
    def broken(*_):
        monkeypatch.setattr(files, "_make_durable", full)
        raise UserError("the first failure")

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shell, "work", broken)
    assert refused(config, tmp_path / "run") == "the first failure"


@pytest.mark.parametrize("most", [0, 100, 1000, 3000, 4000])
def test_a_file_that_may_not_grow_is_one_line(config, tmp_path, most):
    output = tmp_path / "run"
    with largest_file(most):
        said = refused(config, output)
    assert said is not None
    assert "File too large" in said or "EFBIG" in said
    assert refused(config, output) is None
    assert len(images(output)) == len(PIXELS)


def test_a_folder_that_is_moved_away_in_the_middle_is_one_line(config, tmp_path, monkeypatch):
    output, made, calls = tmp_path / "run", shell._result, itertools.count(1)

    def moved(*arguments):
        if next(calls) == 8:
            while not images(output):  # until the first part is there
                time.sleep(0.01)
            output.rename(tmp_path / "moved")
        return made(*arguments)

    monkeypatch.setattr(shell, "_result", moved)
    said = refused(config, output)
    assert said is not None
    assert "give the same command again to resume" in said
    assert len(images(tmp_path / "moved")) == 5
    assert refused(config, tmp_path / "moved") is None
    assert len(images(tmp_path / "moved")) == len(PIXELS)


@contextlib.contextmanager
def largest_file(size):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
