"""Dropout whose cost on a CPU grows with what is dropped, not with what is kept."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def dropped_places(n: int, probability: float) -> Tensor:
    """Places of ``0 .. n - 1`` that are dropped, each independently with this probability; int64, rising.

    A random number for every gap between dropped places is a hundred times fewer than one for every place, at a
    probability of 0.01. The gaps of independent places are geometric, and so are exponential numbers rounded down.
    """
    expected = n * probability
    count = int(expected + 8 * math.sqrt(expected) + 16)  # short of the end once in 1e15 times
    gaps = torch.empty(count, dtype=torch.float64).exponential_(-math.log1p(-probability))
    places = (gaps.long() + 1).cumsum(0) - 1
    return places[: int(torch.searchsorted(places, n))]


def drop(x: Tensor, places: Tensor, probability: float) -> Tensor:
    """Divide by the share that is kept, with zeros at these places of the flattened tensor."""
    out = x * (1 / (1 - probability))
    out.view(-1).index_fill_(0, places, 0.0)
    return out


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, probability: float) -> Tensor:
        places = dropped_places(x.numel(), probability)
        ctx.probability = probability
        ctx.save_for_backward(places)
        return drop(x.contiguous(), places, probability)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (places,) = ctx.saved_tensors
        return drop(grad.contiguous(), places, ctx.probability), None


class Dropout(nn.Dropout):
    """As ``nn.Dropout``; on a CPU it draws a random number for each dropped value only."""

    def forward(self, x: Tensor) -> Tensor:
        """Values of any shape to the same."""
        if not self.training or self.p == 0 or x.device.type != "cpu":
            return F.dropout(x, self.p, self.training)
        return _Dropout.apply(x, self.p)
