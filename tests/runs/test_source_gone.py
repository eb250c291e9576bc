"""Runs from wherever images lie: the same rows and heatmaps; and what if the place goes away."""

import contextlib
import dataclasses
import io
import shutil

import fsspec
import numpy as np
import places
import pytest
import tiny
from flax import nnx
from PIL import Image
from tiny_runs import run_config, tiny_model

from gaxjax.config.methods import AxConfig
from gaxjax.config.runs import AxRunConfig, BatchConfig, EngineConfig, StoreConfig
from gaxjax.data.image_source import FolderSource, SourceGoneError
from gaxjax.data.parquet import ParquetSource
from gaxjax.data.tar_shards import TarSource
from gaxjax.data.url_files import UrlSource
from gaxjax.models import as_classifier, build
from gaxjax.results.reading import read_scores
from gaxjax.results.stored_run import images_of, open_run
from gaxjax.runs.ax import run_ax
from gaxjax.runs.gax import run_gax

KINDS = ("folder", "shards", "tars")
SOME = ("folder", *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS[1:]))


COUNT = 60
PIXELS = tiny.images(COUNT)


@pytest.fixture(scope="module", autouse=True)
def _tiny():
    with tiny_model():
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The images as a folder, as Parquet files and as tar archives, and the rows of their run."""
    root = tmp_path_factory.mktemp("made")
    images = {}
    for number, pixels in enumerate(PIXELS):  # another order than that of the names
        images[f"{number * 7 % tiny.CLASSES}/{number * 37 % COUNT:02d}.png"] = encoded(pixels)
    places.write_folder(root / "there/folder", images)
    table = places.parquet_table(images, image_id=list(images))
    for number in range(6):
        file = root / f"there/shards/{number}.parquet"
        places.write_parquet(file, table.slice(number * 10, 10), row_group_size=4)
    places.write_tars(root / "there/tars", images)
    run(root / "there/folder", root / "run")
    return root / "there", rows_of(root / "run")


def encoded(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def there(made, tmp_path, monkeypatch):
    """A copy of the images, on the disk and in memory."""
    monkeypatch.setenv("GAXJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("gaxjax.common.remote._FIRST_PAUSE", 0.001)
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.put(f"{made[0]}/", "/there/", recursive=True)
    yield shutil.copytree(made[0], tmp_path / "there")
    system.store.clear()


@pytest.fixture
def expected(made):
    return made[1]


def run(data, output):
    return run_gax(configured(data), output, note=lambda _: None)


def configured(data):
    config = run_config(data, max_steps=2)
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, decode_threads=1),
        engine=EngineConfig(slots=2),
        store=StoreConfig(heatmaps="float16", part_size=2),
    )


def rows_of(output):
    """Return all of a run's rows by image, each with the digest of its heatmap."""
    return read_scores(output).sort_by("image_id").drop_columns(["heatmap_row"])


def place(there, kind, url):
    return f"memory://there/{kind}" if url else there / kind


# --- The same rows -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "url"),
    [
        ("folder", False),
        ("shards", True),
        ("tars", False),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (("folder", True), ("shards", False), ("tars", True))
        ),
    ],
)
def test_a_run_has_the_same_rows_and_heatmaps_from_every_place(
    there, expected, tmp_path, kind, url
):
    output = tmp_path / "run"
    run(place(there, kind, url), output)
    assert rows_of(output).equals(expected)
    assert expected["heatmap_sha256"].null_count < len(PIXELS)
    load, complaint = images_of(open_run(output))
    assert complaint is None
    for row in expected.to_pylist():
        file = there / "folder" / row["image_id"]
        assert (load(row["image_id"]) == np.asarray(Image.open(file))).all()


