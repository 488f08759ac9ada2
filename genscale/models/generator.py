"""The generator: an autoregressive decoder over a jet's tokens, in the manner of OmniJet-alpha.

Birk, Hallin and Kasieczka, arXiv:2403.05618. The loss is a likelihood: nats per real token, with the stop
token and without padding (there is none in a packed batch).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genscale.data.packing import Packing
from genscale.errors import require
from genscale.models.blocks import Activation, Block, Blocks, init_transformer
from genscale.models.head import Nats, head_nats


@dataclass(frozen=True)
class GeneratorConfig:
    """Configuration of a generator.

    Attributes
    ----------
    d_model : int
        Width of the network.
    n_layers : int
        Number of blocks; 0 gives a bigram model, which sees only the previous token.
    n_heads : int
        Attention heads per block.
    vocab_size : int
        Number of tokens: codes, start and stop.
    max_tokens : int
        Longest input sequence: start token and constituents.
    norm : "pre" or "post"
        Layer norm before each branch, or after its residual connection.
    activation : Activation
        Activation of the MLPs.
    positions : "learned" or "none"
        Position embeddings. OmniJet-alpha has none; a token then knows its position from the causal mask alone.
    scaled_embedding : bool
        Multiply embeddings by the square root of the width (Vaswani et al., arXiv:1706.03762, section 3.4). They are
        initialised small because of the tied head; unscaled, they would be small against the outputs of the blocks.
    tied_head : bool
        The head is the transposed embedding (without bias), otherwise a separate linear layer (with bias).
    qkv_bias : bool
        Biases in the projections to queries, keys and values.
    mlp_ratio : int
        Hidden width of the MLPs in units of d_model.
    n_classes : int
        Number of classes; 0 for an unconditional generator. Otherwise the embedding of a jet's class is added to the
        embedding of its start token.
    """

    d_model: int
    n_layers: int
    n_heads: int
    vocab_size: int
    max_tokens: int = 129
    norm: Literal["pre", "post"] = "pre"
    activation: Activation = "gelu_tanh"
    positions: Literal["learned", "none"] = "none"
    scaled_embedding: bool = True
    tied_head: bool = True
    qkv_bias: bool = False
    mlp_ratio: int = 4
    n_classes: int = 0

    def __post_init__(self) -> None:
        choices = {
            "norm": ("pre", "post"),
            "activation": get_args(Activation),
            "positions": ("learned", "none"),
        }
        for name, known in choices.items():
            value = getattr(self, name)
            require(value in known, f"model.{name}: {value!r} is not one of {', '.join(known)}")
        for name in ("d_model", "n_heads", "max_tokens", "mlp_ratio"):
            value = getattr(self, name)
            require(
                isinstance(value, int) and value >= 1,
                f"model.{name}: {value!r} is not a positive whole number",
            )
        require(
            isinstance(self.n_layers, int) and self.n_layers >= 0,
            f"model.n_layers: {self.n_layers!r} is not a whole number, 0 (a bigram model) or more",
        )
        require(
            self.d_model % self.n_heads == 0,
            f"model.d_model: {self.d_model} is not a multiple of n_heads, {self.n_heads}",
        )


class Generator(nn.Module):
    """Next-token model of tokenized jets; see the module's text and `GeneratorConfig`."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        c = self.config = config
        self.embedding = nn.Embedding(c.vocab_size, c.d_model)
        self.position_embedding = nn.Embedding(c.max_tokens, c.d_model) if c.positions == "learned" else None
        self.class_embedding = nn.Embedding(c.n_classes, c.d_model) if c.n_classes else None
        self.blocks = Blocks(
            Block(
                c.d_model,
                c.n_heads,
                causal=True,
                norm=c.norm,
                activation=c.activation,
                mlp_ratio=c.mlp_ratio,
                qkv_bias=c.qkv_bias,
            )
            for _ in range(c.n_layers)
        )
        self.scale = c.d_model**0.5 if c.scaled_embedding else 1.0
        self.final_norm = nn.LayerNorm(c.d_model) if c.norm == "pre" else nn.Identity()
        self.head = None if c.tied_head else nn.Linear(c.d_model, c.vocab_size)
        init_transformer(self, c.n_layers)

    def _embed(self, tokens: Tensor, packing: Packing, labels: Tensor | None) -> Tensor:
        rows = self.embedding(tokens)
        if self.class_embedding is not None:
            if labels is None:
                raise ValueError("a class-conditional generator needs the jets' labels")
            rows = rows.index_add(0, packing.starts, self.class_embedding(labels))
        if self.position_embedding is not None:
            rows = rows + self.position_embedding(packing.positions(len(rows)))
        return rows * self.scale

    def hidden(self, tokens: Tensor, packing: Packing, labels: Tensor | None = None) -> Tensor:
        """Compute the inputs of the head from packed tokens.

        Parameters
        ----------
        tokens : Tensor of int64, shape (n_tokens,)
            Packed input tokens.
        packing : Packing
            Their layout.
        labels : Tensor of int64, shape (n_jets,), optional
            Class of each jet, for a class-conditional generator.

        Returns
        -------
        Tensor, shape (n_tokens, d_model)
        """
        rows = self._embed(tokens, packing, labels)
        rows = self.blocks(rows, packing)
        return self.final_norm(rows)

    def _head(self) -> tuple[Tensor, Tensor | None]:
        """Weight ``[vocab_size, d]`` and bias of the head."""
        return (self.embedding.weight, None) if self.head is None else (self.head.weight, self.head.bias)

    def logits(self, hidden: Tensor, out: Tensor | None = None) -> Tensor:
        """The head: ``[..., d]`` to ``[..., vocab_size]``, or ``[jets, d]`` written to ``out`` and returned."""
        weight, bias = self._head()
        if out is None:
            return F.linear(hidden, weight, bias)
        torch.mm(hidden, weight.T, out=out)
        return out if bias is None else out.add_(bias)

    def forward(
        self, tokens: Tensor, targets: Tensor, packing: Packing, labels: Tensor | None = None
    ) -> Nats:
        """Negative log-likelihood of the target tokens ``[n_tokens]``: their sum and its terms."""
        hidden = self.hidden(tokens, packing, labels)
        return head_nats(hidden, *self._head(), targets)

    def new_cache(self, jets: int) -> list[tuple[Tensor, Tensor]]:
        """Empty key/value caches, one pair ``[max_tokens, jets, d_model]`` for each block."""
        shape = (self.config.max_tokens, jets, self.config.d_model)
        new = self.embedding.weight.new_empty
        return [(new(shape), new(shape)) for _ in self.blocks]

    def step(
        self,
        tokens: Tensor,
        position: int,
        cache: list[tuple[Tensor, Tensor]],
        labels: Tensor | None = None,
        *,
        out: Tensor,
    ) -> Tensor:
        """Logits ``[jets, vocab_size]`` of the token after ``tokens`` ``[jets]``, which stand at ``position``.

        They are written to ``out``, best a view of a ``logits_buffer``, and returned.
        """
        x = self.embedding(tokens)
        if position == 0 and self.class_embedding is not None:
            if labels is None:
                raise ValueError("a class-conditional generator needs the jets' labels")
            x = x + self.class_embedding(labels)
        if self.position_embedding is not None:
            x = x + self.position_embedding.weight[position]
        x = x * self.scale
        for block, (keys, values) in zip(self.blocks, cache, strict=True):
            x = cast(Block, block).step(x, keys, values, position)
        return self.logits(self.final_norm(x), out)
