"""A small torch classifier with all that makes attribution on modern networks different."""

import torch
import torch.nn.functional as F
from torch import nn

SIZE = 16
CLASSES = 10


class AttentionNet(nn.Module):
    """A max pool before a gate, a GELU, a ReLU6, and attention by an `nn.Softmax`.

    Args:
        softmax: as a module, for which Captum has a rule; else as a function, for which not.
        seed: of its weights.
    """

    def __init__(self, *, softmax: bool = True, seed: int = 0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.conv = nn.Conv2d(3, 8, 3, padding=1)
            self.pool = nn.MaxPool2d(3, 2, 1)
            self.gate = nn.Linear(8, 8)
            self.act = nn.GELU()
            self.conv2 = nn.Conv2d(8, 6, 3)
            self.norm = nn.BatchNorm2d(6)
            self.act6 = nn.ReLU6()
            self.query = nn.Linear(6, 6)
            self.softmax = nn.Softmax(1) if softmax else None
            self.blend = nn.LayerNorm(6)
            self.head = nn.Linear(6, CLASSES)
        self.eval()

    def forward(self, x):
        """Return the logits of [B, 3, 16, 16]."""
        x = self.pool(F.relu(self.conv(x)))
        x = self.act(4 * x * torch.sigmoid(self.gate(x.mean((2, 3))))[:, :, None, None])
        x = self.act6(self.norm(self.conv2(x)))
        tokens = x.flatten(2).transpose(1, 2)
        likeness = self.query(tokens) @ tokens.transpose(1, 2)
        weights = F.softmax(likeness, 1) if self.softmax is None else self.softmax(likeness)
        return self.head(self.blend(weights @ tokens).mean(1))
