"""The jets of a study: simulated, given as stores, or drawn from a world whose limits are known."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from genscale.data.schema import CLASSES
from genscale.data.simulation.processes import find_processes
from genscale.errors import require

#: Folder, within a study, of what is sampled from a world.
WORLD: Final = "world"


@dataclass(frozen=True)
class JetsConfig:
    """Where the jets come from.

    Attributes
    ----------
    stores : str
        Folder with jet stores ``train``, ``validation`` and ``test`` (``genscale convert`` makes them from JetClass
        files). If empty, jets are simulated.
    world : str
        Name of a world (``genscale world list``) whose jets and tokens are used instead.
    parameters : dict of str to Any
        Parameters of the world that differ from their defaults.
    classes : list of str
        Classes to simulate.
    train : int
        Number of training jets to simulate.
    validation : int
        Number of validation jets to simulate.
    test : int
        Number of test jets to simulate.
    mpi : bool
        Simulate multiparton interactions, which is more realistic and five times slower.
    seed : int
        Seed of the training jets; validation and test jets use the next two.
    rejection_of : dict of str to int
        Number of test jets of a class, where rejections need more of them than an equal share of ``test``. Taggers are
        then judged on a further store, ``rejection``, which has the seed of the test jets and their shares of the other
        classes. If ``stores`` is given, it must have that store, with whatever numbers of jets; without
        ``rejection_of`` the store is used if it is there.
    """

    stores: str = ""
    world: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    classes: list[str] = field(default_factory=lambda: list(CLASSES))
    train: int = 60_000
    validation: int = 6_000
    test: int = 6_000
    mpi: bool = True
    seed: int = 1
    rejection_of: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        find_processes(self.classes)
        for name, jets in self.rejection_of.items():
            require(
                name in self.classes,
                f"jets.rejection_of: {name} is not one of jets.classes ({', '.join(self.classes)})",
            )
            share = self.test // len(self.classes)
            require(
                jets > share,
                f"jets.rejection_of: {jets} jets of {name} are not more than its share of jets.test ({share})",
            )
        require(
            not self.world or not (self.stores or self.rejection_of),
            "jets.world: goes without jets.stores and jets.rejection_of",
        )
        require(bool(self.world) or not self.parameters, "jets.parameters: needs jets.world")
        least = 0 if self.stores else len(self.classes)
        for name in ("train", "validation", "test"):
            jets = getattr(self, name)
            require(jets >= least, f"jets.{name}: {jets} is less than one jet of each class")
        require(self.seed >= 0, f"jets.seed: {self.seed} is negative")

    @property
    def folder(self) -> str:
        """Folder of the stores, within that of the study or by itself."""
        return f"{WORLD}/jets" if self.world else self.stores or "jets"
