"""Scores of a tagger's class probabilities: loss, accuracy, ROC curves, background rejection.

As in Vigl et al. (arXiv:2602.15781) each signal class S is separated from QCD by p_S / (p_S + p_QCD), and the rejection
of QCD is quoted at 50 % signal efficiency, at 99 % for H -> l nu qq and at 99.5 % for t -> b l nu.

Every rejection comes with two errors. The binomial one (Clopper-Pearson) is that of the background count; the bootstrap
over test jets adds the error of the threshold, which is determined by a finite number of signal jets. Replica b of the
bootstrap draws the same jets for every tagger scored with the same test set and seed, so that errors which taggers
share remain common to them in all further results.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eval.common.errors import InputError
from eval.common.results import interval, plain, plain_fields
from eval.tagging.rejection import Rejection, area_under_curve, rejection

FloatArray = NDArray[np.float64]

BACKGROUND = "QCD"

#: Signal efficiencies at which Vigl et al. quote the rejection, for classes that do not use the default.
WORKING_POINTS: Mapping[str, float] = {"Hqql": 0.99, "Tbl": 0.995}
USUAL_EFFICIENCY = 0.5

#: Signal efficiencies of ROC curves: equal steps, and the working points of the leptonic classes.
EFFICIENCIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.995)

#: With fewer background jets above the threshold, the relative error of the rejection exceeds one third.
FEW_KEPT = 10

#: Smallest probability whose logarithm is taken; single precision turns smaller ones into zero.
_SMALLEST = 1e-45


@dataclass(frozen=True, eq=False)
class SignalScore:
    """One signal class against the background.

    Attributes
    ----------
    name : str
        Signal class.
    n_signal : int
        Number of signal jets in the test set.
    n_background : int
        Number of background jets in the test set.
    working_point : Rejection
        Rejection at the efficiency of ``WORKING_POINTS``, with its binomial errors.
    ci68 : tuple of float
        68 % interval of this rejection from the bootstrap over jets of both classes; if no background jet is kept, it
        starts at the lower limit at 84 % confidence.
    ci95 : tuple of float
        95 % interval; if no background jet is kept, it starts at the lower limit at 95 % confidence.
    area : float
        Area under the ROC curve.
    area_error : float
        Standard error of the area.
    efficiencies : array of float, shape (E,)
        Signal efficiencies of the ROC curve, one of which is the working point.
    kept : array of float, shape (E,)
        Number of background jets kept at each efficiency.
    kept_replicas : array of float, shape (B, E)
        The same in each replica of the test set.
    background_replicas : array of float, shape (B,)
        Number of background jets in each replica.
    """

    name: str
    n_signal: int
    n_background: int
    working_point: Rejection
    ci68: tuple[float, float]
    ci95: tuple[float, float]
    area: float
    area_error: float
    efficiencies: FloatArray
    kept: FloatArray
    kept_replicas: FloatArray = field(repr=False)
    background_replicas: FloatArray = field(repr=False)

    @property
    def note(self) -> str:
        """Caveat if there are too few test jets; empty otherwise."""
        point = self.working_point
        signal_lost = self.n_signal * (1 - point.efficiency)
        if point.n_kept == 0:
            return (
                f"none of {self.n_background:,} {BACKGROUND} jets is kept: only a limit, rejection above "
                f"{point.limit95:.3g} at 95 % confidence"
            )
        if point.n_kept < FEW_KEPT:
            return (
                f"only {point.n_kept} of {self.n_background:,} {BACKGROUND} jets are kept: limited by statistics, "
                f"above {point.limit95:.3g} at 95 % confidence"
            )
        if signal_lost < FEW_KEPT:
            return f"the threshold rests on {signal_lost:.0f} of {self.n_signal:,} signal jets: see the bootstrap error"
        return ""

    def at(self, efficiency: float) -> int:
        """Return the column of an efficiency in the ROC arrays."""
        match = np.flatnonzero(np.isclose(self.efficiencies, efficiency))
        if not match.size:
            raise InputError(
                f"{self.name}: signal efficiency {efficiency} was not scored "
                f"(there are {', '.join(f'{e:g}' for e in self.efficiencies)})"
            )
        return int(match[0])

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, without replicas; null stands for infinity."""
        point = self.working_point
        return plain(
            {
                "n_signal": self.n_signal,
                "n_background": self.n_background,
                "efficiency": point.efficiency,
                "rejection": point.value,
                "kept": point.n_kept,
                "binomial68": (point.low, point.high),
                "limit95": point.limit95,
                "bootstrap68": self.ci68,
                "bootstrap95": self.ci95,
                "auc": self.area,
                "auc_error": self.area_error,
                "roc": {"signal_efficiency": self.efficiencies, "background_kept": self.kept},
                "note": self.note,
            }
        )


