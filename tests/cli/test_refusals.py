"""Whatever stops a command is one line and status 2; only a fault of ours has a traceback."""

import errno
import os
import signal
import sys

import jax
import pytest

from gaxjax.cli import console, demo, startup
from gaxjax.cli.evaluate import Evaluate
from gaxjax.cli.main import _flushed, main, parse
from gaxjax.common import NotWrittenError, UserError, keep_compiled_programs

EVALUATE = ("evaluate", "--model", "m", "--data", "digits")


def said(capsys, *arguments: str) -> str:
    """Run a command that must fail with status 2; return its one line."""
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            OSError(errno.EMFILE, "Too many open files", "a.bin"),
            "cannot go on with a.bin: too many",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "x\x1b[2J"), r"with x\x1b[2J: no perm"),
        (OSError(errno.ENOSPC, "No space left on device"), "refuses to go on: No space left"),
        (MemoryError("1 TiB"), "the memory ran out (1 TiB)"),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 9 GiB"), "device's memory ran out"),
    ],
)
def test_what_the_system_refuses_is_one_line(error, line, capsys, monkeypatch):
    def execute(self, given):
        raise error

    monkeypatch.setattr(Evaluate, "execute", execute)
    assert line in said(capsys, *EVALUATE)


def test_a_cache_that_cannot_be_written_names_its_variable(capsys, monkeypatch, tmp_path):
    def execute(self, given):
        raise OSError(errno.EROFS, "Read-only file system", str(tmp_path / "a" / "b"))

    monkeypatch.setenv("GAXJAX_CACHE", str(tmp_path / "a"))
    monkeypatch.setattr(Evaluate, "execute", execute)
    assert "GAXJAX_CACHE names another folder" in said(capsys, *EVALUATE)


@pytest.mark.parametrize(
    "error", [ValueError("ours"), RuntimeError("ours"), AssertionError("ours")]
)
def test_a_fault_of_ours_keeps_its_traceback(error, monkeypatch):
    def execute(self, given):
        raise error

    monkeypatch.setattr(Evaluate, "execute", execute)
    with pytest.raises(type(error), match="ours"):
        main(EVALUATE)


@pytest.mark.parametrize(
    "words",
    [
        ("gax", "--model", "m", "--data", "d", "--output", ""),
        ("gax", "--model", "m", "--data", "d", "--output="),
        ("report", ""),
        ("convert", "", "--output", "x"),
    ],
)
def test_an_empty_text_is_no_folder(words, capsys):
    assert "an empty text is given after" in said(capsys, *words)


def test_the_shells_tilde_is_spelt_out_wherever_it_is_left(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    command = parse(["gax", "--model=~/m", "--data=~/d", "--output=~/run"])
    assert str(command.output) == "/home/me/run"
    assert (command.run.model.model, command.run.data.data) == ("/home/me/m", "/home/me/d")
    assert str(parse(["report", "~/a", "--output=~/b.html"]).runs[0]) == "/home/me/a"
    assert parse(["convert", "~/a.pth", "--output=~/b"]).source == "/home/me/a.pth"


def test_an_unknown_user_is_told(capsys):
    line = said(capsys, "evaluate", "--model", "~nobody-of-this-name/m", "--data", "digits")
    assert "there is no user 'nobody-of-this-name' here" in line


def test_escapes_in_words_reach_the_terminal_as_letters(capsys):
    line = said(capsys, "report", "x\x1b[31m")
    assert "\x1b" not in line
    with pytest.raises(SystemExit) as caught:
        main([*EVALUATE, "--dato", "\x1b[31m"])
    error = capsys.readouterr().err
    assert caught.value.code == 2
    assert "\x1b[31m" not in error
    assert r"\x1b[31m" in error


def test_a_printed_line_holds_no_escapes(capsys):
    console.say("a\x1b[2J\nb")
    console.note("\u202e")
    assert capsys.readouterr().out == "a\\x1b[2J\\nb\nNote: \\u202e\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no full device")
def test_a_disk_that_is_full_is_told_at_the_end(capsys, monkeypatch):
    full = open("/dev/full", "w")  # noqa: SIM115 (its descriptor is replaced, then closed with it)
    full.write("figures")
    monkeypatch.setattr(sys, "stdout", full)
    assert _flushed(0) == 2
    assert "cannot print: No space left on device" in capsys.readouterr().err
    full.close()


# --- JAX's own environment -----------------------------------------------------------------------


def test_a_platform_without_a_device_is_named(monkeypatch):
    def nothing():
        raise RuntimeError("Unable to initialize backend 'cuda': no driver (set JAX_PLATFORMS='')")

    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setattr(jax, "local_devices", nothing)
    with pytest.raises(UserError, match=r"no device \(Unable .* no driver\); JAX_PLATFORMS=cuda"):
        startup.settle_with_jax(on_devices=True)
    startup.settle_with_jax(on_devices=False)  # a report computes nothing


def test_settings_that_change_numbers_are_left_aside_and_told(monkeypatch, capsys):
    changed = {}
    monkeypatch.setattr(jax.config, "update", changed.__setitem__)
    with jax.enable_x64(True), jax.debug_nans(True):
        startup.settle_with_jax(on_devices=False)
    assert changed == {"jax_enable_x64": False, "jax_debug_nans": False}
    assert "JAX_ENABLE_X64, JAX_DEBUG_NANS is set, and left aside" in capsys.readouterr().out


def test_flags_that_xla_would_end_the_process_for_are_told_before(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--nonsense")
    with pytest.raises(UserError, match=r"Unknown flag in XLA_FLAGS: --nonsense"):
        startup.settle_with_jax(on_devices=True)


def test_a_cache_for_programs_that_cannot_be_written_is_left_aside(monkeypatch, capsys):
    changed = {}
    monkeypatch.setattr(jax.config, "update", changed.__setitem__)
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("GAXJAX_CACHE", "/dev/null/cache")
    keep_compiled_programs(print)
    assert changed == {"jax_compilation_cache_dir": None}
    assert "GAXJAX_CACHE names another folder" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["run", "ax", "digits.ckpt", "report.html"])
def test_the_demo_refuses_a_folder_of_other_things_before_it_trains(
    name, capsys, tmp_path, monkeypatch
):
    monkeypatch.setattr(demo, "_train", None)
    (tmp_path / name).mkdir()
    (tmp_path / name / "thesis.tex").touch()
    assert str(tmp_path / name) in said(capsys, "demo", "--output", str(tmp_path))


def test_a_demo_into_a_file_is_refused_before_it_trains(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "_train", None)
    (tmp_path / "run").touch()
    assert "is a file" in said(capsys, "demo", "--output", str(tmp_path))


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (UserError("the model is damaged (interrupted)"), 143, "gaxjax: stopped by SIGTERM"),
        (OSError(errno.EIO, "Input/output error"), 143, "gaxjax: stopped by SIGTERM"),
        (NotWrittenError("could not write results (full)"), 2, "could not write results (full)"),
    ],
)
def test_what_fails_after_a_signal_is_the_stop_but_for_results_that_are_lost(
    error, status, line, capsys, monkeypatch
):
    def execute(self, given):
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            raise error

    monkeypatch.setattr(Evaluate, "execute", execute)
    assert main(EVALUATE) == status
    assert capsys.readouterr().err.strip().endswith(line)
