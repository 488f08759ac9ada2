"""The study beside the literature: its constants next to the published ones, and a verdict on every claim."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from eval.literature.claims import Judgement, judge
from eval.literature.constants import Comparison, constants_table
from eval.literature.findings import Findings, SampledModel
from eval.literature.measure import single_pass_constants
from eval.literature.values import FULL_INPUTS
from eval.scaling.steps import PairedSteps, paired_steps
from genscale.data import schema
from genscale.data.store import JetStore
from genscale.study.config import StudyConfig
from genscale.study.power import load_power
from genscale.study.report.analysis import Analysis, jet_folder
from genscale.study.report.tables import Table, interval, verdict
from genscale.study.report.tagging import Physics, Repetition, inputs_name

T = TypeVar("T")


@dataclass(frozen=True)
class Literature:
    """What the literature says of what this study measured.

    Attributes
    ----------
    constants : list of Comparison
    judgements : list of Judgement
    steps : mapping of str to PairedSteps
        By task: differences between neighbouring runs, which need no law.
    """

    constants: list[Comparison]
    judgements: list[Judgement]
    steps: Mapping[str, PairedSteps]

    def to_dict(self) -> dict[str, Any]:
        """Plain form for JSON."""
        return {
            "constants": [
                {
                    "key": c.published.key,
                    "variant": c.published.variant,
                    "measured": c.measured.to_dict(),
                    "published": c.published.value,
                    "published_interval": [c.published.low, c.published.high],
                    "source": c.published.source,
                    "setting": c.published.setting,
                    "comparable": c.comparable,
                }
                for c in self.constants
            ],
            "claims": [j.to_dict() for j in self.judgements],
            "steps": {task: steps.to_dict() for task, steps in self.steps.items()},
        }


def compare_with_literature(
    folder: Path,
    config: StudyConfig,
    analysis: Analysis,
    physics: Physics | None,
    repetition: Repetition | None,
) -> Literature:
    """Judge the published claims about the tasks that the study has."""
    tagging = analysis.tasks.get("tagging")
    isoflop = None
    if tagging is not None and not isinstance(tagging.comparison, str):
        isoflop = tagging.comparison.exponents().get(2)
    options = {"bootstrap": config.fit.bootstrap, "seed": config.fit.seed}
    steps = {name: paired_steps(task.points) for name, task in analysis.tasks.items()}
    train = JetStore.open(jet_folder(folder, config) / "train", verify=False)
    findings = Findings(
        tagging={} if tagging is None else single_pass_constants(tagging.points, **options),
        tagging_steps=steps.get("tagging"),
        generation_steps=steps.get("generation"),
        isoflop_a=isoflop,
        repetition=_found(repetition.repeated) if repetition else None,
        threshold=_found(repetition.threshold) if repetition else None,
        inputs=_found(repetition.inputs) if repetition else None,
        rejection={} if physics is None or isinstance(physics.laws, str) else physics.laws,
        loss_fidelity=_found(analysis.loss_fidelity),
        samples=sampled_models(analysis),
        same_jets=_as_published(train, config),
    )
    judgements = [j for j in judge(findings, load_power(folder, config)) if j.claim.task in steps]
    return Literature(constants_table(findings), judgements, steps)


def sampled_models(analysis: Analysis) -> list[SampledModel]:
    """Loss and joint distance of each scored size, seeds averaged.

    The error of a size is that over jets, with what its seeds scatter beyond it.
    """
    sizes: dict[str, list[str]] = {}
    for run in analysis.fidelity:
        sizes.setdefault(analysis.records[run].size, []).append(run)
    found = []
    for size, runs in sizes.items():
        losses = [analysis.records[run].final.metrics["loss"] for run in runs]
        distances = [analysis.fidelity[run].joint for run in runs]
        values = np.array([joint.value for joint in distances])
        over_jets = float(np.mean([joint.distance.error_jets for joint in distances]))
        scatter = float(values.std(ddof=1)) if len(runs) > 1 else 0.0
        found.append(
            SampledModel(
                size,
                float(np.mean(losses)),
                float(values.mean()),
                max(over_jets, scatter / np.sqrt(len(runs))),
            )
        )
    return found


def _as_published(train: JetStore, config: StudyConfig) -> bool:
    """Whether jets, classes and inputs are those of the published losses."""
    inputs = inputs_name(config.tagger.features, config.tagger.max_particles)
    return (
        train.manifest.meta.get("format") == "jetclass"
        and len(train.classes) == len(schema.CLASSES)
        and inputs == FULL_INPUTS
    )


def _found(result: T | str | None) -> T | None:
    """The result, unless a text stands in its place."""
    return None if isinstance(result, str) else result


def _comparable(c: Comparison) -> str:
    if c.published.value is None:
        return ""
    return "yes" if c.comparable else "no: other jets or inputs"


def literature_tables(literature: Literature) -> list[Table]:
    """Constants beside published ones, and verdicts."""
    constants = [
        [
            c.published.key, c.published.variant, interval(c.measured), verdict(c.measured), str(c.published),
            c.published.source, _comparable(c),
        ]
        for c in literature.constants
    ]  # fmt: skip
    claims = [
        [
            j.claim.text,
            j.claim.source,
            j.verdict,
            j.why,
            "" if j.power is None else f"{j.power:.2f}",
            j.claim.margin,
        ]
        for j in literature.judgements
    ]
    steps = [
        [task, step.variable, f"{step.low:.4g}", f"{step.high:.4g}", f"{step.other:.4g}", f"{step.change:.4f}",
         f"{step.error:.4f}" if step.dof > 0 else "", f"{step.dof:.1f}"]
        for task, found in literature.steps.items()
        for step in (*found.last_sizes, *found.last_doublings)
    ]  # fmt: skip
    return [
        Table(
            "What the literature claims, and what this study says about it. A claim is supported where the whole 95 % "
            "interval lies within the difference that would matter, and contradicted where all of it lies beyond.",
            ("claim", "source", "this study", "why", "power", "difference that matters"),
            claims,
        ),
        Table(
            "Differences of the loss between neighbouring runs, each jet seen once, which need no law: between sizes "
            "at the largest D that both saw, and by the last doubling of D at each N. Errors come from repeated seeds.",
            ("task", "variable", "from", "to", "other variable", "change", "error", "degrees of freedom"),
            steps,
        ),
        Table(
            "Measured constants beside published ones. Losses and amplitudes belong to their jets; "
            "exponents may travel.",
            ("constant", "variant", "here [68 %]", "identified", "published", "source", "comparable"),
            constants,
        ),
    ]  # fmt: skip
