"""The store: a folder that is true at every moment, and that a crash cannot spoil.

    RUN/
      run.json               config, fingerprints, versions, device, timing
      scores/part-*.parquet  one row per image, committed part by part
      heatmaps.zarr          [rows, H, W, 3], Zarr v3, a shard per part; a row's number is in the
                             scores

Heatmaps along the way lie beside them: `snapshots.py`.

A part is written once and never touched again, after the shard of its heatmaps: each is a file
that is made durable and then renamed into place, or an object that its storage shows whole or not
at all. What a killed process leaves, a `.tmp` or a shard without its part, is removed when the run
is opened again. Pandas, DuckDB and xarray read all of it without us.

One process has the whole run, or several have it side by side: each with a lock and with part
numbers of its own, so that nothing but run.json is written by two, and that under the run's lock.
"""

import contextlib
import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

from gaxjax.common import (
    RESUME,
    AnyPath,
    FolderHeader,
    UserError,
    cannot_write,
    is_url,
    lock,
    refuse_strangers,
    remote_errors,
)
from gaxjax.results.check import check_run, heatmap_array, remove_files, remove_leftovers
from gaxjax.results.part_writer import PartWriter, Result, part_numbers, refuse_writers
from gaxjax.results.parts import list_parts, read_done
from gaxjax.results.run_header import FORMAT, OLD_FORMAT, read_header

__all__ = ["Store", "joined_run"]

_ENTERING = 120.0  # seconds in which others have opened the run, checked what is theirs, and closed


