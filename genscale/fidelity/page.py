"""What an evaluation found, as one self-contained HTML page with its CSV and figures beside it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from eval.fidelity.result import Row
from eval.fidelity.score import FidelityResult
from eval.jets.observables import DEFAULT_FIVE, REGISTRY
from genscale.fidelity.samples import Sample
from genscale.files import write_atomic, write_csv
from genscale.pages import data_url, png, render

#: Caption of ratio plots.
RATIOS = "Bars are statistical errors, the band that of the reference; arrows are ratios outside the frame."

#: Titles and captions of the groups of rows, in the order of the page.
TABLES = {
    "joint": (
        "The joint distance",
        "Sliced Wasserstein distance over {joint}, in standard deviations of the reference.",
    ),
    "classifier": (
        "Classifiers",
        "Area under the ROC curve on held-out jets; 0.5 when nothing is found. A lower limit: another classifier may "
        "find more.",
    ),
    "observable": ("One observable at a time", "Wasserstein distance in the unit of the observable."),
    "particle": (
        "Spectra of single particles",
        "Wasserstein distance; errors and floors are those of whole jets.",
    ),
    "published": (
        "Distances of other papers",
        "Frechet and kernel physics distance of the samples in hand, on energy flow polynomials: squared distances "
        "without unit. In brackets the number in JetNet's convention (FPD extrapolated to infinite batches, KPD as the "
        "median of batches) with its error.",
    ),
    "matching": (
        "Coverage and minimum matching distance",
        "By the energy mover's distance, on batches of jets; the floor is that of reference jets among themselves, "
        "compared batch by batch.",
    ),
    "divergence": (
        "Quantile-binned divergences",
        "Kullback-Leibler divergence in 30 equiprobable bins of the reference, in nats, as OmniJet-alpha reports it.",
    ),
}

_HEADER = (
    "",
    "value",
    "floor",
    "spreads above",
    "p",
    "without the floor",
    "jets to resolve",
    "tokenizer alone",
)


def ratio_png(tables: Sequence[dict[str, np.ndarray]], names: Sequence[str]) -> bytes:
    """Ratio plots of some observables as PNG; tables of generated, reference, and tokenizer if there is one."""
    from eval.fidelity.figures import ratio_plots

    return png(ratio_plots(tables[0], tables[1], tables[2] if len(tables) > 2 else None, names))


def particle_png(samples: Sequence[Sample]) -> bytes:
    """Ratio plots of the spectra of single particles as PNG, of the same samples."""
    from eval.fidelity.figures import particle_plots

    jets = [sample.constituents for sample in samples]
    return png(particle_plots(jets[0], jets[1], jets[2] if len(jets) > 2 else None))


def figure_groups(names: Sequence[str]) -> dict[str, tuple[str, list[str]]]:
    """Observables of each figure: file name -> title and names."""
    flow = [name for name in names if name.startswith("efp_")]
    rest = [name for name in names if name not in flow and name not in DEFAULT_FIVE]
    return {
        "joint": ("The five of the joint distance", list(DEFAULT_FIVE)),
        "substructure": ("Further observables", rest),
        "flow": ("Energy flow polynomials", flow),
    }


def write_page(
    result: FidelityResult, samples: Sequence[Sample], figures: dict[str, tuple[str, bytes]], out: Path
) -> Path:
    """Write ``<out>.html`` and ``<out>.csv`` beside the JSON file, and the figures.

    Parameters
    ----------
    result : FidelityResult
    samples : sequence of Sample
        Generated and reference.
    figures : dict
        File name -> title and PNG of the ratio plots.
    out : Path
        The JSON file.

    Returns
    -------
    Path
        The page.
    """
    from eval.fidelity.figures import significance_bars

    overview = {"significance": ("Everything at a glance", png(significance_bars(result)))}
    folder = out.with_name(f"{out.stem}_figures")
    drawn = []
    for name, (title, image) in (overview | figures).items():
        write_atomic(folder / f"{name}.png", image)
        drawn.append((name, title, "" if name in overview else RATIOS, data_url(image)))
    write_csv(out.with_suffix(".csv"), [dataclasses.asdict(row) for row in result.rows()])
    page = render(
        "evaluation.html",
        samples=samples,
        result=result,
        found=findings(result),
        odd=[*result.warnings, *(f"{name} was not measured: {why}" for name, why in result.skipped.items())],
        tables=_tables(result),
        header=_HEADER,
        figures=drawn,
        importance=_importance(result),
        settings=result.settings,
        csv=out.with_suffix(".csv").name,
        json=out.name,
    )
    write_atomic(out.with_suffix(".html"), page)
    return out.with_suffix(".html")


def findings(result: FidelityResult) -> list[str]:
    """The result in a few sentences, most important first."""
    joint = result.joint
    lines = [f"Joint distance {_pm(joint.value, joint.distance.standard_error)}: {joint.verdict}."]
    lines += [f"{test.verdict[0].upper()}{test.verdict[1:]}." for test in result.classifiers.values()]
    scores = list(result.observables.values())
    seen = sorted((s for s in scores if s.resolved), key=lambda s: -s.significance)
    flow = sum(s.name.startswith("efp_") for s in seen)
    named = [s for s in seen if not s.name.startswith("efp_")][:3]
    line = f"{len(seen)} of {len(scores)} observables differ from the reference at this number of jets"
    if named:
        line += ", most of all " + ", ".join(
            f"{s.name} (by {s.corrected:.3g}{' ' + s.unit if s.unit else ''})" for s in named
        )
    if flow:
        line += f"; {flow} of them are energy flow polynomials, which are strongly correlated"
    lines.append(line + ".")
    if not seen:
        lines.append(
            "That is a statement about the number of jets, not about the generator: more jets may show more."
        )
    return lines


def _tables(result: FidelityResult) -> list[tuple[str, str, list[tuple[bool, list[str], str]]]]:
    rows = result.rows()
    joint = ", ".join(result.settings["joint_observables"])
    return [
        (
            title,
            caption.format(joint=joint),
            [(r.resolved, _cells(r), _formula(r)) for r in rows if r.group == group],
        )
        for group, (title, caption) in TABLES.items()
        if any(r.group == group for r in rows)
    ]


def _cells(row: Row) -> list[str]:
    unit = f" [{row.unit}]" if row.unit and row.group not in ("joint", "classifier", "divergence") else ""
    value = _pm(row.value, row.error)
    if row.published is not None and row.published_error is not None:
        value += f" ({_pm(row.published, row.published_error)})"
    return [
        f"{row.name}{unit}", value, _pm(row.floor, row.floor_spread), _short(row.significance),
        f"{row.corrected:.3g}" if row.corrected > 0 else "0",
        "" if row.jets_to_resolve is None else f"{float(f'{row.jets_to_resolve:.2g}'):,.0f}",
        "" if row.tokenizer is None else f"{row.tokenizer:.3g}",
        "resolved" if row.resolved else "not resolved",
    ]  # fmt: skip


def _formula(row: Row) -> str:
    """What a hover over the line says."""
    if row.name not in REGISTRY:
        return row.verdict
    observable = REGISTRY[row.name]
    source = f" ({observable.source})" if observable.source else ""
    return f"{observable.formula}{source}. {row.verdict}"


def _importance(result: FidelityResult, most: int = 8) -> list[tuple[str, str]]:
    found = [
        (name, drop)
        for test in result.classifiers.values()
        for name, drop in sorted(test.importance.items(), key=lambda item: -item[1])[:most]
    ]
    return [(name, f"{drop:.3f}") for name, drop in found if drop > 0]


def _pm(value: float, error: float) -> str:
    """Value and error, to two digits of the error."""
    if not (math.isfinite(value) and math.isfinite(error)) or error <= 0:
        return f"{value:.3g}"
    exponent = math.floor(math.log10(max(abs(value), error)))
    digits = max(0, exponent - math.floor(math.log10(error)) + 1)
    if -4 < exponent < 5:
        decimals = max(0, digits - exponent)
        return f"{value:,.{decimals}f} ± {error:,.{decimals}f}"
    scale = 10.0**exponent
    return f"({value / scale:.{digits}f} ± {error / scale:.{digits}f})e{exponent}"


def _short(value: float) -> str:
    return f"{value:.1f}" if abs(value) < 10 else f"{value:,.0f}"
