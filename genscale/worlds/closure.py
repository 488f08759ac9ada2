"""What the fits of a study find in a world, beside what is true there.

The tables of losses, the laws and the intervals are those of real jets, and the truth enters only at the end, where
fitted constants are compared with it: the fits of the whole grid, those of grids that end earlier or span fewer
decades, and those of many smaller grids, whose intervals should hold the truth as often as they say. Smaller grids
share runs, so that their coverage is that of one study and not of independent ones.

All losses of a study are measured on the same held-out jets, whose own scatter moves them together, and the fitted
floor with them. The truth is therefore that of these jets (`genscale.worlds.stores.held_out_floors`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eval.common.errors import InputError
from eval.common.results import Estimate
from eval.literature.verdicts import Criterion, Verdict, usable
from eval.scaling import FitResult, Points, Spread, Variant, fit, misfit, spread, variants
from genscale.errors import require

#: A statement about L_inf is as good as true within this share of the lowest loss, and fails at twice as much.
MARGIN: Final = 0.02

#: A loss this many standard errors below its floor is a leak of held-out jets into training, or an error of the loss.
LEAK_SIGMAS: Final = 3.0

#: Least decades of D of a grid.
LEAST_DECADES: Final = 0.9

#: Guards that may say that a fit is not to be trusted.
GUARDS: Final = ("not identified", "misfit", "sensitivity")


@dataclass(frozen=True)
class Truth:
    """What is known of a task in a world.

    Attributes
    ----------
    floor : float
        L_inf of the held-out jets, in the unit of the losses.
    error : float
        Its standard error; zero if it was computed on the very jets that the losses were measured on.
    alpha : float, optional
        Exponent of size of an ideal learner, where it is known.
    beta : float, optional
        Exponent of data, likewise.
    """

    floor: float
    error: float
    alpha: float | None = None
    beta: float | None = None


@dataclass(frozen=True)
class Found:
    """One fit beside the truth.

    Attributes
    ----------
    name : str
        Law, objective and points.
    n_points : int
        Points that were fitted.
    decades : dict of str to float
        Decades of N and D that they span.
    largest : dict of str to float
        Largest N and D.
    params : dict of str to Estimate
        Constants of the law.
    bias : float
        Fitted minus true floor.
    covered : dict of str to bool
        Whether the 68 % and the 95 % interval hold the true floor, within three of its own errors.
    guards : tuple of str
        The guards that call the fit untrustworthy, of `GUARDS`.
    """

    name: str
    n_points: int
    decades: dict[str, float]
    largest: dict[str, float]
    params: dict[str, Estimate]
    bias: float
    covered: dict[str, bool]
    guards: tuple[str, ...] = ()


@dataclass(frozen=True)
class Closure:
    """Fits of one task of a study in a world, beside the truth.

    Attributes
    ----------
    truth : Truth
    lowest_loss : float
        Lowest measured loss.
    leaks : tuple of str
        Runs whose held-out loss lies below the floor by more than `LEAK_SIGMAS` of its error.
    laws : tuple of Found
        All points, with every law and objective.
    spans : tuple of Found
        L(N, D) of grids that end earlier in D, or begin later, or lack the largest sizes.
    grids : tuple of Found
        L(N, D) of smaller grids that were drawn at random, with the intervals of the fit alone.
    judged : tuple of Found
        The same with the intervals that verdicts rest on, which hold every way to fit.
    verdicts : dict of str to float
        Share of the smaller grids that decide wrongly about statements on L_inf that are true (by how often they are
        contradicted) or false (by how often they are supported), and share that decides at all.
    failed : int
        Smaller grids that could not be fitted.
    """

    truth: Truth
    lowest_loss: float
    leaks: tuple[str, ...]
    laws: tuple[Found, ...]
    spans: tuple[Found, ...]
    grids: tuple[Found, ...]
    judged: tuple[Found, ...]
    verdicts: dict[str, float] = field(default_factory=dict)
    failed: int = 0

    def coverage(self, interval: str, *, judged: bool = False) -> float:
        """Share of the smaller grids whose interval, "ci68" or "ci95", holds the true floor."""
        found = self.judged if judged else self.grids
        return float(np.mean([f.covered[interval] for f in found])) if found else float("nan")

    def caught(self) -> dict[str, float]:
        """Shares of the fits whose 95 % interval misses the truth that each guard, and no guard, caught."""
        wrong = [f for f in self.grids if not f.covered["ci95"]]
        if not wrong:
            return {}
        shares = {guard: float(np.mean([guard in f.guards for f in wrong])) for guard in GUARDS}
        return shares | {"none": float(np.mean([not f.guards for f in wrong]))}


def close(
    points: Points, truth: Truth, *, grids: int = 40, bootstrap: int = 100, starts: int = 24, seed: int = 0
) -> Closure:
    """Fit a task of a study in a world in every way, and compare with the truth.

    Parameters
    ----------
    points : Points
        Held-out losses of single-pass runs; groups are runs. Errors of the losses are taken from a column
        ``L_error`` if there is one.
    truth : Truth
    grids : int
        Smaller grids to draw.
    bootstrap : int
        Resamples behind every interval.
    starts : int
        Starts of each search.
    seed : int
        Seed of grids, starts and resamples.

    Returns
    -------
    Closure

    Raises
    ------
    InputError
        L(N, D) cannot be fitted to all points.
    """
    options: dict[str, Any] = {"bootstrap": bootstrap, "starts": starts, "seed": seed}
    laws = []
    for name, law, variable, loss, chosen in _ways(points):
        result = _attempt(fit, chosen, law, variable=variable, loss=loss, **options)
        if result is not None:
            laws.append(_found(name, chosen, result, truth))
    require(bool(laws), f"{points.source}: no law can be fitted to its {len(points)} points")
    spans = []
    for name, mask in _spans(points):
        part = points.select(mask)
        result = _attempt(fit, part, "additive", **options)
        if result is not None:
            spans.append(_found(name, part, result, truth))
    rng = np.random.default_rng(seed)
    alone, judged, failed = [], [], 0
    for number in range(grids):
        part = points.select(_smaller_grid(points, rng))
        ways = _attempt(variants, part, "additive", **options)
        if ways is None:
            failed += 1
            continue
        whole = spread(ways, lambda result: result.params["E"])
        guards = _guards(part, ways, whole)
        alone.append(_found(f"grid {number + 1}", part, ways[0].fit, truth, guards))
        judged.append(_compared(f"grid {number + 1}", part, {"E": whole.estimate}, truth, guards))
    return Closure(
        truth, float(points.L.min()), _leaks(points, truth), tuple(laws), tuple(spans), tuple(alone), tuple(judged),
        _verdicts(judged, truth, MARGIN * float(points.L.min())), failed,
    )  # fmt: skip


def _ways(points: Points) -> list[tuple[str, str, str | None, str, Points]]:
    """Name, law, variable, objective and points of every fit to the whole grid."""
    n, d = points.variable("N"), points.variable("D")
    longest, largest = points.select(d == d.max()), points.select(n == n[d == d.max()].max())
    return [
        ("L(N, D), Huber", "additive", None, "huber-log", points),
        ("L(N, D), mean square", "additive", None, "mse-log", points),
        ("L(N, D), one exponent", "additive-tied", None, "huber-log", points),
        ("L(D) of the largest size", "power", "D", "huber-log", largest),
        ("L(N) at the largest D", "power", "N", "huber-log", longest),
    ]


def _spans(points: Points) -> list[tuple[str, NDArray[np.bool_]]]:
    """Grids that end earlier in D, that begin later, and that lack the largest sizes; all points first."""
    n, d = points.variable("N"), points.variable("D")
    found = [("all points", np.ones(len(points), dtype=bool))]
    steps = np.unique(d)
    for name, ends in (
        ("D up to", [(steps[0], end) for end in steps[-2::-1]]),
        ("D from", [(begin, steps[-1]) for begin in steps[1:]]),
    ):
        for low, high in ends:
            if np.log10(high / low) >= LEAST_DECADES:
                found.append((f"{name} {high if name == 'D up to' else low:.3g}", (d >= low) & (d <= high)))
    sizes = np.unique(n)
    found += [(f"N up to {size:.3g}", n <= size) for size in sizes[-2:1:-1]]
    return found


def _smaller_grid(points: Points, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Points of a grid drawn at random: at least three sizes, some of their runs, and a range of D."""
    n, d = points.variable("N"), points.variable("D")
    sizes, steps = np.unique(n), np.unique(d)
    kept = rng.permutation(sizes)[: rng.integers(min(3, len(sizes)), len(sizes) + 1)]
    runs = np.unique(points.group) if points.group is not None else np.arange(len(points)).astype(str)
    group = points.group if points.group is not None else runs
    chosen = [run for run in runs if rng.random() < 0.7]
    ranges = [(a, b) for a in steps for b in steps if b / a >= 10**LEAST_DECADES]
    low, high = ranges[rng.integers(len(ranges))] if ranges else (steps[0], steps[-1])
    wanted = np.isin(n, kept) & (d >= low) & (d <= high)
    some = wanted & np.isin(group, chosen)
    return some if some.any() else wanted


