"""The table of points to which laws are fitted: checked by row and column, and never changed silently."""

import csv
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eval.common.errors import InputError

FLOPS_PER_PARAMETER_AND_TOKEN = 6.0
"""Forward plus backward multiply-adds per parameter and token (Kaplan et al., arXiv:2001.08361)."""

_NUMERIC = ("N", "D", "L", "C", "U", "weight")
_OPTIONAL = ("C", "U", "weight", "group", "seed")

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Points:
    """Losses of training runs; all arrays have shape ``(n,)``.

    Attributes
    ----------
    L : array of float
        Validation loss in nats, positive.
    N : array of float or None
        Model parameters; the caller decides whether all are counted, or those without the embedding.
    D : array of float or None
        Data seen in training: tokens or jets.
    C : array of float or None
        Training FLOPs as counted; where they are missing, ``compute`` is 6ND.
    U : array of float or None
        Unique data, for laws of repeated data; where they are missing, ``D`` is used.
    weight : array of float or None
        Factor on each point's contribution to the objective.
    group : array of str or None
        Labels of points whose noise is shared; the bootstrap can resample whole groups.
    seed : array of str or None
        Labels of the seeds of repeated runs.
    extra : mapping of str to sequence of str
        Further columns, as they were read.
    source : str
        File name for error messages.
    rows : array of int
        Line (file) or index (arrays) of each point, for error messages.
    """

    L: FloatArray
    N: FloatArray | None = None
    D: FloatArray | None = None
    C: FloatArray | None = None
    U: FloatArray | None = None
    weight: FloatArray | None = None
    group: NDArray[np.str_] | None = None
    seed: NDArray[np.str_] | None = None
    extra: Mapping[str, Sequence[str]] = field(default_factory=dict)
    source: str = "points"
    rows: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    @classmethod
    def from_arrays(
        cls,
        *,
        L: ArrayLike,
        N: ArrayLike | None = None,
        D: ArrayLike | None = None,
        C: ArrayLike | None = None,
        U: ArrayLike | None = None,
        group: ArrayLike | None = None,
        weight: ArrayLike | None = None,
        seed: ArrayLike | None = None,
    ) -> "Points":
        """Build and check points from array-likes of equal length; the columns are the attributes of the class.

        Parameters
        ----------
        L : array-like of float, shape (n,)
            Losses.
        N : array-like of float, shape (n,), optional
            Model parameters.
        D : array-like of float, shape (n,), optional
            Data.
        C : array-like of float, shape (n,), optional
            Training FLOPs.
        U : array-like of float, shape (n,), optional
            Unique data.
        group : array-like of str, shape (n,), optional
            Labels of groups.
        weight : array-like of float, shape (n,), optional
            Weights.
        seed : array-like of str, shape (n,), optional
            Labels of seeds.

        Returns
        -------
        Points

        Raises
        ------
        InputError
            Lengths differ, or a value is missing, not finite or not positive; the message names column and index.
        """
        numeric = {"L": L, "N": N, "D": D, "C": C, "U": U, "weight": weight}
        columns: dict[str, Any] = {
            name: np.array(values, dtype=np.float64, ndmin=1)
            for name, values in numeric.items()
            if values is not None
        }
        columns |= {
            name: np.array(values, ndmin=1).astype(str)
            for name, values in {"group": group, "seed": seed}.items()
            if values is not None
        }
        n = len(columns["L"])
        return _checked(cls(**columns, rows=np.arange(n)), unit="index")

    def __len__(self) -> int:
        return len(self.L)

    @property
    def compute(self) -> FloatArray:
        """Training FLOPs, shape ``(n,)``: the counted ``C`` if given, otherwise 6ND."""
        if self.C is not None:
            return self.C
        if self.N is None or self.D is None:
            raise InputError(f"{self.source}: compute needs column C, or N and D to form 6ND")
        return FLOPS_PER_PARAMETER_AND_TOKEN * self.N * self.D

    @property
    def flops_factor(self) -> tuple[float, float]:
        """The factor k of C = k N D: its geometric mean over the points, and the standard deviation of ln k."""
        if self.C is None or self.N is None or self.D is None:
            return FLOPS_PER_PARAMETER_AND_TOKEN, 0.0
        log_k = np.log(self.C / (self.N * self.D))
        return float(np.exp(log_k.mean())), float(log_k.std())

    def variable(self, name: str) -> FloatArray:
        """Return the column of one of the variables ``N, D, C, U, L`` (by default C = 6ND and U = D)."""
        if name == "C":
            return self.compute
        values = getattr(self, name)
        if values is None and name == "U":
            values = self.D
        if values is None:
            raise InputError(f"{self.source}: column {name} is missing")
        return values

    def select(self, keep: ArrayLike) -> "Points":
        """Return the points selected by ``keep`` (a mask or indices)."""
        index = np.arange(len(self))[np.asarray(keep)]
        chosen = {
            name: values[index]
            for name in ("L", "N", "D", "C", "U", "weight", "group", "seed", "rows")
            if (values := getattr(self, name)) is not None
        }
        return replace(self, **chosen, extra={k: [v[i] for i in index] for k, v in self.extra.items()})

    def within(self, name: str, low: float = 0.0, high: float = np.inf) -> "Points":
        """Return the points for which a variable lies in a range.

        Parameters
        ----------
        name : str
            One of ``N, D, C, U, L``.
        low : float
            Lower end of the range, included.
        high : float
            Upper end of the range, included.

        Returns
        -------
        Points

        Raises
        ------
        InputError
            There is no such column, or no such point.
        """
        values = self.variable(name)
        keep = (values >= low) & (values <= high)
        if not keep.any():
            raise InputError(
                f"{self.source}: no point has {name} from {low:g} to {high:g} "
                f"(found {values.min():g} to {values.max():g})"
            )
        return self.select(keep)

    @property
    def duplicates(self) -> list[tuple[int, ...]]:
        """Return rows that share N, D, C, U, seed and loss with another; they are reported, but never dropped."""
        return _same_rows(self, ("N", "D", "C", "U", "seed", "L"))

    def warnings(self) -> list[str]:
        """Return peculiarities of the table that a reader of the fit should know."""
        found = []
        if self.duplicates:
            shown = "; ".join(", ".join(map(str, rows)) for rows in self.duplicates[:5])
            found.append(
                f"{len(self.duplicates)} sets of identical points (rows {shown}): kept, "
                "each counts once per row; remove them if they are copies of one run"
            )
        _, spread = self.flops_factor
        if spread > 0.1:
            found.append(
                f"C/(N D) varies by {100 * spread:.0f} % over the points: compute-optimal results use its "
                "geometric mean"
            )
        return found


