"""The study beside the literature: what the report shows and writes."""

import json

import numpy as np
import pytest

from eval.common.results import Estimate, plain
from eval.literature.claims import judge
from eval.literature.constants import constants_table
from eval.literature.design import Design, Noise, Run
from eval.literature.findings import Findings
from eval.literature.worlds import World, simulate_study
from eval.scaling.steps import paired_steps
from genscale.study.report.literature import Literature, literature_tables


@pytest.fixture
def literature():
    sizes, jets = np.geomspace(1e4, 1e6, 5), np.geomspace(5e3, 2e5, 6)
    runs = tuple(Run(n, n / 2, seed, jets) for n in sizes for seed in (1, 2, 3))
    points = simulate_study(
        Design(generation=runs), World(), {"generation": Noise(1e-4)}, np.random.default_rng(0)
    ).generation
    steps = {"generation": paired_steps(points)}
    findings = Findings(
        generation_steps=steps["generation"],
        tagging={name: Estimate(0.5, (0.4, 0.6), (0.3, 0.7), True) for name in ("alpha", "beta", "a")},
    )
    return Literature(constants_table(findings), judge(findings, {"generation: D": 0.4, "alpha": 0.9}), steps)


def test_verdicts_power_and_steps_are_written_as_plain_json(literature):
    found = json.loads(json.dumps(plain(literature.to_dict()), allow_nan=False))
    claims = {claim["key"]: claim for claim in found["claims"]}
    assert claims["generation: N"]["verdict"] == "supports"
    assert claims["generation: D"]["verdict"] == "not tested"
    assert claims["generation: D"]["power"] == 0.4
    assert claims["alpha"]["interval"] == [0.3, 0.7]
    assert claims["generation: window"]["verdict"] == "not applicable"
    step = found["steps"]["generation"]["span"]
    assert step["high"] / step["low"] >= 30
    published = {
        c["key"]: c["published_interval"] for c in found["constants"] if c["source"] == "arXiv:2602.15781"
    }
    assert published["a"] == pytest.approx([0.311, 0.356], abs=1e-3)


def test_tables_show_the_power_and_what_was_never_published(literature):
    _, claims, steps, _ = literature_tables(literature)
    row = next(
        row
        for row in claims.rows
        if row[0].startswith("In a single pass the loss of taggers falls with model")
    )
    assert row[4] == "0.90"
    assert len(steps.rows) == 4 + 5  # neighbouring sizes, then the last doubling of each size


def test_every_claim_has_one_line_with_a_mark_and_the_decided_ones_come_first(literature):
    table = literature_tables(literature)[0]
    assert len(table.rows) == len(table.marks) == len(literature.judgements)
    assert not table.folded
    words = [row[0] for row in table.rows]
    order = ["supported", "contradicted", "cannot tell", "not tested", "not applicable"]
    assert words == sorted(words, key=order.index)
    marks = dict(zip(words, table.marks, strict=True))
    assert len(set(marks.values())) == len(marks)  # told apart without colour
    for j in literature.judgements:
        (row,) = (row for row in table.rows if row[1] == j.claim.text)
        assert row[2] == "none" or " in [" in row[2]
    (alpha,) = (row for row in table.rows if row[1].endswith("N^-0.44"))
    assert alpha[2] == "alpha in [0.3, 0.7]"
