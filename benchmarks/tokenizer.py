"""Rates of encoding on one core, beside the rate of a matrix product in the same process.

The presets, and the small one with every other quantizer, encode the same jets of 45 particles on average. Codebooks
are placed by one training step, which changes nothing about the cost.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import awkward as ak
import numpy as np

from benchmarks.harness import PRODUCT, Cases, in_turn, parser, product_rate, products, random_jets, summary
from tokenizer import PRESETS, Tokenizer, VQVAEConfig

SMALL = PRESETS["quickstart"]
CONFIGS = {
    **PRESETS,
    "quickstart, unconditional": dataclasses.replace(SMALL, conditional=False),
    "quickstart, residual": dataclasses.replace(SMALL, quantizer="residual"),
    "quickstart, fsq": dataclasses.replace(SMALL, quantizer="fsq", latent_dim=3),
}


def fresh(config: VQVAEConfig) -> Tokenizer:
    """A tokenizer whose codebook is placed, as in training."""
    tokenizer = Tokenizer.create(config)
    first = random_jets(max(64, 2 * config.codebook_size // 45), seed=1)
    model: Any = tokenizer.model.train()
    model.loss(*tokenizer.preprocessing.padded(first))
    return tokenizer


def encoder_flops(config: VQVAEConfig, lengths: np.ndarray) -> float:
    """Multiplications and additions of the encoder's linear layers and attention."""
    d, blocks = config.d_model, config.n_encoder_blocks
    projections = 4 if config.conditional else 0
    per_particle = 2 * (blocks * (projections + 2 * config.mlp_ratio) * d * d + d * (3 + config.latent_dim))
    attention = projections * blocks * d * lengths.astype(float) ** 2
    return float(per_particle * lengths.sum() + attention.sum())


def main() -> None:
    """Measure and print."""
    options = parser(__doc__, repeats=5)
    options.add_argument("--jets", type=int, default=2000, help="jets per repeat")
    arguments = options.parse_args()
    jets = random_jets(arguments.jets)
    lengths = ak.to_numpy(ak.num(jets))
    tokenizers = {name: fresh(config) for name, config in CONFIGS.items()}
    cases: Cases = {PRODUCT: products, **{name: partial(t.encode, jets) for name, t in tokenizers.items()}}
    times = in_turn(cases, arguments.repeats)
    product = product_rate(times.pop(PRODUCT))
    print(f"one core, float32, {arguments.jets} jets of {lengths.mean():.1f} particles, ", end="")
    print(f"{arguments.repeats} repeats: median (least to greatest)")
    print(f"{PRODUCT}: {summary(product / 1e9)} GFLOP/s")
    for name, spent in times.items():
        config, size = CONFIGS[name], sum(p.numel() for p in tokenizers[name].model.parameters())
        share = encoder_flops(config, lengths) / spent / product
        print(f"{name}: {summary(arguments.jets / spent)} jets/s encoded ({size:,} parameters, "
              f"{config.codebook_size} codes), {np.median(share):.0%} of the rate of the matrix product")  # fmt: skip


if __name__ == "__main__":
    main()
