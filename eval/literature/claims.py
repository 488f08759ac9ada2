"""What a study's own measurements say about the claims of the literature: support, contradict, or cannot tell.

One rule for all claims about a number (`eval.literature.verdicts`), and for each the difference that would matter.

Margins are this project's choice and stand beside each claim with their reason. Exponents are compared across data
sets; floors and amplitudes only for the same jets, inputs and classes, since they change with each of these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from eval.fidelity.loss import LossFidelity
from eval.literature.values import AMRAM, USLU, VIGL, published
from eval.literature.verdicts import Verdict, because, compare, verdict_of, with_interval
from eval.results import Estimate, interval
from eval.scaling.misfit import Misfit
from eval.scaling.repetition.fit import RepeatedData
from eval.scaling.repetition.inputs import InputComparison
from eval.scaling.repetition.threshold import Threshold
from eval.scaling.result import FitResult
from eval.scaling.uncertainty import MIN_GROUPS, POINTS_OF_FEW_GROUPS
from eval.scaling.window import WindowResult
from eval.tagging.law import RejectionLaw

FloatArray = NDArray[np.float64]

#: Share of the loss per decade below which a fall is none. The amplitudes of the laws cannot be negative, so even a
#: term that is absent leaves a tiny fall in every resample: an interval above zero would always be found.
NO_FALL = 1e-3

#: Ratio of the falls with data and with size below which one is much weaker than the other.
MUCH_WEAKER = 0.5


@dataclass(frozen=True)
class Findings:
    """What one study measured; None, or empty, where it did not.

    Attributes
    ----------
    tagging : FitResult or None
        Single-epoch L(N, D).
    isoflop_a : Estimate or None
        Exponent of N* ~ C^a by approach 2, from scratch.
    repetition : RepeatedData or None
    threshold : Threshold or None
    inputs : InputComparison or None
    rejection : mapping of str to RejectionLaw
        One a signal class.
    generation : FitResult or None
        L(N, D) of generators.
    loss_fidelity : LossFidelity or None
    windows : mapping of str to WindowResult
        Keys "generation" and "tagging".
    misfits : mapping of str to Misfit
        How well the laws of N and D describe their points; keys "generation" and "tagging".
    same_jets : bool
        Whether jets, classes and inputs are those of the papers (JetClass): only then are losses compared.
    """

    tagging: FitResult | None = None
    isoflop_a: Estimate | None = None
    repetition: RepeatedData | None = None
    threshold: Threshold | None = None
    inputs: InputComparison | None = None
    rejection: Mapping[str, RejectionLaw] = field(default_factory=dict)
    generation: FitResult | None = None
    loss_fidelity: LossFidelity | None = None
    windows: Mapping[str, WindowResult] = field(default_factory=dict)
    misfits: Mapping[str, Misfit] = field(default_factory=dict)
    same_jets: bool = False


@dataclass(frozen=True)
class Claim:
    """A published claim and how it is judged.

    Attributes
    ----------
    key, text, source : str
    margin : str
        The difference that would matter, and why, in words.
    judge : callable
        From ``Findings`` to a verdict and the sentence that says why, with its numbers.
    """

    key: str
    text: str
    source: str
    margin: str
    judge: Callable[[Findings], tuple[Verdict, str]]


@dataclass(frozen=True)
class Judgement:
    """A claim with the verdict of one study."""

    claim: Claim
    verdict: Verdict
    why: str

    def to_dict(self) -> dict[str, str]:
        """Plain form for JSON."""
        claim = self.claim
        return {
            "key": claim.key,
            "claim": claim.text,
            "source": claim.source,
            "margin": claim.margin,
            "verdict": self.verdict,
            "why": self.why,
        }


def judge(findings: Findings) -> list[Judgement]:
    """Verdict on every claim, in the order of ``CLAIMS``."""
    return [Judgement(claim, *claim.judge(findings)) for claim in CLAIMS]


def _law(f: Findings, task: Literal["generation", "tagging"]) -> FitResult | str:
    """The single-epoch law of N and D, or why none can be judged by."""
    law = f.generation if task == "generation" else f.tagging
    if law is None or law.samples is None:
        return f"no single-epoch law of N and D was fitted for {task}"
    if law.bootstrap_unit == POINTS_OF_FEW_GROUPS:
        return (
            f"fewer than {MIN_GROUPS} runs were fitted, too few to be resampled whole: intervals of points that share "
            "a run's noise are too short to judge by"
        )
    return _undescribed(f, task) or law


def _undescribed(f: Findings, task: Literal["generation", "tagging"]) -> str | None:
    """Why the single-epoch law must not be built upon, if it misses its points."""
    misfit = f.misfits.get(task)
    if misfit is None or misfit.describes:
        return None
    return f"single epoch: {misfit}"


# -- Vigl et al.: tagging --------------------------------------------------------------------------------------


def _exponent(key: str, margin: float) -> Callable[[Findings], tuple[Verdict, str]]:
    def judged(f: Findings) -> tuple[Verdict, str]:
        law = _law(f, "tagging")
        if isinstance(law, str):
            return "cannot tell", law
        ours = {**law.params, **law.derived}[key]
        return compare(key, ours, published(key), margin)

    return judged


def _floor(f: Findings) -> tuple[Verdict, str]:
    law = _law(f, "tagging")
    if isinstance(law, str):
        return "cannot tell", law
    ours = law.params["E"]
    if not f.same_jets:
        return "cannot tell", (
            f"L_inf = {with_interval(ours)} here belongs to other jets than the published 0.32 [0.29, 0.34]: floors of "
            "different simulations, selections or inputs are different numbers"
        )
    return compare("L_inf", ours, published("L_inf"), 0.03)


def _lambda(f: Findings) -> tuple[Verdict, str]:
    if f.threshold is None:
        return "cannot tell", "no overfitting threshold was measured"
    return compare("lambda", f.threshold.exponent, published("lambda"), 0.12)


def _beta_rep(f: Findings) -> tuple[Verdict, str]:
    if f.repetition is None or f.repetition.beta_difference is None or f.repetition.single is None:
        return "cannot tell", "repeated data and a single epoch were not both fitted"
    if why := _undescribed(f, "tagging"):
        return "cannot tell", why
    difference, single = f.repetition.beta_difference, f.repetition.single.params["beta"]
    margin = single.value / 4
    verdict = verdict_of(difference, margin)
    numbers = (
        f"beta_rep = {with_interval(f.repetition.fit.params['beta'])}, beta = {with_interval(single)}, difference "
        f"{with_interval(difference)}, margin {margin:.2g}"
    )
    return verdict, f"{numbers}: {because(difference, verdict, margin)}"


def _independent_of_size(f: Findings) -> tuple[Verdict, str]:
    if f.repetition is None:
        return "cannot tell", "no law of repeated data was fitted"
    slope = f.repetition.size_slope
    runs = int(f.repetition.above.sum())
    if not np.isfinite(slope.value):
        return "cannot tell", f"above the threshold ({runs} runs): {slope.reason}"
    verdict = verdict_of(slope, 0.2)
    return verdict, (
        f"above the threshold ({runs} runs) the loss falls by {with_interval(slope)} times as much per decade of N as "
        f"per decade of unique jets, margin 0.2: {because(slope, verdict, 0.2)}"
    )


def _cost(f: Findings) -> tuple[Verdict, str]:
    if f.repetition is None or f.repetition.mean_cost is None:
        return "cannot tell", "compute of repeated training was not measured beside a single-epoch law"
    if why := _undescribed(f, "tagging"):
        return "cannot tell", why
    cost = f.repetition.mean_cost
    if cost.identified is False or cost.ci95 is None or not cost.value > 0:
        return "cannot tell", f"the compute ratio is not identified ({cost.reason})"
    low, high = cost.ci95
    decades = Estimate(
        float(np.log10(cost.value / 10)), None, (float(np.log10(low / 10)), float(np.log10(high / 10))), True
    )
    margin = float(np.log10(3))
    verdict = verdict_of(decades, margin)
    return verdict, (
        f"the cheapest runs above the threshold took {with_interval(cost)} times the compute-optimal compute of their "
        f"loss, published about 10, margin a factor of 3: {because(decades, verdict, margin)} (in decades)"
    )


def _inputs(f: Findings) -> tuple[Verdict, str]:
    c = f.inputs
    if c is None:
        return "cannot tell", "input configurations were not compared"
    margin = c.slopes.mean.value / 3
    slopes = {verdict_of(d, margin) for d in c.slope_differences.values()}
    floors = [d for d in c.floor_differences.values() if d.ci95 is not None and d.identified is not False]
    moved = [d for d in floors if d.ci95 is not None and (d.ci95[0] > 0 or d.ci95[1] < 0)]
    largest = max((abs(d.value) for d in floors), default=0.0)
    width = max(
        (0.5 * float(np.ptp(d.ci95)) for d in c.slope_differences.values() if d.ci95 is not None),
        default=float("nan"),
    )
    numbers = (
        f"{len(c.fits)} configurations: common beta = {with_interval(c.slopes.mean)} with p = {c.slopes.p_value:.2g}, "
        f"every difference known to ±{width:.2g} or better, margin {margin:.2g}; of {len(c.floor_differences)} "
        f"differences of floors at the common beta {len(floors)} are identified, up to {largest:.2g} nats, "
        f"{len(moved)} resolved (p = {c.shared_floors.p_value:.2g})"
    )
    if "contradicts" in slopes:
        return "contradicts", f"{numbers}: exponents differ by more than the margin"
    if slopes == {"supports"} and moved and c.shared_floors.p_value < 0.01:
        return "supports", f"{numbers}: floors move, exponents do not"
    if slopes == {"supports"} and len(floors) == len(c.floor_differences) and not moved:
        return "cannot tell", f"{numbers}: exponents agree, but no floor moved that could tell"
    return "cannot tell", f"{numbers}: the exponents are not known well enough"


def _rejection(f: Findings) -> tuple[Verdict, str]:
    usable = {n: law for n, law in f.rejection.items() if law.fit.params["B"].identified}
    if not usable:
        return "cannot tell", (
            "no class has an identified R(L)"
            if f.rejection
            else "rejections of several taggers were not measured"
        )
    tested = {n: law for n, law in usable.items() if _log_range(law) > np.log(3)}
    if not tested:
        return "cannot tell", "the rejections differ by less than a factor of 3: any smooth curve would fit"
    limit = 0.01 / len(tested)
    bad = {n: law for n, law in tested.items() if law.p_value < limit and law.scatter > 0.2}
    good = {n: law for n, law in tested.items() if law.p_value > limit or law.scatter < 0.1}
    worst = max(tested.values(), key=lambda law: law.scatter)
    numbers = (
        f"{len(good)} of {len(tested)} classes follow the law within errors or 10 %; worst {worst.name}: scatter "
        f"{100 * worst.scatter:.0f} % beyond statistics, chi2 = {worst.chi2:.1f} for {worst.dof} degrees of freedom"
    )
    unused = len(f.rejection) - len(tested)
    numbers += f"; {unused} classes have too few data" if unused else ""
    if len(bad) > len(tested) / 2:
        return "contradicts", numbers
    precise = [n for n, law in good.items() if float(np.median(law.error)) < 0.2]
    if not bad and len(good) == len(tested) and len(precise) >= len(tested) / 2:
        return "supports", numbers
    return "cannot tell", numbers + f"; {len(precise)} classes are measured to better than 20 % a tagger"


def _log_range(law: RejectionLaw) -> float:
    fitted = law.fit.predict(L=law.loss)
    return float(np.log(fitted.max() / fitted.min()))


# -- Uslu et al. -----------------------------------------------------------------------------------------------


def _uslu(f: Findings) -> tuple[Verdict, str]:
    if f.isoflop_a is None:
        return "cannot tell", "no IsoFLOP exponent was measured"
    return compare("a (IsoFLOP)", f.isoflop_a, published("a_isoflop", USLU, "from scratch"), 0.1)


# -- Amram et al.: generation ----------------------------------------------------------------------------------


def _falls_with_size(f: Findings) -> tuple[Verdict, str]:
    g = _law(f, "generation")
    if isinstance(g, str):
        return "cannot tell", g
    fall = _fall_per_decade(g, "N")
    span = np.log10(g.data_window["N"][1] / g.data_window["N"][0])
    text = (
        f"at the largest D the fitted loss falls by {with_interval(fall)} nats per token per decade of N in the "
        f"middle of {span:.1f} decades"
    )
    if fall.ci95 is None or span < 1.5:
        return "cannot tell", f"{text}: one and a half decades of N are the least that could show a law"
    least = NO_FALL * g.data_window["L"][0]
    if fall.ci95[0] > least:
        return "supports", f"{text}; whether as a power or a logarithm needs the ranking of laws"
    if fall.ci95[1] < least:
        return "contradicts", f"{text}: it does not fall"
    return "cannot tell", f"{text}: the interval holds {least:.2g}, a fall too small to matter"


def _weaker_with_data(f: Findings) -> tuple[Verdict, str]:
    g = _law(f, "generation")
    if isinstance(g, str):
        return "cannot tell", g
    by_n, by_d = _falls(g, "N"), _falls(g, "D")
    ratio = np.log10(by_d / by_n)
    low, high = interval(ratio[1:], 0.95)
    numbers = (
        f"per decade from the largest runs on, data lower the loss by {by_d[0]:.3g} and size by {by_n[0]:.3g} nats per "
        f"token; ratio {10 ** ratio[0]:.2g} [{10**low:.2g}, {10**high:.2g}]"
    )
    if high < np.log10(MUCH_WEAKER):
        return "supports", f"{numbers}: below {MUCH_WEAKER:g}"
    if low > 0:
        return "contradicts", f"{numbers}: above one (at these sizes and data; the paper goes to 10^8 jets)"
    return "cannot tell", f"{numbers}: neither below {MUCH_WEAKER:g} nor above one"


def _fall_per_decade(g: FitResult, variable: str) -> Estimate:
    """Fall by one decade about the middle of the trained range, the other variable at its largest."""
    low, high = g.data_window[variable]
    middle, other = np.sqrt(low * high), "D" if variable == "N" else "N"
    ends = np.array([middle / np.sqrt(10), middle * np.sqrt(10)])
    losses = g.law.predict(
        g.refits,
        **{variable: ends, other: np.full(2, g.data_window[other][1])},
    )
    falls = losses[:, 0] - losses[:, 1]
    return Estimate.from_samples(float(falls[0]), falls[1:])


def _falls(g: FitResult, variable: str) -> FloatArray:
    """Fall over the next decade beyond the largest run: best fit, then resamples; never quite zero."""
    corner = {name: g.data_window[name][1] for name in ("N", "D")}
    rows = g.refits
    here = g.law.predict(rows, N=corner["N"], D=corner["D"])
    corner[variable] *= 10
    # Two terms that are both absent are equal, whatever their last digits say.
    return np.maximum(here - g.law.predict(rows, N=corner["N"], D=corner["D"]), 1e-6 * here)


def _monotonic(f: Findings) -> tuple[Verdict, str]:
    if f.loss_fidelity is None:
        return "cannot tell", "loss and sliced Wasserstein distance of several generators were not compared"
    text = f.loss_fidelity.verdict
    first: tuple[Verdict, ...] = ("supports", "contradicts", "cannot tell")
    return next((word for word in first if text.startswith(word)), "cannot tell"), text


def _small_window(f: Findings) -> tuple[Verdict, str]:
    window = f.windows.get("generation")
    if window is None or not window.levels:
        return "cannot tell", "no learnable window of generation was fitted"
    name = "uniform" if "uniform" in window.levels else next(iter(window.levels))
    share, reference = window.levels[name].share, window.levels[name].reference
    text = f"below the {name} level the window is {with_interval(share)} of the reference"
    if window.floor.identified is False or share.ci95 is None:
        return "cannot tell", f"{text}, and L_inf is not identified ({window.floor.reason})"
    # The floor moves with the choice of points by more than its interval says, above all where the law misses them.
    floors = [e.ci95 for e in window.sensitivity.values() if e.ci95 is not None]
    low = min([share.ci95[0], *(1 - high / reference for _, high in floors)])
    high = max([share.ci95[1], *(1 - low / reference for low, _ in floors)])
    text += f", {low:.2g} to {high:.2g} over all choices of points"
    if high < 0.5:
        return "supports", f"{text}: less than half of the information is pattern"
    if low > 0.5:
        return "contradicts", f"{text}: more than half of the information is pattern"
    return "cannot tell", f"{text}: this range holds one half"


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "alpha",
        "The single-epoch loss falls with model size as N^-0.44",
        VIGL,
        "0.11, a quarter of the exponent",
        _exponent("alpha", 0.11),
    ),
    Claim(
        "beta",
        "The single-epoch loss falls with data as D^-0.22",
        VIGL,
        "0.055, a quarter of the exponent",
        _exponent("beta", 0.055),
    ),
    Claim(
        "a",
        "The compute-optimal size grows as C^0.33",
        VIGL,
        "0.1, about half of what separates .33 from the .52 of arXiv:2606.19781 for the same task",
        _exponent("a", 0.1),
    ),
    Claim(
        "L_inf",
        "The loss has a floor of 0.32 nats with 21 features and 128 particles",
        VIGL,
        "0.03 nats, the published error; compared for the same jets only",
        _floor,
    ),
    Claim(
        "lambda",
        "Repeated training overfits above N ~ U^0.47",
        VIGL,
        "0.12, a quarter of the exponent",
        _lambda,
    ),
    Claim(
        "independent of N",
        "Above the threshold the early-stopped loss does not depend on N",
        VIGL,
        "a fifth of the slope with data, per decade each",
        _independent_of_size,
    ),
    Claim(
        "beta_rep",
        "Repeated data improve the loss with about the exponent of fresh data",
        VIGL,
        "a quarter of the exponent",
        _beta_rep,
    ),
    Claim(
        "cost",
        "Repetition takes about ten times the compute of the compute-optimal path to the same loss",
        VIGL,
        "a factor of 3: 'about ten'",
        _cost,
    ),
    Claim(
        "inputs",
        "Inputs move the floor of the loss, not the slope",
        VIGL,
        "a third of the common exponent; the published ones range over .21 to .26",
        _inputs,
    ),
    Claim(
        "R(L)",
        "Background rejection is A exp(B L) + C of the loss",
        VIGL,
        "20 % of scatter beyond statistics, over rejections that differ by a factor of 3 or more",
        _rejection,
    ),
    Claim(
        "a from scratch",
        "From scratch the compute-optimal size grows as C^0.52 by IsoFLOP",
        USLU,
        "0.1, about half of what separates .52 from the .33 of arXiv:2602.15781 for the same task",
        _uslu,
    ),
    Claim(
        "generation: N",
        "The loss of next-token prediction falls with model size as in language models",
        AMRAM,
        "a thousandth of the loss per decade, over at least one and a half decades of N",
        _falls_with_size,
    ),
    Claim(
        "generation: D",
        "It falls much more weakly with data than with size",
        AMRAM,
        "a factor of two for 'much more weakly', one for the contrary; at the largest size and data trained",
        _weaker_with_data,
    ),
    Claim(
        "generation: SWD",
        "The sliced Wasserstein distance of five observables is monotonic in the loss",
        AMRAM,
        "none: ranks, and deviations from a rising curve",
        _monotonic,
    ),
    Claim(
        "generation: window",
        "The learnable window of jets is small",
        AMRAM,
        "half of the reference; the paper's own formula is not accessible, this is docs/glossary.md's",
        _small_window,
    ),
)
