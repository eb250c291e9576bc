"""From label text (a folder's name, a wnid, a number in a CSV file) to a class index."""

import csv
import functools
import importlib.resources
import io
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gaxjax.common import UserError, counted

_WHOLE_NUMBER = re.compile(r"[+-]?\d{1,9}")
_DECIMAL_NUMBER = re.compile(r"[+-]?(\d+\.\d*|\.\d+)")


@functools.cache
def imagenet_wnids() -> tuple[str, ...]:
    """Return the 1000 WordNet ids of ILSVRC2012 in class-index order, which is sorted order.

    Example:
        >>> imagenet_wnids()[0]
        'n01440764'
    """
    table = importlib.resources.files("gaxjax.data") / "imagenet_wnids.txt"
    return tuple(table.read_text(encoding="ascii").split())


@dataclass(frozen=True)
class LabelSpace:
    """The class indices that a set of label texts stands for."""

    num_classes: int
    """How many classes there are, those without an image included."""
    names: tuple[str, ...] | None
    """Name of each class in index order; None where labels are bare indices."""
    indices: Mapping[str, int]
    """Label text to class index, in [0, num_classes)."""
    kind: str
    """`ImageNet wnids`, `names` or `class indices`."""


def label_space(
    texts: Collection[str], num_classes: int | None, *, noun: str, source: Path
) -> LabelSpace:
    """Give every label name its class index.

    ImageNet wnids take their index from the table of 1000, even when only some are present.
    Any other names are numbered in sorted order, as torchvision's ImageFolder numbers folders;
    so are wnids when the classifier has exactly as many classes as there are names.

    Args:
        texts: the distinct label names.
        num_classes: the classifier's class count, None when it is not known.
        noun: what the names are, for error messages, such as `class folder`.
        source: where they were found, for error messages.

    Returns:
        The label space.

    Raises:
        UserError: the names do not fit the classifier's class count.

    Example:
        >>> label_space({"dog", "cat"}, 2, noun="class folder", source=Path("pets")).indices
        {'cat': 0, 'dog': 1}
    """
    names = tuple(sorted(texts))
    table = imagenet_wnids()
    are_wnids = set(names) <= set(table)
    if are_wnids and num_classes in (None, len(table)):
        names = table
    kind = "ImageNet wnids" if are_wnids else "names"
    if num_classes not in (None, len(names)):
        some = ", ".join(sorted(texts)[:3]) + (", …" if len(texts) > 3 else "")
        mend = (
            f"ImageNet wnids fit a model of 1000 classes or one of exactly {len(names)}"
            if are_wnids
            else "give one class folder per class (it may be empty), or a CSV file (path,label) "
            "with class indices"
        )
        raise UserError(
            f"{counted(len(names), noun)} in {source} ({some}), but the model has "
            f"{num_classes} classes; {mend}"
        )
    return LabelSpace(len(names), names, {name: i for i, name in enumerate(names)}, kind)


def manifest_label_space(
    texts: Collection[str], num_classes: int | None, *, source: Path
) -> LabelSpace:
    """Give every label of a manifest its class index: whole numbers are indices, others names.

    Args:
        texts: the distinct label texts.
        num_classes: the classifier's class count; None takes the largest index plus one.
        source: the manifest, for error messages.

    Raises:
        UserError: numbers mixed with names, decimal numbers, or indices or names that do not fit
            the classifier's class count.
    """
    numbers = {text: int(text) for text in texts if _WHOLE_NUMBER.fullmatch(text)}
    decimals = sorted(text for text in texts if _DECIMAL_NUMBER.fullmatch(text))
    if decimals:
        raise UserError(
            f"{source}: label {decimals[0]} is a decimal number; write class indices as whole "
            "numbers"
        )
    if not numbers:
        return label_space(texts, num_classes, noun="label name", source=source)
    if len(numbers) < len(texts):
        name = min(set(texts) - set(numbers))
        raise UserError(
            f"{source} mixes class indices ({min(numbers)}) and names ({name}) in its label "
            "column; use one of the two"
        )
    low, high = min(numbers.values()), max(numbers.values())
    if low < 0:
        raise UserError(f"{source}: label {low} is below 0; class indices start at 0")
    if num_classes is not None and high >= num_classes:
        raise UserError(
            f"{source}: label {high} does not fit the model's {num_classes} classes; class "
            f"indices go from 0 to {num_classes - 1}"
        )
    return LabelSpace(num_classes or high + 1, None, numbers, "class indices")


# --- The two label files of ImageNet's validation images -----------------------------------------


