"""The paper's slider window (Fig. 5A) and animation: how one image's heatmap grew."""

import os
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gaxjax.common import StepProgress, UserError
from gaxjax.report.figures.style import cut, styled
from gaxjax.report.film import Film, Frame
from gaxjax.report.pictures import augmented
from gaxjax.results import CURVE, DIVERGING, LABEL, NOW, QUIET, TARGET, abs_max, bare, draw_channels

__all__ = ["FILM_SUFFIXES", "lay_out", "save_film", "show_film"]

FILM_SUFFIXES = (".gif", ".mp4", ".png")
_FRAMES_PER_SECOND = 5
_DPI = 100  # even numbers of pixels, which H.264 wants
_SIZE = (11.2, 6.4)  # inches


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
        shown = film.image
        if shown is None:
            plain.text(0.5, 0.5, "not available", ha="center", transform=plain.transAxes)
            shown = np.full(film.frames[0].heatmap.shape, 255, np.uint8)
        plain.imshow(shown)
        sign = "+" if film.operation == "sum" else "×"
        bare(mixed, f"image {sign} heatmap, rescaled")
        self.mixed = mixed.imshow(shown)
        # One scale for the whole film, or growing would not show.
        largest = max(abs_max(frame.heatmap) for frame in film.frames)
        self.channels = draw_channels(channels, film.frames[0].heatmap, largest)
        bare(change, "change since the last snapshot")
        self.change = change.imshow(film.frames[0].heatmap.mean(-1), cmap=DIVERGING)
        alone = len(film.frames) == 1
        change.set_visible(not alone)
        self.abs_max = channels[1].set_xlabel("", fontsize=9)
        self.change_abs_max = change.set_xlabel("", fontsize=9)
        bars = ((0.17, 0.4, self.channels[0]), (0.79, 0.16, self.change))
        for left, width, drawn in bars[: 1 if alone else 2]:
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
        if film.image is not None:
            self.mixed.set_data(augmented(film.image, frame.heatmap, film.operation))
        limit = abs_max(frame.heatmap)
        for drawn, channel in zip(self.channels, np.moveaxis(frame.heatmap, -1, 0), strict=True):
            drawn.set_data(channel)
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
            axis.text(0.02, row, cut(name, 24), va="center", fontsize=9)
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
        UserError: there is no display, or no toolkit that opens windows.
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
            f"no window can be opened here ({error}): give --save FILE.gif, .mp4 or .png, or on a "
            "desktop install Tk or `pip install pyqt6`"
        ) from None
    with styled():
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

    if path.suffix == ".mp4":
        _find_ffmpeg(path)
    places = [film.final] if path.suffix == ".png" else list(range(len(film.frames)))
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".gaxjax-") as folder:
            temporary = Path(folder) / path.name
            writer: Any = {".gif": PillowWriter, ".mp4": FFMpegWriter}.get(path.suffix)
            writer = writer and writer(fps=_FRAMES_PER_SECOND)
            figure = Figure(figsize=_SIZE, dpi=_DPI)
            saving = writer.saving(figure, str(temporary), _DPI) if writer else nullcontext()
            with styled(), StepProgress("Drawing", len(places), "frames") as progress, saving:
                board = _Board(figure, film)
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
    except subprocess.CalledProcessError as error:
        raise UserError(f"ffmpeg could not write {path} ({error}): save .gif") from None
    return len(places)


def _find_ffmpeg(path: Path) -> None:
    """Have matplotlib use the machine's ffmpeg, else that of the video extra."""
    import matplotlib
    from matplotlib.animation import FFMpegWriter

    if FFMpegWriter.isAvailable():
        return
    try:
        import imageio_ffmpeg
    except ModuleNotFoundError:
        raise UserError(
            f"writing {path} needs ffmpeg, which is not here: install it, or gaxjax with its "
            "video extra, or save .gif"
        ) from None
    matplotlib.rcParams["animation.ffmpeg_path"] = imageio_ffmpeg.get_ffmpeg_exe()