def _guards(points: Points, ways: Sequence[Variant], whole: Spread) -> tuple[str, ...]:
    """Guards that would have warned of a fit to these points."""
    result = ways[0].fit
    floor, error = result.params["E"], misfit(points, result)
    low, high = whole.range
    fired = {
        "not identified": floor.identified is False or whole.estimate.identified is False,
        "misfit": bool(error.model_error) and (error.model_error or 0) > (error.seed_scatter or 0),
        "sensitivity": floor.ci95 is not None and (low < floor.ci95[0] or high > floor.ci95[1]),
    }
    return tuple(guard for guard in GUARDS if fired[guard])


def _verdicts(judged: Sequence[Found], truth: Truth, margin: float) -> dict[str, float]:
    """Shares of wrong and of any verdicts on statements about L_inf that are true, and that are false."""
    found: dict[str, float] = {}
    for name, of, wrong in (
        ("true", 0.0, Verdict.CONTRADICTS),
        ("too high", 2 * margin, Verdict.SUPPORTS),
        ("too low", -2 * margin, Verdict.SUPPORTS),
    ):
        criterion = Criterion.within(margin, truth.floor + of)
        given = [criterion.verdict(usable(f.params["E"])) for f in judged]
        found[f"{name}, wrong"] = float(np.mean([v == wrong for v in given])) if given else float("nan")
        found[f"{name}, decided"] = float(np.mean([v.decided for v in given])) if given else float("nan")
    return found


