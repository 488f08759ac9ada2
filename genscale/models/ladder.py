"""The ladder of generator sizes, Pico to XXL: one table, everything else derived.

The names follow Amram et al. (arXiv:2605.28940); the shapes are ours to choose. From rung to rung the
non-embedding parameters, about 12 layers d^2, grow by a factor of four to five.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

from genscale.errors import InputError
from genscale.models.generator import GeneratorConfig


@dataclass(frozen=True)
class Rung:
    """Shape of one size."""

    d_model: int
    n_layers: int
    n_heads: int


LADDER: Final[dict[str, Rung]] = {
    "pico": Rung(16, 2, 2),
    "nano": Rung(32, 2, 2),
    "micro": Rung(64, 2, 4),
    "small": Rung(96, 4, 4),
    "medium": Rung(192, 4, 6),
    "large": Rung(384, 5, 6),
    "xl": Rung(768, 6, 12),
    "xxl": Rung(1024, 16, 16),
}

#: The released OmniJet-alpha generator: 6,570,498 parameters at a vocabulary of 8,194.
OMNIJET: Final[dict[str, Any]] = {
    "norm": "post",
    "activation": "relu",
    "positions": "none",
    "tied_head": False,
}


def generator_config(size: str, vocab_size: int, max_tokens: int = 129, **overrides: Any) -> GeneratorConfig:
    """Return the configuration of a rung of the ladder, or of the preset ``omnijet``.

    Raises
    ------
    InputError
        If there is no such size; the nearest name is given.
    """
    size = size.lower()
    if size == "omnijet":
        return GeneratorConfig(256, 3, 8, vocab_size, max_tokens, **{**OMNIJET, **overrides})
    if size not in LADDER:
        near = get_close_matches(size, [*LADDER, "omnijet"], n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise InputError(f"no generator size {size!r}: known are {', '.join(LADDER)} and omnijet{hint}")
    rung = LADDER[size]
    return GeneratorConfig(rung.d_model, rung.n_layers, rung.n_heads, vocab_size, max_tokens, **overrides)


def describe(vocab_size: int, tokens_per_jet: float) -> str:
    """Return a table of all sizes: shape, parameters by part, training FLOPs per token, memory of weights."""
    import torch

    from genscale.models.counting import count_parameters, generator_flops
    from genscale.models.generator import Generator

    lines = [
        f"{'size':8s} {'width':>6s} {'layers':>6s} {'heads':>5s} {'embedding':>12s} {'blocks':>12s} {'head':>10s} "
        f"{'total':>12s} {'FLOPs/token':>12s} {'6N':>9s} {'MiB':>7s}"
    ]
    for size in [*LADDER, "omnijet"]:
        config = generator_config(size, vocab_size)
        with torch.device("meta"):  # shapes without memory: the largest has hundreds of millions
            n = count_parameters(Generator(config))
        jets = 1000
        flops = generator_flops(config, jets, round(jets * tokens_per_jet)) / (jets * tokens_per_jet)
        lines.append(
            f"{size:8s} {config.d_model:6d} {config.n_layers:6d} {config.n_heads:5d} {n.embedding:12,d} "
            f"{n.blocks:12,d} {n.head:10,d} {n.total:12,d} {flops:12.3g} {6 * n.total:9.3g} "
            f"{4 * n.total / 2**20:7.1f}"
        )
    lines.append(
        f"vocabulary {vocab_size}, {tokens_per_jet:g} tokens per jet; FLOPs of training, counted from the "
        "architecture (attention and head included); MiB of float32 weights, training needs about four times that"
    )
    return "\n".join(lines)
