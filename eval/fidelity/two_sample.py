"""Classifier two-sample test: can boosted trees tell generated jets from reference jets?

The area under the ROC curve (AUC) of a classifier on held-out jets is 0.5 when the samples are alike, and sees
correlations that no single observable shows (Lopez-Paz and Oquab, arXiv:1610.06545; for jets and showers, Krause and
Shih, arXiv:2106.05285). It is a lower limit: a better classifier may find more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm
from sklearn.ensemble import HistGradientBoostingClassifier
from tqdm import tqdm

from eval.common.errors import InputError, TooFewJets
from eval.fidelity.floors import RESOLVED_AT, even_size
from eval.fidelity.result import Row
from eval.tagging.rejection import area_under_curve

FloatArray = NDArray[np.float64]

#: Least number of jets of each kind in a training fold: from fewer the trees learn only noise.
_FEWEST = 100


@dataclass(frozen=True)
class TwoSampleTest:
    """Result of a classifier two-sample test.

    Attributes
    ----------
    classifier : str
        What was trained, and on what.
    auc : float
        Mean over folds of the held-out AUC; 0.5 when nothing is found, 1 when every jet is told apart.
    standard_error : float
        Over the held-out jets of all folds.
    significance : float
        (auc - 0.5) / null_error.
    importance : dict of str to float
        Drop of the AUC when one observable is shuffled among the held-out jets; empty if it was not measured.
    n_generated : int
        Generated jets that were held out, each once.
    n_reference : int
        Reference jets that were held out, each once.
    n_folds : int
        1 for a single division into jets to train on and jets to test on.
    verdict : str
        One sentence.
    """

    classifier: str
    auc: float
    standard_error: float
    significance: float
    importance: dict[str, float]
    n_generated: int
    n_reference: int
    n_folds: int
    verdict: str

    @classmethod
    def of(
        cls, classifier: str, auc: float, standard_error: float, importance: dict[str, float], n_generated: int,
        n_reference: int, n_folds: int,
    ) -> TwoSampleTest:  # fmt: skip
        """Judge an AUC: three errors of the null above one half tell the samples apart."""
        significance = (auc - 0.5) / _null_error(n_generated, n_reference, n_folds)
        found = f"AUC {auc:.3f} ± {standard_error:.3f}"
        if significance >= RESOLVED_AT:
            most = f", most by {max(importance, key=importance.__getitem__)}" if importance else ""
            verdict = f"told apart by {classifier} with {found}{most}"
        else:
            verdict = f"not resolved at n = {n_generated}: not told apart by {classifier} ({found})"
        return cls(
            classifier, auc, standard_error, float(significance), importance, n_generated, n_reference, n_folds,
            verdict,
        )  # fmt: skip

    @property
    def null_error(self) -> float:
        """Spread of the AUC for samples of one distribution."""
        return _null_error(self.n_generated, self.n_reference, self.n_folds)

    @property
    def p_value(self) -> float:
        """Probability of an AUC at least as high for samples of one distribution."""
        return float(norm.sf(self.significance))

    def row(self, name: str) -> Row:
        """The line of this test in a table; its floor is 1/2."""
        even = even_size(self.n_generated, self.n_reference)
        needed = even * (RESOLVED_AT / self.significance) ** 2 if self.significance > 0 else None
        return Row(
            "classifier", name, "AUC", self.auc, self.standard_error, 0.5, self.null_error, self.significance,
            self.p_value, max(self.auc - 0.5, 0.0), None if needed is None else int(np.ceil(needed)),
            self.significance >= RESOLVED_AT, None, None, None, self.verdict,
        )  # fmt: skip


def classifier_two_sample_test(
    generated: Mapping[str, ArrayLike],
    reference: Mapping[str, ArrayLike],
    names: Sequence[str] | None = None,
    n_folds: int = 4,
    n_trees: int = 100,
    seed: int = 0,
    progress: bool = False,
) -> TwoSampleTest:
    """Train boosted trees to tell two samples apart, and measure the AUC on jets that they have not seen.

    Parameters
    ----------
    generated : mapping of str to array-like of float
        Observables of generated jets, shape (J,) each.
    reference : mapping of str to array-like of float
        Observables of reference jets; their number may differ.
    names : sequence of str, optional
        Observables to use; by default all that both samples have.
    n_folds : int
        Each jet is held out once.
    n_trees : int
        Trees of a model, of depth 3.
    seed : int
        Seed of the folds and of the shuffling behind the importances.
    progress : bool
        Show a progress bar.

    Returns
    -------
    TwoSampleTest

    Raises
    ------
    InputError
        Observables are missing or not finite, or there are too few jets.
    """
    chosen = list(names) if names is not None else [name for name in reference if name in generated]
    if not chosen:
        raise InputError("the samples have no observable in common: at least one is needed")
    samples = [_matrix(s, chosen, what) for s, what in ((generated, "generated"), (reference, "reference"))]
    for what, sample in zip(("generated", "reference"), samples, strict=True):
        if n_folds < 2:
            raise InputError(f"n_folds is {n_folds}: at least 2 are needed")
        needed = int(np.ceil(_FEWEST * n_folds / (n_folds - 1)))
        if len(sample) < needed:
            raise TooFewJets(
                f"{what} has {len(sample)} jets: at least {needed} are needed for {n_folds} folds"
            )
    rng = np.random.default_rng(seed)
    folds = [rng.permutation(len(sample)) % n_folds for sample in samples]
    areas, errors = [], []
    drops = np.zeros((n_folds, len(chosen)))
    for fold in tqdm(range(n_folds), desc="two-sample test", disable=not progress):
        train = [sample[assigned != fold] for sample, assigned in zip(samples, folds, strict=True)]
        labels = np.repeat([1.0, 0.0], [len(part) for part in train])
        # Both kinds have the same total weight, so that unequal sizes do not shift the log-odds.
        weights = np.repeat([0.5 * labels.size / len(part) for part in train], [len(part) for part in train])
        model = HistGradientBoostingClassifier(
            max_iter=n_trees, max_depth=3, max_bins=32, min_samples_leaf=40, l2_regularization=1.0,
            early_stopping=False, random_state=seed,
        )  # fmt: skip
        model.fit(np.concatenate(train), labels, weights)
        held_out = [sample[assigned == fold] for sample, assigned in zip(samples, folds, strict=True)]
        jets = np.concatenate(held_out)
        area, error = _area(model, jets, len(held_out[0]))
        areas.append(area)
        errors.append(error)
        for k in range(len(chosen)):
            kept = jets[:, k].copy()
            rng.shuffle(jets[:, k])
            drops[fold, k] = area - _area(model, jets, len(held_out[0]))[0]
            jets[:, k] = kept
    return TwoSampleTest.of(
        f"boosted trees on {len(chosen)} observables",
        float(np.mean(areas)),
        float(np.sqrt(np.sum(np.square(errors))) / n_folds),
        dict(zip(chosen, drops.mean(axis=0).tolist(), strict=True)),
        len(samples[0]),
        len(samples[1]),
        n_folds,
    )


def _null_error(n_generated: int, n_reference: int, n_folds: int) -> float:
    """Spread of an AUC when there is nothing to find: (n + m + 1) / (12 n m) is its variance (Mann and Whitney 1947).

    What a cross-validated classifier then learns is the noise of its training folds. To first order each pair of folds
    agrees by the same chance whichever of the two is held out, so each of these chances enters the mean twice: the
    variance is doubled.
    """
    variance = (n_generated + n_reference + 1) / (12 * n_generated * n_reference)
    return float(np.sqrt(variance * (2 if n_folds > 1 else 1)))


def _area(model: HistGradientBoostingClassifier, jets: FloatArray, n_generated: int) -> tuple[float, float]:
    scores = model.decision_function(jets)
    return area_under_curve(scores[:n_generated], scores[n_generated:])


def _matrix(sample: Mapping[str, ArrayLike], names: list[str], what: str) -> FloatArray:
    missing = [name for name in names if name not in sample]
    if missing:
        raise InputError(f"{what}: observable {missing[0]} is missing (found {', '.join(sample) or 'none'})")
    matrix = np.stack([np.asarray(sample[name], dtype=np.float64) for name in names], axis=1)
    if not np.isfinite(matrix).all():
        bad = names[int(np.flatnonzero(~np.isfinite(matrix).all(axis=0))[0])]
        raise InputError(f"{what}: {bad} is not finite")
    return matrix
