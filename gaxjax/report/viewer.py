"""The slider of the paper's Fig. 5A: how one image's heatmap grew, from stored snapshots."""

import os
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from jaxtyping import Float

from gaxjax.config import Operation, RunConfig, from_dict
from gaxjax.data import UnreadableImageError, open_images
from gaxjax.errors import UserError, nearest
from gaxjax.progress import TrainingProgress
from gaxjax.report.panels import (
    CURVE,
    DIVERGING,
    LABEL,
    NOW,
    QUIET,
    TARGET,
    abs_max,
    augmented,
    bare,
    draw_channels,
)
from gaxjax.snapshots import (
    has_snapshots,
    read_class_names,
    read_snapshot_heatmaps,
    read_snapshots,
    read_summary,
)
from gaxjax.store import read_header, read_heatmaps, read_scores

__all__ = ["SUFFIXES", "Film", "Frame", "lay_out", "read_film", "save_film", "show_film"]

SUFFIXES = (".gif", ".mp4", ".png")
_FRAMES_PER_SECOND = 5
_DPI = 100  # even numbers of pixels, which H.264 wants
_SIZE = (11.2, 6.4)  # inches


@dataclass(frozen=True)
class Frame:
    """One snapshot.

    Attributes:
        step: updates behind it.
        co_score: verified.
        heatmap: [H, W, 3], float32 in [-1, 1].
        top: number, name and probability of the augmented image's most probable classes.
    """

    step: int
    co_score: float
    heatmap: Float[np.ndarray, "H W 3"]
    top: tuple[tuple[int, str, float], ...]


@dataclass(frozen=True)
class Film:
    """One image's way, as it is shown.

    Attributes:
        image_id: the image's.
        label: its groundtruth class.
        label_name: that class's name, or its number.
        image: [H, W, 3], float32 in [0, 1].
        operation: how the heatmap meets it.
        target: the CO score aimed at.
        curve: scores after t updates, as measured while optimising.
        frames: snapshots by step; the stored heatmap alone where there are none.
        final: place of the stored heatmap among the frames.
        note: a line for the user, where there are no snapshots.
    """

    image_id: str
    label: int
    label_name: str
    image: Float[np.ndarray, "H W 3"]
    operation: Operation
    target: float
    curve: Float[np.ndarray, " T"]
    frames: tuple[Frame, ...]
    final: int
    note: str | None = None


def read_film(run: Path, image: str, *, data: str | None = None) -> Film:
    """Read one image's snapshots, or its final heatmap where it has none.

    Args:
        run: folder of a GAX run.
        image: the image's id, or an ending that only one image has.
        data: where the run's images are now, if they were moved.

    Raises:
        UserError: no such image, or several; it has no heatmap; the run is not of `gaxjax gax`;
            something is missing or damaged.
    """
    header = read_header(run)
    if header.get("command") != "gax":
        raise UserError(f"{run} is a run of gaxjax {header.get('command')}: view shows GAX runs")
    config = from_dict(RunConfig, header["config"])
    if data is not None:
        config = replace(config, data=replace(config.data, data=data))
    # Without the curves, which may be long, to find the image.
    found = read_scores(run, columns=["image_id", "outcome", "steps"])
    image_id = _find(image, found["image_id"].to_pylist(), run)
    scores = read_scores(run)
    (row,) = scores.filter(pc.equal(scores["image_id"], image_id)).to_pylist()
    names = read_class_names(run) if has_snapshots(run) else {}
    name = names.get(row["label"]) or row["label_name"] or str(row["label"])
    frames = _snapshots(run, image_id, names)
    note = None
    if not frames:
        optimised = found.filter(pc.is_valid(found["steps"]))["image_id"].to_pylist()
        if row["heatmap_row"] is None:
            raise UserError(f"{image_id} has no heatmap in {run} (outcome {row['outcome']})")
        note = _why_none(run, image_id, sorted(optimised).index(image_id) + 1)
        heatmap = read_heatmaps(run, [row["heatmap_row"]])[0].astype(np.float32)
        top = (row["label"], name, row["probability_after"])
        frames = (Frame(row["steps"], row["co_score"], heatmap, (top,)),)
    images = open_images(config.data, num_classes=header["model"]["num_classes"])
    positions = {record.image_id: i for i, record in enumerate(images.records)}
    if image_id not in positions:
        raise UserError(f"{image_id} is no longer in {config.data.data}: give --data")
    try:
        pixels = images.load(positions[image_id])
    except UnreadableImageError as error:
        raise UserError(f"{image_id} can no longer be read: {error}") from None
    return Film(
        image_id,
        row["label"],
        name,
        pixels.astype(np.float32) / 255,
        config.gax.operation,
        config.gax.target,
        np.array(row["curve"], np.float32),
        frames,
        next(i for i, frame in enumerate(frames) if frame.step == row["steps"]),
        note,
    )


