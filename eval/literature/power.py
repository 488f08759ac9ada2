"""The power of a study: its own fits and verdicts, applied to simulated tables of its design.

For every claim this gives the probabilities to support it and to contradict it, both where it holds and where it fails
by twice the difference that matters. A claim that is decided rightly with a probability below one half in both worlds
is not tested.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from tqdm import tqdm

from eval.common.errors import InputError
from eval.common.results import plain_fields
from eval.literature.claims import CLAIMS, LEAST_POWER
from eval.literature.design import Design, Noise
from eval.literature.findings import Findings
from eval.literature.measure import (
    isoflop_exponent,
    repeated_constants,
    single_pass_constants,
    single_pass_law,
)
from eval.literature.values import published
from eval.literature.verdicts import Verdict
from eval.literature.worlds import Simulated, World, simulate_study
from eval.scaling.repetition.inputs import compare_inputs
from eval.scaling.steps import paired_steps
from eval.tagging.law import fit_rejection_law

#: Scatter of ln L between seeds where no earlier study is given.
SCATTER = {"tagging": 0.02, "generation": 0.001}

#: Resamples behind the intervals of a simulated study.
BOOTSTRAP = 60

_ISOFLOP_A = 0.517

#: Where the published statements hold, and where they fail by two margins.
PUBLISHED = World()
OTHERWISE = World(
    alpha=PUBLISHED.alpha - 0.22, beta=PUBLISHED.beta + 0.11, size_exponent=PUBLISHED.size_exponent + 0.24,
    size_slope=0.4, beta_shift=0.22, cost=90.0, slopes_apart=0.14, rejection_scatter=0.4, by_size=0.01, by_data=0.02,
)  # fmt: skip
#: Where the compute-optimal size grows as Uslu et al. find it.
STEEPER = World(alpha=PUBLISHED.beta * (1 / _ISOFLOP_A - 1))
#: Where nothing depends on N or on D.
FLAT = World(terms=0.0, by_size=0.0, by_data=0.0)


@dataclass(frozen=True)
class ClaimPower:
    """What a study says about a claim in two worlds.

    Attributes
    ----------
    key : str
        Name of the claim.
    supports : float
        Probability to support the claim where it holds.
    wrongly_contradicts : float
        Probability to contradict it where it holds.
    contradicts : float
        Probability to contradict it where it fails.
    wrongly_supports : float
        Probability to support it where it fails.
    holds : str
        The world in which it holds, in words.
    fails : str
        The world in which it fails, in words.
    trials : int
        Number of simulated studies in each world.
    """

    key: str
    supports: float
    wrongly_contradicts: float
    contradicts: float
    wrongly_supports: float
    holds: str
    fails: str
    trials: int

    @property
    def power(self) -> float:
        """Probability of the right decision, in the world in which it is more likely."""
        return max(self.supports, self.contradicts)

    @property
    def tested(self) -> bool:
        """Whether the power is at least one half."""
        return self.power >= LEAST_POWER

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**plain_fields(self), "power": self.power, "tested": self.tested}


@dataclass(frozen=True)
class _Test:
    """Worlds in which a claim holds and fails, and what they are."""

    holds: str
    fails: str
    true: World
    false: World


def _tests() -> dict[str, _Test]:
    law = "the law of arXiv:2602.15781"
    p, o = PUBLISHED, OTHERWISE
    both = {
        "alpha": (law, f"alpha = {o.alpha:.2f}"),
        "beta": (law, f"beta = {o.beta:.2f}"),
        "a": (law, f"a = {o.beta / (o.alpha + o.beta):.2f}"),
        "lambda": (f"lambda = {p.size_exponent:.2f}", f"lambda = {o.size_exponent:.2f}"),
        "independent of N": ("no dependence on N", f"{o.size_slope:g} of the slope with unique jets"),
        "beta_rep": ("equal exponents", "exponents that differ by 0.11"),
        "cost": (f"{p.cost:g} times the compute", f"{o.cost:g} times the compute"),
        "inputs": (f"{law}", f"exponents up to {o.slopes_apart:g} apart"),
        "R(L)": (f"{p.rejection_scatter:.0%} of scatter", f"{o.rejection_scatter:.0%} of scatter"),
        "generation: D": (
            f"{p.by_data:g} nats per decade of D, {p.by_size:g} of N",
            f"{o.by_data:g} nats per decade of D, {o.by_size:g} of N",
        ),
    }
    tests = {key: _Test(*words, p, o) for key, words in both.items()}
    steep = f"a = {_ISOFLOP_A:g}"
    tests["a from scratch"] = _Test(steep, f"a = {published('a').value:g}", STEEPER, p)
    tests["tagging: N"] = tests["tagging: D"] = _Test(law, "nothing depends on N or D", p, FLAT)
    tests["generation: N"] = _Test(f"{p.by_size:g} nats per decade of N", "nothing depends on N", p, FLAT)
    return tests


TESTS: Mapping[str, _Test] = _tests()


def study_power(
    design: Design,
    noise: Mapping[str, Noise] | None = None,
    *,
    trials: int = 30,
    bootstrap: int = BOOTSTRAP,
    seed: int = 0,
    progress: bool = False,
) -> list[ClaimPower]:
    """Simulate a study in worlds in which claims hold and fail, and judge every simulation.

    Parameters
    ----------
    design : Design
    noise : mapping of str to Noise, optional
        Noise of "tagging" and "generation"; by default ``SCATTER``.
    trials : int
        Simulated studies in each world.
    bootstrap : int
        Resamples behind each interval.
    seed : int
    progress : bool
        Show a progress bar.

    Returns
    -------
    list of ClaimPower
        In the order of ``CLAIMS``, of the claims that the design measures anything about and that are simulated (the
        learnable window, the floor and the sliced Wasserstein distance are not).

    Raises
    ------
    InputError
        Fewer than one trial, or a design without runs.
    """
    if trials < 1:
        raise InputError(f"trials: {trials} is not at least 1")
    if not (design.tagging or design.generation):
        raise InputError("design: no runs of taggers or generators")
    noise = {**{task: Noise(scatter) for task, scatter in SCATTER.items()}, **(noise or {})}
    keys = list(_measured(design))
    worlds = list(dict.fromkeys(world for key in keys for world in (TESTS[key].true, TESTS[key].false)))
    verdicts: dict[tuple[World, str], list[Verdict]] = {}
    bar = tqdm(
        total=trials * len(worlds),
        desc="power",
        unit="study",
        disable=None if progress else True,
        leave=False,
    )
    wanted = {
        world: [key for key in keys if world in (TESTS[key].true, TESTS[key].false)] for world in worlds
    }
    parts = {world: _needed(design, wanted[world]) for world in worlds}
    judges = {claim.key: claim.judge for claim in CLAIMS}
    for trial in range(trials):
        for place, world in enumerate(worlds):
            rng = np.random.default_rng([seed, trial, place])
            found = findings_of(
                simulate_study(parts[world], world, noise, rng), design, wanted[world], bootstrap, trial
            )
            for key in wanted[world]:
                verdicts.setdefault((world, key), []).append(judges[key](found).verdict)
            bar.update()
    bar.close()

    def share(world: World, key: str, verdict: Verdict) -> float:
        return float(np.mean([v is verdict for v in verdicts[world, key]]))

    return [
        ClaimPower(
            key,
            share(TESTS[key].true, key, Verdict.SUPPORTS),
            share(TESTS[key].true, key, Verdict.CONTRADICTS),
            share(TESTS[key].false, key, Verdict.CONTRADICTS),
            share(TESTS[key].false, key, Verdict.SUPPORTS),
            TESTS[key].holds,
            TESTS[key].fails,
            trials,
        )
        for key in keys
    ]


def _measured(design: Design) -> Iterator[str]:
    """Claims that the design has runs for and that are simulated."""
    has = {
        "tagging": bool(design.tagging),
        "generation": bool(design.generation),
        "repeated": bool(design.repetition),
    }
    for claim in CLAIMS:
        if claim.key not in TESTS or not has[claim.task]:
            continue
        if claim.key == "inputs":
            if len(design.inputs) < 2:
                continue
        elif claim.data == "repeated" and not has["repeated"]:
            continue
        if claim.key == "R(L)" and not design.background:
            continue
        yield claim.key


def _needed(design: Design, wanted: list[str]) -> Design:
    """The design without runs on repeated data, if no wanted claim speaks of them."""
    repeated = {claim.key for claim in CLAIMS if claim.data == "repeated"}
    return design if repeated & set(wanted) else replace(design, repetition=(), inputs={})


def findings_of(study: Simulated, design: Design, wanted: list[str], bootstrap: int, seed: int) -> Findings:
    """What a simulated study finds, as far as the ``wanted`` claims need it."""
    options: dict[str, Any] = {"bootstrap": bootstrap, "seed": seed}
    need = set(wanted).__contains__
    tagging = study.tagging
    constants = (
        single_pass_constants(tagging, **options)
        if tagging is not None and any(map(need, ("alpha", "beta", "a")))
        else {}
    )
    threshold = repetition = None
    if study.repeated is not None and any(map(need, ("lambda", "independent of N", "beta_rep", "cost"))):
        single = None if tagging is None else single_pass_law(tagging, **options)
        threshold, repetition = repeated_constants(
            study.repeated, study.curves, study.stopped, single, **options
        )
    return Findings(
        tagging=constants,
        tagging_steps=None if tagging is None else paired_steps(tagging, doublings=2),
        generation_steps=None if study.generation is None else paired_steps(study.generation, doublings=2),
        isoflop_a=isoflop_exponent(tagging, **options)
        if tagging is not None and need("a from scratch")
        else None,
        threshold=threshold,
        repetition=repetition,
        inputs=_or_none(lambda: compare_inputs(study.inputs, **options)) if need("inputs") else None,
        rejection=_rejections(study, design, options) if need("R(L)") else {},
    )


def _rejections(study: Simulated, design: Design, options: Mapping[str, int]) -> dict[str, Any]:
    law = _or_none(
        lambda: fit_rejection_law(study.losses, study.kept, design.background, name="signal", **options)
    )
    return {} if law is None else {"signal": law}


def _or_none(make: Callable[[], Any]) -> Any:
    try:
        return make()
    except InputError:
        return None
