"""The one rule of "identified" and the one formatter of intervals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.common.results import Estimate

finite = st.floats(0.01, 100.0)


@pytest.mark.parametrize(
    ("kind", "value", "ends", "identified"),
    [
        ("exponent", 0.227, (0.158, 0.899), False),  # wider than 0.3 and than half of its value
        ("exponent", 0.44, (0.33, 0.60), True),  # narrower than 0.3
        ("exponent", 2.0, (1.2, 2.9), True),  # wide, but known to better than 50 %
        ("exponent", 0.02, (-0.05, 0.10), True),  # a dependence that is measured to be weak
        ("scale", 11.0, (4.0, 39.0), True),
        ("scale", 11.0, (3.0, 39.0), False),  # 1.1 decades
        ("scale", -5.0, (-8.0, -2.0), True),
        ("scale", 0.1, (0.0, 0.4), False),
        ("scale", 1e6, (1e6, np.inf), False),
        ("scale", np.inf, (1e6, 2e6), False),
    ],
)
def test_the_rule_of_identified(kind, value, ends, identified):
    judged = Estimate(value, ci95=ends).judged(kind)
    assert judged.identified is identified
    assert bool(judged.reason) is not identified


def test_a_reason_outweighs_a_narrow_interval_and_nothing_is_judged_without_one():
    assert Estimate(1.0, ci95=(0.99, 1.01)).judged("scale", "on a bound").identified is False
    assert Estimate(1.0).judged().identified is None
    assert Estimate(1.0).judged("exponent", "on a bound").reason == "on a bound"


@given(value=finite, low=finite, high=finite, factor=st.floats(1e-6, 1e6))
def test_scales_are_judged_alike_in_any_unit(value, low, high, factor):
    ends = (min(low, high), max(low, high) * 1.001)
    other = Estimate(value * factor, ci95=(ends[0] * factor, ends[1] * factor)).judged("scale")
    if abs(np.log10(ends[1] / ends[0]) - 1) > 1e-9:
        assert other.identified == Estimate(value, ci95=ends).judged("scale").identified


@given(value=finite, half=finite, more=finite, kind=st.sampled_from(["scale", "exponent"]))
def test_a_wider_interval_never_identifies_more(value, half, more, kind):
    narrow = Estimate(value, ci95=(value - half, value + half)).judged(kind)
    wide = Estimate(value, ci95=(value - half - more, value + half + more)).judged(kind)
    assert narrow.identified or not wide.identified


def test_intervals_have_one_form():
    estimate = Estimate(0.22713, (0.2, 0.25123), (0.1584, 0.8993))
    assert estimate.text() == "0.2271 [0.2, 0.2512]"
    assert estimate.text("ci95") == "0.2271 [0.1584, 0.8993]"
    assert (
        str(estimate.judged("exponent"))
        == "0.2271 [0.2, 0.2512] (not identified: the 95% interval is 0.74 wide)"
    )
    assert Estimate(0.5).text() == "0.5"
