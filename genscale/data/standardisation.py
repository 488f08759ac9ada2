"""Mean and standard deviation of a tagger's features, by which the model standardises its inputs."""

from __future__ import annotations

from typing import Final

import numpy as np

from genscale.data.batching import FeatureRows
from genscale.data.order import JetOrder

#: Jets that the statistics are taken from, and the seed of their choice.
STATISTICS_JETS: Final = 10_000
STATISTICS_SEED: Final = 0


def feature_statistics(rows: FeatureRows) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each feature over the particles of a fixed choice of jets.

    The jets depend only on the store, not on the run, so that all taggers trained on one store see the same inputs,
    whatever their seed, number of jets or number of processes.

    Parameters
    ----------
    rows : FeatureRows
        Training jets.

    Returns
    -------
    mean, deviation : ndarray [n_features], float32
        The deviation is 1 where a feature does not vary.
    """
    n = min(STATISTICS_JETS, len(rows))
    values, _, _ = rows.load(JetOrder(len(rows), n, STATISTICS_SEED)[0:n])
    if not len(values):
        return np.zeros(values.shape[1], np.float32), np.ones(values.shape[1], np.float32)
    mean = values.mean(axis=0, dtype=np.float64)
    deviation = np.where(np.ptp(values, axis=0) > 0, values.std(axis=0, dtype=np.float64), 1.0)
    return mean.astype(np.float32), deviation.astype(np.float32)
