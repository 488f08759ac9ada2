"""The whole chain, small but real: Pythia jets to the report."""

import csv
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from typer.testing import CliRunner

from eval.scaling import read_points
from genscale.cli import app
from genscale.config import config_hash, load_config, to_mapping
from genscale.errors import CellFailed, InputError
from genscale.study.backends import ResumableCell, make_backend
from genscale.study.cells import ASSUMED_PARTICLES, Cell
from genscale.study.config import StudyConfig
from genscale.study.costs import Costs
from genscale.study.jobs import Coarsen, Encode, Train
from genscale.study.plan import new_since, planned_cells, status
from genscale.study.report.contrast import contrast_studies
from genscale.study.report.page import Report, write_report
from genscale.study.results.study import Study, read_config
from genscale.study.run import run_study
from genscale.training.tokenizer import TokenizerTask

CONFIGS = Path(__file__).parents[3] / "configs" / "studies"
NO_REPETITION = ("repetition.widths=[]", "repetition.sizes=[]", "inputs.width=0", "control.recipe=false")

TINY = """
name: tiny
tokenizer:
  model: {codebook_size: 32, d_model: 16, n_heads: 2, n_encoder_blocks: 1, n_decoder_blocks: 1}
  training: {jets: 640, batch_jets: 32, evaluations: 2, validation_jets: 64}
generator:
  sizes: [pico, nano, micro]
  training: {jets: 576, batch_jets: 16, evaluations: 5, first_evaluation_jets: 64, validation_jets: 100,
             warmup_steps: 0, checkpoint_s: 0.2}
samples: {jets: 120, at: [336]}
codebooks:
  merged: [8]
  size: pico
  training: {jets: 320, batch_jets: 16, evaluations: 2, validation_jets: 100, warmup_steps: 2}
tagger:
  widths: [4, 8, 12]
  training: {jets: 576, batch_jets: 16, evaluations: 5, first_evaluation_jets: 64, validation_jets: 100,
             warmup_steps: 0, checkpoint_s: 0.2}
repetition:
  widths: [4, 8]
  sizes: [pico]
  jets: [32, 64, 128]
  epochs: 3
  training: {batch_jets: 16, validation_jets: 100, warmup_steps: 2}
control: {recipe: [d12]}
inputs:
  width: 8
  others: {kinematics: {features: kinematic3, max_particles: 20}}
fit: {bootstrap: 20, min_jets: 64, min_steps: 4}
"""

#: Digests of the settings of cells of this study, without the paths that they read.
DIGESTS = {
    "tokenizer": "40e747d82464",
    "generator/nano-s1": "9980523e2f68",
    "codebooks/k8/generator": "9ab092b6ac91",
    "tagger/d8-s1": "e2c633b624cf",
    "repetition/d8-u64-s1": "2f3864bfd85f",
    "repetition/pico-u64-s1": "97009538e712",
    "inputs/kinematics/d8-u64-s1": "c81d036ba4b0",
    "control/tagger/d8-s1": "b5f753d0d552",
    "control/tagger/d12-d576-half-rate": "d74ae6dada48",
}


@pytest.fixture(scope="module")
def tiny(jet_stores, tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("study") / "tiny.yaml"
    file.write_text(f"{TINY}jets: {{stores: {jet_stores}, classes: [QCD, Wqq, Tbqq]}}\n")
    return file


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory) -> Path:
    """The study run without disturbance, cell by cell in this process."""
    folder = tmp_path_factory.mktemp("finished") / "tiny"
    run_study(load_config(StudyConfig, tiny), folder, make_backend("debug"), progress=False)
    return folder


def study_command(config: Path, out: Path, jobs: int) -> list[str]:
    study = [sys.executable, "-m", "genscale.cli", "study", "run"]
    return [*study, str(config), "--out", str(out), "--jobs", str(jobs)]


