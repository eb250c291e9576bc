"""Images in folders: one subfolder per class, splits of such folders, or one flat folder."""

from collections.abc import Collection, Sequence
from pathlib import Path

from gaxjax.common import UserError, counted, path_to_read
from gaxjax.config import DataConfig
from gaxjax.data.image_set import ImageSet, source_set
from gaxjax.data.label_readings import LabelSpace, ModelClasses
from gaxjax.data.label_space import LabelBy, label_space
from gaxjax.data.labels import read_devkit_groundtruth, read_kaggle_solution
from gaxjax.data.selection import SPLITS, canonical_split, chosen_split, refuse_labels, refuse_split
from gaxjax.data.walking import IMAGE_SUFFIXES, FolderView


def open_folder(walk: FolderView, config: DataConfig, model: ModelClasses, by: LabelBy) -> ImageSet:
    """Find a folder's images: splits, class folders or a flat folder, and never a mixture.

    Args:
        walk: the folder, which exists.
        config: the split, the label file and the decode settings.
        model: the classes that the labels must fit.
        by: how labels are read.

    Raises:
        UserError: no images, an arrangement that cannot be told, or flags that do not fit it.
    """
    root = walk.name
    class_names, flat = walk.folders_and_images()
    if not flat and (splits := split_folders(walk)):
        return _split_folder(walk, splits, config, model, by)
    in_classes = [
        (image_id, name) for name in class_names for image_id in walk.images(name, label=name)
    ]
    if not flat and not in_classes:
        passed_over = "; ".join(walk.notes())
        raise UserError(
            f"--data {root} holds no images (looked for {' '.join(sorted(IMAGE_SUFFIXES))}, hidden "
            "files aside); give a folder with one subfolder of images per class"
            + (f". {passed_over}" if passed_over else "")
        )
    if flat and in_classes:
        raise UserError(
            f"--data {root} mixes {counted(len(flat), 'image')} directly in it ({flat[0]}) with "
            f"class folders ({in_classes[0][1]}); move those images into a class folder, or out "
            "of it"
        )
    if flat:
        refuse_split(config, "one flat folder of images")
        return _flat_folder(walk, flat, config, model, by)
    refuse_labels(config, "a tree of class folders, whose names are the labels")
    some = ", ".join(class_names[:3]) + (", …" if len(class_names) > 3 else "")
    refuse_split(config, f"a folder of class folders ({some})")
    filled = {name for _, name in in_classes}
    space = _class_folder_space(class_names, set(class_names) - filled, root, model, by)
    arrangement, source = _in_class_folders(in_classes), walk.source
    return source_set(source, in_classes, space, config, arrangement, walk.notes())


def _class_folder_space(
    names: Collection[str], empty: Collection[str], root: str, model: ModelClasses, by: LabelBy
) -> LabelSpace:
    whose = "class folders"
    return label_space(
        names, model, noun="class folder", source=root, whose=whose, by=by, empty=empty
    )


# --- Splits --------------------------------------------------------------------------------------


def split_folders(walk: FolderView) -> list[str]:
    """Return the names of a folder's split folders, sorted; empty where it holds no splits.

    A folder holds splits when every subfolder is one by its name. The two extras of Kaggle's chest
    X-ray archive do not count: `__MACOSX`, and a second copy of the splits one level down.

    Example:
        >>> from gaxjax.data.walking import Walk
        >>> split_folders(Walk(Path("chest_xray")))
        ['test', 'train', 'val']
    """
    names, _ = walk.folders_and_images()
    splits = [name for name in names if canonical_split(name) in SPLITS]
    others = [name for name in names if name not in splits]
    return splits if splits and all(_only_splits(walk, name) for name in others) else []


def class_folders(walk: FolderView, splits: Sequence[str]) -> list[str]:
    """Return the sorted class names of a folder of splits: those of every split together."""
    return sorted({name for split in splits for name in walk.folders_and_images(split)[0]})


def images_of_split(walk: FolderView, split: str) -> list[tuple[str, str]]:
    """Return (POSIX path under `root`, class folder) of each image in one split folder.

    Raises:
        UserError: images outside class folders, or an unreadable folder.
    """
    class_names, loose = walk.folders_and_images(split)
    if loose:
        raise UserError(
            f"{walk.name}/{split} holds {counted(len(loose), 'image')} outside class folders "
            f"({loose[0]}); sort them into one folder per class, or give a flat ImageNet folder "
            "itself as --data, with --labels"
        )
    return [
        (image_id, name)
        for name in class_names
        for image_id in walk.images(f"{split}/{name}", label=name)
    ]


def _only_splits(walk: FolderView, folder: str) -> bool:
    names, images = walk.folders_and_images(folder)
    return bool(names) and not images and {canonical_split(name) for name in names} <= set(SPLITS)


def _split_folder(
    walk: FolderView, splits: Sequence[str], config: DataConfig, model: ModelClasses, by: LabelBy
) -> ImageSet:
    """Open one split; the classes are numbered over all, so that no split has labels of its own."""
    refuse_labels(config, "a folder of splits, whose class folders are the labels")
    split = chosen_split(config, splits)
    labelled = images_of_split(walk, split)
    if not labelled:
        raise UserError(
            f"{walk.name}/{split} holds no images; give a split with one subfolder of images per "
            "class"
        )
    notes = walk.notes()
    names = class_folders(walk, splits)
    filled = {name for _, name in labelled}
    empty = {name for name in names if name not in filled and _is_empty(walk, splits, name)}
    space = _class_folder_space(names, empty, walk.name, model, by)
    arrangement = f"{_in_class_folders(labelled)}, split {split}"
    return source_set(walk.source, labelled, space, config, arrangement, notes)


def _is_empty(walk: FolderView, splits: Sequence[str], name: str) -> bool:
    """Tell whether a class folder holds no image in any split."""
    paths = [f"{split}/{name}" for split in splits if walk.has_folder(f"{split}/{name}")]
    return not any(True for path in paths for _ in walk.images(path, label=name))


# --- A flat folder -------------------------------------------------------------------------------


def _flat_folder(
    walk: FolderView, names: list[str], config: DataConfig, model: ModelClasses, by: LabelBy
) -> ImageSet:
    """Label a flat folder by Kaggle's solution file or by the devkit's groundtruth file."""
    root = walk.name
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
    texts, whose = {wnid for _, wnid in labelled}, f"the labels in {path.name}"
    space = label_space(texts, model, noun="wnid", source=path, whose=whose, by=by, listed=True)
    arrangement = f"in one folder, labels from {path.name}"
    return source_set(walk.source, labelled, space, config, arrangement, walk.notes())


def _in_class_folders(labelled: Sequence[tuple[str, str]]) -> str:
    return f"in {counted(len({name for _, name in labelled}), 'class folder')}"
