"""What is in a tar archive: every member's name, place and size, and the small ones' texts."""

import io
import json
import posixpath
import tarfile
import zlib
from typing import Any

import pyarrow as pa

from gaxjax.common import UserError, remote_reason
from gaxjax.data.shards import Shard

BLOCK = tarfile.BLOCKSIZE
"""Bytes of a header; a member's last one is right before its content."""

LABELS = (".cls", ".json")
"""Members that label an image; their texts are part of the index."""

_MOST_TEXT = 2**20
_MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_KINDS = {
    tarfile.SYMTYPE: "a link",
    tarfile.LNKTYPE: "a link",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}


def tar_index(shard: Shard) -> pa.Table:
    """Read an archive's headers, once through; no image is read.

    Returns:
        A table of all files: name, offset and bytes of the content, checksum of the header before
        it, and text where it is a label. Its metadata has a note, or an empty one.

    Raises:
        UserError: it is compressed, empty, cut off in a header, damaged, or holds what is no file
            below it.
    """
    with shard.open() as file:
        try:
            return _index(shard, file)
        except UserError:
            raise
        except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
            raise _damaged(shard, str(error) or type(error).__name__) from None
        except Exception as error:  # storages raise what they like
            raise UserError(f"--data {shard.name} cannot be read: {remote_reason(error)}") from None


def _index(shard: Shard, file: io.BufferedReader) -> pa.Table:
    start = file.read(8)
    for magic, kind in _MAGIC.items():
        if start.startswith(magic):
            raise UserError(
                f"--data {shard.name} is compressed ({kind}), so that no image in it can be read "
                "by itself; unpack it, or repack it as a plain .tar"
            )
    file.seek(0)
    rows: list[dict[str, Any]] = []
    names: set[str] = set()
    with tarfile.open(fileobj=file, mode="r:") as archive:
        after = 0  # the last member's header
        while True:
            try:
                member = archive.next()
            except tarfile.ReadError as error:
                if rows and rows[-1]["offset"] + rows[-1]["bytes"] > shard.size:
                    break  # cut off within the last content: that image's outcome
                raise _damaged(shard, f"{error}, after {len(rows)} files") from None
            if member is None:
                break
            archive.members.clear()  # type: ignore[attr-defined]  # it would keep them all
            after = member.offset_data
            if not member.isdir():
                name = _checked_name(shard, member)
                if name in names:
                    raise UserError(f"--data {shard.name} holds {name} twice; keep one of them")
                names.add(name)
                rows.append(_row(file, member, name))
        end = archive.offset
    whole = not rows or rows[-1]["offset"] + rows[-1]["bytes"] <= shard.size
    if not rows and shard.size > 0 and after == 0:
        _require_empty(shard, file)
    if not rows:
        raise UserError(f"--data {shard.name} is empty: it holds no files")
    note = ""
    if not whole:
        note = f"{shard.file} is cut off within {rows[-1]['name']}, its last file"
    elif end >= shard.size:
        note = f"{shard.file} has no end mark: it may have been cut off after {rows[-1]['name']}"
    else:
        file.seek(end)
        block = file.read(BLOCK)
        if block.strip(b"\0"):
            raise _damaged(shard, f"no header at byte {end}, after {len(rows)} files")
    columns = {name: [row[name] for row in rows] for name in ("offset", "bytes", "header", "text")}
    schema = {"offset": pa.int64(), "bytes": pa.int64(), "header": pa.int64(), "text": pa.binary()}
    # As bytes: a name may be no UTF-8, which is said of an image and not of all.
    encoded = pa.array(
        [row["name"].encode("utf-8", "surrogateescape") for row in rows], pa.binary()
    )
    arrays = {name: pa.array(values, schema[name]) for name, values in columns.items()}
    return pa.table({"name": encoded, **arrays}, metadata={"note": note})


def _row(file: io.BufferedReader, member: tarfile.TarInfo, name: str) -> dict[str, Any]:
    file.seek(member.offset_data - BLOCK)
    header = file.read(BLOCK)
    text = None
    if posixpath.splitext(name)[1].lower() in LABELS:
        text = file.read(min(member.size, _MOST_TEXT))
    return {
        "name": name,
        "offset": member.offset_data,
        "bytes": member.size,
        "header": zlib.crc32(header),
        "text": text,
    }


def _checked_name(shard: Shard, member: tarfile.TarInfo) -> str:
    if not member.isreg() or member.issparse():
        kind = _KINDS.get(member.type, "no plain file")
        raise UserError(
            f"--data {shard.name} holds {kind} ({member.name[:200]}); only plain files are read: "
            "repack it without (tar --dereference stores what links lead to)"
        )
    if member.name.startswith("/") or ".." in member.name.split("/"):
        raise UserError(
            f"--data {shard.name} holds {member.name[:200]}, which leads out of it; repack it with "
            "names below one folder"
        )
    return posixpath.normpath(member.name)


def _require_empty(shard: Shard, file: io.BufferedReader) -> None:
    file.seek(0)
    if file.read(BLOCK).strip(b"\0"):
        raise _damaged(shard, "it begins with no header")


def _damaged(shard: Shard, reason: str) -> UserError:
    said = " ".join(reason.split())[:150]
    return UserError(f"--data {shard.name} is damaged or no tar archive ({said}); get it again")


def label_of(shard: Shard, name: str, text: bytes) -> str | None:
    """Return the label in a .cls or .json member; None where a JSON one has none.

    Raises:
        UserError: it cannot be read as one.
    """
    try:
        said = text.decode("utf-8-sig").strip()
        if not name.lower().endswith(".json"):
            if not said or "\n" in said:
                raise ValueError("expected one class index or name")
            return said
        values = json.loads(said)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSON's are ValueErrors
        reason = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
        raise UserError(f"--data {shard.name}: {name} holds no label ({reason})") from None
    if not isinstance(values, dict):
        return None
    found = next((values[key] for key in ("label", "cls", "class") if key in values), None)
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int | str) or not str(found).strip():
        raise UserError(
            f"--data {shard.name}: the label in {name} is {str(found)[:60]!r}; expected a class "
            "index or a name"
        )
    return str(found).strip()