def losses(folder: Path) -> dict[str, list[float]]:
    records = sorted(folder.glob("*/*/record.json"))
    return {str(r.parent.relative_to(folder)): [e["metrics"]["loss"] for e in json.loads(r.read_text())["evaluations"]]
            for r in records}  # fmt: skip


def test_leaves_everything_that_it_promises(finished):
    points = read_points(finished / "points.csv", where={"task": "generator"})
    assert len(points) == 3 * 5
    fits = json.loads((finished / "fits.json").read_text())
    for task in ("generator", "tagger"):
        assert set(fits[task]["laws"]) == {"L(N,D)", "L(N)", "L(D)"}
        constants = fits[task]["laws"]["L(N,D)"]["params"]
        assert {"E", "A", "alpha", "B", "beta"} == set(constants)
        assert all("identified" in c for c in constants.values())
    fidelity = json.loads((finished / "fidelity.json").read_text())
    assert len(fidelity) == 3
    for score in fidelity.values():
        assert set(score["observables"]) == {"jet_pt", "jet_mass", "tau21", "tau32", "multiplicity"}
        assert score["joint"]["floor"]["mean"] > 0
        assert score["joint"]["tokenizer_floor"]["value"] > 0
    assert all(state == "done" for _, state in status(finished))


def test_samples_on_the_way_are_points_of_their_own(finished):
    with (finished / "points-fidelity.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["size"], row["D"]) for row in rows] == [
        (size, jets) for size in ("pico", "nano", "micro") for jets in ("336", "576")
    ]
    losses = {(row["run"], row["D"]): row["L"] for row in csv.DictReader((finished / "points.csv").open())}
    for row in rows:
        assert row["loss"] == losses[row["run"], row["D"]]
        assert float(row["distance"]) > 0
    # Samples share no random numbers, neither between runs nor between the stages of one.
    seeds = {
        json.loads((folder / "manifest.json").read_text())["meta"]["sampling"]["seed"]
        for folder in (finished / "samples").glob("*-s1*")
    }
    assert len(seeds) == 6


