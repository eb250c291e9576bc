"""run.json: what a run is."""

from typing import Any, Literal, NotRequired, TypedDict

from gaxjax.common import AnyPath, UserError, damaged, path_to_read, read_values

__all__ = ["FORMAT", "OLD_FORMAT", "RunHeader", "read_header"]

FORMAT = 3
OLD_FORMAT = 2
"""Still read, but not gone on with."""


class _Model(TypedDict):
    name: str
    fingerprint: str
    num_classes: NotRequired[int]
    mean: NotRequired[list[float] | None]
    std: NotRequired[list[float] | None]
    class_names: NotRequired[list[str] | None]
    assumptions: NotRequired[dict[str, str]]


class _Data(TypedDict):
    name: str
    fingerprint: str
    num_images: int
    labels_from: NotRequired[str | None]
    notes: NotRequired[list[str]]


class _Identity(TypedDict):
    command: str
    methods: NotRequired[list[str]]
    layers: NotRequired[list[str]]


class _Session(TypedDict, total=False):
    started: str
    device: str
    python: str
    versions: dict[str, str]
    precision: str
    seconds: float | None
    compile_seconds: float | None
    image_steps_per_second: float | None


class _Heatmaps(TypedDict):
    """Of `HeatmapArray`."""

    num_shards: int
    rows_per_shard: int
    image_shape: list[int]
    dtype: Literal["float16", "float32"]


class RunHeader(TypedDict):
    """What run.json holds; `run_id`, `heatmaps` and `sha256` from format 3 on; `writers` where
    several processes wrote it.
    """

    format: int
    command: Literal["gax", "ax"]
    identity: _Identity
    config: dict[str, Any]
    model: _Model
    data: _Data
    status: Literal["running", "complete"]
    sessions: list[_Session]
    run_id: NotRequired[str]
    writers: NotRequired[int]
    heatmaps: NotRequired[_Heatmaps | None]
    sha256: NotRequired[str]


class _Format(TypedDict):
    format: int


def read_header(path: AnyPath | str) -> dict[str, Any]:
    """Return a run's run.json, which holds all of `RunHeader`.

    Raises:
        UserError: there is no run, or run.json is damaged or of a newer format.
    """
    path = path_to_read(path, "run", urls=True)
    file = path / "run.json"
    try:
        found = read_values(file, _Format)["format"]
        if found not in (OLD_FORMAT, FORMAT):
            raise UserError(
                f"{path} has store format {found}; this gaxjax reads formats {OLD_FORMAT} and "
                f"{FORMAT}"
            )
        header = read_values(file, RunHeader)
    except (FileNotFoundError, NotADirectoryError):
        what = "is a file, not a run's folder" if path.is_file() else "has no run.json"
        raise UserError(f"{path} holds no gaxjax run: it {what}") from None
    lacking = [name for name in ("run_id", "heatmaps", "sha256") if name not in header]
    if found == FORMAT and lacking:
        raise damaged(file, f"it lacks {lacking[0]}")
    if header["command"] == "ax" and not {"methods", "layers"} <= header["identity"].keys():
        raise damaged(file, "its identity lacks methods or layers")
    return header
