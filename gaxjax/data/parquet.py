"""Images in Parquet files, as Hugging Face's datasets lay them: columns `image` and `label`.

    image   struct: bytes (the encoded image), path (its name)
    label   a class index, with the classes' names in the schema (`ClassLabel`); or a name

Ids and labels are read from their own columns. How many bytes an image has, which a run's
fingerprint holds, is known only once its column was read: that is done of the rows that are wanted,
once, and kept in the index.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64

from gaxjax.common import StepProgress, UserError, counted
from gaxjax.config import DataConfig
from gaxjax.data.class_labels import class_label_space
from gaxjax.data.decode import UnreadableImageError
from gaxjax.data.image_set import ImageSet, source_set
from gaxjax.data.image_source import READERS_OF_URLS
from gaxjax.data.label_readings import LabelSpace, ModelClasses
from gaxjax.data.label_space import LabelBy, label_space, say_it_alone
from gaxjax.data.parquet_rows import RowReader, opened, row_sizes, unreadable_file
from gaxjax.data.places import Place
from gaxjax.data.selection import chosen_split, refuse_labels, refuse_split
from gaxjax.data.shards import Shard, indexed, keep_index, probe_shards

_KEYS = ("image_id", "__key__")
_KIND = "parquet"
_SMALL = 2**16  # bytes that are asked for at once of columns that lie between the images
_ON_A_DISK = 2  # threads that measure images here
_NOT_LOOKED_AT = -2
_NO_IMAGE = -1
_HIDDEN = -1  # the label of Hugging Face's test images


def open_parquet(place: Place, config: DataConfig, model: ModelClasses, by: LabelBy) -> ImageSet:
    """Find the images of Parquet files, of one split where the files' names tell splits apart.

    An image's id is its `image_id` or `__key__` where the files have such a column; else its path,
    below its class where it has no folder of its own; else the number of its row.

    Raises:
        UserError: a malformed file, one without the columns, labels that are missing or do not
            fit, or no rows at all.
    """
    refuse_labels(config, "Parquet files, which have their own label column")
    shards, arrangement = place.shards, f"in {counted(len(place.shards), 'Parquet file')}"
    splits = place.splits()
    if len(splits) > 1 or (splits and config.split is not None):
        split = chosen_split(config, list(splits))
        shards = splits[split]
        arrangement = f"in {counted(len(shards), 'Parquet file')}, split {split}"
    else:
        refuse_split(config, "no set of Parquet files named by splits (train-…, val-…, test-…)")
    tables = indexed(shards, _KIND, _index)
    names = _class_names(shards, tables)
    texts = [_texts(shard, table, names) for shard, table in zip(shards, tables, strict=True)]
    flat = [text for column in texts for text in column]
    if not flat:
        raise UserError(f"--data {place.name} holds no rows; give files that have some")
    empty = [shard.file for shard, table in zip(shards, tables, strict=True) if not len(table)]
    notes = []
    if empty:
        notes = [f"{counted(len(empty), 'Parquet file')} without rows (first: {empty[0]})"]
    whose = f"the labels in {place.name}"
    if names is not None:
        space = class_label_space(names, set(flat), model, source=place.name, by=by)
    else:
        everywhere = set(flat)
        if not say_it_alone(everywhere, model, by):
            everywhere |= _elsewhere(place.shards, shards)
        space = label_space(
            everywhere,
            model,
            noun="label name",
            source=place.name,
            whose=whose,
            by=by,
            listed=True,
            empty=everywhere - set(flat),
        )
    ids = _image_ids(place.name, tables, flat, named=_are_names(space, names))
    source = ParquetSource(place.name, shards, tables, ids)
    return source_set(source, list(zip(ids, flat, strict=True)), space, config, arrangement, notes)


def _are_names(space: LabelSpace, names: Sequence[str] | None) -> bool:
    return names is not None or space.kind != "class indices"


class ParquetSource:
    """The rows of Parquet files; ids are in the order of the rows."""

    def __init__(
        self, name: str, shards: Sequence[Shard], tables: Sequence[pa.Table], ids: Sequence[str]
    ) -> None:
        self.name = name
        self.readers = READERS_OF_URLS if shards[0].system is not None else 1
        self._shards = shards
        self._tables = list(tables)
        self._row_of = {image_id: row for row, image_id in enumerate(ids)}
        self._starts = np.cumsum([0, *map(len, tables)])
        self._reader = RowReader(shards)

    def sizes(self, image_ids: Sequence[str]) -> Int64[np.ndarray, " N"]:
        """Return the bytes of each image, -1 where its row has none; read at most once."""
        places = [self._place(image_id) for image_id in image_ids]
        wanted: defaultdict[int, list[int]] = defaultdict(list)
        for shard, row in places:
            wanted[shard].append(row)
        unknown = [shard for shard, rows in wanted.items() if self._unknown(shard, rows)]
        if unknown:
            with (
                ThreadPoolExecutor(max(_ON_A_DISK, self.readers), "sizes") as pool,
                StepProgress("Reading sizes", len(unknown), "files") as progress,
            ):
                for done, _ in enumerate(
                    pool.map(self._measure, unknown, map(wanted.__getitem__, unknown)), start=1
                ):
                    progress.advance(done, "read")
        found = {shard: self._tables[shard]["bytes"].to_numpy() for shard in wanted}
        return np.array([found[shard][row] for shard, row in places], np.int64)

    def _unknown(self, shard: int, rows: Sequence[int]) -> list[int]:
        known = self._tables[shard]["bytes"].to_numpy()
        return [row for row in rows if known[row] == _NOT_LOOKED_AT]

    def _measure(self, number: int, rows: Sequence[int]) -> None:
        """Read how large the images of some rows are, and keep that with the index."""
        shard, table = self._shards[number], self._tables[number]
        unknown, known = self._unknown(number, rows), table["bytes"].to_numpy().copy()
        row_sizes(shard, unknown, known)
        known[[row for row in unknown if known[row] == _NOT_LOOKED_AT]] = _NO_IMAGE
        place = table.schema.get_field_index("bytes")
        self._tables[number] = table.set_column(place, "bytes", pa.array(known))
        keep_index(shard, _KIND, self._tables[number])

    def encoded(self, image_id: str) -> bytes:
        """Return an image's bytes."""
        shard, row = self._place(image_id)
        found = self._reader.row(shard, row)
        if found is None:
            raise UnreadableImageError("its row holds no bytes of an image")
        size = int(self._tables[shard]["bytes"][row].as_py())
        if size not in (len(found), _NOT_LOOKED_AT):
            raise UnreadableImageError(
                f"{self._shards[shard].file} has changed since it was opened"
            )
        return found

    def reading_order(self, image_ids: Sequence[str]) -> Int64[np.ndarray, " N"]:
        """Return the order of the rows."""
        rows = np.array([self._row_of[image_id] for image_id in image_ids], np.int64)
        return np.argsort(rows, kind="stable").astype(np.int64)

    def probe(self) -> None:
        """Ask for some of the files."""
        probe_shards(self._shards)

    def _place(self, image_id: str) -> tuple[int, int]:
        row = self._row_of[image_id]
        shard = int(np.searchsorted(self._starts, row, side="right")) - 1
        return shard, row - int(self._starts[shard])


