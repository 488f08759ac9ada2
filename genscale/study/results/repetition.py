"""What repeated data are worth, and what other inputs change: early-stopped losses of runs on few unique jets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.common.results import Unavailable
from eval.scaling import FitResult, Points, Threshold, overfitting_threshold
from eval.scaling.repetition.fit import RepeatedData, repeated_data
from eval.scaling.repetition.inputs import InputComparison, compare_inputs
from genscale.data.features import resolve_features
from genscale.study.results.absence import attempt


@dataclass(frozen=True)
class Repetition:
    """Early-stopped runs on repeated data; a result that they do not allow is `Unavailable`.

    Attributes
    ----------
    own_inputs : str
        What the models of the other sections see, for taggers as ``inputs_name`` says it.
    points : dict of Points
        By inputs: N, U, early-stopped L and the compute up to it.
    threshold : Threshold
        Where overfitting begins.
    repeated : RepeatedData
        Law of the runs above the threshold that stopped early, beside that of the single epoch.
    inputs : InputComparison or None
        None where the study compares no inputs.
    """

    own_inputs: str
    points: Mapping[str, Points]
    threshold: Threshold | Unavailable
    repeated: RepeatedData | Unavailable
    inputs: InputComparison | Unavailable | None


def fit_repetition(
    points: Mapping[str, Points],
    own_inputs: str,
    curves: Sequence[tuple[Sequence[float], Sequence[int]]],
    single: FitResult | None,
    options: Mapping[str, Any],
    compared: str = "",
) -> Repetition:
    """Fit the laws of repeated data of one task.

    Parameters
    ----------
    points : mapping of str to Points
        Early-stopped losses by inputs.
    own_inputs : str
        The inputs of the other sections.
    curves : sequence of (sequence of float, sequence of int)
        Held-out losses of every run with these inputs, and the optimizer steps at which they were measured.
    single : FitResult or None
        The fitted L(N, D) of the single pass.
    options : mapping of str to Any
        ``bootstrap`` and ``seed`` of all fits.
    compared : str
        Size at which inputs are compared; empty: they are not.

    Returns
    -------
    Repetition
    """
    own = points[own_inputs]
    n, u = own.variable("N"), own.variable("U")
    losses, steps = [list(loss) for loss, _ in curves], [list(step) for _, step in curves]
    threshold = attempt(
        "no threshold", lambda: overfitting_threshold(n, u, losses, steps=steps, seed=options["seed"])
    )

    def law(threshold: Threshold) -> RepeatedData:
        chosen = threshold.above(n, u) & _stopped(own)
        # The compute-optimal path knows one k of C = k N D for all sizes; the runs are counted with it, too.
        compute = own.compute if single is None else single.flops_factor * n * own.variable("D")
        return repeated_data(replace(own, C=compute), chosen, single, **options)

    missing = "no law of repeated data"
    repeated: RepeatedData | Unavailable
    if isinstance(threshold, Unavailable):
        repeated = Unavailable(f"{missing}: {threshold}")
    else:
        repeated = attempt(missing, lambda: law(threshold))
    inputs = _compare_inputs(points, compared, options) if compared else None
    return Repetition(own_inputs, points, threshold, repeated, inputs)


def inputs_name(features: str, max_particles: int) -> str:
    """Say what a tagger sees as the literature does: "21 features, 128 particles"."""
    return f"{len(resolve_features(features))} features, {max_particles} particles"


def _stopped(points: Points) -> NDArray[np.bool_]:
    """Runs whose loss stopped falling before they were cut off."""
    return np.array([value == "1" for value in points.extra["stopped_early"]], dtype=bool)


def _compare_inputs(
    points: Mapping[str, Points], size: str, options: Mapping[str, Any]
) -> InputComparison | Unavailable:
    """Laws of one size with each of the inputs, of the runs whose loss had stopped falling."""
    column = {
        name: part.select(_stopped(part) & [s == size for s in part.extra["size"]])
        for name, part in points.items()
    }
    few = {name: len(part) for name, part in column.items() if len(np.unique(part.variable("U"))) < 3}
    if few:
        counts = ", ".join(f"{n} with {name}" for name, n in few.items())
        return Unavailable(
            "inputs not compared: a law needs runs at three U whose loss stopped falling before they were cut off, "
            f"found {counts}"
        )
    return attempt("inputs not compared", lambda: compare_inputs(column, **options))
