"""The same images from wherever they lie: ids, labels, sizes, fingerprint and pixels are equal."""

import numpy as np
import pytest
from image_folders import assert_says, complaint, labels_of, opened
from places import (
    WNIDS,
    assert_same,
    everything,
    parquet_table,
    pictures,
    samples,
    write_folder,
    write_parquet,
    write_shards,
    write_tar,
    write_tars,
)

IMAGES = pictures()


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "folder", IMAGES)


# --- The same images -----------------------------------------------------------------------------


def test_parquet_files_hold_the_images_of_a_folder(tmp_path, folder):
    shards = write_shards(tmp_path / "shards", IMAGES)
    expected = opened(folder, 1000)
    found = assert_same(shards, expected)
    assert_same(shards / "validation-*.parquet", expected)
    assert_same(shards, expected, split="val")
    write_shards(tmp_path / "repository/data", IMAGES, count=3)
    assert_same(tmp_path / "repository", expected)
    assert found.reading_order.tolist() != list(range(len(IMAGES)))


def test_tar_archives_hold_the_images_of_a_folder(tmp_path, folder):
    shards = write_tars(tmp_path / "shards", IMAGES)
    expected = opened(folder, 1000)
    found = assert_same(shards, expected)
    assert_same(shards / "shard-{000..001}.tar", expected)
    assert_same(shards / "shard-*.tar", expected)
    assert found.reading_order.tolist() == [8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3]


def test_a_tar_of_class_folders_is_the_folder(tmp_path, folder):
    expected = opened(folder, 1000)
    assert_same(write_tar(tmp_path / "a.tar", IMAGES), expected)
    assert_same(write_tar(tmp_path / "b.tar", {f"./{k}": v for k, v in IMAGES.items()}), expected)
    splits = {f"{split}/{k}": v for split in ("train", "val") for k, v in IMAGES.items()}
    assert_same(
        write_tar(tmp_path / "c.tar", splits),
        opened(write_folder(tmp_path / "splits", splits), 1000, split="val"),
        split="val",
    )


def test_imagenets_own_archive_is_the_flat_folder(tmp_path):
    flat = {f"ILSVRC2012_val_{i:08d}.JPEG": v for i, v in enumerate(IMAGES.values(), start=1)}
    labels = tmp_path / "LOC_val_solution.csv"
    rows = [f"{name.partition('.')[0]},{WNIDS[i % 3]} 1 1 9 9" for i, name in enumerate(flat)]
    labels.write_text("\n".join(["ImageId,PredictionString", *rows]) + "\n")
    expected = opened(write_folder(tmp_path / "flat", flat), 1000, labels=labels)
    archive = write_tar(tmp_path / "ILSVRC2012_img_val.tar", flat)
    assert_same(archive, expected, labels=labels)
    assert_says(complaint(archive, 1000), "12 images but no class folders", "--labels")


def test_urls_hold_the_images_of_a_folder(tmp_path, folder, memory):
    write_shards(tmp_path / "shards", IMAGES)
    write_tars(tmp_path / "tars", IMAGES)
    table = "path,label\n" + "".join(f"{path},{path.partition('/')[0]}\n" for path in IMAGES)
    for name in ("folder", "shards", "tars"):
        memory.put(f"{tmp_path / name}/", f"/bucket/{name}/", recursive=True)
    memory.pipe("/bucket/folder/images.csv", table.encode())
    expected = opened(folder, 1000)
    found = assert_same("memory://bucket/folder", expected)
    assert found.readers >= 16
    for name in ("shards", "tars", "shards/*.parquet", "tars/shard-{000..001}.tar"):
        assert_same(f"memory://bucket/{name}", expected)
    assert_same("memory://bucket/folder/images.csv", expected)
    assert_same(f"file://{folder}", expected)


def test_s3_holds_the_images_of_a_folder(tmp_path, folder, s3):
    write_shards(tmp_path / "shards", IMAGES)
    write_tars(tmp_path / "tars", IMAGES)
    for name in ("folder", "shards", "tars"):
        s3.put(f"{tmp_path / name}/", f"images/{name}/", recursive=True)
    expected = opened(folder, 1000)
    for name in ("folder", "folder/", "shards", "tars", "shards/v*.parquet", "tars/*.tar"):
        assert_same(f"s3://images/{name}", expected)


