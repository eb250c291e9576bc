"""What the importer refuses, in one line that says where."""

import re

import pytest
import torch
import torch.nn.functional as F
from imported_modules import SIZE, Applied, agrees, convolution, head, pooled, refusal
from torch import nn

from converters.exported import import_module, import_program
from gaxjax.common import UserError


def test_control_flow_on_the_image_is_refused_with_its_line(capfd):
    class Deciding(nn.Module):
        def forward(self, x):
            return pooled(x) if x.mean() > 0 else pooled(-x)

    message = refusal(nn.Sequential(convolution(), Deciding()))
    assert "decides by the image" in message
    assert re.search(r"at test_exported_refusals\.py:\d+ in 1 \(Deciding\)", message)
    assert capfd.readouterr() == ("", "")


def test_random_numbers_are_refused():
    dropping = Applied(lambda x, conv: pooled(F.dropout(conv(x), 0.5, True)), conv=convolution())
    message = refusal(dropping)
    assert "random numbers in eval mode" in message
    assert "imported_modules.py" in message  # the line in forward
    noisy = Applied(lambda x: pooled(x) + torch.rand(3))
    assert "rand in Applied" in refusal(noisy)


def test_statistics_of_the_batch_are_refused():
    module = nn.Sequential(convolution(), nn.BatchNorm2d(4, track_running_stats=False), head())
    message = refusal(module)
    assert "statistics from the batch" in message
    assert "in 1 (BatchNorm2d)" in message

    class Stubborn(nn.BatchNorm2d):
        def train(self, mode=True):
            return super().train(True)

    message = refusal(nn.Sequential(convolution(), Stubborn(4), head()))
    assert "changes its buffer 1.running_mean" in message
    assert "in training mode after eval()" in message


def test_images_that_are_mixed_are_refused():
    mixing = Applied(lambda x: pooled(x) - pooled(x).mean(0, keepdim=True) * 0.5)
    assert "mixes the images of a batch" in refusal(mixing)
    single = Applied(lambda x, conv: pooled(conv(x)).view(1, 4), conv=convolution())
    assert "not two at once" in refusal(single)


def test_other_inputs_are_refused():
    class Two(nn.Module):
        def forward(self, x, mask):
            return pooled(x) * mask

    assert "forward takes x, mask; expected one input" in refusal(Two())
    words = nn.Sequential(nn.Flatten(), nn.Embedding(10, 4))
    assert "cannot be run on an image [1, 3, 8, 8]" in refusal(words)
    large = nn.Sequential(nn.Conv2d(3, 4, 16), head())
    assert "cannot be run on an image" in refusal(large)


@pytest.mark.parametrize("size", [0, (8, -1)])
def test_sizes_that_are_none_are_refused(size):
    with pytest.raises(UserError, match="size="):
        import_module(convolution(), size=size)


def test_operations_that_are_lacking_are_named_with_their_modules():
    class Spectrum(nn.Module):
        def forward(self, x):
            return pooled(torch.fft.rfft2(x).abs())

    message = refusal(nn.Sequential(convolution(), Spectrum()))
    assert "complex numbers (fft_rfft2) in 1 (Spectrum)" in message

    class Deformed(nn.Module):
        def forward(self, x):
            import torchvision

            offset = torch.zeros(len(x), 18, 6, 6) + x.mean((1, 2, 3), keepdim=True)
            return pooled(torchvision.ops.deform_conv2d(x, offset, torch.ones(4, 3, 3, 3)))

    assert "the custom operator torchvision::deform_conv2d in Deformed" in refusal(Deformed())
    inverse = Applied(lambda x: pooled(torch.linalg.inv(x + 9 * torch.eye(SIZE))))
    assert "the operation linalg_inv" in refusal(inverse)


@pytest.mark.parametrize(
    ("last", "word"),
    [(nn.Softmax(1), "softmax"), (nn.LogSoftmax(1), "log_softmax"), (nn.Sigmoid(), "sigmoid")],
)
def test_probabilities_are_refused(last, word):
    message = refusal(nn.Sequential(convolution(), head(), last))
    assert f"ends in {word} in 2 ({type(last).__name__})" in message


def test_a_softmax_inside_is_not_the_end():
    module = nn.Sequential(convolution(), nn.Softmax(1), head())
    agrees(module, import_module(module, size=SIZE))


def test_a_program_of_any_size_or_of_numbers_is_refused():
    module = Applied(lambda x, conv: pooled(conv(x)), conv=convolution()).eval()
    side = torch.export.Dim("side", min=4, max=64)
    open_size = torch.export.export(
        module, (torch.zeros(1, 3, SIZE, SIZE),), dynamic_shapes=({2: side, 3: side},)
    )
    with pytest.raises(UserError, match="of one size"):
        import_program(open_size)


def test_logits_that_no_image_reaches_are_refused():
    module = Applied(lambda x: torch.arange(3.0).expand(len(x), 3))
    assert "do not depend on the image" in refusal(module)
