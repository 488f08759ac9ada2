"""The head of a report says what was measured, and is never surer than verdicts and controls."""

from types import SimpleNamespace

import pytest

from eval.common.results import Estimate, Unavailable
from eval.scaling import WindowResult
from eval.scaling.window import Level
from genscale.pages import Mark
from genscale.records import Evaluation, RunRecord
from genscale.study.config import StudyConfig
from genscale.study.report import answer
from genscale.study.results.controls import RepetitionControl
from genscale.study.results.laws import TaskLaws
from genscale.study.results.study import Study

JETS = 1000


def record(n: int, seed: int, loss: float) -> RunRecord:
    evaluations = [
        Evaluation(
            step=1, jets_seen=d, tokens_seen=d, flops=1.0, flops_6nd=1.0, learning_rate=1e-3,
            metrics={"loss": loss + 1 - d / JETS, "loss_error": 0.001},
        )
        for d in (JETS // 2, JETS)
    ]  # fmt: skip
    return RunRecord(
        task="tagger", size=f"d{n}", parameters={"total": n, "blocks": n, "embedding": 0},
        jets_seen=JETS, jets_unique=JETS, tokens_seen=JETS, flops=1.0, flops_6nd=1.0,
        schedule="constant", seed=seed, config={}, config_hash="", data={},
        evaluations=evaluations, wall_s=1.0, device="cpu", threads=1, processes=1,
    )  # fmt: skip


def study(folder, losses: dict[int, list[float]], window: object = Unavailable("no window")) -> Study:
    """A study of taggers: N -> losses of its seeds."""
    found = Study(folder, StudyConfig())
    found.__dict__["records"] = {
        f"tagger/d{n}-s{seed}": record(n, seed, loss)
        for n, of_size in losses.items()
        for seed, loss in enumerate(of_size, 1)
    }
    missing = Unavailable("not fitted")
    laws = TaskLaws("tagger", found.points("tagger"), {"L(N,D)": missing}, missing, window, missing)  # type: ignore[arg-type]
    found.__dict__["laws"] = {"tagging": laws}
    found.__dict__["controls"] = {}
    return found


def tagging(found: Study) -> tuple[Mark, str]:
    finding = next(f for f in answer.answer(found).findings if f.topic == "Tagging")
    return finding.mark, finding.text


FALLING = {100: [1.0, 1.001, 0.999], 10_000: [0.8, 0.801, 0.799]}


def test_a_resolved_fall_is_a_yes_with_its_number(tmp_path):
    found = study(tmp_path, FALLING)
    mark, text = tagging(found)
    assert mark is Mark.YES
    assert "larger models help: from 100 to 10,000 parameters the held-out loss falls by 0.200 ± 0.00" in text
    assert answer.answer(found).numbers[0].value.startswith("0.200 ± 0.00")


def test_a_resolved_rise_is_a_no(tmp_path):
    mark, text = tagging(study(tmp_path, {100: [0.8, 0.801], 10_000: [1.0, 1.001]}))
    assert mark is Mark.NO
    assert "larger models do not help" in text
    assert "rises by 0.200" in text


@pytest.mark.parametrize(
    ("losses", "why"),
    [
        ({100: [1.0], 10_000: [0.8]}, "no run was repeated with another seed"),
        ({100: [1.0, 0.9], 200: [0.8, 0.9]}, "span less than 1.5 decades"),
        ({100: [1.0, 0.6], 10_000: [0.7, 0.8]}, "does not exclude a fall too small to matter"),
    ],
)
def test_what_is_not_resolved_cannot_be_told(tmp_path, losses, why):
    mark, text = tagging(study(tmp_path, losses))
    assert mark is Mark.OPEN
    assert "whether larger models help cannot be told" in text
    assert why in text


def test_one_size_shows_nothing_about_size(tmp_path):
    found = study(tmp_path, {100: [1.0, 1.1]})
    mark, text = tagging(found)
    assert mark is Mark.OPEN
    assert "only one size" in text
    assert not answer.answer(found).numbers


def test_without_power_a_claim_is_not_tested(tmp_path):
    found = study(tmp_path, FALLING)
    found.__dict__["power"] = {"tagging: N": 0.3, "tagging: D": 0.3}
    mark, text = tagging(found)
    assert mark is Mark.UNTESTED
    assert "with probability 0.30 only" in text
    assert "last doubling" not in text


def test_the_control_says_what_limits_the_loss(tmp_path):
    found = study(tmp_path, FALLING)
    assert "What limits it was not tested" in tagging(found)[1]
    for repeated, said in (([0.8], "Training limits it, not data"), ([0.95], "Data limit it")):
        control = RepetitionControl("d100", JETS, JETS // 4, [0.8], repeated, [1.0], scatter=0.01, degrees=5)
        found.__dict__["controls"] = {"tagging": control}
        assert said in tagging(found)[1]


def test_what_a_study_lacks_is_called_not_measured(tmp_path):
    generation, _, samples = answer.answer(study(tmp_path, FALLING)).findings
    assert (generation.mark, samples.mark) == (Mark.UNTESTED, Mark.UNTESTED)
    assert generation.text == "not measured: this study trains no generators."
    assert samples.text == "not measured: this study scores no generated jets."


@pytest.mark.parametrize(
    ("identified", "unit", "other", "said"),
    [
        (
            True,
            "groups",
            0.55,
            "the fitted law stops at 0.5 nats per jet, and the best run has learned 90 % of the way",
        ),
        (False, "groups", 0.55, "where it stops is not identified (too wide)"),
        (True, "points of few groups", 0.55, "where it stops is not identified (fewer than 8 runs"),
        (True, "groups", 0.9, "the law stops above a loss that was measured"),
    ],
)
def test_the_floor_is_quoted_only_if_it_may_be(tmp_path, identified, unit, other, said):
    def known(value: float) -> Estimate:
        return Estimate(value, identified=True)

    level = Level("prior", 2.3, 2.3, known(1.8), known(1.8), known(0.8), known(0.9), ())
    floor = Estimate(0.5, identified=identified, reason="" if identified else "too wide")
    fit = SimpleNamespace(bootstrap_unit=unit)
    window = WindowResult(floor, 0.7, {"prior": level}, "prior", 1.0, fit, {"fewer": known(other)})  # type: ignore[arg-type]
    assert said in tagging(study(tmp_path, FALLING, window))[1]
