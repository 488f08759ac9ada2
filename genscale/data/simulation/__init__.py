"""Simulation of jets: hard process and shower, detector, clustering, jet store.

An event passes through `processes` (hard processes) -> `shower` (Pythia 8) -> `detector` (a parametrised CMS-like
detector) -> `clustering` (anti-kT jets and their substructure) -> `run` (shards of a jet store). Pythia 8 and FastJet
are imported only when events are generated.
"""

from genscale.data.simulation.run import simulate
from genscale.data.simulation.shard import simulate_shard

__all__ = ["simulate", "simulate_shard"]
