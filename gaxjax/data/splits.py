"""The paper's reshuffle: train and validation images pooled, divided anew, and kept in a file.

Kaggle's chest X-rays come with 16 validation images; the paper (§3, "Dataset") reshuffles them
with the training images. Here nothing on disk is moved: the division is a CSV file that every
command reads (`--data split.csv --split val`), and that outlives NumPy's random streams.
"""

import csv
import io
import os
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gaxjax.common import UserError, cannot_write, counted, file_sha256, replacing
from gaxjax.data.folders import class_folders, images_of_split, split_folders
from gaxjax.data.image_set import require_unicode
from gaxjax.data.label_readings import ModelClasses
from gaxjax.data.label_space import label_space
from gaxjax.data.labels import read_csv
from gaxjax.data.selection import SPLITS, canonical_split
from gaxjax.data.walking import FIRST_SUFFIXES, Walk

COLUMNS = ("path", "label", "split", "sha256")
"""The columns of a split file."""

# Paper §3: of 1349 healthy images 266 validate and 1083 train, of 3883 pneumonia 790 and 3093;
# a fifth would be 270 and 777.
_PAPERS_POOL = {"NORMAL": 1349, "PNEUMONIA": 3883}
_PAPERS_FRACTION = 0.2
_PAPERS_VALIDATION = {"NORMAL": 266, "PNEUMONIA": 790}


@dataclass(frozen=True)
class SplitImage:
    """One image of a split."""

    image_id: str
    """POSIX path under the root, where the file lies: `train/NORMAL/x.jpeg`, whatever its split."""
    label: str
    """Name of its class folder."""
    split: str
    """Where it belongs: `train`, `val` or `test`."""
    sha256: str
    """Of the file's bytes, in hexadecimal."""


@dataclass(frozen=True)
class Duplicates:
    """Groups of images with equal bytes that should not be equal."""

    across_splits: tuple[tuple[SplitImage, ...], ...]
    """Groups that lie in more than one split: a model may have trained on what it is tested on."""
    across_labels: tuple[tuple[SplitImage, ...], ...]
    """Groups with more than one label, of which all but one must be wrong."""

    def summary(self) -> str:
        """Say in one line what was found.

        Example:
            >>> Duplicates((), ()).summary()
            'no equal images in different splits or with different labels'
        """
        found = [
            f"{counted(len(groups), 'group')} of equal images {what} "
            f"({counted(sum(map(len, groups)), 'image')}; first: {_named(groups[0], differing)})"
            for groups, what, differing in (
                (self.across_splits, "in different splits", lambda image: image.split),
                (self.across_labels, "with different labels", lambda image: image.label),
            )
            if groups
        ]
        return "; ".join(found) or "no equal images in different splits or with different labels"


@dataclass(frozen=True)
class Split:
    """A division of images into train, val and test; `make_split` makes one."""

    root: Path
    """The folder that holds the split folders."""
    images: tuple[SplitImage, ...]
    """All images, sorted by `image_id`."""

    def counts(self) -> dict[str, dict[str, int]]:
        """Return how many images each split has of each label; splits without images are left out.

        Example:
            >>> make_split(Path("chest_xray")).counts()["val"]
            {'NORMAL': 5, 'PNEUMONIA': 5}
        """
        present = {image.split for image in self.images}
        splits = [name for name in SPLITS if name in present] + sorted(present - set(SPLITS))
        labels = sorted({image.label for image in self.images})
        counts = {split: dict.fromkeys(labels, 0) for split in splits}
        for image in self.images:
            counts[image.split][image.label] += 1
        return counts

    def duplicates(self) -> Duplicates:
        """Find images with equal bytes in different splits or with different labels.

        They are reported and stay where they are: which of them is right is not ours to say.
        """
        by_bytes: defaultdict[str, list[SplitImage]] = defaultdict(list)
        for image in self.images:
            by_bytes[image.sha256].append(image)
        groups = [tuple(group) for group in by_bytes.values()]
        return Duplicates(
            across_splits=tuple(g for g in groups if len({image.split for image in g}) > 1),
            across_labels=tuple(g for g in groups if len({image.label for image in g}) > 1),
        )

    def save(self, path: Path) -> None:
        """Write the CSV file with the columns path, label, split and sha256, whole or not at all.

        Paths are relative to the file's folder, so that both may be moved together. The same split
        gives the same bytes.

        Args:
            path: the file, whose name ends in .csv; replaced if it exists.

        Raises:
            UserError: the file cannot be written, its name ends otherwise, or a name of an image
                cannot be read back from it.
        """
        path = path.expanduser()
        if path.suffix.lower() != ".csv":
            raise UserError(
                f"a split is kept in a CSV file; got {path}, give a name such as split.csv"
            )
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        cell_of = _path_cells(self.root, path)
        for image in self.images:
            cells = (cell_of(image.image_id), image.label, image.split, image.sha256)
            for cell in cells:
                require_unicode(cell)
                if cell != cell.strip() or "\r" in cell:
                    raise UserError(
                        f"{cell!r} begins or ends with a blank or has a carriage return, which "
                        "a CSV file does not keep; rename it"
                    )
            writer.writerow(cells)
        try:
            with replacing(path) as temporary:
                temporary.write_bytes(text.getvalue().encode())
        except OSError as error:
            raise cannot_write(path, error) from None