def test_a_draw_by_a_seed_is_the_same_from_everywhere(tmp_path, folder):
    drawn = opened(folder, 1000, num_images=5, seed=3)
    assert len(drawn.records) == 5
    assert_same(write_shards(tmp_path / "shards", IMAGES), drawn, num_images=5, seed=3)
    assert_same(write_tars(tmp_path / "tars", IMAGES), drawn, num_images=5, seed=3)


def test_hugging_faces_own_files_hold_the_images_of_a_folder(tmp_path, folder):
    datasets = pytest.importorskip("datasets")
    from datasets.table import embed_table_storage

    datasets.disable_progress_bars()
    made = datasets.load_dataset(
        "imagefolder", data_dir=str(folder), split="train", cache_dir=str(tmp_path / "cache")
    )
    made = made.with_format("arrow").map(embed_table_storage, batched=True).with_format(None)
    for number in range(2):
        file = tmp_path / "hub/data" / f"train-{number:05d}-of-00002.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        made.shard(2, number, contiguous=True).to_parquet(file, batch_size=4)
    assert_same(tmp_path / "hub/data", opened(folder, 1000))
    assert_same(tmp_path / "hub", opened(folder, 1000), split="train")


def test_webdatasets_own_files_hold_the_images_of_a_folder(tmp_path, folder):
    webdataset = pytest.importorskip("webdataset")
    file = tmp_path / "shard.tar"
    with webdataset.TarWriter(str(file)) as writer:
        for path, content in IMAGES.items():
            label = {"label": path.partition("/")[0]}
            writer.write({"__key__": path.removesuffix(".png"), "png": content, "json": label})
    assert_same(file, opened(folder, 1000))


# --- The order of reading ------------------------------------------------------------------------


def test_batches_come_in_the_order_of_reading_unless_names_are_asked_for(tmp_path):
    from gaxjax.data.batching import batches

    images = opened(write_tars(tmp_path / "tars", IMAGES), 1000)
    read = [i for batch in batches(images, batch_size=4, threads=2) for i in batch.indices]
    assert read == images.reading_order.tolist()
    named = batches(images, batch_size=4, threads=2, by_name=True)
    assert [i for batch in named for i in batch.indices] == list(range(len(IMAGES)))
    wanted = [i for i in images.order() if i not in (0, 11)]
    rest = batches(images, batch_size=4, threads=2, only=wanted)
    assert [i for batch in rest for i in batch.indices] == [i for i in read if i not in (0, 11)]


def test_the_first_images_keep_their_order_of_reading(tmp_path):
    images = opened(write_tars(tmp_path / "tars", IMAGES), 1000)
    assert images.first(5).reading_order.tolist() == [4, 0, 1, 2, 3]
    assert opened(write_folder(tmp_path / "folder", IMAGES), 1000).first(5).order() == [*range(5)]


@pytest.mark.parametrize("settings", [{"row_group_size": 100}, {"row_group_size": 7}])
def test_rows_are_right_in_whatever_order_they_are_asked_for(tmp_path, settings):
    images = pictures(per_class=7, classes=[f"c{i:02d}" for i in range(40)])
    shards = write_shards(tmp_path / "shards", images, count=3, **settings)
    found, expected = opened(shards), opened(write_folder(tmp_path / "folder", images))
    assert found.records == expected.records
    wanted = [expected.load(i) for i in range(len(images))]
    for i in np.random.default_rng(0).permutation(len(images))[:60].tolist():
        assert (found.load(i) == wanted[i]).all()
    some = [i for i in found.order() if i % 3]
    for settings in ({"by_name": True, "threads": 8}, {"only": some}):
        pixels, reasons = everything(found, **settings)
        assert not reasons
        done = settings.get("only", range(len(images)))
        assert all((pixels[i] == wanted[i]).all() for i in done)


