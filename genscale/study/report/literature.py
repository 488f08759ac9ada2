"""The study beside the literature: its constants next to the published ones, and a verdict on every claim."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eval.literature.claims import Findings, Judgement, judge
from eval.literature.constants import Comparison, constants_table
from eval.literature.values import AMRAM, FULL_INPUTS
from genscale.data import schema
from genscale.data.store import JetStore
from genscale.pages import Section, Table
from genscale.study.config import StudyConfig
from genscale.study.report.fidelity import loss_fidelity
from genscale.study.report.fits import task_laws, windows
from genscale.study.report.physics import physics
from genscale.study.report.repetition import inputs_name, repetition
from genscale.study.report.study import Study, available, interval, verdict

CLAIMS_FILE = "claims.json"


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


def section(study: Study) -> Section | None:
    """Published claims about the tasks of a study, judged by its own measurements; None without laws."""
    if not task_laws(study):
        return None
    literature = compare_with_literature(study)
    return Section("Literature", tables=literature_tables(literature), data={CLAIMS_FILE: literature})


def compare_with_literature(study: Study) -> Literature:
    """Judge the published claims about the tasks that the study has."""
    tasks, tagger, repeated = task_laws(study), physics(study), repetition(study)
    generation, tagging = (tasks.get(name) for name in ("generation", "tagging"))
    approaches = available(tagging.approaches) if tagging else None
    findings = Findings(
        tagging=tagging.surface if tagging else None,
        isoflop_a=approaches.exponents().get(2) if approaches else None,
        repetition=available(repeated.repeated) if repeated else None,
        threshold=available(repeated.threshold) if repeated else None,
        inputs=available(repeated.inputs) if repeated else None,
        rejection=(available(tagger.laws) if tagger else None) or {},
        generation=generation.surface if generation else None,
        loss_fidelity=available(loss_fidelity(study)),
        windows=windows(tasks),
        misfits={name: laws.misfit for name, laws in tasks.items() if laws.misfit is not None},
        same_jets=_as_published(study.jets("test"), study.config),  # every study with laws has test jets
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
            "Claims of the literature",
            "What this study says about published claims. A claim is supported or contradicted only where the interval "
            "is narrower than the difference that would matter.",
            ("claim", "source", "this study", "why", "difference that matters"),
            claims,
        ),
        Table(
            "Published constants",
            "Measured constants beside published ones. Losses and amplitudes depend on the jets; exponents may carry "
            "over.",
            ("constant", "variant", "here [68 %]", "identified", "published", "source", "comparable"),
            constants,
        ),
    ]
