"""Weights averaged along a training: at constant learning rate they lie where a decay would have led.

The last weights of a run at constant rate are noisy, and so is their loss. The mean over the last part of the
run is not, and costs no second run: one training still gives the losses of a whole column of D (Izmailov et al.,
arXiv:1803.05407; for scaling laws, Hägele et al., arXiv:2405.18392).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn


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
        named = dict(model.named_parameters()) if share else {}
        self._names, self._parameters = list(named), [p.data for p in named.values()]
        self._mean = [p.clone() for p in self._parameters]

    def update(self, step: int) -> None:
        """Take in the weights after a step, counted from one."""
        if self.share:
            torch._foreach_lerp_(self._mean, self._parameters, 1 / max(1.0, self.share * step))

    @contextlib.contextmanager
    def in_model(self) -> Iterator[None]:
        """Put the mean into the model, and the weights of the last step back at the end."""
        last = [p.clone() for p in self._parameters]
        self._copy(self._mean)
        try:
            yield
        finally:
            self._copy(last)

    def _copy(self, values: list[Tensor]) -> None:
        for parameter, value in zip(self._parameters, values, strict=True):
            parameter.copy_(value)

    def tensors(self) -> dict[str, Tensor]:
        """The mean by parameter, for a checkpoint; empty if none is kept."""
        return dict(zip(self._names, self._mean, strict=True))

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Go on from what :meth:`tensors` returned."""
        for name, mean in zip(self._names, self._mean, strict=True):
            mean.copy_(tensors[name])
