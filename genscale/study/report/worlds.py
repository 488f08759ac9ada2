"""What the fits found in a world whose limits are known, beside the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from eval.common.results import Estimate, Unavailable
from genscale.files import read_json
from genscale.pages import Picture, Section, Table
from genscale.study.cells import FLOORS
from genscale.study.results.laws import windows
from genscale.study.results.study import TASKS, UNIT, Study
from genscale.worlds.closure import Closure, Found
from genscale.worlds.page import span_figure

CLOSURE_FILE = "known-limits.json"


def section(study: Study) -> Section | None:
    """Laws, spans, coverage and verdicts of each task beside the truth; None for jets that are not of a world."""
    found = study.closures
    if not found:
        return None
    known = {task: closure for task, closure in found.items() if isinstance(closure, Closure)}
    tables = [
        _floors(study),
        _window(study, known),
        *(t for task, closure in known.items() for t in _tables(task, closure)),
    ]
    return Section(
        "Known limits",
        found=[_sentence(task, closure) for task, closure in known.items()],
        cautions=[
            f"{task.capitalize()}: losses of {', '.join(closure.leaks)} lie below the floor, which no model "
            "can reach on jets that it has not seen: held-out jets leaked into the training, or the loss is wrong."
            for task, closure in known.items()
            if closure.leaks
        ],
        figures=[
            Picture(
                f"known_limits_{task}", f"Fitted floor of {task}",
                "The fitted L_inf with its 68 and 95 % intervals, for all points and for grids that end earlier, begin "
                "later or lack the largest sizes. The line is the truth, and the dashed line the lowest loss.",
                span_figure(closure, UNIT[TASKS[task]]),
            )
            for task, closure in known.items()
        ],
        tables=tables if known else [],
        data={CLOSURE_FILE: {task: asdict(closure) for task, closure in known.items()}} if known else {},
        text=[f"{task.capitalize()}: {why}." for task, why in found.items() if isinstance(why, Unavailable)],
        summary=[_sentence(task, closure) for task, closure in known.items()],
    )  # fmt: skip


def _sentence(task: str, closure: Closure) -> str:
    best, truth = closure.laws[0], closure.truth
    text = (
        f"{task.capitalize()} in a world with a floor of {truth.floor:.4f} nats: {best.name} gives L_inf = "
        f"{best.params['E'].text()}, {abs(best.bias):.4f} too {'high' if best.bias > 0 else 'low'}"
    )
    if not closure.grids:
        return f"{text}."
    return (
        f"{text}; over {len(closure.grids)} smaller grids the 95 % interval holds the floor in "
        f"{closure.coverage('ci95'):.0%}, that of the verdicts in {closure.coverage('ci95', judged=True):.0%}."
    )


def _floors(study: Study) -> Table:
    """Floors of the world beside those of the held-out jets."""
    floors = read_json(study.folder / FLOORS / "floors.json")
    keys = [key for key in floors if "_nats" in key and isinstance(floors[key], dict)]
    return Table(
        "Floors",
        f"What no model can do better than, over all jets of the world. The class depends on {floors['shown']}.",
        ("floor", "nats", "error"),
        [[key, f"{floors[key]['value']:.6f}", f"{floors[key]['error']:.1g}"] for key in keys],
    )


def _window(study: Study, known: dict[str, Closure]) -> Table:
    """Learnable windows as fitted, and as they are."""
    found = windows(study.laws)
    rows = []
    for task, closure in known.items():
        if task not in found:
            continue
        level, floor = found[task].main, closure.truth.floor
        rows.append([
            task, level.name, level.window.text(), f"{level.reference - floor:.4f}", f"{level.reached.value:.1%}",
            f"{(level.reference - closure.lowest_loss) / (level.reference - floor):.1%}",
        ])  # fmt: skip
    return Table(
        "Known windows",
        "The learnable window below the reference level and its occupancy by the best run, as fitted and with the true "
        "floor.",
        ("task", "reference", "window", "true window", "filled", "truly filled"),
        rows,
    )


def _tables(task: str, closure: Closure) -> list[Table]:
    truth = closure.truth
    exponents = "".join(
        f" An ideal learner has {name} = {value:.3g}."
        for name, value in (("alpha", truth.alpha), ("beta", truth.beta))
        if value is not None
    )
    return [
        _fits(
            f"Known limits of {task}",
            f"Every law fitted to all points. The true L_inf, of the held-out jets, is {truth.floor:.5f}.{exponents}",
            closure.laws,
        ),
        _fits(
            f"Bias against the span of {task}",
            "L(N, D) fitted to grids that end earlier in D, begin later, or lack the largest sizes.",
            closure.spans,
        ),
        _shares(task, closure),
    ]


def _fits(title: str, caption: str, rows: Sequence[Found]) -> Table:
    return Table.of(
        title,
        caption,
        rows,
        [
            ("fit", lambda f: f.name),
            ("points", lambda f: str(f.n_points)),
            ("decades of N", lambda f: f"{f.decades['N']:.1f}"),
            ("decades of D", lambda f: f"{f.decades['D']:.1f}"),
            ("L_inf", lambda f: _number(f.params.get("E"))),
            ("bias", lambda f: f"{f.bias:+.4f}"),
            ("95 % holds it", lambda f: "yes" if f.covered["ci95"] else "no"),
            ("alpha", lambda f: _number(f.params.get("alpha"))),
            ("beta", lambda f: _number(f.params.get("beta"))),
        ],
    )


def _number(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    return estimate.text() + (" n. i." if estimate.identified is False else "")


def _shares(task: str, closure: Closure) -> Table:
    """Coverage, wrong verdicts and guards over smaller grids."""
    grids = closure.grids
    biases = [f.bias for f in grids] or [float("nan")]
    rows: list[tuple[str, Any]] = [
        ("smaller grids", str(len(grids))),
        ("grids that could not be fitted", str(closure.failed)),
        ("median bias of L_inf", f"{np.median(biases):+.4f}"),
        ("bias of 68 % of them", f"{np.quantile(biases, 0.16):+.4f} to {np.quantile(biases, 0.84):+.4f}"),
        ("68 % intervals that hold the floor", f"{closure.coverage('ci68'):.0%}"),
        ("95 % intervals that hold the floor", f"{closure.coverage('ci95'):.0%}"),
        ("95 % intervals of verdicts that hold it", f"{closure.coverage('ci95', judged=True):.0%}"),
        *(
            (f"verdicts on a floor that is {name}", f"{share:.0%}")
            for name, share in closure.verdicts.items()
        ),
        *((f"wrong fits caught by: {guard}", f"{share:.0%}") for guard, share in closure.caught().items()),
    ]
    return Table(
        f"Coverage of {task}",
        "Over smaller grids, which share runs: how often intervals hold the true floor, how often verdicts on "
        "statements about it are wrong, and which guards warn of fits whose 95 % interval misses it.",
        ("quantity", "value"),
        rows,
    )
