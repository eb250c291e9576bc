"""Files of tensors, opened safely: no code in them ever runs, and what is damaged is told."""

import contextlib
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from converters.file_kinds import refuse_other_kinds, weights_format
from converters.inert_pickle import as_pickle_module
from converters.shards import is_index, read_index
from gaxjax.common import UserError, one_line, ran_out

__all__ = ["load_tensors"]

_SUFFIXES = (".pth", ".pt", ".bin", ".tar", ".ckpt", ".safetensors")


def load_tensors(path: Path) -> Any:
    """Return what a file of torch or safetensors holds, classes that are not torch's as strangers.

    Args:
        path: the file; or the index of sharded weights, whose tensors come as one dictionary.

    Raises:
        UserError: it is of another kind, truncated, or damaged: a record's bytes are not those
            whose checksum it keeps; or a shard lacks what the index says of it.
    """
    if is_index(path):
        return _load_shards(path)
    with _said_in_a_line(path):
        kind = weights_format(path)
        if kind is None and path.suffix.lower() not in _SUFFIXES:
            refuse_other_kinds(path)
            raise UserError(
                f"{path} is no .pth, .pt or .safetensors file; save the state dict as one"
            )
        if kind is None:
            refuse_other_kinds(path)
            raise ValueError
        if kind == "safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        if kind == "torch":
            _check_records(path)
        return _load(path, mmap=kind == "torch")


def _load_shards(path: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    index = read_index(path)
    for name in sorted(set(index.values())):
        shard = load_tensors(path.parent / name)
        wanted = [key for key, file in index.items() if file == name]
        missing = [
            key
            for key in wanted
            if not isinstance(shard, Mapping) or not isinstance(shard.get(key), torch.Tensor)
        ]
        if missing:
            raise UserError(
                f"{path.parent / name} lacks {len(missing)} of the {len(wanted)} tensors that "
                f"{path.name} says it holds ({missing[0]}, …); copy or download it again"
            )
        found |= {key: shard[key] for key in wanted}
    return found


def _load(path: Path, *, mmap: bool) -> Any:
    """Load by torch's strict rules; where they refuse a class, with strangers in its place."""
    mmap = mmap and path.suffix != ".safetensors"  # which torch.load would take at its word
    settings: dict[str, Any] = {"map_location": "cpu", "mmap": mmap}
    with warnings.catch_warnings(), path.open("rb") as file:
        warnings.simplefilter("ignore")
        source = path if mmap else file
        try:
            return torch.load(source, weights_only=True, **settings)
        except pickle.UnpicklingError as error:
            file.seek(0)
            refused = error
        finally:
            _forget_sparse()
        try:
            module = as_pickle_module()
            return torch.load(source, weights_only=False, pickle_module=module, **settings)
        except UserError:
            raise
        except Exception:  # torch and pickle raise nearly every type on bytes that are none
            named = re.search(r"GLOBAL (\S+)", str(refused))
            if named is None:
                raise
            raise UserError(
                f"it cannot be read without running code of others ({named[1]}); save the weights "
                "alone: torch.save(model.state_dict(), FILE)"
            ) from None
        finally:
            _forget_sparse()


def _forget_sparse() -> None:
    """Have torch forget the sparse tensors of a load that failed.

    It checks them at the end of a load, and keeps them where it does not get there (torch 2.14):
    the next file, whole as it is, would be refused for them.
    """
    getattr(torch._utils, "_sparse_tensors_to_validate", []).clear()


def _check_records(path: Path) -> None:
    """Read a torch archive once and hold every record against its CRC-32, which torch does not."""
    with zipfile.ZipFile(path) as archive:
        if not any(record.CRC for record in archive.infolist()):
            return  # written with torch.serialization.set_crc32_options(False)
        broken = archive.testzip()
    if broken is not None:
        raise UserError(
            f"{path} is damaged: its record {broken} is not what was written (its CRC-32 differs); "
            f"copy or download it again"
        )


@contextlib.contextmanager
def _said_in_a_line(path: Path) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        if str(path) in str(error):
            raise
        raise UserError(f"{path}: {error}") from None
    except RecursionError as error:
        raise UserError(f"{path} nests its contents too deeply to be read") from error
    except Exception as error:  # nothing but a foreign file is read meanwhile
        if ran_out(error):
            raise UserError(
                f"cannot read {path} now: {one_line(error) or 'out of memory'}; the file may be "
                f"whole: free memory or close files, and try again"
            ) from error
        size = path.stat().st_size
        raise UserError(
            f"{path} is truncated or no torch file ({size:,} bytes); copy or download it again"
        ) from error
