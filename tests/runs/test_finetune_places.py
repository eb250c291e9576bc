"""What finetune trains on when images are no folder on a disk: only what is divided already."""

import fsspec
import places
import pytest

from gaxjax.common.errors import UserError
from gaxjax.config.finetune import FinetuneConfig
from gaxjax.runs import finetune

IMAGES = places.pictures(classes=("cat", "dog"))


def divided(data, output):
    config = FinetuneConfig(data=str(data), size=8)
    found, duplicates = finetune._divided(config, output, lambda _: None)
    assert duplicates == []
    assert not (output / "split.csv").exists()
    return [finetune._open(config, found, split).records for split in ("train", "val")]


@pytest.fixture
def memory(monkeypatch, tmp_path):
    monkeypatch.setenv("GAXJAX_CACHE", str(tmp_path / "cache"))
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


def test_what_is_divided_already_is_taken_as_it_is(memory, tmp_path):
    for split in ("train", "validation"):
        for path, content in IMAGES.items():
            memory.pipe(f"/there/{split}/{path}", content)
        table = places.parquet_table(IMAGES)
        places.write_parquet(tmp_path / f"shards/{split}-0.parquet", table)
    for data in (tmp_path / "shards", "memory://there"):
        train, validation = divided(data, tmp_path / "output")
        assert len(train) == len(validation) == len(IMAGES)
        assert [record.label for record in train] == [0] * 4 + [1] * 4


def test_what_is_not_divided_is_refused(memory, tmp_path):
    file = places.write_parquet(tmp_path / "a.parquet", places.parquet_table(IMAGES))
    archive = places.write_tar(tmp_path / "train-0.tar", places.samples(IMAGES))
    memory.pipe("/there/cat/1.png", b"an image")
    for data, lacking in ((file, "train"), (archive, "val"), ("memory://there", "train")):
        with pytest.raises(UserError, match=f"has no split {lacking}: training needs train and"):
            divided(data, tmp_path / "output")
