"""Hold the rules of batch and rate against a sweep: python scripts/recipe_rule.py STUDY/variations.csv [--figure FILE]

Reads the variations of configs/studies/recipes_tagging.yaml or recipes_generation.yaml and prints, for each size and
amount of data, the best recipe, the run nearest to the rules, and how far its loss lies from the best one beside the
scatter of seeds; then how the local slopes of the loss in N and D move when the recipe is a wrong one.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from eval.common.style import PALETTE, styled
from genscale.errors import InputError, run_guarded
from genscale.models.ladder import learning_rate, tagger_learning_rate


@dataclass(frozen=True)
class Recipe:
    """What a run was trained with."""

    batch: int
    rate: float


#: (size, D) -> recipe -> mean loss and the losses of its seeds.
Cells = dict[tuple[str, int], dict[Recipe, list[float]]]


def read(path: Path) -> tuple[Cells, dict[str, int], str]:
    """Final losses, parameters by size in rising order, and the task."""
    cells: Cells = {}
    parameters: dict[str, int] = {}
    task = ""
    with path.open() as file:
        for row in csv.DictReader(file):
            recipe = Recipe(int(row["training.batch_jets"]), float(row["training.learning_rate"]))
            place = (row["size"], int(row["training.jets"]))
            cells.setdefault(place, {}).setdefault(recipe, []).append(float(row["L"]))
            parameters[row["size"]], task = int(row["N"]), row["task"]
    if not cells:
        raise InputError(f"{path}: no runs; run the study to its end first")
    return cells, dict(sorted(parameters.items(), key=lambda item: item[1])), task


def ruled_batch(jets: int) -> int:
    """Batch that the ramp ends with for a run of so many jets: sqrt(jets / 125), to the nearest power of two."""
    return max(4, 2 ** round(math.log2(math.sqrt(jets / 125))))


def ruled_rate(task: str, size: str) -> float:
    """Peak rate by the rule of the task."""
    return tagger_learning_rate(int(size[1:])) if task == "tagger" else learning_rate(size)


def nearest(recipes: Mapping[Recipe, list[float]], batch: int, rate: float) -> Recipe:
    """Swept recipe nearest to a batch and a rate, in the logarithms of both."""
    return min(recipes, key=lambda r: abs(math.log(r.batch / batch)) + abs(math.log(r.rate / rate)))


def scatter(cells: Cells) -> dict[int, float]:
    """Standard deviation of ln L between seeds by D, pooled over sizes and recipes that have two or more."""
    squares: dict[int, list[float]] = {}
    for (_, jets), recipes in cells.items():
        for losses in recipes.values():
            if len(losses) > 1:
                squares.setdefault(jets, []).append(float(np.var(np.log(losses), ddof=1)))
    return {jets: math.sqrt(np.mean(values)) for jets, values in squares.items()}


def slopes(
    cells: Cells, sizes: Mapping[str, int], choose: Callable[[str, int], Recipe]
) -> tuple[float, float]:
    """-dlnL/dlnN and -dlnL/dlnD, least squares over the plane of ln L for one recipe per size and D."""
    points = [
        (math.log(sizes[size]), math.log(jets), math.log(np.mean(cells[size, jets][choose(size, jets)])))
        for size, jets in cells
    ]
    n, d, loss = np.array(points).T
    design = np.stack([np.ones_like(n), n, d], axis=1)
    solution = np.linalg.lstsq(design, loss, rcond=None)[0]
    return -float(solution[1]), -float(solution[2])


@styled
def draw(cells: Cells, sizes: Mapping[str, int], task: str, path: Path) -> None:
    """Loss above the best of its size and D against the rate in units of the rule, one panel per D."""
    amounts = sorted({jets for _, jets in cells})
    figure, axes = plt.subplots(1, len(amounts), figsize=(4 * len(amounts), 3.6), sharey=True)
    batches = sorted({recipe.batch for recipes in cells.values() for recipe in recipes})
    for ax, jets in zip(np.atleast_1d(axes), amounts, strict=True):
        for size in sizes:
            recipes = cells.get((size, jets), {})
            if not recipes:
                continue
            best = min(np.mean(losses) for losses in recipes.values())
            for colour, batch in zip(PALETTE, batches, strict=False):
                line = sorted((r.rate, np.mean(x)) for r, x in recipes.items() if r.batch == batch)
                if line:
                    rates, losses = np.array(line).T
                    label = f"{batch} jets per step" if size == next(iter(sizes)) else None
                    ax.plot(rates / ruled_rate(task, size), 100 * (losses / best - 1), ".-", color=colour,
                            alpha=0.8, label=label)  # fmt: skip
        ax.set(xscale="log", xlabel="rate / rate of the rule", title=f"{jets:,} jets", ylim=(-1, None))
        ax.set_xticks([0.5, 1, 2], ["1/2", "1", "2"])
        ax.set_xticks([], minor=True)
        ax.legend(frameon=False)
    np.atleast_1d(axes)[0].set_ylabel("loss above the best recipe (%)")
    figure.savefig(path, dpi=110)


def main() -> None:
    """Print the tables, and draw the figure if one is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("points", type=Path, help="variations.csv of the sweep")
    parser.add_argument("--figure", type=Path, help="where to draw loss against rate")
    arguments = parser.parse_args()
    cells, sizes, task = read(arguments.points)
    noise = scatter(cells)

    def best(size: str, jets: int) -> Recipe:
        recipes = cells[size, jets]
        return min(recipes, key=lambda r: float(np.mean(recipes[r])))

    def ruled(size: str, jets: int) -> Recipe:
        return nearest(cells[size, jets], ruled_batch(jets), ruled_rate(task, size))

    print(
        "| size | D | best batch, rate | loss | nearest to the rules | loss | above the best | SD of its mean |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for jets in sorted({jets for _, jets in cells}):
        for size in (s for s in sizes if (s, jets) in cells):
            recipes, (b, r) = cells[size, jets], (best(size, jets), ruled(size, jets))
            low, here = float(np.mean(recipes[b])), float(np.mean(recipes[r]))
            spread = f"{100 * noise[jets] / math.sqrt(len(recipes[r])):.1f} %" if jets in noise else ""
            print(f"| {size} | {jets:,} | {b.batch}, {b.rate:g} | {low:.4f} | {r.batch}, {r.rate:g} | {here:.4f} | "
                  f"{100 * (here / low - 1):.1f} % | {spread} |")  # fmt: skip
    middle = list(sizes)[len(sizes) // 2]
    wrong = {
        "the best of each size and D": best,
        "the rules": ruled,
        "half the rates": lambda s, d: nearest(cells[s, d], ruled_batch(d), ruled_rate(task, s) / 2),
        "twice the rates": lambda s, d: nearest(cells[s, d], ruled_batch(d), ruled_rate(task, s) * 2),
        "16 jets per step for all": lambda s, d: nearest(cells[s, d], 16, ruled_rate(task, s)),
        f"the rate of {middle} for all": lambda s, d: nearest(
            cells[s, d], ruled_batch(d), ruled_rate(task, middle)
        ),
    }
    print("\n| recipe | -dlnL/dlnN | -dlnL/dlnD |\n|---|---|---|")
    for name, choose in wrong.items():
        by_n, by_d = slopes(cells, sizes, choose)
        print(f"| {name} | {by_n:.3f} | {by_d:.3f} |")
    if arguments.figure:
        draw(cells, sizes, task, arguments.figure)


if __name__ == "__main__":
    sys.exit(run_guarded(main))
