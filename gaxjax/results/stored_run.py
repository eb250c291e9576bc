"""A stored run, opened once: its header, settings, scores, snapshots and heatmaps.

Report, verification, statistics and notebooks read a run's folder through this alone.
"""

import dataclasses
import functools
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float

from gaxjax.common import AnyPath, UserError, path_to_read, spelt_out
from gaxjax.config import (
    AxConfig,
    AxRunConfig,
    GaxConfig,
    GaxRunConfig,
    Setting,
    SnapshotConfig,
    as_text,
    from_dict,
    with_setting,
)
from gaxjax.data import (
    HostImage,
    SourceGoneError,
    UnreadableImageError,
    find_image,
    reopen_images,
)
from gaxjax.results.class_names import class_names
from gaxjax.results.image_list import changes_since
from gaxjax.results.method_statistics import Statistics
from gaxjax.results.reading import heatmaps_of, mend, read_scores
from gaxjax.results.run_header import read_header
from gaxjax.results.snapshots import has_snapshots, read_snapshot_about, read_snapshots
from gaxjax.results.statistics import run_statistics
from gaxjax.results.sweep import SweepSummary, run_sweep

__all__ = ["Run", "RunImages", "images_of", "open_run", "open_runs"]


@dataclass(frozen=True, repr=False)
class Run:
    """A finished or unfinished run's folder, as `open_run` opens it.

    What is read is read once, when it is first asked for; a run that goes on is opened anew.

    Attributes:
        path: the folder.
        header: run.json: settings, fingerprints of model and images, versions, sessions.
        data: where its images are now, if they were moved.
        name: the folder's name, with its parent's where two runs of a report would share it.
        key: the name made fit for files and HTML ids, another one for each run of a report.

    Example:
        >>> run = gaxjax.open_run("run")  # doctest: +SKIP
        >>> run  # doctest: +SKIP
        Run(run: gax of small_resnet on digits, 200 of 200 images: 192 reached, 8 step_limit)
        >>> frame = run.scores.to_pandas()  # doctest: +SKIP
        >>> run.heatmap("digits/0042").shape  # doctest: +SKIP
        (32, 32, 3)
    """

    path: AnyPath
    header: dict[str, Any]
    data: str | None = None
    name: str = ""
    key: str = "run"

    def __repr__(self) -> str:
        told = f"{self.name}: {self.header['command']} of {self.header['model'].get('name', '?')}"
        told += f" on {self.header['data']['name']}"
        try:
            counts = Counter(self.scores["outcome"].to_pylist()).most_common()
        except UserError:
            return f"Run({told}, with damaged scores)"
        said = ", ".join(f"{count:,} {outcome}" for outcome, count in counts) or "none yet"
        return f"Run({told}, {self.num_found:,} of {self.num_wanted:,} images: {said})"

    # --- Settings --------------------------------------------------------------------------------

    @functools.cached_property
    def config(self) -> GaxRunConfig | AxRunConfig:
        """All settings; of the snapshots those that were last asked for.

        Raises:
            UserError: run.json or the snapshots' table is damaged.
        """
        config_type: Any = AxRunConfig if self.header["command"] == "ax" else GaxRunConfig
        try:
            config: GaxRunConfig | AxRunConfig = from_dict(config_type, self.header["config"])
        except UserError as error:
            raise UserError(
                f"{self.path}/run.json does not fit this version or is damaged (config: {error}): "
                "restore it or start anew"
            ) from None
        if isinstance(config, GaxRunConfig) and self.snapshots is not None:  # they may come later
            asked = read_snapshot_about(self.snapshots).get("asked", {})
            config = replace(config, snapshots=from_dict(SnapshotConfig, asked))
        return config

    @property
    def classes(self) -> dict[str, Any]:
        """The model's `num_classes` and `class_names`, None where an earlier version kept none."""
        model = self.header["model"]
        return {name: model.get(name) for name in ("num_classes", "class_names")}

    @property
    def is_gax(self) -> bool:
        """Whether heatmaps were optimised, not taken from existing methods."""
        return isinstance(self.config, GaxRunConfig)

    @property
    def method(self) -> GaxConfig | AxConfig:
        """How the heatmaps were made and scored; of AX's methods those that suit the network."""
        if isinstance(self.config, GaxRunConfig):
            return self.config.gax
        made = self.header["identity"]["methods"]
        return dataclasses.replace(self.config.ax, methods=tuple(made))

    @property
    def target(self) -> float | None:
        """The score that GAX aimed at; None for AX."""
        return self.config.gax.target if isinstance(self.config, GaxRunConfig) else None

    @functools.cached_property
    def settings(self) -> tuple[Setting, ...]:
        """The settings of a sweep, in their order; () without one."""
        return self.config.sweep.settings if isinstance(self.config, GaxRunConfig) else ()

    @functools.cached_property
    def methods(self) -> dict[str | None, GaxConfig | AxConfig]:
        """How the heatmaps of each setting were made, by its text in the rows; by None without."""
        method = self.method
        if not isinstance(method, GaxConfig) or not self.settings:
            return {None: method}
        return {as_text(one): with_setting(method, one) for one in self.settings}

    def target_of(self, setting: str | None) -> float | None:
        """Return the score that GAX aimed at with a row's setting; None for AX."""
        method = self.methods.get(setting, self.method)
        return method.target if isinstance(method, GaxConfig) else None

    @property
    def keeps_heatmaps(self) -> bool:
        """Whether the run was to store heatmaps."""
        return self.config.store.heatmaps != "none"

    # --- Scores ----------------------------------------------------------------------------------

    @functools.cached_property
    def scores(self) -> pa.Table:
        """All committed rows, in the order in which they were; columns as in `store.SCHEMA`.

        Raises:
            UserError: they are damaged.
        """
        return read_scores(self.path)

    def require_scores(self) -> None:
        """Refuse a run that has none yet.

        Raises:
            UserError: it has none, or they are damaged.
        """
        if not len(self.scores):
            raise UserError(
                f"{self.path} holds no scores yet: give its command again, to go on, first"
            )

    @functools.cached_property
    def statistics(self) -> Statistics:
        """How far correct and wrong predictions' scores lie apart, per method."""
        return run_statistics(self.scores)

    @functools.cached_property
    def sweep(self) -> SweepSummary | None:
        """What each setting came to, and which to take; None without a sweep."""
        if not self.settings or not isinstance(self.config, GaxRunConfig):
            return None
        known = [session.get("seconds") for session in self.header["sessions"]]
        seconds = sum(filter(None, known)) if known and all(known) else None
        return run_sweep(self.scores, self.config.gax, self.settings, seconds)

    @property
    def num_found(self) -> int:
        """Images that have their rows."""
        return len(self.scores["image_id"].unique())

    @property
    def num_wanted(self) -> int:
        """Images of the run's image set."""
        return int(self.header["data"]["num_images"])

    @property
    def finished(self) -> bool:
        """Whether every image has its rows."""
        return self.header["status"] == "complete" and self.num_found >= self.num_wanted

    # --- Heatmaps --------------------------------------------------------------------------------

    def heatmaps(self, rows: Sequence[int]) -> Float[np.ndarray, "N H W 3"]:
        """Read heatmaps by their `heatmap_row` in the scores, in float32.

        Raises:
            UserError: one is missing or damaged.
        """
        folder = self.path / "heatmaps.zarr"
        if not folder.exists():
            raise UserError(
                f"{folder} is missing, but the scores name heatmaps in it: {mend(self.path)}"
            )
        return heatmaps_of(self.path, rows, self.scores).astype(np.float32)

    def heatmap(
        self,
        image: str,
        method: str | None = None,
        layer: str | None = None,
        setting: str | None = None,
    ) -> Float[np.ndarray, "H W 3"]:
        """Read one image's heatmap, in float32.

        Args:
            image: the image's id, or an ending that only one image has.
            method: whose heatmap, where an AX run has several; operations share theirs.
            layer: of layer_grad_cam.
            setting: of a sweep, as in the rows: `learning-rate=0.1`.

        Raises:
            UserError: there is no such image, none or more than one such heatmap, or it is damaged.

        Example:
            >>> run.heatmap("val/0007.png", "layer_grad_cam", "conv1")  # doctest: +SKIP
        """
        image_id = find_image(image, self.scores["image_id"].unique().to_pylist(), self.path)
        mine = self.scores.filter(pc.equal(self.scores["image_id"], image_id))
        names = ["heatmap_row", "method", "layer", "setting"]
        found = {
            row["heatmap_row"]: " ".join(filter(None, (row[name] for name in names[1:])))
            for row in mine.select(names).to_pylist()
            if row["heatmap_row"] is not None
            and method in (None, row["method"])
            and layer in (None, row["layer"])
            and setting in (None, row["setting"])
        }
        if not found:
            wanted = "".join(f" of {word}" for word in (method, layer, setting) if word)
            outcomes = ", ".join(mine["outcome"].unique().to_pylist())
            raise UserError(f"{image_id} has no heatmap{wanted} in {self.path} ({outcomes})")
        if len(found) > 1:
            raise UserError(
                f"{image_id} has {len(found)} heatmaps in {self.path}: choose one by "
                f"{'setting' if self.settings else 'method and layer'} "
                f"({', '.join(found.values())})"
            )
        heatmap: np.ndarray = self.heatmaps(list(found))[0]
        return heatmap

    def pixel_scale(self) -> tuple[list[float], list[float]]:
        """Return the mean and std of the space where heatmap and image meet; 0 and 1 are pixels.

        Only AX in the released score space adds its heatmaps to normalised images.
        """
        model = self.header["model"]
        if self.is_gax or model.get("mean") is None or self.method.score_space != "released":
            return [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]
        return list(model["mean"]), list(model["std"])

    @functools.cached_property
    def snapshots(self) -> pa.Table | None:
        """Rows of the heatmaps along the way, as of `read_snapshots`; None where none were kept.

        Raises:
            UserError: they are damaged.
        """
        return read_snapshots(self.path) if has_snapshots(self.path) else None

    # --- Classes ---------------------------------------------------------------------------------

    @functools.cached_property
    def _class_names(self) -> dict[int, str]:
        model = self.config.model.model, self.header["model"].get("num_classes")
        return class_names(self.scores, self.snapshots, *model)

    def class_name(self, index: int | None) -> str:
        """Name a class: by the classifier, else by its images' label, else by its number."""
        return "" if index is None else self._class_names.get(index, f"class {index}")


