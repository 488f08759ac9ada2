"""Rate of encoding on one core, beside the rate of matrix products measured in the same process.

    python scripts/bench_tokenizer.py [--jets 2000] [--repeats 5]

Jets have 45 particles on average. The codebook is placed by one training step, which changes nothing about the
cost. Repeats of all sizes and of the matrix product take turns, so that a busy machine slows all of them.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable

import awkward as ak
import numpy as np
import torch

from tokenizer import PRESETS, Tokenizer, VQVAEConfig

MATRIX = 1024

#: The presets, and the small one with every other quantizer.
SMALL = PRESETS["quickstart"]
CONFIGS = {
    **PRESETS,
    "quickstart, unconditional": dataclasses.replace(SMALL, conditional=False),
    "quickstart, residual": dataclasses.replace(SMALL, quantizer="residual"),
    "quickstart, fsq": dataclasses.replace(SMALL, quantizer="fsq", latent_dim=3),
}


def bench_jets(n: int, mean: float = 45.0, seed: int = 0) -> ak.Array:
    """Random particles; lengths as spread as those of JetClass (standard deviation of some 18)."""
    rng = np.random.default_rng(seed)
    lengths = np.clip(rng.normal(mean, 18, n).round(), 2, 128).astype(int)
    size = lengths.sum()
    columns = {
        "pt": np.exp(rng.normal(1.8, 1.3, size)),
        "eta_rel": rng.normal(0, 0.2, size),
        "phi_rel": rng.normal(0, 0.2, size),
    }
    jets = ak.zip({name: ak.unflatten(values, lengths) for name, values in columns.items()})
    return jets[ak.argsort(jets.pt, axis=1, ascending=False, stable=True)]


def encoder_gflop(config: VQVAEConfig, lengths: np.ndarray) -> float:
    """Multiplications and additions of the encoder's linear layers and attention, in units of 1e9."""
    d, blocks = config.d_model, config.n_encoder_blocks
    projections = 4 if config.conditional else 0
    per_particle = 2 * (blocks * (projections + 2 * config.mlp_ratio) * d * d + d * (3 + config.latent_dim))
    attention = projections * blocks * d * lengths.astype(float) ** 2
    return float(per_particle * lengths.sum() + attention.sum()) / 1e9


def seconds(action: Callable[[], object]) -> float:
    """CPU time of one call: on a busy machine, too, it is the time of one core."""
    start = time.process_time()
    action()
    return time.process_time() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jets", type=int, default=2000, help="jets per repeat")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)

    jets = bench_jets(arguments.jets)
    lengths = ak.to_numpy(ak.num(jets))
    tokenizers = {}
    for name, config in CONFIGS.items():
        tokenizers[name] = Tokenizer.create(config)
        first = bench_jets(max(64, 2 * config.codebook_size // 45), seed=1)
        tokenizers[name].model.train().loss(*tokenizers[name].preprocessing.padded(first))
        tokenizers[name].encode(jets[:200])
    a, b = torch.randn(2, MATRIX, MATRIX)

    times: dict[str, list[float]] = {name: [] for name in (*tokenizers, "matmul")}
    for _ in range(arguments.repeats):
        times["matmul"].append(min(seconds(lambda: a @ b) for _ in range(5)))
        for name, tokenizer in tokenizers.items():
            times[name].append(seconds(lambda tokenizer=tokenizer: tokenizer.encode(jets)))

    matmul = 2e-9 * MATRIX**3 / np.array(times["matmul"])
    print(f"one core, float32, {arguments.jets} jets of {lengths.mean():.1f} particles, ", end="")
    print(f"{arguments.repeats} repeats: median (least to greatest)")
    print(f"matrix product {MATRIX}^3: {_summary(matmul)} GFLOP/s")
    for name, tokenizer in tokenizers.items():
        rate = arguments.jets / np.array(times[name])
        share = encoder_gflop(tokenizer.config, lengths) / np.array(times[name]) / matmul
        size = sum(p.numel() for p in tokenizer.model.parameters())
        print(
            f"{name}: {_summary(rate)} jets/s encoded ({size:,} parameters, "
            f"{tokenizer.config.codebook_size} codes), {np.median(share):.0%} of the matrix-product rate"
        )


def _summary(values: np.ndarray) -> str:
    return f"{np.median(values):.0f} ({values.min():.0f} to {values.max():.0f})"


if __name__ == "__main__":
    main()
