"""A run whose images are others now is not resumed, and the images are named."""

import dataclasses
import shutil
import tarfile

import pyarrow.parquet as pq
import pytest
from altered_runs import part_paths
from PIL import Image
from tiny_runs import PIXELS, run_config, tiny_model, write_images

from gaxjax.common.errors import UserError
from gaxjax.config.inputs import DataConfig
from gaxjax.results.reading import read_scores
from gaxjax.results.stored_run import images_of, open_run
from gaxjax.runs.gax import run_gax


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    with tiny_model():
        folder = tmp_path_factory.mktemp("finished")
        (folder / "images").mkdir()
        config = run_config(write_images(folder / "images"))
        run_gax(config, folder / "run", note=lambda _: None)
        yield folder, config


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of the run, and of its images in order."""
    shutil.copytree(finished[0] / "run", tmp_path / "run")
    shutil.copytree(finished[0] / "images", tmp_path / "images")
    data = dataclasses.replace(finished[1].data, data=str(tmp_path / "images"))
    files = sorted((tmp_path / "images").rglob("*.png"), key=lambda file: file.name)
    return tmp_path / "run", dataclasses.replace(finished[1], data=data), files


def list_of(run):
    (file,) = run.glob("images-*.parquet")
    return file


def refusal(output, config):
    with pytest.raises(UserError) as refused:
        run_gax(config, output, note=lambda _: None)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_the_list_holds_every_image_with_its_label_and_bytes(finished):
    folder, _ = finished
    rows = pq.read_table(list_of(folder / "run")).to_pylist()
    assert len(rows) == len(PIXELS)
    for row in rows:
        assert row["bytes"] == (folder / "images" / row["image_id"]).stat().st_size
        assert row["image_id"].startswith(f"{row['label']}/")


def test_an_image_that_was_deleted_changed_or_added_is_named(copied):
    output, config, files = copied
    gone, changed, moved, *_ = files
    gone.unlink()
    Image.new("RGB", (99, 98)).save(changed)
    new = moved.parent / "new.png"
    Image.new("RGB", (9, 9)).save(new)
    said = refusal(output, config)
    for what, file in (("gone", gone), ("changed", changed), ("new", new)):
        assert f"1 image {what} ({file.parent.name}/{file.name})" in said
    assert "give --changed-images skip to go on with the rest" in said


def test_of_many_three_are_named(copied):
    output, config, files = copied
    for file in files[:5]:
        file.unlink()
    said = refusal(output, config)
    assert "5 images gone (" in said
    assert said.count(".png") == 3
    assert ", …)" in said


def test_a_run_goes_on_without_images_that_changed(copied):
    output, config, files = copied
    for part in part_paths(output)[1:]:
        part.unlink()
    left = {each.as_posix() for each in (f.relative_to(files[0].parents[1]) for f in files)}
    left -= set(read_scores(output)["image_id"].to_pylist())
    chosen = [file for file in files if f"{file.parent.name}/{file.name}" in left]
    gone, changed, *_ = chosen
    gone.unlink()
    Image.new("RGB", (99, 98)).save(changed)
    Image.new("RGB", (9, 9)).save(changed.parent / "new.png")
    said = []
    skipping = dataclasses.replace(config.store, changed_images="skip")
    summary = run_gax(dataclasses.replace(config, store=skipping), output, note=said.append)
    assert any("goes on without what is not as it was: 1 image gone" in line for line in said)
    assert summary.num_images == len(PIXELS)
    rows = {row["image_id"]: row for row in read_scores(output).to_pylist()}
    assert len(rows) == len(PIXELS)
    for file, reason in ((gone, "is gone"), (changed, "has changed")):
        row = rows[f"{file.parent.name}/{file.name}"]
        assert row["outcome"] == "unreadable"
        assert row["reason"] == f"its file {reason} since the run was begun"
    assert sum(row["outcome"] == "unreadable" for row in rows.values()) == 2
    load, _ = images_of(open_run(output, data=config.data.data))
    assert load(f"{gone.parent.name}/{gone.name}") is None


def test_images_that_are_there_again_are_no_others(copied):
    output, config, files = copied
    content = files[0].read_bytes()
    files[0].unlink()
    refusal(output, config)
    files[0].write_bytes(content)
    assert run_gax(config, output, note=lambda _: None).resumed == len(PIXELS)


def test_the_same_images_in_an_archive_are_no_others(copied):
    output, config, files = copied
    for part in part_paths(output)[1:]:
        part.unlink()
    left = len(PIXELS) - len(read_scores(output))
    folder = files[0].parents[1]
    archive = folder.parent / "images.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(folder, arcname=".")
    shutil.rmtree(folder)
    data = dataclasses.replace(config.data, data=str(archive))
    summary = run_gax(dataclasses.replace(config, data=data), output, note=lambda _: None)
    assert summary.resumed == len(PIXELS) - left > 0
    rows = read_scores(output).to_pylist()
    assert sorted(row["image_id"] for row in rows) == sorted(
        f"{file.parent.name}/{file.name}" for file in files
    )
    assert not any(row["outcome"] == "unreadable" for row in rows)


@pytest.mark.parametrize("changes", [{"num_images": 12}, {"resize": "crop"}])
def test_another_choice_of_images_is_told_by_the_settings(copied, changes):
    output, config, _ = copied
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, **changes))
    assert f"{output} holds another run: " in refusal(output, config)


def test_a_run_without_a_whole_list_is_told_by_its_fingerprint(copied):
    output, config, files = copied
    files[0].unlink()
    file = list_of(output)
    file.write_bytes(b"PAR1")
    assert f"{output} holds another run: data is " in refusal(output, config)
    file.unlink()
    assert f"{output} holds another run: data is " in refusal(output, config)


def test_a_run_of_before_gets_its_list_when_it_is_resumed(copied):
    output, config, _ = copied
    before = list_of(output)
    before.unlink()
    run_gax(config, output, note=lambda _: None)
    assert list_of(output) == before


def test_wholly_other_images_are_another_run(copied, tmp_path):
    output, config, _ = copied
    other = tmp_path / "other"
    for label in range(5):
        (other / str(label)).mkdir(parents=True)
        Image.new("RGB", (9, 9)).save(other / str(label) / "other.png")
    data = DataConfig(data=str(other), size=config.data.size)
    config = dataclasses.replace(config, data=data)
    assert f"{output} holds another run: data is " in refusal(output, config)
