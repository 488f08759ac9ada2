"""Losses of architectures at equal FLOPs: python scripts/ablation_table.py docs/results/ablation/micro.csv

Reads the variations.csv of configs/studies/ablation.yaml or ablation_small.yaml and prints a Markdown table. The
losses of each run are interpolated in ln(FLOPs) to the largest FLOPs that all runs reach. Differences from the base,
which differs from the others in one thing each, are means over seeds of pairs with the same seed.
"""

import argparse
import csv
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from genscale.errors import run_guarded

BASE = "pre-norm, GELU, learned positions, tied head"
WORDS = {
    ("model.norm", "post"): "post-norm",
    ("model.activation", "relu"): "ReLU",
    ("model.activation", "swiglu"): "SwiGLU, hidden width 3d",
    ("model.positions", "none"): "no positions",
    ("model.scaled_embedding", "True"): "scaled embedding",
    ("model.tied_head", "False"): "untied head",
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("points", type=Path)
    with parser.parse_args().points.open() as file:
        rows = list(csv.DictReader(file))
    curves: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        curves[row["run"]].append(row)
    flops = min(max(float(r["C"]) for r in curve) for curve in curves.values())
    # change -> rate -> seed -> loss
    losses: dict[str, dict[float, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    parameters = {}
    for curve in curves.values():
        last = curve[-1]
        change = ", ".join(word for (key, value), word in WORDS.items() if last.get(key) == value) or BASE
        x, y = (np.array([float(r[name]) for r in curve]) for name in ("C", "L"))
        losses[change][float(last["learning_rate"])][last["seed"]] = float(
            np.interp(np.log(flops), np.log(x), y)
        )
        parameters[change] = int(last["N"])
    main_rate = max(losses[BASE], key=lambda rate: len(losses[BASE][rate]))
    rates = sorted(losses[BASE])
    print(
        f"Losses in nats per token at {flops:.3g} FLOPs; rate {main_rate:g} and, with seed 1, the others.\n"
    )
    print("| change | N | loss (SD, n) | difference from the base |" + "".join(f" {r:g} |" for r in rates))
    print("|---|---|---|---|" + "---|" * len(rates))
    base = losses[BASE][main_rate]
    for change, found in losses.items():
        values = np.array(list(found[main_rate].values()))
        pairs = np.array([found[main_rate][seed] - base[seed] for seed in base if seed in found[main_rate]])
        error = pairs.std(ddof=1) / np.sqrt(len(pairs)) if len(pairs) > 1 else np.nan
        difference = "" if change == BASE else f"{pairs.mean():+.4f} ± {error:.4f}"
        first = "".join(f" {found[r]['1']:.4f} |" if "1" in found[r] else " |" for r in rates)
        print(
            f"| {change} | {parameters[change]:,} | {values.mean():.4f} ({values.std(ddof=1):.4f}, {len(values)}) | "
            f"{difference} |{first}"
        )


if __name__ == "__main__":
    sys.exit(run_guarded(main))
