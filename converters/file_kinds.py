"""What a file is, by its first bytes: people's weights come under many names."""

import tarfile
import zipfile
from pathlib import Path

from gaxjax.common import UserError

__all__ = ["refuse_other_kinds", "weights_format"]

_TORCH_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How torch's format before 1.6 begins, behind two bytes of protocol."""

_AGAIN = "download it again, from where the file itself is given"

_STARTS: tuple[tuple[bytes, str, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer, not the weights", "fetch them: git lfs pull"),
    (b"\xff\xd8\xff", "a JPEG picture", "give the file of the weights"),
    (b"\x89PNG", "a PNG picture", "give the file of the weights"),
    (b"GIF8", "a GIF picture", "give the file of the weights"),
    (b"%PDF", "a PDF document", "give the file of the weights"),
    (b"\x1f\x8b", "a gzip archive", "unpack it: gunzip, or tar xzf"),
    (b"BZh", "a bzip2 archive", "unpack it first"),
    (b"\xfd7zXZ", "an xz archive", "unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive", "unpack it first"),
    (b"7z\xbc\xaf", "a 7-Zip archive", "unpack it first"),
    (b"Rar!", "a RAR archive", "unpack it first"),
    (
        b"\x89HDF",
        "an HDF5 file (Keras weights, or MATLAB's)",
        "give the weights of a torch network",
    ),
    (b"\x93NUMPY", "a NumPy array (.npy)", "give a torch state dict"),
    (b"GGUF", "a GGUF file", "give a torch state dict"),
    (b"MATLAB", "a MATLAB file", "give a torch state dict"),
    (b"\x7fELF", "a program", "give the file of the weights"),
    (b"MZ", "a Windows program", "give the file of the weights"),
)


def weights_format(path: Path) -> str | None:
    """Return torch (a ZIP archive of weights), legacy (before torch 1.6), safetensors, or None."""
    with path.open("rb") as file:
        start = file.read(64)
    if start[2:].startswith(_TORCH_MAGIC) and start[:1] == b"\x80":
        return "legacy"
    header = int.from_bytes(start[:8], "little")
    if start[8:9] == b"{" and 2 <= header < 1e9:
        return "safetensors"
    if start.startswith(b"PK"):
        names = _names_in_zip(path)
        if any(name.rpartition("/")[2] == "data.pkl" for name in names):
            scripted = any(name.endswith("/constants.pkl") for name in names)
            return None if scripted else "torch"
    return None


def refuse_other_kinds(path: Path) -> None:
    """Say what a file is that holds no weights that we read, and what mends it.

    Returns where it could be a damaged file of weights.

    Raises:
        UserError: it is of another kind.
    """
    with path.open("rb") as file:
        start = file.read(1024)
    found = [(kind, way) for magic, kind, way in _STARTS if start.startswith(magic)]
    what, mend = found[0] if found else _kind_of(path, start)
    if what:
        raise UserError(f"{path} is {what}; {mend}")


def _kind_of(path: Path, start: bytes) -> tuple[str, str]:
    """Return what a file is that no first word tells, and the mend; empty where it is not known."""
    what = mend = ""
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<!--")):
        what, mend = "a web page, not the weights", _AGAIN
    elif start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        what, mend = "a WebP picture", "give the file of the weights"
    elif start and not start.strip(b"\0"):
        what, mend = "nothing but zeros", "copy or download it again"
    elif start.startswith(b"PK"):
        what, mend = _kind_of_zip(path)
    elif tarfile.is_tarfile(path):
        what, mend = _kind_of_tar(path)
    elif start[4:8] == b"TFL3":
        what, mend = "a TensorFlow Lite model", "give the weights of a torch network"
    elif start[:1] == b"\x08" and (b"onnx" in start.lower() or b"pytorch" in start):
        what, mend = "an ONNX model", "give the torch state dict that it was exported from"
    elif start[:1] in (b"\x08", b"\x0a") and any(
        word in start for word in (b"Placeholder", b"serve", b"VarHandleOp", b"Const", b"saver")
    ):
        what, mend = "a TensorFlow graph", "give the weights of a torch network"
    elif start[:1] in (b"\xde", b"\xdf") or b"\x81" <= start[:1] <= b"\x8f":
        what, mend = (
            "a MessagePack file (Flax's)",
            "give a torch state dict; a JAX network is explained in Python, see gaxjax.explain",
        )
    elif start[:1] == b"\x80" and start[1:2] in b"\2\3\4\5" and _TORCH_MAGIC not in start:
        what, mend = (
            "a plain pickle, whose code would run on loading",
            "where you trust it, load it as it was saved and torch.save(STATE_DICT, FILE)",
        )
    elif len(text) > 8 and all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in text[:256]):
        shown = text[:40].decode().split("\n")[0].strip()
        what, mend = f"a text that begins “{shown}”", "give the file of the weights"
    return what, mend


def _names_in_zip(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return []


def _kind_of_zip(path: Path) -> tuple[str, str]:
    names = _names_in_zip(path)
    last = [name.rpartition("/")[2] for name in names]
    if not names:
        return "", ""  # torch's, cut off
    if "constants.pkl" in last:
        return (
            "a TorchScript archive, which holds code",
            "where you trust it: torch.save(torch.jit.load(FILE).state_dict(), NEW)",
        )
    if any(name.endswith("/code/") or "/code/" in name for name in names):
        return "a torch package, which holds code", "save model.state_dict() instead"
    if "archive_format" in last or "serialized_exported_program.json" in last:
        return (
            "a program of torch.export, which runs code on loading",
            "where you trust it, give a function that loads it: gaxjax convert mynet.py:build, "
            "with `return torch.export.load(FILE).module()`",
        )
    if "model.weights.h5" in last:
        return "a Keras model", "give the weights of a torch network"
    if all(name.endswith(".npy") for name in names):
        return "a NumPy archive (.npz)", (
            "torch.save({k: torch.as_tensor(v) for k, v in numpy.load(FILE).items()}, NEW)"
        )
    shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    return f"a ZIP archive of other things ({shown})", "unpack it, and give the file of the weights"


def _kind_of_tar(path: Path) -> tuple[str, str]:
    try:
        with tarfile.open(path) as archive:
            names = [member.name for member in archive][:1000]
    except (tarfile.TarError, EOFError):
        names = []
    if {"pickle", "storages", "tensors"} <= set(names):
        return (
            "in torch's oldest format (a tar of 2016), which cannot be read without running code",
            "where you trust it: torch.save(torch.load(FILE, weights_only=False), NEW)",
        )
    shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    return f"a tar archive ({shown})", "unpack it: tar xf, and give the file of the weights"
