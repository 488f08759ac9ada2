"""What the taggers are worth in physics: rejections on test jets, R(L), predictions at more data, calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from eval.common.errors import InputError
from eval.common.results import Unavailable
from eval.scaling import FitResult
from eval.tagging.calibration import Calibration, calibrate
from eval.tagging.law import RejectionLaw, rejection_laws
from eval.tagging.prediction import (
    ExpectedLoss,
    Prediction,
    RocBand,
    expected_loss,
    predict_rejection,
    roc_law,
)
from eval.tagging.score import TaggerScore, score_tagger
from genscale.inference.prediction import Predictions
from genscale.study.results.absence import attempt

#: Class whose ROC curve is compared with its predicted limit, if the study has it; otherwise the first signal.
SHOWN_SIGNAL = "Hbb"


@dataclass(frozen=True)
class Physics:
    """Predictions of every single-epoch tagger on the test jets, and what they say together.

    Where the test jets for rejections have more background, every class counts equally in losses and accuracies.

    Attributes
    ----------
    scores : dict
        Run id, with ``-d<jets>`` for weights on the way, to loss, ROC curves and rejections; empty where the test jets
        do not allow any (``laws`` says why).
    calibration : dict of Calibration
        The same for the first seed of the largest model: can its probabilities be believed?
    laws : dict of RejectionLaw
        R(L) of each signal at its working point, over all runs.
    predictions : dict
        Signal to the rejections expected at more data, and in the limit.
    roc : list of RocBand
        ROC curves of one signal at the largest D, ten times that, and in the limit.
    """

    scores: Mapping[str, TaggerScore] = field(default_factory=dict)
    calibration: Mapping[str, Calibration] | Unavailable = field(default_factory=dict)
    laws: Mapping[str, RejectionLaw] | Unavailable = field(default_factory=dict)
    predictions: Mapping[str, Sequence[Prediction]] = field(default_factory=dict)
    roc: Sequence[RocBand] = ()


def score_taggers(
    predictions: Mapping[str, Predictions],
    largest: str,
    surface: FitResult | None,
    most_jets: float,
    options: Mapping[str, Any],
) -> Physics:
    """Score the predictions of taggers on the test jets.

    Parameters
    ----------
    predictions : mapping of str to Predictions
        By run id, with ``-d<jets>`` for weights on the way.
    largest : str
        Run id of the tagger whose calibration is measured.
    surface : FitResult or None
        The fitted L(N, D), for predictions at more data.
    most_jets : float
        Largest D of the runs.
    options : mapping of str to Any
        ``bootstrap`` and ``seed``.

    Returns
    -------
    Physics
    """
    seed = options["seed"]
    scores: dict[str, TaggerScore] = {}
    calibration: dict[str, Calibration] | Unavailable = {}
    for run, found in predictions.items():
        jets = (found.probabilities, found.labels, found.classes)
        try:
            scores[run] = score_tagger(*jets, balanced=True, **options)
        except InputError as error:  # about the test jets, which all runs share
            return Physics(laws=Unavailable(f"taggers not scored: {error}"))
        if run == largest:
            calibrated = _calibration(found, seed)
            calibration = calibrated if isinstance(calibrated, Unavailable) else {run: calibrated}
    laws = attempt("R(L) not fitted", lambda: rejection_laws(list(scores.values()), seed=seed))
    if isinstance(laws, Unavailable) or surface is None:
        return Physics(scores, calibration, laws)
    where = _wheres(surface, most_jets)
    expected = {
        name: [predict_rejection(law, loss, seed=seed) for loss in where] for name, law in laws.items()
    }
    signal = SHOWN_SIGNAL if SHOWN_SIGNAL in laws else next(iter(laws))
    curves = roc_law(list(scores.values()), signal, seed=seed)
    return Physics(scores, calibration, laws, expected, [curves.at(loss) for loss in where])


def _calibration(found: Predictions, seed: int) -> Calibration | Unavailable:
    """Calibration on as many jets of every class, because that is what the probabilities assume."""
    shares = _equal_shares(found.labels)
    return attempt(
        "not calibrated",
        lambda: calibrate(found.probabilities[shares], found.labels[shares], found.classes, seed=seed),
    )


def _equal_shares(labels: np.ndarray) -> np.ndarray:
    """Places of as many jets of every class as there are of the rarest, (n,), in order."""
    places = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    return np.sort(np.concatenate([of_class[: min(map(len, places))] for of_class in places]))


def _wheres(surface: FitResult, most_jets: float) -> list[ExpectedLoss]:
    """The largest D of the runs and ten times that, each at infinite N, and the limit of both."""
    return [
        expected_loss(surface, D=most_jets),
        expected_loss(surface, D=10 * most_jets),
        expected_loss(surface),
    ]
