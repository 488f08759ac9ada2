"""Weights averaged along a training, which at constant learning rate are close to those after a decay.

The last weights of a run at constant rate are noisy, and so is their loss. The mean over the last part of the run is
not noisy and needs no second run, so that one training still gives losses at many D (Izmailov et al.,
arXiv:1803.05407; for scaling laws, Hägele et al., arXiv:2405.18392).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import Tensor, nn

from genscale.training.optimizer import flatten_parameters


class WeightAverage:
    """Running mean of a model's parameters over about the last ``share`` of its steps.

    The mean is exponential with a window that grows with the run, so that it is the same wherever the run ends.

    Parameters
    ----------
    model : nn.Module
        The model.
    share : float
        Fraction of the steps; with 0 there is no mean, and the weights are those of the last step.
    """

    def __init__(self, model: nn.Module, share: float) -> None:
        self.share = share
        self._parameters = flatten_parameters(model)
        self._mean = self._parameters.clone() if share else None
        self._shapes = {name: p.shape for name, p in model.named_parameters()}

    def update(self, step: int) -> None:
        """Add the weights after a step, counted from one."""
        if self._mean is not None:
            self._mean.lerp_(self._parameters, 1 / max(1.0, self.share * step))

    @contextlib.contextmanager
    def in_model(self) -> Iterator[None]:
        """Put the mean into the model, and restore the weights of the last step at the end."""
        if self._mean is None:
            yield
            return
        last = self._parameters.clone()
        self._parameters.copy_(self._mean)
        try:
            yield
        finally:
            self._parameters.copy_(last)

    def tensors(self) -> dict[str, Tensor]:
        """Return the mean by parameter, for a checkpoint; empty if there is none."""
        if self._mean is None:
            return {}
        parts = self._mean.split([shape.numel() for shape in self._shapes.values()])
        return {
            name: part.view(shape) for (name, shape), part in zip(self._shapes.items(), parts, strict=True)
        }

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Continue from what `tensors` returned."""
        for name, mean in self.tensors().items():
            mean.copy_(tensors[name])
