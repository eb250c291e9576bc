"""A stored run as a report reads it: header, rows and, where the files still exist, its images."""

import functools
import json
import re
import shlex
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float

from gaxjax.common.errors import UserError
from gaxjax.config.base import from_dict
from gaxjax.config.methods import AX_PRESETS, PRESETS, AxConfig, GaxConfig
from gaxjax.config.runs import AxRunConfig, RunConfig, SnapshotConfig
from gaxjax.data.decode import HostImage, UnreadableImageError
from gaxjax.data.sources import open_images
from gaxjax.results.snapshots import has_snapshots, read_about, read_class_names, read_snapshots
from gaxjax.results.statistics import MethodStatistics, Statistics, run_statistics
from gaxjax.results.store import read_header, read_heatmaps, read_scores

__all__ = [
    "Images",
    "StoredRun",
    "command_line",
    "images_of",
    "load_run",
    "load_runs",
    "numbers",
    "of_method",
    "texts",
]

_NEEDED = {"command": str, "data": dict, "model": dict, "sessions": list, "status": str}


@dataclass(frozen=True)
class StoredRun:
    """One run's folder, read once.

    Attributes:
        path: the folder.
        name: the folder's name, with its parent's where two runs would share it.
        key: the name made fit for files and HTML ids, another one for each run of a report.
        header: run.json. config: its settings. scores: all committed rows.
        data: where its images may be now, if they were moved.
    """

    path: Path
    name: str
    key: str
    header: dict[str, Any]
    config: RunConfig | AxRunConfig
    scores: pa.Table = field(repr=False)
    data: str | None = None

    @property
    def is_gax(self) -> bool:
        """Whether heatmaps were optimised, not taken from existing methods."""
        return isinstance(self.config, RunConfig)

    @property
    def method(self) -> GaxConfig | AxConfig:
        """How the heatmaps were made and scored."""
        return self.config.gax if isinstance(self.config, RunConfig) else self.config.ax

    @property
    def target(self) -> float | None:
        """The score that GAX aimed at; None for AX."""
        return self.config.gax.target if isinstance(self.config, RunConfig) else None

    @property
    def keeps_heatmaps(self) -> bool:
        """Whether the run was to store heatmaps."""
        return self.config.store.heatmaps != "none"

    @functools.cached_property
    def statistics(self) -> Statistics:
        """Of the rows."""
        return run_statistics(self.scores)

    @property
    def num_found(self) -> int:
        """Images that have their rows."""
        return len(set(self.scores["image_id"].to_pylist()))

    @property
    def num_wanted(self) -> int:
        """Images of the run's image set."""
        return int(self.header["data"]["num_images"])

    @property
    def finished(self) -> bool:
        """Whether every image has its rows."""
        return self.header["status"] == "complete" and self.num_found >= self.num_wanted

    @functools.cached_property
    def _class_names(self) -> dict[int, str]:
        """The best name of each class that has one: by images' labels, snapshots, checkpoint."""
        labels = self.scores.select(["label", "label_name"]).group_by(["label", "label_name"])
        found = {
            row["label"]: row["label_name"]
            for row in labels.aggregate([]).to_pylist()
            if row["label_name"]
        }
        if has_snapshots(self.path):
            found |= read_class_names(self.path)
        model = self.config.model.model
        found |= _checkpoint_names(model, self.header["model"].get("num_classes"))
        counts = Counter(found.values())  # ImageNet has two cranes
        return {
            index: name if counts[name] == 1 else f"{name} ({index})"
            for index, name in found.items()
        }

    def class_name(self, index: int | None) -> str:
        """Name a class: by the classifier, else by its images' label, else by its number."""
        return "" if index is None else self._class_names.get(index, f"class {index}")

    def pixel_scale(self) -> tuple[list[float], list[float]]:
        """Return the mean and std of the space where heatmap and image meet; 0 and 1 are pixels.

        Only AX in the released score space adds its heatmaps to normalised images.
        """
        model = self.header["model"]
        if self.is_gax or model.get("mean") is None or self.method.score_space != "released":
            return [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]
        return list(model["mean"]), list(model["std"])

    def heatmaps(self, rows: list[int]) -> np.ndarray:
        """Read stored heatmaps, [N, H, W, 3] in float32.

        Raises:
            UserError: one is missing or damaged.
        """
        if not (self.path / "heatmaps.zarr").exists():
            raise UserError(
                f"{self.path}/heatmaps.zarr is missing, but the scores name heatmaps in it: "
                "restore it, or compute the run again"
            )
        found = read_heatmaps(self.path, rows).astype(np.float32)
        for row, heatmap in zip(rows, found, strict=True):
            if not np.isfinite(heatmap).all():
                raise UserError(
                    f"{self.path}/heatmaps.zarr is damaged (row {row} is missing): restore it, or "
                    "compute the run again"
                )
        return found