def _same_rows(points: Points, names: Sequence[str]) -> list[tuple[int, ...]]:
    keys: dict[tuple[str, ...], list[int]] = {}
    columns = [getattr(points, name) for name in names if getattr(points, name) is not None]
    for row, *values in zip(points.rows, *columns, strict=True):
        keys.setdefault(tuple(map(str, values)), []).append(int(row))
    return [tuple(rows) for rows in keys.values() if len(rows) > 1]


def _checked(points: Points, unit: str) -> Points:
    n = len(points.L)
    if n == 0:
        raise InputError(f"{points.source}: there are no points")
    for name in (*_NUMERIC, "group", "seed"):
        values = getattr(points, name)
        if values is None:
            continue
        if values.shape != (n,):
            raise InputError(f"{points.source}: column {name} has shape {values.shape}, L has ({n},)")
        if name not in _NUMERIC:
            continue
        allowed = values >= 0 if name == "weight" else values > 0
        bad = ~(np.isfinite(values) & allowed)
        if bad.any():
            first = int(np.flatnonzero(bad)[0])
            wanted = "finite and not negative" if name == "weight" else "finite and positive"
            more = f" ({int(bad.sum())} such values)" if bad.sum() > 1 else ""
            raise InputError(
                f"{points.source}: {unit} {points.rows[first]}: column {name} must be {wanted}, "
                f"found {values[first]:g}{more}"
            )
    if points.weight is not None and not points.weight.any():
        raise InputError(f"{points.source}: column weight is zero everywhere")
    return points


