"""What an evaluation found, as one self-contained HTML page with its CSV file and figures beside it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from eval.fidelity.result import Row
from eval.fidelity.score import FidelityResult
from eval.jets.observables import DEFAULT_FIVE, REGISTRY
from genscale.fidelity.samples import Sample, selection_lines
from genscale.pages import Picture, Section, Table, png, write_page

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
}


def _quantity(row: Row) -> str:
    unit = f" [{row.unit}]" if row.unit and row.group not in ("joint", "classifier") else ""
    return f"{row.name}{unit}"


def _value(row: Row) -> str:
    value = _pm(row.value, row.error)
    if row.published is not None and row.published_error is not None:
        value += f" ({_pm(row.published, row.published_error)})"
    return value


#: Headings of the tables, and what stands below each.
COLUMNS: Sequence[tuple[str, Callable[[Row], str]]] = (
    ("quantity", _quantity),
    ("value", _value),
    ("floor", lambda row: _pm(row.floor, row.floor_spread)),
    (
        "spreads above",
        lambda r: f"{r.significance:.1f}" if abs(r.significance) < 10 else f"{r.significance:,.0f}",
    ),
    ("p", lambda row: f"{row.p_value:.2g}"),
    ("without the floor", lambda row: f"{row.corrected:.3g}" if row.corrected > 0 else "0"),
    (
        "jets to resolve",
        lambda r: "" if r.jets_to_resolve is None else f"{float(f'{r.jets_to_resolve:.2g}'):,.0f}",
    ),
    ("tokenizer alone", lambda row: "" if row.tokenizer is None else f"{row.tokenizer:.3g}"),
    ("verdict", lambda row: "resolved" if row.resolved else "not resolved"),
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


def write_evaluation(
    result: FidelityResult, samples: Sequence[Sample], figures: Mapping[str, tuple[str, bytes]], out: Path
) -> Path:
    """Write ``<out>.html`` and ``<out>.csv`` beside the JSON file, and the figures into ``<out>_figures/``.

    Parameters
    ----------
    result : FidelityResult
    samples : sequence of Sample
        Generated and reference.
    figures : mapping
        File name -> title and PNG of the ratio plots.
    out : Path
        The JSON file.

    Returns
    -------
    Path
        The page.
    """
    made, real = samples[:2]
    size = f"{result.n_generated:,} generated and {result.n_reference:,} reference jets"
    if result.n_tokenizer:
        size += f", and {result.n_tokenizer:,} jets that were only encoded and decoded"
    return write_page(
        out.with_suffix(".html"),
        f"{made.path.name} against {real.path.name}",
        size,
        [_overview(result, out), _distributions(figures), _tables(result), _reproduce(result, made, real)],
        figures=out.with_name(f"{out.stem}_figures"),
    )


def _overview(result: FidelityResult, out: Path) -> Section:
    from eval.fidelity.figures import significance_bars

    return Section(
        "Overview",
        found=findings(result),
        cautions=[
            *(f"{warning}." for warning in result.warnings),
            *(f"{name} was not measured: {why}." for name, why in result.skipped.items()),
        ],
        figures=[
            Picture(
                "significance",
                "Everything at a glance",
                "By how many spreads of the floor each distance exceeds it.",
                significance_bars(result),
            )
        ],
        data={
            out.with_suffix(".csv").name: [dataclasses.asdict(row) for row in result.rows()],
            out.name: None,
        },
        text=[
            "Two samples of one distribution are never at distance zero. The floor is what reference against reference "
            "gives at the same numbers of jets, with its spread over random splits. A value is resolved when it lies "
            "three spreads above the floor and what remains without the floor exceeds twice its error. Grey rows are "
            f"not resolved at n = {result.n_generated:,}, which does not mean that the samples agree.",
            "Jets to resolve is how many jets of each kind would resolve what remains, if it is real. With some forty "
            "rows, one may pass three spreads by chance. To rank models, take the joint distance on the same "
            "reference, number of jets and seed; to see what is wrong, the observables; to see whether anything else "
            "is, the classifiers. Formula, source and verdict of a row show when the pointer rests on it.",
        ],
    )


def _distributions(figures: Mapping[str, tuple[str, bytes]]) -> Section:
    pictures = [Picture(name, title, RATIOS, image) for name, (title, image) in figures.items()]
    return Section("Distributions", figures=pictures)


def _tables(result: FidelityResult) -> Section:
    rows = result.rows()
    joint = ", ".join(result.settings["joint_observables"])
    tables = []
    for group, (title, caption) in TABLES.items():
        chosen = [row for row in rows if row.group == group]
        if chosen:
            tables.append(
                dataclasses.replace(
                    Table.of(title, caption.format(joint=joint), chosen, COLUMNS),
                    notes=[_formula(row) for row in chosen],
                    faint=[not row.resolved for row in chosen],
                )
            )
    return Section("Distances and tests", tables=[*tables, *_importance(result)])


def _reproduce(result: FidelityResult, made: Sample, real: Sample) -> Section:
    return Section(
        "How to reproduce",
        text=[
            f"{name}: {sample.path}, {sample.n_available:,} jets, content {sample.identity[:16]}."
            for name, sample in (("Generated", made), ("Reference", real))
        ]
        + ["Particles are taken as massless on both sides. Settings:"],
        listing="\n".join(f"{key}: {value}" for key, value in result.settings.items()),
    )


def findings(result: FidelityResult) -> list[str]:
    """The result in a few sentences, most important first."""
    joint = result.joint
    passing = selection_lines(result.settings["selection"]) if "selection" in result.settings else []
    lines = [f"Joint distance {_pm(joint.value, joint.distance.standard_error)}: {joint.verdict}."]
    lines += [f"{line}." for line in passing]
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


def _formula(row: Row) -> str:
    """What the page shows when the pointer rests on a row."""
    if row.name not in REGISTRY:
        return row.verdict
    observable = REGISTRY[row.name]
    source = f" ({observable.source})" if observable.source else ""
    return f"{observable.formula}{source}. {row.verdict}"


def _importance(result: FidelityResult, most: int = 8) -> list[Table]:
    drops = [
        (name, drop)
        for test in result.classifiers.values()
        for name, drop in sorted(test.importance.items(), key=lambda item: -item[1])[:most]
        if drop > 0
    ]
    if not drops:
        return []
    return [
        Table(
            "Where the trees look",
            "Drop of their AUC when one observable is shuffled among the held-out jets.",
            ("observable", "drop"),
            [(name, f"{drop:.3f}") for name, drop in drops],
        )
    ]


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
