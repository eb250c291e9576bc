"""The networks that coverage looks at, small and with random weights that leave nothing dead."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

__all__ = [
    "CLASSES",
    "DOZEN",
    "SETS",
    "TIMM",
    "ZooModel",
    "module_of",
    "torchvision_models",
    "zoo_model",
]

CLASSES = 10

_FIXED_SIZES = {  # what an architecture is built for; all others take 64
    **dict.fromkeys(("inception_v3", "maxvit_t"), 0),
    **dict.fromkeys(("vit_b_16", "vit_b_32", "vit_l_16", "vit_l_32", "vit_h_14"), 224),
}
_FIXED_SIZES |= {"inception_v3": 96, "maxvit_t": 224, "alexnet": 96}

TIMM: dict[str, int] = {  # one small member of each family, and its size
    **dict.fromkeys(
        (
            *("repvgg_a0", "regnetz_b16", "gernet_s", "convmixer_768_32", "convnext_atto"),
            *("convnextv2_atto", "darknet53", "cs3darknet_m", "cspresnet50", "densenet121"),
            *("dla34", "dpn68", "edgenext_xx_small", "efficientnet_lite0", "efficientnet_b0"),
            *("tf_efficientnetv2_b0", "tf_efficientnet_cc_b0_4e", "tinynet_e", "fbnetc_100"),
            *("spnasnet_100", "mnasnet_small", "semnasnet_075", "mixnet_s", "efficientvit_b0"),
            *("fasternet_t0", "fastvit_t8", "focalnet_tiny_srf", "ghostnet_100", "ghostnetv2_100"),
            *(
                "hardcorenas_a",
                "hgnet_tiny",
                "hgnetv2_b0",
                "hrnet_w18_small",
                "inception_next_atto",
            ),
            *("lcnet_050", "mambaout_femto", "mobilenetv1_100", "mobilenetv2_050"),
            *("mobilenetv3_small_100", "mobilenetv4_conv_small", "mobileone_s0", "mobilevit_xxs"),
            *("mobilevitv2_050", "nfnet_l0", "eca_nfnet_l0", "dm_nfnet_f0", "poolformer_s12"),
            *("poolformerv2_s12", "caformer_s18", "convformer_s18", "pvt_v2_b0", "rdnet_tiny"),
            *("regnetx_002", "regnety_002", "regnetv_040", "repghostnet_050", "repvit_m0_9"),
            *("res2net50_26w_4s", "resnest14d", "resnet18", "resnet26t", "resnet50d"),
            *("resnetaa50", "resnetblur50", "resnext50_32x4d", "resnetrs50", "seresnet50"),
            *("legacy_seresnet18", "ecaresnet26t", "resnetv2_50d_gn", "resnetv2_50x1_bit"),
            *("rexnet_100", "rexnetr_200", "selecsls42b", "skresnet18", "starnet_s1"),
            *("swiftformer_xs", "tresnet_m", "vgg11_bn", "ese_vovnet19b_dw", "vovnet39a"),
            *("cspdarknet53", "wide_resnet50_2"),
            *("iformer_t", "starnet_s050", "lcnetv2_small", "efficientvim_m1"),
        ),
        64,
    ),
    **dict.fromkeys(
        ("legacy_xception", "xception41", "inception_v3", "inception_v4", "inception_resnet_v2"), 96
    ),
    **dict.fromkeys(
        (
            *("beitv2_base_patch16_224", "cait_xxs24_224", "coat_lite_tiny", "convit_tiny"),
            *("davit_tiny", "deit3_small_patch16_224", "deit_tiny_distilled_patch16_224"),
            *("efficientformer_l1", "efficientformerv2_s0", "efficientvit_m0"),
            *("eva02_tiny_patch14_224", "gcvit_xxtiny", "hiera_tiny_224", "levit_128s"),
            *("maxvit_tiny_tf_224", "coatnet_0_rw_224", "mixer_s32_224", "gmlp_ti16_224"),
            *("mvitv2_tiny", "nest_tiny", "nextvit_small", "pit_ti_224", "sequencer2d_s"),
            *("shvit_s1", "swin_tiny_patch4_window7_224", "swinv2_cr_tiny_224"),
            *("tiny_vit_5m_224", "tnt_s_patch16_224", "twins_svt_small", "twins_pcpvt_small"),
            *("visformer_tiny", "vit_tiny_patch16_224", "vit_base_patch16_siglip_224"),
            *("vit_small_patch14_reg4_dinov2", "vit_tiny_r_s16_p8_224"),
            *("vit_relpos_small_patch16_224", "samvit_base_patch16_224", "vitamin_small_224"),
            *(
                "volo_d1_224",
                "xcit_nano_12_p16_224",
                "naflexvit_base_patch16_gap",
                "haloregnetz_b",
                "resmlp_12_224",
            ),
            *("lowformer_b0", "csatv2", "mobilenetv5_base", "vit_small_patch16_dinov3"),
        ),
        224,
    ),
    "crossvit_9_240": 240,
    **dict.fromkeys(("botnet26t_256", "halonet26t", "lambda_resnet26t"), 256),
    "swinv2_tiny_window8_256": 256,
    "nasnetalarge": 96,
    "pnasnet5large": 96,
}
_RESIZED = ("vit_small_patch14_reg4_dinov2",)
"""Of these timm's own size is larger, and they are built for the one above."""

