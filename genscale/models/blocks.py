"""The transformer block that the generator and the tagger share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genscale.data.packing import Packing
from genscale.models import fused

#: Keys that a CPU goes through at once when it draws jets: their products with the queries stay in its cache.
CACHE_BYTES_AT_ONCE = 2 * 2**20

Activation = Literal["gelu", "gelu_tanh", "relu", "swiglu"]


def mlp_weights(d_model: int, mlp_ratio: int, activation: Activation) -> int:
    """Weights (without biases) of a block's MLP, whose hidden width is ``mlp_ratio * d_model`` for every activation.

    SwiGLU (Shazeer, arXiv:2002.05202) has a gate of that width, too, so at a ratio of 2 it has as many weights as the
    others at 3: a block of about 10 d_model**2 with its attention, the sizes of Uslu et al., arXiv:2606.19781.
    """
    return (3 if activation == "swiglu" else 2) * mlp_ratio * d_model**2


def activate(x: Tensor, kind: Activation) -> Tensor:
    """Apply the activation of that name; SwiGLU halves the width: ``silu(first half) * second half``."""
    if kind == "relu":
        return F.relu(x, inplace=True)
    if kind == "swiglu":
        gate, values = x.chunk(2, dim=-1)
        return F.silu(gate) * values
    return F.gelu(x, approximate="tanh" if kind == "gelu_tanh" else "none")


class SelfAttention(nn.Module):
    """Multi-head self-attention on packed rows; causal, or over all tokens of the jet."""

    def __init__(self, d_model: int, n_heads: int, *, causal: bool, qkv_bias: bool, dropout: float) -> None:
        super().__init__()
        if d_model % n_heads:
            raise ValueError(f"width {d_model} is not a multiple of the number of heads {n_heads}")
        self.n_heads, self.causal, self.dropout = n_heads, causal, dropout
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=qkv_bias)
        self.out = nn.Linear(d_model, d_model)

    def _heads(self, x: Tensor) -> Tensor:
        """``[jets, tokens, d]`` to a view ``[jets, heads, tokens, head width]``."""
        return x.unflatten(2, (self.n_heads, -1)).transpose(1, 2)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, padding: Tensor) -> Tensor:
        """Attention without its projections: ``[jets, longest, d]`` of a group (see Packing.attend) to the same."""
        # Padding lies after the real tokens, so under a causal mask no real token can see it.
        mask = None if self.causal else ~padding[:, None, None, :]
        out = F.scaled_dot_product_attention(
            self._heads(q),
            self._heads(k),
            self._heads(v),
            attn_mask=mask,
            is_causal=self.causal,
            dropout_p=self.dropout if self.training else 0.0,
        )
        return out.transpose(1, 2).flatten(2)

    def forward(self, rows: Tensor, packing: Packing) -> Tensor:
        """Packed rows ``[n_tokens, d]`` to the same."""
        return self.out(packing.attend(self.qkv(rows), self.attend))

    def step(self, x: Tensor, keys: Tensor, values: Tensor, position: int) -> Tensor:
        """Attend from one token of every jet, with the jets' cached keys and values.

        Parameters
        ----------
        x : Tensor, shape (n_jets, d)
            The tokens at ``position``.
        keys : Tensor, shape (max_length, n_jets, d)
            Cached keys, filled up to ``position``; those of these tokens are written into it. The position is the
            first axis, so that the entries of a position are contiguous.
        values : Tensor, shape (max_length, n_jets, d)
            Cached values, likewise.
        position : int
            Position of the tokens.

        Returns
        -------
        Tensor, shape (n_jets, d)
        """
        q, keys[position], values[position] = self.qkv(x).chunk(3, dim=1)
        q = q * (x.shape[1] // self.n_heads) ** -0.5
        keys, values = keys[: position + 1], values[: position + 1]
        jets = len(x) if x.device.type != "cpu" else max(1, CACHE_BYTES_AT_ONCE // keys[:, 0].nbytes)
        parts = zip(q.split(jets), keys.split(jets, dim=1), values.split(jets, dim=1), strict=True)
        return self.out(torch.cat([self._attend_cached(*part) for part in parts]))

    def _attend_cached(self, q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Scaled queries ``[jets, d]`` on keys and values ``[tokens, jets, d]`` to ``[jets, d]``.

        With one query a jet there is no matrix to multiply: products and sums run at the speed of the memory.
        """
        heads = (self.n_heads, -1)
        weights = (keys * q).unflatten(2, heads).sum(-1, keepdim=True).softmax(0)
        return (values.unflatten(2, heads) * weights).sum(0).flatten(1)


