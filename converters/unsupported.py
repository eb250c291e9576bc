"""Networks that are not written by hand here, known by keys that no other has."""

import re
from collections.abc import Iterable

__all__ = ["family_of", "named_by_user", "our_families"]

_BY_KEY: tuple[tuple[str, str], ...] = (
    (r"denseblock1\.denselayer1\.|features\.denseblock1\.", "DenseNet"),
    (r"MBconv\.layers\.", "MaxViT"),
    (r"(^|\.)relative_position_bias_table$", "Swin Transformer"),
    (r"(^|\.)(cls_token|class_token)$|encoder_layer_0\.|blocks\.0\.attn\.qkv\.", "ViT"),
    (r"transformer\.resblocks\.0\.|^visual\.", "CLIP model"),
    (r"layers\.\d+\.blocks\.\d+\.(mamba|mixer)|(^|\.)A_log$", "state space model"),
    (
        r"features\.1\.0\.layer_scale$|stages\.0\.blocks\.0\.(gamma|conv_dw)|dwconv\.weight$",
        "ConvNeXt",
    ),
    (r"^_?(conv_stem|_conv_stem)\.weight$|_blocks\.0\._|features\.1\.0\.block\.", "EfficientNet"),
    (r"features\.1\.conv\.0\.0\.weight$|features\.1\.block\.0\.0\.weight$", "MobileNet"),
    (r"^(Conv2d_1a_3x3|Mixed_5b|Mixed_5b)\.|(^|\.)conv2d_1a\.", "Inception"),
    (r"^inception3a\.", "GoogLeNet"),
    (r"^layers\.8\.0\.layers\.0\.weight$", "MNASNet"),
    (r"^stage2\.0\.branch[12]\.", "ShuffleNet"),
    (r"^trunk_output\.|^s1\.b1\.conv1", "RegNet"),
    (r"(^|\.)embedder\.embedder\.convolution\.weight$", "Hugging Face ResNet"),
    (r"layer1\.0\.(se|se_module|ca|cbam)\.", "ResNet with attention (SE, CBAM)"),
    (r"layer1\.0\.convs\.\d", "Res2Net"),
    (r"layer1\.0\.conv2\.(fc1|conv)\.", "ResNeSt"),
    (r"^(stem\.)?conv1\.0\.weight$", "ResNet with a deep stem (ResNet-D)"),
    (r"(^|\.)rpn\.|roi_heads\.", "detector"),
    (r"(^|\.)(aspp|classifier\.0\.convs\.|decode_head\.|up1\.|decoder\.blocks\.)", "segmenter"),
    (r"word_embeddings\.weight$|embed_tokens\.weight$|^wte\.", "language model"),
    (r"(^|\.)(lora_A|lora_B)\.|lora_(up|down)\.", "LoRA adapter"),
    (r"(^|\.)kernel$", "Keras or Flax network"),
)


def our_families() -> str:
    """Return what is written by hand here, for people."""
    return "AlexNet, ResNet (18 to 152, wide, ResNeXt), SqueezeNet and VGG"


def family_of(keys: Iterable[str]) -> str | None:
    """Return the family of a state dict of no hand-written network; None: not known either."""
    names = list(keys)
    for pattern, family in _BY_KEY:
        if any(re.search(pattern, key) for key in names):
            return family
    return None


def named_by_user(family: str) -> str:
    """Say what a file needs whose keys tell its family and not its network."""
    return (
        f"its keys are those of a network of the kind {family}: name it, --architecture NAME "
        "(torchvision's, such as efficientnet_b0) or --architecture timm:NAME, or give the module "
        "itself, mynet.py:build --weights FILE"
    )
