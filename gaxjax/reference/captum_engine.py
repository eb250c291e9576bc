"""AX with Captum: the reference that `gaxjax.attribution` is held to, torch from end to end."""

import contextlib
import dataclasses
from collections.abc import Generator, Iterable, Iterator
from typing import Any

import numpy as np
import torch

from gaxjax.ax import (
    AxScored,
    BatchStats,
    Explained,
    ScoredBatch,
    ax_solutions,
    suitable_methods,
    unreadable_solutions,
)
from gaxjax.common import UserError
from gaxjax.config import AxConfig, BatchConfig, Operation, ScoreName, Wanted
from gaxjax.data import Batch
from gaxjax.reference.captum_methods import attributions, completeness_gap, divide_by_max_abs
from gaxjax.reference.captum_model import (
    Normalized,
    first_convolution,
    layer,
    separate_nonlinearities,
)
from gaxjax.reference.torch_classifier import (
    TorchClassifier,
    augment,
    ax_logits,
    to_space,
    weighted,
)
from gaxjax.reference.torch_graph import TorchGraph
from gaxjax.results import Solution
from gaxjax.score import Confidence, Reading

__all__ = ["CaptumEngine"]

_BATCH = 16


class CaptumEngine:
    """Scores the heatmaps of Captum's methods for a stream of images, as `AxEngine` does.

    It uses a CUDA device where torch has one; attributions may use TF32 there when the precision
    is float32, scores never do.

    Args:
        classifier: the frozen model; its in-place and reused ReLUs are separated here.
        config: methods, operations, score space.
        batch: batch size, precision; one device at most.
        heatmap_dtype: type of the heatmaps; scores are those after that rounding.
        keep_heatmaps: hand the heatmaps out.

    Raises:
        UserError: no such layer; several devices.
    """

    backend = "captum"

    def __init__(
        self,
        classifier: TorchClassifier,
        config: AxConfig,
        batch: BatchConfig,
        *,
        heatmap_dtype: Any = np.float32,
        keep_heatmaps: bool = True,
    ) -> None:
        if batch.devices not in (None, 1):
            raise UserError(
                f"--backend captum uses one device; got --devices {batch.devices}: leave it out"
            )
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        network = separate_nonlinearities(classifier.network).to(self.device)
        if isinstance(network, TorchGraph):
            config = dataclasses.replace(config, methods=suitable_methods(config, network.graph))
        layers = config.layers or (first_convolution(network),)
        self.wanted = config.wanted(layers)
        for _, name in self.wanted:
            if name is not None:
                layer(network, name)  # raises where there is none
        self.config = config
        self.classifier = dataclasses.replace(classifier, network=network)
        self._attributed: torch.nn.Module = network
        if config.score_space == "normalized" and classifier.mean and classifier.std:
            self._attributed = Normalized(network, classifier.mean, classifier.std)
        self._keep_heatmaps = keep_heatmaps
        self._heatmap_dtype = np.dtype(heatmap_dtype)
        self.batch_size = batch.batch_size or _BATCH
        self.stats = BatchStats(batch_size=self.batch_size, devices=1, precision=batch.precision)

    @property
    def heatmaps_per_image(self) -> int:
        """One for each method, and of layer_grad_cam one for each layer."""
        return len(self.wanted)

    @property
    def hardware(self) -> dict[str, str]:
        """On what it runs, for a run's header."""
        return {"device": f"1 × {self.device}", "platform": self.device}

    def warm_up(self) -> None:
        """Do nothing: torch compiles nothing ahead."""

    def run(self, batches: Iterable[Batch]) -> Generator[list[Solution], None, None]:
        """Yield one list of solutions per image, in the order of the batches."""
        for batch in batches:
            for index, reason in batch.unreadable:
                yield unreadable_solutions(
                    index, reason, self.wanted, self.config.operations, self.backend
                )
            if len(batch.indices):
                self.stats.clock()
                found = self._scored(batch)
                self.stats.images += len(batch.indices)
                self.stats.heatmaps += len(batch.indices) * len(self.wanted)
                self.stats.clock()
                yield from ax_solutions(
                    batch, found, self.wanted, self.config.operations, self.backend
                )

    def _scored(self, batch: Batch) -> ScoredBatch:
        z = to_space(self.classifier, batch.images, self.config.score_space).to(self.device)
        labels = torch.from_numpy(batch.labels.astype(np.int64)).to(self.device)
        plain = self._logits(z)
        score = self.config.score
        before = _reading(plain, labels, score)
        at_prediction = weighted(plain, before.prediction, score)
        with _tf32(self.stats.precision == "float32"):
            raw = attributions(
                self._attributed,
                z,
                before.prediction,
                self.wanted,
                baseline=self.config.deep_lift_baseline,
                deep_lift_pooling=self.config.deep_lift_pooling,
            )
        gaps = {
            key: _to_host(
                completeness_gap(
                    self._attributed, z, raw[key], before.prediction, self.config.deep_lift_baseline
                )
            )
            for key in self.wanted
            if key[0] == "deep_lift"
        }
        heatmaps: dict[Wanted, Any] = {}
        scales: dict[Wanted, Any] = {}
        scores: dict[tuple[Wanted, Operation], AxScored] = {}
        for key in self.wanted:
            heatmap, scale = divide_by_max_abs(raw.pop(key))
            scales[key] = _to_host(scale)
            heatmaps[key] = _to_host(heatmap).transpose(0, 2, 3, 1).astype(self._heatmap_dtype)
            for operation in self.config.operations:
                logits = self._augmented_logits(z, heatmaps[key], operation)
                after = _reading(logits, labels, score)
                scores[key, operation] = AxScored(
                    co_score=_to_host(after.weighted - before.weighted),
                    prediction=_to_host(after.prediction),
                    probability=_to_host(after.probability),
                    co_score_predicted=_to_host(
                        weighted(logits, before.prediction, score) - at_prediction
                    ),
                )
        explained = Explained(
            reading=Reading(*map(_to_host, before)),
            confidence=Confidence(*map(_to_host, _confidence(plain))),
            weighted_at_prediction=_to_host(at_prediction),
            heatmaps=heatmaps if self._keep_heatmaps else {},
            scales=scales,
            gaps=gaps,
        )
        return ScoredBatch(explained, scores)

    def _augmented_logits(
        self, z: torch.Tensor, heatmaps: np.ndarray, operation: Operation
    ) -> torch.Tensor:
        """Return f of the augmented images, with heatmaps as stored."""
        stored = torch.from_numpy(heatmaps.astype(np.float32).transpose(0, 3, 1, 2)).to(z)
        return self._logits(augment(z, stored, operation))

    @torch.no_grad()
    def _logits(self, z: torch.Tensor) -> torch.Tensor:
        with _tf32(False):
            return ax_logits(self.classifier, z, self.config.score_space)


