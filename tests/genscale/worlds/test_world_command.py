"""The command ``genscale world``."""

import json
import sys

import pytest

from genscale.cli import main
from genscale.worlds import WORLDS


@pytest.fixture
def run(monkeypatch, capsys):
    def genscale(*arguments):
        monkeypatch.setattr(sys, "argv", ["genscale", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        out = capsys.readouterr()
        return int(stop.value.code or 0), out.out, out.err

    return genscale


@pytest.mark.parametrize("command", ["list", "sample", "floors"])
def test_every_command_has_help(run, command):
    code, out, _ = run("world", command, "--help")
    assert code == 0
    assert "Usage" in out


def test_list_names_every_world_and_its_parameters(run):
    code, out, _ = run("world", "list")
    assert code == 0
    assert all(f"{name}: " in out for name in WORLDS)
    assert "stop=0.08" in out


def test_floors_are_written_with_errors(run, tmp_path):
    file = tmp_path / "floors.json"
    code, out, _ = run("world", "floors", "lund", "kt_bins=4", "--jets", 500, "--out", file)
    assert code == 0
    assert "tagging_nats" in out
    found = json.loads(file.read_text())
    for key in ("generation", "generation_given_class"):
        for unit in ("jet", "token"):
            assert set(found[f"{key}_nats_per_{unit}"]) == {"value", "error"}
    assert found["class_entropy_nats"] == {"value": pytest.approx(0.693147, abs=1e-6), "error": 0.0}
    assert found["tagging_nats"]["error"] > 0
    assert found["parameters"]["kt_bins"] == 4
    assert found["world"] == "lund"


def test_sample_writes_stores(run, tmp_path):
    out = tmp_path / "world"
    code, said, _ = run(
        "world", "sample", "markov", "symbols=4", "--jets", 30, "--test-jets", 5, "--out", out
    )
    assert code == 0
    assert "30 train jets, 3 validation jets, 5 test jets of markov" in said
    assert json.loads((out / "world.json").read_text())["parameters"]["symbols"] == 4
    code, said, _ = run("inspect", out / "tokens" / "train")
    assert code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["floors", "land"], "did you mean lund"),
        (["floors", "lund", "kt_bin=3"], "did you mean kt_bins"),
        (["floors", "lund", "--out", "floors.txt"], "a name that ends in .json"),
        (["floors", "lund", "--jets", "1"], "too few for an error"),
        (["floors", "markov", "stop=2"], "stop: 2 is not between"),
        (["sample", "teacher", "--jets", "10", "--out", "x"], "run: missing"),
        (["sample", "teacher", "run=nowhere", "--jets", "10", "--out", "x"], "no trained generator here"),
        (["sample", "hierarchy", "rules=99", "--jets", "10", "--out", "x"], "different productions needed"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(run, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, _, err = run("world", *arguments)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_an_unconditional_teacher_is_bad_input(run, blind_run, tmp_path):
    code, _, err = run(
        "world", "sample", "teacher", f"run={blind_run}", "--jets", 10, "--out", tmp_path / "x"
    )
    assert code == 2
    assert "unconditional" in err
    assert not list(tmp_path.iterdir())