def _find(image: str, image_ids: list[str], run: Path) -> str:
    if image in image_ids:
        return image
    ending = [image_id for image_id in image_ids if image and image_id.endswith(image)]
    if len(ending) > 1:
        raise UserError(
            f"{len(ending)} images of {run} end in {image!r}, such as {ending[0]} and {ending[1]}: "
            "give more of the name"
        )
    if not ending:
        names = [Path(image_id).name for image_id in image_ids]
        hint = nearest(image, [*image_ids, *names]) or (
            f" (one is {image_ids[0]})" if image_ids else ""
        )
        raise UserError(f"no image {image!r} in {run}{hint}")
    return ending[0]


def _snapshots(run: Path, image_id: str, names: dict[int, str]) -> tuple[Frame, ...]:
    if not has_snapshots(run):
        return ()
    table = read_snapshots(run)
    rows = table.filter(pc.equal(table["image_id"], image_id)).to_pylist()
    if not rows:
        return ()
    heatmaps = read_snapshot_heatmaps(run, [row["row"] for row in rows]).astype(np.float32)
    return tuple(
        Frame(
            row["step"],
            row["co_score"],
            heatmap,
            tuple(
                (number, names.get(number, f"class {number}"), probability)
                for number, probability in zip(
                    row["top_classes"], row["top_probabilities"], strict=True
                )
            ),
        )
        for row, heatmap in zip(rows, heatmaps, strict=True)
    )


def _why_none(run: Path, image_id: str, place: int) -> str:
    reason = read_summary(run).left_out.get(image_id) if has_snapshots(run) else None
    if reason:
        return f"{image_id} has no snapshots, as {reason}: this is its final heatmap"
    return (
        f"{image_id} has no snapshots, so this is its final heatmap: give the run's command again "
        f"with --snapshots {place} to have them"
    )


# -- drawing ------------------------------------------------------------------------------------


class _Board:
    """The panels on a figure, drawn once and then changed from frame to frame."""

    def __init__(self, figure: Any, film: Film) -> None:
        self.figure, self.film = figure, film
        figure.suptitle(
            f"{film.image_id} · {film.label_name}", x=0.02, y=0.975, ha="left", fontsize=12
        )
        axes = figure.subplots(
            2,
            4,
            gridspec_kw={
                "left": 0.02, "right": 0.985, "top": 0.87, "bottom": 0.2,
                "wspace": 0.16, "hspace": 0.28, "width_ratios": [1, 1, 1, 1.12],
            },
        )  # fmt: skip
        (plain, mixed, self.bars, curve), (*channels, change) = axes
        bare(plain, "image")
        plain.imshow(film.image)
        sign = "+" if film.operation == "sum" else "×"
        bare(mixed, f"image {sign} heatmap, rescaled")
        self.mixed = mixed.imshow(film.image)
        self.channels = draw_channels(channels, film.frames[0].heatmap, 1.0)
        bare(change, "change since the last snapshot")
        self.change = change.imshow(film.frames[0].heatmap.mean(-1), cmap=DIVERGING)
        self.abs_max = channels[1].set_xlabel("", fontsize=9)
        self.change_abs_max = change.set_xlabel("", fontsize=9)
        for left, width, drawn in ((0.17, 0.4, self.channels[0]), (0.79, 0.16, self.change)):
            bar = figure.colorbar(
                drawn, cax=figure.add_axes((left, 0.115, width, 0.015)), orientation="horizontal"
            )
            bar.ax.tick_params(labelsize=8)
            bar.ax.locator_params(nbins=5 if width > 0.2 else 2)
        self._draw_curve(curve)
        self.status = figure.text(0.985, 0.975, "", ha="right", va="top", fontsize=12)

    def show(self, place: int) -> None:
        """Change everything to a frame."""
        frame, film = self.film.frames[place], self.film
        self.mixed.set_data(augmented(film.image, frame.heatmap, film.operation))
        limit = abs_max(frame.heatmap)
        for drawn, channel in zip(self.channels, np.moveaxis(frame.heatmap, -1, 0), strict=True):
            drawn.set_data(channel)
            drawn.set_clim(-limit, limit)
        self.abs_max.set_text(f"abs max {limit:.3f}")
        change = self._change(place)
        limit = abs_max(change) if place else 1.0
        self.change.set_data(change)
        self.change.set_clim(-limit, limit)
        self.change_abs_max.set_text(
            f"mean of R, G, B; abs max {limit:.3f}" if place else "no earlier snapshot"
        )
        self.now.set_data([frame.step], [frame.co_score])
        self.status.set_text(f"step {frame.step} · CO score {frame.co_score:.2f}")
        self._draw_bars(frame)
        self.figure.canvas.draw_idle()

    def _change(self, place: int) -> np.ndarray:
        frames = self.film.frames
        before = frames[max(place - 1, 0)]
        return np.asarray((frames[place].heatmap - before.heatmap).mean(-1))

    def _draw_curve(self, axis: Any) -> None:
        film = self.film
        axis.set_title("CO score by step", fontsize=10)
        axis.axhline(film.target, color=TARGET, linewidth=1, linestyle="--")
        axis.plot(film.curve, color=CURVE, linewidth=1.6)
        axis.annotate(
            f"target {film.target:g}",
            (0.02, film.target),
            xycoords=axis.get_yaxis_transform(),
            xytext=(0, 2),
            textcoords="offset points",
            fontsize=8,
        )
        (self.now,) = axis.plot([], [], "o", color=NOW, markersize=7)
        axis.set_ylim(top=1.12 * max(film.target, float(np.nanmax(film.curve)), 1e-6))
        axis.set_xlim(-0.04 * len(film.curve), 1.04 * len(film.curve))
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)

    def _draw_bars(self, frame: Frame) -> None:
        axis = self.bars
        axis.clear()
        axis.set_title("most probable" if len(frame.top) > 1 else "probability", fontsize=10)
        for row, (number, name, probability) in enumerate(frame.top):
            color = LABEL if number == self.film.label else QUIET
            axis.barh(row, probability, color=color, height=0.8)
            axis.text(0.02, row, _short(name), va="center", fontsize=9)
            axis.text(0.99, row, f"{probability:.3f}", va="center", ha="right", fontsize=9)
        axis.set_xlim(0, 1)
        axis.set_ylim(max(len(frame.top), 5) - 0.5, -0.5)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_visible(False)


