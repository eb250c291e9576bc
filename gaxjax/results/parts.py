"""The parts of a run's scores: sealed Parquet files, each of which knows its run and its shard.

    scores/part-00003-5f0c1e62a9d3b874.parquet

Nothing else in the folder is taken for a part. Runs of the old format have parts that are not
sealed and know nothing, part-00003.parquet.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TypeVar

import msgspec
import pyarrow as pa

from gaxjax.common import (
    AnyPath,
    UserError,
    cannot_read,
    interruption,
    is_url,
    num_cores,
    one_line,
    remote_errors,
)
from gaxjax.results.heatmap_array import Shard
from gaxjax.results.run_header import OLD_FORMAT
from gaxjax.results.sealed import open_sealed, write_sealed

__all__ = [
    "DONE_COLUMNS",
    "SCHEMA",
    "Part",
    "PartAbout",
    "at_once",
    "ids_and_outcomes",
    "joined",
    "list_parts",
    "read_done",
    "read_part",
    "write_part",
]

SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("label", pa.int32(), nullable=False),
        pa.field("label_name", pa.string()),
        pa.field("method", pa.string(), nullable=False),
        pa.field("layer", pa.string()),
        pa.field("operation", pa.string(), nullable=False),
        pa.field("backend", pa.string(), nullable=False),
        pa.field("prediction", pa.int32()),
        pa.field("correct", pa.bool_()),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("steps", pa.int32()),
        pa.field("co_score", pa.float32()),
        pa.field("co_score_start", pa.float32()),
        pa.field("similarity_loss", pa.float32()),
        pa.field("probability_before", pa.float32()),
        pa.field("probability_after", pa.float32()),
        pa.field("prediction_after", pa.int32()),
        pa.field("correct_after", pa.bool_()),
        pa.field("curve", pa.list_(pa.float32())),
        pa.field("heatmap_scale", pa.float32()),
        pa.field("completeness_gap", pa.float32()),
        pa.field("co_score_predicted", pa.float32()),
        pa.field("max_probability", pa.float32()),
        pa.field("entropy", pa.float32()),
        pa.field("logit_margin", pa.float32()),
        pa.field("logsumexp", pa.float32()),
        pa.field("heatmap_row", pa.int64()),
        pa.field("heatmap_sha256", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("setting", pa.string()),
    ]
)
"""One row per image, in AX per image, method, layer and operation, in a sweep per image and
setting; what an outcome does not have is null. `heatmap_sha256` is of the stored heatmap's bytes,
in C order."""

DONE_COLUMNS = ("image_id", "outcome")
"""Of which images there are rows, and how they ended."""

_ADDED = frozenset(
    {
        "completeness_gap",
        "co_score_predicted",
        "max_probability",
        "entropy",
        "logit_margin",
        "logsumexp",
        "setting",
    }
)
"""Columns that older runs lack; there they are null."""

_NAME = re.compile(r"part-(\d{5,12})-[0-9a-f]{16}\.parquet")
_OLD_NAME = re.compile(r"part-(\d{5,9})\.parquet")
_ABOUT = b"gaxjax"
_AT_ONCE_BY_URL = 32  # answers are waited for, not computed

_T = TypeVar("_T")


@dataclass(frozen=True)
class Part:
    """A part's file, and its number, which is its shard's too."""

    path: AnyPath
    number: int


@dataclass(frozen=True)
class PartAbout:
    """What a part knows beside its rows.

    Attributes:
        run_id: of the run that it is of; empty in the old format.
        part: its number.
        shard: the file of its heatmaps; None where no row has one.
    """

    run_id: str
    part: int
    shard: Shard | None


def list_parts(run: AnyPath, format: int) -> list[Part]:
    """Return the committed parts of a run of a format, by their numbers."""
    name = _OLD_NAME if format == OLD_FORMAT else _NAME
    try:
        with remote_errors():
            matches = [(path, name.fullmatch(path.name)) for path in (run / "scores").iterdir()]
    except (FileNotFoundError, NotADirectoryError) as error:
        if isinstance(error, NotADirectoryError) and not is_url(run):
            raise cannot_read(run / "scores", error) from None
        return []
    except OSError as error:
        raise cannot_read(run / "scores", error) from None
    found = [Part(path, int(match[1])) for path, match in matches if match]
    return sorted(found, key=lambda part: (part.number, part.path))


def write_part(folder: AnyPath, table: pa.Table, about: PartAbout) -> Part:
    """Write a part, durable and whole.

    Args:
        folder: RUN/scores.
        table: rows, of `SCHEMA`.
        about: what it is to know.

    Raises:
        OSError: it cannot be written.
    """
    table = table.replace_schema_metadata({_ABOUT: json.dumps(asdict(about))})
    return Part(write_sealed(folder, f"part-{about.part:05d}", table), about.part)


def read_part(part: Part, columns: Sequence[str] | None = None) -> tuple[pa.Table, PartAbout]:
    """Read a part.

    Args:
        part: the part.
        columns: which ones; all of `SCHEMA` when not given.

    Raises:
        ValueError: it is damaged; the message says how.
        UserError: the system does not let it be read.
    """
    names = SCHEMA.names if columns is None else columns
    schema = pa.schema(map(SCHEMA.field, names))
    try:
        with open_sealed(part.path) as file:
            stored = file.schema_arrow
            there = set(stored.names)
            lacking = [name for name in names if name in _ADDED - there]
            # Parts are read side by side: threads within one would only wait for one another.
            table = file.read([name for name in names if name not in lacking], use_threads=False)
            about = _about(stored.metadata, part)
        for name in lacking:
            nulls = pa.nulls(len(table), schema.field(name).type)
            table = table.append_column(schema.field(name), nulls)
        return table.select(names).cast(schema), about
    except (pa.ArrowException, OSError, KeyError) as error:
        raise ValueError(one_line(error)) from None


def at_once(function: Callable[[Part], _T], parts: Sequence[Part]) -> Iterator[_T]:
    """Yield what a function that reads a part gives for each, in order; many are read at a time."""
    remote = bool(parts) and is_url(parts[0].path)
    with ThreadPoolExecutor(_AT_ONCE_BY_URL if remote else num_cores()) as threads:
        try:
            for found in threads.map(function, parts):
                interruption.check()
                yield found
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise


def ids_and_outcomes(table: pa.Table) -> tuple[frozenset[str], Counter[str]]:
    """Return the ids of the images in a table of rows, and how many rows ended how."""
    counts = table["outcome"].value_counts().to_pylist()
    outcomes = Counter({each["values"]: each["counts"] for each in counts})
    return frozenset(table["image_id"].to_pylist()), outcomes


def read_done(parts: Sequence[Part]) -> tuple[set[str], Counter[str]]:
    """Return the ids of the images that have rows in the parts, and how many rows ended how.

    Raises:
        UserError: one is damaged; the message says which and how.
    """

    def read(part: Part) -> tuple[frozenset[str], Counter[str]]:
        try:
            return ids_and_outcomes(read_part(part, DONE_COLUMNS)[0])
        except ValueError as error:
            raise UserError(f"{part.path} is damaged ({error})") from None

    ids: set[str] = set()
    outcomes: Counter[str] = Counter()
    for found, counts in at_once(read, parts):
        ids |= found
        outcomes += counts
    return ids, outcomes


def _about(metadata: dict[bytes, bytes] | None, part: Part) -> PartAbout:
    if _OLD_NAME.fullmatch(part.path.name):
        return PartAbout("", part.number, None)
    about = msgspec.json.decode((metadata or {})[_ABOUT], type=PartAbout)
    if about.part != part.number:
        raise ValueError(f"it is part {about.part} by what it holds")
    return about


def joined(tables: Iterable[pa.Table], columns: Sequence[str]) -> pa.Table:
    """Join tables of the columns, of which there may be none."""
    schema = pa.schema(map(SCHEMA.field, columns))
    return pa.concat_tables([schema.empty_table(), *tables])
