"""Tables that are computed from a run later, and kept beside its results.

RUN/NAME.parquet   rows; its metadata tell of which run they are, and what was asked for
"""

import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gaxjax.common import AnyPath, UserError, cannot_write, is_url, one_line, replacing
from gaxjax.results.run_header import read_header
from gaxjax.results.sealed import open_sealed

__all__ = ["read_later", "refuse_url", "write_later"]

_ABOUT = b"gaxjax"


def refuse_url(run: AnyPath, flag: str) -> None:
    """Refuse a run by URL, whose images and heatmaps would all be fetched.

    Raises:
        UserError: it is one.
    """
    if is_url(run):
        raise UserError(f"{flag} reads all heatmaps of {run}: copy the run to this machine first")


def write_later(run: AnyPath, name: str, table: pa.Table, about: dict[str, Any]) -> AnyPath:
    """Write a table beside a run's results, whole or not at all, in an earlier one's place.

    Args:
        run: the run's folder.
        name: of the file, without its ending.
        table: the rows.
        about: plain values: how they were computed.

    Returns:
        The file.

    Raises:
        UserError: it cannot be written.
    """
    path = run / f"{name}.parquet"
    known = about | {"run_id": read_header(run).get("run_id", "")}
    table = table.replace_schema_metadata({_ABOUT: json.dumps(known)})
    try:
        with replacing(path) as temporary:
            pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)
    except OSError as error:
        raise cannot_write(path, error) from None
    return path


def read_later(
    run: AnyPath, name: str, schema: pa.Schema
) -> tuple[pa.Table, dict[str, Any]] | None:
    """Read a table beside a run's results, and how it was computed; None where there is none.

    A run by URL has none.

    Raises:
        UserError: it is damaged, or of another run.
    """
    if is_url(run):
        return None
    path = run / f"{name}.parquet"
    if not path.exists():
        return None
    try:
        with open_sealed(path) as file:
            table = file.read()
        about: dict[str, Any] = json.loads((table.schema.metadata or {})[_ABOUT])
        run_id = about.pop("run_id")
        table = table.select(schema.names).cast(schema)
    except (pa.ArrowException, OSError, ValueError, KeyError, RecursionError) as error:
        raise UserError(
            f"{path} is damaged ({one_line(error)}): delete it, and compute it again"
        ) from None
    if run_id != read_header(run).get("run_id", ""):
        raise UserError(f"{path} is of another run: delete it, and compute it again")
    return table, about
