"""What a study's own measurements say about the claims of the literature.

One rule for all claims (`eval.literature.verdicts`), and for each the difference that would matter. Margins are this
project's choice and are given with each claim and their reason. Exponents are compared across data sets; floors and
amplitudes only for the same jets, inputs and classes, since they change with each of these.

Claims about data say which of two laws they mean: that of a single pass, in which every jet is seen once, or that of
repeated data, seen until the held-out loss no longer falls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from eval.literature import falls, generation, tagging
from eval.literature.findings import Findings
from eval.literature.values import AMRAM, USLU, VIGL
from eval.literature.verdicts import Outcome, Verdict

#: A claim that a study decides with less than this probability was not tested by it.
LEAST_POWER = 0.5


@dataclass(frozen=True)
class Claim:
    """A published claim and how it is judged.

    Attributes
    ----------
    key : str
        Short name.
    text : str
        The claim in one sentence.
    source : str
        Paper and place.
    task : {"generation", "tagging"}
        Task that it is about.
    data : {"single pass", "repeated", ""}
        Law of data that it is about; empty for none.
    margin : str
        The difference that would matter, and why, in words.
    judge : callable
        Function from ``Findings`` to an outcome.
    """

    key: str
    text: str
    source: str
    task: Literal["generation", "tagging"]
    data: Literal["single pass", "repeated", ""]
    margin: str
    judge: Callable[[Findings], Outcome]


#: Claims that a single pass shows only where data limit it: those about D, and about the compute-optimal share of data.
OF_DATA = frozenset({"beta", "a", "a from scratch", "beta_rep", "cost", "tagging: D", "generation: D"})


@dataclass(frozen=True)
class Judgement:
    """A claim with the outcome of one study.

    Attributes
    ----------
    claim : Claim
    outcome : Outcome
        By the measurements alone.
    power : float or None
        Probability that the study decides the claim: the larger of that to support it where it holds and that to
        contradict it where it fails. None where it was not computed.
    """

    claim: Claim
    outcome: Outcome
    power: float | None = None

    @property
    def verdict(self) -> Verdict:
        """The outcome's verdict, if the study had the power to reach one."""
        if self.untested and self.outcome.verdict is not Verdict.NOT_APPLICABLE:
            return Verdict.NOT_TESTED
        return self.outcome.verdict

    @property
    def untested(self) -> bool:
        """Whether the power is known and below one half."""
        return self.power is not None and self.power < LEAST_POWER

    @property
    def why(self) -> str:
        """The sentence of the verdict, with its numbers."""
        if self.verdict is not Verdict.NOT_TESTED:
            return self.outcome.sentence
        return f"{self.outcome.sentence}; this study decides the claim with probability {self.power:.2f} only"

    def to_dict(self) -> dict[str, Any]:
        """Plain form for JSON."""
        claim = self.claim
        return {
            "key": claim.key,
            "claim": claim.text,
            "source": claim.source,
            "data": claim.data,
            "margin": claim.margin,
            "verdict": self.verdict,
            "why": self.why,
            "interval": self.outcome.interval,
            "power": self.power,
        }


def judge(findings: Findings, power: Mapping[str, float] | None = None) -> list[Judgement]:
    """Judge every claim, in the order of ``CLAIMS``.

    Parameters
    ----------
    findings : Findings
        What a study measured.
    power : mapping of str to float, optional
        Probability of the right decision by claim, from ``eval.literature.power``.

    Returns
    -------
    list of Judgement
    """
    return [Judgement(claim, _outcome(claim, findings), (power or {}).get(claim.key)) for claim in CLAIMS]


