"""python -m benchmarks sources: the same images from every kind of place, how fast each is read.

A folder of class folders is laid out as Parquet files by Hugging Face's `datasets` and as tar
archives by `webdataset`, and all three are put on an S3 server of this machine (moto). Ids, labels,
fingerprints and pixels must be equal; then each is read through in turns.
"""

import contextlib
import hashlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure.machine import commit, machine, version
from benchmarks.measure.rows import Row, append_row, rounded
from benchmarks.measure.run import BENCHMARKS
from gaxjax.common import UserError
from gaxjax.config import DataConfig
from gaxjax.data import ImageSet, batches, open_images

_PACKAGES = ("pyarrow", "fsspec", "s3fs", "moto", "datasets", "webdataset", "pillow", "grain")
_KINDS = ("folder", "parquet", "tar")


@dataclass(frozen=True)
class Sources:
    """Read the same images from a folder, Parquet files and tar archives, on the disk and by S3.

    Attributes:
        data: Folder of class folders; $GAXJAX_TEST_DATA/data/imagenet_sample when not given.
        size: Height and width of the decoded images, in pixels.
        shards: Parquet files, and tar archives.
        threads: Decoding threads; by URL there are at least 16.
        turns: Times that each place is read.
        num_classes: Of the classifier that labels must fit.
        output: File of rows; benchmarks/results/sources.jsonl by default.
    """

    data: Path | None = None
    size: int = 256
    shards: int = 4
    threads: int = 4
    turns: int = 5
    num_classes: int = 1000
    output: Path = BENCHMARKS / "results" / "sources.jsonl"


def sources(command: Sources) -> Row:
    """Make the places, hold them to be the same, read them by turns, and append the row."""
    given = os.environ.get("GAXJAX_TEST_DATA")
    folder = command.data or (Path(given) / "data/imagenet_sample" if given else None)
    if folder is None or not folder.is_dir():
        raise UserError(f"no images to read ({folder}): give a folder of class folders by --data")
    with tempfile.TemporaryDirectory(prefix="gaxjax-sources-") as kept, _s3() as address:
        os.environ["GAXJAX_CACHE"] = str(Path(kept) / "cache")
        root = Path(kept) / "places"
        lay_out(folder, root, command.shards)
        system = _bucket(address, root)
        names = {kind: str(root / kind) for kind in _KINDS}
        names |= {f"s3 {kind}": f"s3://images/{kind}" for kind in _KINDS}
        opened: dict[str, ImageSet] = {}
        seconds: dict[str, dict[str, Any]] = {name: {} for name in names}
        for again in ("first_opening_seconds", "opening_seconds"):
            for name, data in names.items():
                begun = time.perf_counter()
                opened[name] = _open(command, data)
                seconds[name][again] = time.perf_counter() - begun
        pixels = {name: _read(command, images)[1] for name, images in opened.items()}
        _require_the_same(opened, pixels)
        turns: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(command.turns):
            for name, images in opened.items():
                turns[name].append(len(images.records) / _read(command, images)[0])
        del system
    row = _row(command, opened, pixels, seconds, turns)
    append_row(rounded(row), command.output)
    print(describe(row))
    return row


def describe(row: Row) -> str:
    """Return what a row found, in a line."""
    rates = ", ".join(
        f"{name} {found['images_per_s']['median']:,.0f}" for name, found in row["places"].items()
    )
    return f"{row['num_images']} images are the same from every place; images/s: {rates}"


# --- The places ----------------------------------------------------------------------------------