def load_runs(paths: tuple[Path, ...], *, data: str | None = None) -> list[StoredRun]:
    """Read several runs; each gets a name of its own.

    Args:
        paths: their folders.
        data: where their images are now, if they were moved.

    Raises:
        UserError: a run is missing, damaged or empty, or given twice.
    """
    whole = [path.resolve() for path in paths]
    if not whole:
        raise UserError("give the folder of at least one run, such as: gaxjax report RUN")
    for path in whole:
        if whole.count(path) > 1:
            raise UserError(f"{path} is given twice: give each run once")
    names = [path.name for path in whole]
    names = [
        f"{path.parent.name}/{path.name}" if names.count(path.name) > 1 else path.name
        for path in whole
    ]
    names = [
        name if names.count(name) == 1 else str(path)
        for path, name in zip(whole, names, strict=True)
    ]
    keys: list[str] = []
    for name in names:
        key = re.sub(r"[^A-Za-z0-9_]+", "-", name).strip("-")[-60:] or "run"
        number, free = 1, key
        while free in keys:
            number += 1
            free = f"{key}-{number}"
        keys.append(free)
    return [
        replace(load_run(path, data=data), name=name, key=key)
        for path, name, key in zip(whole, names, keys, strict=True)
    ]


def load_run(path: Path, *, data: str | None = None) -> StoredRun:
    """Read one run, under its folder's name.

    Raises:
        UserError: it is missing, damaged, or holds no scores yet.
    """
    header = read_header(path)
    missing = [key for key, kind in _NEEDED.items() if not isinstance(header.get(key), kind)]
    if missing or not {"name", "num_images"} <= header["data"].keys():
        raise UserError(
            f"{path}/run.json is damaged (it lacks {missing[0] if missing else 'data'}): restore "
            "it or start anew"
        )
    config_type: Any = AxRunConfig if header["command"] == "ax" else RunConfig
    try:
        config = from_dict(config_type, header["config"])
    except TypeError as error:
        raise UserError(
            f"{path}/run.json is damaged (config: {error}): restore it or start anew"
        ) from None
    if isinstance(config, RunConfig) and has_snapshots(path):  # they may have come later
        asked = read_about(read_snapshots(path)).get("asked", {})
        config = replace(config, snapshots=from_dict(SnapshotConfig, asked))
    scores = read_scores(path)
    if not len(scores):
        raise UserError(f"{path} holds no scores yet: give its command again, to go on, first")
    return StoredRun(path, path.name, "run", header, config, scores, data)


def _checkpoint_names(model: str, num_classes: int | None) -> dict[int, str]:
    """Read the class names beside a checkpoint's weights, where they are; they only decorate."""
    try:
        names = json.loads((Path(model) / "gaxjax.json").read_text())["metadata"]["class_names"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    fits = isinstance(names, list) and len(names) == num_classes
    return dict(enumerate(map(str, names))) if fits else {}


# --- The images, for small pictures only ---------------------------------------------------------

Images = Callable[[str], HostImage | None]
"""Gives the image with an id, or None where its file is not there any more."""


def images_of(run: StoredRun) -> tuple[Images, str | None]:
    """Open a run's images; also return a line for the reader where they cannot be shown."""
    reasons = []
    for place in filter(None, (run.data, run.config.data.data)):
        config = replace(run.config.data, data=place)
        try:
            found = open_images(config, num_classes=run.header["model"].get("num_classes"))
        except UserError as error:
            reasons.append(str(error))
            continue
        if found.fingerprint == run.header["data"].get("fingerprint"):
            break
        reasons.append(f"{place} holds others than the run had")
    else:
        why = "; ".join(dict.fromkeys(reasons))
        return (lambda _: None), f"Its images cannot be shown: {why}. Say by --data where they are"

    def load(image_id: str) -> HostImage | None:
        try:
            return found.read(image_id)
        except UnreadableImageError:
            return None

    return load, None


# --- The command that makes the run again --------------------------------------------------------


def command_line(run: StoredRun) -> str:
    """Rebuild the command from the stored settings; flags at their defaults are left out.

    Example:
        >>> command_line(load_run(Path("gax-run")))
    """
    config = run.config
    presets: dict[Any, Any] = PRESETS if run.is_gax else AX_PRESETS
    words = ["gaxjax", run.header["command"]]
    for section in fields(config):
        value = getattr(config, section.name)
        if not is_dataclass(value):
            words += _flag(section.name, value, section.default)
            continue
        default = presets[config.preset] if section.name in ("gax", "ax") else type(value)
        for setting in fields(value):
            usual = getattr(default, setting.name, setting.default)
            words += _flag(setting.name, getattr(value, setting.name), usual)
    return shlex.join([*words, "--output", str(run.path)])


def _flag(name: str, value: Any, default: Any) -> list[str]:
    if value == default or value is None:
        return []
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    if isinstance(value, tuple):
        return [f"--{flag}", *map(str, value)]
    text = str(value)
    return [f"--{flag}={text}"] if text.startswith("-") else [f"--{flag}", text]


def of_method(scores: pa.Table, method: MethodStatistics) -> Bool[np.ndarray, " N"]:
    """Tell which rows of a score table belong to one method, layer and operation."""
    return (
        (texts(scores, "method") == method.method)
        & (texts(scores, "layer") == method.layer)
        & (texts(scores, "operation") == method.operation)
    )


def texts(scores: pa.Table, name: str) -> np.ndarray:
    """Return a column of text as Python objects, None where it is null."""
    return np.array(scores[name].to_pylist(), object)


def numbers(scores: pa.Table, name: str) -> Float[np.ndarray, " N"]:
    """Return a column of numbers in float64, NaN where it is null."""
    return scores[name].cast(pa.float64()).to_numpy()
