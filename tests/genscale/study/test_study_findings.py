"""Sentences of the report compare what can be compared."""

import dataclasses

import pytest

from eval.scaling import Estimate, Misfit, WindowResult
from eval.scaling.window import Level
from genscale.records import Evaluation, RunRecord
from genscale.study.config import StudyConfig
from genscale.study.report.analysis import Analysis, TaskLaws
from genscale.study.report.findings import findings, oddities, window_findings


def record(n: int, jets: int, loss: float) -> RunRecord:
    evaluation = Evaluation(
        step=1, jets_seen=jets, tokens_seen=jets, flops=1.0, flops_6nd=1.0, learning_rate=1e-3,
        metrics={"loss": loss, "loss_error": 0.001},
    )  # fmt: skip
    return RunRecord(
        task="tagger", size=f"d{n}", parameters={"total": n, "blocks": n}, jets_seen=jets, jets_unique=jets,
        tokens_seen=jets, flops=1.0, flops_6nd=1.0, schedule="constant", seed=1, config={}, config_hash="", data={},
        evaluations=[evaluation], wall_s=1.0, device="cpu", threads=1, processes=1,
    )  # fmt: skip


@pytest.fixture
def analysis() -> Analysis:
    """Two sizes with all jets, and the largest with fewer."""
    records = {
        "tagger/a": record(10, 1000, 1.0),
        "tagger/b": record(20, 1000, 0.9),
        "tagger/c": record(40, 100, 1.2),
    }
    laws = TaskLaws("tagger", None, {"L(N,D)": "not fitted"}, "", "", "")  # type: ignore[arg-type]
    return Analysis(records, {"tagging": laws}, {}, "")


def test_losses_of_different_jets_seen_are_not_set_beside_each_other(analysis):
    first = findings(analysis, StudyConfig())[0]
    assert "from 10 to 20 parameters at 1,000 jets, the held-out loss goes from 1.0000 to 0.9000" in first
    assert not any("ends above" in line for line in oddities(analysis, None, StudyConfig()))


def test_a_larger_model_that_ends_higher_is_named(analysis):
    records = {**analysis.records, "tagger/b": record(20, 1000, 1.1)}
    lines = oddities(dataclasses.replace(analysis, records=records), None, StudyConfig())
    assert "tagger: the larger d20 ends above the smaller d10." in lines


def test_jets_seen_more_than_once_are_named(analysis):
    again = dataclasses.replace(record(20, 1000, 0.9), jets_unique=400)
    lines = oddities(
        dataclasses.replace(analysis, records={**analysis.records, "tagger/b": again}), None, StudyConfig()
    )
    assert any(line.startswith("tagger/b: saw 400 jets 2.5 times") for line in lines)


@pytest.mark.parametrize(("highest", "refuted"), [(3.55, False), (3.59, True)])
def test_a_floor_above_a_measured_loss_is_called_impossible(analysis, highest, refuted):
    def known(value: float) -> Estimate:
        return Estimate(value, identified=True)

    level = Level("uniform", 6.0, known(2.5), known(0.4), known(0.99), ())
    floors = {"all points": known(3.5), "fewer": known(highest)}
    found = WindowResult(known(3.5), 3.57, {"uniform": level}, None, floors)  # type: ignore[arg-type]
    laws = dataclasses.replace(
        analysis.tasks["tagging"], window=found, misfit=Misfit(rms=0.01, seed_scatter=0.001, spread=0.02)
    )
    (sentence,) = window_findings({"generation": laws})
    assert f"moves from 3.5 to {highest}" in sentence
    assert ("a floor above the lowest loss measured, 3.57, cannot be one" in sentence) == refuted