def _reading(logits: torch.Tensor, labels: torch.Tensor, score: ScoreName) -> Any:
    """Return what `score` names, the prediction and the softmax at the label, still as tensors."""
    return Reading(
        weighted=weighted(logits, labels, score),  # type: ignore[arg-type]
        prediction=logits.argmax(1),  # type: ignore[arg-type]
        probability=logits.softmax(1).gather(1, labels[:, None])[:, 0],  # type: ignore[arg-type]
    )


def _confidence(logits: torch.Tensor) -> Any:
    """Return how sure the classifier is, still as tensors."""
    logs = logits.log_softmax(1)
    likely = logs.exp()
    largest, second = logits.topk(2, dim=1).values.unbind(1)
    return Confidence(
        max_probability=likely.max(1).values,  # type: ignore[arg-type]
        entropy=-torch.where(likely > 0, likely * logs, 0).sum(1),  # type: ignore[arg-type]
        logit_margin=largest - second,  # type: ignore[arg-type]
        logsumexp=logits.logsumexp(1),  # type: ignore[arg-type]
    )


@contextlib.contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    """Let convolutions and matrix products on a GPU use TF32, or not."""
    convolutions, products = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = convolutions
        torch.backends.cuda.matmul.allow_tf32 = products


def _to_host(tensor: Any) -> Any:
    return tensor.detach().cpu().numpy()
