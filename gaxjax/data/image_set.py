"""An image set: which images, with which labels, in an order that does not depend on the disk."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Int64

from gaxjax.common import UserError, counted
from gaxjax.config import DataConfig
from gaxjax.data.decode import HostImage
from gaxjax.data.depth import SAMPLED, depth_notes
from gaxjax.data.image_source import FolderSource, ImageSource, reader
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
    """Bytes of each record's encoded image, -1 where there is no such image."""
    read: Callable[[str], HostImage] = field(repr=False, compare=False)
    """Decodes the image with the given `image_id`."""
    reading_order: Int64[np.ndarray, " N"] | None = field(default=None, repr=False, compare=False)
    """Positions of `records` in the order in which reading them is cheapest; by default theirs."""
    readers: int = field(default=1, repr=False, compare=False)
    """Threads that read at the same time, at least: many where the images are far away."""

    def __post_init__(self) -> None:
        order = self.reading_order
        assert order is None or len(order) == len(self.records), "an order of other records"

    def order(self, *, by_name: bool = False) -> list[int]:
        """Return the positions of `records`, as reading is cheapest, or by name."""
        if by_name or self.reading_order is None:
            return list(range(len(self.records)))
        return [int(position) for position in self.reading_order]

    def first(self, count: int) -> "ImageSet":
        """Return the set of the first images alone; name and fingerprint stay."""
        order = self.reading_order
        return replace(
            self,
            records=self.records[:count],
            num_bytes=self.num_bytes[:count],
            reading_order=None if order is None else order[order < count],
        )

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
    sizes: Callable[[Sequence[str]], Int64[np.ndarray, " N"]],
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
        sizes: bytes of the images with the given ids, -1 where there is no such image.
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
    num_bytes = sizes([image_id for image_id, _ in ordered])
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


def source_set(
    source: ImageSource,
    labelled: Sequence[tuple[str, str]],
    space: LabelSpace,
    config: DataConfig,
    arrangement: str,
    notes: Sequence[str] = (),
) -> ImageSet:
    """Make the set of images that lie in a source; arguments as for `image_set`.

    Raises:
        UserError: as for `image_set`; or one file is there twice, by a link, with two labels.
    """
    kind = f" ({space.kind})" if space.kind != "names" else ""
    images = image_set(
        labelled,
        space,
        config,
        read=reader(source, config),
        sizes=source.sizes,
        arrangement=arrangement + kind,
        notes=notes,
    )
    if isinstance(source, FolderSource):
        _require_one_label_each(source, images.records)
    ids = [record.image_id for record in images.records]
    order = source.reading_order(ids)
    # Of a file that is read in order, the first: others would be looked for throughout it.
    in_order = bool((order == np.arange(len(order))).all())
    sample = ids if in_order else [ids[position] for position in order[:SAMPLED]]
    return replace(
        images,
        notes=(*images.notes, *depth_notes(source.encoded, sample, config.pixel_max)),
        reading_order=order,
        readers=source.readers,
    )


def _require_one_label_each(source: FolderSource, records: Sequence[ImageRecord]) -> None:
    """Refuse a file that links bring in under two labels. Hard links are files of their own."""
    names: dict[str, ImageRecord] = {}
    shared = source.shared()
    for record in records if shared else ():
        if record.image_id not in shared:
            continue
        first = names.setdefault(os.path.realpath(source.root / record.image_id), record)
        if first.label != record.label:
            raise UserError(
                f"{source.root / first.image_id} and {source.root / record.image_id} are the "
                f"same file by a link, but {first.label_name} and {record.label_name} by "
                "their labels; remove one of the two"
            )


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
