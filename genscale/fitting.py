"""``genscale fit``: a fit of a table on disk, written to disk, with its figure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.common import results
from eval.scaling import (
    Comparison,
    FitResult,
    FrontierFit,
    Points,
    compare_approaches,
    compare_laws,
    envelope,
    fit,
    isoflop,
    misfit,
    read_points,
)
from genscale.config import require
from genscale.files import write_json


@dataclass(frozen=True)
class FitRequest:
    """A table, the options of its fit, and the output; the fields are the options of ``genscale fit``."""

    points: Path
    out: Path
    approach: str
    law: str
    variable: str | None
    loss: str
    huber_delta: float | None
    bootstrap: int
    unit: str
    fixed: dict[str, float]
    columns: dict[str, str]
    where: dict[str, str]
    ranges: dict[str, tuple[float, float]]
    predict: dict[str, float]
    figure: Path | None
    seed: int

    def __post_init__(self) -> None:
        require(
            self.approach in ("1", "2", "3", "all"), f"--approach {self.approach}: must be 1, 2, 3 or all"
        )
        law = self.approach == "3" and self.law != "compare"
        require(law or not self.predict, "--predict needs a law: it goes with --approach 3")
        for name, value in self.predict.items():
            require(value > 0, f"--predict {name}={value:g}: must be positive")
        drawn = law or (self.approach == "2")
        require(drawn or self.figure is None, "--figure draws a law or IsoFLOP slices: --approach 3 or 2")
        require(
            self.figure is None or self.figure.suffix in (".png", ".pdf"),
            f"--figure {self.figure}: a name that ends in .png or .pdf",
        )


def fit_points(request: FitRequest) -> Iterator[str]:
    """Fit, write the JSON file (and the figure), and yield lines of text for a terminal.

    Parameters
    ----------
    request : FitRequest

    Yields
    ------
    str

    Raises
    ------
    eval.common.errors.InputError
        A column, row, name or value is missing or impossible.
    """
    r = request
    table = read_points(r.points, columns=r.columns, where=r.where)
    for name, (low, high) in r.ranges.items():
        table = table.within(name, low, high)
    for file in (r.out, r.figure):
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
    yield from (f"note: {warning}" for warning in table.warnings())
    if r.law == "compare":
        ranking = compare_laws(table, loss=r.loss, delta=r.huber_delta, seed=r.seed)
        yield str(ranking)
        write_json(r.out, ranking.to_dict())
        yield f"written to {r.out}"
        return
    result = _result(table, r)
    yield str(result)
    if isinstance(result, FitResult):
        yield str(misfit(table, result))
        yield _by_the_other_objective(table, result, r)
    results.write_json(results.plain(result), r.out)
    yield f"written to {r.out}"
    if r.predict and isinstance(result, FitResult):
        yield f"L({', '.join(f'{k} = {v:g}' for k, v in r.predict.items())}) = {float(result.predict(**r.predict)):.8g}"
    if r.figure is not None:
        from eval.scaling.figures import fit_panel, isoflop_slices

        if isinstance(result, FitResult):
            fit_panel(table, result).savefig(r.figure, dpi=150)
        elif isinstance(result, FrontierFit):
            isoflop_slices(result).savefig(r.figure, dpi=150)
        yield f"drawn to {r.figure}"


def _result(table: Points, r: FitRequest) -> FitResult | FrontierFit | Comparison:
    """The approach that was asked for: 1 and 2 find the compute-optimal line without a law, 3 fits a law."""
    resamples: dict[str, Any] = {"bootstrap": r.bootstrap, "seed": r.seed}
    if r.approach in ("1", "2"):
        return (envelope if r.approach == "1" else isoflop)(table, **resamples)
    law = fit(
        table,
        r.law,
        variable=r.variable,
        loss=r.loss,
        delta=r.huber_delta,
        unit=r.unit,
        fixed=r.fixed,
        **resamples,
    )
    return compare_approaches(table, law, **resamples) if r.approach == "all" else law


def _by_the_other_objective(table: Points, result: FitResult, r: FitRequest) -> str:
    """Constants by mean squares where the fit was robust and the reverse: how far outliers and misfit decide."""
    robust = result.loss.kind.startswith("huber")
    other = fit(
        table, r.law, variable=r.variable, loss="mse-log" if robust else "huber-log", bootstrap=0, fixed=r.fixed,
        seed=r.seed,
    )  # fmt: skip
    constants = ", ".join(f"{name} = {estimate.value:.4g}" for name, estimate in other.params.items())
    return f"by the {other.objective_kind} (--loss {other.loss.kind}): {constants}"
