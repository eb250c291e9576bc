"""A run whose images are others now is not resumed, and the images are named."""

import dataclasses
import shutil

import pyarrow.parquet as pq
import pytest
from PIL import Image
from tiny_runs import PIXELS, run_config, tiny_model, write_images

from gaxjax.common.errors import UserError
from gaxjax.config.inputs import DataConfig
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


def refusal(output, config):
    with pytest.raises(UserError) as refused:
        run_gax(config, output, note=lambda _: None)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_the_list_holds_every_image_with_its_label_and_bytes(finished):
    folder, _ = finished
    rows = pq.read_table(folder / "run/images.parquet").to_pylist()
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
    assert "Put them back as they were to resume, or choose another --output" in said


def test_of_many_three_are_named(copied):
    output, config, files = copied
    for file in files[:5]:
        file.unlink()
    said = refusal(output, config)
    assert "5 images gone (" in said
    assert said.count(".png") == 3
    assert ", …)" in said


def test_images_that_are_there_again_are_no_others(copied):
    output, config, files = copied
    content = files[0].read_bytes()
    files[0].unlink()
    refusal(output, config)
    files[0].write_bytes(content)
    assert run_gax(config, output, note=lambda _: None).resumed == len(PIXELS)


@pytest.mark.parametrize("changes", [{"num_images": 12}, {"resize": "crop"}])
def test_another_choice_of_images_is_told_by_the_settings(copied, changes):
    output, config, _ = copied
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, **changes))
    assert f"{output} holds another run: " in refusal(output, config)


def test_a_run_without_a_whole_list_is_told_by_its_fingerprint(copied):
    output, config, files = copied
    files[0].unlink()
    (output / "images.parquet").write_bytes(b"PAR1")
    assert f"{output} holds another run: data is " in refusal(output, config)
    (output / "images.parquet").unlink()
    assert f"{output} holds another run: data is " in refusal(output, config)


def test_a_run_of_before_gets_its_list_when_it_is_resumed(copied):
    output, config, _ = copied
    before = (output / "images.parquet").read_bytes()
    (output / "images.parquet").unlink()
    run_gax(config, output, note=lambda _: None)
    assert (output / "images.parquet").read_bytes() == before


def test_wholly_other_images_are_another_run(copied, tmp_path):
    output, config, _ = copied
    other = tmp_path / "other"
    for label in range(5):
        (other / str(label)).mkdir(parents=True)
        Image.new("RGB", (9, 9)).save(other / str(label) / "other.png")
    data = DataConfig(data=str(other), size=config.data.size)
    config = dataclasses.replace(config, data=data)
    assert f"{output} holds another run: data is " in refusal(output, config)