# --- The index of a file -------------------------------------------------------------------------


def _index(shard: Shard) -> pa.Table:
    """Read the ids and labels of one file: path, label as text, key, and room for the sizes."""
    with opened(shard, _SMALL) as file:
        schema = file.schema_arrow
        _require_columns(shard, schema)
        key = next((name for name in _KEYS if name in schema.names), None)
        has_path = schema.field("image").type.get_field_index("path") >= 0
        columns = ["label", *(["image.path"] * has_path), *([key] if key else [])]
        try:
            table = file.read(columns=columns, use_threads=False)
            table.validate(full=True)  # a damaged name may be no text
        except Exception as error:  # pyarrow raises many types on a damaged file
            raise unreadable_file(shard, error) from None
    labels = table["label"].combine_chunks()
    if pa.types.is_dictionary(labels.type):
        labels = labels.dictionary_decode()
    nothing = pa.nulls(len(table), pa.string())
    image = table["image"].combine_chunks() if has_path else None
    paths = nothing if image is None else pc.struct_field(image, "path").cast(pa.string())
    keys = table[key].combine_chunks().cast(pa.string()) if key else nothing
    about = {"key": key or "", "names": json.dumps(_names_of(schema))}
    return pa.table(
        {
            "path": paths,
            "label": labels.cast(pa.string()),
            "key": keys,
            "bytes": pa.array(np.full(len(table), _NOT_LOOKED_AT, np.int64)),
        },
        metadata=about,
    )


