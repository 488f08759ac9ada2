"""Variations of a training: grids of keys and values, each combination of which is a run of a study.

A study can vary learning rates, batches or architectures, for example. Laws are not fitted to these runs.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from genscale.config import require

#: Keys of a run that the study itself sets.
_OF_STUDY: Final = ("jets", "tokens", "validation", "tokenizer")


@dataclass(frozen=True)
class Variation:
    """One run, given by the keys in which it differs from the stage of its task."""

    task: str
    name: str
    changes: dict[str, Any]

    @property
    def cell(self) -> str:
        """Id of the run's cell."""
        return f"variations/{self.task}/{self.name}"

    def applied_to(self, base: Mapping[str, Any]) -> dict[str, Any]:
        """Return the configuration of a run as a mapping, with the changes."""
        values = copy.deepcopy(dict(base))
        for key, value in self.changes.items():
            *parents, last = key.split(".")
            place = values
            for parent in parents:
                place = place.setdefault(parent, {})
            place[last] = value
        return values


@dataclass(frozen=True)
class Variations:
    """Runs that differ from their stage, by task.

    Each task has a list of grids. A grid maps dotted keys of the task's run (those of its files in ``configs/``) to
    lists of values and stands for their product; a run that is in two grids is trained once. Keys that no grid names
    have the values of the stage (``tagger``, ``generator`` or ``tokenizer``: its training, model and inputs, without
    its sizes and seeds), or the run's defaults.

    Attributes
    ----------
    tagger : list of dict
        Grids of taggers.
    generator : list of dict
        Grids of generators.
    tokenizer : list of dict
        Grids of tokenizers.
    """

    tagger: list[dict[str, list[Any]]] = field(default_factory=list)
    generator: list[dict[str, list[Any]]] = field(default_factory=list)
    tokenizer: list[dict[str, list[Any]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for task in ("tagger", "generator", "tokenizer"):
            for grid in getattr(self, task):
                for key, values in grid.items():
                    where = f"variations.{task}: {key}"
                    require(bool(values), f"{where}: no values; give a list of one or more")
                    require(key not in _OF_STUDY, f"{where}: is the study's own; vary other keys")
                    for value in values:
                        require("/" not in str(value), f"{where}: {value} cannot be part of a folder's name")
        list(self.runs())

    def runs(self) -> Iterator[Variation]:
        """Yield all runs, in the order of the grids and without repetitions.

        Yields
        ------
        Variation

        Raises
        ------
        InputError
            Two runs would have the same name, or one run would have two names.
        """
        for task in ("tokenizer", "generator", "tagger"):
            seen: dict[str, dict[str, Any]] = {}
            for changes in (c for grid in getattr(self, task) for c in _product(grid)):
                name = ",".join(f"{key.rpartition('.')[2]}={value}" for key, value in changes.items())
                if name in seen:
                    require(
                        seen[name] == changes,
                        f"variations.{task}: {seen[name]} and {changes} would both be called {name}",
                    )
                    continue
                require(
                    changes not in seen.values(),
                    f"variations.{task}: {changes} is there twice; give its keys in one order",
                )
                seen[name] = changes
                yield Variation(task, name, changes)


def _product(grid: Mapping[str, list[Any]]) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))
