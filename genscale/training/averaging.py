"""Weights averaged along a training: at constant learning rate they lie where a decay would have led.

The last weights of a run at constant rate are noisy, and so is their loss. The mean over the last part of the
run is not, and costs no second run: one training still gives the losses of a whole column of D (Izmailov et al.,
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
    share : float
        0: no mean is kept, and the weights are those of the last step.
    """

    def __init__(self, model: nn.Module, share: float) -> None:
        self.share = share
        self._parameters = flatten_parameters(model)
        self._mean = self._parameters.clone() if share else None
        self._shapes = {name: p.shape for name, p in model.named_parameters()}

    def update(self, step: int) -> None:
        """Take in the weights after a step, counted from one."""
        if self._mean is not None:
            self._mean.lerp_(self._parameters, 1 / max(1.0, self.share * step))

    @contextlib.contextmanager
    def in_model(self) -> Iterator[None]:
        """Put the mean into the model, and the weights of the last step back at the end."""
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
        """The mean by parameter, for a checkpoint; empty if none is kept."""
        if self._mean is None:
            return {}
        parts = self._mean.split([shape.numel() for shape in self._shapes.values()])
        return {
            name: part.view(shape) for (name, shape), part in zip(self._shapes.items(), parts, strict=True)
        }

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Go on from what `tensors` returned."""
        for name, mean in self.tensors().items():
            mean.copy_(tensors[name])
