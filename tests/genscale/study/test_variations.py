"""Variations: grids over any training, as cells of a study."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from genscale.config import from_mapping, load_config
from genscale.errors import InputError
from genscale.study.backends import make_backend
from genscale.study.cells import splits_read
from genscale.study.config import StudyConfig
from genscale.study.plan import planned_cells, status
from genscale.study.run import run_study
from genscale.study.variations import Variations
from genscale.training.loop import train
from genscale.training.tagger import TaggerRun, TaggerTask

TRAINING = {
    "jets": 64, "batch_jets": 16, "evaluations": 2, "first_evaluation_jets": 16, "validation_jets": 50,
    "warmup_steps": 2,
}  # fmt: skip
TAGGERS = [
    {"d_model": [4, 8], "training.learning_rate": [0.01]},
    {"d_model": [8], "training.learning_rate": [0.01, 0.02]},
    {"features": ["kinematic3"]},
]


def study(variations, **more):
    values = {
        "generator": {"sizes": [], "training": TRAINING},
        "tagger": {"widths": [], "training": TRAINING},
    }
    return from_mapping(StudyConfig, values | {"variations": variations} | more, "test")


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "variations.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture
def jets(jet_stores, tmp_path) -> dict[str, str]:
    """Without test jets, which variations do not need."""
    for split in ("train", "validation"):
        (tmp_path / "jets").mkdir(exist_ok=True)
        (tmp_path / "jets" / split).symlink_to(jet_stores / split)
    return {"stores": str(tmp_path / "jets")}


@pytest.fixture
def tokens(token_stores, tokenizer_run) -> dict[str, str]:
    return {"folder": str(tokenizer_run), "tokens": str(token_stores)}


def test_each_run_is_trained_once_as_alone_and_has_its_rows(jets, tmp_path):
    config = study({"tagger": TAGGERS}, jets=jets)
    out = tmp_path / "out"
    run_study(config, out, make_backend("local", 2), progress=False)
    assert {row["run"] for row in rows(out)} == {
        f"variations/tagger/{name}"
        for name in ("d_model=4,learning_rate=0.01", "d_model=8,learning_rate=0.01", "d_model=8,learning_rate=0.02",
                     "features=kinematic3")
    }  # fmt: skip
    assert all(state == "done" for _, state in status(out))
    row = [r for r in rows(out) if r["training.learning_rate"] == "0.02"][-1]
    assert (row["d_model"], row["features"], row["D"], row["step"]) == ("8", "", "64", "4")
    training = {**TRAINING, "learning_rate": 0.02}
    stores = {"jets": f"{jets['stores']}/train", "validation": f"{jets['stores']}/validation"}
    run = from_mapping(TaggerRun, {**stores, "d_model": 8, "training": training}, "run")
    record = train(TaggerTask(run), run.training, tmp_path / "alone", progress=False)
    assert float(row["L"]) == record.final.metrics["loss"]
    page = (out / "report.html").read_text()
    assert "Variations of the tagger" in page
    assert "d_model" in (out / "summary.txt").read_text()
    assert not (out / "points.csv").exists()  # that is of the laws, which this study has not


def test_generators_vary_on_tokens_that_are_given(tokens, tmp_path):
    grid = {"size": ["pico"], "model.norm": ["pre", "post"], "training.seed": [2]}
    config = study({"generator": [grid]}, tokenizer=tokens)
    assert [cell.job.kind for cell in planned_cells(config)] == [
        "train_generator",
        "train_generator",
        "report",
    ]
    assert splits_read(config, planned_cells(config)) == ()
    run_study(config, tmp_path / "out", make_backend("debug"), progress=False)
    last = rows(tmp_path / "out")[-1]
    assert (last["model.norm"], last["seed"], last["task"]) == ("post", "2", "generator")
    assert "Tokens from" in (tmp_path / "out" / "report.html").read_text()


def test_generators_vary_on_the_tokens_of_the_study(jets):
    config = study({"generator": [{"size": ["pico", "nano"]}]}, jets={"train": 100})
    works = [cell.job.kind for cell in planned_cells(config)]
    assert works == ["simulate"] * 2 + ["train_tokenizer"] + ["encode"] * 2 + ["train_generator"] * 2 + [
        "report"
    ]
    assert splits_read(config, planned_cells(config)) == ("train", "validation")
    tokenizers = study({"tokenizer": [{"model.codebook_size": [16, 32]}]}, jets=jets)
    sizes = [
        c.job.of.model.codebook_size for c in planned_cells(tokenizers) if c.job.kind == "train_tokenizer"
    ]
    assert sizes == [16, 32]


def test_a_generator_without_a_rate_has_the_one_of_its_size(tokens):
    from genscale.models.ladder import learning_rate

    config = study(
        {"generator": [{"size": ["pico", "large"], "training.batch_jets": [16, 64]}]}, tokenizer=tokens
    )
    found = [
        c.job.of.training.learning_rate for c in planned_cells(config) if c.job.kind == "train_generator"
    ]
    assert found == [learning_rate(size) for size in ("pico", "large") for _ in range(2)]


def test_given_tokens_also_serve_a_grid_of_sizes(jet_stores, tokens, tmp_path):
    config = study(
        {}, jets={"stores": str(jet_stores)}, tokenizer=tokens, samples={"jets": 120},
        generator={"sizes": ["pico", "nano"], "training": TRAINING}, fit={"bootstrap": 5},
    )  # fmt: skip
    run_study(config, tmp_path / "out", make_backend("debug"), progress=False)
    assert not {"tokenizer", "tokens"} & {path.name for path in (tmp_path / "out").iterdir()}
    assert "Tokenizer from" in (tmp_path / "out" / "report.html").read_text()


def test_grids_may_grow_and_nothing_else_may(jets, tmp_path):
    out = tmp_path / "out"
    run_study(study({"tagger": TAGGERS[:1]}, jets=jets), out, make_backend("debug"), progress=False)
    then = {file: file.stat().st_mtime_ns for file in out.rglob("record.json")}
    run_study(study({"tagger": TAGGERS}, jets=jets), out, make_backend("debug"), progress=False)
    assert len({row["run"] for row in rows(out)}) == 4
    assert len(then) == 2
    assert all(file.stat().st_mtime_ns == time for file, time in then.items())
    other = study({"tagger": TAGGERS}, jets=jets, tagger={"widths": [], "training": TRAINING, "dropout": 0.5})
    with pytest.raises(InputError, match=r"another configuration \(tagger.dropout is 0.01 there, 0.5 here\)"):
        run_study(other, out, make_backend("debug"), progress=False)


def test_killed_in_the_middle_it_ends_at_the_same_numbers(jets, tmp_path):
    longer = {**TRAINING, "jets": 6400, "checkpoint_s": 0.2}
    grid = [{"d_model": [4], "training.seed": [1]}]
    config = study({"tagger": grid}, jets=jets, tagger={"widths": [], "training": longer})
    file = tmp_path / "study.yaml"
    file.write_text(OmegaConf.to_yaml(OmegaConf.structured(config)))
    command = [sys.executable, "-m", "genscale.cli", "study", "run", str(file), "--out"]
    killed = tmp_path / "killed"
    process = subprocess.Popen([*command, str(killed)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(killed.glob("variations/tagger/*/checkpoints/step-*")) and process.poll() is None:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not list(killed.rglob("record.json"))
    for out in (killed, tmp_path / "whole"):
        run_study(load_config(StudyConfig, file), out, make_backend("debug"), progress=False)
    assert [row["L"] for row in rows(killed)] == [row["L"] for row in rows(tmp_path / "whole")]


@pytest.mark.parametrize(
    ("variations", "message"),
    [
        ({"tagger": [{"training.learning_rate": []}]}, "variations.tagger: training.learning_rate: no values"),
        ({"tagger": [{"jets": ["a"]}]}, "variations.tagger: jets: is the study's own; vary other keys"),
        ({"generator": [{"size": ["a/b"]}]}, "size: a/b cannot be part of a folder's name"),
        ({"tagger": [{"training.seed": [1]}, {"model.seed": [1]}]}, "would both be called seed=1"),
        ({"tagger": [{"d_model": [4], "preset": ["uslu"]}, {"preset": ["uslu"], "d_model": [4]}]}, "is there twice"),
        ({"taggers": []}, "unknown key variations.taggers; did you mean tagger"),
        ({}, "generator.sizes, tagger.widths and variations: all are empty"),
    ],
)  # fmt: skip
def test_impossible_grids_are_refused(variations, message):
    with pytest.raises(InputError, match=message):
        study(variations)


@pytest.mark.parametrize(
    ("variations", "message"),
    [
        ({"tagger": [{"training.learning_rat": [1.0]}]}, "unknown key training.learning_rat; did you mean"),
        ({"tagger": [{"d_model": [200]}]}, "variations/tagger/d_model=200: d_model: 200 is not a multiple"),
        ({"generator": [{"size": ["pcio"]}]}, "variations/generator/size=pcio: no generator size 'pcio'"),
        ({"tokenizer": [{"training.average": [0.1]}]}, "tokenizers are not averaged"),
    ],
)  # fmt: skip
def test_what_a_training_would_refuse_is_refused_before_any_work(jets, variations, message):
    with pytest.raises(InputError, match=message):
        planned_cells(study(variations, jets=jets))


def test_stores_that_are_missing_are_named(tokens, tmp_path):
    no_jets = study({"tagger": TAGGERS}, jets={"stores": str(tmp_path)})
    no_tokens = study({"generator": [{"size": ["pico"]}]}, tokenizer=tokens | {"tokens": str(tmp_path)})
    for config, message in (
        (no_jets, r"jets\.stores: .* has no folder train \(expected train, validation\)"),
        (no_tokens, r"tokenizer\.tokens: .* has no folder train"),
    ):
        with pytest.raises(InputError, match=message):
            run_study(config, tmp_path / "out", make_backend("debug"), progress=False)
    with pytest.raises(InputError, match=r"tokenizer\.tokens: needs tokenizer\.folder"):
        study({}, tokenizer={"tokens": tokens["tokens"]})
    assert not (tmp_path / "out").exists()


def test_the_grids_are_plain_in_the_file_of_the_study(jets, tmp_path):
    """Read back from the study's folder, as workers do, a grid is the same."""
    from genscale.study.run import _claim

    config = study({"tagger": TAGGERS}, jets=jets)
    _claim(config, tmp_path / "out")
    assert load_config(StudyConfig, tmp_path / "out" / "study.yaml") == config
    assert json.loads(json.dumps(config.variations.tagger)) == TAGGERS
    assert list(Variations(tagger=TAGGERS).runs()) == list(config.variations.runs())
