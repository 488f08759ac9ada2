"""The study beside the literature: its constants beside the published ones, and a verdict on every claim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final

from eval.literature.claims import Judgement, judge
from eval.literature.constants import MeasuredConstant, constants_table
from eval.literature.findings import Findings
from eval.literature.measure import single_pass_constants
from eval.literature.values import FULL_INPUTS
from eval.literature.verdicts import Verdict
from eval.scaling.steps import PairedSteps
from genscale.data import schema
from genscale.data.store import JetStore
from genscale.pages import Section, Table
from genscale.study.config import StudyConfig
from genscale.study.report.words import MARKS, verdict
from genscale.study.results.absence import available
from genscale.study.results.controls import Limit
from genscale.study.results.repetition import inputs_name
from genscale.study.results.study import Study

CLAIMS_FILE = "claims.json"

#: Verdicts on a claim, in the order of the table.
WORDS: Final = {
    Verdict.SUPPORTS: "supported",
    Verdict.CONTRADICTS: "contradicted",
    Verdict.CANNOT_TELL: "cannot tell",
    Verdict.NOT_TESTED: "not tested",
    Verdict.NOT_APPLICABLE: "not applicable",
}

#: What the interval of a claim is one of.
QUANTITIES: Final = {
    "alpha": "alpha",
    "beta": "beta",
    "a": "a",
    "L_inf": "L_inf",
    "tagging: N": "fall per decade of N",
    "tagging: D": "fall per decade of D",
    "lambda": "lambda",
    "independent of N": "slope with N over slope with U",
    "beta_rep": "beta_rep - beta",
    "cost": "ratio of compute",
    "inputs": "largest difference of beta",
    "R(L)": "scatter of ln R",
    "a from scratch": "a",
    "generation: N": "fall per decade of N",
    "generation: D": "fall with D over fall with N",
}


@dataclass(frozen=True)
class Literature:
    """Constants and claims of the literature, compared with what a study measured.

    Attributes
    ----------
    constants : list of MeasuredConstant
    judgements : list of Judgement
    steps : mapping of str to PairedSteps
        By task: differences between neighbouring runs, which need no law.
    """

    constants: list[MeasuredConstant]
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
            "steps": self.steps,
        }


def section(study: Study) -> Section | None:
    """Published claims about the tasks of a study, judged by its own measurements; None without laws, or in a world."""
    if study.config.jets.world or not study.laws:
        return None
    literature = compare_with_literature(study)
    return Section(
        "Literature",
        found=[_count(literature.judgements)],
        tables=literature_tables(literature),
        data={CLAIMS_FILE: literature},
    )


def _count(judgements: Sequence[Judgement]) -> str:
    """How many claims have each verdict."""
    counts = ", ".join(
        f"{sum(j.verdict is verdict for j in judgements)} {word}" for verdict, word in WORDS.items()
    )
    return f"Of {len(judgements)} published claims: {counts}."


def compare_with_literature(study: Study) -> Literature:
    """Judge the published claims about the tasks that the study has."""
    tasks, tagger = study.laws, study.tagging
    repeated, repeated_tokens = (study.repetitions.get(task) for task in ("tagging", "generation"))
    tagging = tasks.get("tagging")
    steps = {name: task.steps for name, task in tasks.items()}
    approaches = available(tagging.approaches) if tagging else None
    learnable = available(tasks["generation"].window) if "generation" in tasks else None
    findings = Findings(
        tagging=single_pass_constants(tagging.points, **study.options) if tagging else {},
        tagging_steps=steps.get("tagging"),
        generation_steps=steps.get("generation"),
        isoflop_a=approaches.exponents().get(2) if approaches else None,
        repetition=available(repeated.repeated) if repeated else None,
        threshold=available(repeated.threshold) if repeated else None,
        generation_repetition=available(repeated_tokens.repeated) if repeated_tokens else None,
        generation_threshold=available(repeated_tokens.threshold) if repeated_tokens else None,
        inputs=available(repeated.inputs) if repeated else None,
        rejection=(available(tagger.laws) if tagger else None) or {},
        loss_fidelity=available(study.loss_fidelity),
        window=learnable.main.window_per_jet if learnable else None,
        limited_by_training=frozenset(
            task for task, control in study.controls.items() if control.limit is Limit.TRAINING
        ),
        same_jets=any(_as_published(study.jets(split), study.config) for split in study.splits[-1:]),
    )
    judgements = [j for j in judge(findings, study.power) if j.claim.task in tasks]
    return Literature(constants_table(findings), judgements, steps)


def _as_published(jets: JetStore, config: StudyConfig) -> bool:
    """Whether jets, classes and inputs are those of the published losses."""
    inputs = inputs_name(config.tagger.features, config.tagger.max_particles)
    return (
        jets.manifest.meta.get("format") == "jetclass"
        and len(jets.classes) == len(schema.CLASSES)
        and inputs == FULL_INPUTS
    )


def _comparable(c: MeasuredConstant) -> str:
    if c.published.value is None:
        return ""
    return "yes" if c.comparable else "no: other jets or inputs"


def verdicts(judgements: Sequence[Judgement]) -> Table:
    """One line per claim, the decided ones first."""
    ordered = sorted(judgements, key=lambda j: list(WORDS).index(j.verdict))
    return Table(
        "Verdicts",
        "What this study says about published claims, each with the 95 % interval that the verdict rests on, "
        "where there is one. The next table says why.",
        ("this study", "claim", "95 % interval", "source"),
        [[WORDS[j.verdict], j.claim.text, _number(j), j.claim.source] for j in ordered],
        marks=[MARKS[j.verdict] for j in ordered],
    )


def _number(judgement: Judgement) -> str:
    ends = judgement.outcome.interval
    if ends is None or not (judgement.verdict.decided or all(map(isfinite, ends))):
        return "none"
    return f"{QUANTITIES.get(judgement.claim.key, judgement.claim.key)} in [{ends[0]:.2g}, {ends[1]:.2g}]"


def literature_tables(literature: Literature) -> list[Table]:
    """Constants beside published ones, and verdicts."""
    constants = [
        [
            c.published.key, c.published.variant, c.measured.text(), verdict(c.measured), str(c.published),
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
        verdicts(literature.judgements),
        Table(
            "Claims of the literature",
            "The verdicts with their reasons. A claim is supported if the whole 95 % "
            "interval lies within the difference that would matter, and contradicted if all of it lies beyond. Power "
            "is the probability that a study of this design decides the claim correctly.",
            ("claim", "source", "this study", "why", "power", "difference that matters"),
            claims,
        ),
        Table(
            "Steps between neighbouring runs",
            "Differences of the loss between neighbouring single-pass runs, for which no law is assumed: between sizes "
            "at the largest D that both saw, and over the last doubling of D at each N. Errors come from repeated "
            "seeds.",
            ("task", "variable", "from", "to", "other variable", "change", "error", "degrees of freedom"),
            steps,
        ),
        Table(
            "Published constants",
            "Measured constants beside published ones. Losses and amplitudes depend on the jets; exponents may be the "
            "same for other jets.",
            ("constant", "variant", "here [68 %]", "identified", "published", "source", "comparable"),
            constants,
        ),
    ]  # fmt: skip
