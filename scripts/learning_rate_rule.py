"""Fit the rule eta(N) to a sweep of learning rates: python scripts/learning_rate_rule.py [docs/results/learning-rates]

Reads points.csv there, the variations.csv of configs/studies/learning_rates.yaml, and prints: for each size and D the
best rate, by a parabola through losses against ln(rate); a power law of the best rate in N; and how exponents of the
loss move when every rate is off by a factor. Draws learning-rates.png beside the points.
"""

import argparse
import csv
import sys
from pathlib import Path

import numpy as np

from genscale.cli import run_guarded

RESAMPLES = 500
#: Rates whose loss lies further than this above the least one say nothing about the place of the minimum.
NEAR = 0.15

#: (size, D) -> {rate: losses of its seeds}
Table = dict[tuple[str, int], dict[float, list[float]]]


def read(path: Path) -> tuple[Table, dict[str, int]]:
    """Losses, and parameters in the blocks of the sizes in rising order."""
    table: Table = {}
    blocks = {}
    with path.open() as file:
        for row in csv.DictReader(file):
            rate = float(row["training.learning_rate"])
            seeds = table.setdefault((row["size"], int(row["D"])), {}).setdefault(rate, [])
            seeds.append(float(row["L"]))
            blocks[row["size"]] = int(row["N_blocks"])
    return table, dict(sorted(blocks.items(), key=lambda item: item[1]))


def seed_noise(table: Table) -> float:
    """Standard deviation of the loss between seeds, over all cells with two of them and D of the last half."""
    largest = max(d for _, d in table)
    pairs = [
        values[1] - values[0]
        for (_, d), rates in table.items()
        for values in rates.values()
        if len(values) == 2 and d >= largest / 4
    ]
    return float(np.sqrt(np.mean(np.square(pairs)) / 2))


def vertex(
    rates: dict[float, list[float]], noise: float, rng: np.random.Generator | None
) -> tuple[float, float]:
    """Best rate (as ln) and its loss: minimum of the parabola through the points about the least loss.

    With ``rng`` the losses are shaken by the seeds' noise. NaN where the least loss lies at the end of the rates.
    """
    x = np.log(sorted(rates))
    y = np.array([np.mean(rates[r]) for r in sorted(rates)])
    if rng is not None:
        y = y + rng.normal(size=len(y)) * noise / np.sqrt([len(rates[r]) for r in sorted(rates)])
    i = int(y.argmin())
    if i in (0, len(x) - 1):
        return np.nan, float(y[i])
    near = (y < y[i] + NEAR) | (np.arange(len(x)) == i - 1) | (np.arange(len(x)) == i + 1)
    c2, c1, c0 = np.polyfit(x[near], y[near], 2)
    best = float(np.clip(-c1 / (2 * c2), x[near].min(), x[near].max()))
    return best, float(np.polyval([c2, c1, c0], best))


def interval(values: np.ndarray) -> str:
    """Median-free text of a 68 % interval."""
    low, high = np.nanpercentile(values, [16, 84])
    return f"{low:.3g} to {high:.3g}"


def best_rates(table: Table, sizes: list[str], data: int, noise: float) -> dict[str, np.ndarray]:
    """Ln of the best rate of each size at one D: the estimate, then its resamples."""
    rng = np.random.default_rng(0)
    found = {}
    for size in sizes:
        if (size, data) in table and len(table[size, data]) >= 3:
            rates = table[size, data]
            found[size] = np.array(
                [vertex(rates, noise, None)[0]] + [vertex(rates, noise, rng)[0] for _ in range(RESAMPLES)]
            )
    return found


