"""What work that goes batch by batch did, in numbers."""

from dataclasses import dataclass
from typing import Any

from gaxjax.common import Timed


@dataclass
class BatchStats(Timed):
    """Counts and times of work that goes batch by batch.

    Attributes:
        batch_size: images per batch and device. devices: how many.
        precision: of the attributions.
        images, heatmaps: done.
        halvings: how often the batch was halved for want of memory.
        compile_seconds: before the first batch. seconds: since the first batch was started.
    """

    batch_size: int = 0
    devices: int = 0
    precision: str = ""
    images: int = 0
    heatmaps: int = 0
    halvings: int = 0

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.images / self.seconds if self.seconds > 0 else 0.0

    @property
    def images_done(self) -> int:
        """Images done: a batch's solutions come all at once."""
        return self.images

    def describe(self) -> str:
        """Return the progress line's figures."""
        return f"{self.rate:,.2f} images/s"

    def summary(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        values = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        return values | {"images_per_second": self.rate}
