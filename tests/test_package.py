"""What is installed from a wheel works away from the clone."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from genscale.shipped import FOLDER, shipped_names

ROOT = Path(__file__).parents[1]
PARTS = ("genscale", "tokenizer", "eval", "configs", "pyproject.toml", "README.md", "LICENSE")

TINY = """
name: tiny
jets: {world: lund, parameters: {kt_bins: 3, eta_bins: 3}, train: 600, validation: 120, test: 600}
generator:
  sizes: [pico, nano]
  training: &training {jets: 600, batch_jets: 8, warmup_steps: 2, evaluations: 4, first_evaluation_jets: 60}
tagger: {widths: [4, 6], features: kinematic4, training: *training}
control: {repetition: false}
fit: {bootstrap: 4, min_steps: 10}
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder in which a wheel of these packages is installed, but nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in PARTS:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / "source" / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(ROOT / name, folder / "source" / name)
    pip = [sys.executable, "-m", "pip", "--no-input", "--disable-pip-version-check", "--quiet"]
    made = ["--no-deps", "--no-index"]
    wheels = folder / "wheels"
    source = str(folder / "source")
    subprocess.run([*pip, "wheel", *made, "--no-build-isolation", "-w", str(wheels), source], check=True)
    (wheel,) = wheels.iterdir()
    subprocess.run([*pip, "install", *made, "--target", str(folder / "site"), str(wheel)], check=True)
    shutil.rmtree(folder / "source")
    return folder / "site"


@pytest.fixture
def run(installed, tmp_path):
    """Run the installed command in an empty folder, and return what it did."""

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        script = installed / "bin" / "genscale"
        return subprocess.run(
            [sys.executable, script, *words], cwd=tmp_path, capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": str(installed)},
        )  # fmt: skip

    return command


def test_a_wheel_holds_every_configuration_once(installed):
    held = {
        p.relative_to(installed / "genscale/configs") for p in (installed / "genscale/configs").rglob("*.*")
    }
    assert held == {p.relative_to(ROOT / "configs") for p in (ROOT / "configs").rglob("*.*")}
    assert {p.name for p in installed.iterdir() if p.suffix != ".dist-info"} == {
        "bin", "eval", "genscale", "tokenizer"
    }  # fmt: skip


def test_an_installed_study_runs_by_name(run, tmp_path):
    done = run("study", "run", "quickstart", "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    assert "generator/small-s1" in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_an_installed_study_comes_to_its_report(run, tmp_path):
    (tmp_path / "tiny.yaml").write_text(TINY)
    done = run("study", "run", "tiny.yaml", "--jobs", "1")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs/tiny/report.html").is_file()


def test_a_study_of_ones_own_begins_with_an_installed_one(run):
    done = run("study", "new", "generation")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (ROOT / "configs/studies/generation.yaml").read_text(encoding="utf-8")


def test_configurations_are_named_by_their_kind():
    assert {"quickstart", "paper/generation"} < set(shipped_names("studies"))
    assert shipped_names("tagger") == ["uslu", "vigl"]
    assert FOLDER.resolve() == ROOT / "configs"
