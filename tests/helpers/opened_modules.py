"""Tests of torch modules that are opened by name, file or code: what they share."""

import pytest
import torch

from gaxjax.common import UserError

LITTLE = "mobilenetv3_small_050"  # timm's, 1.6 million weights


def save(path, content):
    torch.save(content, path)
    return path


def agree(module, wanted, size=64, channels=3):
    x = torch.rand(2, channels, size, size)
    with torch.no_grad():
        return torch.equal(module(x), wanted(x))


def refusal(call, *arguments, **settings):
    with pytest.raises(UserError) as caught:
        call(*arguments, **settings)
    return str(caught.value)