def test_reading_in_order_touches_each_row_group_once(tmp_path, monkeypatch):
    from gaxjax.data import parquet_rows

    images = pictures(per_class=7, classes=[f"c{i:02d}" for i in range(30)])
    found = opened(write_shards(tmp_path / "shards", images, row_group_size=50))
    groups: list[int] = []
    batches_of = parquet_rows._batches
    monkeypatch.setattr(
        parquet_rows, "_batches", lambda *args: groups.append(args[1]) or batches_of(*args)
    )
    everything(found, threads=1)  # of several, one may be late for a group that the others left
    assert groups == [0, 1, 2, 0, 1, 2]


# --- Ids and labels ------------------------------------------------------------------------------


def test_an_id_is_the_key_or_the_path_or_the_rows_number(tmp_path):
    some = dict(list(IMAGES.items())[:3])
    names = [path.rpartition("/")[2] for path in some]

    def ids(**columns):
        table = parquet_table(some, **columns)
        return [r.image_id for r in opened(write_parquet(tmp_path / "a.parquet", table)).records]

    assert ids(image_id=["c", "a", "b"]) == ["a", "b", "c"]
    assert ids(__key__=["c", "a", "b"]) == ["a", "b", "c"]
    assert ids() == sorted(f"{WNIDS[0]}/{name}" for name in names)
    assert ids(labels=[5, 5, 7]) == sorted(names)  # a number is no class folder
    table = parquet_table(some)
    for paths in (["a.png", None, "b.png"], ["a.png", "a.png", "b.png"]):
        image = [
            {"bytes": each, "path": path} for each, path in zip(some.values(), paths, strict=True)
        ]
        file = write_parquet(tmp_path / "b.parquet", table.set_column(0, "image", [image]))
        assert [record.image_id for record in opened(file).records] == ["00000", "00001", "00002"]


def test_samples_of_the_same_name_in_two_archives_are_told_apart_by_the_archives(tmp_path):
    for shard in ("a", "b"):
        write_tar(tmp_path / f"{shard}.tar", {"1.png": IMAGES[next(iter(IMAGES))], "1.cls": b"7"})
    assert labels_of(opened(tmp_path)) == [("a/1.png", 7, "7"), ("b/1.png", 7, "7")]


def test_splits_are_told_by_the_files_names(tmp_path):
    from gaxjax.data.sources import splits_of

    for split, label in (("train", "cat"), ("train", "dog"), ("test", "dog")):
        some = {f"{label}/{split}_{label}.png": IMAGES[next(iter(IMAGES))]}
        write_parquet(tmp_path / f"{split}-{label}.parquet", parquet_table(some))
    assert splits_of(str(tmp_path)) == ("test", "train")
    assert_says(complaint(tmp_path), "holds splits (test, train); choose one by --split")
    # Numbered over all: dog is the second class in the split that has no other.
    assert labels_of(opened(tmp_path, split="test")) == [("dog/test_dog.png", 1, "dog")]
    for split in ("train", "val"):
        write_tar(
            tmp_path / f"tars/{split}-0.tar",
            samples({f"{split}/1.png": IMAGES[next(iter(IMAGES))]}),
        )
    assert labels_of(opened(tmp_path / "tars", split="val")) == [("val/1.png", 1, "val")]


def test_only_the_chosen_split_is_indexed_where_its_labels_say_their_classes(tmp_path, monkeypatch):
    from gaxjax.data import parquet, tar_shards

    for split in ("train", "val"):
        write_tar(tmp_path / f"tars/{split}-0.tar", samples(IMAGES))
        write_parquet(tmp_path / f"shards/{split}-0.parquet", parquet_table(IMAGES))
    indexed = []
    for module, name in ((tar_shards, "tar_index"), (parquet, "_index")):
        make = getattr(module, name)
        monkeypatch.setattr(
            module, name, lambda shard, make=make: indexed.append(shard.file) or make(shard)
        )
    for kind in ("tars", "shards"):
        assert opened(tmp_path / kind, 1000, split="val").num_classes == 1000
    assert indexed == ["val-0.tar", "val-0.parquet"]
    assert opened(tmp_path / "tars", 3, split="val").num_classes == 3
    assert indexed[2:] == ["train-0.tar"]
