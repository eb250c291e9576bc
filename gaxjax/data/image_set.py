"""An image set: which images, with which labels, in an order that does not depend on the disk."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from gaxjax.common import UserError, counted
from gaxjax.config import DataConfig
from gaxjax.data.decode import HostImage, decode_file
from gaxjax.data.depth import depth_notes
from gaxjax.data.label_readings import LabelSpace
from gaxjax.data.selection import chosen_classes, described


@dataclass(frozen=True)
class ImageRecord:
    """One image and its groundtruth."""

    image_id: str
    """Stable name: the POSIX path under the data root (or the manifest's folder),
    `digits/0042`, or `test/0007` in a MedMNIST file."""
    label: int
    """Class index in [0, num_classes)."""
    label_name: str
    """Folder name, wnid, or the manifest's label text."""


@dataclass(frozen=True)
class ImageSet:
    """Images with labels, sorted by `image_id`; `open_images` makes one."""

    records: tuple[ImageRecord, ...]
    """What a run works on, after the choice of split and classes and any random draw."""
    num_classes: int
    """Classes of the label space: 1000 for wnid folders, even when only some are present; those of
    the whole set where one split or some classes of it were chosen."""
    label_names: tuple[str, ...] | None
    """Name of each class in index order, where known."""
    fingerprint: str
    """sha256 over every image's id, label and file size in bytes, and over the decode settings."""
    name: str
    """Short description, such as `500 images in 500 class folders (ImageNet wnids)`."""
    size: int
    """Height and width of the decoded images, in pixels."""
    labels_from: str
    """How the labels were found, a phrase: `class folders are ImageNet wnids`."""
    notes: tuple[str, ...]
    """What people should know of the set, such as how many files were passed over."""
    num_bytes: Int64[np.ndarray, " N"] = field(repr=False, compare=False)
    """Bytes of each record's file, -1 where there is no such file."""
    read: Callable[[str], HostImage] = field(repr=False, compare=False)
    """Decodes the image with the given `image_id`."""

    def load(self, index: int) -> HostImage:
        """Decode the image at a position of `records`.

        Returns:
            uint8 `[size, size, 3]`, 0 to 255.

        Raises:
            UnreadableImageError: the file cannot be decoded; the message says why in one line.

        Example:
            >>> from gaxjax.data import open_images
            >>> open_images(DataConfig(data="digits", size=32)).load(0).shape
            (32, 32, 3)
        """
        return self.read(self.records[index].image_id)


def image_set(
    labelled: Sequence[tuple[str, str]],
    space: LabelSpace,
    config: DataConfig,
    *,
    read: Callable[[str], HostImage],
    file_size: Callable[[str], int],
    arrangement: str,
    notes: Sequence[str] = (),
) -> ImageSet:
    """Sort the labelled images, choose and draw when the config says so, and fingerprint them.

    Args:
        labelled: (image id, label text) of every image of the split, in any order.
        space: the class index of each label text.
        config: size and resize settings, the classes to keep, and the draw among them:
            `num_images` at random, without replacement, from `seed`.
        read: decodes the image with the given id.
        file_size: bytes of the image with the given id, -1 where there is no such file.
        arrangement: how the images lie, for the set's description, such as `in 3 class folders`.
        notes: what people should know of it.

    Raises:
        UserError: an unknown class, a draw of more images than there are, or a name that is not
            valid Unicode.
    """
    kept, class_names = chosen_classes(labelled, space, config)
    ordered = sorted(kept)
    total = len(ordered)
    wanted = total if config.num_images is None else config.num_images
    if wanted > total:
        raise UserError(
            f"--num-images {wanted} is more than the {total} images in "
            f"{described(config)}; give at most {total}, or leave the flag out"
        )
    if wanted < total:
        drawn = np.random.default_rng(config.seed).choice(total, size=wanted, replace=False)
        ordered = [ordered[i] for i in np.sort(drawn)]
    for image_id, _ in ordered:
        if not image_id.isascii():
            require_unicode(image_id)
    records = tuple(ImageRecord(image_id, space.indices[text], text) for image_id, text in ordered)
    num_bytes = np.array([file_size(record.image_id) for record in records], np.int64)
    count = counted(total, "image")
    if wanted < total:
        count = f"{wanted} of {count}"
    return ImageSet(
        records=records,
        num_classes=space.num_classes,
        label_names=space.names,
        fingerprint=_fingerprint(records, config, num_bytes),
        name=f"{count} {arrangement}" + (f", only {', '.join(class_names)}" if class_names else ""),
        size=config.decoding.size,
        labels_from=space.labels_from,
        notes=(*space.notes, *notes),
        num_bytes=num_bytes,
        read=read,
    )


def file_set(
    root: Path,
    labelled: Sequence[tuple[str, str]],
    space: LabelSpace,
    config: DataConfig,
    arrangement: str,
    notes: Sequence[str] = (),
) -> ImageSet:
    """Make the set of images that are files under `root`; arguments as for `image_set`.

    Raises:
        UserError: as for `image_set`; or one file is there twice, by a link, with two labels.
    """
    settings = asdict(config.decoding)

    def read(image_id: str) -> HostImage:
        return decode_file(root / image_id, **settings, pixel_max=config.pixel_max)

    kind = f" ({space.kind})" if space.kind != "names" else ""
    files = _Files(root)
    images = image_set(
        labelled,
        space,
        config,
        read=read,
        file_size=files.size,
        arrangement=arrangement + kind,
        notes=notes,
    )
    files.require_one_label_each(images.records)
    ids = [record.image_id for record in images.records]
    return replace(images, notes=(*images.notes, *depth_notes(root, ids, config.pixel_max)))


class _Files:
    """The files of a set: their sizes, and which of them are one file."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._ids_of: dict[tuple[int, int], list[str]] = {}

    def size(self, image_id: str) -> int:
        """Return a file's size in bytes, -1 where there is no such file; remember which it is."""
        status = _status(self._root, image_id)
        if status is None:
            return -1
        self._ids_of.setdefault((status.st_dev, status.st_ino), []).append(image_id)
        return status.st_size

    def require_one_label_each(self, records: Sequence[ImageRecord]) -> None:
        """Refuse a file that links bring in under two labels. Hard links are files of their own."""
        names: dict[str, ImageRecord] = {}
        shared = {each for ids in self._ids_of.values() if len(ids) > 1 for each in ids}
        for record in records if shared else ():
            if record.image_id not in shared:
                continue
            first = names.setdefault(os.path.realpath(self._root / record.image_id), record)
            if first.label != record.label:
                raise UserError(
                    f"{self._root / first.image_id} and {self._root / record.image_id} are the "
                    f"same file by a link, but {first.label_name} and {record.label_name} by "
                    "their labels; remove one of the two"
                )


def file_size(root: Path, image_id: str) -> int:
    """Return a file's size in bytes, -1 where there is no such file."""
    status = _status(root, image_id)
    return -1 if status is None else status.st_size


def _status(root: Path, image_id: str) -> os.stat_result | None:
    try:
        return (root / image_id).stat()
    except (OSError, ValueError):  # ValueError: a NUL character in a manifest's path
        return None


def _fingerprint(
    records: Sequence[ImageRecord], config: DataConfig, num_bytes: Int64[np.ndarray, " N"]
) -> str:
    decoding = config.decoding
    cut = decoding.resize == "crop" or decoding.resize_size != decoding.size
    decode_settings: list[int | str | None] = [decoding.size, decoding.resize]
    decode_settings.append(decoding.resize_size if cut else None)
    # What came later is left out at its old value: older runs resume.
    if config.pixel_max is not None:
        decode_settings.append(config.pixel_max)
    if decoding.interpolation != "bilinear":
        decode_settings.append(decoding.interpolation)
    digest = hashlib.sha256()
    # JSON lines, so that no two different lists of records give the same bytes.
    rows = zip(records, num_bytes.tolist(), strict=True)
    for row in (decode_settings, *([r.image_id, r.label, size] for r, size in rows)):
        digest.update(json.dumps(row).encode() + b"\n")
    return digest.hexdigest()


def require_unicode(image_id: str) -> None:
    """Raise UserError where a file name is not valid Unicode."""
    # Linux allows any bytes in a file name; the score tables (Parquet) store UTF-8 only.
    try:
        image_id.encode()
    except UnicodeEncodeError:
        raise UserError(
            f"the file name {image_id.encode('utf-8', 'backslashreplace').decode()!r} is not "
            "valid UTF-8, so results cannot carry it; rename the file"
        ) from None