def _outcome(claim: Claim, findings: Findings) -> Outcome:
    outcome = claim.judge(findings)
    if claim.key not in OF_DATA or claim.task not in findings.limited_by_training:
        return outcome
    if outcome.verdict not in (Verdict.SUPPORTS, Verdict.CONTRADICTS):
        return outcome
    reason = "repeated jets do as well as fresh ones here, so that the single pass is limited by training, not by data"
    return replace(outcome, verdict=Verdict.CANNOT_TELL, reason=reason)


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "alpha",
        "In a single pass the loss of taggers falls with model size as N^-0.44",
        VIGL, "tagging", "single pass",
        "0.11, a quarter of the exponent",
        tagging.exponent("alpha", 0.11),
    ),
    Claim(
        "beta",
        "In a single pass the loss of taggers falls with data as D^-0.22",
        VIGL, "tagging", "single pass",
        "0.055, a quarter of the exponent",
        tagging.exponent("beta", tagging.BETA_MARGIN),
    ),
    Claim(
        "a",
        "In a single pass the compute-optimal size grows as C^0.33",
        VIGL, "tagging", "single pass",
        "0.1, about half of what separates .33 from the .52 of arXiv:2606.19781 for the same task",
        tagging.exponent("a", 0.1),
    ),
    Claim(
        "L_inf",
        "The loss has a floor of 0.32 nats with 21 features and 128 particles",
        VIGL, "tagging", "single pass",
        "0.03 nats, the published error; compared for the same jets only",
        tagging.floor,
    ),
    Claim(
        "tagging: N",
        "In a single pass the loss of taggers falls with model size at equal data",
        VIGL, "tagging", "single pass",
        "a thousandth of a nat per decade, over at least one and a half decades of N",
        lambda f: falls.falls_with_size(f.tagging_steps),
    ),
    Claim(
        "tagging: D",
        "In a single pass the loss of taggers falls with data at equal size",
        VIGL, "tagging", "single pass",
        "a thousandth of a nat per decade, in the last doubling of the largest size",
        lambda f: falls.falls_with_data(f.tagging_steps),
    ),
    Claim(
        "lambda",
        "Repeated data overfit above N ~ U^0.47",
        VIGL, "tagging", "repeated",
        "0.12, a quarter of the exponent",
        tagging.threshold,
    ),
    Claim(
        "independent of N",
        "Above the threshold the early-stopped loss on repeated data does not depend on N",
        VIGL, "tagging", "repeated",
        "a fifth of the slope with unique data, per decade each",
        tagging.independent_of_size,
    ),
    Claim(
        "beta_rep",
        "Unique data that are repeated improve the loss with about the exponent of a single pass",
        VIGL, "tagging", "repeated",
        "0.055, a quarter of the published exponent",
        tagging.beta_rep,
    ),
    Claim(
        "cost",
        "Repeated data take about ten times the compute of the compute-optimal single pass to the same loss",
        VIGL, "tagging", "repeated",
        "a factor of 3: 'about ten'",
        tagging.cost,
    ),
    Claim(
        "inputs",
        "Inputs move the floor of the loss on repeated data, not the slope",
        VIGL, "tagging", "repeated",
        "0.07, a third of the published exponent; the published ones range over .21 to .26",
        tagging.inputs,
    ),
    Claim(
        "R(L)",
        "Background rejection is A exp(B L) + C of the loss",
        VIGL, "tagging", "",
        "20 % of scatter beyond statistics, over rejections that differ by a factor of 3 or more",
        tagging.rejection,
    ),
    Claim(
        "a from scratch",
        "From scratch the compute-optimal size grows as C^0.52 by IsoFLOP",
        USLU, "tagging", "single pass",
        "0.1, about half of what separates .52 from the .33 of arXiv:2602.15781 for the same task",
        tagging.isoflop,
    ),
    Claim(
        "generation: N",
        "In a single pass the loss of next-token prediction falls with model size as in language models",
        AMRAM, "generation", "single pass",
        "a thousandth of a nat per token and decade, over at least one and a half decades of N",
        lambda f: falls.falls_with_size(f.generation_steps),
    ),
    Claim(
        "generation: D",
        "In a single pass it falls much more weakly with data than with size",
        AMRAM, "generation", "single pass",
        "a factor of two for 'much more weakly', one for the contrary; at the largest size and data trained",
        generation.weaker_with_data,
    ),
    Claim(
        "generation: SWD",
        "The sliced Wasserstein distance of five observables is monotonic in the loss",
        AMRAM, "generation", "",
        "every step of a chain of four or more models from the highest loss to the lowest is resolved",
        generation.monotonic,
    ),
    Claim(
        "generation: window",
        "The learnable window of jets is small",
        AMRAM, "generation", "",
        "none: the paper's formula is not accessible, and a share of the information depends on the codebook",
        generation.window,
    ),
)  # fmt: skip
