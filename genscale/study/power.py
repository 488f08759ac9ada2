"""Power of a study: its design in the form that `eval.literature` simulates, and which claims it could decide."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eval.common.errors import InputError as EvalInputError
from eval.literature.claims import LEAST_POWER
from eval.literature.design import Design, Noise, Run, noise_of
from eval.literature.ideal import ideal_bounds
from eval.literature.power import SCATTER, ClaimPower, study_power
from eval.scaling.points import read_points
from genscale.data.features import resolve_features
from genscale.errors import InputError
from genscale.files import read_json, write_json
from genscale.models.counting import ParameterCount, count_parameters
from genscale.models.generator import Generator, GeneratorConfig
from genscale.models.tagger import Tagger, TaggerConfig
from genscale.study.cells import study_cells, token_codes
from genscale.study.config import StudyConfig
from genscale.study.jobs import Train
from genscale.training.generator import GeneratorRun
from genscale.training.tagger import TaggerRun
from genscale.training.tokenizer import TokenizerRun

#: File in the folder of a study with the power of its grid for each claim.
POWER_FILE = "power.json"

#: Task of the runs in each folder of single passes.
_TASKS = {"tagger": "tagging", "generator": "generation"}


def study_design(config: StudyConfig) -> Design:
    """Return the runs of a study, with the held-out losses to which its laws are fitted.

    Parameters
    ----------
    config : StudyConfig
        The study.

    Returns
    -------
    Design

    Raises
    ------
    InputError
        The configuration of a training is invalid.
    """
    single: dict[str, list[Run]] = {"tagger": [], "generator": []}
    repetition: list[Run] = []
    inputs: dict[str, list[Run]] = {}
    for cell in study_cells(config):
        folder, *rest = cell.id.split("/")
        if not isinstance(cell.job, Train) or isinstance(of := cell.job.of, TokenizerRun):
            continue
        if folder in single:
            single[folder].append(_run(of, config, single=True))
        elif folder == "repetition":
            repetition.append(_run(of, config))
            if rest[0].startswith(f"d{config.inputs.width}-"):
                inputs.setdefault(repetition[-1].inputs, []).append(repetition[-1])
        elif folder == "inputs":
            run = _run(of, config)
            inputs.setdefault(run.inputs, []).append(run)
    return Design(
        tagging=tuple(single["tagger"]),
        generation=tuple(single["generator"]),
        repetition=tuple(repetition),
        inputs={name: tuple(runs) for name, runs in inputs.items()} if len(inputs) > 1 else {},
        background=config.jets.test // len(config.jets.classes),
    )


def _run(run: TaggerRun | GeneratorRun, config: StudyConfig, single: bool = False) -> Run:
    if isinstance(run, TaggerRun):
        count = _count(run.shape(len(resolve_features(run.features))))
        inputs = f"{len(resolve_features(run.features))} features, {run.max_particles} particles"
    else:
        count = _count(run.shape(*token_codes(config)))
        inputs = ""
    training = run.training
    jets = np.array([training.plan.jets(step) for step in training.evaluated_after], dtype=np.float64)
    if single:
        jets = jets[jets >= min(config.fit.min_jets, jets[-1])]
    return Run(count.total, count.blocks, training.seed, jets, float(training.jets_unique), inputs)


@cache
def _count(shape: TaggerConfig | GeneratorConfig) -> ParameterCount:
    with torch.device("meta"):  # only the shapes are wanted
        return count_parameters(Tagger(shape) if isinstance(shape, TaggerConfig) else Generator(shape))


def earlier_noise(study: Path) -> dict[str, Noise]:
    """Measure the standard deviation between seeds in the points of an earlier study, by task.

    Parameters
    ----------
    study : Path
        Folder of the earlier study.

    Returns
    -------
    dict of str to Noise

    Raises
    ------
    InputError
        There are no points, or none was repeated with another seed.
    """
    path = study / "points.csv" if study.is_dir() else study
    found = {}
    reasons = []
    for runs, task in _TASKS.items():
        try:
            found[task] = noise_of(read_points(path, where={"task": runs}))
        except EvalInputError as error:
            reasons.append(str(error))
    if not found:
        raise InputError(f"--from {study}: {'; '.join(reasons)}")
    return found


def design_digest(design: Design) -> str:
    """Digest of a design, so that the power of a study is not used for one of the same name with other runs."""
    parts = [
        (kind, run.size, run.seed, run.unique, run.inputs, tuple(run.jets))
        for kind, runs in (
            ("single", design.tagging),
            ("tokens", design.generation),
            ("again", design.repetition),
        )
        for run in runs
    ]
    others = [(name, len(runs)) for name, runs in design.inputs.items()]
    return hashlib.sha256(repr((parts, others, design.background)).encode()).hexdigest()[:16]


def compute_power(
    config: StudyConfig, noise: Mapping[str, Noise], *, trials: int, progress: bool = False
) -> tuple[dict[str, Any], list[ClaimPower]]:
    """Compute the power of a study for every claim that can be simulated; also returned in plain form for JSON."""
    design = study_design(config)
    found = study_power(design, noise, trials=trials, progress=progress)
    plain = {
        "design": design_digest(design),
        "noise": {task: {"scatter": n.scatter, "length": n.length} for task, n in noise.items()},
        "trials": trials,
        "claims": [p.to_dict() for p in found],
    }
    return plain, found


def save_power(plain: Mapping[str, Any], path: Path) -> None:
    """Write ``power.json``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, plain)


