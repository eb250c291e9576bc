"""Networks of torchvision and timm, small ones."""

import pytest
import timm
import torch
import torchvision
from opened_modules import LITTLE


@pytest.fixture(scope="module")
def mobile():
    """torchvision's mobilenet_v3_small with 7 classes, in eval mode."""
    torch.manual_seed(0)
    return torchvision.models.mobilenet_v3_small(num_classes=7).eval()


@pytest.fixture(scope="module")
def little():
    """timm's, with 5 classes."""
    torch.manual_seed(0)
    return timm.create_model(LITTLE, num_classes=5).eval()
