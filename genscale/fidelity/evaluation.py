"""Everything that is measured on two samples, shared by worker processes, and what is written about it."""

from __future__ import annotations

import dataclasses
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import awkward as ak
import numpy as np
from tqdm import tqdm

from eval.common.errors import TooFewJets
from eval.common.results import Unavailable
from eval.fidelity.particles import score_particles
from eval.fidelity.published import FLOW_NAMES, products_of_polynomials, score_frechet, score_kernel
from eval.fidelity.score import FidelityResult, score
from eval.fidelity.two_sample import TwoSampleTest, classifier_two_sample_test
from eval.fidelity.warnings import particle_warnings
from eval.jets.constituents import Constituents
from eval.jets.energyflow import flow_names, flow_polynomials
from eval.jets.observables import DEFAULT_FIVE, REGISTRY, compute_observables
from genscale.errors import InputError
from genscale.fidelity.samples import (
    Sample,
    Selection,
    load_samples,
    sample_pair_warnings,
    selection_report,
)
from genscale.files import write_atomic
from genscale.processes import available_cores, exit_with_parent, one_thread_each

Observables = dict[str, np.ndarray]

#: Jets whose observables are computed by one task. The padding of a batch moves last digits, so this is fixed.
CHUNK_JETS = 2_500

#: Jets of either kind that the boosted trees use at most.
MOST_FOR_TREES = 50_000


def evaluate_stores(
    generated: Path,
    reference: Path,
    out: Path,
    *,
    tokenizer_floor: Path | None = None,
    n_jets: int = 0,
    selection: Selection | None = None,
    n_directions: int = 200,
    seed: int = 0,
    figures: Path | None = None,
) -> FidelityResult:
    """Score generated jets by the five observables of the joint distance alone, and write ``fidelity.json``.

    This is what a study does for each of its generators: seconds, one process. `evaluate` measures everything.

    Parameters
    ----------
    generated : Path
        Jet store, or files in a format of `genscale.data.readers`.
    reference : Path
        The same for the reference.
    out : Path
        The JSON file.
    tokenizer_floor : Path, optional
        Store of jets that were only encoded and decoded.
    n_jets : int
        At most this many jets of each store; 0 means all.
    selection : Selection, optional
        What is compared of these jets.
    n_directions : int
        Number of directions of the sliced distance.
    seed : int
        Seed of the directions and of the splits behind floors.
    figures : Path, optional
        Folder for the ratio plots.

    Returns
    -------
    FidelityResult

    Raises
    ------
    InputError
        For files that cannot be read and samples that cannot be compared, naming them.
    """
    samples = load_samples(generated, reference, tokenizer_floor, n_jets, selection)
    tables = [compute_observables(sample.particles, DEFAULT_FIVE, sample.name) for sample in samples]
    result = _with_selection(score(*tables, n_directions=n_directions, seed=seed), selection, samples)
    result = dataclasses.replace(result, warnings=(*sample_pair_warnings(*samples[:2]), *result.warnings))
    if figures is not None:
        from eval.fidelity.figures import ratio_plots

        figures.mkdir(parents=True, exist_ok=True)
        decoded = tables[2] if len(tables) > 2 else None
        ratio_plots(tables[0], tables[1], decoded).savefig(figures / "observables.png", dpi=100)
    write_atomic(out, result.to_json())
    return result


def evaluate(
    generated: Path,
    reference: Path,
    out: Path,
    *,
    tokenizer_floor: Path | None = None,
    n_jets: int = 0,
    selection: Selection | None = None,
    order: Literal[1, 2] = 1,
    n_directions: int = 200,
    seed: int = 0,
    efps: str | None = None,
    workers: int = 0,
    progress: bool = True,
) -> FidelityResult:
    """Measure everything in `eval` on two samples; write JSON, CSV, a page and its figures.

    Parameters
    ----------
    generated : Path
        Jet store, or files in a format of `genscale.data.readers`.
    reference : Path
        The same for the reference.
    out : Path
        The JSON file; the page and the CSV have its name with another suffix, figures go into ``<name>_figures/``.
    tokenizer_floor : Path, optional
        Store of jets that were only encoded and decoded.
    n_jets : int
        At most this many jets of each store; 0 means all.
    selection : Selection, optional
        What is compared of these jets.
    order : 1 or 2
        Order of the Wasserstein distances.
    n_directions : int
        Number of directions of the sliced distance.
    seed : int
        Seed of everything that draws random numbers.
    efps : str, optional
        Energy flow polynomials of more than four edges, too, for example ``d<=6``; needs EnergyFlow.
    workers : int
        Processes; 0 means one per core. The numbers do not depend on it.
    progress : bool
        Whether to show progress bars.

    Returns
    -------
    FidelityResult
        What was measured; what could not be is in `skipped`, with the number of jets that it would need.

    Raises
    ------
    InputError
        For files that cannot be read and samples that cannot be compared, naming them.
    """
    from genscale.fidelity.page import figure_groups, particle_png, ratio_png, write_evaluation

    if out.suffix != ".json":
        raise InputError(f"--out {out}: a name that ends in .json; page, CSV and figures go beside it")
    samples = load_samples(generated, reference, tokenizer_floor, n_jets, selection)
    made, real = samples[:2]
    names = tuple(name for name in REGISTRY if name != "jet_charge" or all(s.has_charge for s in samples))
    groups = figure_groups(names)
    extra = () if efps is None else flow_names(efps)
    with _processes(workers or available_cores()) as pool:
        tasks = _Tasks(pool)
        # In this order: what takes longest, what most waits for, what can fill the time, the rest.
        tasks.add("tagger", _tagger, made.particles, real.particles, seed)
        pieces = [_observables(pool, sample, names, efps) for sample in samples]
        tasks.add("particles", score_particles, made.particles, real.particles, order, 20, seed)
        tasks.add("figure particles", particle_png, samples)
        tables = _collect(pieces, sum(map(len, samples)), progress)
        tasks.add("boosted trees", _trees, *tables[:2], seed)
        flow = [products_of_polynomials(np.stack([t[n] for n in FLOW_NAMES], axis=1)) for t in tables[:2]]
        tasks.add("kpd", score_kernel, *flow, 50, seed)
        tasks.add("fpd", score_frechet, *flow, 50, seed)
        tasks.add("scores", _score, tables, (*names, *extra), order, n_directions, seed)
        for key, (_, shown) in groups.items():
            tasks.add(f"figure {key}", ratio_png, [{n: t[n] for n in shown} for t in tables], shown)
        done = tasks.results(progress)
    found = {name: value for name, value in done.items() if not isinstance(value, Unavailable)}
    result = _with_selection(found["scores"], selection, samples)
    classifiers = {"trees_on_observables": "boosted trees", "tagger_on_constituents": "tagger"}
    result = dataclasses.replace(
        result,
        particles=found.get("particles", {}),
        published={name: found[name] for name in ("fpd", "kpd") if name in found},
        classifiers={label: found[name] for label, name in classifiers.items() if name in found},
        skipped={name: value for name, value in sorted(done.items()) if isinstance(value, Unavailable)},
        warnings=(
            *sample_pair_warnings(made, real),
            *result.warnings,
            *particle_warnings(made.constituents, real.constituents),
        ),
    )
    titles = {key: title for key, (title, _) in groups.items()} | {"particles": "Spectra of single particles"}
    write_atomic(out, result.to_json())
    write_evaluation(
        result, samples, {key: (title, done[f"figure {key}"]) for key, title in titles.items()}, out
    )
    return result