def make_split(root: Path, *, validation: float = 0.2, seed: int = 0) -> Split:
    """Pool the train and val images of a folder of splits, and divide them anew per class.

    Of a class with n images, round(validation · n) validate (a half goes to the even number). The
    paper's own counts are taken instead for its own pool: of 1349 NORMAL and 3883 PNEUMONIA, 266
    and 790 validate at the default of 0.2. Test images stay test images.

    Each class is drawn by `np.random.default_rng(seed)` from its sorted image ids: neither the
    file system's order nor the other classes' images matter.

    Args:
        root: folder with train, and perhaps val and test, each holding one folder per class.
        validation: share of the pool that validates, in (0, 1).
        seed: seed of the draw, at least 0.

    Returns:
        The split, with every file's sha256; no image is decoded.

    Raises:
        UserError: no folder of splits, a class without an image in train or in val, or a file
            that cannot be read.

    Example:
        >>> split = make_split(Path("chest_xray"))
        >>> split.save(Path("split.csv"))
    """
    if not 0 < validation < 1:
        raise UserError(f"the share of validation images must lie in (0, 1); got {validation}")
    if seed < 0:
        raise UserError(f"--seed must be at least 0; got {seed}")
    root = root.expanduser()
    labels = _class_names(root)
    pool: dict[str, list[str]] = {label: [] for label in labels}
    placed: dict[str, tuple[str, str]] = {}
    for image_id, label, split in _images(root):
        if split == "test":
            placed[image_id] = (label, split)
        else:
            pool[label].append(image_id)
    counts = _validation_counts({label: len(ids) for label, ids in pool.items()}, validation)
    for label, ids in pool.items():
        ids.sort()
        drawn = np.random.default_rng(seed).choice(len(ids), size=counts[label], replace=False)
        validating = {ids[i] for i in drawn}
        placed |= {each: (label, "val" if each in validating else "train") for each in ids}
    return Split(
        root=root,
        images=tuple(
            SplitImage(image_id, label, split, _sha256(root / image_id))
            for image_id, (label, split) in sorted(placed.items())
        ),
    )


def read_split(path: Path, root: Path) -> Split:
    """Read a split file again, and check that it lists just the images that are there.

    The check is cheap: files that are gone or new are found, files with other bytes are not.

    Args:
        path: the CSV file that `Split.save` wrote; splits and labels in it may have been edited.
        root: the folder of splits that it divides.

    Returns:
        The split as the file has it.

    Raises:
        UserError: the file is malformed, lists images that are gone, or misses some.

    Example:
        >>> make_split(Path("chest_xray")).save(Path("split.csv"))
        >>> read_split(Path("split.csv"), Path("chest_xray")).counts()["test"]
        {'NORMAL': 10, 'PNEUMONIA': 10}
    """
    path, root = path.expanduser(), root.expanduser()
    cell_of = _path_cells(root, path)
    present = {cell_of(image_id): image_id for image_id, _, _ in _images(root)}
    rows = {row["path"]: row for _, row in read_csv(path, required=COLUMNS)}
    mend = f"restore the images, or remove {path} to divide them anew"
    for cells, what in (
        (sorted(rows.keys() - present.keys()), f"lists {{}} that {root} does not hold"),
        (_unlisted(present.keys() - rows.keys(), rows), f"does not list {{}} of {root}"),
    ):
        if cells:
            raise UserError(
                f"{path} {what.format(counted(len(cells), 'image'))} (first: {cells[0][:200]}); "
                + mend
            )
    images = [
        SplitImage(present[cell], row["label"], canonical_split(row["split"]), row["sha256"])
        for cell, row in rows.items()
    ]
    return Split(root=root, images=tuple(sorted(images, key=lambda image: image.image_id)))


