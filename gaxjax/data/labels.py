"""Label files: ImageNet's table of wnids, its two validation label files, and CSV tables."""

import csv
import functools
import importlib.resources
import io
import re
from collections.abc import Iterator
from pathlib import Path

from gaxjax.common import UserError

_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,9}")


@functools.cache
def imagenet_wnids() -> tuple[str, ...]:
    """Return the 1000 WordNet ids of ILSVRC2012 in class-index order, which is sorted order.

    Example:
        >>> imagenet_wnids()[0]
        'n01440764'
    """
    table = importlib.resources.files("gaxjax.data") / "imagenet_wnids.txt"
    return tuple(table.read_text(encoding="ascii").split())


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


def read_text(path: Path, content: bytes | None = None) -> str:
    """Read a UTF-8 text file, with or without a byte-order mark.

    Args:
        path: the file, or the name of what is read.
        content: its bytes, where it was read already.

    Raises:
        UserError: no such file, a folder, no permission, or not UTF-8.
    """
    try:
        if content is not None:
            return content.decode("utf-8-sig")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; give a readable file") from None


def read_csv(
    path: Path | str,
    *,
    required: tuple[str, ...],
    optional: tuple[str, ...] = (),
    content: bytes | None = None,
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number, cells without surrounding blanks) of a CSV file with a header.

    The cells are those of the required columns, and of the optional ones that the file has.

    Args:
        path: the file, or what it is called.
        required: the columns that it must have.
        optional: those that it may have.
        content: its bytes, where it was read already.

    Raises:
        UserError: unreadable file, a column that is missing or there twice, an empty cell, a row
            longer than the header, malformed CSV, or no row at all.
    """
    text = read_text(Path(path), content)
    # Not str.splitlines, which also breaks lines at characters such as U+2028 in a file's name.
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    columns = ",".join(required)
    try:
        header = [cell.strip() for cell in next(reader, [])]
        missing = [name for name in required if name not in header]
        if missing:
            found = ",".join(header)[:80] or "nothing"
            if re.fullmatch(r"[\w ]+([;\t|][\w ]+)+", found):
                found += "; put commas between them"
            raise UserError(
                f"{path} has no column {missing[0]!r}: its first line must name the columns "
                f"{columns}; found {found}"
            )
        wanted = (*required, *(name for name in optional if name in header))
        twice = [name for name in wanted if header.count(name) > 1]
        if twice:
            raise UserError(
                f"{path} has {header.count(twice[0])} columns {twice[0]!r}, of which only one can "
                "be meant; rename or remove the others"
            )
        at = {name: header.index(name) for name in wanted}
        num_rows = 0
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if any(cell.strip() for cell in cells[len(header) :]):
                raise UserError(
                    f"{path}, line {reader.line_num}: {len(cells)} cells, but the header names "
                    f"{len(header)} columns; put quotes around a cell that has a comma in it"
                )
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
