"""The list of a run's images, kept beside its results: it names those that are others now.

RUN/
  images.parquet   image_id, label and the file's bytes, of every image of the run, in its order

A run's identity holds one fingerprint of all of that, which tells only whether something changed.
"""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gaxjax.common import RESUME, UserError, cannot_write, counted, replacing
from gaxjax.data import ImageSet
from gaxjax.results import read_header

__all__ = ["keep_image_list", "refuse_changed_images"]

_FILE = "images.parquet"
_NOT_A_CHOICE = {"data", "labels", "decode_threads"}  # of which images: where they lie, how fast


def keep_image_list(run: Path, images: ImageSet) -> None:
    """Keep the list, once.

    Args:
        run: the run's folder, whose lock is held.
        images: the run's.

    Raises:
        UserError: it cannot be written.
    """
    file = run / _FILE
    if file.exists():
        return
    try:
        with replacing(file) as temporary:
            pq.write_table(_table(images), temporary, compression="zstd")
    except OSError as error:
        raise cannot_write(file, error, RESUME) from error


def refuse_changed_images(run: Path, images: ImageSet, config: dict[str, Any]) -> None:
    """Refuse to resume a run some of whose images are others now, and name them.

    Runs of before there was a list, and other choices of images, are left to the run's identity.

    Args:
        run: the run's folder.
        images: as they are now.
        config: the settings, of which some chose them.

    Raises:
        UserError: some are gone, have changed or are new.
    """
    try:
        before = pq.read_table(run / _FILE, columns=["image_id", "label", "bytes"])
        same = _choice(read_header(run)["config"]) == _choice(config)
    except (OSError, pa.ArrowException, UserError, LookupError, TypeError, AttributeError):
        return  # no run, or none of ours any more, as the store says
    now = _table(images)
    if not same or before.equals(now):
        return
    was, is_now = (
        dict(zip(ids, zip(labels, sizes, strict=True), strict=True))
        for ids, labels, sizes in (
            (column.to_pylist() for column in table.columns) for table in (before, now)
        )
    )
    both = was.keys() & is_now.keys()
    found = [
        _named(what, sorted(ids))
        for what, ids in (
            ("gone", was.keys() - both),
            ("changed", {each for each in both if was[each] != is_now[each]}),
            ("new", is_now.keys() - both),
        )
        if ids
    ]
    if both and found:
        raise UserError(
            f"the images are not those that {run} was begun with: {'; '.join(found)}. Put them "
            "back as they were to resume, or choose another --output"
        )


def _choice(config: dict[str, Any]) -> dict[str, Any]:
    chosen = {name: value for name, value in config["data"].items() if name not in _NOT_A_CHOICE}
    return chosen | {"first_correct": config["first_correct"]}


def _table(images: ImageSet) -> pa.Table:
    return pa.table(
        {
            "image_id": pa.array([record.image_id for record in images.records], pa.string()),
            "label": pa.array([record.label for record in images.records], pa.int32()),
            "bytes": pa.array(images.num_bytes[: len(images.records)], pa.int64()),
        }
    )


def _named(what: str, ids: list[str]) -> str:
    names = ", ".join(each[:200] for each in ids[:3]) + ", …" * (len(ids) > 3)
    return f"{counted(len(ids), 'image')} {what} ({names})"