def test_coarser_codebooks_are_measured_like_the_one_of_the_study(finished):
    with (finished / "codebooks.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["codes"] for row in rows] == ["8", "32"]
    coarse, fine = ({name: float(value) for name, value in row.items()} for row in rows)
    for name in ("uniform", "unigram", "position", "bigram", "loss"):
        assert coarse[name] < fine[name]
    assert coarse["share"] == pytest.approx(1 - coarse["loss"] / coarse["uniform"])
    assert "The same jets with coarser codebooks" in (finished / "report.html").read_text()


def test_report_is_one_page_without_links_to_other_files(finished):
    page = (finished / "report.html").read_text()
    for phrase in ("Does scaling help here", "learnable window", "Laws of generation", "Laws of tagging",
                   "not identified", "Loss against fidelity", "generator/pico-s1", "tagger/d4-s1",
                   "How to reproduce"):  # fmt: skip
        assert phrase in page
    # Without the pictures: any four letters may stand in them.
    text, pictures = re.subn(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", page)
    assert pictures >= 7
    assert 'src="figures' not in text
    assert "http" not in text
    assert not re.search(r"\bnan\b", text)
    assert "pass over the data, 3 classes," in text  # those of the stores; a simulation would have ten


def test_links_of_the_report_lead_to_places_in_it_and_files_beside_it(finished):
    page = (finished / "report.html").read_text()
    links = re.findall(r'href="([^"]*)"', page)
    ids = re.findall(r'\bid="([^"]*)"', page)
    places = set(ids)
    assert len(ids) == len(places)
    assert {link[1:] for link in links if link.startswith("#")} <= places
    files = {link for link in links if not link.startswith("#")}
    assert all((finished / name).exists() for name in files)
    assert {name for name in files if "/" not in name} == {
        "points.csv", "fits.json", "fidelity.json", "tagging.json", "repetition.csv", "repetition.json", "claims.json",
        "control.json", "points-fidelity.csv", "codebooks.csv",
    }  # fmt: skip


def test_every_table_of_the_report_is_a_csv_file_too(finished):
    with (finished / "tables" / "training-runs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == [
        "generator/pico-s1", "generator/nano-s1", "generator/micro-s1", "tagger/d4-s1", "tagger/d8-s1", "tagger/d12-s1",
    ]  # fmt: skip
    page = (finished / "report.html").read_text()
    assert page.count("<table>") == len(list((finished / "tables").iterdir()))


def test_again_does_nothing(finished, tiny):
    before = {f: f.stat().st_mtime_ns for f in finished.rglob("*") if f.is_file() and f.name != ".lock"}
    run_study(load_config(StudyConfig, tiny), finished, make_backend("local"), progress=False)
    after = {f: f.stat().st_mtime_ns for f in finished.rglob("*") if f.is_file() and f.name != ".lock"}
    assert before == after


def test_the_report_of_half_a_study_says_what_is_missing(finished, tmp_path):
    half = tmp_path / "half"
    shutil.copytree(finished, half, ignore=shutil.ignore_patterns("fidelity", "predictions", "report*"))
    shutil.rmtree(half / "generator" / "micro-s1")
    shutil.rmtree(half / "control" / "tagger")
    shutil.rmtree(half / "repetition" / "d8-u32-s1")
    done = CliRunner().invoke(app, ["study", "report", str(half)])
    assert done.exit_code == 0, done.output
    page = (half / "report.html").read_text()
    assert "This study is not finished" in page
    for stage in (
        "1 of 3 generators",
        "1 of 9 trainings on repeated data",
        "6 of 6 scores",
        "3 of 3 predictions",
    ):
        assert stage in page
    assert "This study is not finished" not in (finished / "report.html").read_text()


def test_there_is_no_report_of_nothing(finished, tmp_path):
    (tmp_path / "study.yaml").write_bytes((finished / "study.yaml").read_bytes())
    with pytest.raises(
        InputError, match="no training of this study is finished; start it with genscale study run"
    ):
        write_report(tmp_path, read_config(tmp_path))
    assert [file.name for file in tmp_path.iterdir()] == ["study.yaml"]


def test_what_an_earlier_version_did_not_do_is_named_before_it_is_run(
    finished, tiny, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(
        "genscale.study.report.page.write_report", lambda study, config: study / "report.html"
    )
    folder = tmp_path / "tiny"
    shutil.copytree(finished, folder)
    written = OmegaConf.load(folder / "study.yaml")
    del written["control"]
    OmegaConf.save(written, folder / "study.yaml")
    shutil.rmtree(folder / "control")
    name = "control/generator/nano-s1"
    assert (
        f"lacks 2 cells ({name}, control/tagger/d8-s1), because its study.yaml is older than control"
        in new_since(folder)
    )
    config = load_config(StudyConfig, tiny, ["control.recipe=false"])
    run_study(config, folder, make_backend("debug"), progress=False)
    assert f"{name}, control/tagger/d8-s1), because" in capsys.readouterr().out
    assert new_since(folder) == ""
    assert (folder / "report" / "done.json").stat().st_mtime > (
        finished / "report" / "done.json"
    ).stat().st_mtime


def test_cells_have_the_names_and_settings_that_studies_on_disk_have(tiny):
    """A study that was begun is resumed by later versions: names and settings of its cells must not change."""
    cells = {cell.id: cell.job for cell in planned_cells(load_config(StudyConfig, tiny))}
    stages = Counter(name.split("/")[0] for name in cells)
    assert stages == {
        "tokenizer": 1, "tokens": 2, "samples": 7, "quality": 1, "generator": 3, "fidelity": 6, "codebooks": 7,
        "tagger": 3, "predictions": 3, "repetition": 9, "inputs": 3, "control": 10, "report": 1,
    }  # fmt: skip
    places = ("jets", "validation", "tokens", "tokenizer")
    settings = {name: to_mapping(cells[name].of) for name in DIGESTS}
    found = {n: config_hash({k: "" if k in places else v for k, v in s.items()}) for n, s in settings.items()}
    assert found == DIGESTS


def test_contrast_puts_the_tasks_of_studies_under_one_roof(finished, tmp_path):
    generation, tagging, other = (tmp_path / name for name in ("generation", "tagging", "b/generation"))
    for folder in (generation, tagging, other):
        shutil.copytree(finished, folder)
    for folder, left_out in ((generation, "tagger"), (tagging, "generator"), (other, "tagger")):
        study = OmegaConf.load(folder / "study.yaml")
        study[left_out]["widths" if left_out == "tagger" else "sizes"] = []
        study["repetition"]["widths"], study["repetition"]["sizes"], study["inputs"]["width"] = [], [], 0
        study["control"]["recipe"], study["fit"]["bootstrap"] = False, 2
        OmegaConf.save(study, folder / "study.yaml")

    both = contrast_studies([generation, tagging], progress=False)
    assert list(both.tasks) == ["generation", "tagging"]
    assert both.same_jets
    with (both.write(tmp_path / "out").parent / "contrast.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["task"] for row in rows] == ["generation", "tagging"]
    study = Study(finished, load_config(StudyConfig, finished / "study.yaml"))
    alone = study.laws["tagging"].window
    assert float(rows[1]["floor"]) == pytest.approx(
        alone.floor.value
    )  # the same as in the study's own report

    page = (tmp_path / "out/contrast.html").read_text()
    assert "data:image/png" in page
    assert "</html>" in page
    files = set(re.findall(r'href="([^"#]+)"', page))
    assert files == {"contrast.csv", "window.png", "laws-generation.png", "laws-tagging.png"}
    assert all((tmp_path / "out" / name).exists() for name in files)
    assert list(contrast_studies([finished, tagging], progress=False).tasks) == [
        "generation", "tagging (tiny)", "tagging (tagging)",
    ]  # fmt: skip
    with pytest.raises(InputError, match="need folders of different names"):
        contrast_studies([generation, other], progress=False)
    (tagging / "tagger/d4-s1/record.json").unlink()
    with pytest.raises(InputError, match="tagging: is not finished: tagger/d4-s1"):
        contrast_studies([generation, tagging], progress=False)


def test_another_configuration_is_refused_by_name(finished, tiny):
    other = load_config(StudyConfig, tiny, ["samples.jets=130"])
    with pytest.raises(InputError, match=r"samples\.jets is 120 there, 130 here"):
        run_study(other, finished, make_backend("debug"), progress=False)


@pytest.mark.slow
def test_killed_anywhere_it_reaches_the_same_numbers(finished, tiny, tmp_path):
    folder, chance = tmp_path / "killed", random.Random(3)
    command = study_command(tiny, folder, jobs=2)
    for _ in range(5):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(chance.uniform(8, 25))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    done = subprocess.run(command, capture_output=True, text=True, timeout=560)
    assert done.returncode == 0, done.stderr[-3000:]
    assert losses(folder) == losses(finished)
    ours, theirs = (json.loads((f / "fits.json").read_text()) for f in (folder, finished))
    assert ours == theirs
    assert (folder / "fidelity.json").read_bytes() == (finished / "fidelity.json").read_bytes()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_by_a_signal_it_lets_its_cells_save(tiny, tmp_path, number):
    folder = tmp_path / "stopped"
    command = study_command(tiny, folder, jobs=1)
    longer = ["generator.sizes=[]", *NO_REPETITION, "tagger.training.jets=600000", "tagger.widths=[4]"]
    process = subprocess.Popen(
        [*command, *longer], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    while not (folder / "tagger/d4-s1/checkpoints").exists() and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(number)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 128 + number
    assert f"{folder}: stopped by signal {number}; run the same command to resume" in said
    assert "run the same command to resume" in (folder / "logs/tagger.d4-s1.log").read_text()


@pytest.mark.slow
def test_runs_through_submitit(finished, tiny, tmp_path):
    pytest.importorskip("submitit")
    folder = tmp_path / "submitit"
    # One interpreter starts for every cell: those of repeated data would only take time.
    run_study(
        load_config(StudyConfig, tiny, NO_REPETITION),
        folder,
        make_backend("submitit-local", 2),
        progress=False,
    )
    found = losses(folder)
    assert {"generator/micro-s1", "tagger/d12-s1"} <= set(found)
    assert found.items() <= losses(finished).items()


@pytest.mark.slow
def test_two_tasks_of_a_cluster_job_share_a_training(tiny, tmp_path):
    """As on a node with two GPUs: the losses are those of one process, up to float noise."""
    pytest.importorskip("submitit")
    tagger_only = ["tagger.widths=[8]", "tagger.dropout=0", "generator.sizes=[]", *NO_REPETITION]
    config = load_config(
        StudyConfig, tiny, tagger_only
    )  # without dropout, whose draws differ between the two
    run_study(config, tmp_path / "one", make_backend("debug"), progress=False)
    shared = make_backend("submitit-local", 2, {"tasks_per_node": 2})
    run_study(config, tmp_path / "two", shared, progress=False)
    record = json.loads((tmp_path / "two/tagger/d8-s1/record.json").read_text())
    assert record["processes"] == 2
    ours, one = losses(tmp_path / "two")["tagger/d8-s1"], losses(tmp_path / "one")["tagger/d8-s1"]
    assert ours == pytest.approx(one, rel=1e-5)


def test_a_cell_cut_off_on_a_cluster_is_submitted_again(tmp_path):
    pytest.importorskip("submitit")
    cell = ResumableCell(tmp_path, "tagger/d8-s1")
    assert cell.checkpoint().function == cell


def test_cluster_options_are_checked(tiny, tmp_path):
    pytest.importorskip("submitit")
    with pytest.raises(InputError, match=r"--cluster: Unknown argument 'partitoin' for executor 'local'"):
        make_backend("submitit-local", 1, {"local_partitoin": "gpu"}).start(
            tmp_path, Cell("tokens", Encode("jets", "tokenizer")), 1
        )
    with pytest.raises(InputError, match="the backend local has no such options"):
        make_backend("local", 1, {"timeout_min": 5})


def test_missing_stores_are_named_before_anything_starts(tiny, tmp_path):
    config = load_config(StudyConfig, tiny, [f"jets.stores={tmp_path}"])
    with pytest.raises(
        InputError, match=r"jets\.stores: .* has no folder train \(expected train, validation, test"
    ):
        run_study(config, tmp_path / "out", make_backend("local", 1), progress=False)
    assert not (tmp_path / "out").exists()


def test_splits_that_share_jets_are_refused(jet_stores, tiny, tmp_path):
    for split, source in (("train", "train"), ("validation", "validation"), ("test", "train")):
        shutil.copytree(jet_stores / source, tmp_path / "jets" / split)
    config = load_config(StudyConfig, tiny, [f"jets.stores={tmp_path / 'jets'}"])
    with pytest.raises(InputError, match="train and test hold the same jets"):
        run_study(config, tmp_path / "out", make_backend("local", 1), progress=False)


def test_simulated_jets_are_marked_with_their_split(tiny):
    config = load_config(StudyConfig, tiny, ["jets.stores=''", "jets.rejection_of={QCD: 5000}"])
    jobs = {cell.id: cell.job for cell in planned_cells(config) if cell.id.startswith("jets/")}
    splits = {
        "jets/train": "train",
        "jets/validation": "validation",
        "jets/test": "test",
        "jets/rejection": "test",
    }
    assert {name: job.split for name, job in jobs.items()} == splits


def test_a_misspelt_size_leaves_no_folder_behind(tiny, tmp_path):
    config = load_config(StudyConfig, tiny, ["generator.sizes=[pcio]"])
    with pytest.raises(InputError, match="did you mean pico"):
        run_study(config, tmp_path / "out", make_backend("local", 1), progress=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("backend", ["local", "submitit-local"])
def test_a_failing_cell_is_shown_with_the_end_of_its_log(jet_stores, tiny, tmp_path, backend):
    if backend != "local":
        pytest.importorskip("submitit")
    stores = shutil.copytree(jet_stores, tmp_path / "jets")
    next((stores / "train" / "shards").iterdir()).unlink()
    config = load_config(StudyConfig, tiny, [f"jets.stores={stores}", "generator.sizes=[]", *NO_REPETITION])
    with pytest.raises(CellFailed, match=r"(?s): failed.*missing, though .*manifest.json lists it"):
        run_study(config, tmp_path / "out", make_backend(backend, 1), progress=False)


@pytest.mark.parametrize("file", sorted(CONFIGS.rglob("*.yaml")), ids=lambda f: str(f.relative_to(CONFIGS)))
def test_studies_that_come_with_the_package_are_whole(file):
    config = load_config(StudyConfig, file, ["tokenizer.folder=''", "tokenizer.tokens=''"])  # no results here
    cells = planned_cells(config)
    assert len({c.id for c in cells}) == len(cells)
    assert {c.job.kind for c in cells} >= {
        "report",
        "train_tagger" if config.tagger.widths or config.variations.tagger else "train_generator",
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("name=..", r"name: '\.\.' is not a folder name"),
        ("name=.", r"name: '\.' is not a folder name"),
        ("name=../x", r"name: '\.\./x' is not a folder name"),
        ('name="a\\0b"', r"name: 'a\\x00b' is not a folder name"),
        ("tagger.widths=[]", "repetition.widths: needs tagger.widths"),
        ("generator.seeds_of={smal: [1, 2]}", r"generator.seeds_of: smal is not in the grid \(pico, nano, micro\)"),
        ("inputs.width=5", r"inputs.width: 5 is not one of repetition.widths \(4, 8\)"),
        ("repetition.jets=[8]", "repetition.jets: 8 is less than one batch of 16"),
        ("repetition.jets=[32,32]", r"repetition.jets: \[32, 32\] names one twice"),
        ("jets.classes=[QDC]", "class 'QDC' is unknown; did you mean QCD"),
        ("jets={stores: '', train: 2}", "jets.train: 2 is less than one jet of each class"),
        ("generator.seeds=[]", "generator.seeds: .* one or more seeds"),
        ("tagger.widths=[4,4]", "tagger.widths: .* names one twice"),
        ("tagger.seeds_of={d4: [1, 1]}", "tagger.seeds: .* names one twice"),
        ("samples.jets=0", "samples.jets: 0 is not at least 1"),
        ("generator.class_conditional=true", "unknown key generator.class_conditional"),
        ("samples.at=[0,100]", r"samples.at: \[0, 100\] are not numbers of jets"),
        ("samples.at=[100,100]", r"samples.at: \[100, 100\] names one twice"),
        ("tokenizer.model={quantizer: fsq, codebook_size: 512, latent_dim: 3}", "codebooks.merged: .* fsq are a grid"),
        ("samples.temperature=0", "samples.temperature: 0.0 is not positive"),
        ("fit.bootstrap=0", "fit.bootstrap: 0 is not at least 2"),
        ("generator.sizes=[]", "repetition.sizes: needs generator.sizes"),
        ("repetition.seeds=[]", "repetition.jets and repetition.seeds: each needs one or more values"),
        ("repetition.training.patience=0", "repetition.training.patience: 0 would never end a run"),
        ("repetition.training.patience=5", r"patience: 5.0 is not in \[0, 2\)"),
        ("control.width=5", r"control.width: 5 is not in the grid \(4, 8, 12\)"),
        ("control.size=smal", r"control.size: smal is not in the grid \(pico, nano, micro\)"),
        ("tagger.jets_of={d8: 48}", "control.repetition: a quarter of the 48 jets of tagger d8 is less than a batch"),
        ("tagger.predict_at=[600]", "tagger.predict_at: 600 is not between 1 and the 576 jets of the longest run"),
        ("tagger.predict_at=[64, 64]", "tagger.predict_at: .* names one twice"),
        ("jets.rejection_of={QDC: 100}", r"jets.rejection_of: QDC is not one of jets.classes \(QCD, Wqq, Tbqq\)"),
        ("jets.rejection_of={QCD: 100}", r"jets.rejection_of: 100 jets of QCD .* its share of jets.test \(2000\)"),
        ("generator.training.schedule=cosine", "generator.training.schedule: cosine .* set it to constant"),
        ("tagger.training.schedule=cosine", "tagger.training.schedule: cosine .* with tagger.training.cooldown"),
        ("repetition.training.cooldown=0.3", "cooldown: does not go with patience"),
        ("fit.min_steps=5", "fit.min_jets: 64 jets are 4 steps of generator.training; fits begin after 5 .* give 80"),
        ("tagger.training.warmup_steps=1", "4 steps of tagger.training; fits begin after 5 .five warm-ups of 1 steps"),
    ],
)  # fmt: skip
def test_an_impossible_grid_is_refused(tiny, change, message):
    with pytest.raises(InputError, match=message):
        load_config(StudyConfig, tiny, [change])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("generator.model.nrom=post", "generator/pico-s1: unknown key model.nrom; did you mean norm"),
        ("generator.model.vocab_size=7", "generator/pico-s1: unknown key model.vocab_size"),
        ("generator.model.max_tokens=40", "generator/pico-s1: model.max_tokens: 40 is too short"),
        ("tokenizer.training.average=0.1", "tokenizer: training.average: tokenizers are not averaged"),
        ("tokenizer.training.learning_rate=0", "tokenizer: training.learning_rate: .* give a rate"),
        ("codebooks.merged=[32]", "codebooks.merged: 32 is not from 2 to 31, fewer than the tokenizer's codes"),
        ("codebooks.size=pcio", "codebooks/k8/generator: .* did you mean pico"),
        ("tagger.widths=[200,12]", "tagger/d200-s1: d_model: 200 is not a multiple of its 3 attention heads"),
        ("tagger.dropout=1.5", r"tagger/d4-s1: dropout: 1.5 is not in \[0, 1\)"),
        ("tagger.max_particles=0", "tagger/d4-s1: max_particles: 0 is not positive"),
        ("inputs.others.kinematics.max_particles=0", "inputs/kinematics/d8-u32-s1: max_particles: 0 is not positive"),
    ],
)  # fmt: skip
def test_what_a_training_would_refuse_is_refused_before_any_work(tiny, change, message):
    config = load_config(StudyConfig, tiny, [change])
    with pytest.raises(InputError, match=message):
        planned_cells(config)


def test_relative_stores_are_found_from_where_the_command_runs(jet_stores, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(Path(jet_stores).parent)
    few = ["generator.sizes=[]", "tagger.widths=[4]", "control.repetition=false", *NO_REPETITION]
    config = load_config(StudyConfig, tiny, [f"jets.stores={Path(jet_stores).name}", *few])
    run_study(config, tmp_path / "out", make_backend("debug"), progress=False)
    assert (tmp_path / "out" / "report.html").exists()


def test_cells_come_after_what_they_need(tiny):
    seen: set[str] = set()
    for cell in planned_cells(load_config(StudyConfig, tiny)):
        assert set(cell.needs) <= seen, cell.id
        seen.add(cell.id)


def test_what_most_work_depends_on_comes_first(tiny):
    config = load_config(StudyConfig, tiny)
    costs = Costs(planned_cells(config))
    ahead, own = costs.seconds_ahead(), {c.id: costs.seconds(c.job) for c in costs.cells}
    last = ahead["generator/micro-s1"] - own["generator/micro-s1"]
    assert last == own["samples/micro-s1-d336"] + own["fidelity/micro-s1-d336"]  # and then the report
    assert ahead["tokens/train"] == own["tokens/train"] + ahead["generator/micro-s1"]
    assert ahead["tokenizer"] == own["tokenizer"] + ahead["tokens/train"]
    assert ahead["report"] == 0


def hours_of(line: str) -> float:
    return float(line.split()[-1])


def test_a_dry_run_lists_flops_and_hours(tiny):
    config = load_config(StudyConfig, tiny)
    text = Costs(planned_cells(config), flops_per_second=1e9, ms_per_step=100.0).table()
    (line,) = [line for line in text.splitlines() if line.startswith("generator/micro-s1")]
    flops, held_out, steps, hours = (float(word) for word in line.split()[2:])
    assert steps == 576 // 16
    stage = config.generator.training
    forward = stage.validation_jets * len(stage.evaluated_after) / 3  # a third of a step for each jet
    assert held_out == pytest.approx(flops * forward / stage.jets, rel=1e-2)
    assert hours == pytest.approx(((flops + held_out) / 1e9 + 36 * 0.1) / 3600, abs=1e-3)
    assert f"{len(planned_cells(config))} cells" in text


def test_a_dry_run_counts_more_than_trainings(tiny):
    config = load_config(StudyConfig, tiny, ["jets={stores: '', train: 400000, rejection_of: {QCD: 80000}}"])
    costs = Costs(planned_cells(config), flops_per_second=1e6)
    jobs = {cell.id: cell.job for cell in costs.cells}
    assert costs.seconds(jobs["jets/train"]) == 400_000 / 60
    without = Costs(
        planned_cells(load_config(StudyConfig, tiny, ["jets={stores: '', train: 400000, mpi: false}"]))
    )
    assert without.seconds({c.id: c.job for c in without.cells}["jets/train"]) == 400_000 / 400
    sampled, trained = jobs["samples/micro-s1"], jobs["generator/micro-s1"]
    forward = trained.flops / 576 / 3
    assert costs.seconds(sampled) == pytest.approx(120 * (1e-3 + forward / 1e5))
    assert costs.seconds(jobs["predictions/d4-s1"]) > (80_000 + 6_000) * 5e-5
    assert all(costs.seconds(job) > 0 for name, job in jobs.items() if not isinstance(job, (Coarsen, Report)))
    lines = costs.table().splitlines()
    total = float(re.search(r"in total ([\d.]+)", lines[-1])[1])
    assert total == pytest.approx(sum(map(hours_of, lines[1:-1])), abs=0.005 + 0.0005 * len(lines))  # rounded


def test_the_tokenizer_counts_as_a_training(tiny):
    config = load_config(StudyConfig, tiny)
    (job,) = [c.job for c in planned_cells(config) if c.id == "tokenizer"]
    assert job.of.training.total_steps == 640 // 32
    assert job.flops == TokenizerTask(job.of).flops(640, 640 * ASSUMED_PARTICLES)


def test_the_tasks_of_a_cluster_job_share_every_training_and_nothing_else(tiny, tmp_path, monkeypatch):
    executor = pytest.importorskip("submitit").AutoExecutor
    asked: list[dict[str, object]] = []
    monkeypatch.setattr(executor, "update_parameters", lambda self, **parameters: asked.append(parameters))
    monkeypatch.setattr(executor, "submit", lambda self, cell: None)
    cells = planned_cells(load_config(StudyConfig, tiny))
    backend = make_backend("submitit-local", 1, {"tasks_per_node": 2})
    for cell in cells:
        backend.start(tmp_path, cell, 1)
    assert [isinstance(cell.job, Train) for cell in cells] == [a["tasks_per_node"] == 2 for a in asked]


def test_half_written_output_is_not_done(tmp_path):
    cell = Cell("tokens/train", Encode("jets", "tokenizer"))
    (tmp_path / "tokens" / "train.partial").mkdir(parents=True)
    assert not cell.done(tmp_path)
