"""The interface of readers of foreign formats, and the one place that every jet passes on its way in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import awkward as ak
import numpy as np

from genscale.data import schema
from genscale.data.readers.checks import check_units
from genscale.errors import InputError


@dataclass(frozen=True)
class Options:
    """What files do not say about themselves.

    Attributes
    ----------
    array : str, optional
        Array of particles to read from a file that has several.
    jet_pt : float, optional
        Transverse momentum of the jets in GeV, where the file has only fractions of it.
    class_name : str, optional
        The class of all jets of the files.
    """

    array: str | None = None
    jet_pt: float | None = None
    class_name: str | None = None

    def __post_init__(self) -> None:
        if self.jet_pt is not None and not 0 < self.jet_pt < np.inf:
            raise InputError(f"jet_pt={self.jet_pt}: must be a positive number of GeV")
        if self.class_name is not None and not schema.is_class_name(self.class_name):
            raise InputError(
                f"class {self.class_name!r}: a class is named by letters, digits and _ . + - only"
            )


class Source(Protocol):
    """One open file: its number of jets, its columns, and any range of its rows."""

    rows: int
    columns: tuple[str, ...]

    def read(self, start: int, stop: int) -> ak.Array:
        """Read jets start..stop as rows of `genscale.data.schema`, particles in order of decreasing pT."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


class Reader(ABC):
    """A file format.

    Attributes
    ----------
    name : str
        What the format is called in commands.
    suffixes : tuple of str
        Suffixes of its files in a folder.
    """

    name: str
    suffixes: tuple[str, ...]

    @abstractmethod
    def can_read(self, path: Path) -> bool:
        """Whether the first bytes of the file are those of this format; the file may still be damaged."""

    @abstractmethod
    def _open(self, path: Path, options: Options) -> Source:
        """Open one file without the checks of units."""

    def open(self, path: Path, options: Options | None = None) -> Source:
        """Open one file.

        Parameters
        ----------
        path : Path
            The file.
        options : Options, optional
            What the file does not say about itself.

        Returns
        -------
        Source
            Its rows have passed `check_units`.

        Raises
        ------
        InputError
            The file is damaged or incomplete, does not have the layout of the format, or has labels although a class
            is given; the message names the file.
        """
        options = options or Options()
        return _Checked(self._open(path, options), path, options.class_name)


class _Checked:
    """Rows of a source with the units checked, and with the class that was given for all of them."""

    def __init__(self, source: Source, path: Path, class_name: str | None) -> None:
        self._source, self._path, self._class_name = source, path, class_name
        self.rows, self.columns = source.rows, source.columns
        if class_name is not None:
            if own := schema.class_names(source.columns):
                source.close()
                raise InputError(
                    f"{path}: its jets have labels ({', '.join(own)}), so that no class can be given for all of them"
                )
            self.columns = schema.in_order((*source.columns, schema.LABEL_PREFIX + class_name))

    def read(self, start: int, stop: int) -> ak.Array:
        jets = self._source.read(start, stop)
        check_units(jets, f"{self._path}, from jet {start}")
        if self._class_name is None:
            return jets
        return ak.with_field(jets, np.ones(len(jets), np.int8), schema.LABEL_PREFIX + self._class_name)

    def close(self) -> None:
        self._source.close()
