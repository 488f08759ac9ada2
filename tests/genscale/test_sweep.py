import csv

import pytest

from genscale.config import load_config, to_mapping
from genscale.errors import InputError
from genscale.models.ladder import LADDER, learning_rate
from genscale.sweep import Sweep, run_sweep, variations
from genscale.training.generator import GeneratorRun
from genscale.training.tagger import TaggerRun
from genscale.training.task import TrainingConfig

TRAINING = {
    "jets": 64,
    "batch_jets": 16,
    "evaluations": 2,
    "first_evaluation_jets": 16,
    "validation_jets": 16,
}


@pytest.fixture
def shared(token_stores, tokenizer_run):
    return {
        "tokens": str(token_stores / "train"), "validation": str(token_stores / "validation"),
        "tokenizer": str(tokenizer_run), "training": TRAINING,
    }  # fmt: skip


def test_a_sweep_trains_each_run_once_and_goes_on_where_it_was(shared, tmp_path):
    rates = {"training.learning_rate": [1e-3, 2e-3], "training.seed": [1]}
    rows = run_sweep(Sweep(shared, [rates]), tmp_path, progress=False)
    first = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*/record.json")}
    assert len(first) == 2
    more = [rates, {"training.learning_rate": [2e-3], "training.seed": [1, 2]}, {"model.norm": ["post"]}]
    rows = run_sweep(Sweep(shared, more), tmp_path, progress=False)
    assert len({row["run"] for row in rows}) == 4
    assert all(p.stat().st_mtime_ns == then for p, then in first.items())
    with (tmp_path / "points.csv").open() as file:
        read = list(csv.DictReader(file))
    assert [r["run"] for r in read] == [r["run"] for r in rows]
    post = next(r for r in read if r["model.norm"] == "post")
    assert post["training.learning_rate"] == ""
    assert float(read[-1]["L"]) > 0


def test_what_varies_is_checked_before_anything_is_trained(shared, tmp_path):
    with pytest.raises(InputError, match=r"unknown key training.learning_rat; did you mean learning_rate"):
        run_sweep(Sweep(shared, [{"training.learning_rat": [1.0]}]), tmp_path, progress=False)
    with pytest.raises(InputError, match="grids: empty"):
        Sweep(shared)


def test_runs_that_would_share_a_folder_are_refused(shared):
    with pytest.raises(
        InputError, match=r"'training.seed': 1.* and .*'model.seed': 1.* would both be called seed=1"
    ):
        list(variations(Sweep(shared, [{"training.seed": [1]}, {"model.seed": [1]}])))
    seeds, sizes = {"training.seed": [1]}, {"size": ["pico"]}
    with pytest.raises(InputError, match="is there twice; give its keys in one order"):
        list(variations(Sweep(shared, [seeds | sizes, sizes | seeds])))


def test_the_sweeps_of_the_documentation_are_valid():
    from pathlib import Path

    for name in ("learning_rates", "ablation", "ablation_small"):
        sweep = load_config(Sweep, Path(__file__).parents[2] / f"configs/generator/{name}.yaml")
        assert len(list(variations(sweep))) > 20


def test_no_rate_means_the_one_of_the_size():
    rates = [learning_rate(size, 32) for size in LADDER]
    assert rates == sorted(rates, reverse=True)
    assert learning_rate("micro", 128) == pytest.approx(2 * learning_rate("micro", 32), rel=0.05)
    for size in ("pico", "large"):
        run = load_config(GeneratorRun, None, [f"size={size}", "training.batch_jets=128"])
        assert run.training.learning_rate == learning_rate(size, 128)
        assert to_mapping(run)["training"]["learning_rate"] == learning_rate(
            size, 128
        )  # what the record says
    assert load_config(GeneratorRun, None, ["training.learning_rate=0.5"]).training.learning_rate == 0.5
    assert load_config(GeneratorRun, None, ["size=omnijet"]).training.learning_rate == 1e-3  # as released
    sweep = Sweep({"training": {"batch_jets": 128}}, [{"size": ["pico", "large"]}])
    found = [run.training.learning_rate for _, _, run in variations(sweep)]
    assert found == [learning_rate("pico", 128), learning_rate("large", 128)]


def test_other_tasks_have_no_rule():
    with pytest.raises(InputError, match="a tagger has no rule for it"):
        TaggerRun(training=TrainingConfig(learning_rate=0))
