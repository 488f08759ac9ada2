"""The worked example of docs/scaling-laws.md prints what the page says."""

import contextlib
import io
import re
from pathlib import Path

import pytest

from eval.scaling import fit, read_points, sensitivity

PAGE = Path(__file__).parents[3] / "docs" / "scaling-laws.md"


def test_worked_example_prints_what_the_page_says():
    text = PAGE.read_text(encoding="utf-8").split("## A worked example")[1]
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL).group(1)
    shown = [line[4:] for line in text.split("```")[2].splitlines() if line.startswith("    ")]
    end = next(i for i, line in enumerate(shown) if line.strip() == "...")
    names, printed = {}, io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, names)
        exec("print(plan(result, loss=0.4))", names)
    lines = printed.getvalue().splitlines()
    assert lines[:end] == shown[:end]
    for line in ("loss of 0.4 nats", "  N = 9.603e+05 [8.901e+05, 1.021e+06]"):
        assert line in lines
        assert f"    {line}" in text


def test_real_points_say_what_the_page_says():
    text = PAGE.read_text(encoding="utf-8").split("## The same on real points")[1]
    points = read_points(PAGE.parent / "results/quickstart/points.csv", where={"task": "generator"})
    points = points.select(points.D >= 7000)
    result = fit(points)
    for name, estimate in result.params.items():
        line = re.search(rf"^ +{name} +([\d.e+]+) .*$", text, re.MULTILINE)
        assert estimate.value == pytest.approx(float(line[1]), rel=2e-3)
        assert ("not identified" in line[0]) == (estimate.identified is False)
    for variant in sensitivity(points):
        shown = re.search(rf"^ +{variant.name} {variant.n_points} ([\d.]+) ", text, re.MULTILINE)
        assert variant.fit.params["E"].value == pytest.approx(float(shown[1]), rel=2e-3)
