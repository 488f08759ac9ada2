"""Which law to believe: AICc inside the data, prediction beyond them, and how much the fit window matters."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.errors import InputError
from eval.scaling.fit_law import fit
from eval.scaling.law import Law
from eval.scaling.objective import log_likelihood
from eval.scaling.points import Points
from eval.scaling.result import FitResult

FloatArray = NDArray[np.float64]

SURFACES = ("additive", "additive-tied", "kaplan")

#: Share of the decades of D that sensitivity leaves out.
_LOWEST = 0.2


@dataclass(frozen=True)
class Score:
    """How well one law fits, and how well it predicts.

    Attributes
    ----------
    law : str
        Name of the law.
    formula : str
        Its formula.
    constants : int
        Number of its constants.
    objective : float
        Objective on all points.
    aicc : float
        Corrected Akaike criterion of the fit to all points; lower is better. Infinite when there are too few
        points.
    rms_inside : float
        Root mean squared ln-residual, on the points below the compute cut, of the fit to these points.
    rms_beyond : float
        Root mean squared ln-residual of the same fit on the points above the cut.
    bias_beyond : float
        Mean ln(prediction/measurement) above the cut.
    """

    law: str
    formula: str
    constants: int
    objective: float
    aicc: float
    rms_inside: float
    rms_beyond: float
    bias_beyond: float


@dataclass(frozen=True)
class Ranking:
    """Laws from the best to the worst predictor above a compute cut.

    Attributes
    ----------
    scores : tuple of Score
        Best extrapolation first.
    cut : float
        FLOPs; laws were fitted below and judged above.
    n_below : int
        Number of points below the cut.
    n_above : int
        Number of points above the cut.
    failed : dict of str to str
        Laws that could not be fitted below the cut, with the reason.
    """

    scores: tuple[Score, ...]
    cut: float
    n_below: int
    n_above: int
    failed: dict[str, str]

    @property
    def best(self) -> str:
        """Law that predicts best: not the one that fits best."""
        return self.scores[0].law

    @property
    def best_fitting(self) -> str:
        """Law of the lowest AICc."""
        return min(self.scores, key=lambda s: s.aicc).law

    def to_dict(self) -> dict[str, Any]:
        """Plain form for JSON."""
        rows = [
            {k: v if not isinstance(v, float) or np.isfinite(v) else None for k, v in s.__dict__.items()}
            for s in self.scores
        ]
        return {**self.__dict__, "scores": rows, "best": self.best, "best_fitting": self.best_fitting}

    def __str__(self) -> str:
        lines = [f"fitted to {self.n_below} points below C = {self.cut:.3g}, judged on {self.n_above} above"]
        lines += [
            f"  {s.law:14s} rms beyond {s.rms_beyond:.4f}  (bias {s.bias_beyond:+.4f})  "
            f"inside {s.rms_inside:.4f}  AICc {s.aicc:.1f}"
            for s in self.scores
        ]
        lines += [f"  {name:14s} {reason}" for name, reason in self.failed.items()]
        return "\n".join([*lines, f"  predicts best: {self.best}; fits best: {self.best_fitting}"])


def aicc(points: Points, result: FitResult) -> float:
    """AICc of a fit: the Huber density with free scale (Gaussian for mean squares) is the likelihood."""
    y, prediction, objective = points.L, result.at(points), result.loss
    residual = np.log(prediction / y) if objective.log else prediction - y
    weight = np.ones(len(y)) if points.weight is None else points.weight
    k, n = result.law.size + 1, len(y)  # the scale is a constant, too
    likelihood = (
        -objective.report(residual, weight)
        if objective.kind == "huber-likelihood"
        else log_likelihood(residual, weight, objective.threshold)
    )
    return float(2 * k - 2 * likelihood + 2 * k * (k + 1) / (n - k - 1)) if n > k + 1 else float("inf")


def compare_laws(
    points: Points,
    laws: Sequence[str | Law] = SURFACES,
    *,
    variable: str | None = None,
    cut: float | None = None,
    loss: str = "huber-log",
    delta: float = 1e-3,
    seed: int = 0,
) -> Ranking:
    """Fit every law below a compute cut and judge it above; also compute AICc on all points.

    Parameters
    ----------
    points : Points
        Losses of training runs.
    laws : sequence of str or Law
        Laws, or their names.
    variable : str, optional
        Variable of laws of one variable that are given by name.
    cut : float, optional
        FLOPs; by default the 70th percentile of the points' compute.
    loss : str
        Objective, as for ``fit``.
    delta : float
        Huber threshold, as for ``fit``.
    seed : int
        Seed of the starts.

    Returns
    -------
    Ranking

    Raises
    ------
    InputError
        There are no points above or below the cut, or no law can be fitted.
    """
    compute = points.compute
    cut = float(np.quantile(compute, 0.7)) if cut is None else cut
    below = compute <= cut
    if below.all() or not below.any():
        raise InputError(
            f"cut: {cut:.4g} FLOPs leaves {int(below.sum())} of {len(points)} points below; "
            f"their compute runs from {compute.min():.4g} to {compute.max():.4g}"
        )
    inside, beyond = points.select(below), points.select(~below)
    scores, failed = [], {}
    for law in laws:
        surface = isinstance(law, Law) or law in (*SURFACES, "effective-data")
        options: dict[str, Any] = {"loss": loss, "delta": delta, "bootstrap": 0, "seed": seed}
        options |= {} if surface else {"variable": variable}
        try:
            whole, part = fit(points, law, **options), fit(inside, law, **options)
        except InputError as error:
            failed[law if isinstance(law, str) else law.name] = str(error)
            continue
        ratio_in = np.log(part.at(inside) / inside.L)
        with np.errstate(invalid="ignore"):  # the logarithmic law may predict a negative loss
            ratio_out = np.log(part.at(beyond) / beyond.L)
        worst = np.nan_to_num(ratio_out, nan=np.inf)
        scores.append(
            Score(
                whole.law.name,
                whole.law.formula,
                whole.law.size,
                whole.objective,
                aicc(points, whole),
                float(np.sqrt(np.mean(ratio_in**2))),
                float(np.sqrt(np.mean(worst**2))),
                float(np.mean(ratio_out)),
            )
        )
    if not scores:
        raise InputError("laws: none could be fitted: " + "; ".join(failed.values()))
    scores.sort(key=lambda s: s.rms_beyond)
    return Ranking(tuple(scores), cut, len(inside), len(beyond), failed)


@dataclass(frozen=True, eq=False)
class Variant:
    """The same law fitted to part of the points."""

    name: str
    n_points: int
    fit: FitResult

    def to_dict(self) -> dict[str, Any]:
        """Plain form for JSON."""
        return {
            "name": self.name,
            "n_points": self.n_points,
            "params": {name: e.to_dict() for name, e in self.fit.params.items()},
        }


def sensitivity(points: Points, law: str | Law = "additive", **options: Any) -> list[Variant]:
    """Refit without the smallest D, the smallest N, both, and without the largest compute.

    The smallest D are the lowest fifth of its decades: losses along a run lie so close in D that one alone changes
    nothing. Models are fewer and farther apart: the smallest N is one.

    The choice of points moves the floor more than the errors quoted at a fixed choice; ``options`` go to
    ``fit``.
    Variants that leave too few points are left out.
    """
    keep = {"all points": np.ones(len(points), dtype=bool)}
    for name in ("D", "N"):
        values = getattr(points, name)
        if values is not None and len(np.unique(values)) > 2:
            least = values.min() * (values.max() / values.min()) ** (_LOWEST if name == "D" else 0.0)
            keep[f"without the smallest {name}"] = (values > values.min()) & (values > 0.999 * least)
    parts = [mask for name, mask in keep.items() if name.startswith("without")]
    if len(parts) == 2:
        keep["without the smallest D and N"] = parts[0] & parts[1]
    if points.C is not None or (points.N is not None and points.D is not None):
        # A tenth of the points, not the one largest value, which in a grid is a single run.
        keep["without the largest tenth of C"] = points.compute <= np.quantile(points.compute, 0.9)
    found = []
    for name, mask in keep.items():
        try:
            result = fit(points.select(mask), law, **options)
        except InputError:
            if mask.all():
                raise
            continue
        found.append(Variant(name, int(mask.sum()), result))
    return found
