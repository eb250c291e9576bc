"""The same small images in every kind of place that images are read from, and an S3 on loopback."""

import contextlib
import io
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from image_folders import opened
from PIL import Image

from gaxjax.data.batching import batches
from gaxjax.data.image_set import ImageSet

WNIDS = ("n01440764", "n01443537", "n01484850")
"""Classes 0, 1 and 2 of ImageNet."""


def picture(seed: int, kind: str = "PNG") -> bytes:
    """Return an encoded image of its own."""
    pixels = np.random.default_rng(seed).integers(0, 256, (10, 12, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def pictures(per_class: int = 4, classes: Sequence[str] = WNIDS) -> dict[str, bytes]:
    """Return encoded images by their path below class folders; none begins as the one before."""
    return {
        f"{name}/{'zyxwvut'[i]}{number}_{i}.png": picture(10 * number + i)
        for number, name in enumerate(classes)
        for i in range(per_class)
    }


def write_folder(root: Path, images: Mapping[str, bytes]) -> Path:
    for path, content in images.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return root


def parquet_table(
    images: Mapping[str, bytes], labels: Sequence[object] | None = None, **columns: object
) -> pa.Table:
    """Return images as `datasets` has them, without the names of the classes."""
    paths = [path.rpartition("/")[2] for path in images]
    found = [path.partition("/")[0] for path in images] if labels is None else labels
    image = pa.array(
        [
            {"bytes": content, "path": path}
            for path, content in zip(paths, images.values(), strict=True)
        ],
        pa.struct({"bytes": pa.binary(), "path": pa.string()}),
    )
    return pa.table({"image": image, "label": found, **columns})


def write_parquet(file: Path, table: pa.Table, **settings: object) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file, **settings)
    return file


def write_shards(folder: Path, images: Mapping[str, bytes], count: int = 2, **settings) -> Path:
    """Write Parquet files of as many rows each, in an order that is not that of the names."""
    items = sorted(images.items(), key=lambda item: item[0].partition("/")[2])
    for number in range(count):
        some = dict(items[number * len(items) // count : (number + 1) * len(items) // count])
        file = folder / f"validation-{number:05d}-of-{count:05d}.parquet"
        write_parquet(file, parquet_table(some), **({"row_group_size": 3} | settings))
    return folder


def write_tar(file: Path, members: Mapping[str, bytes]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file


def samples(images: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return images, each with its label beside it."""
    found = {}
    for path, content in images.items():
        found[path] = content
        found[path.rpartition(".")[0] + ".cls"] = path.partition("/")[0].encode()
    return found


def write_tars(folder: Path, images: Mapping[str, bytes], count: int = 2) -> Path:
    items = list(images.items())[::-1]
    for number in range(count):
        some = dict(items[number * len(items) // count : (number + 1) * len(items) // count])
        write_tar(folder / f"shard-{number:03d}.tar", samples(some))
    return folder


def everything(images: ImageSet, **settings) -> tuple[np.ndarray, dict[int, str]]:
    """Read all images; return their pixels by position (0 where there are none), and reasons."""
    pixels = np.zeros((len(images.records), images.size, images.size, 3), np.uint8)
    reasons: dict[int, str] = {}
    for batch in batches(images, **({"batch_size": 5, "threads": 3} | settings)):
        pixels[batch.indices] = batch.images
        assert not reasons.keys() & dict(batch.unreadable).keys()
        reasons |= dict(batch.unreadable)
    return pixels, reasons


def assert_same(data: object, expected: ImageSet, **settings) -> ImageSet:
    """Hold a source to be the same images as a folder of them: ids, labels, sizes and pixels."""
    found = opened(data, 1000, **settings)
    assert found.records == expected.records
    assert found.num_bytes.tolist() == expected.num_bytes.tolist()
    assert found.fingerprint == expected.fingerprint
    pixels, reasons = everything(found)
    wanted, also = everything(expected)
    assert (reasons, also) == ({}, {})
    assert (pixels == wanted).all()
    return found


# --- S3 ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def s3_server() -> Iterator[str]:
    """Serve S3 from this process's memory; give its address."""
    server_of = pytest.importorskip("moto.server").ThreadedMotoServer
    server = server_of(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def use_s3(address: str, patch: pytest.MonkeyPatch) -> None:
    """Let s3:// lead to a server of ours, with credentials, for a test."""
    import fsspec

    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        patch.delenv(name, raising=False)
    patch.setenv("AWS_ENDPOINT_URL", address)
    patch.setenv("AWS_ACCESS_KEY_ID", "testing")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    patch.setenv("AWS_MAX_ATTEMPTS", "1")
    fsspec.filesystem("s3").clear_instance_cache()