@dataclass(frozen=True, eq=False)
class TaggerScore:
    """A tagger on a labelled test set.

    Attributes
    ----------
    n_jets : int
        Number of test jets.
    loss : float
        Mean cross-entropy in nats per jet.
    loss_error : float
        Standard error of the loss.
    accuracy : float
        Fraction of jets whose most probable class is right.
    accuracy_error : float
        Binomial standard error of the accuracy.
    signals : mapping of str to SignalScore
        Score of each signal class.
    loss_replicas : array of float, shape (B,)
        Loss in each replica of the test set.
    test_set : str
        Fingerprint of labels, seed and number of replicas; taggers with the same one have replicas of the same jets.
    """

    n_jets: int
    loss: float
    loss_error: float
    accuracy: float
    accuracy_error: float
    signals: Mapping[str, SignalScore]
    loss_replicas: FloatArray = field(repr=False)
    test_set: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, without replicas."""
        return plain_fields(self, without=("loss_replicas", "test_set"))


def discriminant(probabilities: ArrayLike, signal: int, background: int) -> FloatArray:
    """Return ln(p_S / p_B) of every jet, which orders jets as p_S / (p_S + p_B) does but does not saturate at one.

    Parameters
    ----------
    probabilities : array-like of float, shape (n, classes)
        Class probabilities.
    signal : int
        Column of the signal class.
    background : int
        Column of the background class.

    Returns
    -------
    array of float, shape (n,)
    """
    p = np.maximum(np.asarray(probabilities, dtype=np.float64)[:, [signal, background]], _SMALLEST)
    return np.log(p[:, 0]) - np.log(p[:, 1])


def score_tagger(
    probabilities: ArrayLike,
    labels: ArrayLike,
    class_names: Sequence[str],
    *,
    efficiencies: Sequence[float] = EFFICIENCIES,
    balanced: bool = False,
    bootstrap: int = 200,
    seed: int = 0,
) -> TaggerScore:
    """Return loss, accuracy, and for every signal class the ROC curve, its area, and the rejection of QCD.

    Parameters
    ----------
    probabilities : array-like of float, shape (n, classes)
        Class probabilities; rows sum to one.
    labels : array-like of int, shape (n,)
        Column of the true class of each jet.
    class_names : sequence of str
        Name of each column, one of which is ``QCD``. Classes without test jets are left out.
    efficiencies : sequence of float
        Signal efficiencies of the ROC curve; the working point of a class is added if it is missing.
    balanced : bool
        Whether every class counts equally in loss and accuracy, however many test jets it has: then the loss compares
        with losses on equal shares although there are more background jets, for large rejections. By default every jet
        counts equally.
    bootstrap : int
        Number of replicas of the test set, drawn with replacement; at least 1.
    seed : int
        Seed of the replicas; all taggers of a study should use the same.

    Returns
    -------
    TaggerScore

    Raises
    ------
    InputError
        Shapes do not agree, rows are not probabilities, labels are outside the classes, or there are no QCD jets.
    """
    p, y, names = check_probabilities(probabilities, labels, class_names)
    if BACKGROUND not in names:
        raise InputError(f"class_names: {BACKGROUND} is missing (found {', '.join(names)})")
    if bootstrap < 1:
        raise InputError(f"bootstrap: at least one replica is needed, found {bootstrap}")
    qcd = names.index(BACKGROUND)
    counts = np.bincount(y, minlength=len(names))
    if not counts[qcd]:
        raise InputError(f"labels: there are no {BACKGROUND} jets to reject")
    n = len(y)
    loss = -np.log(np.maximum(p[np.arange(n), y], _SMALLEST))
    share = (n / (np.count_nonzero(counts) * counts[y])) if balanced else np.ones(n)
    right = float(share @ (p.argmax(axis=1) == y) / n)
    mean_loss = float(share @ loss / n)
    rocs = {
        k: _Roc.of(names[k], discriminant(p, k, qcd), y == k, y == qcd, efficiencies)
        for k in range(len(names))
        if k != qcd and counts[k]
    }
    is_qcd = y == qcd
    rng = np.random.default_rng(seed)
    loss_replicas = np.empty(bootstrap)
    background = np.empty(bootstrap)
    replicas = {k: np.empty((bootstrap, len(roc.efficiencies))) for k, roc in rocs.items()}
    for b in range(bootstrap):
        drawn = np.bincount(rng.integers(0, n, n), minlength=n).astype(np.float64)
        loss_replicas[b] = (share * loss) @ drawn / (share @ drawn)
        background[b] = drawn[is_qcd].sum()
        for k, roc in rocs.items():
            replicas[k][b] = roc.kept(drawn)
    return TaggerScore(
        n_jets=n,
        loss=mean_loss,
        loss_error=float(np.sqrt(share**2 @ (loss - mean_loss) ** 2 / (n * (n - 1))))
        if n > 1
        else float("inf"),
        accuracy=right,
        accuracy_error=float(np.sqrt(right * (1 - right) * (share @ share)) / n),
        signals={roc.name: roc.score(replicas[k], background) for k, roc in rocs.items()},
        loss_replicas=loss_replicas,
        test_set=f"{zlib.crc32(np.ascontiguousarray(y).tobytes()):08x}-{n}-{seed}-{bootstrap}",
    )


@dataclass(frozen=True, eq=False)
class _Roc:
    """Sorted signal and background jets, with which any weighting of the jets is counted in one pass.

    ``signal`` holds rows of signal jets by decreasing score. A background jet passes if the threshold is the score of
    the signal jet at its ``entry`` in that order, or of a later one; ``background`` holds rows of background jets by
    increasing entry.
    """

    name: str
    efficiencies: FloatArray
    working_point: Rejection
    area: tuple[float, float]
    signal: NDArray[np.int64]
    background: NDArray[np.int64]
    entry: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        name: str,
        score: FloatArray,
        is_signal: NDArray[np.bool_],
        is_background: NDArray[np.bool_],
        efficiencies: Sequence[float],
    ) -> _Roc:
        rows, others = np.flatnonzero(is_signal), np.flatnonzero(is_background)
        wanted = WORKING_POINTS.get(name, USUAL_EFFICIENCY)
        rows = rows[np.argsort(-score[rows], kind="stable")]
        entry = np.searchsorted(-score[rows], -score[others], side="left")
        order = np.argsort(entry, kind="stable")
        return cls(
            name,
            np.unique([*efficiencies, wanted]),
            rejection(score[rows], score[others], wanted),
            area_under_curve(score[rows], score[others]),
            rows,
            others[order],
            entry[order],
        )

    def kept(self, weight: FloatArray) -> FloatArray:
        """Return the background weight above the threshold of each efficiency, from the ``weight`` (n,) of each jet."""
        signal = np.cumsum(weight[self.signal])
        background = np.append(0.0, np.cumsum(weight[self.background]))
        if not signal[-1]:
            return np.full(len(self.efficiencies), np.nan)
        last = np.searchsorted(signal, self.efficiencies * signal[-1] - 1e-9)
        return background[np.searchsorted(self.entry, last, side="right")]

    def score(self, replicas: FloatArray, background: FloatArray) -> SignalScore:
        column = int(np.flatnonzero(np.isclose(self.efficiencies, self.working_point.efficiency))[0])
        usable = np.isfinite(replicas[:, column])
        with np.errstate(divide="ignore"):
            values = background[usable] / replicas[usable, column]
        point = self.working_point
        nothing = point.n_kept == 0  # resampling jets that are all rejected gives no information
        one = np.ones(int(max(self.signal.max(), self.background.max())) + 1)
        return SignalScore(
            name=self.name,
            n_signal=len(self.signal),
            n_background=len(self.background),
            working_point=point,
            ci68=(point.low, np.inf) if nothing else interval(values, 0.6827),
            ci95=(point.limit95, np.inf) if nothing else interval(values, 0.95),
            area=self.area[0],
            area_error=self.area[1],
            efficiencies=self.efficiencies,
            kept=self.kept(one),
            kept_replicas=replicas,
            background_replicas=background,
        )


def check_probabilities(
    probabilities: ArrayLike, labels: ArrayLike, class_names: Sequence[str]
) -> tuple[FloatArray, NDArray[np.int64], list[str]]:
    """Return probabilities (n, classes) in double precision, labels (n,) and names; raises InputError if invalid."""
    p, y, names = np.asarray(probabilities, dtype=np.float64), np.asarray(labels), list(class_names)
    if p.ndim != 2 or not len(p):
        raise InputError(f"probabilities: shape {p.shape} is not (jets, classes)")
    if y.shape != (len(p),) or not np.issubdtype(y.dtype, np.integer):
        raise InputError(
            f"labels: shape {y.shape}, {y.dtype}; one whole number for each of {len(p)} jets is needed"
        )
    if len(names) != p.shape[1]:
        raise InputError(f"class_names: {len(names)} names for {p.shape[1]} columns of probabilities")
    if (y < 0).any() or (y >= len(names)).any():
        raise InputError(f"labels: must lie in 0 to {len(names) - 1}, found {y.min()} to {y.max()}")
    # Half precision rounds a sum of ten terms to a few thousandths; a larger deviation is not a rounding error.
    bad = ~(np.isfinite(p).all(axis=1) & (p >= 0).all(axis=1) & (np.abs(p.sum(axis=1) - 1) < 5e-3))
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        raise InputError(
            f"probabilities: row {first} does not hold probabilities that sum to one "
            f"(sum {p[first].sum():.4g}; {int(bad.sum())} such rows); give the softmax, not the logits"
        )
    return p, y.astype(np.int64), names
