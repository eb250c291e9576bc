"""The list of a run's images, kept beside its results: it names those that are others now.

    RUN/images-*.parquet   image_id, label, label_name and the file's bytes, of every image in order

A run's identity holds one fingerprint of all of that, which tells only whether something changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from gaxjax.common import RESUME, AnyPath, cannot_write, counted
from gaxjax.data import HostImage, ImageRecord, ImageSet, UnreadableImageError
from gaxjax.results.sealed import open_sealed, write_sealed

__all__ = ["Changes", "changes_since", "image_list_fault", "keep_image_list", "listed_sizes"]

_SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string()),
        pa.field("label", pa.int32()),
        pa.field("label_name", pa.string()),
        pa.field("bytes", pa.int64()),
    ]
)
_NOT_A_CHOICE = {"data", "labels", "decode_threads"}  # of which images: where they lie, how fast


@dataclass(frozen=True)
class Changes:
    """How a run's images are others than when it was begun.

    Attributes:
        before: the run's images, of which those that are others now cannot be read.
        gone, changed, new: ids.
    """

    before: ImageSet
    gone: tuple[str, ...]
    changed: tuple[str, ...]
    new: tuple[str, ...]

    def __str__(self) -> str:
        kinds = {"gone": self.gone, "changed": self.changed, "new": self.new}
        return "; ".join(_named(what, ids) for what, ids in kinds.items() if ids)


def keep_image_list(run: AnyPath, images: ImageSet) -> None:
    """Keep the list, once.

    Args:
        run: the run's folder, whose lock is held.
        images: the run's.

    Raises:
        UserError: it cannot be written.
    """
    if _file(run) is not None:
        return
    try:
        write_sealed(run, "images", _table(images))
    except OSError as error:
        raise cannot_write(run / "images.parquet", error, RESUME) from error


def changes_since(
    run: AnyPath, header: Mapping[str, Any], images: ImageSet, config: Mapping[str, Any]
) -> Changes | None:
    """Hold a run's images against those that it was begun with.

    Args:
        run: the run's folder.
        header: its run.json.
        images: as they are now.
        config: the settings, of which some chose them.

    Returns:
        What changed. None where nothing did; and where the choice is another one, or nothing is as
        it was, or there is no list, as in earlier versions' runs: there the fingerprints must do.
    """
    if images.fingerprint == header["data"]["fingerprint"]:
        return None
    if _choice(header["config"]) != _choice(config):
        return None
    try:
        before = _read(run)
    except ValueError:
        return None
    was, now = _by_id(before), _by_id(_table(images))
    both = was.keys() & now.keys()
    gone, new = was.keys() - both, now.keys() - both
    changed = {each for each in both if was[each] != now[each]}
    if not both or not (gone or new or changed):
        return None

    def read(image_id: str) -> HostImage:
        for what, ids in (("is gone", gone), ("has changed", changed)):
            if image_id in ids:
                raise UnreadableImageError(f"its file {what} since the run was begun")
        return images.read(image_id)

    records = tuple(
        ImageRecord(*row)
        for row in zip(*(column.to_pylist() for column in before.columns[:3]), strict=True)
    )
    place = {images.records[at].image_id: turn for turn, at in enumerate(images.order())}
    turns = [place.get(record.image_id, len(place)) for record in records]
    as_it_was = replace(
        images,
        records=records,
        reading_order=np.argsort(turns, kind="stable"),
        fingerprint=header["data"]["fingerprint"],
        name=header["data"]["name"],
        num_bytes=before["bytes"].to_numpy(),
        read=read,
    )
    return Changes(as_it_was, tuple(sorted(gone)), tuple(sorted(changed)), tuple(sorted(new)))


def image_list_fault(run: AnyPath) -> str:
    """Return what is wrong with a run's list, or an empty text, as where it has none."""
    try:
        _read(run)
    except ValueError as error:
        return str(error) if _file(run) is not None else ""
    return ""


def listed_sizes(run: AnyPath) -> dict[str, int]:
    """Return the bytes of each listed image by its id; nothing where there is no list."""
    try:
        table = _read(run)
    except ValueError:
        return {}
    return dict(zip(table["image_id"].to_pylist(), table["bytes"].to_pylist(), strict=True))


def _file(run: AnyPath) -> AnyPath | None:
    return next(iter(sorted(run.glob("images-*.parquet"))), None)


def _read(run: AnyPath) -> pa.Table:
    file = _file(run)
    if file is None:
        raise ValueError("there is none")
    with open_sealed(file) as opened:
        return opened.read().cast(_SCHEMA)


def _choice(config: Mapping[str, Any]) -> dict[str, Any]:
    chosen = {name: value for name, value in config["data"].items() if name not in _NOT_A_CHOICE}
    return chosen | {"first_correct": config["first_correct"]}


def _table(images: ImageSet) -> pa.Table:
    records = images.records
    columns = {
        "image_id": [record.image_id for record in records],
        "label": [record.label for record in records],
        "label_name": [record.label_name for record in records],
        "bytes": images.num_bytes[: len(records)].astype(np.int64),
    }
    return pa.table(columns, schema=_SCHEMA)


def _by_id(table: pa.Table) -> dict[str, tuple[int, int]]:
    ids, labels, sizes = (table[name].to_pylist() for name in ("image_id", "label", "bytes"))
    return dict(zip(ids, zip(labels, sizes, strict=True), strict=True))


def _named(what: str, ids: tuple[str, ...]) -> str:
    names = ", ".join(each[:200] for each in ids[:3]) + ", …" * (len(ids) > 3)
    return f"{counted(len(ids), 'image')} {what} ({names})"