def read_points(
    path: str | os.PathLike[str],
    *,
    columns: Mapping[str, str] | None = None,
    where: Mapping[str, str] | None = None,
) -> Points:
    """Read ``POINTS.csv`` (or JSON lines): columns ``N``, ``D``, ``L``; optional ``C U seed weight group``.

    Without ``group`` the column ``run`` of a study's table says which losses share their noise.

    Parameters
    ----------
    path : str or path-like
        A ``.csv`` file with a header, or ``.jsonl`` with one object per line.
    columns : mapping of str to str, optional
        Names in the file that differ: ``{"N": "params", "L": "val_loss"}``.
    where : mapping of str to str, optional
        Keep rows in which a column has a value: ``{"task": "generator"}``.

    Returns
    -------
    Points

    Raises
    ------
    InputError
        The file or a column is missing, the table is empty, or a cell is not a positive number; the message names row
        and column.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a table with columns N, D, L")
    try:
        table, lines = _read_json_lines(path) if path.suffix == ".jsonl" else _read_csv(path)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not text in UTF-8 (byte {error.start}); save it as UTF-8") from None
    except csv.Error as error:
        raise InputError(f"{path}: not a CSV table of numbers and names ({error})") from None
    for name, value in (where or {}).items():
        _require(path, table, name)
        keep = [i for i, cell in enumerate(table[name]) if cell == str(value)]
        if not keep:
            values = ", ".join(sorted(set(table[name])))
            raise InputError(f"{path}: no row has {name} = {value} (found {values})")
        table = {key: [cells[i] for i in keep] for key, cells in table.items()}
        lines = [lines[i] for i in keep]
    names = {name: (columns or {}).get(name, name) for name in ("N", "D", "L", *_OPTIONAL)}
    unknown = set(columns or {}) - set(names)
    if unknown:
        raise InputError(f"columns: {sorted(unknown)[0]} is not one of {', '.join(names)}")
    found: dict[str, Any] = {}
    for name, column in names.items():
        if name in ("N", "D", "L") or name in (columns or {}):
            _require(path, table, column)
        # An optional column that is empty throughout says "absent", as tables written from records do.
        if column not in table or (name in _OPTIONAL and not any(table[column])):
            continue
        if name in _NUMERIC:
            found[name] = np.array(
                [_number(path, line, column, cell) for line, cell in zip(lines, table[column], strict=True)]
            )
        else:
            found[name] = np.array(table[column], dtype=str)
    used = {names[name] for name in found}
    if "group" not in found and any(table.get("run", ())):
        # The losses of one training run share initialisation and order of data. The column itself is kept, too.
        found["group"] = np.array(table["run"], dtype=str)
    extra = {key: tuple(cells) for key, cells in table.items() if key not in used}
    points = Points(**found, extra=extra, source=str(path), rows=np.array(lines, dtype=np.int64))
    return _checked(points, unit="line")


def _require(path: Path, table: Mapping[str, object], column: str) -> None:
    if column not in table:
        raise InputError(f"{path}: column {column} is missing (found {', '.join(table)})")


def _number(path: Path, line: int, column: str, cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        shown = f"{cell!r}" if cell else "nothing"
        raise InputError(f"{path}: line {line}: column {column} must be a number, found {shown}") from None


def _read_csv(path: Path) -> tuple[dict[str, list[str]], list[int]]:
    with path.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.reader(stream)
        header = [name.strip() for name in next(reader, [])]
        if len(set(header)) != len(header):
            raise InputError(f"{path}: a column name appears twice in the header ({', '.join(header)})")
        rows, lines = [], []
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise InputError(
                    f"{path}: line {reader.line_num}: {len(row)} cells, the header has {len(header)}"
                )
            rows.append([cell.strip() for cell in row])
            lines.append(reader.line_num)
    return {name: [row[i] for row in rows] for i, name in enumerate(header)}, lines


def _read_json_lines(path: Path) -> tuple[dict[str, list[str]], list[int]]:
    rows, lines = [], []
    for line, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}: line {line}: not a JSON object ({error})") from None
        if not isinstance(row, dict):
            raise InputError(f"{path}: line {line}: not a JSON object, but {text.strip()[:40]}")
        rows.append(row)
        lines.append(line)
    names = list(dict.fromkeys(name for row in rows for name in row))
    # repr restores a float exactly, so that the text loses no digits.
    return {name: ["" if row.get(name) is None else str(row[name]) for row in rows] for name in names}, lines
