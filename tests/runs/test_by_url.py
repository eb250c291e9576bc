"""A run in an S3 bucket, on a server of this machine: as whole at every moment as in a folder."""

import json
from dataclasses import replace

import places
import pytest
import tiny_runs
from looking import look

from gaxjax.cli.main import main
from gaxjax.common import UserError
from gaxjax.config import EngineConfig, SnapshotConfig, StoreConfig
from gaxjax.results import inspect_run, open_run, read_header, read_heatmaps, read_scores
from gaxjax.runs.gax import run_gax

COUNT = len(tiny_runs.PIXELS)
RUN = "s3://runs/first"


@pytest.fixture(scope="module")
def address():
    with places.s3_server() as found:
        yield found


@pytest.fixture
def s3(address, monkeypatch):
    """An empty bucket `runs`; its file system."""
    import fsspec

    places.use_s3(address, monkeypatch)
    system = fsspec.filesystem("s3", use_listings_cache=False)
    if system.exists("runs"):
        system.rm("runs", recursive=True)
    system.mkdir("runs")
    return system


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny_runs.write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def local(data, tmp_path_factory):
    output = tmp_path_factory.mktemp("local") / "run"
    run(data, output)
    return look(output)


def run(data, output, **settings):
    config = tiny_runs.run_config(data, **settings)
    # Few slots, as many to the end: with AVX2 bits depend on the count.
    config = replace(config, engine=EngineConfig(slots=2), store=StoreConfig(part_size=4))
    return run_gax(config, output, classifier=tiny_runs.CLASSIFIER, note=lambda _: None)


def found(url=RUN):
    return look(open_run(url).path)


def test_a_run_by_url_is_that_of_a_folder(s3, data, local):
    summary = run(data, RUN)
    assert str(summary.output) == RUN
    assert found().rows == local.rows
    assert read_header(RUN)["status"] == "complete"
    assert len(read_scores(RUN)) == COUNT
    rows = [row for row in read_scores(RUN)["heatmap_row"].to_pylist() if row is not None]
    assert read_heatmaps(RUN, rows[:2]).shape[0] == 2
    inspected = inspect_run(open_run(RUN).path)
    assert not inspected.damages
    assert run(data, RUN).stats is None


@pytest.mark.slow
def test_what_was_committed_before_a_failure_is_gone_on_with(s3, data, local, monkeypatch):
    from gaxjax.results.part_writer import PartWriter

    commit, left = PartWriter.commit, iter(range(2))

    def failing(self, results):
        if next(left, None) is None:
            raise OSError("the bucket is full")
        commit(self, results)

    with monkeypatch.context() as patch:
        patch.setattr(PartWriter, "commit", failing)
        with pytest.raises(UserError, match=r"could not write results \(the bucket is full\)"):
            run(data, RUN)
    assert 0 < len(found().rows) < COUNT
    assert run(data, RUN).resumed
    assert found().rows == local.rows


def test_a_shard_without_its_part_is_removed_and_damage_is_found(s3, data, local):
    run(data, RUN)
    s3.pipe_file("runs/first/heatmaps.zarr/c.9.0.0.0", b"half")
    run(data, RUN)
    assert not s3.exists("runs/first/heatmaps.zarr/c.9.0.0.0")
    part = s3.ls("runs/first/scores", detail=False)[0]
    s3.pipe_file(part, s3.cat_file(part)[:-1])
    assert "are not those that were written" in inspect_run(open_run(RUN).path).damages[0]
    with pytest.raises(UserError, match="is damaged"):
        run(data, RUN)
    assert inspect_run(open_run(RUN).path, repair=True).repaired
    run(data, RUN)
    assert found().rows == local.rows


def test_commands_read_it(s3, data, capsys, tmp_path):
    run(data, RUN)
    assert main(["inspect", RUN]) == 0
    assert main(["statistics", RUN]) == 0
    assert json.loads(s3.cat_file("runs/first/statistics.json"))
    assert main(["report", RUN, "--output", str(tmp_path / "report.html")]) == 0
    said = capsys.readouterr().out
    assert "Nothing is damaged" in said
    assert f"Wrote {RUN}/statistics.json" in said
    assert (tmp_path / "report.html").stat().st_size > 10_000


def test_a_bucket_that_there_is_not_and_other_mistakes_are_one_line(s3, data, capsys):
    with pytest.raises(UserError, match=r"--output s3://none/run: there is no such bucket"):
        run(data, "s3://none/run")
    with pytest.raises(UserError, match=r"holds no gaxjax run: it has no run\.json"):
        open_run("s3://runs/nothing")
    s3.pipe_file("runs/thesis/chapter.tex", b"\\chapter")
    with pytest.raises(UserError, match=r"is not empty and holds no gaxjax run \(found chapter"):
        run(data, "s3://runs/thesis")
    with pytest.raises(UserError, match="--snapshots are kept in a folder alone"):
        run(data, RUN, wanted=SnapshotConfig(snapshots=1))
    assert main(["inspect", "s3://none/run"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_missing_credentials_are_one_line(s3, data, monkeypatch, tmp_path):
    import fsspec

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    with pytest.raises(UserError, match="there are no credentials: set those of this storage"):
        run(data, RUN)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
