"""Attention of all particles of a jet to all others, for many small jets on a CPU.

A jet of forty particles is so little work that calls cost more than arithmetic: one differentiable function does all
groups of a batch, with three matrix calls for each forward and six back, and none of the bookkeeping between them.
Accelerators have better kernels of their own. The mathematics is that of ``scaled_dot_product_attention``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from genscale.models.dropout import drop, dropped_places
from genscale.models.packing import Packing, Shapes


def set_attention(qkv: Tensor, packing: Packing, n_heads: int, dropout: float = 0.0) -> Tensor:
    """Attend within each jet of a packed batch.

    Parameters
    ----------
    qkv : Tensor [n_tokens, 3 d]
        Queries, keys and values side by side.
    packing : Packing
    n_heads : int
    dropout : float
        Probability with which an attention weight is dropped.

    Returns
    -------
    Tensor [n_tokens, d]
    """
    return _SetAttention.apply(
        qkv, packing.to_slots, packing.to_flat, packing.is_padding, packing.shapes, n_heads, dropout
    )


def _groups(shapes: Shapes, heads: int, width: int, *slots: Tensor) -> Iterator[list[Tensor]]:
    """For every head of every group: the part of each array ``[slots, .. d]``, as views ``[jets, longest, width]``."""
    low = 0
    for jets, longest in shapes:
        high = low + jets * longest
        blocks = [x[low:high].view(jets, longest, -1) for x in slots]
        for head in range(heads):
            yield [
                block[..., first : first + width]
                for block in blocks
                for first in range(head * width, block.shape[-1], heads * width)
            ]
        low = high


class _SetAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, to_slots: Tensor, to_flat: Tensor, is_padding: Tensor, shapes: Shapes,
        heads: int, dropout: float,
    ) -> Tensor:  # fmt: skip
        width = qkv.shape[1] // 3 // heads
        slots = qkv.index_select(0, to_slots)
        out = slots.new_empty(len(slots), heads * width)
        bias = slots.new_zeros(len(slots), 1).masked_fill_(is_padding[:, None], float("-inf"))
        biases = (
            part.view(jets, 1, longest)
            for part, (jets, longest) in zip(bias.split([j * t for j, t in shapes]), shapes, strict=True)
            for _ in range(heads)
        )
        kept: list[Tensor] = []
        for (q, k, v, into), hide in zip(_groups(shapes, heads, width, slots, out), biases, strict=True):
            weights = torch.baddbmm(hide, q, k.transpose(1, 2), alpha=width**-0.5).softmax(-1)
            kept.append(weights)
            if dropout:
                places = dropped_places(weights.numel(), dropout)
                kept.append(places)
                weights = drop(weights, places, dropout)
            into.copy_(torch.bmm(weights, v)) if heads > 1 else torch.bmm(weights, v, out=into)
        ctx.save_for_backward(slots, to_slots, to_flat, is_padding, *kept)
        ctx.shapes, ctx.heads, ctx.width, ctx.dropout = shapes, heads, width, dropout
        return out.index_select(0, to_flat)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        slots, to_slots, to_flat, is_padding, *kept = ctx.saved_tensors
        heads, width, dropout = ctx.heads, ctx.width, ctx.dropout
        grad_out = grad.index_select(0, to_slots).masked_fill_(is_padding[:, None], 0.0)
        grad_slots = torch.empty_like(slots)
        parts = iter(kept)
        for q, k, v, into, to_q, to_k, to_v in _groups(ctx.shapes, heads, width, slots, grad_out, grad_slots):
            weights = dropped = next(parts)
            to_weights = torch.bmm(into, v.transpose(1, 2))
            if dropout:
                places = next(parts)
                dropped, to_weights = drop(weights, places, dropout), drop(to_weights, places, dropout)
            to_scores = torch.ops.aten._softmax_backward_data(to_weights, weights, -1, weights.dtype)
            to_scores *= width**-0.5
            to_q.copy_(torch.bmm(to_scores, k))
            to_k.copy_(torch.bmm(to_scores.transpose(1, 2), q))
            to_v.copy_(torch.bmm(dropped.transpose(1, 2), into))
        return grad_slots.index_select(0, to_flat), None, None, None, None, None, None
