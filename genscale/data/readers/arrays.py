"""Files of arrays (HDF5 datasets or NumPy arrays), of whatever layout: a `Source`.

The layouts, one a module, are recognised by the names and shapes of the arrays. `padded` takes any other file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

import awkward as ak

from genscale.data.readers.aspen import AspenJets
from genscale.data.readers.atlas_top import AtlasTopJets
from genscale.data.readers.base import Options
from genscale.data.readers.energyflow import EnergyFlowJets
from genscale.data.readers.jetnet import JetNetJets
from genscale.data.readers.padded import PaddedJets
from genscale.data.readers.top_landscape import TopLandscapeJets
from genscale.errors import InputError


class Layout(Protocol):
    """Jets in arrays of one layout, made from the path (for messages), the arrays and the options."""

    rows: int
    columns: tuple[str, ...]

    def read(self, start: int, stop: int) -> ak.Array:
        """Read jets start..stop as rows of the schema."""
        ...


class ArrayFile:
    """One open file of arrays."""

    #: In this order, the first that recognises the arrays.
    LAYOUTS: ClassVar = (TopLandscapeJets, AspenJets, AtlasTopJets, JetNetJets, EnergyFlowJets)

    def __init__(
        self, path: Path, arrays: Mapping[str, Any], close: Callable[[], None], options: Options
    ) -> None:
        self.path, self._close = path, close
        try:
            named = options.array is not None  # an array of particles that is named has no other layout
            found = [layout for layout in self.LAYOUTS if not named and layout.recognises(arrays)]
            self._layout: Layout = (found[0] if found else PaddedJets)(path, arrays, options)
            self.rows, self.columns = self._layout.rows, self._layout.columns
        except Exception:
            close()
            raise

    def read(self, start: int, stop: int) -> ak.Array:
        """Read jets start..stop as rows of the schema."""
        try:
            return self._layout.read(start, min(stop, self.rows))
        except OSError as error:  # h5py: a damaged chunk, or a compression whose plugin is missing
            reason = " ".join(str(error).split())[:120]
            raise InputError(
                f"{self.path}: jets {start} to {stop} cannot be read ({reason}); the file is damaged, or its "
                "compression needs the package hdf5plugin"
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._close()
