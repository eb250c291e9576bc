"""Images in folders: one subfolder per class, splits of such folders, or one flat folder."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from gaxjax.common import UserError, counted, path_to_read
from gaxjax.config import DataConfig
from gaxjax.data.image_set import ImageSet, file_set
from gaxjax.data.labels import label_space, read_devkit_groundtruth, read_kaggle_solution
from gaxjax.data.selection import SPLITS, canonical_split, chosen_split, refuse_labels, refuse_split

IMAGE_SUFFIXES = frozenset(
    ".jpg .jpeg .png .bmp .webp .gif .tif .tiff .ppm .pgm".split()  # noqa: SIM905
)
"""File names that count as images, in any case; other files in a folder are passed over."""


def open_folder(root: Path, config: DataConfig, num_classes: int | None) -> ImageSet:
    """Find a folder's images: splits, class folders or a flat folder, and never a mixture.

    Args:
        root: the folder, which exists.
        config: the split, the label file and the decode settings.
        num_classes: class count of the classifier, None when not known.

    Raises:
        UserError: no images, an arrangement that cannot be told, or flags that do not fit it.
    """
    class_names, flat = _folders_and_images(root)
    if not flat and (splits := split_folders(root)):
        return _split_folder(root, splits, config, num_classes)
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
        refuse_split(config, "one flat folder of images")
        return _flat_folder(root, flat, config, num_classes)
    refuse_labels(config, "a tree of class folders, whose names are the labels")
    some = ", ".join(class_names[:3]) + (", …" if len(class_names) > 3 else "")
    refuse_split(config, f"a folder of class folders ({some})")
    space = label_space(class_names, num_classes, noun="class folder", source=root)
    return file_set(root, in_classes, space, config, _in_class_folders(in_classes))


# --- Splits --------------------------------------------------------------------------------------


def split_folders(root: Path) -> list[str]:
    """Return the names of a folder's split folders, sorted; empty where it holds no splits.

    A folder holds splits when every subfolder is one by its name. The two extras of Kaggle's chest
    X-ray archive do not count: `__MACOSX`, and a second copy of the splits one level down.

    Example:
        >>> split_folders(Path("chest_xray"))
        ['test', 'train', 'val']
    """
    names, _ = _folders_and_images(root)
    splits = [name for name in names if canonical_split(name) in SPLITS]
    others = [name for name in names if name not in splits and name != "__MACOSX"]
    return splits if splits and all(_only_splits(root / name) for name in others) else []


def class_folders(root: Path, splits: Sequence[str]) -> list[str]:
    """Return the sorted class names of a folder of splits: those of every split together."""
    return sorted({name for split in splits for name in _folders_and_images(root / split)[0]})


def images_of_split(root: Path, split: str) -> list[tuple[str, str]]:
    """Return (POSIX path under `root`, class folder) of each image in one split folder.

    Raises:
        UserError: images outside class folders, or an unreadable folder.
    """
    class_names, loose = _folders_and_images(root / split)
    if loose:
        raise UserError(
            f"{root / split} holds {counted(len(loose), 'image')} outside class folders "
            f"({loose[0]}); sort them into one folder per class, or give a flat ImageNet folder "
            "itself as --data, with --labels"
        )
    return [(image_id, name) for name in class_names for image_id in _walk(root, f"{split}/{name}")]


def _only_splits(folder: Path) -> bool:
    names, images = _folders_and_images(folder)
    return bool(names) and not images and {canonical_split(name) for name in names} <= set(SPLITS)


def _split_folder(
    root: Path, splits: Sequence[str], config: DataConfig, num_classes: int | None
) -> ImageSet:
    """Open one split; the classes are numbered over all, so that no split has labels of its own."""
    refuse_labels(config, "a folder of splits, whose class folders are the labels")
    split = chosen_split(config, splits)
    labelled = images_of_split(root, split)
    if not labelled:
        raise UserError(
            f"{root / split} holds no images; give a split with one subfolder of images per class"
        )
    space = label_space(class_folders(root, splits), num_classes, noun="class folder", source=root)
    return file_set(root, labelled, space, config, f"{_in_class_folders(labelled)}, split {split}")


# --- A flat folder -------------------------------------------------------------------------------


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
    path = path_to_read(config.labels, "--labels")
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
    return file_set(root, labelled, space, config, f"in one folder, labels from {path.name}")


# --- What is in a folder -------------------------------------------------------------------------


def _in_class_folders(labelled: Sequence[tuple[str, str]]) -> str:
    return f"in {counted(len({name for _, name in labelled}), 'class folder')}"


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


def _folders_and_images(folder: Path) -> tuple[list[str], list[str]]:
    """Return the sorted names of the folders and of the images directly in a folder."""
    entries = _entries(folder)
    folders = [entry.name for entry in entries if entry.is_dir()]
    return folders, [e.name for e in entries if not e.is_dir() and _is_image(e.name)]


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