def _with_selection(
    result: FidelityResult, selection: Selection | None, samples: Sequence[Sample]
) -> FidelityResult:
    if not selection:
        return result
    settings = {**result.settings, "selection": selection_report(selection, samples)}
    return dataclasses.replace(result, settings=settings)


# -- tasks ----------------------------------------------------------------------------------------------------


@contextmanager
def _processes(n: int) -> Iterator[ProcessPoolExecutor]:
    """Worker processes of one thread each; what is still to be done is dropped when an error ends the work."""
    # spawn: a forked child would inherit the threads of Arrow and torch in an unknown state
    pool = ProcessPoolExecutor(n, multiprocessing.get_context("spawn"), initializer=exit_with_parent)
    with one_thread_each():
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)


class _Tasks:
    """Named pieces of work, of which those that find too few jets are unavailable."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool
        self._futures: dict[str, Future[Any]] = {}

    def add(self, name: str, function: Callable[..., Any], *arguments: Any) -> None:
        """Submit one piece of work."""
        self._futures[name] = self._pool.submit(function, *arguments)

    def results(self, progress: bool) -> dict[str, Any]:
        """Wait for everything, and return what each piece returned or why it is not available."""
        names = {future: name for name, future in self._futures.items()}
        done: dict[str, Any] = {}
        with tqdm(total=len(names), desc="distances and tests", unit="task", disable=not progress) as bar:
            for future in as_completed(names):
                try:
                    done[names[future]] = future.result()
                except TooFewJets as error:
                    done[names[future]] = Unavailable(str(error))
                bar.set_postfix_str(names[future])
                bar.update()
        return done


def _observables(
    pool: ProcessPoolExecutor, sample: Sample, names: tuple[str, ...], efps: str | None
) -> list[Future[Observables]]:
    """Begin to compute the observables of a sample, chunk by chunk."""
    return [
        pool.submit(
            _measured, ak.to_packed(sample.particles[low : low + CHUNK_JETS]), names, efps, sample.name
        )
        for low in range(0, len(sample), CHUNK_JETS)
    ]


def _measured(particles: ak.Array, names: tuple[str, ...], efps: str | None, name: str) -> Observables:
    jets = Constituents(particles, name)
    return compute_observables(jets, names) | ({} if efps is None else flow_polynomials(jets, efps))


def _collect(pieces: list[list[Future[Observables]]], n_jets: int, progress: bool) -> list[Observables]:
    """Wait for the observables of every sample."""
    with tqdm(total=n_jets, desc="observables", unit="jet", disable=not progress) as bar:
        for future in as_completed([future for futures in pieces for future in futures]):
            bar.update(len(next(iter(future.result().values()))))
    tables = [[future.result() for future in futures] for futures in pieces]
    return [{name: np.concatenate([part[name] for part in parts]) for name in parts[0]} for parts in tables]


def _tagger(generated: ak.Array, reference: ak.Array, seed: int) -> TwoSampleTest:
    import torch

    from genscale.fidelity.tagger_test import tagger_two_sample_test

    torch.set_num_threads(1)
    return tagger_two_sample_test(generated, reference, seed)


def _trees(generated: Observables, reference: Observables, seed: int) -> TwoSampleTest:
    rng = np.random.default_rng(seed)
    some = []
    for table in (generated, reference):
        n = len(next(iter(table.values())))
        rows = rng.permutation(n)[:MOST_FOR_TREES]
        some.append({name: values[rows] for name, values in table.items()})
    return classifier_two_sample_test(some[0], some[1], seed=seed)


def _score(
    tables: list[Observables], names: tuple[str, ...], order: Literal[1, 2], n_directions: int, seed: int
) -> FidelityResult:
    return score(*tables, alone=names, p=order, n_directions=n_directions, seed=seed)
