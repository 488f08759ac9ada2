"""Worlds whose limits are known: sources of labelled jets with exact likelihoods, by name.

A fitted floor of real jets can be checked against nothing. In a world, the floor of generation (an entropy) and the
floor of tagging (the cross-entropy of the Bayes classifier) are known, so that the same trainings, fits and verdicts
can be held against the truth (docs/known-limits.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from genscale.config import from_mapping, load_config
from genscale.errors import nearest, require
from genscale.worlds.facts import Facts, FactsControl
from genscale.worlds.hierarchy import Hierarchy
from genscale.worlds.lund import Lund
from genscale.worlds.markov import Markov
from genscale.worlds.teacher import Teacher
from genscale.worlds.world import Exact, Jets, World

__all__ = ["WORLDS", "Exact", "Jets", "World", "make_world"]

#: Every world by the name that the commands know it under.
WORLDS: Final[dict[str, type[World]]] = {
    world.name: world for world in (Markov, Facts, FactsControl, Hierarchy, Lund, Teacher)
}


def make_world(name: str, parameters: Sequence[str] | Mapping[str, Any] = ()) -> World:
    """Make a world from its name and the parameters that differ from their defaults.

    Parameters
    ----------
    name : str
        Key of `WORLDS`.
    parameters : sequence of str, or mapping of str to Any
        ``key=value`` as on the command line, or values by name.

    Returns
    -------
    World

    Raises
    ------
    InputError
        There is no such world or parameter, or a value is out of range.
    """
    require(name in WORLDS, f"no world {name!r}: known are {', '.join(WORLDS)}{nearest(name, list(WORLDS))}")
    if isinstance(parameters, Mapping):
        return from_mapping(WORLDS[name], parameters, f"world {name}")
    return load_config(WORLDS[name], None, parameters)
