"""How the claims about generators are judged: Amram et al. (arXiv:2605.28940)."""

from __future__ import annotations

from math import inf

from eval.literature.findings import Findings
from eval.literature.verdicts import Criterion, Outcome, Verdict
from eval.scaling.steps import UNREPEATED, ratio_interval

#: Ratio of the falls with data and with size below which one is much weaker than the other; above one it is not.
MUCH_WEAKER = 0.5


def weaker_with_data(f: Findings) -> Outcome:
    """Compare the last doubling of D with the last step of N, both at the largest N that saw the largest D."""
    steps = f.generation_steps
    if steps is None or steps.last_doubling is None or steps.last_size is None:
        return Outcome.unknown("single-pass runs of neighbouring sizes and data were not compared")
    data, size = steps.last_doubling, steps.last_size
    falls = [-step.change / step.decades for step in (data, size)]
    numbers = (
        f"at N = {data.other:.3g} and {data.high:,.0f} jets seen once the loss falls by {falls[0]:.3g} nats per token "
        f"per decade of jets (last doubling) and by {falls[1]:.3g} per decade of N (from {size.low:.3g})"
    )
    if not (data.dof > 0 and size.dof > 0):
        return Outcome.unknown(f"{numbers}; {UNREPEATED}")
    interval = ratio_interval(data, size)
    verdict = Criterion((-inf, MUCH_WEAKER), ((1.0, inf),)).verdict(interval)
    numbers += f"; ratio in [{interval[0]:.2g}, {interval[1]:.2g}]"
    reason = {
        Verdict.SUPPORTS: f"below {MUCH_WEAKER:g}",
        Verdict.CONTRADICTS: "above one (at these sizes and data; the paper goes to 10^8 jets)",
    }.get(verdict, f"neither below {MUCH_WEAKER:g} nor above one")
    return Outcome(verdict, numbers, reason, interval)


def monotonic(f: Findings) -> Outcome:
    """Whether the distance rises with the loss, by steps that are each resolved."""
    relation = f.loss_fidelity
    if relation is None:
        return Outcome.unknown("loss and sliced Wasserstein distance of several generators were not compared")
    numbers = f"Kendall's tau is {relation.kendall.value:.2f} over {relation.n_models} models"
    if relation.falls:
        return Outcome(
            Verdict.CONTRADICTS,
            numbers,
            f"deviations from a rising curve this large have probability {relation.p_monotone:.2g}",
        )
    if len(relation.chain) > 1:
        numbers += f"; rising, resolved over {', '.join(relation.chain)}"
    if relation.rises:
        return Outcome(
            Verdict.SUPPORTS, numbers, "from the highest loss to the lowest, and no deviation beyond errors"
        )
    return Outcome(Verdict.CANNOT_TELL, numbers, f"{relation.missing}, to tell")


def window(f: Findings) -> Outcome:
    """The share of the information that is pattern depends on the codebook, and is not judged."""
    reason = (
        "the share of the information that is pattern is not defined across tokenizers, because finer codes add the "
        "same to the reference and to the floor"
    )
    if f.window is None:
        return Outcome.inapplicable(reason)
    return Outcome.inapplicable(
        f"{f.window.text('ci95')} nats per jet lie below a table of bigrams, for which no number was published; "
        f"{reason}"
    )
