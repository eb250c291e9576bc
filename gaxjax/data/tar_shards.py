"""Images in tar archives: WebDataset's samples, or class folders and flat folders that were packed.

    0001.jpg, 0001.cls      a sample: an image, and its class index or name
    0001.jpg, 0001.json     the same, as the key label, cls or class

An archive is indexed once; then each image is read by its place in it.
"""

import posixpath
import zlib
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from gaxjax.common import UserError, counted, remote_reason
from gaxjax.config import DataConfig
from gaxjax.data.decode import UnreadableImageError
from gaxjax.data.folders import open_folder
from gaxjax.data.image_set import ImageSet, source_set
from gaxjax.data.image_source import READERS_OF_URLS, StorageError
from gaxjax.data.label_readings import ModelClasses
from gaxjax.data.label_space import LabelBy, label_space, say_it_alone
from gaxjax.data.listing import Listing
from gaxjax.data.places import Place
from gaxjax.data.selection import chosen_split, refuse_labels, refuse_split
from gaxjax.data.shards import Shard, indexed, probe_shards
from gaxjax.data.tar_index import BLOCK, LABELS, label_of, tar_index
from gaxjax.data.walking import IMAGE_SUFFIXES

_KIND = "tar"


class Member(NamedTuple):
    """A file in an archive."""

    shard: int
    offset: int
    size: int
    header: int


def open_tar(place: Place, config: DataConfig, model: ModelClasses, by: LabelBy) -> ImageSet:
    """Find the images of tar archives, with labels beside them or as the folders that were packed.

    Raises:
        UserError: as by `tar_index`; an image without a label; or labels that do not fit.
    """
    shards, splits = place.shards, place.splits()
    split = None
    if len(splits) > 1 or (splits and config.split is not None):
        split = chosen_split(config, list(splits))
        shards = splits[split]
    tables = indexed(shards, _KIND, tar_index)
    found = [_samples(shard, table) for shard, table in zip(shards, tables, strict=True)]
    if not any(each is not None for each in found):
        if len(splits) > 1:
            raise UserError(
                f"--data {place.name} has splits by the archives' names, but no labels beside its "
                "images; give the archives of one split by a pattern"
            )
        return _packed_folder(place, config, model, by, tables)
    refuse_labels(config, "archives with a label beside each image")
    if split is None:
        refuse_split(config, "no set of archives named by splits (train-…, val-…, test-…)")
    for shard, each in zip(shards, found, strict=True):
        if each is None:
            raise UserError(f"--data {shard.name} has no labels beside its images, as others have")
    samples = [each for each in found if each is not None]
    names = _unique(place.name, shards, [each.images for each in samples])
    labels = [label for each in samples for label in each.labels]
    members = _members(shards, tables)
    files = {image_id: members[where] for image_id, where in names.items()}
    everywhere = set(labels)
    if not say_it_alone(everywhere, model, by):
        everywhere |= _elsewhere([shard for shard in place.shards if shard not in set(shards)])
    space = label_space(
        everywhere,
        model,
        noun="label name",
        source=place.name,
        whose=f"the labels in {place.name}",
        by=by,
        listed=True,
        empty=everywhere - set(labels),
    )
    arrangement = f"in {counted(len(shards), 'tar archive')}"
    arrangement += f", split {split}" if split is not None else ""
    notes = [note for each in samples for note in each.notes] + _notes(tables)
    return source_set(
        TarSource(place.name, shards, files),
        list(zip(names, labels, strict=True)),
        space,
        config,
        arrangement,
        notes,
    )


def _elsewhere(shards: Sequence[Shard]) -> set[str]:
    """Return the labels of other splits."""
    if not shards:
        return set()
    tables = indexed(shards, _KIND, tar_index)
    found = [_samples(shard, table) for shard, table in zip(shards, tables, strict=True)]
    return {label for each in found if each is not None for label in each.labels}


def _packed_folder(
    place: Place,
    config: DataConfig,
    model: ModelClasses,
    by: LabelBy,
    tables: Sequence[pa.Table],
) -> ImageSet:
    """Open archives of folders, as ImageNet's own, as the folder that they would be unpacked to."""
    shards = place.shards
    members = _members(shards, tables)
    twice = [name for name, n in Counter(name for _, name in members).items() if n > 1]
    if twice:
        raise UserError(
            f"--data {place.name}: {twice[0]} is in several archives; give one of them, or rename"
        )
    files = {name: member for (_, name), member in members.items()}
    source = TarSource(place.name, shards, files)
    notes = tuple(_notes(tables))
    return open_folder(
        Listing(place.name, source, files, source.start_of, notes), config, model, by
    )


def _notes(tables: Sequence[pa.Table]) -> list[str]:
    found = [table.schema.metadata[b"note"].decode() for table in tables]
    return [note for note in found if note]


