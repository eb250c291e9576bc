"""What --data names: a folder, a table, or the files of many images each, on a disk or by URL."""

import glob
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import unquote

from gaxjax.common import (
    UserError,
    cannot_read,
    counted,
    file_system,
    is_url,
    nearest,
    path_to_read,
    remote_reason,
    trying_again,
)
from gaxjax.data.selection import SPLITS, canonical_split
from gaxjax.data.shards import Shard, local_shard, url_shard
from gaxjax.data.url_files import RemoteFile, sized
from gaxjax.data.walking import IMAGE_SUFFIXES, Walk

EXPECTED = (
    "a folder of images, Parquet files (.parquet), tar archives (.tar), a CSV file (path,label), "
    "a MedMNIST file (.npz) or digits"
)
Kind = Literal["folder", "csv", "npz", "parquet", "tar"]

_KINDS: dict[str, Kind] = {".csv": "csv", ".npz": "npz", ".parquet": "parquet", ".tar": "tar"}
_SHARDS = (".parquet", ".tar")
_COMPRESSED = re.compile(r"\.(tgz|tbz2?|txz|tar\.\w+)$", re.IGNORECASE)
_PATTERN = re.compile(r"[*?[]|\{[^{}]*(,|\.\.)[^{}]*\}")
_SPLIT = re.compile(r"([a-zA-Z]+)(?=[-_.])")


@dataclass(frozen=True)
class Place:
    """What a name stands for.

    Attributes:
        kind: of what lies there.
        name: as the user gave it.
        system: its fsspec file system; None on a disk.
        path: where it is in that system.
        shards: the files of many images each, by name.
        files: of a folder by URL: its files by their POSIX path under it.
    """

    kind: Kind
    name: str
    system: Any = None
    path: str = ""
    shards: tuple[Shard, ...] = ()
    files: Mapping[str, RemoteFile] | None = None

    def splits(self) -> dict[str, tuple[Shard, ...]]:
        """Return the shards by the split that their names begin with; none where one has none."""
        found: dict[str, list[Shard]] = {}
        for shard in self.shards:
            start = _SPLIT.match(shard.file)
            name = start[1] if start is not None else ""
            if canonical_split(name) not in SPLITS:
                return {}
            found.setdefault(name, []).append(shard)
        return {name: tuple(found[name]) for name in sorted(found)}


def is_pattern(data: str) -> bool:
    """Tell whether a name stands for several files: with `*`, `?`, `[…]` or `{000..012}`.

    Example:
        >>> is_pattern("val-*.parquet"), is_pattern("shard-{00..12}.tar"), is_pattern("val/")
        (True, True, False)
    """
    return _PATTERN.search(_without_query(data)) is not None


def _without_query(name: str) -> str:
    """Return a web address without what follows its question mark; other names as they are."""
    return name.partition("?")[0] if name.lower().startswith(("http://", "https://")) else name


def place_of(data: str) -> Place:
    """Find what a name stands for.

    Raises:
        UserError: nothing that images are read from; or it cannot be reached.
    """
    return _url_place(data) if is_url(data) else _local_place(data)


def expanded(pattern: str) -> Iterator[str]:
    """Yield what braces stand for, each after the other.

    Example:
        >>> list(expanded("{val,test}-{08..10}.tar"))[:4]
        ['val-08.tar', 'val-09.tar', 'val-10.tar', 'test-08.tar']
    """
    found = re.search(r"\{([^{}]*(?:,|\.\.)[^{}]*)\}", pattern)
    if found is None:
        yield pattern
        return
    numbers = re.fullmatch(r"(\d+)\.\.(\d+)", found[1])
    if numbers:
        first, last = map(int, numbers.groups())
        if abs(last - first) > 10**6:
            raise UserError(f"--data {pattern}: more files than anybody has")
        width = len(numbers[1])
        step = 1 if last >= first else -1
        parts = [f"{number:0{width}d}" for number in range(first, last + step, step)]
    else:
        parts = found[1].split(",")
    for part in parts:
        yield from expanded(pattern[: found.start()] + part + pattern[found.end() :])


# --- On a disk -----------------------------------------------------------------------------------


