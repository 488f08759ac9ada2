"""Scored samples as points of scaling laws: one row for each run and number of jets at which it was sampled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from eval.fidelity.law import distance_row
from eval.fidelity.score import FidelityResult
from genscale.inference.sampling import sample_name
from genscale.records import RunRecord


def read_scores(
    study: Path, runs: Iterable[str], at: Iterable[int]
) -> dict[tuple[str, int | None], FidelityResult]:
    """Scores of a study's samples by run and number of jets (None: at the end of the run), those that exist.

    Parameters
    ----------
    study : Path
        Folder of the study.
    runs : iterable of str
        Ids of generator runs.
    at : iterable of int
        Numbers of jets on the way at which samples were wanted.

    Returns
    -------
    dict
    """
    found: dict[tuple[str, int | None], FidelityResult] = {}
    stages = [*at, None]
    for run in runs:
        for jets in stages:
            file = study / "fidelity" / sample_name(run, jets) / "fidelity.json"
            if file.exists():
                found[run, jets] = FidelityResult.from_json(file.read_text(), str(file))
    return found


def distance_points(
    scores: Mapping[tuple[str, int | None], FidelityResult], records: Mapping[str, RunRecord]
) -> list[dict[str, Any]]:
    """One row for every scored sample: N, D, C and the loss of its weights beside the joint distance.

    ``genscale fit FILE --column L=corrected --where resolved=1`` fits a law to a table of them.
    """
    rows = []
    for (run, jets), result in scores.items():
        record = records[run]
        after = record.final if jets is None else next(e for e in record.evaluations if e.jets_seen >= jets)
        rows.append(
            {
                "N": record.parameters["total"],
                "D": after.jets_seen,
                "C": after.flops,
                "loss": after.metrics["loss"],
                **distance_row(result.joint),
                "run": run,
                "size": record.size,
                "seed": record.seed,
                "task": record.task,
                "n_generated": result.n_generated,
                "n_reference": result.n_reference,
            }
        )
    return rows