def _members(shards: Sequence[Shard], tables: Sequence[pa.Table]) -> dict[tuple[int, str], Member]:
    return {
        (number, name.decode("utf-8", "surrogateescape")): Member(number, offset, size, header)
        for number, table in enumerate(tables)
        for name, offset, size, header, text in zip(
            *(table[column].to_pylist() for column in table.schema.names), strict=True
        )
        if text is None  # a label has been read
    }


# --- Samples -------------------------------------------------------------------------------------


class _Samples(NamedTuple):
    images: list[str]
    labels: list[str]
    notes: list[str]


def _samples(shard: Shard, table: pa.Table) -> _Samples | None:
    """Put images and their labels together by what their names begin with; None without labels."""
    image_of: dict[str, str] = {}
    label_at: dict[str, tuple[str, bytes]] = {}
    passed_over = 0
    names = [name.decode("utf-8", "surrogateescape") for name in table["name"].to_pylist()]
    for name, text in zip(names, table["text"].to_pylist(), strict=True):
        folder, file = posixpath.split(name)
        start, _, suffix = file.partition(".")
        key, suffix = posixpath.join(folder, start), f".{suffix.lower()}"
        if file.startswith("."):
            continue
        if suffix in LABELS:
            if key not in label_at or suffix == ".cls":  # which goes before a JSON file
                label_at[key] = (name, text)
        elif suffix in IMAGE_SUFFIXES:
            if image_of.setdefault(key, name) != name:
                raise UserError(
                    f"--data {shard.name}: {image_of[key]} and {name} are two images of one "
                    "sample; give each its own name"
                )
        else:
            passed_over += 1
    if not label_at.keys() & image_of.keys():
        return None
    labels = []
    for key, name in image_of.items():
        if key not in label_at:
            raise UserError(
                f"--data {shard.name}: the image {name} has no label beside it ({key}.cls, or "
                f"{key}.json with a key label, cls or class)"
            )
        label = label_of(shard, *label_at[key])
        if label is None:
            raise UserError(
                f"--data {shard.name}: {label_at[key][0]} has none of the keys label, cls and class"
            )
        labels.append(label)
    notes = []
    alone = label_at.keys() - image_of.keys()
    if alone:
        notes.append(
            f"{counted(len(alone), 'label')} without an image in {shard.file} (first: {min(alone)})"
        )
    if passed_over:
        notes.append(f"{counted(passed_over, 'file')} of {shard.file} passed over")
    return _Samples(list(image_of.values()), labels, notes)


def _unique(
    name: str, shards: Sequence[Shard], images: Sequence[Sequence[str]]
) -> dict[str, tuple[int, str]]:
    """Name every image; by its archive too where names come again in another."""
    where = [(number, image) for number, each in enumerate(images) for image in each]
    if len({image for _, image in where}) == len(where):
        return {image: (number, image) for number, image in where}
    ids = {f"{shards[number].stem}/{image}": (number, image) for number, image in where}
    if len(ids) < len(where):
        raise UserError(
            f"--data {name}: images have the same names in archives of the same name; rename these"
        )
    return ids


class TarSource:
    """Files in tar archives, each read by its place."""

    def __init__(self, name: str, shards: Sequence[Shard], files: dict[str, Member]) -> None:
        self.name = name
        self.readers = READERS_OF_URLS if shards[0].system is not None else 1
        self._shards = shards
        self._files = files

    def sizes(self, image_ids: Sequence[str]) -> Int64[np.ndarray, " N"]:
        """Return the bytes of each image."""
        return np.array([self._files[image_id].size for image_id in image_ids], np.int64)

    def encoded(self, image_id: str) -> bytes:
        """Return an image's bytes, once the header before them is that of the index."""
        return self._read(image_id, self._files[image_id].size)

    def start_of(self, image_id: str) -> bytes:
        """Return a file's first bytes, by which an image is known."""
        return self._read(image_id, min(self._files[image_id].size, 2**16))

    def _read(self, image_id: str, length: int) -> bytes:
        member = self._files[image_id]
        shard = self._shards[member.shard]
        try:
            found = shard.read(member.offset - BLOCK, BLOCK + length)
        except Exception as error:  # storages raise what they like
            raise StorageError(remote_reason(error)) from error
        if zlib.crc32(found[:BLOCK]) != member.header:
            raise StorageError(f"{shard.file} has changed since it was opened")
        if len(found) < BLOCK + length:
            raise UnreadableImageError(f"{shard.file} is cut off within it")
        return found[BLOCK:]

    def reading_order(self, image_ids: Sequence[str]) -> Int64[np.ndarray, " N"]:
        """Return the order of the places in the archives."""
        places = [self._files[image_id] for image_id in image_ids]
        shards = np.array([each.shard for each in places], np.int64)
        offsets = np.array([each.offset for each in places], np.int64)
        return np.lexsort((offsets, shards)).astype(np.int64)

    def probe(self) -> None:
        """Ask for some of the archives."""
        probe_shards(self._shards)
