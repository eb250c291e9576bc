"""Where images come from: folders, a CSV file, a MedMNIST file, the built-in digits."""

import os
import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from gaxjax.common import UserError, nearest, path_to_read
from gaxjax.config import DataConfig
from gaxjax.data import digits
from gaxjax.data.decode import HostImage
from gaxjax.data.folders import open_folder, split_folders
from gaxjax.data.image_set import ImageSet, file_set, file_size, image_set
from gaxjax.data.label_readings import ModelClasses
from gaxjax.data.label_space import LabelBy, label_space, numbered_space
from gaxjax.data.labels import read_csv
from gaxjax.data.medmnist import open_medmnist
from gaxjax.data.selection import SPLITS, canonical_split, chosen_split, refuse_labels, refuse_split
from gaxjax.data.walking import Walk


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
    - a MedMNIST file (`pneumoniamnist_224.npz`), with `config.split`;
    - `digits`: the 449 held-out images of scikit-learn's handwritten digits.

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
    path = path_to_read(config.data, "--data")
    if path.is_dir():
        return open_folder(path, config, model, by)
    if path.is_file() and path.suffix.lower() == ".csv":
        refuse_labels(config, "a CSV file, which has its own label column")
        return _manifest(path, config, model, by)
    if path.is_file() and path.suffix.lower() == ".npz":
        refuse_labels(config, "a MedMNIST file, which has its own labels")
        return open_medmnist(path, config, model, by)
    expected = "a folder of images, a CSV file (path,label), a MedMNIST file (.npz) or digits"
    if path.exists():
        raise UserError(f"--data {config.data} is a file, but no .csv or .npz; expected {expected}")
    raise UserError(
        f"--data {config.data}: no such folder or file; expected {expected}"
        + nearest(config.data, ["digits"])
    )


def splits_of(data: str) -> tuple[str, ...]:
    """Return the splits that a source is divided into, as we write them; none where it is whole.

    Raises:
        UserError: an unreadable folder or CSV file.

    Example:
        >>> splits_of("digits")
        ()
    """
    path = path_to_read(data, "--data")
    found: Iterable[str] = ()
    if path.is_dir():
        found = split_folders(Walk(path))
    elif path.is_file() and path.suffix.lower() == ".csv":
        rows = read_csv(path, required=("path", "label"), optional=("split",))
        found = [row["split"] for _, row in rows if "split" in row]
    elif path.is_file() and path.suffix.lower() == ".npz":
        found = SPLITS
    return tuple(sorted(set(map(canonical_split, found))))


# --- A CSV file ----------------------------------------------------------------------------------


def _manifest(path: Path, config: DataConfig, model: ModelClasses, by: LabelBy) -> ImageSet:
    """Read images and labels from a CSV file with the columns path, label and perhaps split."""
    folder = Path(os.path.abspath(path.parent))
    line_of: dict[str, int] = {}
    labelled: list[tuple[str, str]] = []
    split_of: dict[str, str] = {}
    for line, row in read_csv(path, required=("path", "label"), optional=("split",)):
        image_id = _id_under(folder, row["path"])
        if line_of.setdefault(image_id, line) != line:
            raise UserError(
                f"{path}, line {line}: {row['path']} is on line {line_of[image_id]} already; keep "
                "one row per image"
            )
        labelled.append((image_id, row["label"]))
        if "split" in row:
            split_of[image_id] = canonical_split(row["split"])
    # Over all rows, so that a split's classes are numbered as the whole set's are.
    space = label_space(
        {text for _, text in labelled},
        model,
        noun="label name",
        source=path,
        whose=f"the labels in {path.name}",
        by=by,
        listed=True,
    )
    arrangement = f"listed in {path.name}"
    if split_of:
        split = chosen_split(config, sorted(set(split_of.values())))
        labelled = [row for row in labelled if split_of[row[0]] == split]
        arrangement += f", split {split}"
    else:
        refuse_split(config, "a CSV file without a column 'split'")
    images = file_set(folder, labelled, space, config, arrangement)
    # One missing file is that image's outcome; all of them is a wrong folder.
    if all(file_size(folder, record.image_id) < 0 for record in images.records):
        raise UserError(
            f"{path}: none of its {len(images.records)} images exists (first: "
            f"{folder / images.records[0].image_id}); paths are taken relative to the CSV "
            "file's folder"
        )
    return images


def _id_under(folder: Path, cell: str) -> str:
    """Name an image by its path under the manifest's folder, however the cell spells it."""
    absolute = posixpath.normpath((folder / cell).as_posix())
    root = folder.as_posix().rstrip("/") + "/"
    return absolute.removeprefix(root) if absolute.startswith(root) else posixpath.normpath(cell)


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
        file_size=lambda image_id: grey[0].nbytes,
        arrangement="of handwritten digits (held-out test split)",
    )