def test_a_run_of_a_pattern_is_opened_from_another_folder(there, tmp_path, monkeypatch):
    monkeypatch.chdir(there)
    run("shards/*.parquet", tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    assert images_of(open_run(tmp_path / "run"))[1] is None


def test_the_first_that_are_correct_are_those_of_the_names_from_every_place(there, tmp_path):
    found = []
    for kind in KINDS:
        config = dataclasses.replace(configured(there / kind), first_correct=3)
        run_gax(config, tmp_path / kind, note=lambda _: None)
        found.append(rows_of(tmp_path / kind))
    assert found[0].num_rows < len(PIXELS)
    assert found[0].equals(found[1])
    assert found[0].equals(found[2])


def test_a_run_from_a_folder_is_shown_with_images_from_elsewhere(there, expected, tmp_path):
    run(there / "folder", tmp_path / "run")
    for kind in KINDS[1:]:
        found = dataclasses.replace(open_run(tmp_path / "run"), data=str(there / kind))
        load, complaint = images_of(found)
        assert complaint is None
        assert load(expected["image_id"][0].as_py()) is not None


# --- A place that goes away ----------------------------------------------------------------------


def stopped(data, output, monkeypatch, take_away, after, run=run):
    """Run until so many images were read, then take their place away; return what is said."""
    left = [after]

    def counting(method):
        def encoded(self, image_id):
            left[0] -= 1
            if left[0] == 0:
                take_away()
            return method(self, image_id)

        return encoded

    with monkeypatch.context() as patch:
        for source in (FolderSource, UrlSource, ParquetSource, TarSource):
            patch.setattr(source, "encoded", counting(source.encoded))
        with pytest.raises(SourceGoneError) as gone:
            run(data, output)
    message = str(gone.value)
    assert "\n" not in message
    assert f"--data {data} cannot be read any more" in message
    assert "everything committed is kept" in message
    assert "the same command resumes" in message
    return message


AFTER = 16 + 44  # of which the first are looked at when the images are opened


@pytest.mark.parametrize("kind", SOME)
def test_a_run_whose_folder_goes_away_ends_in_a_line_and_resumes(
    there, expected, tmp_path, monkeypatch, kind
):
    away, output = tmp_path / "away", tmp_path / "run"
    message = stopped(there / kind, output, monkeypatch, lambda: there.rename(away), AFTER)
    assert "No such file" in message
    assert 0 < len(read_scores(output)) < len(PIXELS)
    away.rename(there)
    summary = run(there / kind, output)
    assert summary.resumed > 0
    assert rows_of(output).equals(expected)


@pytest.mark.slow  # AX compiles larger programs
def test_attributions_from_a_bucket_that_goes_away_end_in_a_line_and_resume(
    there, tmp_path, monkeypatch
):
    system = fsspec.filesystem("memory")
    kept = dict(system.store)
    model = classifier()
    stopped(
        "memory://there/tars",
        tmp_path / "run",
        monkeypatch,
        system.store.clear,
        AFTER,
        run=lambda data, output: attributed(model, data, output),
    )
    assert 0 < len(read_scores(tmp_path / "run")) < len(PIXELS)
    system.store.update(kept)
    attributed(model, "memory://there/tars", tmp_path / "run")
    attributed(model, there / "tars", tmp_path / "whole")
    whole = rows_of(tmp_path / "whole")
    assert len(whole) == len(PIXELS)
    assert rows_of(tmp_path / "run").equals(whole)


def attributed(model, data, output):
    config = configured(data)
    return run_ax(
        AxRunConfig(
            model=config.model,
            data=config.data,
            ax=AxConfig(methods=("saliency",), operation="sum"),
            batch=BatchConfig(batch_size=2),
            store=config.store,
        ),
        output,
        classifier=model,
        note=lambda _: None,
    )


def classifier():
    """A small network of layers, which AX can look into."""
    net = build("small_resnet", num_classes=tiny.CLASSES, rngs=nnx.Rngs(0))
    return as_classifier(net, num_classes=tiny.CLASSES, mean=tiny.MEAN, std=tiny.STD)


def test_a_disk_that_is_not_mounted_any_more_is_told_from_a_missing_image(
    there, expected, tmp_path, monkeypatch
):
    away, output = tmp_path / "away", tmp_path / "run"

    def unmount():
        (there / "folder").rename(away)
        (there / "folder").mkdir()

    message = stopped(there / "folder", output, monkeypatch, unmount, AFTER)
    assert "is its disk mounted?" in message
    (there / "folder").rmdir()
    away.rename(there / "folder")
    run(there / "folder", output)
    assert rows_of(output).equals(expected)


@pytest.mark.parametrize("kind", SOME)
def test_a_run_whose_bucket_goes_away_ends_in_a_line_and_resumes(
    there, expected, tmp_path, monkeypatch, kind
):
    system = fsspec.filesystem("memory")
    kept = dict(system.store)

    def delete():
        system.store.clear()
        system.pseudo_dirs.clear()

    stopped(f"memory://there/{kind}", tmp_path / "run", monkeypatch, delete, AFTER)
    assert 0 < len(read_scores(tmp_path / "run")) < len(PIXELS)
    system.store.update(kept)
    run(f"memory://there/{kind}", tmp_path / "run")
    assert rows_of(tmp_path / "run").equals(expected)


def test_credentials_that_expire_end_a_run_in_a_line_and_it_resumes(
    there, expected, tmp_path, monkeypatch
):
    memory = fsspec.get_filesystem_class("memory")
    with monkeypatch.context() as patch:

        def expire():
            for method in ("cat_file", "info"):
                patch.setattr(memory, method, refuse)

        def refuse(*_args, **_settings):
            raise PermissionError("The provided token has expired")

        data = "memory://there/folder"
        said = stopped(data, tmp_path / "run", monkeypatch, expire, AFTER)
    assert "(The provided token has expired)" in said
    run(data, tmp_path / "run")
    assert rows_of(tmp_path / "run").equals(expected)


def test_one_image_that_is_gone_is_its_own_outcome(there, expected, tmp_path, monkeypatch):
    system = fsspec.filesystem("memory")
    first = expected["image_id"][0].as_py()
    monkeypatch.setattr(
        "gaxjax.runs.opening._doubts", lambda *_: system.rm(f"/there/folder/{first}") or ()
    )
    run("memory://there/folder", tmp_path / "run")
    rows = rows_of(tmp_path / "run").to_pylist()
    assert [(row["image_id"], row["reason"]) for row in rows if row["outcome"] == "unreadable"] == [
        (first, "there is no such file")
    ]
    assert rows[1:] == expected.to_pylist()[1:]


def test_what_fails_once_is_tried_again(there, expected, tmp_path, monkeypatch):
    failed = set()
    cat_file = fsspec.get_filesystem_class("memory").cat_file

    def now_and_then(self, path, **settings):
        if path not in failed:
            failed.add(path)
            raise TimeoutError
        return cat_file(self, path, **settings)

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "cat_file", now_and_then)
    for kind in KINDS:
        run(f"memory://there/{kind}", tmp_path / kind)
        assert rows_of(tmp_path / kind).equals(expected)
    assert len(failed) > len(PIXELS)


def test_what_never_answers_is_the_images_outcome(there, expected, tmp_path, monkeypatch):
    cat_file = fsspec.get_filesystem_class("memory").cat_file
    last = expected["image_id"][-1].as_py()

    def but_one(self, path, **settings):
        if path.endswith(last):
            raise TimeoutError
        return cat_file(self, path, **settings)

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "cat_file", but_one)
    run("memory://there/folder", tmp_path / "run")
    assert rows_of(tmp_path / "run")["reason"].to_pylist()[-1] == "it did not answer in time"


def test_a_server_that_is_down_ends_a_run_in_a_line(there, tmp_path, monkeypatch):
    with contextlib.ExitStack() as until:
        places.use_s3(until.enter_context(places.s3_server()), monkeypatch)
        system = fsspec.filesystem("s3", use_listings_cache=False)
        system.mkdir("away")
        system.put(f"{there / 'tars'}/", "away/tars/", recursive=True)
        message = stopped("s3://away/tars", tmp_path / "run", monkeypatch, until.close, AFTER)
    assert "server" in message
    assert 0 < len(read_scores(tmp_path / "run")) < len(PIXELS)
