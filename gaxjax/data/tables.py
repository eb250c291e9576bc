"""Images and labels from a table: a CSV file with the columns path, label and perhaps split."""

import os
import posixpath
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote

from gaxjax.common import UserError, is_url, remote_reason
from gaxjax.config import DataConfig
from gaxjax.data.image_set import ImageSet, source_set
from gaxjax.data.image_source import FolderSource, ImageSource
from gaxjax.data.label_readings import ModelClasses
from gaxjax.data.label_space import LabelBy, label_space
from gaxjax.data.labels import read_csv
from gaxjax.data.places import Place
from gaxjax.data.selection import canonical_split, chosen_split, refuse_split
from gaxjax.data.url_files import RemoteFile, UrlSource, listed_sizes, sized


def open_table(place: Place, config: DataConfig, model: ModelClasses, by: LabelBy) -> ImageSet:
    """Read images and labels from a CSV file.

    Paths are relative to the file's folder, or to its URL.

    Raises:
        UserError: malformed, an image twice, labels that do not fit, or none of the images exists.
    """
    name = place.name
    id_of, source_of, folder = _by_url(place) if place.system is not None else _on_disk(place)
    line_of: dict[str, int] = {}
    labelled: list[tuple[str, str]] = []
    split_of: dict[str, str] = {}
    for line, row in rows_of(place, ("path", "label"), ("split",)):
        image_id = id_of(row["path"])
        if line_of.setdefault(image_id, line) != line:
            raise UserError(
                f"{name}, line {line}: {row['path']} is on line {line_of[image_id]} already; keep "
                "one row per image"
            )
        labelled.append((image_id, row["label"]))
        if "split" in row:
            split_of[image_id] = canonical_split(row["split"])
    file = posixpath.basename(name.partition("?")[0])
    # Over all rows, so that a split's classes are numbered as the whole set's are.
    space = label_space(
        {text for _, text in labelled},
        model,
        noun="label name",
        source=name,
        whose=f"the labels in {file}",
        by=by,
        listed=True,
    )
    arrangement = f"listed in {file}"
    if split_of:
        split = chosen_split(config, sorted(set(split_of.values())))
        labelled = [row for row in labelled if split_of[row[0]] == split]
        arrangement += f", split {split}"
    else:
        refuse_split(config, "a CSV file without a column 'split'")
    images = source_set(
        source_of([each for each, _ in labelled]), labelled, space, config, arrangement
    )
    # One missing file is that image's outcome; all of them is a wrong folder.
    if (images.num_bytes < 0).all():
        raise UserError(
            f"{name}: none of its {len(images.records)} images exists (first: "
            f"{posixpath.join(folder, images.records[0].image_id)}); paths are taken relative to "
            "the CSV file's folder"
        )
    return images


def rows_of(
    place: Place, required: tuple[str, ...], optional: tuple[str, ...]
) -> list[tuple[int, dict[str, str]]]:
    """Return (line number, cells) of a table; see `read_csv`."""
    content = _download(place) if place.system is not None else None
    name = place.name if place.system is not None else Path(place.path)
    return list(read_csv(name, required=required, optional=optional, content=content))


def _download(place: Place) -> bytes:
    from gaxjax.common import trying_again

    try:
        return bytes(trying_again(lambda: place.system.cat_file(place.path)))
    except Exception as error:  # storages raise what they like
        raise UserError(f"--data {place.name} cannot be read: {remote_reason(error)}") from None


_Ids = Callable[[str], str]
_Sources = Callable[[Sequence[str]], ImageSource]


def _on_disk(place: Place) -> tuple[_Ids, _Sources, str]:
    folder = Path(os.path.abspath(Path(place.path).parent))

    def source(image_ids: Sequence[str]) -> ImageSource:
        found = FolderSource(folder, place.name)
        found.probe_where_they_lie(image_ids)
        return found

    return (lambda cell: _id_under(folder, cell)), source, str(folder)


def _id_under(folder: Path, cell: str) -> str:
    """Name an image by its path under the table's folder, however the cell spells it."""
    absolute = posixpath.normpath((folder / cell).as_posix())
    root = folder.as_posix().rstrip("/") + "/"
    return absolute.removeprefix(root) if absolute.startswith(root) else posixpath.normpath(cell)


def _by_url(place: Place) -> tuple[_Ids, _Sources, str]:
    system, folder = place.system, place.path.partition("?")[0].rpartition("/")[0]
    on_the_web = "http" in system.protocol

    def image_id(cell: str) -> str:
        path = posixpath.normpath(cell)
        if is_url(cell) or path.startswith(("/", "../")):
            raise UserError(
                f"--data {place.name} names {cell[:200]}; a table by URL names images below its "
                "own folder, by paths relative to it"
            )
        return path

    def source(image_ids: Sequence[str]) -> ImageSource:
        paths = {each: f"{folder}/{quote(each) if on_the_web else each}" for each in image_ids}
        try:
            sizes = {} if on_the_web else listed_sizes(system, folder)
            sizes |= sized(system, [path for path in paths.values() if path not in sizes])
        except Exception as error:  # storages raise what they like
            raise UserError(f"--data {place.name}: {remote_reason(error)}") from None
        files = {each: RemoteFile(path, sizes[path]) for each, path in paths.items()}
        return UrlSource(place.name, system, place.path, files)

    return image_id, source, place.name.partition("?")[0].rpartition("/")[0]
