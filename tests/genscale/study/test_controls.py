"""Controls of a study on made-up records: what limits a loss, and how far a recipe is from the best."""

from types import SimpleNamespace

import numpy as np
import pytest

from genscale.config import from_mapping
from genscale.errors import InputError
from genscale.models.ladder import learning_rate, tagger_learning_rate
from genscale.study.cells import splits_read, study_cells
from genscale.study.config import RepetitionStage, StudyConfig
from genscale.study.controls import CHANGES, recipe_corners, repeated_trainings
from genscale.study.jobs import Predict
from genscale.study.report.control import limit_sentence
from genscale.study.results.controls import Limit, RecipeDistance, compare
from genscale.training.task import TrainingConfig

#: Fresh jets gain 0.05 nats per doubling: 0.1 nats from D/4 to D.
COLUMN = {10_000: 1.2, 20_000: 1.15, 40_000: 1.1}


def run(shift=0.0, unique=40_000, error=0.001):
    evaluations = [
        SimpleNamespace(jets_seen=d, metrics={"loss": loss + shift, "loss_error": error})
        for d, loss in COLUMN.items()
    ]
    return SimpleNamespace(
        jets_seen=40_000, jets_unique=unique, evaluations=evaluations, final=evaluations[-1]
    )


def scattered(*spreads, seeds=3):
    return [SimpleNamespace(spread=spread, runs=dict.fromkeys(range(seeds))) for spread in spreads]


def study(**stages):
    tagger = {
        "widths": [4, 8, 16],
        "training": {
            "jets": 51_200, "batch_jets": 64, "warmup_steps": 10, "evaluations": 7, "first_evaluation_jets": 800,
        },
    }  # fmt: skip
    stages["tagger"] = tagger | stages.get("tagger", {})
    return from_mapping(StudyConfig, {"generator": {"sizes": []}, "name": "made-up", **stages}, "study")


def test_equal_losses_with_little_scatter_are_limited_by_training():
    control = compare(
        "d8", [run(), run(0.01)], [run(0.001, 10_000), run(0.009, 10_000)], scattered(0.002, 0.002)
    )
    assert control.difference == pytest.approx(0.0)
    assert control.gain == pytest.approx(0.1)
    assert control.degrees == 1 + 2 + 2
    assert control.scatter == pytest.approx(np.sqrt((2 * 0.001**2 + 2 * 4 * 0.002**2) / 5))
    assert control.error == pytest.approx(control.scatter / np.sqrt(2))
    assert control.limit is Limit.TRAINING
    assert "limited by training, not by data" in limit_sentence("tagging", control)


@pytest.mark.parametrize(
    ("shift", "spread", "limit"),
    [
        (0.08, 0.002, Limit.DATA),
        (0.0, 0.002, Limit.TRAINING),
        (-0.02, 0.002, Limit.TRAINING),
        (0.08, 0.2, Limit.UNKNOWN),
        (0.0, 0.2, Limit.UNKNOWN),
    ],
)
def test_noise_never_decides(shift, spread, limit):
    control = compare("d8", [run()], [run(shift, 10_000)], scattered(spread, None))
    assert control.degrees == 2
    assert control.scatter == pytest.approx(np.sqrt(2) * spread)
    assert control.limit is limit
    assert control.to_dict()["limit"] == str(limit)


def test_without_a_second_seed_the_held_out_jets_give_the_error():
    control = compare("pico", [run(error=0.003)], [run(0.08, 10_000, error=0.004)], scattered(None, seeds=1))
    assert control.degrees == 0
    assert control.error == pytest.approx(0.005)
    assert control.limit is Limit.DATA
    assert "80 % of this fall needs new jets" in limit_sentence("generation", control)


def test_repeated_runs_differ_from_those_of_the_grid_in_their_jets_only():
    config = study(tagger={"widths": [4, 8, 16], "seeds": [1, 2], "jets_of": {"d8": 20_000}})
    assert config.controlled == {"tagger": "d8"}
    trainings = list(repeated_trainings(config.tagger, "d8"))
    assert [(t.seed, t.jets, t.jets_unique) for t in trainings] == [(1, 20_000, 5_000), (2, 20_000, 5_000)]
    assert study(control={"repetition": False}).controlled == {}
    assert study(control={"width": 16}).controlled == {"tagger": "d16"}


def test_a_size_that_sees_fewer_jets_has_its_losses_where_the_others_have_theirs():
    training = {"jets": 64_000, "batch_jets": 4, "evaluations": 5, "first_evaluation_jets": 4_000}
    grid = study(tagger={"widths": [4, 8], "jets_of": {"d8": 16_000}, "training": training}).tagger
    assert grid.trained("d4").evaluated_at == [4_000, 8_000, 16_000, 32_000, 64_000]
    assert grid.trained("d8").evaluated_at == [4_000, 8_000, 16_000]