def _unlisted(cells: Collection[str], rows: Collection[str]) -> list[str]:
    """Leave out the kinds of files that earlier versions passed over, where a division has none."""
    divided = FIRST_SUFFIXES | {Path(cell).suffix.lower() for cell in rows}
    return sorted(cell for cell in cells if Path(cell).suffix.lower() in divided)


def _class_names(root: Path) -> list[str]:
    """Return the class names of a folder of splits, which must mean the same in a CSV file."""
    walk = Walk(root)
    splits = split_folders(walk) if root.is_dir() else []
    if not any(canonical_split(name) == "train" for name in splits):
        found = f"holds {', '.join(splits)} only" if splits else "holds no split folders"
        raise UserError(
            f"{root} {found if root.is_dir() else 'is no folder'}; expected a folder with train, "
            "and perhaps val and test, each holding one folder per class"
        )
    labels = class_folders(walk, splits)
    if labels:
        space = label_space(
            labels,
            ModelClasses(),
            noun="class folder",
            source=root,
            whose="class folders",
            listed=True,
        )
        numbers = [label for label in labels if space.kind == "class indices"]
        if numbers and sorted(space.indices.values()) != list(range(len(labels))):
            numbers.sort(key=lambda label: space.indices[label])
            raise UserError(
                f"{root}: the class folder {numbers[0]} is class 0 of {len(labels)} by its place, "
                f"but a CSV file takes its name for the class index; rename the class folders to "
                f"0 … {len(labels) - 1}, or to names that are no numbers"
            )
    return labels


def _images(root: Path) -> list[tuple[str, str, str]]:
    """Return (image id, label, split by its folder) of every image under a folder of splits."""
    walk = Walk(root)
    return [
        (image_id, label, canonical_split(split))
        for split in split_folders(walk)
        for image_id, label in images_of_split(walk, split)
    ]


def _validation_counts(pool: dict[str, int], validation: float) -> dict[str, int]:
    if pool == _PAPERS_POOL and validation == _PAPERS_FRACTION:
        return _PAPERS_VALIDATION
    counts = {label: round(validation * count) for label, count in pool.items()}
    if not pool:
        raise UserError("the folder of splits holds no class folders; put the images into some")
    for label, count in counts.items():
        if not 0 < count < pool[label]:
            raise UserError(
                f"class {label} has {counted(pool[label], 'image')} in train and val together, of "
                f"which {count} would validate; every class needs at least one in each"
            )
    return counts


def _path_cells(root: Path, file: Path) -> Callable[[str], str]:
    """Return the function from an image id under `root` to its path from the file's folder."""
    start, target = os.path.abspath(file.parent), os.path.abspath(root)
    if os.path.commonpath([start, target]) != start:
        # The system follows `..` from where a link leads to, not from where it lies.
        start = os.path.realpath(start)
    prefix = Path(os.path.relpath(target, start))
    return lambda image_id: (prefix / image_id).as_posix()


def _sha256(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror}; restore the file or take it out of its folder"
        ) from None


def _named(group: Sequence[SplitImage], differing: Callable[[SplitImage], str]) -> str:
    """Name two images of a group that differ, with what they differ in."""
    first = group[0]
    second = next(image for image in group if differing(image) != differing(first))
    return " = ".join(f"{image.image_id} ({differing(image)})" for image in (first, second))