def _leaks(points: Points, truth: Truth) -> tuple[str, ...]:
    """Runs with a loss that no model can have on jets that it was not trained on."""
    errors = np.array(points.extra.get("L_error", np.zeros(len(points))), dtype=np.float64)
    below = below_floor(points.L, errors, truth)
    labels = points.group if points.group is not None else points.rows.astype(str)
    return tuple(dict.fromkeys(str(label) for label in labels[below]))


def below_floor(losses: NDArray[np.float64], errors: NDArray[np.float64], truth: Truth) -> NDArray[np.bool_]:
    """Tell which held-out losses are lower than any model's can be.

    Parameters
    ----------
    losses : array of float, shape (n,)
        Held-out losses.
    errors : array of float, shape (n,)
        Their standard errors over the held-out jets.
    truth : Truth
        The floor, with its own error.

    Returns
    -------
    array of bool, shape (n,)
    """
    return losses < truth.floor - LEAK_SIGMAS * np.hypot(errors, truth.error)


def _found(name: str, points: Points, result: FitResult, truth: Truth, guards: tuple[str, ...] = ()) -> Found:
    return _compared(name, points, dict(result.params), truth, guards)


def _compared(
    name: str, points: Points, params: dict[str, Estimate], truth: Truth, guards: tuple[str, ...]
) -> Found:
    variables = {key: points.variable(key) for key in ("N", "D")}
    floor, slack = params["E"], 3 * truth.error

    def holds(ends: tuple[float, float] | None) -> bool:
        return ends is not None and ends[0] - slack <= truth.floor <= ends[1] + slack

    return Found(
        name, len(points), {key: float(np.log10(x.max() / x.min())) for key, x in variables.items()},
        {key: float(x.max()) for key, x in variables.items()}, params, floor.value - truth.floor,
        {"ci68": holds(floor.ci68), "ci95": holds(floor.ci95)}, guards,
    )  # fmt: skip


def _attempt(work: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Result of a fit, or None where the points do not allow it."""
    try:
        return work(*arguments, **options)
    except InputError:
        return None