def load_power(folder: Path, config: StudyConfig) -> dict[str, float]:
    """Read the power by claim from a study's folder; empty if it was not computed, or for another design."""
    path = folder / POWER_FILE
    if not path.exists():
        return {}
    plain = read_json(path)
    if plain.get("design") != design_digest(study_design(config)):
        return {}
    return {claim["key"]: float(claim["power"]) for claim in plain["claims"]}


def power_table(found: Sequence[ClaimPower]) -> str:
    """Table of the power of claims, with a line about those that the study does not test."""
    lines = [
        f"{'':18s} {'where the claim holds':>25s}   {'where it fails':>25s}",
        f"{'claim':18s} {'supports':>12s} {'contradicts':>12s}   {'contradicts':>12s} {'supports':>12s}  holds / fails",
    ]
    for p in found:
        chances = (p.supports, p.wrongly_contradicts, p.contradicts, p.wrongly_supports)
        right, wrong, right_too, wrong_too = (f"{chance:12.2f}" for chance in chances)
        lines.append(f"{p.key:18s} {right} {wrong}   {right_too} {wrong_too}  {p.holds} / {p.fails}")
    if untested := [p.key for p in found if not p.tested]:
        lines.append(
            f"without power for {', '.join(untested)}: this grid decides them correctly with a probability below one "
            'half, so that their verdict will be "not tested"'
        )
    return "\n".join(lines)


def without_power(config: StudyConfig, scatter: float = SCATTER["tagging"]) -> str:
    """Name, in one line, the exponents that not even an ideal fit of the grid could decide; empty if there are none.

    Parameters
    ----------
    config : StudyConfig
        The study.
    scatter : float
        Standard deviation of ln L between seeds of taggers.

    Returns
    -------
    str
    """
    design = study_design(config)
    if not design.tagging:
        return ""
    bounds = [b for b in ideal_bounds(design, Noise(scatter)) if b.power < LEAST_POWER]
    if not bounds:
        return ""
    shown = ", ".join(f"{b.key} (±{b.half_width:.2g} at best, margin {b.margin:g})" for b in bounds)
    return (
        f"without power for the published {shown}: this grid of taggers cannot decide them if ln L varies by "
        f"{100 * scatter:g} % between seeds; see genscale study power"
    )
