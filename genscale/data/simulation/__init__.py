"""Jets simulated from nothing: hard process and shower, detector, clustering, jet store.

The way of an event is `processes` (what collides) -> `shower` (Pythia 8) -> `detector` (a parametrised
CMS-like detector) -> `clustering` (anti-kT jets and their substructure) -> `run` (shards of a jet store).
Pythia 8 and FastJet are imported only when events are made.
"""

from genscale.data.simulation.run import simulate
from genscale.data.simulation.shard import simulate_shard

__all__ = ["simulate", "simulate_shard"]
