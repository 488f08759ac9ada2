"""The ten JetClass classes as Pythia 8 hard processes with forced decays.

The hard processes of JetClass (Qu, Li and Qian, arXiv:2202.03772) come from MadGraph5_aMC@NLO; here they are Pythia's
own leading-order processes. Each is the simplest 2 -> 2 scattering that gives a clean large-radius jet of its class:

=========  ==============================================  =======================================
class      process                                         jets wanted from
=========  ==============================================  =======================================
QCD        q qbar -> Z g, q g -> Z q, Z -> nu nu           the parton recoiling against the Z
H...       q qbar -> H Z, Z -> nu nu                       the Higgs boson
Zqq        q qbar -> Z Z, both hadronic                    both Z bosons
Wqq        q qbar -> W W, both hadronic                    both W bosons
Tbqq       g g, q qbar -> t tbar, both W hadronic          both tops
Tbl        g g, q qbar -> t tbar, both W to e or mu        both tops
=========  ==============================================  =======================================
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from genscale.data.schema import CLASSES
from genscale.errors import InputError

#: Settings of all processes. Particles that would decay beyond the calorimeter's inner face are not decayed and are
#: measured there; those that decay before it (K0S, Lambda, ...) have displaced vertices, as in JetClass.
COMMON: Final = (
    "Beams:idA = 2212",
    "Beams:idB = 2212",
    "Beams:eCM = 13000.",
    "ParticleDecays:limitCylinder = on",
    "ParticleDecays:xyMax = 1290.",
    "ParticleDecays:zMax = 3000.",
)

#: Minimal pT of the hard scattering for jets of 500 GeV and more.
PT_HAT_MIN_GEV: Final = 400.0

_Z_INVISIBLE = ("23:onMode = off", "23:onIfAny = 12 14 16")
_W_TO_QUARKS = ("24:onMode = off", "24:onIfAny = 1 2 3 4 5")
_HZ = ("HiggsSM:ffbar2HZ = on", *_Z_INVISIBLE, "25:m0 = 125.", "25:onMode = off")
_TTBAR = ("Top:gg2ttbar = on", "Top:qqbar2ttbar = on")


@dataclass(frozen=True)
class Process:
    """The process that makes the jets of one class.

    Attributes
    ----------
    name : str
        Class name of the schema.
    settings : tuple of str
        Pythia settings of the hard process and of the forced decays.
    pt_hat_min_gev : float
        Minimal transverse momentum of the hard scattering: a fifth below the window of jets, except where a neutrino
        carries part of it. Radiation lifts few jets from below this cut into the window (3 to 6 %, measured per class
        in `docs/simulation.md`); with a lower cut most events would be useless.
    resonance : int or None
        PDG code of the particle whose decay makes the jet; None for QCD.
    variants : tuple of tuples of str
        Further settings that are used in turn, batch by batch; one empty variant unless a decay has to be forced
        differently for the two charges.
    """

    name: str
    settings: tuple[str, ...]
    pt_hat_min_gev: float
    resonance: int | None
    variants: tuple[tuple[str, ...], ...] = ((),)

    @property
    def label(self) -> int:
        """Class index."""
        return CLASSES.index(self.name)

    def lines(self, mpi: bool, variant: int = 0) -> tuple[str, ...]:
        """Return all Pythia settings of this process except the seed."""
        return (
            *COMMON,
            f"PartonLevel:MPI = {'on' if mpi else 'off'}",
            f"PhaseSpace:pTHatMin = {self.pt_hat_min_gev}",
            *self.settings,
            *self.variants[variant],
        )


#: One W decays to quarks and the other to e or mu. The two charges alternate, so that the charge of the lepton does not
#: reveal the class.
_W_SEMILEPTONIC = (
    ("24:onMode = off", "24:onPosIfAny = 1 2 3 4 5", "24:onNegIfAny = 11 13"),
    ("24:onMode = off", "24:onNegIfAny = 1 2 3 4 5", "24:onPosIfAny = 11 13"),
)

PROCESSES: Final[dict[str, Process]] = {
    process.name: process
    for process in (
        Process(
            "QCD",
            (
                "WeakBosonAndParton:qqbar2gmZg = on",
                "WeakBosonAndParton:qg2gmZq = on",
                "WeakZ0:gmZmode = 2",
                *_Z_INVISIBLE,
            ),
            PT_HAT_MIN_GEV,
            None,
        ),
        Process("Hbb", (*_HZ, "25:onIfMatch = 5 -5"), PT_HAT_MIN_GEV, 25),
        Process("Hcc", (*_HZ, "25:onIfMatch = 4 -4"), PT_HAT_MIN_GEV, 25),
        Process("Hgg", (*_HZ, "25:onIfMatch = 21 21"), PT_HAT_MIN_GEV, 25),
        Process("H4q", (*_HZ, "25:onIfMatch = 24 -24", *_W_TO_QUARKS), PT_HAT_MIN_GEV, 25),
        Process("Hqql", (*_HZ, "25:onIfMatch = 24 -24"), 450.0, 25, _W_SEMILEPTONIC),
        Process(
            "Zqq",
            (
                "WeakDoubleBoson:ffbar2gmZgmZ = on",
                "WeakZ0:gmZmode = 2",
                "23:onMode = off",
                "23:onIfAny = 1 2 3 4 5",
            ),
            PT_HAT_MIN_GEV,
            23,
        ),
        Process("Wqq", ("WeakDoubleBoson:ffbar2WW = on", *_W_TO_QUARKS), PT_HAT_MIN_GEV, 24),
        Process("Tbqq", (*_TTBAR, *_W_TO_QUARKS), PT_HAT_MIN_GEV, 6),
        Process("Tbl", (*_TTBAR, "24:onMode = off", "24:onIfAny = 11 13"), PT_HAT_MIN_GEV, 6),
    )
}


def find_processes(names: Sequence[str]) -> list[Process]:
    """Return the processes of the classes `names`, in the given order.

    Parameters
    ----------
    names : sequence of str
        Class names of the schema.

    Returns
    -------
    list of Process

    Raises
    ------
    InputError
        A name is unknown (the message gives the nearest one) or repeated, or there are no names.
    """
    if not names:
        raise InputError(f"no class was asked for; known classes are {', '.join(CLASSES)}")
    for name in names:
        if name not in PROCESSES:
            known = {candidate.lower(): candidate for candidate in CLASSES}
            near = difflib.get_close_matches(str(name).lower(), known, n=1, cutoff=0.4)
            hint = f"; did you mean {known[near[0]]}?" if near else ""
            raise InputError(f"class {name!r} is unknown{hint} (known: {', '.join(CLASSES)})")
    if len(set(names)) < len(names):
        raise InputError(f"classes {', '.join(names)}: each may be named once")
    return [PROCESSES[name] for name in names]