def open_run(path: AnyPath | str, *, data: str | None = None) -> Run:
    """Open a run of `gaxjax gax` or `gaxjax ax`, finished or not.

    Args:
        path: its folder.
        data: where its images are now, if they were moved.

    Raises:
        UserError: there is no run, or run.json is damaged.

    Example:
        >>> run = gaxjax.open_run("run")  # doctest: +SKIP
        >>> frame = run.scores.to_pandas()  # doctest: +SKIP
        >>> heatmaps = run.heatmaps([0, 1])  # doctest: +SKIP
    """
    path = path_to_read(path, "run", urls=True)
    return _open(path, data, path.name, "run")


def open_runs(paths: Sequence[AnyPath], *, data: str | None = None) -> list[Run]:
    """Open several runs for one report; each gets a name of its own, and has scores.

    Args:
        paths: their folders.
        data: where their images are now, if they were moved.

    Raises:
        UserError: a run is missing, damaged or empty, or given twice.
    """
    whole = [path_to_read(path, "run", urls=True).resolve() for path in paths]
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
    runs = [
        _open(path, data, name, key) for path, name, key in zip(whole, names, keys, strict=True)
    ]
    for run in runs:
        run.require_scores()
    return runs


def _open(path: AnyPath, data: str | None, name: str, key: str) -> Run:
    data = data and spelt_out(data, "--data")
    return Run(path, read_header(path), data, name, key)


# --- The images, for small pictures only ---------------------------------------------------------

RunImages = Callable[[str], HostImage | None]
"""Gives the image with an id, or None where its file is not there any more."""


def images_of(run: Run) -> tuple[RunImages, str | None]:
    """Open a run's images; also return a line for the reader where they cannot be shown."""
    reasons = []
    for place in filter(None, (run.data, run.config.data.data)):
        config = replace(run.config.data, data=place)
        try:
            found = reopen_images(config, run.header["data"]["fingerprint"], **run.classes)
        except UserError as error:
            reasons.append(str(error))
            continue
        changes = changes_since(run.path, run.header, found, run.header["config"])
        if changes is not None:
            found = changes.before
        if found.fingerprint == run.header["data"]["fingerprint"]:
            break
        reasons.append(f"{place} holds others than the run had")
    else:
        why = "; ".join(dict.fromkeys(reasons))
        return (lambda _: None), f"Its images cannot be shown: {why}. Say by --data where they are"

    def load(image_id: str) -> HostImage | None:
        try:
            return found.read(image_id)
        except (UnreadableImageError, SourceGoneError):
            return None

    return load, None
