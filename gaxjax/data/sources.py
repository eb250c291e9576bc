"""Where images come from: folders, a CSV file, a MedMNIST file, the built-in digits."""

import os
import posixpath
from collections.abc import Iterable
from pathlib import Path

from gaxjax.common import UserError, nearest, path_to_read
from gaxjax.config import DataConfig
from gaxjax.data import digits
from gaxjax.data.decode import HostImage
from gaxjax.data.folders import open_folder, split_folders
from gaxjax.data.image_set import ImageSet, file_set, file_size, image_set
from gaxjax.data.labels import LabelSpace, manifest_label_space, read_csv
from gaxjax.data.medmnist import open_medmnist
from gaxjax.data.selection import SPLITS, canonical_split, chosen_split, refuse_labels, refuse_split


def open_images(config: DataConfig, *, num_classes: int | None = None) -> ImageSet:
    """Find the images that a config names, and their labels; nothing is decoded yet.

    `config.data` is one of:

    - a folder with one subfolder per class; labels follow the sorted folder names, or the table of
      1000 where the folders are ImageNet wnids (also when only some are present);
    - a folder of splits (train, val, test) that each hold class folders, with `config.split`;
    - a flat folder of ImageNet's validation images, with `config.labels`;
    - a CSV file with the columns `path` (relative to the file) and `label` (index or name); where
      it has the column `split` too, with `config.split`;
    - a MedMNIST file (`pneumoniamnist_224.npz`), with `config.split`;
    - `digits`: the 449 held-out images of scikit-learn's handwritten digits.

    Labels are numbered over the whole source: neither `config.split` nor `config.classes` changes
    them.

    Args:
        config: the images, the decode settings and the random draw.
        num_classes: class count of the classifier, which the labels must fit; None when not known.

    Returns:
        The image set, sorted by image id.

    Raises:
        UserError: there is nothing to work on, or the labels do not fit; one line says how to mend
            it. An image file that is missing or damaged is no error: it fails when decoded.

    Example:
        >>> open_images(DataConfig(data="digits", size=32)).name
        '449 images of handwritten digits (held-out test split)'
    """
    if config.data == "digits":
        kind = "the built-in digits"
        refuse_labels(config, kind)
        refuse_split(config, f"{kind}, which are one held-out set")
        return _digits(config, num_classes)
    path = path_to_read(config.data, "--data")
    if path.is_dir():
        return open_folder(path, config, num_classes)
    if path.is_file() and path.suffix.lower() == ".csv":
        refuse_labels(config, "a CSV file, which has its own label column")
        return _manifest(path, config, num_classes)
    if path.is_file() and path.suffix.lower() == ".npz":
        refuse_labels(config, "a MedMNIST file, which has its own labels")
        return open_medmnist(path, config, num_classes)
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
        found = split_folders(path)
    elif path.is_file() and path.suffix.lower() == ".csv":
        rows = read_csv(path, required=("path", "label"), optional=("split",))
        found = [row["split"] for _, row in rows if "split" in row]
    elif path.is_file() and path.suffix.lower() == ".npz":
        found = SPLITS
    return tuple(sorted(set(map(canonical_split, found))))


# --- A CSV file ----------------------------------------------------------------------------------


def _manifest(path: Path, config: DataConfig, num_classes: int | None) -> ImageSet:
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
    space = manifest_label_space({text for _, text in labelled}, num_classes, source=path)
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


def _digits(config: DataConfig, num_classes: int | None) -> ImageSet:
    if num_classes not in (None, digits.NUM_CLASSES):
        raise UserError(
            f"--data digits has {digits.NUM_CLASSES} classes, but the model has {num_classes}; "
            "give a model trained on the digits (`gaxjax demo` makes one)"
        )
    grey, labels = digits.grey_digits()
    names = tuple(str(digit) for digit in range(digits.NUM_CLASSES))
    space = LabelSpace(len(names), names, {name: i for i, name in enumerate(names)}, "names")
    labelled = [(f"digits/{i:04d}", names[labels[i]]) for i in digits.digits_split()[1]]

    def read(image_id: str) -> HostImage:
        return digits.digit_image(int(image_id.removeprefix("digits/")), size=config.size)

    return image_set(
        labelled,
        space,
        config,
        read=read,
        file_size=lambda image_id: grey[0].nbytes,
        arrangement="of handwritten digits (held-out test split)",
    )
