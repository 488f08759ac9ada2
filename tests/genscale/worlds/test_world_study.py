"""Worlds as the jets of a study."""

import json
from functools import partial

import pytest

from genscale.config import from_mapping
from genscale.errors import InputError
from genscale.study.backends import make_backend
from genscale.study.cells import study_cells
from genscale.study.config import StudyConfig
from genscale.study.report.worlds import CLOSURE_FILE
from genscale.study.results import study as results
from genscale.study.run import run_study
from genscale.worlds.closure import close

TRAINING = {
    "jets": 600, "batch_jets": 8, "warmup_steps": 2, "evaluations": 4, "first_evaluation_jets": 60,
    "validation_jets": 100, "average": 0.1,
}  # fmt: skip
STUDY = {
    "name": "lund",
    "jets": {
        "world": "lund", "parameters": {"kt_bins": 3, "eta_bins": 3}, "train": 600, "validation": 120, "test": 600,
    },
    "generator": {"sizes": ["pico", "nano"], "seeds": [1], "training": TRAINING},
    "tagger": {
        "widths": [4, 6], "seeds": [1], "features": "kinematic4", "dropout": 0.0, "training": TRAINING,
    },
    "control": {"repetition": False},
    "fit": {"bootstrap": 4, "min_steps": 10},
}  # fmt: skip


def study(**changes) -> StudyConfig:
    return from_mapping(StudyConfig, {**STUDY, **changes}, "study")


def test_trainings_need_the_world_and_nothing_is_generated():
    cells = {cell.id: cell for cell in study_cells(study())}
    assert cells["generator/pico-s1"].needs == ("world",) * 3 or set(cells["generator/pico-s1"].needs) == {
        "world"
    }
    assert set(cells["predictions/d4-s1"].needs) == {"tagger/d4-s1", "world"}
    assert cells["floors"].needs == ()
    assert not [
        name for name in cells if name.startswith(("samples", "fidelity", "jets", "tokens", "quality"))
    ]
    assert cells["generator/pico-s1"].job.of.tokens == "world/tokens/train"
    assert cells["tagger/d4-s1"].job.of.jets == "world/jets/train"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"jets": {"world": "lund", "stores": "somewhere"}}, "goes without jets.stores"),
        ({"jets": {"parameters": {"kt_bins": 3}}}, "needs jets.world"),
        ({"jets": {"world": "lund"}, "tokenizer": {"folder": "x"}}, "tokenizer of its own"),
        ({"jets": {"world": "lund", "parameters": {"kt_bins": 0}}}, "kt_bins: 0 is not between"),
        ({"jets": {"world": "lunt"}}, "did you mean lund"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_work(changes, message):
    with pytest.raises(InputError, match=message):
        study_cells(study(**changes))


def test_a_study_reports_what_it_found_beside_the_truth(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "close", partial(close, grids=2, bootstrap=4, starts=4))
    page = run_study(study(), tmp_path / "study", make_backend("debug"), progress=False)
    text = page.read_text()
    assert "Known limits" in text
    assert "Jets of the world lund, kt_bins=3, eta_bins=3" in text
    found = json.loads((tmp_path / "study" / CLOSURE_FILE).read_text())
    assert set(found) == {"generation", "tagging"}
    for task in found.values():
        assert task["laws"][0]["params"]["E"]["value"] > 0
        assert {f["name"].split()[0] for f in task["spans"]} >= {"all"}
    floors = json.loads((tmp_path / "study" / "floors" / "floors.json").read_text())
    assert floors["world"] == "lund"