class Block(nn.Module):
    """Attention and MLP with residual connections; norms before (pre) or after (post) each of them.

    The MLP's hidden width is ``mlp_ratio * d_model``; with ``activation="swiglu"`` it has a gate of that width,
    too: half as many weights again (see `mlp_weights`).
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        causal: bool,
        norm: Literal["pre", "post"] = "pre",
        activation: Activation = "gelu",
        mlp_ratio: int = 4,
        qkv_bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm, self.activation = norm, activation
        self.norm1 = nn.LayerNorm(d_model)
        self.attention = SelfAttention(d_model, n_heads, causal=causal, qkv_bias=qkv_bias, dropout=dropout)
        self.norm2 = nn.LayerNorm(d_model)
        hidden = mlp_ratio * d_model
        # SwiGLU's gate and values come from one matrix product, as queries, keys and values do.
        self.up = nn.Linear(d_model, 2 * hidden if activation == "swiglu" else hidden)
        self.down = nn.Linear(hidden, d_model)
        self.dropout = nn.Dropout(dropout)

    def weights(self) -> list[Tensor | None]:
        """Weight and bias of each layer in the order of registration; None where there is no bias."""
        layers = (self.norm1, self.attention.qkv, self.attention.out, self.norm2, self.up, self.down)
        return [parameter for layer in layers for parameter in (layer.weight, layer.bias)]

    def _mlp(self, x: Tensor) -> Tensor:
        return self.down(self.dropout(activate(self.up(x), self.activation)))

    def _residual(self, x: Tensor, attended: Tensor) -> Tensor:
        """The block's output from its input and its attention's output."""
        if self.norm == "pre":
            x = x + self.dropout(attended)
            return x + self.dropout(self._mlp(self.norm2(x)))
        x = self.norm1(x + self.dropout(attended))
        return self.norm2(x + self.dropout(self._mlp(x)))

    def forward(self, rows: Tensor, packing: Packing) -> Tensor:
        """Packed rows ``[n_tokens, d]`` to the same."""
        source = self.norm1(rows) if self.norm == "pre" else rows
        return self._residual(rows, self.attention(source, packing))

    def step(self, x: Tensor, keys: Tensor, values: Tensor, position: int) -> Tensor:
        """One token of every jet ``[jets, d]`` with the cache of this block (see SelfAttention.step)."""
        source = self.norm1(x) if self.norm == "pre" else x
        return self._residual(x, self.attention.step(source, keys, values, position))


class Blocks(nn.ModuleList):
    """Equal blocks, one after another.

    An optimizer may set ``gradient`` to a vector of which the gradients of all parameters, in their order, are views;
    fused blocks then add to it at once, instead of parameter by parameter.
    """

    def __init__(self, blocks: Iterable[Block]) -> None:
        super().__init__(blocks)
        self.gradient: Tensor | None = None
        # Looking them up at every step would take as long as some of their products.
        self._weights = [weight for block in self for weight in cast(Block, block).weights()]

    def forward(self, rows: Tensor, packing: Packing) -> Tensor:
        """Packed rows ``[n_tokens, d]`` to the same."""
        if self.are_fused(rows):
            attention = cast(Block, self[0]).attention
            return fused.fused_blocks(
                rows, packing, self._weights, n_heads=attention.n_heads, causal=attention.causal,
                tanh_gelu=cast(Block, self[0]).activation == "gelu_tanh", gradient=self.gradient,
            )  # fmt: skip
        for block in self:
            rows = block(rows, packing)
        return rows

    def are_fused(self, rows: Tensor | None = None) -> bool:
        """Whether all blocks are one call of compiled C for rows like these (by default those of the weights' type)."""
        if not len(self):
            return False
        block = cast(Block, self[0])
        no_dropout = not self.training or block.dropout.p == 0
        pre_norm_gelu = block.norm == "pre" and block.activation in ("gelu", "gelu_tanh")
        return pre_norm_gelu and no_dropout and fused.available(block.up.weight if rows is None else rows)


def init_transformer(model: nn.Module, n_layers: int) -> None:
    """Initialise for widths from 16 to thousands: normal weights of variance 1/fan-in, biases zero.

    Outputs into the residual stream are scaled by 1/sqrt(2 n_layers) (Radford et al. 2019, section 2.3);
    embeddings start at 0.02, so that a tied head starts with nearly uniform predictions.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            residual = (2 * n_layers) ** -0.5 if name.endswith(("attention.out", "down")) else 1.0
            nn.init.normal_(module.weight, std=residual * module.in_features**-0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
