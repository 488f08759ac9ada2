"""What the taggers are worth in physics: rejections on test jets, R(L), predictions at more data, calibration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from eval.common.results import Unavailable
from eval.tagging.figures import rejection_against_loss, reliability_curves, roc_limit
from eval.tagging.law import RejectionLaw
from eval.tagging.score import SignalScore
from genscale.pages import Picture, Section, Table
from genscale.study.report.words import sentence, verdict
from genscale.study.results.sizes import Size
from genscale.study.results.study import Study
from genscale.study.results.tagging import Physics

TAGGING_FILE = "tagging.json"


def section(study: Study) -> Section | None:
    """Rejections, R(L) and calibration of the taggers; None for a study without taggers."""
    found = study.tagging
    if found is None:
        return None
    sizes = [size for size in study.sizes["tagging"] if all(run in found.scores for run in size.runs)]
    tables = [_rejections(found, sizes)] if sizes else []
    tables += [] if isinstance(found.laws, Unavailable) else [_laws(found.laws), _predictions(found)]
    return Section(
        "Physics of tagging",
        found=_findings(found, sizes),
        figures=list(_figures(found, sizes)),
        tables=tables,
        data={TAGGING_FILE: found},
    )


# -- words ----------------------------------------------------------------------------------------------------


def _findings(found: Physics, sizes: list[Size]) -> list[str]:
    if not sizes:
        return [sentence(found.laws)]
    best = min(sizes, key=lambda size: size.mean(lambda run: found.scores[run].loss)[0])
    accuracy, spread = best.mean(lambda run: found.scores[run].accuracy)
    error = best.mean(lambda run: found.scores[run].accuracy_error)[0]
    seeds = f", mean over {len(best.runs)} seeds" if len(best.runs) > 1 else ""
    lines = [
        f"Best size on test jets, {best.name}{seeds}: accuracy {accuracy:.3f} ± {np.hypot(error, spread or 0):.3f}."
    ]
    if isinstance(found.calibration, Unavailable):
        lines.append(sentence(found.calibration))
    else:
        lines += [f"Calibration of {run}: {c.verdict}." for run, c in found.calibration.items()]
    if isinstance(found.laws, Unavailable):
        return [*lines, sentence(found.laws)]
    good = [name for name, law in found.laws.items() if law.p_value > 0.05]
    limits = [predictions[-1] for predictions in found.predictions.values()]
    known = [p for p in limits if p.rejection.identified]
    lines.append(
        f"R(L) = A exp(B L) + C describes {len(good)} of {len(found.laws)} signals within the statistical errors of "
        "the test jets (p > 0.05); the rejection in the limit of infinite data and size is identified for "
        f"{len(known)} of {len(limits)}."
    )
    return lines


def _percent(signal: SignalScore) -> str:
    return f"{100 * signal.working_point.efficiency:g} %"


def _rejection(found: Physics, size: Size, name: str) -> str:
    """Rejection at the working point: the mean over seeds, with the mean ends of its 68 % intervals."""
    signals = [found.scores[run].signals[name] for run in size.runs]
    if any(s.working_point.n_kept == 0 for s in signals):
        return f"> {min(s.working_point.limit95 for s in signals):.0f} (95 %)"
    low, high = np.mean([s.ci68 for s in signals], axis=0)
    value = float(np.mean([s.working_point.value for s in signals]))
    return f"{_three_digits(value)} [{_three_digits(low)}, {_three_digits(high)}]"


def _seed_spread(found: Physics, size: Size, name: str) -> str:
    """Standard deviation of the rejection over seeds."""
    spread = size.mean(lambda run: found.scores[run].signals[name].working_point.value)[1]
    return "" if spread is None or not np.isfinite(spread) else _three_digits(spread)


def _three_digits(x: float) -> str:
    """1,250 for 1251.3."""
    return f"{float(f'{x:.3g}'):,g}"


# -- tables and figures ---------------------------------------------------------------------------------------


def _rejections(found: Physics, sizes: list[Size]) -> Table:
    def rows() -> Iterator[list[str]]:
        for size in sizes:
            seeds = [found.scores[run] for run in size.runs]
            loss, error = np.mean([s.loss for s in seeds]), np.mean([s.loss_error for s in seeds])
            accuracy = np.mean([s.accuracy for s in seeds])
            for name, signal in seeds[0].signals.items():
                kept = np.mean([s.signals[name].working_point.n_kept for s in seeds])
                area = np.mean([s.signals[name].area for s in seeds])
                area_error = np.mean([s.signals[name].area_error for s in seeds])
                notes = dict.fromkeys(s.signals[name].note for s in seeds if s.signals[name].note)
                yield [
                    size.name, str(len(seeds)), f"{loss:.4f} ± {error:.4f}", f"{accuracy:.3f}", name,
                    _percent(signal), _rejection(found, size, name), _seed_spread(found, size, name),
                    f"{kept:,.0f}", f"{area:.4f} ± {area_error:.4f}", "; ".join(notes),
                ]  # fmt: skip

    return Table(
        "Rejections",
        "QCD rejection of every signal on test jets at its working point, mean over the seeds of each size, with "
        "the 68 % bootstrap interval over test jets, which all seeds share. The spread is the standard deviation "
        f"over seeds. All runs are in {TAGGING_FILE}.",
        ("size", "seeds", "test loss", "accuracy", "signal", "efficiency", "rejection [68 %]", "spread", "QCD kept",
         "AUC", ""),
        list(rows()),
    )  # fmt: skip


def _laws(laws: Mapping[str, RejectionLaw]) -> Table:
    return Table.of(
        "Rejection against loss",
        "Fits of R(L) = A exp(B L) + C to all taggers. chi2 and its probability p include only the statistical errors "
        "of the test jets; the scatter is the further standard deviation of ln R between runs of equal loss.",
        laws.items(),
        [
            ("signal", lambda item: item[0]),
            ("A [68 %]", lambda item: item[1].fit.params["A"].text()),
            ("B [68 %]", lambda item: item[1].fit.params["B"].text()),
            ("C [68 %]", lambda item: item[1].fit.params["C"].text()),
            ("chi2 / dof", lambda item: f"{item[1].chi2:.1f} / {item[1].dof}"),
            ("p", lambda item: f"{item[1].p_value:.2g}" if item[1].dof else "no degrees of freedom"),
            ("scatter", lambda item: f"{item[1].scatter:.3f}"),
            ("B identified", lambda item: verdict(item[1].fit.params["B"])),
        ],
    )


def _predictions(found: Physics) -> Table:
    return Table.of(
        "Predicted rejections",
        "Rejections that the laws L(N, D) and R(L) together predict for a tagger of infinite N, with the uncertainties "
        "of both. At losses far below the lowest measured one, both laws are extrapolated.",
        [(name, p) for name, predictions in found.predictions.items() for p in predictions],
        [
            ("signal", lambda item: item[0]),
            ("at", lambda item: item[1].where),
            ("expected loss [68 %]", lambda item: item[1].loss.text()),
            ("expected rejection [68 %]", lambda item: item[1].rejection.text()),
            ("identified", lambda item: verdict(item[1].rejection)),
            ("note", lambda item: item[1].note),
        ],
    )


def _figures(found: Physics, sizes: list[Size]) -> Iterator[Picture]:
    """Figures 5 and 6 of Vigl et al., and the calibration."""
    if found.laws and not isinstance(found.laws, Unavailable):
        yield Picture(
            "rejection",
            "Rejection against loss",
            "QCD rejection of every tagger against its loss on the same test jets, with the fitted R(L) = A "
            "exp(B L) + C and its 68 % band. Diamonds are the predictions of the laws for infinite N at more data; "
            "open diamonds are not identified.",
            rejection_against_loss(found.laws, found.predictions),
        )
    if found.roc:
        signal = found.roc[0].name
        measured = {run: found.scores[run].signals[signal] for run in sizes[-1].runs}
        yield Picture(
            "roc",
            f"ROC curves of {signal}, measured and predicted up to the limit",
            "QCD rejection against signal efficiency, for every seed of the largest size. R(L) is fitted at each "
            "efficiency over all taggers and evaluated at the losses that L(N, D) predicts; dashed where that is "
            "not identified.",
            roc_limit(list(found.roc), measured),
        )
    if found.calibration and not isinstance(found.calibration, Unavailable):
        yield Picture(
            "calibration",
            "Calibration",
            "Fraction of jets whose most probable class is right, minus the probability that the tagger assigns to it, "
            "in bins of equal counts. "
            + " ".join(f"{run}: {c.verdict}." for run, c in found.calibration.items()),
            reliability_curves(found.calibration),
        )
