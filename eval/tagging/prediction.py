"""Rejection of taggers that were not trained: at any size, data or compute, and in the limit of infinite ones.

A law of the loss says what loss to expect, R(L) what rejection that loss means; both uncertainties are carried
through by pairing resamples. R(L) at every signal efficiency predicts whole ROC curves (Vigl et al., arXiv:2602.15781,
figures 5 and 6). In the limit this is an extrapolation twice over, and exponential in L_inf: where that leaves more
than a decade of rejection open, the prediction is called not identified.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from tqdm import tqdm

from eval.errors import InputError
from eval.results import Estimate
from eval.scaling.plan import Frontier
from eval.scaling.result import FitResult
from eval.tagging.law import RejectionLaw, rejection_law
from eval.tagging.score import FEW_KEPT, TaggerScore

FloatArray = NDArray[np.float64]

#: Pairs of a resampled rejection law and a resampled loss law behind the interval of a prediction.
PAIRS = 1000


@dataclass(frozen=True, eq=False)
class ExpectedLoss:
    """The loss a fitted law expects somewhere, with its resamples.

    Attributes
    ----------
    where : str
        "D = 1e+06", "the limit", ...
    value : float
    samples : ndarray, shape (S,)
    reason : str
        Why it is not identified; empty where it is.
    """

    where: str
    value: float
    samples: FloatArray
    reason: str = ""

    @property
    def estimate(self) -> Estimate:
        """Value with intervals."""
        return Estimate.from_samples(self.value, self.samples, self.reason)


def expected_loss(
    law: FitResult, *, N: float = np.inf, D: float = np.inf, U: float = np.inf, flops: float | None = None
) -> ExpectedLoss:
    """Loss of a law at a size and amount of data, at the compute-optimal split of a budget, or in the limit.

    Parameters
    ----------
    law : FitResult
        Of L(N, D), or of one variable; with bootstrap.
    N, D, U : float
        What is not given is infinite; all infinite is L_inf.
    flops : float, optional
        Instead: the least loss this compute can buy.

    Raises
    ------
    InputError
        A law without bootstrap, or a variable that the law does not have.
    """
    if law.samples is None:
        raise InputError("law: has no bootstrap; fit with bootstrap > 0")
    for name, value in {"N": N, "D": D, "U": U}.items():
        if np.isfinite(value) and name not in law.law.variables:
            raise InputError(f"{name}: law {law.law.name} is one of {', '.join(law.law.variables)}")
    if flops is not None:
        losses = Frontier.of(law).loss(flops)
        return ExpectedLoss(f"C = {flops:.3g}", float(losses[0]), losses[1:])
    given = {name: value for name, value in {"N": N, "D": D, "U": U}.items() if name in law.law.variables}
    with np.errstate(invalid="ignore"):  # 0 times infinity in derivatives that are not used
        losses = law.law.predict(law.refits, **given)
    finite = {name: value for name, value in given.items() if np.isfinite(value)}
    if finite:
        where = ", ".join(f"{name} = {value:.3g}" for name, value in finite.items())
        return ExpectedLoss(where, float(losses[0]), losses[1:])
    floor = law.params.get("E")
    reason = (
        f"L_inf is not identified: {floor.reason}" if floor is not None and floor.identified is False else ""
    )
    return ExpectedLoss("the limit", float(losses[0]), losses[1:], reason)


@dataclass(frozen=True)
class Prediction:
    """Rejection expected of a tagger that was not trained.

    Attributes
    ----------
    where : str
    loss, rejection : Estimate
        The rejection is not identified when its loss is not, or when its 95 % interval spans over a decade.
    beyond_nats : float
        How far the expected loss lies below the lowest loss measured; 0 inside.
    note : str
        What to know before believing it.
    """

    where: str
    loss: Estimate
    rejection: Estimate
    beyond_nats: float
    note: str

    def to_dict(self) -> dict[str, Any]:
        """Plain form for JSON."""
        return {
            "where": self.where,
            "loss": self.loss.to_dict(),
            "rejection": self.rejection.to_dict(),
            "beyond_nats": self.beyond_nats,
            "note": self.note,
        }


def predict_rejection(law: RejectionLaw, loss: ExpectedLoss, *, seed: int = 0) -> Prediction:
    """Rejection at an expected loss; the uncertainties of both laws are carried through.

    Resamples of the two laws are paired at random: one comes from test jets, the other from training runs.
    The interval is that of the law, not of one more run, which scatters by ``law.scatter`` in ln R.
    """
    rejections = _pairs(law, loss, np.random.default_rng(seed))
    value = float(law.fit.predict(L=loss.value))
    slope = law.fit.params["B"]
    reason = loss.reason
    if not reason and slope.identified is False:
        reason = f"the slope of R(L) is not: {slope.reason}"
    beyond = max(float(law.loss.min()) - loss.value, 0.0)
    covered = float(law.loss.max() - law.loss.min())
    notes = []
    if beyond > 0:
        notes.append(
            f"extrapolated by {beyond:.2g} nats below the lowest loss measured ({law.loss.min():.3f}); "
            f"the taggers cover {covered:.2g} nats"
        )
    resolved = law.n_background / FEW_KEPT
    if value > resolved:
        notes.append(f"above {resolved:.3g}, the most that {law.n_background:,.0f} background jets resolve")
    return Prediction(
        loss.where,
        loss.estimate,
        Estimate.from_samples(value, rejections).judged("scale", reason),
        beyond,
        "; ".join(notes),
    )


def _pairs(law: RejectionLaw, loss: ExpectedLoss, rng: np.random.Generator) -> FloatArray:
    """Rejections of resampled laws at resampled losses, (PAIRS,)."""
    samples = law.fit.samples
    if samples is None:
        raise InputError("law: has no bootstrap")
    rows = rng.integers(0, len(samples), PAIRS)
    losses = loss.samples[rng.integers(0, len(loss.samples), PAIRS)]
    a, b, c = samples[rows].T
    with np.errstate(over="ignore"):
        return a * np.exp(b * losses) + c


@dataclass(frozen=True, eq=False)
class RocBand:
    """A predicted ROC curve.

    Attributes
    ----------
    name, where : str
    efficiencies : ndarray, shape (E,)
    rejection, low, high : ndarray, shape (E,)
        Prediction and its 68 % band.
    reasons : tuple of str
        Why the rejection at each efficiency is not identified; empty where it is.
    beyond_nats : float
    """

    name: str
    where: str
    efficiencies: FloatArray
    rejection: FloatArray
    low: FloatArray
    high: FloatArray
    reasons: tuple[str, ...]
    beyond_nats: float

    @property
    def identified(self) -> NDArray[np.bool_]:
        """Which efficiencies are."""
        return np.array([not reason for reason in self.reasons])

    def to_dict(self) -> dict[str, Any]:
        """Plain form for JSON; null where there is no finite number."""

        def plain(values: FloatArray) -> list[float | None]:
            return [float(v) if np.isfinite(v) else None for v in values]

        return {
            "signal": self.name,
            "where": self.where,
            "signal_efficiency": self.efficiencies.tolist(),
            "rejection": plain(self.rejection),
            "low68": plain(self.low),
            "high68": plain(self.high),
            "not_identified": list(self.reasons),
            "beyond_nats": self.beyond_nats,
        }


@dataclass(frozen=True, eq=False)
class RocLaw:
    """R(L) of one signal class at a row of signal efficiencies, each with constants of its own."""

    name: str
    laws: tuple[RejectionLaw, ...]

    @property
    def efficiencies(self) -> FloatArray:
        """Signal efficiencies, rising."""
        return np.array([law.efficiency for law in self.laws])

    def at(self, loss: ExpectedLoss, *, seed: int = 0) -> RocBand:
        """ROC curve of taggers with this loss.

        Each efficiency is predicted by its own law. The replicas of all laws are made of the same jets and are
        paired with the same losses, so one sample is one curve; since rejection cannot rise with efficiency, each is
        made monotonic (isotonic regression of ln R, weighted by the precision at each efficiency).
        """
        predictions = [predict_rejection(law, loss, seed=seed) for law in self.laws]
        best = np.log([p.rejection.value for p in predictions])
        curves = np.log(
            np.stack([_pairs(law, loss, np.random.default_rng(seed)) for law in self.laws], axis=1)
        )
        weights = 1 / np.maximum(curves.std(axis=0), 1e-6) ** 2
        rows = np.stack([isotonic_regression(row, weights=weights, increasing=False).x for row in curves])
        low, high = np.exp(np.quantile(rows, [0.16, 0.84], axis=0))
        return RocBand(
            self.name,
            loss.where,
            self.efficiencies,
            np.exp(isotonic_regression(best, weights=weights, increasing=False).x),
            low,
            high,
            tuple(p.rejection.reason for p in predictions),
            predictions[0].beyond_nats,
        )


def roc_law(
    scores: Sequence[TaggerScore],
    signal: str,
    efficiencies: Sequence[float] | None = None,
    *,
    seed: int = 0,
    progress: bool = False,
) -> RocLaw:
    """Fit R(L) at every signal efficiency of the ROC curves, or at those given."""
    if not scores or signal not in scores[0].signals:
        raise InputError(f"signal: {signal} was not scored")
    wanted = scores[0].signals[signal].efficiencies if efficiencies is None else sorted(efficiencies)
    return RocLaw(
        signal,
        tuple(
            rejection_law(scores, signal, float(e), seed=seed)
            for e in tqdm(wanted, desc=f"ROC of {signal}", disable=not progress, leave=False)
        ),
    )