def lay_out(folder: Path, root: Path, shards: int) -> None:
    """Lay a folder of class folders out in three kinds: folder, parquet and tar."""
    import datasets
    import webdataset
    from datasets.table import embed_table_storage

    datasets.disable_progress_bars()
    root.mkdir(parents=True)
    (root / "folder").symlink_to(folder.resolve())
    made = datasets.load_dataset(
        "imagefolder",
        # Not as data_dir: an image of a bullet train would be the training split.
        data_files={"train": str(folder / "**")},
        split="train",
        cache_dir=str(root / "cache"),
    )
    made = made.with_format("arrow").map(embed_table_storage, batched=True).with_format(None)
    made = made.shuffle(seed=0).flatten_indices()  # as ImageNet's validation files are
    (root / "parquet").mkdir()
    for number in range(shards):
        file = root / "parquet" / f"validation-{number:05d}-of-{shards:05d}.parquet"
        made.shard(shards, number, contiguous=True).to_parquet(file, batch_size=100)
    (root / "tar").mkdir()
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    for number in range(shards):
        with webdataset.TarWriter(str(root / "tar" / f"shard-{number:06d}.tar")) as writer:
            for file in files[number::shards]:
                key = f"{file.parent.name}/{file.stem}"
                label = {"label": file.parent.name}
                suffix = file.suffix.removeprefix(".")
                writer.write({"__key__": key, suffix: file.read_bytes(), "json": label})


@contextlib.contextmanager
def _s3() -> Iterator[str]:
    """Serve S3 from another process of this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(words, stdout=quiet, stderr=quiet) as server:
        try:
            for _ in range(300):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.1)
            yield address
        finally:
            server.terminate()


def _bucket(address: str, root: Path) -> Any:
    """Put the places into a bucket."""
    import fsspec

    os.environ |= {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    system = fsspec.filesystem("s3", use_listings_cache=False)
    system.mkdir("images")
    for kind in _KINDS:
        system.put(f"{(root / kind).resolve()}/", f"images/{kind}/", recursive=True)
    return system


# --- Reading -------------------------------------------------------------------------------------


def _open(command: Sources, data: str) -> ImageSet:
    return open_images(DataConfig(data=data, size=command.size), num_classes=command.num_classes)


def _read(command: Sources, images: ImageSet) -> tuple[float, dict[int, str]]:
    """Read a set through; return the seconds, and the digest of each image's pixels."""
    digests: dict[int, str] = {}
    begun = time.perf_counter()
    waiting = 0.0
    for batch in batches(images, batch_size=32, threads=command.threads):
        looked = time.perf_counter()
        for position, reason in batch.unreadable:
            raise UserError(f"{images.records[position].image_id} cannot be read: {reason}")
        for position, pixels in zip(batch.indices.tolist(), batch.images, strict=True):
            digests[position] = hashlib.sha256(pixels.tobytes()).hexdigest()
        waiting += time.perf_counter() - looked
    return time.perf_counter() - begun - waiting, digests


def _require_the_same(opened: dict[str, ImageSet], pixels: dict[str, dict[int, str]]) -> None:
    first = opened["folder"]
    for name, images in opened.items():
        for what, same in (
            ("ids and labels", images.records == first.records),
            ("fingerprint", images.fingerprint == first.fingerprint),
            ("pixels", pixels[name] == pixels["folder"]),
        ):
            if not same:
                raise UserError(f"{name} has other {what} than the folder")


def _row(
    command: Sources,
    opened: dict[str, ImageSet],
    pixels: dict[str, dict[int, str]],
    seconds: dict[str, dict[str, Any]],
    turns: dict[str, list[float]],
) -> Row:
    images = opened["folder"]
    ordered = [pixels["folder"][position] for position in range(len(images.records))]
    found = machine()
    found["versions"] |= {name: version(name) for name in _PACKAGES}
    return {
        "workload": "sources",
        "suite": "sources",
        "key": f"sources/{len(images.records)}",
        **found,
        "num_images": len(images.records),
        "bytes": int(images.num_bytes.sum()),
        "size": command.size,
        "shards": command.shards,
        "threads": {name: max(command.threads, each.readers) for name, each in opened.items()},
        "turns": command.turns,
        "fingerprint": images.fingerprint,
        "pixels_sha256": hashlib.sha256("".join(ordered).encode()).hexdigest(),
        "places": {
            name: {
                **seconds[name],
                "images_per_s": {
                    "median": float(np.median(rates)),
                    "min": min(rates),
                    "max": max(rates),
                },
                "turns": rates,
            }
            for name, rates in turns.items()
        },
        "commit": commit(),
    }
