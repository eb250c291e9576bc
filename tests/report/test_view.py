"""The viewer: what it finds, draws and saves, and what a user's mistake says."""

import contextlib
import dataclasses
import io
import shutil
import subprocess
import sys

import numpy as np
import pytest
import stored_runs
import tiny
from altered_runs import edit_header
from PIL import Image
from tiny_runs import tiny_model, write_images

from gaxjax.cli import main as cli
from gaxjax.common.errors import UserError
from gaxjax.report import film as film_module
from gaxjax.report.film import read_film
from gaxjax.report.viewer import lay_out, save_film, show_film
from gaxjax.results.reading import read_heatmaps, read_scores
from gaxjax.results.snapshots import read_snapshot_heatmaps, read_snapshots


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(autouse=True, scope="module")
def _tiny_model():
    with tiny_model():
        yield


@pytest.fixture(scope="module")
def command(data, tmp_path_factory):
    """Run `gaxjax gax` with snapshots of three images; return the folder and what it said."""
    output = tmp_path_factory.mktemp("run") / "run"
    words = ["gax", "--model", "tiny", "--data", str(data), "--size", str(tiny.SIZE)]
    words += ["--max-steps", "9", "--include-misclassified", "--bias", "--slots", "4"]
    words += ["--snapshots", "3", "--snapshot-every", "1", "--output", str(output)]
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert cli.main(words) == 0
    return output, " ".join(said.getvalue().split())


@pytest.fixture(scope="module")
def run(command):
    return command[0]


@pytest.fixture(scope="module")
def rows(run):
    return sorted(read_scores(run).to_pylist(), key=lambda row: row["image_id"])


@pytest.fixture(scope="module")
def film(run):
    """The image with the most snapshots."""
    counts = read_snapshots(run)["image_id"].value_counts().to_pylist()
    return read_film(run, max(counts, key=lambda entry: entry["counts"])["values"])


def test_a_film_holds_the_stored_snapshots(run, rows, film):
    table = [row for row in read_snapshots(run).to_pylist() if row["image_id"] == film.image_id]
    assert len(film.frames) == len(table) > 2
    for frame, row in zip(film.frames, table, strict=True):
        assert (frame.step, frame.co_score) == (row["step"], row["co_score"])
        stored = read_snapshot_heatmaps(run, [row["row"]])[0]
        np.testing.assert_array_equal(frame.heatmap, stored.astype(np.float32))
        assert [number for number, _, _ in frame.top] == row["top_classes"]
        assert [name for _, name, _ in frame.top] == [str(number) for number in row["top_classes"]]
        assert [probability for _, _, probability in frame.top] == row["top_probabilities"]
    (result,) = [row for row in rows if row["image_id"] == film.image_id]
    assert film.frames[film.final].step == result["steps"]
    assert film.notes == ()


def test_an_image_is_found_by_its_unique_ending(run, rows):
    image_id = rows[0]["image_id"]
    assert read_film(run, image_id.rpartition("/")[2]).image_id == image_id
    with pytest.raises(UserError, match=r"images of .* end in 'png', such as .* give more"):
        read_film(run, "png")


def test_an_unknown_image_suggests_the_nearest(run, rows):
    image_id = rows[0]["image_id"]
    with pytest.raises(UserError, match=rf"no image .* did you mean '{image_id}'\?"):
        read_film(run, image_id + "x")
    with pytest.raises(UserError, match=r"no image '' in .* \(one is "):
        read_film(run, "")


def test_an_image_without_snapshots_shows_its_final_heatmap_and_how_to_get_them(run, rows):
    row = rows[5]
    film = read_film(run, row["image_id"])
    assert len(film.frames) == 1
    [note] = film.notes
    again = f"give the run's command again with --snapshot-images {row['image_id']} to have them"
    assert note.endswith(again)
    stored = read_heatmaps(run, [row["heatmap_row"]])[0]
    np.testing.assert_array_equal(film.frames[0].heatmap, stored.astype(np.float32))
    assert film.frames[0].top == ((row["label"], row["label_name"], row["probability_after"]),)


def test_an_image_that_was_left_out_says_why(run, rows, tmp_path, monkeypatch):
    first = rows[0]["image_id"]
    about = {"left_out": {first: "it is odd"}}
    monkeypatch.setattr(film_module, "snapshots_of", lambda _: {})
    monkeypatch.setattr(film_module, "read_snapshot_about", lambda _: about)
    assert read_film(run, first).notes == (
        f"{first} has no snapshots, as it is odd: this is its final heatmap",
    )


def test_a_gif_has_one_frame_per_snapshot(run, film, tmp_path):
    assert save_film(film, tmp_path / "film.gif") == len(film.frames)
    with Image.open(tmp_path / "film.gif") as picture:
        assert picture.n_frames == len(film.frames)
        assert picture.size == (1120, 640)
    assert [path.name for path in tmp_path.iterdir()] == ["film.gif"]


def test_a_png_is_the_final_state(film, tmp_path):
    assert save_film(film, tmp_path / "film.png") == 1
    with Image.open(tmp_path / "film.png") as picture:
        assert picture.size == (1120, 640)


def test_an_mp4_has_one_frame_per_snapshot(film, tmp_path):
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    assert save_film(film, tmp_path / "film.mp4") == len(film.frames)
    words = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(tmp_path / "film.mp4"), "-f", "null", "-"]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stderr
    assert "Video: h264" in said
    assert "1120x640" in said
    assert f"frame= {len(film.frames):4}" in said


