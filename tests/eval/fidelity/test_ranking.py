"""Ranking of samples: the right order, and errors of differences that are those of repeated samples."""

import numpy as np
import pytest

from eval.common.errors import InputError
from eval.fidelity.distances import sliced_wasserstein
from eval.fidelity.ranking import rank


def normal(shift, n, seed):
    return np.random.default_rng(seed).normal(shift, 1, (n, 3))


def test_order_and_values_are_those_of_the_distances():
    reference = normal(0, 900, 1)
    samples = {"far": normal(0.5, 600, 2), "near": normal(0.1, 600, 3), "middle": normal(0.3, 600, 4)}
    found = rank(samples, reference, n_directions=20, seed=7)
    assert list(found.distances) == ["near", "middle", "far"]
    for name, sample in samples.items():
        alone = sliced_wasserstein(sample, reference, n_directions=20, seed=7)
        assert found.distances[name] == pytest.approx(alone.value, rel=1e-5)
        assert found.errors[name] == pytest.approx(alone.error_jets, rel=1e-3)
    assert [(d.first, d.second) for d in found.neighbours()] == [("near", "middle"), ("middle", "far")]
    assert len(found.differences) == 3
    assert "near is nearer to the reference than far by" in found.differences[1].verdict


def test_errors_are_the_scatter_of_repeated_samples():
    """With a small reference, which both distances share, unpaired errors would be twice too large."""
    found = [
        rank(
            {"a": normal(0.40, 1000, 10 * s), "b": normal(0.45, 1000, 10 * s + 1)},
            normal(0, 200, 10 * s + 2), n_directions=10, seed=0,
        )
        for s in range(60)
    ]  # fmt: skip
    differences = [f.distances["b"] - f.distances["a"] for f in found]
    claimed = np.mean([f.differences[0].standard_error for f in found])
    assert claimed == pytest.approx(np.std(differences, ddof=1), rel=0.25)
    unpaired = np.mean([np.hypot(*f.errors.values()) for f in found])
    assert unpaired > 1.5 * claimed


def test_the_same_sample_twice_is_not_told_apart():
    sample = normal(0.3, 500, 1)
    found = rank({"a": sample, "b": sample + 1e-9}, normal(0, 500, 2), n_directions=5)
    assert (
        "a and b are not told apart" in found.differences[0].verdict
        or "b and a" in found.differences[0].verdict
    )


def test_what_cannot_be_ranked():
    with pytest.raises(InputError, match="at least two can be ranked"):
        rank({"a": normal(0, 50, 1)}, normal(0, 50, 2))
    with pytest.raises(InputError, match="depends on the number of jets"):
        rank({"a": normal(0, 50, 1), "b": normal(0, 60, 1)}, normal(0, 50, 2))
