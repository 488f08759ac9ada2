"""The study beside the literature: its constants next to the published ones, and a verdict on every claim."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from eval.literature.claims import Findings, Judgement, judge
from eval.literature.constants import Comparison, constants_table
from eval.literature.values import AMRAM, FULL_INPUTS
from genscale.data import schema
from genscale.data.store import JetStore
from genscale.study.config import StudyConfig
from genscale.study.report.analysis import Analysis, found_windows, jet_folder
from genscale.study.report.tables import Table, interval, verdict
from genscale.study.report.tagging import Physics, Repetition, inputs_name

T = TypeVar("T")


@dataclass(frozen=True)
class Literature:
    """What the literature says of what this study measured."""

    constants: list[Comparison]
    judgements: list[Judgement]

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
        }


def compare_with_literature(
    folder: Path,
    config: StudyConfig,
    analysis: Analysis,
    physics: Physics | None,
    repetition: Repetition | None,
) -> Literature:
    """Judge the published claims about the tasks that the study has."""
    generation, tagging = (analysis.tasks.get(name) for name in ("generation", "tagging"))
    isoflop = None
    if tagging is not None and not isinstance(tagging.comparison, str):
        isoflop = tagging.comparison.exponents().get(2)
    test = JetStore.open(jet_folder(folder, config) / "test", verify=False)  # every study with laws has one
    findings = Findings(
        tagging=None if tagging is None else tagging.surface,
        isoflop_a=isoflop,
        repetition=_found(repetition.repeated) if repetition else None,
        threshold=_found(repetition.threshold) if repetition else None,
        inputs=_found(repetition.inputs) if repetition else None,
        rejection={} if physics is None or isinstance(physics.laws, str) else physics.laws,
        generation=None if generation is None else generation.surface,
        loss_fidelity=_found(analysis.loss_fidelity),
        windows=found_windows(analysis.tasks),
        misfits={name: task.misfit for name, task in analysis.tasks.items() if task.misfit is not None},
        same_jets=_as_published(test, config),
    )
    has = {"generation": generation is not None, "tagging": tagging is not None}
    judgements = [j for j in judge(findings) if has["generation" if j.claim.source == AMRAM else "tagging"]]
    return Literature(constants_table(findings), judgements)


def _as_published(jets: JetStore, config: StudyConfig) -> bool:
    """Whether jets, classes and inputs are those of the published losses."""
    inputs = inputs_name(config.tagger.features, config.tagger.max_particles)
    return (
        jets.manifest.meta.get("format") == "jetclass"
        and len(jets.classes) == len(schema.CLASSES)
        and inputs == FULL_INPUTS
    )


def _found(result: T | str | None) -> T | None:
    """The result, unless a text stands in its place."""
    return None if isinstance(result, str) else result


def literature_tables(literature: Literature) -> list[Table]:
    """Constants beside published ones, and verdicts."""
    constants = [
        [
            c.published.key, c.published.variant, interval(c.measured), verdict(c.measured), str(c.published),
            c.published.source, "yes" if c.comparable else "no: other jets or inputs",
        ]
        for c in literature.constants
    ]  # fmt: skip
    claims = [[j.claim.text, j.claim.source, j.verdict, j.why, j.claim.margin] for j in literature.judgements]
    return [
        Table(
            "What the literature claims, and what this study says to it. A claim is supported or "
            "contradicted only where the "
            "interval is narrower than the difference that would matter.",
            ("claim", "source", "this study", "why", "difference that matters"),
            claims,
        ),
        Table(
            "Measured constants beside published ones. Losses and amplitudes belong to their jets; "
            "exponents may travel.",
            ("constant", "variant", "here [68 %]", "identified", "published", "source", "comparable"),
            constants,
        ),
    ]  # fmt: skip