def test_an_mp4_without_ffmpeg_is_one_clear_line(film, tmp_path, monkeypatch):
    from matplotlib.animation import FFMpegWriter

    monkeypatch.setattr(FFMpegWriter, "isAvailable", lambda: False)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(UserError, match=r"film\.mp4 needs ffmpeg, .*video extra, or save \.gif"):
        save_film(film, tmp_path / "film.mp4")
    assert list(tmp_path.iterdir()) == []


def test_the_slider_goes_from_snapshot_to_snapshot(film):
    from matplotlib.backend_bases import KeyEvent
    from matplotlib.figure import Figure

    figure = Figure()
    slider = lay_out(figure, film)
    shown = next(axis for axis in figure.axes if axis.get_title() == "heatmap, R").images[0]
    assert slider.val == film.frames[film.final].step
    for frame in film.frames:
        slider.set_val(frame.step)
        np.testing.assert_array_equal(shown.get_array(), frame.heatmap[..., 0])
    largest = max(np.abs(frame.heatmap).max() for frame in film.frames)
    assert shown.get_clim() == (-largest, largest), "one scale for all frames"
    figure.canvas.callbacks.process(
        "key_press_event", KeyEvent("key_press_event", figure.canvas, "left")
    )
    assert slider.val == film.frames[-2].step


def test_without_a_display_a_window_is_one_clear_line(film):
    import matplotlib

    matplotlib.use("Agg")
    with pytest.raises(UserError, match=r"no window can be opened here .*give --save FILE\.gif"):
        show_film(film)


def test_moved_images_are_found_by_data(run, rows, data, tmp_path):
    shutil.copytree(data, tmp_path / "moved")
    film = read_film(run, rows[0]["image_id"], data=str(tmp_path / "moved"))
    assert film.image.shape == (tiny.SIZE, tiny.SIZE, 3)
    assert film.notes == ()


def test_without_its_image_a_film_shows_the_heatmaps_alone_and_says_why(run, rows, data, tmp_path):
    copy, moved = tmp_path / "run", tmp_path / "moved"
    shutil.copytree(run, copy)
    shutil.copytree(data, moved)
    edit_header(copy, lambda header: header["config"]["data"].update(data=str(moved)))
    image_id = rows[0]["image_id"]
    lost = moved / image_id
    lost.write_bytes(b"\0" * lost.stat().st_size)
    unreadable = read_film(copy, image_id)
    assert unreadable.notes == (f"{image_id} can no longer be read",)
    assert save_film(unreadable, tmp_path / "film.gif") == len(unreadable.frames)
    lost.unlink()
    assert read_film(copy, image_id).notes == (f"{image_id} can no longer be read",)
    for other in moved.rglob("*.png"):
        other.rename(other.with_name(f"other-{other.name}"))
    [note] = read_film(copy, image_id).notes
    assert "holds others than the run had. Say by --data where they are" in note
    found = read_film(copy, image_id, data=str(data))
    assert found.notes == ()
    assert found.image is not None


def test_names_are_no_mathematics(film, tmp_path):
    hostile = dataclasses.replace(film, image_id="cost$x_{$.png", label_name="US$ or A$")
    for suffix in (".png", ".gif"):
        assert save_film(hostile, tmp_path / f"film{suffix}") > 0


def test_an_ffmpeg_that_fails_is_one_clear_line(film, tmp_path, monkeypatch):
    import matplotlib

    (tmp_path / "ffmpeg").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "ffmpeg").chmod(0o755)
    monkeypatch.setitem(matplotlib.rcParams, "animation.ffmpeg_path", str(tmp_path / "ffmpeg"))
    with pytest.raises(UserError, match=r"(ffmpeg could not|cannot) write .*film\.mp4"):
        save_film(film, tmp_path / "film.mp4")
    assert not (tmp_path / "film.mp4").exists()


def test_the_command_saves_and_says_what_and_what_next(run, film, rows, tmp_path, capsys):
    save = tmp_path / "film.gif"
    assert cli.main(["view", str(run), film.image_id, "--save", str(save)]) == 0
    said = capsys.readouterr().out
    assert f"Wrote {save}  {film.image_id}: {len(film.frames)} frames" in said
    assert f"Next: gaxjax report {run}" in said
    assert cli.main(["view", str(run), rows[5]["image_id"], "--save", str(save)]) == 0
    assert "Note: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("save", "said"),
    [
        ("film.avi", "film.avi must end in .gif or .mp4 or .png"),
        ("nowhere/film.gif", "cannot write"),
    ],
)
def test_a_place_that_cannot_be_written_is_one_clear_line(run, film, tmp_path, capsys, save, said):
    status = cli.main(["view", str(run), film.image_id, "--save", str(tmp_path / save)])
    assert status == 2
    assert said in capsys.readouterr().err


def test_a_run_of_existing_methods_is_refused(tmp_path):
    data = stored_runs.image_folder(tmp_path / "d", 6)
    other = stored_runs.ax_run(tmp_path / "run", data)
    with pytest.raises(UserError, match="is a run of gaxjax ax: view shows GAX runs"):
        read_film(other, "x")


def test_the_gax_command_tells_the_disk_the_snapshots_and_the_viewer(command, rows):
    output, said = command
    assert said.startswith("Note: snapshots of 3 images take at most ")
    assert f"Wrote {output}/snapshots.parquet" in said
    assert "heatmaps along the way of 3 images" in said
    assert said.endswith(f"Next: gaxjax view {output} {rows[0]['image_id']}")