def _require_columns(shard: Shard, schema: pa.Schema) -> None:
    found = ", ".join(schema.names)[:200] or "none"
    for name in ("image", "label"):
        if name not in schema.names:
            raise UserError(
                f"--data {shard.name} has no column {name!r}, but {found}; expected image "
                "(bytes and path) and label, as Hugging Face's datasets have them"
            )
    image, label = schema.field("image").type, schema.field("label").type
    inner = image.field("bytes").type if _has_bytes(image) else None
    if inner is None or not (pa.types.is_binary(inner) or pa.types.is_large_binary(inner)):
        raise UserError(
            f"--data {shard.name}: its column 'image' is {str(image)[:100]}; expected a struct "
            "with the field bytes (and path), as Hugging Face's datasets have it"
        )
    value = label.value_type if pa.types.is_dictionary(label) else label
    if not (
        pa.types.is_integer(value) or pa.types.is_string(value) or pa.types.is_large_string(value)
    ):
        raise UserError(
            f"--data {shard.name}: its column 'label' is {str(label)[:100]}; expected class "
            "indices or names"
        )


def _has_bytes(image: pa.DataType) -> bool:
    return pa.types.is_struct(image) and image.get_field_index("bytes") >= 0


def _names_of(schema: pa.Schema) -> list[str] | None:
    """Return the class names of the label column, as Hugging Face keeps them; None without."""
    if not pa.types.is_integer(schema.field("label").type):
        return None
    try:
        about = json.loads((schema.metadata or {})[b"huggingface"])
        names = about["info"]["features"]["label"]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    fits = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return names if fits and names and len(set(names)) == len(names) else None


def _class_names(shards: Sequence[Shard], tables: Sequence[pa.Table]) -> list[str] | None:
    """Return the class names that the files give their labels, which must be the same in all."""
    found = [table.schema.metadata[b"names"] for table in tables]
    for shard, names in zip(shards, found, strict=True):
        if names != found[0]:
            raise UserError(
                f"--data {shard.name} names its classes otherwise than {shards[0].file}; open "
                "them one by one, or write them anew together"
            )
    first: list[str] | None = json.loads(found[0])
    return first


def _texts(shard: Shard, table: pa.Table, names: Sequence[str] | None) -> list[str]:
    """Return the label text of every row: the name of its class where the file names them."""
    labels = table["label"]
    if labels.null_count:
        row = labels.to_pylist().index(None)
        raise UserError(
            f"--data {shard.name}: {counted(labels.null_count, 'label')} of {len(labels)} are null "
            f"(first: row {row}); every image needs its class"
        )
    texts = [str(text) for text in labels.to_pylist()]
    if str(_HIDDEN) in texts:
        raise UserError(
            f"--data {shard.name}: {texts.count(str(_HIDDEN))} of {len(texts)} labels are -1, as "
            "where the labels of test images are kept hidden; take a split that has labels"
        )
    if names is None:
        return texts
    indices = [int(text) for text in texts]
    low, high = min(indices, default=0), max(indices, default=0)
    if low < 0 or high >= len(names):
        raise UserError(
            f"--data {shard.name}: label {low if low < 0 else high} is none of the {len(names)} "
            f"classes that the file names, 0 to {len(names) - 1}"
        )
    return [names[index] for index in indices]


def _elsewhere(every: Sequence[Shard], chosen: Sequence[Shard]) -> set[str]:
    """Return the labels of the other splits, where they say what number a name has."""
    others = [shard for shard in every if shard not in set(chosen)]
    if not others:
        return set()
    tables = indexed(others, _KIND, _index)
    found = {text for table in tables for text in table["label"].unique().to_pylist()}
    return found - {None, str(_HIDDEN)}


def _image_ids(
    name: str, tables: Sequence[pa.Table], texts: Sequence[str], *, named: bool
) -> list[str]:
    """Name every row."""
    filled = [table for table in tables if len(table)]
    keys = {table.schema.metadata[b"key"].decode() for table in filled}
    if keys != {""} and len(keys) == 1:
        ids = [image_id for table in filled for image_id in table["key"].to_pylist()]
        twice = [image_id for image_id, count in Counter(ids).items() if count > 1 or not image_id]
        if twice:
            raise UserError(
                f"--data {name}: the {keys.pop()} {twice[0]!r} is that of several rows, or none; "
                "every image needs one of its own"
            )
        return ids
    paths = [path for table in filled for path in table["path"].to_pylist()]
    if all(paths):
        ids = [
            f"{text}/{path}" if named and "/" not in path else path
            for path, text in zip(paths, texts, strict=True)
        ]
        if len(set(ids)) == len(ids):
            return ids
    width = max(5, len(str(len(texts) - 1)))
    return [f"{row:0{width}d}" for row in range(len(texts))]