def test_corners_are_those_of_the_grid_that_is_fitted():
    config = study(control={"recipe": True}, fit={"min_jets": 5_000, "min_steps": 50})
    corners = recipe_corners(config)
    assert [(c.name, c.training.jets) for c in corners] == [
        (name, jets) for name in ("d4", "d16") for jets in (6_528, 51_200)
    ]
    assert len({c.cell(change) for c in corners for change in CHANGES}) == 16
    first = corners[0]
    assert first.changed("half-batch").batch_jets == 32
    assert first.changed("twice-rate").learning_rate == 2 * first.training.learning_rate > 0
    assert first.training.evaluated_at == [6_528]
    assert recipe_corners(study()) == []


def test_the_corners_can_be_chosen():
    fit = {"min_jets": 5_000, "min_steps": 50}
    config = study(control={"recipe": ["d8"]}, tagger={"jets_of": {"d8": 12_800}}, fit=fit)
    least, most = recipe_corners(config)
    assert (least.name, most.name) == ("d8", "d8")
    assert 5_000 <= least.training.jets < most.training.jets == 12_800
    assert recipe_corners(study(control={"recipe": []})) == []
    both = study(control={"recipe": True})
    assert recipe_corners(study(control={"recipe": ["d16", "d4"]})) == recipe_corners(both)
    for recipe, message in (
        (["d9"], r"d9 is not in the grid \(d4, d8, d16\)"),
        ("d8", "neither true nor false nor a list"),
    ):
        with pytest.raises(InputError, match=message):
            study(control={"recipe": recipe})


def test_distance_of_a_recipe():
    best = RecipeDistance("tagger", "d4", 6400, 1.0, {"half-rate": 1.1, "twice-rate": 1.01})
    assert (best.best, best.distance) == ("", 0.0)
    worse = RecipeDistance("tagger", "d4", 6400, 1.0, {"half-rate": 0.8, "twice-rate": 0.9})
    assert worse.best == "half-rate"
    assert worse.distance == pytest.approx(0.25)


def test_held_out_losses_on_repeated_jets_are_dense_in_ln_d():
    training = RepetitionStage(epochs=50).training_on(2_000, seed=3)
    assert (training.jets, training.jets_unique, training.seed) == (100_000, 2_000, 3)
    seen = np.array(training.evaluated_at)
    assert seen[0] == pytest.approx(2_000, abs=128)
    assert (seen[1:] / seen[:-1]).max() < 1.16 + 128 / 2_000
    capped = RepetitionStage(training=TrainingConfig(jets=10_000, patience=0.5)).training_on(2_000, seed=1)
    assert capped.jets == 10_000


def test_taggers_are_judged_on_more_background_where_there_is_some(tmp_path):
    tagger = {"widths": [4], "predict_at": [6_400]}
    simulated = study(tagger=tagger, jets={"rejection_of": {"QCD": 9_000}})
    cells = {cell.id: cell for cell in study_cells(simulated)}
    more = cells["jets/rejection"]
    assert "jets/test" not in cells  # nothing reads it
    assert more.job.jets_of == {"QCD": 9_000}
    assert more.job.seed == simulated.jets.seed + 2  # that of the test jets
    for name, weights in (("d4-s1", "tagger/d4-s1"), ("d4-s1-d6400", "tagger/d4-s1/weights/jets-6400")):
        cell = cells[f"predictions/{name}"]
        assert cell.job == Predict(weights, "jets/rejection")
        assert cell.needs == ("tagger/d4-s1", "jets/rejection")
    assert cells["tagger/d4-s1"].job.of.training.keep_weights_at == [6_400]

    given = study(tagger={"widths": [4]}, jets={"stores": str(tmp_path)})
    judged = {cell.id: cell for cell in study_cells(given)}["predictions/d4-s1"]
    assert judged.job.jets == f"{tmp_path}/test"
    with pytest.raises(InputError, match=f"jets.rejection_of: {tmp_path} has no store rejection"):
        study_cells(study(tagger=tagger, jets={"stores": str(tmp_path), "rejection_of": {"QCD": 9_000}}))
    (tmp_path / "rejection").mkdir()
    judged = {cell.id: cell for cell in study_cells(given)}["predictions/d4-s1"]
    assert judged.job.jets == f"{tmp_path}/rejection"
    assert splits_read(given, study_cells(given)) == ("train", "validation", "rejection")


def test_generators_repeat_data_by_the_same_code(tmp_path):
    config = study(
        generator={"sizes": ["pico", "nano"], "learning_rates": {"nano": 0.1}},
        tagger={"widths": [4]},
        repetition={"widths": [4], "sizes": ["pico", "nano"], "jets": [500, 1000], "seeds": [1, 2]},
        control={"repetition": False},
    )
    cells = {cell.id: cell for cell in study_cells(config) if cell.id.startswith("repetition/")}
    assert set(cells) == {
        f"repetition/{name}-u{jets}-s{seed}"
        for name in ("d4", "pico", "nano") for jets in (500, 1000) for seed in (1, 2)
    }  # fmt: skip
    trainings = {name: cell.job.of.training for name, cell in cells.items()}
    assert trainings["repetition/pico-u500-s2"].jets == 50_000
    assert trainings["repetition/nano-u500-s1"].learning_rate == 0.1
    assert trainings["repetition/pico-u500-s1"].learning_rate == learning_rate("pico")
    assert trainings["repetition/d4-u500-s1"].learning_rate == tagger_learning_rate(4)