def _local_place(data: str) -> Place:
    path = path_to_read(data, "--data")
    if path.is_dir():
        return _local_folder(path, data)
    if path.exists():
        return _one_file(path.name, data, lambda: [local_shard(path)], path=str(path))
    if is_pattern(data):
        paths: list[Path] = []
        for each in expanded(data):
            found = [Path(each)] if not glob.has_magic(each) else map(Path, glob.glob(each))
            paths += found
        missing = [each for each in paths if not each.exists()]
        _require_shard_names([str(each) for each in paths], missing, data)
        return _shard_place(data, None, [_local(each) for each in paths])
    raise UserError(
        f"--data {data}: no such folder or file; expected {EXPECTED}" + nearest(data, ["digits"])
    )


def _local(path: Path) -> Shard:
    try:
        return local_shard(path_to_read(path, "--data"))
    except OSError as error:
        raise cannot_read(path, error) from None


def _local_folder(path: Path, data: str) -> Place:
    """Tell a folder of Parquet files or archives from one of images; never take a mixture."""
    try:
        found = [
            entry
            for folder in (path, path / "data")
            if folder.is_dir()
            for entry in folder.iterdir()
            if entry.suffix in _SHARDS and entry.name[0] != "." and entry.is_file()
        ]
    except OSError as error:
        raise cannot_read(path, error) from None
    if not found:
        return Place("folder", data, path=str(path))
    walk = Walk(path)
    folders, images = walk.folders_and_images()
    for folder in folders if not images else ():
        images = images or list(walk.images(folder, label=folder))[:1]
    _refuse_mixture(data, [each.name for each in found], images)
    return _shard_place(data, None, [_local(each) for each in found])


# --- By URL --------------------------------------------------------------------------------------


def _url_place(data: str) -> Place:
    system, path = file_system(data, "--data")
    if is_pattern(data):
        return _url_pattern(data, system)
    file = _without_query(path)
    suffix = PurePosixPath(file).suffix.lower()
    if suffix in _KINDS or suffix in IMAGE_SUFFIXES or _COMPRESSED.search(file):

        def shards() -> list[Shard]:
            info = _asking(data, lambda: system.info(path))
            if info.get("type") == "directory":
                raise UserError(f"--data {data} is a folder with the name of a file; rename it")
            return [url_shard(data, system, info)]

        return _one_file(file, data, shards, system=system, path=path)
    return _url_folder(data, system, path)


def _url_pattern(data: str, system: Any) -> Place:
    infos: list[dict[str, Any]] = []
    missing: list[str] = []
    for each in expanded(data):
        path = system._strip_protocol(each)
        if glob.has_magic(_without_query(path)):
            found = _asking(data, partial(system.glob, path, detail=True))
            infos += [info for info in found.values() if info["type"] == "file"]
        else:
            try:
                infos.append(trying_again(partial(system.info, path)))
            except FileNotFoundError:
                missing.append(each)
            except Exception as error:  # storages raise what they like
                raise UserError(f"--data {data}: {remote_reason(error)}") from None
    names = [*missing, *(info["name"] for info in infos)]
    _require_shard_names(names, missing, data)
    return _shard_place(data, system, [url_shard(_url(system, i), system, i) for i in infos])


def _url_folder(data: str, system: Any, path: str) -> Place:
    found = _asking(data, lambda: system.find(path, detail=True))
    root = path.rstrip("/") + "/"
    files: dict[str, dict[str, Any]] = {}
    for name, info in found.items():
        under = name.removeprefix(root) if name.startswith(root) else name
        if info.get("type") == "file" and under and not under.endswith("/") and under != name:
            # A web server's list has addresses, in which blanks are %20.
            files[unquote(under) if "http" in system.protocol else under] = info
    if not files:
        _asking(data, lambda: system.info(path))  # there is no such folder, or no such bucket
        raise UserError(
            f"--data {data} holds no files"
            + (
                "; a web server shows no list of them: name a table (.csv), Parquet files or tar "
                "archives"
                if str(data).startswith("http")
                else f"; expected {EXPECTED}"
            )
        )
    shards = [
        info
        for under, info in files.items()
        if PurePosixPath(under).suffix in _SHARDS
        and PurePosixPath(under).parent.as_posix() in (".", "data")
    ]
    if shards:
        images = [each for each in files if PurePosixPath(each).suffix.lower() in IMAGE_SUFFIXES]
        _refuse_mixture(data, [info["name"] for info in shards], images)
        return _shard_place(data, system, [url_shard(_url(system, i), system, i) for i in shards])
    unknown = [info["name"] for info in files.values() if info.get("size") is None]
    size_of = _asking(data, lambda: sized(system, unknown)) if unknown else {}
    listed = {
        under: RemoteFile(info["name"], int(size_of.get(info["name"], info["size"])))
        for under, info in files.items()
    }
    return Place("folder", data, system, path, files=listed)


