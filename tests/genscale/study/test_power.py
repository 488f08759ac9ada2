"""The power of a study: its own grid, the scatter of an earlier one, and what the report takes from it."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from eval.literature.design import Noise
from eval.literature.worlds import PARTICLES
from genscale.cli import app
from genscale.config import load_config
from genscale.errors import InputError
from genscale.study.config import StudyConfig
from genscale.study.power import (
    POWER_FILE,
    compute_power,
    earlier_noise,
    load_power,
    save_power,
    study_design,
    without_power,
)

CONFIGS = Path(__file__).parents[3] / "configs" / "studies"

TINY = """
name: tiny
jets: {test: 3000}
generator:
  sizes: [pico, nano, micro]
  seeds: [1, 2]
  training: {jets: 20000, batch_jets: 50, evaluations: 5, first_evaluation_jets: 2000, warmup_steps: 10}
tagger:
  widths: [4, 8, 16]
  seeds: [1, 2]
  training: {jets: 20000, batch_jets: 50, evaluations: 5, first_evaluation_jets: 2000, warmup_steps: 10}
repetition:
  widths: [4, 8]
  jets: [500, 1000, 2000]
  epochs: 10
  training: {jets: 20000, batch_jets: 50, evaluations: 5, evaluate_every_jets: 1000, warmup_steps: 10}
inputs:
  width: 8
  others: {kinematics: {features: kinematic3, max_particles: 40}}
fit: {min_jets: 5000, min_steps: 50}
"""


@pytest.fixture
def study(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


def test_the_design_is_the_grid_of_the_study(study):
    design = study_design(load_config(StudyConfig, study))
    assert [(run.size, run.seed) for run in design.tagging[:2]] == [(1126, 1), (1126, 2)]
    assert design.tagging[0].blocks == 984
    assert len(design.generation) == 6
    assert design.generation[0].jets[0] >= 5000  # within the window of the fit
    assert design.generation[0].jets[-1] == 20_000
    assert {run.unique for run in design.repetition} == {500, 1000, 2000}
    assert design.repetition[0].jets[-1] == 5000  # ten epochs of 500 jets
    assert set(design.inputs) == {"21 features, 128 particles", "3 features, 40 particles"}
    assert {len(runs) for runs in design.inputs.values()} == {3}
    assert design.background == 300
    assert PARTICLES == 40


def test_the_report_takes_the_power_of_its_own_design_only(study, tmp_path):
    config = load_config(StudyConfig, study)
    plain, found = compute_power(config, {"generation": Noise(1e-3)}, trials=1)
    save_power(plain, tmp_path / POWER_FILE)
    power = load_power(tmp_path, config)
    assert power == {p.key: p.power for p in found}
    assert {"alpha", "lambda", "inputs", "R(L)", "generation: D"} <= set(power)
    other = load_config(StudyConfig, study, ["tagger.seeds=[1,2,3]"])
    assert load_power(tmp_path, other) == {}
    assert load_power(tmp_path / "nowhere", config) == {}


def test_command_prints_a_table_and_writes_json(study, tmp_path):
    out = tmp_path / "runs" / "power.json"
    arguments = ["study", "power", str(study), "tagger.widths=[]", "repetition.widths=[]", "inputs.width=0"]
    result = CliRunner().invoke(app, [*arguments, "--trials", "3", "--scatter", "0.1", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "generation: D" in result.output
    assert "without power for" in result.output
    claims = {claim["key"]: claim for claim in json.loads(out.read_text())["claims"]}
    assert set(claims) == {"generation: N", "generation: D"}
    assert claims["generation: D"]["tested"] is False


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scatter", "0"], "--scatter 0.0: must be positive"),
        (["--scatter", "0.1", "--from", "."], "give one of the two"),
        (["--from", "nowhere"], "nowhere"),
    ],
)
def test_bad_options_are_refused_and_leave_nothing(study, tmp_path, options, message):
    out = tmp_path / "power.json"
    result = CliRunner().invoke(app, ["study", "power", str(study), *options, "--out", str(out)])
    assert result.exit_code != 0
    assert message in result.output + str(result.exception)
    assert not out.exists()


def test_scatter_comes_from_the_points_of_an_earlier_study(tmp_path):
    rng = np.random.default_rng(0)
    rows = [
        f"{n},{d},{2 * np.exp(0.03 * rng.standard_normal()):.6f},{seed},tagger,d{n}-s{seed}"
        for n in (1000, 4000, 16000)
        for seed in (1, 2, 3, 4)
        for d in (1000, 2000, 4000, 8000, 16000)
    ]
    (tmp_path / "points.csv").write_text("\n".join(["N,D,L,seed,task,run", *rows]) + "\n")
    noise = earlier_noise(tmp_path)
    assert set(noise) == {"tagging"}
    assert noise["tagging"].scatter == pytest.approx(0.03, rel=0.25)
    once = [row for row in rows if ",1,tagger" in row]
    (tmp_path / "points.csv").write_text("\n".join(["N,D,L,seed,task,run", *once]) + "\n")
    with pytest.raises(InputError, match="no run was repeated"):
        earlier_noise(tmp_path)


def test_a_dry_run_names_what_a_grid_cannot_decide(study):
    line = without_power(load_config(StudyConfig, study))
    assert line.startswith("without power for the published alpha")
    assert "\n" not in line
    result = CliRunner().invoke(app, ["study", "run", str(study), "--dry-run"])
    assert line in result.output
    fine = load_config(
        StudyConfig,
        study,
        ["tagger.widths=[4,8,16,32,64]", f"tagger.seeds={list(range(1, 9))}", "fit.min_jets=2500"],
    )
    assert without_power(fine, 0.001) == ""
    assert without_power(load_config(StudyConfig, CONFIGS / "generation.yaml")) == ""