def read_kaggle_solution(path: Path) -> dict[str, str]:
    """Read Kaggle's LOC_val_solution.csv: image name without extension to wnid.

    The column PredictionString repeats `wnid x_min y_min x_max y_max` for every box; all boxes of
    one image carry the same wnid.

    Raises:
        UserError: the file is missing or malformed, or names a wnid that is not in the table.
    """
    known = set(imagenet_wnids())
    wnid_of: dict[str, str] = {}
    for line, row in read_csv(path, required=("ImageId", "PredictionString")):
        wnid = (row["PredictionString"].split() or [""])[0]
        if wnid not in known:
            raise UserError(
                f"--labels {path}, line {line}: PredictionString must start with one of "
                f"ImageNet's 1000 wnids; got {wnid!r}"
            )
        if wnid_of.setdefault(row["ImageId"], wnid) != wnid:
            raise UserError(
                f"--labels {path}, line {line}: {row['ImageId']} was {wnid_of[row['ImageId']]} on "
                f"an earlier line and is {wnid} here; keep one row per image"
            )
    return wnid_of


def read_devkit_groundtruth(path: Path) -> list[str]:
    """Read the wnid of each validation image from ILSVRC2012_validation_ground_truth.txt.

    Its numbers are ILSVRC2012_IDs, which do not follow the sorted wnids that models are trained
    with; the devkit's meta.mat beside the file says which wnid each one is.

    Raises:
        UserError: either file is missing or malformed.
    """
    meta_path = path.with_name("meta.mat")
    if not meta_path.is_file():
        raise UserError(
            f"--labels {path} needs the devkit's meta.mat in the same folder (it says which class "
            "each number is); copy it there, or use Kaggle's LOC_val_solution.csv"
        )
    wnid_of_id = _read_meta_mat(meta_path)
    wnids = []
    for line, text in enumerate(read_text(path).splitlines(), start=1):
        wnid = wnid_of_id.get(int(text)) if _WHOLE_NUMBER.fullmatch(text.strip()) else None
        if wnid is None:
            raise UserError(
                f"--labels {path}, line {line}: expected an ILSVRC2012_ID that meta.mat lists, "
                f"one per line; got {text[:60]!r}"
            )
        wnids.append(wnid)
    return wnids


def _read_meta_mat(path: Path) -> dict[int, str]:
    """Read ILSVRC2012_ID → wnid for the leaves of the devkit's synset tree, which are classes."""
    import numpy as np
    from scipy.io import loadmat

    try:
        synsets = np.atleast_1d(loadmat(path, squeeze_me=True)["synsets"])
        return {
            int(synset["ILSVRC2012_ID"]): str(synset["WNID"])
            for synset in synsets
            if int(synset["num_children"]) == 0
        }
    except Exception as error:  # scipy raises many types on a damaged file
        raise UserError(
            f"{path} is not the devkit's meta.mat (no table `synsets` with ILSVRC2012_ID, WNID and "
            "num_children); take it from ILSVRC2012_devkit_t12"
        ) from error


# --- Text files that a user hands us -------------------------------------------------------------


def read_text(path: Path) -> str:
    """Read a UTF-8 text file, with or without a byte-order mark.

    Raises:
        UserError: no such file, a folder, no permission, or not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; give a readable file") from None


def read_csv(
    path: Path, *, required: tuple[str, ...], optional: tuple[str, ...] = ()
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number, cells without surrounding blanks) of a CSV file with a header.

    The cells are those of the required columns, and of the optional ones that the file has.

    Raises:
        UserError: unreadable file, missing column, empty cell, malformed CSV, or no row at all.
    """
    # Not str.splitlines, which also breaks lines at characters such as U+2028 in a file's name.
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    columns = ",".join(required)
    try:
        header = [cell.strip() for cell in next(reader, [])]
        missing = [name for name in required if name not in header]
        if missing:
            found = ",".join(header)[:80] or "nothing"
            raise UserError(
                f"{path} has no column {missing[0]!r}: its first line must name the columns "
                f"{columns}; found {found}"
            )
        wanted = (*required, *(name for name in optional if name in header))
        at = {name: header.index(name) for name in wanted}
        num_rows = 0
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            row = {name: cells[i].strip() if i < len(cells) else "" for name, i in at.items()}
            for name, cell in row.items():
                if not cell:
                    raise UserError(f"{path}, line {reader.line_num}: the cell {name!r} is empty")
            num_rows += 1
            yield reader.line_num, row
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: not valid CSV ({error})") from None
    if not num_rows:
        raise UserError(f"{path} has a header but no rows; add one row ({columns}) per image")
