"""Predicted rejection of taggers at sizes, data or compute that were not trained, and in their infinite limit.

A scaling law predicts the loss and R(L) the rejection at this loss; the uncertainties of both are propagated by pairing
resamples. R(L) at every signal efficiency predicts whole ROC curves (Vigl et al., arXiv:2602.15781, figures 5 and 6).
In the limit both laws are extrapolated, and the rejection is exponential in L_inf: a prediction whose interval spans
more than a decade of rejection is called not identified.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from tqdm import tqdm

from eval.common.errors import InputError
from eval.common.results import Estimate, plain
from eval.scaling.fitting.result import FitResult
from eval.scaling.plan import Frontier
from eval.tagging.law import RejectionLaw, rejection_law
from eval.tagging.score import FEW_KEPT, TaggerScore

FloatArray = NDArray[np.float64]

#: Number of pairs of a resampled rejection law and a resampled loss law from which an interval is computed.
PAIRS = 1000


@dataclass(frozen=True, eq=False)
class ExpectedLoss:
    """The loss that a fitted law predicts, with its resamples.

    Attributes
    ----------
    where : str
        Point of the prediction: "D = 1e+06", "the limit", ...
    value : float
        Predicted loss.
    samples : array of float, shape (S,)
        Predictions of the resampled laws.
    reason : str
        Why the loss is not identified; empty if it is.
    """

    where: str
    value: float
    samples: FloatArray
    reason: str = ""

    @property
    def estimate(self) -> Estimate:
        """Return the value with its intervals."""
        return Estimate.from_samples(self.value, self.samples, self.reason)


def expected_loss(
    law: FitResult, *, N: float = np.inf, D: float = np.inf, U: float = np.inf, flops: float | None = None
) -> ExpectedLoss:
    """Predict the loss at a size and an amount of data, at the compute-optimal split of a budget, or in the limit.

    Parameters
    ----------
    law : FitResult
        Law L(N, D), or of one variable, with bootstrap.
    N : float
        Number of parameters.
    D : float
        Amount of data.
    U : float
        Amount of unique data. If N, D and U are all infinite, the loss is L_inf.
    flops : float, optional
        Training compute; the loss is then the lowest one for this compute.

    Returns
    -------
    ExpectedLoss

    Raises
    ------
    InputError
        The law has no bootstrap, or does not depend on a given variable.
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
    """Predicted rejection of a tagger that was not trained.

    Attributes
    ----------
    where : str
        Point of the prediction, as in `ExpectedLoss`.
    loss : Estimate
        Predicted loss.
    rejection : Estimate
        Predicted rejection; not identified if its loss is not, or if its 95 % interval spans more than a decade.
    beyond_nats : float
        How far the predicted loss lies below the lowest measured loss; 0 if it does not.
    note : str
        Caveats of the prediction.
    """

    where: str
    loss: Estimate
    rejection: Estimate
    beyond_nats: float
    note: str


def predict_rejection(law: RejectionLaw, loss: ExpectedLoss, *, seed: int = 0) -> Prediction:
    """Predict the rejection at a predicted loss, with the uncertainties of both laws.

    Resamples of the two laws are paired at random, because one resamples test jets and the other training runs. The
    interval is that of the law; a single run scatters in addition by ``law.scatter`` in ln R.
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
    """Return rejections of resampled laws at resampled losses, shape (PAIRS,)."""
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
    name : str
        Signal class.
    where : str
        Point of the prediction, as in `ExpectedLoss`.
    efficiencies : array of float, shape (E,)
        Signal efficiencies.
    rejection : array of float, shape (E,)
        Predicted rejection at each of them.
    low : array of float, shape (E,)
        Lower end of its 68 % band.
    high : array of float, shape (E,)
        Upper end of its 68 % band.
    reasons : tuple of str
        Why the rejection at each efficiency is not identified; empty if it is.
    beyond_nats : float
        How far the predicted loss lies below the lowest measured loss.
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
        """At which efficiencies the rejection is identified, shape (E,)."""
        return np.array([not reason for reason in self.reasons])

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return plain(
            {
                "signal": self.name,
                "where": self.where,
                "signal_efficiency": self.efficiencies,
                "rejection": self.rejection,
                "low68": self.low,
                "high68": self.high,
                "not_identified": self.reasons,
                "beyond_nats": self.beyond_nats,
            }
        )


@dataclass(frozen=True, eq=False)
class RocLaw:
    """R(L) of one signal class at many signal efficiencies, with separate constants at each."""

    name: str
    laws: tuple[RejectionLaw, ...]

    @property
    def efficiencies(self) -> FloatArray:
        """Signal efficiencies in increasing order."""
        return np.array([law.efficiency for law in self.laws])

    def at(self, loss: ExpectedLoss, *, seed: int = 0) -> RocBand:
        """Predict the ROC curve of taggers with this loss.

        Each efficiency is predicted by its own law. The replicas of all laws resample the same jets and are paired with
        the same losses, so that each sample is a curve. Because the rejection cannot increase with the efficiency, each
        curve is made monotonic (by isotonic regression of ln R, weighted by the precision at each efficiency).
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
