"""What the documentation names exists, and its code runs.

Files, Python objects, commands, options and configuration keys are looked up in the code. The code blocks of each page
run in order, in a folder of small stores and runs. A block that does not run begins with a comment that tells the
reader why: ``# Takes ...`` or ``# Needs ...``.
"""

import dataclasses
import itertools
import pkgutil
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import get_type_hints

import awkward as ak
import numpy as np
import pytest
import typer

from genscale.cli import app, main
from genscale.config import load_config
from genscale.shipped import shipped_names
from genscale.study.config import StudyConfig
from genscale.worlds import WORLDS

ROOT = Path(__file__).parents[1]
#: These tell of earlier states: commands and Python objects may be gone, but not files.
RECORDS = [ROOT / "docs" / "log.md", *sorted((ROOT / "docs" / "results").rglob("*.md"))]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES.remove(RECORDS[0])
CONFIGS = sorted((ROOT / "configs").rglob("*.*"))

FILE = re.compile(
    r"(?<![\w/.<-])(?:genscale|tokenizer|eval|tests|configs|scripts|examples|docs)/[\w./-]*[\w/]"
)
NAME = re.compile(r"(?<![\w/.:-])(?:genscale|eval)(?:\.\w+)+")  # `tokenizer` is also the name of variables
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
NOT_RUN = re.compile(r"# (Takes|Needs) \w")
FILES = (".json", ".csv", ".md", ".yaml", ".safetensors")
LANGUAGES = {"python", "sh", "yaml", "json", "output", "text"}


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and text of each code block."""
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def shell_lines(code: str) -> list[list[str]]:
    """Commands of a shell block as lists of words; comments are dropped and continued lines joined."""
    lines = code.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def commands(page: Path) -> list[list[str]]:
    """Every use of the command line on a page, in blocks and within sentences."""
    text = page.read_text(encoding="utf-8")
    if page.suffix != ".md":  # comments of a configuration
        text = "\n".join(line.lstrip("# ") for line in text.splitlines() if line.lstrip().startswith("#"))
        found = shell_lines("\n".join(re.findall(r"^genscale (?:.*\\\n)*.*$", text, re.MULTILINE)))
    else:
        found = [
            words for language, code in BLOCK.findall(text) if language == "sh" for words in shell_lines(code)
        ]
        prose = BLOCK.sub("", text)
        found += [shlex.split(code) for code in INLINE.findall(prose) if code.startswith("genscale ")]
    return [words for words in found if words[0] == "genscale"]


def config_classes() -> dict[str, type]:
    """The configuration that each command with KEY=VALUE arguments reads."""
    from genscale.comparison.family import FamilyConfig
    from genscale.training.generator import GeneratorRun
    from genscale.training.tagger import TaggerRun
    from genscale.training.tokenizer import TokenizerRun
    from tokenizer import BinningConfig

    return {
        "train generator": GeneratorRun,
        "train tagger": TaggerRun,
        "tokenizer fit": TokenizerRun,
        "tokenizer bin": BinningConfig,
        "tokenizer compare": FamilyConfig,
        "study run": StudyConfig,
        "study power": StudyConfig,
    }


def has_key(cls: type, key: str) -> bool:
    """Whether a configuration has a dotted key; below a dictionary all keys are allowed."""
    name, _, rest = key.partition(".")
    hints = get_type_hints(cls)
    if name not in hints:
        return False
    return not rest or not dataclasses.is_dataclass(hints[name]) or has_key(hints[name], rest)


def check_command(words: list[str]) -> None:
    """Assert that the command, its options and its configuration keys exist."""
    command, path, rest = typer.main.get_command(app), [], words[1:]
    while rest and hasattr(command, "commands") and not rest[0].startswith("-"):
        assert rest[0] in command.commands, f"{' '.join(words)}: no such command"
        path.append(rest.pop(0))
        command = command.commands[path[-1]]
    options = {o: p for p in command.params for o in (*p.opts, *p.secondary_opts) if o.startswith("-")}
    takes_value = False
    for word in rest:
        if word.startswith("--"):
            assert word in {*options, "--help"}, f"{' '.join(words)}: no option {word}"
            takes_value = word in options and not getattr(options[word], "is_flag", False)
        elif not takes_value and re.match(r"[a-z_.]+=", word):
            cls = WORLDS[rest[0]] if path[0] == "world" else config_classes()[" ".join(path)]
            assert has_key(cls, word.partition("=")[0]), f"{' '.join(words)}: no key {word}"
        else:
            takes_value = False
    named = [word for option, word in itertools.pairwise(rest) if option == "--config"]
    if " ".join(path) in ("study run", "study power", "study new"):
        named += rest[:1]
    for name in named:
        kind = {"study": "studies"}.get(path[0], path[-1] if path[0] == "train" else path[0])
        assert name in shipped_names(kind) or name.isupper() or name.endswith(".yaml"), f"no {name} in {kind}"


@pytest.mark.parametrize("page", [*PAGES, *CONFIGS, *RECORDS], ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_a_page_names_exist(page):
    missing = [name for name in FILE.findall(page.read_text()) if not (ROOT / name).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_modules_and_functions_that_a_page_names_exist(page):
    for name in NAME.findall(page.read_text()):
        assert pkgutil.resolve_name(name) is not None


@pytest.mark.parametrize("page", [*PAGES, *CONFIGS], ids=lambda page: page.name)
def test_commands_options_and_keys_that_a_page_names_exist(page):
    for words in commands(page):
        check_command(words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_configuration_keys_that_a_page_names_exist(page):
    classes = config_classes().values()
    parts = {
        f.name for cls in classes for f in dataclasses.fields(cls) if not isinstance(f.default, int | str)
    }
    for code in INLINE.findall(BLOCK.sub("", page.read_text())):
        key = re.match(r"([a-z_]+)\.[a-z_.]+(?=[:=]|$)", code)
        if key and key[1] in parts and Path(key[0]).suffix not in FILES:
            assert any(has_key(cls, key[0]) for cls in classes), f"no key {key[0]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_has_a_language(page):
    assert {language for language, _ in blocks(page)} <= LANGUAGES
    assert page.read_text().count("\n```") == 2 * len(blocks(page))


@pytest.fixture(scope="module")
def world(jet_stores, tokenizer_run, token_stores, make_jets, tmp_path_factory) -> Path:
    """A folder with small versions of the stores, runs and tables that the pages speak of."""
    folder = tmp_path_factory.mktemp("pages")
    for name in ("configs", "docs", "examples", "scripts"):
        (folder / name).symlink_to(ROOT / name)
    for name, source in {"jets": jet_stores, "tokens": token_stores, "tokenizer": tokenizer_run}.items():
        shutil.copytree(source, folder / name)
    short = [
        f"training.{key}" for key in ("jets=64", "batch_jets=32", "evaluations=1", "first_evaluation_jets=64")
    ]
    tokens = [
        f"{k}={folder}/{v}" for k, v in (("tokens", "tokens/train"), ("validation", "tokens/validation"))
    ]
    run(
        "genscale",
        "train",
        "generator",
        "--out",
        folder / "runs/small",
        f"tokenizer={folder}/tokenizer",
        *tokens,
        *short,
    )
    jets = [f"{k}={folder}/{v}" for k, v in (("jets", "jets/train"), ("validation", "jets/validation"))]
    run("genscale", "train", "tagger", "--out", folder / "runs/tagger", "d_model=4", *jets, *short)
    run("genscale", "generate", folder / "runs/small", "--jets", 150, "--out", folder / "samples")
    quickstart = folder / "runs/quickstart"
    for name, source in {
        "generator/small-s1": "runs/small", "tagger/d32-s1": "runs/tagger", "samples/small-s1": "samples",
        "jets": "jets", "tokens": "tokens", "tokenizer": "tokenizer",
    }.items():  # fmt: skip
        shutil.copytree(folder / source, quickstart / name)
    shutil.copy(ROOT / "docs/results/quickstart/points.csv", quickstart)
    for quality in range(8):
        path = quickstart / f"predictions/d{4 + quality}-s1/predictions.npz"
        path.parent.mkdir(parents=True)
        np.savez(path, **predictions(0.3 * (quality + 2), seed=quality))
    write_points(folder / "points.csv")
    padded = ak.fill_none(
        ak.pad_none(make_jets(150, seed=1), 40, clip=True), {"pt": 0, "eta_rel": 0, "phi_rel": 0}
    )
    columns = [ak.to_numpy(padded[name]) for name in ("pt", "eta_rel", "phi_rel")]
    np.savez(folder / "my_generator.npz", particles=np.stack(columns, axis=-1))
    return folder


def predictions(separation: float, seed: int) -> dict[str, np.ndarray]:
    """Class probabilities of the same test jets by a tagger that separates the classes so well."""
    labels = np.repeat(np.arange(3), 400)
    logits = np.random.default_rng(seed).normal(size=(len(labels), 3))
    logits[np.arange(len(labels)), labels] += separation
    odds = np.exp(logits)
    classes = np.array(["QCD", "Hbb", "Wqq"])
    return {"probabilities": odds / odds.sum(1, keepdims=True), "labels": labels, "classes": classes}


def write_points(path: Path) -> None:
    """A table of losses by the law of Vigl et al. (arXiv:2602.15781), with noise."""
    n, d = (x.ravel() for x in np.meshgrid(np.geomspace(1e3, 1e7, 6), np.geomspace(1e5, 1e8, 6)))
    noise = np.random.default_rng(1).normal(1, 0.003, n.size)
    loss = noise * (0.32 + 11.27 / n**0.44 + 7.22 / d**0.22)
    np.savetxt(path, np.stack([n, d, loss], 1), delimiter=",", header="N,D,L", comments="")


def run(*words: object) -> None:
    """Run a command in this process, and assert that it succeeds."""
    before = sys.argv
    sys.argv = list(map(str, words))
    try:
        with pytest.raises(SystemExit) as stop:
            main()
    finally:
        sys.argv = before
    assert not stop.value.code, " ".join(map(str, words))


def assert_printed(shown: str, printed: str) -> None:
    """Assert that lines were printed in this order, numbers within one percent; ``...`` stands for any lines."""
    lines = iter(printed.splitlines())
    for line in shown.splitlines():
        if line.strip() != "...":
            assert any(same_line(line, other) for other in lines), f"{line!r} is not in\n{printed}"


def same_line(shown: str, printed: str) -> bool:
    """Whether two lines have the same words, and the same numbers within one percent."""
    number = r"-?\d[\d,]*\.?\d*(?:e[+-]?\d+)?"
    if re.sub(number, "#", shown).split() != re.sub(number, "#", printed).split():
        return False
    values = [[float(x.replace(",", "")) for x in re.findall(number, line)] for line in (shown, printed)]
    return bool(np.allclose(*values, rtol=0.01))


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p)], ids=lambda page: page.name)
def test_code_of_a_page_runs(page, world, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(shutil.copytree(world, tmp_path / "work", symlinks=True))
    names, printed = {}, ""
    for language, code in blocks(page):
        if language == "output":
            assert_printed(code, printed)
        elif language == "python" and not NOT_RUN.match(code):
            exec(compile(code, str(page), "exec"), names)
            printed = capsys.readouterr().out
        elif language == "yaml":
            Path("study.yaml").write_text(code)
            load_config(StudyConfig, Path("study.yaml"))
        elif language == "sh" and not NOT_RUN.match(code):
            for words in shell_lines(code):
                assert words[0] == "genscale", f"{words}: say what it takes or needs"
                run(*words)
            printed = capsys.readouterr().out