class Store:
    """A run's folder, open for appending; a context manager that holds its locks.

    Args:
        path: the folder, made when missing, or a URL's path.
        identity: what makes two runs the same: settings, model and data fingerprints. A run with
            another identity is refused.
        header: the rest of run.json, for people and reports.
        image_shape: (H, W, 3).
        heatmap_dtype: float16 or float32; None stores no heatmaps.
        num_images: of the run.
        heatmaps_per_part: the most heatmaps of a part; a run begun with another number keeps it.
        writer: which of the writers this one is, from 0.
        writers: how many write parts of this run.
        side_by_side: whether the others are processes of their own, beside this one; else this one
            has the run alone, and the others are its workers.

    Attributes:
        header: run.json.
        done: ids of the images that were committed when the run was opened, or by this store.

    Raises:
        UserError: the folder holds another run, an older or a damaged one, or something else; it
            is in use, or cannot be written.
    """

    def __init__(
        self,
        path: AnyPath,
        *,
        identity: dict[str, Any],
        header: dict[str, Any],
        image_shape: tuple[int, ...],
        heatmap_dtype: str | None,
        num_images: int,
        heatmaps_per_part: int,
        writer: int = 0,
        writers: int = 1,
        side_by_side: bool = False,
    ) -> None:
        self.path = path = path.resolve()
        self._alone = not side_by_side
        numbers = part_numbers(writer, num_images)
        most = part_numbers(writers - 1, num_images)[-1] + 1
        heatmaps = {
            "num_shards": most,
            "rows_per_shard": max(1, heatmaps_per_part),
            "image_shape": list(image_shape),
            "dtype": heatmap_dtype,
        }
        self._begun = {
            "format": FORMAT,
            "run_id": secrets.token_hex(8),
            "identity": identity,
            "heatmaps": None if heatmap_dtype is None else heatmaps,
            "writers": writers,
            **header,
        }
        self._session: int | None = None
        with contextlib.ExitStack() as until:
            with remote_errors():
                refuse_strangers(path, "run.json")
            name = f"writer-{writer}"
            if not self._alone:  # a network disk keeps a dead machine's lock for a while
                self._ours = until.enter_context(lock(path, name, wait=_ENTERING))
            whole = lock(path, wait=0.0 if self._alone else _ENTERING)
            if self._alone:
                self._ours = until.enter_context(whole)
                refuse_writers(path)
            with contextlib.nullcontext() if self._alone else whole:
                self._read_header()
                if not self._alone and self.header.values.get("writers", 1) != writers:
                    refuse_writers(path, but=name, wait=0.0)
                self._describe(most, writers)
            # Without the run's lock: the others would wait for it, and check one after the other.
            self._open(numbers)
            self._until = until.pop_all()

    def _describe(self, most: int, writers: int) -> None:
        """Bring what all writers share up to their number."""
        changed: dict[str, Any] = {}
        if self.header.values.get("writers", 1) != writers:
            changed["writers"] = writers
        kept = self.header["heatmaps"]
        if kept is not None and kept["num_shards"] < most:
            changed["heatmaps"] = {**kept, "num_shards": most}
        if changed:
            self.header.write(**changed)
        array = heatmap_array(self.path, self.header.values)
        if array is not None:
            try:
                array.create()
            except OSError as error:
                raise cannot_write(f"to {self.path}", error, RESUME) from error

    def _open(self, numbers: range) -> None:
        path = self.path
        try:
            ours = None if self._alone else numbers
            check = check_run(path, self.header.values, ours=ours, shards=not is_url(path))
            check.require_whole(path)
            remove_files(check.leftovers)
            self._read = {part.path for part in check.parts}
            self._outcomes = check.outcomes
            array = heatmap_array(path, self.header.values)
            self._parts = PartWriter(
                path,
                self.header.values,
                numbers=numbers,
                taken={part.number for part in check.parts},
                done=check.image_ids,
                array=array,
                still_ours=self._ours.check,
            )
        except OSError as error:
            raise cannot_write(f"to {path}", error, RESUME) from error

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self._until.close()

    @property
    def done(self) -> set[str]:
        """Ids of the images that have rows, as far as this store knows."""
        return self._parts.done

    @property
    def outcomes(self) -> Counter[str]:
        """How many rows ended how, as far as this store knows."""
        return self._outcomes + self._parts.outcomes

    def commit(self, results: Sequence[Result]) -> None:
        """Append results: `PartWriter.commit`."""
        self._parts.commit(results)

    # --- run.json --------------------------------------------------------------------------------

    def _read_header(self) -> None:
        file = self.path / "run.json"
        with remote_errors():
            there = file.exists()
        self.header = FolderHeader(file, self._begun, _going_on(self.path) if there else None)

    @contextlib.contextmanager
    def changing(self) -> Iterator[FolderHeader]:
        """Give the header as it is now, to be changed by nobody else within the block.

        Raises:
            UserError: it cannot be written; others keep the run's lock for too long.
        """
        if self._alone:
            yield self.header
            return
        with closing(lock(self.path, wait=_ENTERING)):
            self._read_header()
            yield self.header

    def begin_session(self, session: dict[str, Any]) -> None:
        """Note when, where and with what this process begins to work."""
        with self.changing() as header:
            header.begin_session(session)
            self._session = len(header["sessions"]) - 1

    def end_session(self, figures: dict[str, Any]) -> None:
        """Note what came of it."""
        with self.changing() as header:
            assert self._session is not None, "no session was begun"
            header.update_session(figures, self._session)

    def complete(self, num_images: int) -> int:
        """Mark the run complete where all images have rows now, whoever committed them.

        Returns:
            How many images have none.

        Raises:
            UserError: a part that others committed is damaged.
        """
        if len(self.done) < num_images:
            known = self._read | self._parts.written
            parts = list_parts(self.path, self.header["format"])
            theirs = [part for part in parts if part.path not in known]
            ids, outcomes = read_done(theirs)
            self.done.update(ids)
            self._outcomes += outcomes
            self._read.update(part.path for part in theirs)
        missing = num_images - len(self.done)
        with self.changing() as header:
            if not missing and header["status"] != "complete":
                header.write(status="complete")
        return missing


@contextlib.contextmanager
def joined_run(path: AnyPath, writer: int, num_images: int) -> Iterator[PartWriter]:
    """Write parts of a run as one of the workers of the process that has it.

    Args:
        path: the run's folder, begun.
        writer: which one, from 0.
        num_images: of the run.

    Raises:
        UserError: the worker that was this writer is still alive, or the run is damaged.
    """
    with lock(path, f"writer-{writer}", wait=_ENTERING) as ours:
        header = read_header(path)
        numbers = part_numbers(writer, num_images)
        parts = list_parts(path, FORMAT)
        remove_leftovers(path, parts, numbers)
        mine = [part for part in parts if part.number in numbers]
        done, _ = read_done(mine)
        yield PartWriter(
            path,
            header,
            numbers=numbers,
            taken={part.number for part in mine},
            done=done,
            array=heatmap_array(path, header),
            still_ours=ours.check,
        )


def _going_on(path: AnyPath) -> dict[str, Any]:
    """Return the header of a run that can be gone on with.

    Raises:
        UserError: it cannot.
    """
    header = read_header(path)
    if header["format"] == OLD_FORMAT:
        raise UserError(
            f"{path} was begun by an earlier gaxjax (store format {OLD_FORMAT}): it can be "
            "verified and reported, but not gone on with; choose another --output"
        )
    return header
