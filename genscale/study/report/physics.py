"""What the taggers are worth in physics: rejections on test jets, R(L), predictions at more data, calibration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from eval.common.errors import InputError
from eval.common.results import Unavailable
from eval.scaling import FitResult
from eval.tagging.calibration import Calibration, calibrate
from eval.tagging.figures import rejection_against_loss, reliability_curves, roc_limit
from eval.tagging.law import RejectionLaw, rejection_laws
from eval.tagging.prediction import (
    ExpectedLoss,
    Prediction,
    RocBand,
    expected_loss,
    predict_rejection,
    roc_law,
)
from eval.tagging.score import SignalScore, TaggerScore, score_tagger
from genscale.inference.prediction import Predictions, load_predictions
from genscale.pages import Picture, Section, Table
from genscale.study.cells import study_cells
from genscale.study.jobs import Predict
from genscale.study.report.fits import task_laws
from genscale.study.report.study import Size, Study, attempt, interval, once, sentence, verdict

TAGGING_FILE = "tagging.json"

#: Class whose ROC curve is compared with its predicted limit, if the study has it; otherwise the first signal.
SHOWN_SIGNAL = "Hbb"


@dataclass(frozen=True)
class Physics:
    """Predictions of every single-epoch tagger on the test jets, and what they say together.

    Where the test jets for rejections have more background, every class counts equally in losses and accuracies.

    Attributes
    ----------
    scores : dict
        Run id, with ``-d<jets>`` for weights on the way, to loss, ROC curves and rejections; empty where the test jets
        do not allow any (``laws`` says why).
    calibration : dict of Calibration
        The same for the first seed of the largest model: can its probabilities be believed?
    laws : dict of RejectionLaw
        R(L) of each signal at its working point, over all runs.
    predictions : dict
        Signal to the rejections expected at more data, and in the limit.
    roc : list of RocBand
        ROC curves of one signal at the largest D, ten times that, and in the limit.
    """

    scores: Mapping[str, TaggerScore] = field(default_factory=dict)
    calibration: Mapping[str, Calibration] | Unavailable = field(default_factory=dict)
    laws: Mapping[str, RejectionLaw] | Unavailable = field(default_factory=dict)
    predictions: Mapping[str, Sequence[Prediction]] = field(default_factory=dict)
    roc: Sequence[RocBand] = ()


@once
def physics(study: Study) -> Physics | None:
    """Score the predictions of all single-epoch taggers on the test jets; None for a study without taggers."""
    if not study.runs("tagger"):
        return None
    seed = study.config.fit.seed
    scores: dict[str, TaggerScore] = {}
    calibration: dict[str, Calibration] | Unavailable = {}
    largest = f"tagger/d{max(study.config.tagger.widths)}-"
    for cell in study_cells(study.config):
        if not isinstance(cell.job, Predict) or not cell.done(study.folder):
            continue
        found = load_predictions(cell.output(study.folder) / cell.job.done_file)
        jets = (found.probabilities, found.labels, found.classes)
        run = cell.id.replace("predictions/", "tagger/")
        try:
            scores[run] = score_tagger(*jets, balanced=True, **study.options)
        except InputError as error:  # of the test jets, the same for all runs
            return Physics(laws=Unavailable(f"taggers not scored: {error}"))
        if run.startswith(largest) and run in study.records and not calibration:
            calibrated = _calibration(found, seed)
            calibration = calibrated if isinstance(calibrated, Unavailable) else {run: calibrated}
    laws = attempt("R(L) not fitted", lambda: rejection_laws(list(scores.values()), seed=seed))
    tagging = task_laws(study)["tagging"]
    if isinstance(laws, Unavailable) or tagging.surface is None:
        return Physics(scores, calibration, laws)
    where = _wheres(tagging.surface, float(tagging.points.variable("D").max()))
    predictions = {
        name: [predict_rejection(law, loss, seed=seed) for loss in where] for name, law in laws.items()
    }
    signal = SHOWN_SIGNAL if SHOWN_SIGNAL in laws else next(iter(laws))
    curves = roc_law(list(scores.values()), signal, seed=seed)
    return Physics(scores, calibration, laws, predictions, [curves.at(loss) for loss in where])


def _calibration(found: Predictions, seed: int) -> Calibration | Unavailable:
    """Calibration on as many jets of every class, because that is what the probabilities assume."""
    shares = _equal_shares(found.labels)
    return attempt(
        "not calibrated",
        lambda: calibrate(found.probabilities[shares], found.labels[shares], found.classes, seed=seed),
    )


def _equal_shares(labels: np.ndarray) -> np.ndarray:
    """Places of as many jets of every class as there are of the rarest, (n,), in order."""
    places = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    return np.sort(np.concatenate([of_class[: min(map(len, places))] for of_class in places]))


def _wheres(surface: FitResult, most_jets: float) -> list[ExpectedLoss]:
    """The largest D of the runs and ten times that, each at infinite N, and the limit of both."""
    return [
        expected_loss(surface, D=most_jets),
        expected_loss(surface, D=10 * most_jets),
        expected_loss(surface),
    ]


def section(study: Study) -> Section | None:
    """Rejections, R(L) and calibration of the taggers; None for a study without taggers."""
    found = physics(study)
    if found is None:
        return None
    sizes = [size for size in study.sizes("tagger") if all(run in found.scores for run in size.runs)]
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
    signals = found.scores[next(iter(best.runs))].signals
    rejections = ", ".join(
        f"{name} {_rejection(found, best, name)} at {_percent(s)} efficiency" for name, s in signals.items()
    )
    lines = [
        f"Best size on test jets, {best.name}{seeds}: accuracy {accuracy:.3f} ± {np.hypot(error, spread or 0):.3f}, "
        f"QCD rejection {rejections}."
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
        f"R(L) = A exp(B L) + C describes {len(good)} of {len(found.laws)} signals within test statistics (p > 0.05); "
        f"the rejection in the limit of infinite data and size is identified for {len(known)} of {len(limits)}."
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
        "Fits of R(L) = A exp(B L) + C over all taggers. chi2 and its probability p refer to test statistics alone; "
        "the scatter is by how much runs of equal loss differ beyond them, in ln R.",
        laws.items(),
        [
            ("signal", lambda item: item[0]),
            ("A [68 %]", lambda item: interval(item[1].fit.params["A"])),
            ("B [68 %]", lambda item: interval(item[1].fit.params["B"])),
            ("C [68 %]", lambda item: interval(item[1].fit.params["C"])),
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
        "of both. Far below the lowest loss measured, this extrapolates two laws.",
        [(name, p) for name, predictions in found.predictions.items() for p in predictions],
        [
            ("signal", lambda item: item[0]),
            ("at", lambda item: item[1].where),
            ("expected loss [68 %]", lambda item: interval(item[1].loss)),
            ("expected rejection [68 %]", lambda item: interval(item[1].rejection)),
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
            "exp(B L) + C and its 68 % band. Diamonds are what the laws predict for infinite N at more data, "
            "open where that is not identified.",
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
            "Share of jets whose likeliest class is right, minus the probability that the tagger states, in bins "
            "of equal counts. " + " ".join(f"{run}: {c.verdict}." for run, c in found.calibration.items()),
            reliability_curves(found.calibration),
        )
