"""Converted models equal torchvision's: logits and input gradients, every architecture.

Random weights with randomised batch-norm statistics; in inference mode both as converted and with
batch norm folded, as the engine uses them.
"""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from converters import convert_state_dict, head_of, parity_report, read_state_dict
from gaxjax.models import architectures

sys.path.insert(0, str(Path(__file__).parents[1]))
from torch_weights import random_state_dict

SIZE = 64  # AlexNet needs 63

# Worst relative difference of the logits in float32, per family, at 64 and at 224 pixels:
LOGITS = {
}
LOGIT_TOLERANCE = 2e-5

# Gradients, float32. Rounding alone is 4e-6; a ReLU input that rounds to the other side of 0
# switches a unit on or off, which is up to a few percent of the largest gradient.
