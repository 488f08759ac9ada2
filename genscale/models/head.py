"""The head and its likelihood in one pass, so that the logits of all tokens never exist at once.

A batch of 64 jets over 8,194 tokens has 95 MB of logits, and a plain cross-entropy holds four arrays of that
size. Here the head runs on some hundreds of tokens at a time: logits, likelihood and the gradient of the
logits (softmax minus one-hot) follow one another in one buffer that stays in the cache. The gradient is
complete when the forward pass ends, at no cost of recomputation, because what is differentiated is a sum.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from genscale.models import fused

#: Bytes of logits held at once. On a CPU the buffer should stay in its cache, an accelerator wants large products.
CHUNK_BYTES_CPU = 16 * 2**20
CHUNK_BYTES_ACCELERATOR = 512 * 2**20

#: Rows of logits are a multiple of this many numbers long: where they begin at odd addresses (a vocabulary of 8,194),
#: the product that writes them takes up to 1.7 times as long (MKL, one core).
ROW_MULTIPLE = 32


def logits_buffer(rows: int, vocab_size: int, like: Tensor) -> Tensor:
    """Uninitialised logits ``[rows, at least vocab_size]`` of the dtype and device of ``like``.

    The columns from ``vocab_size`` on are there for the alignment; -inf in them gives them no probability.
    """
    return like.new_empty(rows, -(-vocab_size // ROW_MULTIPLE) * ROW_MULTIPLE)


class Nats(NamedTuple):
    """Negative log-likelihood of a batch in nats, in float32 or better.

    Attributes
    ----------
    total : Tensor, scalar
        Sum over the tokens; this one has a gradient.
    per_token : Tensor [n_tokens]
        The terms of the sum, values only.
    """

    total: Tensor
    per_token: Tensor


@torch.compiler.disable  # matrix products and one softmax: nothing to fuse, and the number of chunks varies
def head_nats(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Nats:
    """Negative log-likelihood of the targets under ``softmax(hidden @ weight.T + bias)``.

    Parameters
    ----------
    hidden : Tensor, shape (n_tokens, d)
        Inputs of the head.
    weight : Tensor, shape (vocab_size, d)
        Weight of the head.
    bias : Tensor, shape (vocab_size,), or None
        Bias of the head.
    targets : Tensor of int64, shape (n_tokens,)
        Target tokens.

    Returns
    -------
    Nats
    """
    device = hidden.device.type
    with_gradient = torch.is_grad_enabled()
    if not torch.amp.is_autocast_available(device):  # such as that of shapes without values, "meta"
        return Nats(*_HeadNats.apply(hidden, weight, bias, targets, with_gradient))
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    with torch.autocast(device, enabled=False):
        return Nats(*_HeadNats.apply(hidden.to(dtype), weight.to(dtype), bias, targets, with_gradient))


class _HeadNats(torch.autograd.Function):
    """Sum and terms of the negative log-likelihood; ``hidden`` and ``weight`` in the precision of the products."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, with_gradient: bool
    ) -> tuple[Tensor, Tensor]:
        # A likelihood is never summed up in half precision, nor are gradients over chunks.
        precise = torch.promote_types(hidden.dtype, torch.float32)
        if fused.head_available(hidden, weight):
            nats, *grads = fused.fused_head(hidden, weight, bias, targets, with_gradient)
            ctx.save_for_backward(*grads)
            ctx.dtypes = weight.dtype, None if bias is None else bias.dtype
            ctx.mark_non_differentiable(nats)
            return nats.sum(), nats
        n, vocab_size = len(hidden), len(weight)
        chunk_bytes = CHUNK_BYTES_CPU if hidden.device.type == "cpu" else CHUNK_BYTES_ACCELERATOR
        chunk = min(n, max(1, chunk_bytes // (vocab_size * precise.itemsize)))
        nats = hidden.new_empty(n, dtype=precise)
        logits = logits_buffer(chunk, vocab_size, hidden)
        log_p = logits if precise == hidden.dtype else logits.new_empty(logits.shape, dtype=precise)
        if with_gradient:
            grad_hidden = torch.empty_like(hidden)
            grad_weight = torch.zeros_like(weight, dtype=precise)
            grad_bias = None if bias is None else torch.zeros_like(bias, dtype=precise)
        for first in range(0, n, chunk):
            rows, wanted = hidden[first : first + chunk], targets[first : first + chunk, None]
            padded = log_p[: len(rows)]
            here, p = logits[: len(rows), :vocab_size], padded[:, :vocab_size]
            torch.mm(rows, weight.T, out=here)
            if precise != hidden.dtype:
                p.copy_(here)
            if bias is not None:
                p += bias
            padded[:, vocab_size:] = -torch.inf
            torch.log_softmax(padded, dim=1, out=padded)
            nats[first : first + chunk] = -p.gather(1, wanted)[:, 0]
            if not with_gradient:
                continue
            padded.exp_()
            p.scatter_add_(1, wanted, p.new_full((), -1.0).expand(wanted.shape))
            if grad_bias is not None:
                grad_bias += p.sum(0)
            if precise != hidden.dtype:
                here.copy_(p)
            torch.mm(here, weight, out=grad_hidden[first : first + chunk])
            if precise == hidden.dtype:
                grad_weight.addmm_(here.T, rows)
            else:
                grad_weight += here.T @ rows
        if with_gradient:
            ctx.save_for_backward(grad_hidden, grad_weight, grad_bias)
            ctx.dtypes = weight.dtype, None if bias is None else bias.dtype
        ctx.mark_non_differentiable(nats)
        return nats.sum(), nats

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_weight, grad_bias = ctx.saved_tensors
        weight_dtype, bias_dtype = ctx.dtypes
        return (
            (grad_hidden * grad).to(grad_hidden.dtype),
            (grad_weight * grad).to(weight_dtype),
            None if grad_bias is None else (grad_bias * grad).to(bias_dtype),
            None,
            None,
        )
