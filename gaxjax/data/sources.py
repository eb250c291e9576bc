"""Where images come from: class folders, a flat folder with labels, a CSV file, the digits."""

import functools
import os
import posixpath
from collections.abc import Callable, Iterator
from pathlib import Path

from gaxjax.config import DataConfig
from gaxjax.data import digits
from gaxjax.data.decode import HostImage, decode_file
from gaxjax.data.labels import (
    LabelSpace,
    counted,
    label_space,
    manifest_label_space,
    read_csv,
    read_devkit_groundtruth,
    read_kaggle_solution,
)
from gaxjax.data.records import ImageSet, image_set
from gaxjax.errors import UserError, nearest

IMAGE_SUFFIXES = frozenset(
    ".jpg .jpeg .png .bmp .webp .gif .tif .tiff .ppm .pgm".split()  # noqa: SIM905
)
"""File names that count as images, in any case; other files in a folder are passed over."""

_SPLIT_NAMES = frozenset(
    "train training val valid validation test testing".split()  # noqa: SIM905
)


def open_images(config: DataConfig, *, num_classes: int | None = None) -> ImageSet:
    """Find the images that a config names, and their labels; nothing is decoded yet.

    `config.data` is one of:

    - a folder with one subfolder per class; labels follow the sorted folder names, or the table of
      1000 where the folders are ImageNet wnids (also when only some are present);
    - a flat folder of ImageNet's validation images, with `config.labels`;
    - a CSV file with the columns `path` (relative to the file) and `label` (index or name);
    - `digits`: the 449 held-out images of scikit-learn's handwritten digits.

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
        _refuse_labels(config, "the built-in digits")
        return _digits(config, num_classes)
    path = Path(config.data).expanduser()
    if path.is_dir():
        return _folder(path, config, num_classes)
    if path.is_file() and path.suffix.lower() == ".csv":
        _refuse_labels(config, "a CSV file, which has its own label column")
        return _manifest(path, config, num_classes)
    expected = "a folder of images, a CSV file (path,label) or digits"
    if path.exists():
        raise UserError(f"--data {config.data} is a file, but no .csv; expected {expected}")
    raise UserError(
        f"--data {config.data}: no such folder or file; expected {expected}"
        + nearest(config.data, ["digits"])
    )


def _refuse_labels(config: DataConfig, kind: str) -> None:
    if config.labels is not None:
        raise UserError(
            f"--labels {config.labels} goes with a flat ImageNet validation folder, but --data "
            f"{config.data} is {kind}; leave --labels out"
        )


# --- Folders -------------------------------------------------------------------------------------


def _folder(root: Path, config: DataConfig, num_classes: int | None) -> ImageSet:
    """Tell class folders from a flat folder, and refuse a mixture: no image is passed over."""
    class_names, flat = [], []
    for entry in _entries(root):
        if entry.is_dir():
            class_names.append(entry.name)
        elif _is_image(entry.name):
            flat.append(entry.name)
    in_classes = [(image_id, name) for name in class_names for image_id in _walk(root, name)]

    if not flat and not in_classes:
        raise UserError(
            f"--data {root} holds no images (looked for {' '.join(sorted(IMAGE_SUFFIXES))}, hidden "
            "files aside); give a folder with one subfolder of images per class"
        )
    if flat and in_classes:
        raise UserError(
            f"--data {root} mixes {counted(len(flat), 'image')} directly in it ({flat[0]}) with "
            f"class folders ({in_classes[0][1]}); move those images into a class folder, or out "
            "of it"
        )
    if flat:
        return _flat_folder(root, flat, config, num_classes)
    _refuse_labels(config, "a tree of class folders, whose names are the labels")
    if set(map(str.lower, class_names)) <= _SPLIT_NAMES:
        raise UserError(
            f"--data {root} holds splits ({', '.join(class_names)}), not classes; give one of "
            f"them, such as {root / class_names[0]}"
        )
    space = label_space(class_names, num_classes, noun="class folder", source=root)
    present = len({name for _, name in in_classes})
    arrangement = f"in {counted(present, 'class folder')}"
    return _files(root, in_classes, space, config, arrangement)


def _flat_folder(
    root: Path, names: list[str], config: DataConfig, num_classes: int | None
) -> ImageSet:
    """Label a flat folder by Kaggle's solution file or by the devkit's groundtruth file."""
    if config.labels is None:
        raise UserError(
            f"--data {root} holds {counted(len(names), 'image')} but no class folders; give "
            "their labels by --labels (LOC_val_solution.csv or "
            "ILSVRC2012_validation_ground_truth.txt), or sort them into one folder per class"
        )
    path = config.labels.expanduser()
    if not path.is_file():
        raise UserError(
            f"--labels {path}: no such file; expected Kaggle's LOC_val_solution.csv or the "
            "devkit's ILSVRC2012_validation_ground_truth.txt"
        )
    if path.suffix.lower() == ".csv":
        wnid_of = read_kaggle_solution(path)
        without = [name for name in names if Path(name).stem not in wnid_of]
        if without:
            raise UserError(
                f"--labels {path} has no row for {len(without)} of the {len(names)} images in "
                f"{root} (first: {without[0]}); add the rows or remove the images"
            )
        labelled = [(name, wnid_of[Path(name).stem]) for name in names]
    else:
        wnids = read_devkit_groundtruth(path)
        if len(wnids) != len(names):
            raise UserError(
                f"--labels {path} has {len(wnids)} lines, but {root} holds {len(names)} images; "
                "line i labels image i, so give the whole validation folder, or use Kaggle's "
                "LOC_val_solution.csv, which names its images"
            )
        labelled = list(zip(names, wnids, strict=True))
    space = label_space({wnid for _, wnid in labelled}, num_classes, noun="wnid", source=path)
    return _files(root, labelled, space, config, f"in one folder, labels from {path.name}")


def _walk(
    root: Path, inside: str, ancestors: frozenset[tuple[int, int]] = frozenset()
) -> Iterator[str]:
    """Yield the images below `root/inside` as POSIX paths under `root`, following links.

    Links are followed because subsets of ImageNet are often made of them; a link to a folder it
    lies in is entered once, or the walk would not end.
    """
    status = (root / inside).stat()
    here = (status.st_dev, status.st_ino)
    if here in ancestors:
        return
    for entry in _entries(root / inside):
        path = f"{inside}/{entry.name}"
        if entry.is_dir():
            yield from _walk(root, path, ancestors | {here})
        elif _is_image(entry.name):
            yield path


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """List what is in a folder by name, without hidden entries."""
    try:
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise UserError(f"cannot read the folder {folder}: {error.strerror}") from None
    return sorted(visible, key=lambda entry: entry.name)


def _is_image(name: str) -> bool:
    return Path(name).suffix.lower() in IMAGE_SUFFIXES


# --- A CSV file ----------------------------------------------------------------------------------


def _manifest(path: Path, config: DataConfig, num_classes: int | None) -> ImageSet:
    """Read images and labels from a CSV file with the columns path and label."""
    folder = Path(os.path.abspath(path.parent))
    line_of: dict[str, int] = {}
    labelled = []
    for line, row in read_csv(path, required=("path", "label")):
        image_id = _id_under(folder, row["path"])
        if line_of.setdefault(image_id, line) != line:
            raise UserError(
                f"{path}, line {line}: {row['path']} is on line {line_of[image_id]} already; keep "
                "one row per image"
            )
        labelled.append((image_id, row["label"]))
    space = manifest_label_space({text for _, text in labelled}, num_classes, source=path)
    images = _files(folder, labelled, space, config, f"listed in {path.name}")
    # One missing file is that image's outcome; all of them is a wrong folder.
    if all(_file_size(folder, record.image_id) < 0 for record in images.records):
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


# --- Building the set ----------------------------------------------------------------------------


def _files(
    root: Path,
    labelled: list[tuple[str, str]],
    space: LabelSpace,
    config: DataConfig,
    arrangement: str,
) -> ImageSet:
    def read(image_id: str) -> HostImage:
        return decode_file(
            root / image_id,
            size=config.size,
            resize=config.resize,
            resize_size=config.resize_size,
        )

    file_size: Callable[[str], int] = functools.partial(_file_size, root)
    kind = f" ({space.kind})" if space.kind != "names" else ""
    return image_set(
        labelled, space, config, read=read, file_size=file_size, arrangement=arrangement + kind
    )


def _file_size(root: Path, image_id: str) -> int:
    try:
        return (root / image_id).stat().st_size
    except (OSError, ValueError):  # ValueError: a NUL character in a manifest's path
        return -1


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