def _url(system: Any, info: Mapping[str, Any]) -> str:
    return str(system.unstrip_protocol(info["name"]))


def _asking(data: str, call: Any) -> Any:
    try:
        return trying_again(call)
    except UserError:
        raise
    except FileNotFoundError as error:
        reason = remote_reason(error)
        reason = reason if "exist" in reason else "there is no such file or folder"
        raise UserError(f"--data {data}: {reason}; expected {EXPECTED}") from None
    except Exception as error:  # storages raise what they like
        raise UserError(f"--data {data} cannot be read: {remote_reason(error)}") from None


# --- Both ----------------------------------------------------------------------------------------


def _one_file(file: str, data: str, shards: Any, *, path: str, system: Any = None) -> Place:
    suffix = PurePosixPath(file).suffix.lower()
    if _COMPRESSED.search(file):
        raise _compressed(data)
    if suffix in IMAGE_SUFFIXES:
        raise UserError(
            f"--data {data} is a single image; give the folder that holds its class folder, or a "
            "table (path,label) that names it"
        )
    if suffix not in _KINDS:
        raise UserError(
            f"--data {data} is a file, but no .csv, .npz, .parquet or .tar; expected {EXPECTED}"
        )
    if system is not None and suffix == ".npz":
        raise UserError(f"--data {data}: a MedMNIST file is read from a disk alone; download it")
    if suffix in _SHARDS:
        return _shard_place(data, system, shards())
    return Place(_KINDS[suffix], data, system, path)


def _compressed(name: str) -> UserError:
    return UserError(
        f"--data {name} is compressed, so that no image in it can be read by itself; unpack it, or "
        "repack it as a plain .tar"
    )


def _require_shard_names(names: Sequence[str], missing: Sequence[object], data: str) -> None:
    if not names:
        raise UserError(
            f"--data {data} matches nothing; expected Parquet files (.parquet) or tar archives "
            "(.tar)"
        )
    for name in names:
        if _COMPRESSED.search(name):
            raise _compressed(name)
        if PurePosixPath(_without_query(name)).suffix.lower() not in _SHARDS:
            raise UserError(
                f"--data {data} names {name}; a pattern is for Parquet files (.parquet) and tar "
                "archives (.tar): give images by their folder, or by a table (path,label)"
            )
    if missing:
        raise UserError(
            f"--data {data}: {len(missing)} of the {len(names)} files are not there (first: "
            f"{missing[0]})"
        )


def _refuse_mixture(data: str, shards: Sequence[str], images: Sequence[str]) -> None:
    if images:
        raise UserError(
            f"--data {data} mixes images ({images[0]}) with {counted(len(shards), 'file')} of many "
            f"images each ({PurePosixPath(shards[0]).name}); name those by a pattern such as "
            f"'*{PurePosixPath(shards[0]).suffix}', or move them out"
        )


def _shard_place(data: str, system: Any, shards: Sequence[Shard]) -> Place:
    ordered = tuple(sorted(set(shards), key=lambda shard: (shard.file, shard.name)))
    kinds = {PurePosixPath(shard.file).suffix.lower() for shard in ordered}
    if len(kinds) > 1:
        raise UserError(
            f"--data {data} mixes Parquet files and tar archives ({ordered[0].file}, "
            f"{ordered[-1].file}); name one kind by a pattern such as '*.parquet'"
        )
    return Place(_KINDS[kinds.pop()], data, system, shards=ordered)