def power_law(found: dict[str, np.ndarray], blocks: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """Rate at 100,000 parameters in blocks, and exponent: estimates, then resamples."""
    x = np.log([blocks[size] / 1e5 for size in found])
    columns = np.stack(list(found.values()), axis=1)
    lines = [np.polyfit(x, row, 1) for row in columns if np.isfinite(row).all()]
    exponent, level = np.array(lines).T
    return np.exp(level), exponent


def slopes(
    table: Table, blocks: dict[str, int], rate: dict[str, float], window: tuple[int, int]
) -> tuple[float, float]:
    """Local exponents -d ln L / d ln N and -d ln L / d ln D of the losses at these rates.

    N is that of the blocks, at the largest D of the window; D is within the window, mean over the sizes. The
    rate of the sweep that lies nearest is taken.
    """
    loss = {
        (size, data): float(np.mean(rates[min(rates, key=lambda r: abs(np.log(r / rate[size])))]))
        for (size, data), rates in table.items()
        if size in rate and window[0] <= data <= window[1]
    }
    in_n = [(blocks[size], y) for (size, data), y in loss.items() if data == window[1]]
    in_d = [[(data, y) for (s, data), y in loss.items() if s == size] for size in rate]
    return -_slope(in_n), -float(np.mean([_slope(points) for points in in_d]))


def _slope(points: list[tuple[int, float]]) -> float:
    x, y = np.log(np.array(points)).T
    return float(np.polyfit(x, y, 1)[0])


def main() -> None:
    """Print everything and draw the figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", default=Path("docs/results/learning-rates"))
    folder = parser.parse_args().folder
    table, blocks = read(folder / "points.csv")
    sizes = list(blocks)
    noise = seed_noise(table)
    print(f"standard deviation of the loss between seeds: {noise:.4f} nats per token")
    for data in sorted({d for _, d in table}):
        found = best_rates(table, sizes, data, noise)
        inside = {size: v for size, v in found.items() if np.isfinite(v[0])}
        texts = [f"{size} {np.exp(v[0]):.2g} ({interval(np.exp(v))})" for size, v in inside.items()]
        if len(inside) >= 3:
            level, exponent = power_law(inside, blocks)
            texts.append(
                f"=> {level[0]:.3g} ({interval(level)}) x (N_blocks / 1e5)^{exponent[0]:.3f} ({interval(exponent)})"
            )
        print(f"D = {data:6d}: " + ", ".join(texts))
    largest = max(d for d in {d for _, d in table} if all((size, d) in table for size in sizes))
    window = (largest // 4, largest)
    print(f"\nexponents of the loss for D from {window[0]:,} to {window[1]:,}, N in blocks:")
    best = {size: min(table[size, largest], key=lambda r: np.mean(table[size, largest][r])) for size in sizes}
    choices = {f"{f:g} x the best rate": {s: r * f for s, r in best.items()} for f in (0.25, 0.5, 1, 2, 4)}
    choices |= {f"{r:g} for all": dict.fromkeys(sizes, r) for r in sorted(table[sizes[-1], largest])}
    for name, rate in choices.items():
        alpha, beta = slopes(table, blocks, rate, window)
        print(f"  {name:20s} -dlnL/dlnN {alpha:.4f}  -dlnL/dlnD {beta:.4f}")
    draw(table, sizes, folder / "learning-rates.png")


def draw(table: Table, sizes: list[str], path: Path) -> None:
    """Loss against rate, a panel for each size, a line for each D."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    shown = sorted({d for _, d in table})[::-2][:4]  # a factor of two apart
    colors = dict(zip(shown, colormaps["viridis"](np.linspace(0.05, 0.85, len(shown))), strict=True))
    figure = Figure(figsize=(2.6 * len(sizes), 2.8), layout="constrained")
    axes = figure.subplots(1, len(sizes), sharey=True, sharex=True)
    for ax, size in zip(axes, sizes, strict=True):
        for data in reversed(shown):
            rates = table.get((size, data), {})
            ax.plot(sorted(rates), [np.mean(rates[r]) for r in sorted(rates)], color=colors[data])
            for r in rates:
                ax.plot([r] * len(rates[r]), rates[r], ".", color=colors[data])
        ax.set(xscale="log", title=size, xlabel="learning rate")
    handles = [Line2D([], [], color=colors[d], label=f"{d:,} jets") for d in reversed(shown)]
    axes[-1].legend(handles=handles, fontsize="small", frameon=False)
    lowest = min(np.mean(v) for rates in table.values() for v in rates.values())
    axes[0].set(ylabel="held-out loss [nats / token]", ylim=(lowest - 0.03, lowest + 0.7))
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    sys.exit(run_guarded(main))
