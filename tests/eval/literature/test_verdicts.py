"""The rule: whole intervals decide, and a wider interval never decides more."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.common.results import Estimate
from eval.literature.values import published
from eval.literature.verdicts import Criterion, Verdict, compare, judge_difference

NUMBERS = st.floats(-10, 10)


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((-0.02, 0.04), Verdict.SUPPORTS),
        ((0.02, 0.04), Verdict.SUPPORTS),  # resolved, and too small to matter
        ((-0.3, 0.3), Verdict.CANNOT_TELL),  # compatible only for lack of power
        ((0.11, 0.3), Verdict.CONTRADICTS),
        ((-0.3, -0.11), Verdict.CONTRADICTS),
        ((0.02, 0.4), Verdict.CANNOT_TELL),  # resolved, but it may be smaller than what matters
        ((0.05, math.inf), Verdict.CANNOT_TELL),
        ((math.nan, 0.0), Verdict.CANNOT_TELL),
        (None, Verdict.CANNOT_TELL),
    ],
)
def test_the_rule(interval, verdict):
    assert Criterion.within(0.1).verdict(interval) is verdict


def test_what_is_not_identified_decides_nothing():
    assert (
        judge_difference(Estimate(0.3, ci95=(0.2, 0.4), identified=True), 0.1, "").verdict
        is Verdict.CONTRADICTS
    )
    assert (
        judge_difference(Estimate(0.3, ci95=(0.2, 0.4), identified=False), 0.1, "").verdict
        is Verdict.CANNOT_TELL
    )
    assert judge_difference(Estimate(0.0), 0.1, "").verdict is Verdict.CANNOT_TELL
    assert judge_difference(Estimate(0.0, ci95=(0.0, math.inf)), 0.1, "").verdict is Verdict.CANNOT_TELL


@given(
    low=NUMBERS,
    width=st.floats(0, 5),
    below=st.floats(0, 5),
    above=st.floats(0, 5),
    margin=st.floats(0.01, 5),
)
def test_a_wider_interval_never_decides_more(low, width, below, above, margin):
    """The guarantee behind every verdict: what widens an interval can only take a decision away."""
    for criterion in (
        Criterion.within(margin),
        Criterion.above(margin),
        Criterion((-math.inf, 0.5), ((1.0, math.inf),)),
    ):
        narrow = criterion.verdict((low, low + width))
        wide = criterion.verdict((low - below, low + width + above))
        assert wide in (narrow, Verdict.CANNOT_TELL)


@given(value=NUMBERS, half=st.floats(0.01, 3), more=st.floats(0, 3))
def test_a_wider_estimate_is_never_closer_to_a_decision_about_a_published_number(value, half, more):
    constant = published("alpha")
    narrow, wide = (
        compare("alpha", Estimate(value, ci95=(value - w, value + w)), constant, 0.11).verdict
        for w in (half, half + more)
    )
    assert wide in (narrow, Verdict.CANNOT_TELL)


def test_published_errors_widen_the_difference():
    ours = Estimate(0.56, ci95=(0.555, 0.565), identified=True)
    outcome = compare("alpha", ours, published("alpha"), 0.11)
    assert outcome.verdict is Verdict.CANNOT_TELL  # beyond the margin of 0.44, but not of all of its interval
    assert "0.44 [0.4, 0.48] published" in outcome.sentence
    assert outcome.interval == (0.555, 0.565)  # that of the number, not of the difference
    far = Estimate(0.7, ci95=(0.68, 0.72), identified=True)
    outcome = compare("alpha", far, published("alpha"), 0.11)
    assert outcome.verdict is Verdict.CONTRADICTS
    assert "the whole interval [+0.22, +0.3] of the difference lies beyond the margin" in outcome.sentence


def test_nothing_is_compared_with_a_number_that_was_not_published():
    with pytest.raises(ValueError, match="no number was published"):
        compare("lambda", Estimate(0.4, ci95=(0.3, 0.5)), published("lambda", "", "generation"), 0.1)
