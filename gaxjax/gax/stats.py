"""What the engine did, in numbers: for progress, run.json and benchmarks."""

from dataclasses import dataclass
from typing import Any

from gaxjax.common import Timed


@dataclass
class EngineStats(Timed):
    """Counts and times of an engine's work.

    An image-step is one forward pass, one input gradient and one update of one image's `w`.

    Attributes:
        slots: per device. devices: how many. verify_size: images verified together, per device.
        precision: of the network while optimising.
        steps: calls of the step. image_steps: image-steps done. slot_steps: image-steps that all
            slots could have done.
        undrained: image_steps, slot_steps and seconds when the queue last held an image or one
            was to come; what follows is the drain.
        verifications, baselines: batches of each. returned: images sent back to their slot.
        settled: images that were optimised to their end.
        halvings: how often the slots were halved for want of memory.
        compile_seconds: before the first step. seconds: since the first step.
    """

    slots: int = 0
    devices: int = 0
    verify_size: int = 0
    precision: str = ""
    steps: int = 0
    image_steps: int = 0
    slot_steps: int = 0
    undrained: tuple[int, int, float] | None = None
    verifications: int = 0
    baselines: int = 0
    returned: int = 0
    settled: int = 0
    halvings: int = 0

    @property
    def occupancy(self) -> float:
        """Share of the slots at work until the drain, in [0, 1]."""
        done, possible, _ = self._undrained()
        return done / possible if possible else 0.0

    @property
    def rate(self) -> float:
        """Image-steps a second until the drain, verification and classification included."""
        done, _, seconds = self._undrained()
        return done / seconds if seconds > 0 else 0.0

    def describe(self) -> str:
        """Return the progress line's figures."""
        return f"{self.rate:,.1f} image-steps/s · slots {self.occupancy:.0%} busy"

    def _undrained(self) -> tuple[int, int, float]:
        return self.undrained or (self.image_steps, self.slot_steps, self.seconds)

    def summary(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        values = {name: value for name, value in vars(self).items() if not name.startswith("_")} | {
            "image_steps_per_second": self.rate,
            "occupancy": self.occupancy,
        }
        del values["undrained"]
        return values
