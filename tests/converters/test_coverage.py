"""Networks of torchvision and timm, cut to a few layers, imported and held to torch."""

from collections.abc import Callable

import jax
import pytest
import torch
from torch import nn

from benchmarks.coverage.parity import EXACT, compare, compare_module
from benchmarks.coverage.zoo import CLASSES, SETS, enlivened, zoo_model
from benchmarks.show.coverage import reason

SIZE = 32
IN_ALL_TYPES = ("efficientnet",)
QUICK = {"mixer", "shufflenet"}
"""Of the operations that they are made of, each is in one of these or has a test of its own."""
FLOAT32 = 1e-4
"""Relative; measured 1e-7 to 2e-5, the most in the gradients of deep networks."""


def torchvision_networks() -> dict[str, Callable[[], nn.Module]]:
    from torchvision import models
    from torchvision.models import efficientnet, mobilenetv2, mobilenetv3, resnet
    from torchvision.models import swin_transformer as swin

    def mobile_v3() -> nn.Module:
        blocks = [
            mobilenetv3.InvertedResidualConfig(8, 3, 16, 16, False, "RE", 2, 1, 1.0),
            mobilenetv3.InvertedResidualConfig(16, 5, 32, 24, True, "HS", 2, 1, 1.0),
        ]
        return models.MobileNetV3(blocks, 32, num_classes=CLASSES)

    def efficient() -> nn.Module:
        blocks = [
            efficientnet.MBConvConfig(1, 3, 1, 8, 8, 1, 1.0, 1.0),
            efficientnet.MBConvConfig(4, 5, 2, 8, 16, 2, 1.0, 1.0),
        ]
        return models.EfficientNet(blocks, dropout=0.2, num_classes=CLASSES)

    def regnet() -> nn.Module:
        from torchvision.models.regnet import BlockParams

        stages = BlockParams.from_init_params(3, 8, 8.0, 2.0, 8, se_ratio=0.25)
        return models.RegNet(stages, num_classes=CLASSES)

    return {
        "resnext": lambda: models.ResNet(
            resnet.Bottleneck, [1, 1, 1, 1], CLASSES, groups=4, width_per_group=2
        ),
        "mobilenet_v2": lambda: models.MobileNetV2(
            CLASSES, 0.25, [[1, 16, 1, 1], [6, 24, 2, 2]], block=mobilenetv2.InvertedResidual
        ),
        "mobilenet_v3": mobile_v3,
        "efficientnet": efficient,
        "densenet": lambda: models.DenseNet(4, (2, 2), 8, num_classes=CLASSES),
        "shufflenet": lambda: models.ShuffleNetV2([2, 1, 1], [8, 16, 24, 32, 48], CLASSES),
        "regnet": regnet,
        "convnext": lambda: models.ConvNeXt(
            [models.convnext.CNBlockConfig(8, 16, 1), models.convnext.CNBlockConfig(16, None, 1)],
            num_classes=CLASSES,
        ),
        "swin_v2": lambda: models.SwinTransformer(
            [4, 4],
            16,
            [2, 2],
            [2, 2],
            [4, 4],
            num_classes=CLASSES,
            block=swin.SwinTransformerBlockV2,
            downsample_layer=swin.PatchMergingV2,
        ),
        "vit": lambda: models.VisionTransformer(SIZE, 8, 2, 2, 16, 32, num_classes=CLASSES),
    }


def timm_networks() -> dict[str, Callable[[], nn.Module]]:
    from timm import layers, models

    small = {"img_size": SIZE, "patch_size": 8, "num_classes": CLASSES}
    return {
        "mixer": lambda: models.MlpMixer(**small, num_blocks=2, embed_dim=16),
        "cait": lambda: models.Cait(**small, depth=1, embed_dim=16, num_heads=2),
        "bit": lambda: models.ResNetV2(
            (1, 1), (128, 128), CLASSES, stem_chs=32, conv_layer=layers.StdConv2d
        ),
        "convmixer": lambda: models.ConvMixer(16, 2, 5, 4, num_classes=CLASSES),
    }


@pytest.mark.parametrize(
    "name",
    [
        name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
        for name in torchvision_networks()
    ],
)
def test_torchvisions_networks_agree_with_torch(name):
    check(torchvision_networks()[name], all_types=name in IN_ALL_TYPES)


@pytest.mark.parametrize(
    "name",
    [
        name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
        for name in ("mixer", "cait", "bit", "convmixer")
    ],
)
def test_timms_networks_agree_with_torch(name):
    pytest.importorskip("timm")
    check(timm_networks()[name])


@pytest.mark.slow
@pytest.mark.parametrize("key", SETS["all"]())
def test_all_networks_agree_with_torch(key):
    if key.startswith("timm:"):
        pytest.importorskip("timm")
    with jax.enable_x64(True):
        row = compare(zoo_model(key))
    assert reason(row) != "unexplained"  # as docs/networks.md names it
    assert row["products"] > 0
    assert row["float32_products"] == 0


def check(make: Callable[[], nn.Module], *, all_types: bool = False) -> None:
    """Assert that a comparison finds what torch's own float32 does not explain."""
    torch.manual_seed(0)
    module = enlivened(make(), SIZE)
    types = ("float64", "float32", "bfloat16")[: None if all_types else 1]
    with jax.enable_x64(True):
        row = compare_module(module, SIZE, types)
    exact = row.get("float64_throughout", row["float64"])
    assert max(exact.values()) <= EXACT
    assert row["spread_of_logits"] > 1e-3
    if not all_types:
        return
    assert max(row["float32"].values()) < FLOAT32
    assert row["products"] > 0
    assert row["float32_products"] == 0
    assert row["bfloat16"]["logits"] < 0.5