DOZEN = (
    *("torchvision:squeezenet1_1", "torchvision:mobilenet_v3_small", "torchvision:mnasnet0_5"),
    *("torchvision:shufflenet_v2_x0_5", "torchvision:regnet_y_400mf", "timm:resnet18"),
    *("timm:efficientvit_b0", "timm:lcnet_050", "timm:mobilevitv2_050", "timm:starnet_s050"),
    *("timm:poolformerv2_s12", "timm:vit_tiny_patch16_224"),
)


@dataclass(frozen=True)
class ZooModel:
    """A network of a library.

    Attributes:
        library: torchvision or timm.
        name: what it is called there.
        size: height and width of its images here.
    """

    library: str
    name: str
    size: int

    @property
    def key(self) -> str:
        """Library and name, as the command line takes them."""
        return f"{self.library}:{self.name}"


def torchvision_models() -> list[str]:
    """Return torchvision's classifiers."""
    import torchvision

    return [str(name) for name in torchvision.models.list_models(module=torchvision.models)]


def zoo_model(key: str) -> ZooModel:
    """Return the network that is called ``library:name``."""
    library, _, name = key.rpartition(":")
    library = library or "torchvision"
    sizes = _FIXED_SIZES if library == "torchvision" else TIMM
    return ZooModel(library, name, sizes.get(name, 64))


SETS: dict[str, Any] = {
    "dozen": lambda: list(DOZEN),
    "torchvision": lambda: [f"torchvision:{name}" for name in torchvision_models()],
    "timm": lambda: [f"timm:{name}" for name in sorted(TIMM)],
    "all": lambda: [*SETS["torchvision"](), *SETS["timm"]()],
}


def module_of(model: ZooModel, seed: int = 0, num_classes: int = CLASSES) -> nn.Module:
    """Build a network in eval mode and float32, with weights none of which is without effect."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return enlivened(_built(model, num_classes), model.size, seed)


def enlivened(module: nn.Module, size: int, seed: int = 0) -> nn.Module:
    """Draw anew what is constant in a network, in place; return it in eval mode.

    Libraries start the last layer of a residual branch at zero and layer scales at 1e-6, so that
    an error there would not show. Running statistics are those of random images, moved a little.

    Args:
        module: of images with three channels.
        size: height and width of these.
        seed: of the draw.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module.requires_grad_(False)
        for parameter in module.parameters():
            _enliven(parameter)
        _set_statistics(module.eval(), size)
    return module.eval()


def _built(model: ZooModel, num_classes: int) -> nn.Module:
    if model.library == "timm":
        import timm

        sized: dict[str, Any] = {"img_size": model.size} if model.name in _RESIZED else {}
        made: nn.Module = timm.create_model(
            model.name, pretrained=False, num_classes=num_classes, **sized
        )
        return made
    import torchvision

    slow = model.name in ("googlenet", "inception_v3")  # by SciPy's truncated normal numbers
    options = {"init_weights": False} if slow else {}
    built: nn.Module = torchvision.models.get_model(
        model.name, weights=None, num_classes=num_classes, **options
    )
    return built


def _enliven(parameter: nn.Parameter) -> None:
    value = parameter.detach()
    if (
        not value.is_floating_point()
        or not value.numel()
        or bool((value != value.flatten()[0]).any())
    ):
        return
    start = float(value.flatten()[0])
    if start == 1:
        value.uniform_(0.6, 1.4)
    elif value.ndim <= 1 or start:
        value.normal_(0, 0.1).add_(start if abs(start) > 0.05 else 0.3 * (start != 0))
    else:
        value.normal_(0, 0.02)


def _set_statistics(module: nn.Module, size: int) -> None:
    norms = [each for each in module.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0  # keep the last batch's statistics whole
    if norms:
        module(torch.randn(4, 3, size, size))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.eval()
        norm.momentum = momentum
        if norm.running_mean is None or norm.running_var is None:
            continue
        shift = torch.randn_like(norm.running_mean)
        norm.running_mean += 0.3 * norm.running_var.sqrt() * shift
        norm.running_var *= torch.empty_like(norm.running_var).uniform_(0.6, 1.6)
        norm.running_var += 1e-3  # of channels that are dead in these images
