"""Sentences, tables and curves of the report compare what can be compared."""

import dataclasses
import math
from types import SimpleNamespace

import pytest

from eval.common.errors import InputError
from eval.common.results import Estimate, Unavailable
from eval.scaling import Misfit, WindowResult
from eval.scaling.window import Level
from genscale.config import from_mapping
from genscale.records import Evaluation, RunRecord
from genscale.study.config import StudyConfig
from genscale.study.report import window
from genscale.study.report.runs import cautions, compare_sizes, learning_curves
from genscale.study.report.runs import section as setup
from genscale.study.results.absence import attempt, available
from genscale.study.results.laws import TaskLaws
from genscale.study.results.study import Study


def record(n: int, jets: int, loss: float, seed: int = 1, error: float = 0.001) -> RunRecord:
    evaluations = [
        Evaluation(
            step=1, jets_seen=d, tokens_seen=d, flops=1.0, flops_6nd=1.0, learning_rate=1e-3,
            metrics={"loss": loss + 1 - d / jets, "loss_error": error},
        )
        for d in (jets // 2, jets)
    ]  # fmt: skip
    return RunRecord(
        task="tagger", size=f"d{n}", parameters={"total": n, "blocks": n}, jets_seen=jets, jets_unique=jets,
        tokens_seen=jets, flops=1.0, flops_6nd=1.0, schedule="constant", seed=seed, config={}, config_hash="", data={},
        evaluations=evaluations, wall_s=1.0, device="cpu", threads=1, processes=1,
    )  # fmt: skip


def study(tmp_path, *records: RunRecord) -> Study:
    found = Study(tmp_path, StudyConfig())
    found.__dict__["records"] = {f"tagger/{r.size}-s{r.seed}": r for r in records}
    return found


def test_losses_of_different_jets_seen_are_not_compared(tmp_path):
    found = study(tmp_path, record(10, 1000, 1.0), record(20, 1000, 0.9), record(40, 100, 1.2))
    (line,) = compare_sizes("tagging", found.sizes["tagging"])
    assert (
        "from 10 to 20 parameters, each trained on 1,000 jets, the held-out loss changes from 1.0000 ± 0.0010"
        in line
    )
    assert not any("higher loss" in line for line in cautions(found))


def test_sizes_are_means_over_their_seeds(tmp_path):
    """The first seed of the smallest and the last of the largest would say the opposite."""
    found = study(
        tmp_path,
        record(10, 1000, 0.8),
        record(10, 1000, 1.2, seed=2),
        record(20, 1000, 0.7),
        record(20, 1000, 0.9, 2),
    )
    small, large = found.sizes["tagging"]
    assert (small.loss, large.loss) == (pytest.approx(1.0), pytest.approx(0.8))
    assert large.spread == pytest.approx(0.2 / math.sqrt(2))
    assert large.error == pytest.approx(math.hypot(0.001, large.spread / math.sqrt(2)))
    (line,) = compare_sizes("tagging", [small, large])
    assert "changes from 1.0000 ± 0.2000 to 0.8000 ± 0.1000" in line
    assert "means over 2 seeds, with a standard deviation of 0.2828 and 0.1414" in line


def test_a_single_size_is_not_compared_with_itself(tmp_path):
    found = study(tmp_path, record(10, 1000, 0.8))
    (line,) = compare_sizes("tagging", found.sizes["tagging"])
    assert line.startswith("Tagging: 10 parameters reach a held-out loss of 0.8000 ± 0.0010 nats per jet")


def test_a_larger_size_that_ends_higher_is_named(tmp_path):
    lines = cautions(study(tmp_path, record(10, 1000, 1.0), record(20, 1000, 1.1)))
    assert (
        "tagger: the larger model d20 ends at a higher loss than d10: 1.1000 ± 0.0010 and 1.0000 ± 0.0010."
        in lines
    )


def test_one_bad_seed_does_not_make_a_size_end_higher(tmp_path):
    seeds = [record(20, 1000, loss, seed) for seed, loss in enumerate((0.9, 0.9, 1.2), 1)]
    lines = cautions(study(tmp_path, record(10, 1000, 1.0), *seeds))
    assert not any("higher loss" in line for line in lines)


def test_jets_seen_more_than_once_are_named(tmp_path):
    again = dataclasses.replace(record(20, 1000, 0.9), jets_unique=400)
    lines = cautions(study(tmp_path, record(10, 1000, 1.0), again))
    assert any(line.startswith("tagger/d20-s1: saw 400 jets 2.5 times") for line in lines)


def test_learning_curves_have_one_line_per_size(tmp_path):
    found = study(
        tmp_path,
        record(10, 1000, 0.8),
        record(10, 1000, 1.2, seed=2),
        record(20, 1000, 0.7),
        record(40, 100, 0.9),
    )
    (ax,) = learning_curves(found.sizes).axes
    lines = [line for line in ax.lines if len(line.get_xdata()) == 2]
    assert len(lines) == 3
    assert list(lines[0].get_xdata()) == [500, 1000]
    assert list(lines[0].get_ydata()) == pytest.approx([1.5, 1.0])  # the mean of both seeds


def test_absence_has_a_reason():
    def refuse() -> int:
        raise InputError("two points are too few")

    missing = attempt("not fitted", refuse)
    assert missing == Unavailable("not fitted: two points are too few")
    assert available(missing) is None
    assert attempt("not fitted", lambda: 3) == available(3) == 3


def test_a_report_names_the_test_jets_of_its_own_that_taggers_are_judged_on(tmp_path):
    jets = {"train": 60_000, "test": 6_000, "mpi": False, "rejection_of": {"QCD": 9_000}}
    config = from_mapping(StudyConfig, {"generator": {"sizes": []}, "jets": jets}, "study")
    for split in ("train", "validation", "rejection"):
        (tmp_path / "jets" / split).mkdir(parents=True)
    counts, judged, mpi = setup(Study(tmp_path, config)).text[:3]
    assert counts.startswith("60,000 training, 6,000 validation jets of 10 classes")
    assert "with 9,000 jets of QCD" in judged
    assert "Multiparton interactions are switched off" in mpi


@pytest.mark.parametrize(("highest", "refuted"), [(3.55, False), (3.59, True)])
def test_a_floor_above_a_measured_loss_is_called_impossible(highest, refuted):
    def known(value: float) -> Estimate:
        return Estimate(value, identified=True)

    level = Level("bigram", 4.0, 4.1, known(0.5), known(20.0), known(0.1), known(0.99), ())
    floors = {"all points": known(3.5), "fewer": known(highest)}
    fit = SimpleNamespace(bootstrap_unit="groups")
    found = WindowResult(known(3.5), 3.57, {"bigram": level}, "bigram", 40.0, fit, floors)  # type: ignore[arg-type]
    missing = Unavailable("not fitted")
    misfit = Misfit(rms=0.01, seed_scatter=0.001, spread=0.02, model_error=0.01)
    laws = TaskLaws("generator", None, {"L(N,D)": missing}, missing, found, missing, misfit)  # type: ignore[arg-type]
    (sentence,) = window.findings("generation", laws)
    assert f"varies from 3.5 to {highest}" in sentence
    assert ("L_inf cannot exceed the lowest loss measured, 3.57" in sentence) == refuted
    few = dataclasses.replace(found, fit=SimpleNamespace(bootstrap_unit="points of few groups"))
    (sentence,) = window.findings("generation", dataclasses.replace(laws, window=few))
    assert sentence.startswith("Generation: L_inf is not identified (fewer than 8 runs")
