"""The torch network of an imported checkpoint, built again from what its checkpoint keeps of it."""

from collections.abc import Mapping
from pathlib import Path

from torch import nn

from converters.digest import weights_sha256
from converters.logits_module import LogitsModule
from converters.torch_module import blueprint_of, existing, of_file, of_python, open_source
from gaxjax.common import UserError, file_sha256

__all__ = ["rebuild"]


def rebuild(origin: Mapping[str, str], weights: Path | None = None) -> LogitsModule:
    """Build the torch network again that a checkpoint was imported from.

    Args:
        origin: as `gaxjax.models.CheckpointMetadata.origin` keeps it.
        weights: the file of its weights; where it is known, in its place.

    Returns:
        Images [B, 3, H, W] → logits [B, C], in eval mode and float32, its parameters without
        gradients.

    Raises:
        UserError: something that it was made from is missing, or another than it was.

    Example:
        >>> rebuild(metadata.origin, Path("model.pth"))(images).shape  # doctest: +SKIP
        torch.Size([4, 10])
    """
    module = LogitsModule(
        _network(origin, weights).requires_grad_(False),
        origin.get("logits", ""),
        grey=origin.get("grey") == "yes",
        binary=origin.get("binary") == "yes",
    )
    module.eval()
    return module


def _network(origin: Mapping[str, str], weights: Path | None) -> nn.Module:
    kind, name = origin.get("kind", ""), origin.get("name", "")
    if kind == "module":
        raise UserError(
            f"it was imported from a module in Python ({name}), which no file keeps: import it by "
            "gaxjax convert mynet.py:build --weights FILE, to have it built again"
        )
    if kind not in ("torchvision", "timm", "python"):
        raise UserError(f"the checkpoint does not say how its network is built ({dict(origin)})")
    size = int(origin["size"]) if "size" in origin else None
    ema = origin.get("ema") == "yes"
    if origin.get("weights") and weights is None and not origin.get("published"):
        raise UserError(
            f"its weights come from {origin['weights']} (sha256 {origin.get('sha256', '')[:12]}…): "
            "give that file, --weights FILE"
        )
    if weights is not None:
        _check_same(weights, origin.get("sha256", ""))
    if kind == "python":
        path = Path(origin["path"])
        if not path.is_file():
            raise UserError(f"{path}, which builds its network, is not there")
        if file_sha256(path) != origin.get("code_sha256"):
            raise UserError(f"{path}, which builds its network, has changed since: convert again")
        return of_python(f"{path}:{origin['function']}", weights, ema).module
    told = f"timm:{name}" if kind == "timm" else name
    if weights is None:
        return open_source(origin.get("published") or told, size=size).module
    if origin.get("config") == "yes" and weights.is_dir():
        return open_source(str(weights), ema=ema, size=size).module
    return of_file(weights, blueprint_of(told), ema, size).module


def _check_same(weights: Path, sha256: str) -> None:
    given = weights_sha256(existing(weights))
    if sha256 and given != sha256:
        raise UserError(
            f"{weights} (sha256 {given[:12]}…) is not the file that the checkpoint was made from "
            f"(sha256 {sha256[:12]}…): give that file"
        )
