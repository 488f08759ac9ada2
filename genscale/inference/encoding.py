"""Whether a tokenizer fits the jets that it is to encode: an error where it would lose what they consist of."""

from __future__ import annotations

from typing import Final

import awkward as ak
import numpy as np

from genscale.data.constituents import COLUMNS, constituents
from genscale.data.order import HELD_OUT_SEED, JetOrder
from genscale.data.store import JetStore
from genscale.errors import InputError
from tokenizer import Tokenizer

#: Share of the particles, and of the jets, that may be lost. Jets of a radius for which a tokenizer was made lose less
#: than a percent of their particles.
MOST_LOST: Final = 0.05

#: Jets that are looked at, a fixed choice over the whole store.
_LOOKED_AT: Final = 20_000


def require_fit(tokenizer: Tokenizer, store: JetStore) -> None:
    """Raise InputError if the tokenizer drops more than a few percent of the particles or empties as many jets."""
    n = min(len(store), _LOOKED_AT)
    if not n:
        return
    rows = np.sort(JetOrder(len(store), n, HELD_OUT_SEED)[0:n])
    particles = constituents(store.read(rows, columns=COLUMNS))
    given = ak.to_numpy(ak.num(particles.pt))
    kept = ak.to_numpy(ak.num(tokenizer.preprocessing.select(particles).pt))
    lost = 1 - float(kept.sum()) / float(given.sum()) if given.any() else 0.0
    emptied = float(np.mean(kept[given > 0] == 0)) if given.any() else 0.0
    if max(lost, emptied) > MOST_LOST:
        cuts = tokenizer.preprocessing
        raise InputError(
            f"{store.path}: the tokenizer drops {100 * lost:.1f} % of the particles and empties {100 * emptied:.1f} % "
            f"of the jets; it keeps the leading {cuts.max_constituents} particles with abs(eta_rel) and abs(phi_rel) "
            f"below {cuts.max_abs_angle:g}. Train one with other values of preprocessing, or give --accept-loss if "
            "this is what you want"
        )
