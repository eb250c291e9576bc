"""Networks of torchvision and timm, cut to a few layers, imported and held to torch."""

from collections.abc import Callable
from typing import Any

import jax
import pytest
import torch
from torch import nn

from benchmarks.coverage.parity import EXACT, compare, compare_module
from benchmarks.coverage.zoo import CLASSES, SETS, enlivened, zoo_model

SIZE = 32
FLOAT32 = 1e-4
"""Relative; measured 1e-7 to 2e-5, the most in the gradients of deep networks."""


def torchvision_networks() -> dict[str, Callable[[], nn.Module]]:
    from torchvision import models
    from torchvision.models import efficientnet, mobilenetv2, mobilenetv3, resnet
    from torchvision.models import swin_transformer as swin
    from torchvision.ops import Conv2dNormActivation

    def mobile_v3() -> nn.Module:
        made = [("RE", False, 16, 2), ("HS", True, 24, 2)]
        blocks = [
            mobilenetv3.InvertedResidualConfig(8, 3, 16, out, se, act, stride, 1, 1.0)
            if i == 0
            else mobilenetv3.InvertedResidualConfig(16, 5, 32, out, se, act, stride, 1, 1.0)
            for i, (act, se, out, stride) in enumerate(made)
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

        stages = BlockParams([1, 1], [8, 16], [4, 4], [2, 2], [1.0, 1.0], se_ratio=0.25)
        return models.RegNet(stages, num_classes=CLASSES)

    assert Conv2dNormActivation
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
        "shufflenet": lambda: models.ShuffleNetV2([1, 1, 1], [8, 16, 24, 32, 48], CLASSES),
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
    def create(name: str, **options: Any) -> Callable[[], nn.Module]:
        import timm

        return lambda: timm.create_model(name, num_classes=CLASSES, **options)

    return {
        "mixer": create("mixer_s32_224", img_size=SIZE, patch_size=8, num_blocks=2, embed_dim=16),
        "cait": create(
            "cait_xxs24_224", img_size=SIZE, patch_size=8, depth=1, embed_dim=16, num_heads=2
        ),
        "metaformer": create("caformer_s18", depths=(1, 1, 1, 1), dims=(8, 16, 32, 64)),
        "bit": create("resnetv2_50x1_bit", layers=(1, 1), channels=(32, 64), stem_chs=32),
    }


@pytest.mark.parametrize("name", [*torchvision_networks()])
def test_torchvisions_networks_agree_with_torch(name):
    check(torchvision_networks()[name])


@pytest.mark.parametrize("name", ["mixer", "cait", "metaformer", "bit"])
def test_timms_networks_agree_with_torch(name):
    pytest.importorskip("timm")
    check(timm_networks()[name])


@pytest.mark.slow
@pytest.mark.parametrize("key", SETS["all"]())
def test_all_networks_agree_with_torch(key):
    if key.startswith("timm:"):
        pytest.importorskip("timm")
    with jax.enable_x64(True):
        judge(compare(zoo_model(key)))


def check(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    module = enlivened(make(), SIZE)
    with jax.enable_x64(True):
        judge(compare_module(module, SIZE))


def judge(row: dict[str, Any]) -> None:
    """Assert that a comparison found what torch's own float32 does not explain."""
    exact = row.get("float64_throughout", row["float64"])
    assert max(exact.values()) <= EXACT
    assert row["spread_of_logits"] > 1e-3
    assert max(row["float32"].values()) < FLOAT32
    assert row["products"] > 0
    assert row["float32_products"] == 0
    assert row["bfloat16"]["logits"] < 0.5
