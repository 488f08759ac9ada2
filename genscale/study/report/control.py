"""What limits the losses of a study: its data, its training, or its recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from genscale.pages import Section, Table
from genscale.study.config import CONTROL_EPOCHS
from genscale.study.controls import CHANGES
from genscale.study.results.controls import Limit, RecipeDistance, RepetitionControl
from genscale.study.results.study import TASKS, UNIT, Study

CONTROL_FILE: Final = "control.json"


def section(study: Study) -> Section | None:
    """What limits the losses of the grids; None for a study without controls."""
    repeats, recipes = study.controls, study.recipes
    if not repeats and not recipes:
        return None
    tables = [_repeats(repeats)] if repeats else []
    tables += [_recipes(recipes)] if recipes else []
    return Section(
        "Controls",
        found=[
            *(limit_sentence(task, control) for task, control in repeats.items()),
            *_recipe_sentences(recipes),
        ],
        cautions=[
            f"{task.capitalize()}: no size has a second seed, so that the error of the repetition control is only that "
            "of the held-out jets, without the variation between seeds."
            for task, control in repeats.items()
            if not control.degrees
        ],
        tables=tables,
        data={
            CONTROL_FILE: {"repetition": {TASKS[task]: c for task, c in repeats.items()}, "recipe": recipes}
        },
    )


def limit_sentence(task: str, control: RepetitionControl) -> str:
    """Say what limits the loss, with the numbers."""
    measured = (
        f"{control.size} on {control.unique:,} jets seen {CONTROL_EPOCHS} times minus the same on {control.jets:,} "
        f"fresh jets: {control.difference:+.4f} ± {control.error:.4f} nats; from {control.unique:,} to "
        f"{control.jets:,} fresh jets the loss falls by {control.gain:.4f}"
    )
    name = task.capitalize()
    if control.limit is Limit.TRAINING:
        return (
            f"{name} is limited by training, not by data ({measured}). The dependence of the loss on the jets of a "
            "single pass is therefore a law of training, not of data."
        )
    if control.limit is Limit.DATA:
        share = 100 * control.difference / control.gain if control.gain > 0 else float("inf")
        part = (
            f"about {share:.0f} % of this fall needs new jets" if share < 100 else "this fall needs new jets"
        )
        return f"{name} is limited by data: {part} ({measured})."
    return f"{name}: these runs cannot tell whether data or training limit the loss ({measured})."


def _recipe_sentences(recipes: Sequence[RecipeDistance]) -> list[str]:
    lines = []
    for kind in dict.fromkeys(r.task for r in recipes):
        worst = max((r for r in recipes if r.task == kind), key=lambda r: r.distance)
        better = f", where {worst.best.replace('-', ' the ')} gives the lowest loss" if worst.best else ""
        lines.append(
            f"At the corners of the {kind} grid, the loss with the recipe of the grid is at most "
            f"{100 * worst.distance:.2f} % above the lowest with half or twice the batch or the learning rate "
            f"({worst.size} at {worst.jets:,} jets{better})."
        )
    return lines


def _repeats(repeats: Mapping[str, RepetitionControl]) -> Table:
    return Table.of(
        "Repeated jets beside fresh ones",
        "One size trained on a quarter of the jets, each seen four times, beside the runs of the grid on fresh jets, "
        "with the same number of steps, recipe and seeds. The gain is the fall of the loss on fresh jets after the "
        "first quarter of them. Losses are in nats per token (generation) or per jet (tagging).",
        repeats.items(),
        [
            ("task", lambda item: item[0]),
            ("size", lambda item: item[1].size),
            ("unique jets", lambda item: f"{item[1].unique:,}"),
            ("jets seen", lambda item: f"{item[1].jets:,}"),
            ("seeds", lambda item: str(len(item[1].fresh))),
            ("loss on repeated jets", lambda item: f"{np.mean(item[1].repeated):.4f}"),
            ("on fresh jets", lambda item: f"{np.mean(item[1].fresh):.4f}"),
            ("difference", lambda item: f"{item[1].difference:+.4f} ± {item[1].error:.4f}"),
            ("gain", lambda item: f"{item[1].gain:.4f}"),
            ("limited by", lambda item: str(item[1].limit)),
        ],
    )


def _recipes(recipes: Sequence[RecipeDistance]) -> Table:
    return Table.of(
        "Other recipes at the corners of the grid",
        "Held-out losses with half and twice the batch and the learning rate of the grid, one seed each, in nats per "
        f"{UNIT['generator']} (generator) or {UNIT['tagger']} (tagger). Differences smaller than the variation between "
        "seeds are not significant.",
        recipes,
        [
            ("task", lambda r: r.task),
            ("size", lambda r: r.size),
            ("jets", lambda r: f"{r.jets:,}"),
            ("recipe of the grid", lambda r: f"{r.loss:.4f}"),
            *((change.replace("-", " "), lambda r, c=change: f"{r.others[c]:.4f}") for change in CHANGES),
            ("above the best", lambda r: f"{100 * r.distance:.2f} %"),
        ],
    )
