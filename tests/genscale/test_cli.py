import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from genscale.cli import main


def genscale(*arguments, monkeypatch, capsys) -> tuple[int, str, str]:
    """Exit code and output of a command, run in this process."""
    monkeypatch.setattr(sys, "argv", ["genscale", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    out = capsys.readouterr()
    return int(stop.value.code or 0), out.out, out.err


@pytest.fixture
def run(monkeypatch, capsys):
    return lambda *arguments: genscale(*arguments, monkeypatch=monkeypatch, capsys=capsys)


@pytest.mark.parametrize(
    "command",
    [[], ["simulate"], ["convert"], ["export"], ["inspect"], ["tokenizer", "fit"], ["tokenizer", "encode"],
     ["tokenizer", "decode"], ["tokenizer", "quality"], ["tokenizer", "bin"], ["tokenizer", "coarsen"],
     ["tokenizer", "compare"],
     ["train", "generator"], ["train", "tagger"], ["generate"], ["likelihood"], ["predict"], ["ladder"],
     ["evaluate"], ["fit"], ["plan"], ["study", "run"], ["study", "power"], ["study", "status"],
     ["study", "report"], ["study", "contrast"], ["study", "new"], ["study", "keys"], ["select"],
     ["merge"], ["world", "list"], ["world", "sample"], ["world", "floors"]],
)  # fmt: skip
def test_every_command_has_help(run, command):
    code, out, _ = run(*command, "--help")
    assert code == 0
    assert "Usage" in out


def test_help_shows_examples_with_brackets_as_they_are_typed(run):
    _, out, _ = run("tokenizer", "compare", "--help")
    assert "kinds=[vq,fsq] codebook_sizes=[512]" in " ".join(out.split())


def test_help_is_quick_because_it_imports_nothing_heavy():
    code = "import sys, genscale.cli; print([m for m in ('torch', 'awkward') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["simulate", "--out", "x", "--jets", "10", "--classes", "QCDD"], "QCD"),
        (["simulate", "--out", "x", "--jets", "10", "--format", "csv"], "known are store and root"),
        (["inspect", "nowhere"], "nowhere: no such folder"),
        (["evaluate", "nowhere", "elsewhere"], "nowhere: no such file"),
        (["generate", "nowhere", "--jets", "3", "--out", "x"], "no trained generator here"),
        (["train", "generator", "--out", "x", "sise=pico"], "did you mean size"),
        (["train", "tagger", "--out", "x"], "jets: missing"),
        (["fit", "nowhere.csv"], "nowhere.csv"),
        (["plan", "nowhere.json", "--flops", "1e15"], "nowhere.json"),
        (["study", "run", "nowhere.yaml"], "nowhere.yaml: no such configuration file"),
        (["study", "run", "quikstart"], "did you mean quickstart? (known: ablation, "),
        (["study", "power", "paper/tagger"], "did you mean paper/tagging?"),
        (["study", "run", "configs/studies/tagging.yaml"], "did you mean tagging?"),
        (["study", "new", "generaton"], "did you mean generation?"),
        (["study", "keys", "generator.trainin"], "did you mean generator.training?"),
        (["train", "tagger", "--out", "x", "--config", "vigil"], "did you mean vigl? (known: uslu, vigl)"),
        (["study", "status", "nowhere"], "no such configuration file"),
        (
            ["generate", "nowhere", "--jets", "3", "--out", "x", "--device", "gpu"],
            "--device gpu: not usable here",
        ),
        (["plan", "fit.json"], "give exactly one of --flops, --jets, --loss, --gpu-hours (found none)"),
        (["plan", "fit.json", "--flops", "1e15", "--jets", "1e6"], "(found --flops, --jets)"),
        (["plan", "fit.json", "--gpu-hours", "3"], "--gpu-hours and --flops-per-second come together"),
        (["tokenizer", "quality", "a", "b", "--out", "q.txt"], "a name that ends in .json"),
    ],
)
def test_bad_input_is_one_clear_line_and_exit_code_2(run, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(*arguments)
    assert code == 2
    assert err.startswith("error: ")
    assert message in err
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


def test_a_file_comes_before_a_study_of_the_same_name(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("quickstart").write_text("sise: 1")
    code, _, err = run("study", "run", "quickstart", "--dry-run")
    assert (code, "quickstart: unknown key sise" in err) == (2, True)


def test_a_preset_goes_by_name(run, tmp_path):
    given = ("--config", "uslu", "training.batch_jets=1000000000")
    code, _, err = run("train", "tagger", "--out", tmp_path, *given)
    assert (code, "jets: 76800000 is less than one batch" in err) == (2, True), err


def test_the_keys_of_a_part_are_listed_as_they_are_set(run):
    code, out, _ = run("study", "keys", "samples")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == [
        "samples.jets=5000", "samples.at=[]", "samples.temperature=1.0", "samples.seed=1",
    ]  # fmt: skip
    assert re.search(r"samples.temperature=1.0 +float +Temperature of the sampling\.$", out, re.MULTILINE)


@pytest.mark.parametrize(("file", "what"), [("manifest.json", "a store"), ("study.yaml", "a study")])
@pytest.mark.parametrize(
    "command",
    [["train", "generator"], ["train", "tagger"], ["tokenizer", "fit", "x"], ["tokenizer", "bin", "x"]],
)
def test_a_run_is_not_mixed_with_a_store_or_study(run, tmp_path, command, file, what):
    (tmp_path / file).write_text("")
    code, _, err = run(*command, "--out", tmp_path)
    assert (code, f"holds {what}; choose another folder" in err) == (2, True), err


def test_fit_and_plan(run, tmp_path):
    rows = ["N,D,L,task"]
    for n in (1e4, 1e5, 1e6, 1e7):
        for d in (1e4, 1e5, 1e6, 1e7):
            rows.append(f"{n},{d},{0.3 + 11 / n**0.44 + 7 / d**0.22},tagger")
            rows.append(f"{n},{d},9,generator")
    points = tmp_path / "points.csv"
    points.write_text("\n".join(rows) + "\n")
    code, _, _ = run("fit", points, "--where", "task=tagger", "--out", tmp_path / "fit.json", "--bootstrap", 20,
                       "--figure", tmp_path / "fit.png")  # fmt: skip
    assert code == 0
    fit = json.loads((tmp_path / "fit.json").read_text())
    assert fit["n_points"] == 16
    found = {name: fit["params"][name]["value"] for name in ("E", "A", "alpha", "B", "beta")}
    assert found == pytest.approx({"E": 0.3, "A": 11, "alpha": 0.44, "B": 7, "beta": 0.22}, rel=1e-6)
    assert (tmp_path / "fit.png").stat().st_size > 10_000
    part = ("fit", points, "--where", "task=tagger", "--out", tmp_path / "part.json", "--bootstrap", 0)
    code, out, _ = run(*part, "--range", "D=1e5:", "--range", "N=:1e6")
    assert code == 0
    assert json.loads((tmp_path / "part.json").read_text())["data_window"]["D"] == [1e5, 1e7]
    assert json.loads((tmp_path / "part.json").read_text())["n_points"] == 9
    assert "the law misses its points by 0.0% (RMS of ln L)" in out
    for wrong, message in (("D=1e8:", "no point has D from 1e+08 to inf (found 10000 to 1e+07)"),
                           ("D=1e5", "expected N, D, C, U or L and LOW:HIGH"),
                           ("D=a:", "D=a: not a number")):  # fmt: skip
        code, _, error = run(*part, "--range", wrong)
        assert code == 2
        assert message in error
    code, _, _ = run("plan", tmp_path / "fit.json", "--flops", "1e15", "--out", tmp_path / "plan.json")
    assert code == 0
    answer = json.loads((tmp_path / "plan.json").read_text())
    assert answer["N"]["value"] * answer["D"]["value"] * 6 == pytest.approx(1e15, rel=1e-6)


def test_fit_with_other_columns_a_held_constant_and_a_prediction(run, tmp_path):
    rows = ["params,tokens,val_loss"]
    rows += [
        f"{n},{d},{2 + 400 / n**0.3 + 900 / d**0.35}" for n in (1e6, 1e7, 1e8, 1e9) for d in (1e8, 1e9, 1e10)
    ]
    points = tmp_path / "points.csv"
    points.write_text("\n".join(rows) + "\n")
    names = ["--column", "N=params", "--column", "D=tokens", "--column", "L=val_loss", "--bootstrap", 0]
    out = ["--out", tmp_path / "new" / "fit.json"]
    code, text, err = run("fit", points, *names, *out, "--fix", "E=2", "--predict", "N=1e10,D=1e11")
    assert code == 0, err
    predicted = float(text.split("L(N = 1e+10, D = 1e+11) = ")[1].split()[0])
    assert predicted == pytest.approx(2 + 400 / 1e10**0.3 + 900 / 1e11**0.35, rel=1e-4)
    code, text, err = run("fit", points, *names, *out, "--law", "compare")
    assert (code, "predicts best: additive" in text) == (0, True), err
    assert json.loads((tmp_path / "new" / "fit.json").read_text())["best"] == "additive"
    for bad, message in (
        (["--fix", "E"], "--fix E: expected name=value"),
        (["--fix", "E=two"], "E=two: not a number"),
        (["--approach", "all", "--predict", "N=1,D=1"], "--predict needs a law"),
        (["--approach", "4"], "must be 1, 2, 3 or all"),
        (["--predict", "N=1e9,D=-1"], "--predict D=-1: must be positive"),
        (["--figure", tmp_path / "fit.foo"], "a name that ends in .png or .pdf"),
        (["--law", "addditive"], "additive"),
    ):
        code, _, err = run("fit", points, *names, *out, *bad)
        assert (code, message in err) == (2, True), err


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Points of a law, made where the test runs."""
    monkeypatch.chdir(tmp_path)

    def make(floor: float) -> Path:
        rows = [
            f"{n},{d},{floor + 11 / n**0.44 + 7 / d**0.22}"
            for n in (1e4, 1e5, 1e6, 1e7)
            for d in (1e4, 1e5, 1e6, 1e7)
        ]
        Path("points.csv").write_text("\n".join(["N,D,L", *rows]) + "\n")
        return Path("points.csv")

    return make


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_a_closed_pipe_loses_no_result(table, closed):
    table(0.3)
    read, write = os.pipe()
    os.close(read)  # as head does when it has seen enough
    command = [sys.executable, "-m", "genscale.cli", "fit", "points.csv", "--bootstrap", "0"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, closed: write}
    done = subprocess.run(command, text=True, timeout=120, **streams)
    os.close(write)
    assert (done.returncode, done.stderr or "") == (0, "")
    assert json.loads(Path("fit.json").read_text())["params"]


def test_a_fit_on_a_full_disk_names_its_file_and_leaves_nothing(run, table, full_disk):
    points = table(0.3)
    with full_disk(100):
        code, _, err = run("fit", points, "--bootstrap", 0)
    assert (code, err) == (2, "error: fit.json: File too large\n")
    assert [file.name for file in Path().iterdir()] == ["points.csv"]


def test_only_the_fit_of_a_law_is_written_where_plan_looks_for_one(run, table):
    points = table(0.3)
    code, text, err = run("fit", points, "--bootstrap", 20, "--predict", "N=1e6,D=1e6")
    assert code == 0, err
    low, high = (float(x) for x in text.split("[")[-1].split("]")[0].split(","))
    assert low <= 0.3 + 11 / 1e6**0.44 + 7 / 1e6**0.22 <= high * (1 + 1e-4)
    law = Path("fit.json").read_bytes()
    assert run("fit", points, "--approach", "all", "--bootstrap", 2)[0] == 0
    assert run("fit", points, "--law", "compare")[0] == 0
    assert Path("approaches.json").is_file()
    assert Path("laws.json").is_file()
    assert Path("fit.json").read_bytes() == law


def test_a_table_brings_the_fit_window_of_its_study_along(run, table):
    points = table(0.3)
    Path("study.yaml").write_text("tagger: {widths: []}\nfit: {min_jets: 100000}\n")
    code, text, err = run("fit", points, "--bootstrap", 0)
    assert (code, "note: D >= 100000, as in the study beside this table" in text) == (0, True), err
    assert json.loads(Path("fit.json").read_text())["data_window"]["D"] == [1e5, 1e7]
    assert run("fit", points, "--bootstrap", 0, "--range", "D=0:")[0] == 0
    assert json.loads(Path("fit.json").read_text())["data_window"]["D"] == [1e4, 1e7]


def test_a_law_on_a_bound_is_not_extrapolated(run, table):
    assert run("fit", table(0.0), "--bootstrap", 0, "--out", "fit.json")[0] == 0
    assert json.loads(Path("fit.json").read_text())["bounds_hit"] == ["E"]
    assert run("plan", "fit.json", "--flops", "1e15")[0] == 0
    code, _, err = run("plan", "fit.json", "--flops", "1e20")
    assert (code, "E ended on a bound, and the law must not be extrapolated to 1e+20 FLOPs" in err) == (
        2,
        True,
    ), err


def test_the_chain_by_hand(run, jet_stores, tokenizer_run, token_stores, tmp_path):
    """Encode, train, generate, evaluate, inspect: each command on the output of the one before."""
    tiny = [
        "training.jets=128",
        "training.batch_jets=16",
        "training.evaluations=2",
        "training.validation_jets=32",
    ]
    test = jet_stores / "test"
    code, out, err = run("tokenizer", "encode", test, "--tokenizer", tokenizer_run, "--out", tmp_path / "t")
    assert (code, "200 jets" in out) == (0, True), err
    stores = [
        f"tokens={token_stores / 'train'}",
        f"validation={tmp_path / 't'}",
        f"tokenizer={tokenizer_run}",
    ]
    code, out, err = run("train", "generator", "--out", tmp_path / "run", *stores, *tiny)
    assert (code, "loss" in out) == (0, True), err
    code, out, err = run(
        "generate", tmp_path / "run", "--jets", 50, "--out", tmp_path / "made", "--class-label", "QCD"
    )
    assert (code, "takes no class label" in err) == (2, True), err
    code, out, err = run("generate", tmp_path / "run", "--jets", 50, "--out", tmp_path / "made", "--seed", 7)
    assert (code, "50 jets" in out) == (0, True), err
    code, out, err = run("generate", tmp_path / "run", "--jets", 50, "--out", tmp_path / "made", "--seed", 7)
    assert (code, "already there" in err) == (2, True)
    code, out, err = run(
        "evaluate", tmp_path / "made", jet_stores / "test", "--out", tmp_path / "fidelity.json"
    )
    assert (code, "joint" in out) == (0, True), err
    assert json.loads((tmp_path / "fidelity.json").read_text())["n_generated"] == 50
    code, out, err = run("likelihood", tmp_path / "run", test, "--out", tmp_path / "l.arrow", "--accept-loss")
    assert (code, "nats per token" in out) == (0, True), err
    for folder, text in (
        (tmp_path / "made", "50"),
        (tmp_path / "run", "generator pico"),
        (tmp_path / "t", "200"),
    ):
        code, out, err = run("inspect", folder)
        assert (code, text in out) == (0, True), err
    code, out, err = run("train", "tagger", "--out", tmp_path / "tag", f"jets={tmp_path / 'made'}",
                         f"validation={test}", *tiny)  # fmt: skip
    assert (code, "part_charge is missing" in err or "needs column" in err or "no labels" in err) == (2, True)
    code, out, err = run(
        "tokenizer", "quality", tokenizer_run, jet_stores / "test", "--out", tmp_path / "q.json"
    )
    assert (code, "perplexity" in out) == (0, True), err


def test_tokens_of_another_tokenizer_are_refused(run, token_stores, tokenizer_run, tmp_path):
    from tokenizer import Tokenizer

    other = Tokenizer.load(tokenizer_run)
    with torch.no_grad():
        next(other.model.decoder.parameters()).add_(1e-3)
    other.save(tmp_path / "other")
    code, _, err = run(
        "tokenizer",
        "decode",
        token_stores / "validation",
        "--tokenizer",
        tmp_path / "other",
        "--out",
        tmp_path / "x",
    )
    assert code == 2
    assert "not the tokenizer that made" in err