def lay_out(figure: Any, film: Film) -> Any:
    """Draw a film's final state on a figure, with a slider below where there are several frames.

    Args:
        figure: a matplotlib figure, empty.
        film: what to show.

    Returns:
        The slider, to be kept as long as the figure, or None.
    """
    from matplotlib.widgets import Slider

    board = _Board(figure, film)
    board.show(film.final)
    if len(film.frames) == 1:
        return None
    steps = [frame.step for frame in film.frames]
    slider = Slider(
        figure.add_axes((0.08, 0.025, 0.82, 0.03)),
        "step",
        steps[0],
        steps[-1],
        valinit=steps[film.final],
        valstep=steps,
        valfmt="%d",
        color=CURVE,
    )
    slider.on_changed(lambda step: board.show(steps.index(int(step))))
    figure.canvas.mpl_connect("key_press_event", partial(_on_key, slider, steps))
    return slider


def _on_key(slider: Any, steps: Sequence[int], event: Any) -> None:
    """Left and right arrows go to the neighbouring snapshot."""
    move = {"left": -1, "right": 1}.get(event.key)
    if move is not None:
        place = steps.index(int(slider.val)) + move
        slider.set_val(steps[min(max(place, 0), len(steps) - 1)])


def show_film(film: Film) -> None:
    """Open a window with the slider; returns when it is closed.

    Raises:
        UserError: there is no display.
    """
    import matplotlib
    from matplotlib.backends.registry import BackendFilter, backend_registry

    try:
        import matplotlib.pyplot as plt

        backend = str(matplotlib.get_backend()).lower()
        if backend in backend_registry.list_builtin(BackendFilter.NON_INTERACTIVE):
            raise ImportError(f"matplotlib draws by {backend}")
        figure = plt.figure(film.image_id, figsize=_SIZE)
    except ImportError as error:
        raise UserError(
            f"no window can be opened here ({error}): give --save FILE.gif, .mp4 or .png"
        ) from None
    slider = lay_out(figure, film)
    plt.show()
    del slider


def save_film(film: Film, path: Path) -> int:
    """Write a film: all frames to .gif or .mp4, the final state to .png; whole or not at all.

    Returns:
        The number of frames written.

    Raises:
        UserError: ffmpeg is missing for an .mp4, or the file cannot be written.
    """
    from matplotlib.animation import FFMpegWriter, PillowWriter
    from matplotlib.figure import Figure

    if path.suffix == ".mp4" and not FFMpegWriter.isAvailable():
        raise UserError(f"writing {path} needs ffmpeg, which is not here: install it, or save .gif")
    board = _Board(Figure(figsize=_SIZE, dpi=_DPI), film)
    places = [film.final] if path.suffix == ".png" else list(range(len(film.frames)))
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".gaxjax-") as folder:
            temporary = Path(folder) / path.name
            writer: Any = {".gif": PillowWriter, ".mp4": FFMpegWriter}.get(path.suffix)
            writer = writer and writer(fps=_FRAMES_PER_SECOND)
            saving = writer.saving(board.figure, str(temporary), _DPI) if writer else nullcontext()
            with TrainingProgress("Drawing", len(places), "frames") as progress, saving:
                for count, place in enumerate(places, start=1):
                    board.show(place)
                    if writer:
                        writer.grab_frame()
                    else:
                        board.figure.savefig(temporary, dpi=_DPI)
                    progress.advance(count, "")
            os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None
    return len(places)


def _short(name: str, length: int = 24) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"
