"""Train a sweep of generators on one core: python scripts/sweep_generators.py SWEEP.yaml --out FOLDER [KEY=VALUE]...

The sweeps are configs/generator/learning_rates.yaml and configs/generator/ablation.yaml. They read the tokens
of the quickstart (scripts/quickstart first); others are given as run.tokens=..., run.validation=... and
run.tokenizer=.... Run again after an interruption, it goes on where it was.
"""

import argparse
import sys
from pathlib import Path

import torch

from genscale.cli import run_guarded
from genscale.config import load_config, save_yaml
from genscale.sweep import Sweep, run_sweep


def main() -> None:
    """Run the sweep of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    given = parser.parse_intermixed_args()
    torch.set_num_threads(1)  # small models gain nothing from more, and last digits depend on the number
    sweep = load_config(Sweep, given.config, given.overrides)
    given.out.mkdir(parents=True, exist_ok=True)
    save_yaml(sweep, given.out / "sweep.yaml")
    rows = run_sweep(sweep, given.out)
    print(f"{given.out / 'points.csv'}: {len(rows)} points")


if __name__ == "__main__":
    sys.exit(run_guarded(main))
