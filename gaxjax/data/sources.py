"""Where images come from: folders, tables, Parquet files, tar archives, MedMNIST, the digits."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from gaxjax.common import UserError
from gaxjax.config import DataConfig
from gaxjax.data import digits
from gaxjax.data.decode import HostImage
from gaxjax.data.folders import open_folder, split_folders
from gaxjax.data.image_set import ImageSet, image_set
from gaxjax.data.label_readings import ModelClasses
from gaxjax.data.label_space import LabelBy, numbered_space
from gaxjax.data.listing import Listing
from gaxjax.data.medmnist import open_medmnist
from gaxjax.data.parquet import open_parquet
from gaxjax.data.places import Place, place_of
from gaxjax.data.selection import (
    SPLITS,
    canonical_split,
    refuse_dataset_name,
    refuse_labels,
    refuse_split,
)
from gaxjax.data.tables import open_table, rows_of
from gaxjax.data.tar_shards import open_tar
from gaxjax.data.url_files import UrlSource
from gaxjax.data.walking import FolderView, Walk


def open_images(
    config: DataConfig,
    *,
    num_classes: int | None = None,
    class_names: Sequence[str] | None = None,
) -> ImageSet:
    """Find the images that a config names, and their labels; nothing is decoded yet.

    `config.data` is one of:

    - a folder with one subfolder per class, named as the model names its classes, by class index
      or by ImageNet wnid (also when only some are present), or in the model's order;
    - a folder of splits (train, val, test) that each hold class folders, with `config.split`;
    - a flat folder of ImageNet's validation images, with `config.labels`;
    - a CSV file with the columns `path` (relative to the file) and `label` (index or name); where
      it has the column `split` too, with `config.split`;
    - Parquet files with the columns `image` and `label`, or tar archives with a label beside each
      image, or with such folders in them: one file, a pattern (`val-*.parquet`,
      `shard-{000..012}.tar`) or a folder of them; with `config.split` where their names say so;
    - a MedMNIST file (`pneumoniamnist_224.npz`), with `config.split`;
    - `digits`: the 449 held-out images of scikit-learn's handwritten digits.

    All but MedMNIST files may be named by URL (`s3://bucket/val`).

    Numbers are class indices, and names are matched with the model's names where it has any
    (`config.label_by` says otherwise). Labels are numbered over the whole source: neither
    `config.split` nor `config.classes` changes them.

    Args:
        config: the images, the decode settings and the random draw.
        num_classes: class count of the classifier, which the labels must fit; None when not known.
        class_names: the classifier's own, in index order, where it has some.

    Returns:
        The image set, sorted by image id; `labels_from` says how its labels were found.

    Raises:
        UserError: there is nothing to work on, or the labels do not fit; one line says how to mend
            it. An image file that is missing or damaged is no error: it fails when decoded.

    Example:
        >>> open_images(DataConfig(data="digits", size=32)).name
        '449 images of handwritten digits (held-out test split)'
    """
    return _open(config, _model_classes(num_classes, class_names), config.label_by)


def reopen_images(
    config: DataConfig,
    fingerprint: str | None,
    *,
    num_classes: int | None = None,
    class_names: Sequence[str] | None = None,
) -> ImageSet:
    """Find the images of a stored run again, also of one that read labels as versions before did.

    Those sorted numbers as text, knew nothing of the model's names, and passed over some suffixes.

    Args:
        config: as the run has it.
        fingerprint: of the run's image set.
        num_classes: the run's.
        class_names: the run's, where it kept them.

    Returns:
        The set with that fingerprint where there is one, else as `open_images` finds it. A note
        says where its labels are no more read so.

    Raises:
        UserError: as by `open_images`.

    Example:
        >>> reopen_images(DataConfig(data="digits", size=32), "?").num_classes
        10
    """
    model = _model_classes(num_classes, class_names)
    now, said = None, ""
    try:
        now = _open(config, model, config.label_by)
    except UserError as error:
        refused, said = error, f"refuses them ({error})"
    if now is not None and now.fingerprint == fingerprint:
        return now
    before = _open_as_before(config, model)
    if before is None or before.fingerprint != fingerprint:
        if now is None:
            raise refused
        return now
    if now is not None:
        labels = {record.image_id: record.label for record in now.records}
        if all(labels.get(record.image_id) == record.label for record in before.records):
            return before  # only more files are images now
        said = f"takes {now.labels_from}"
    note = f"its labels are as an earlier version read them, {before.labels_from}; this one {said}"
    return replace(before, notes=(*before.notes, note))


def _open_as_before(config: DataConfig, model: ModelClasses) -> ImageSet | None:
    try:
        return _open(config, model, "as before")
    except UserError:
        return None


def _model_classes(count: int | None, names: Sequence[str] | None) -> ModelClasses:
    return ModelClasses(count, None if names is None else tuple(names))


def _open(config: DataConfig, model: ModelClasses, by: LabelBy) -> ImageSet:
    if config.data == "digits":
        kind = "the built-in digits"
        refuse_labels(config, kind)
        refuse_split(config, f"{kind}, which are one held-out set")
        return _digits(config, model, by)
    refuse_dataset_name(config.data)
    place = place_of(config.data)
    match place.kind:
        case "folder":
            return open_folder(folder_view(place, earlier=by == "as before"), config, model, by)
        case "csv":
            refuse_labels(config, "a CSV file, which has its own label column")
            return open_table(place, config, model, by)
        case "npz":
            refuse_labels(config, "a MedMNIST file, which has its own labels")
            return open_medmnist(Path(place.path), config, model, by)
        case "parquet":
            return open_parquet(place, config, model, by)
        case "tar":
            return open_tar(place, config, model, by)


def folder_view(place: Place, *, earlier: bool = False) -> FolderView:
    """Return a folder, on a disk or by URL, as it can be asked what lies where."""
    if place.files is None:
        return Walk(Path(place.path), earlier=earlier)
    source = UrlSource(place.name, place.system, place.path, place.files)
    return Listing(place.name, source, place.files, source.start_of)


def splits_of(data: str) -> tuple[str, ...]:
    """Return the splits that a source is divided into, as we write them; none where it is whole.

    Raises:
        UserError: an unreadable folder or CSV file.

    Example:
        >>> splits_of("digits")
        ()
    """
    if data == "digits":
        return ()
    place = place_of(data)
    found: Iterable[str] = ()
    match place.kind:
        case "folder":
            found = split_folders(folder_view(place))
        case "csv":
            rows = rows_of(place, ("path", "label"), ("split",))
            found = [row["split"] for _, row in rows if "split" in row]
        case "npz":
            found = SPLITS
        case "parquet" | "tar":
            found = place.splits()
    return tuple(sorted(set(map(canonical_split, found))))


# --- The built-in digits -------------------------------------------------------------------------


def _digits(config: DataConfig, model: ModelClasses, by: LabelBy) -> ImageSet:
    if model.num_classes not in (None, digits.NUM_CLASSES):
        raise UserError(
            f"--data digits has {digits.NUM_CLASSES} classes, but the model has "
            f"{model.num_classes}; give a model trained on the digits (`gaxjax demo` makes one)"
        )
    grey, labels = digits.grey_digits()
    names = tuple(str(digit) for digit in range(digits.NUM_CLASSES))
    space = numbered_space(names, model, noun="digit", source="the built-in digits", by=by)
    labelled = [(f"digits/{i:04d}", names[labels[i]]) for i in digits.digits_split()[1]]
    decoding = config.decoding

    def read(image_id: str) -> HostImage:
        position = int(image_id.removeprefix("digits/"))
        return digits.digit_image(
            position, size=decoding.size, interpolation=decoding.interpolation
        )

    return image_set(
        labelled,
        space,
        config,
        read=read,
        sizes=lambda ids: np.full(len(ids), grey[0].nbytes, np.int64),
        arrangement="of handwritten digits (held-out test split)",
    )
