"""Records of training runs, one JSON file per run, and tables of their points.

Definitions (docs/glossary.md): ``N`` counts parameters by part; ``D`` counts jets seen, unique jets and real tokens
separately; ``C`` is counted from the architecture, and 6 N D is recorded beside it.
"""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from eval.scaling.repetition.threshold import Curve
from genscale.errors import InputError
from genscale.files import read_json, write_json

RECORD_VERSION = 1
RECORD_FILE = "record.json"


@dataclass(frozen=True)
class Evaluation:
    """Held-out losses at one step of a training.

    Attributes
    ----------
    step : int
        Optimizer steps so far.
    jets_seen : int
        Jets seen so far, including repeated ones.
    tokens_seen : int
        Real target tokens seen so far; particles for a tagger.
    flops : float
        Training FLOPs so far, counted from the architecture.
    flops_6nd : float
        6 N times the tokens seen so far.
    learning_rate : float
        Learning rate of the step.
    metrics : dict
        ``loss`` (nats per real token, or per jet for a tagger), ``loss_error`` (its standard error over held-out jets)
        and further numbers of the task.
    cooled_from_jets : int or None
        Jets seen when the learning rate began to fall to zero at ``jets_seen``, in a branch of the run: the numbers are
        those of a run of its own of ``jets_seen`` jets. None: there was no cooldown.
    """

    step: int
    jets_seen: int
    tokens_seen: int
    flops: float
    flops_6nd: float
    learning_rate: float
    metrics: dict[str, float]
    cooled_from_jets: int | None = None


@dataclass(frozen=True)
class RunRecord:
    """Settings, data, size and evaluations of one training run; the module's docstring has the definitions.

    ``jets_seen``, ``tokens_seen`` and ``flops`` are those of the saved model; ``branch_flops`` are those of the
    cooldown branches that gave evaluations on the way, and ``wall_s`` is the time of everything. ``stopped_early``
    means that the run continued past its lowest held-out loss for as long as its patience says: that loss is its
    minimum, and not where the run was cut off. ``fused_blocks`` tells whether the training computed its transformer
    blocks in compiled C (`genscale.models.fused`), which changes the last digits; older records do not know it. The
    file repeats the evaluation with the lowest loss as ``best``.
    """

    task: Literal["generator", "tagger", "tokenizer"]
    size: str
    parameters: dict[str, int]
    jets_seen: int
    jets_unique: int
    tokens_seen: int
    flops: float
    flops_6nd: float
    schedule: str
    seed: int
    config: dict[str, Any]
    config_hash: str
    data: dict[str, str]
    evaluations: list[Evaluation]
    wall_s: float
    device: str
    threads: int
    processes: int
    stopped_early: bool = False
    branch_flops: float = 0.0
    fused_blocks: bool | None = None
    versions: dict[str, str] = field(default_factory=dict)
    git_commit: str | None = None
    version: int = RECORD_VERSION

    @property
    def final(self) -> Evaluation:
        """The evaluation at the end of training."""
        return self.evaluations[-1]

    @property
    def best(self) -> Evaluation:
        """The evaluation with the lowest held-out loss, which is the early-stopped loss."""
        return min(self.evaluations, key=lambda e: e.metrics["loss"])

    @property
    def saved(self) -> Evaluation:
        """The evaluation of the saved weights: the best one in runs with patience, otherwise the last one."""
        return self.best if self.config["training"]["patience"] else self.final

    def save(self, run: Path) -> None:
        """Write ``record.json`` into the run's folder."""
        write_json(run / RECORD_FILE, asdict(self) | {"best": asdict(self.best)})

    def text(self) -> str:
        """Return a summary for a terminal."""
        parts = ", ".join(f"{name} {n:,}" for name, n in self.parameters.items())
        lines = [
            f"{self.task} {self.size}, seed {self.seed}: {self.schedule} learning rate, {self.device}, "
            f"{self.processes} x {self.threads} threads, {self.wall_s:.0f} s",
            f"N: {parts}",
            f"D: {self.jets_seen:,} jets seen, {self.jets_unique:,} different, {self.tokens_seen:,} tokens",
            f"C: {self.flops:.3g} FLOPs counted, 6ND {self.flops_6nd:.3g}",
            f"{'jets seen':>12s} {'loss':>10s} {'± (held out)':>13s}",
        ]
        for e in self.evaluations:
            error = e.metrics.get("loss_error")
            shown = "" if error is None else f"{error:.4f}"
            lines.append(f"{e.jets_seen:12,d} {e.metrics['loss']:10.4f} {shown:>13s}")
        return "\n".join(lines)

    @staticmethod
    def load(run: Path) -> RunRecord:
        """Read the record of a finished run.

        Parameters
        ----------
        run : Path
            Folder of the run.

        Returns
        -------
        RunRecord

        Raises
        ------
        InputError
            There is no record, or it is invalid, or it was written by a newer version.
        """
        path = run / RECORD_FILE
        values = read_json(path)
        if not isinstance(values, dict) or values.get("version") != RECORD_VERSION:
            found = values.get("version") if isinstance(values, dict) else None
            raise InputError(f"{path}: record version {found}, this genscale reads {RECORD_VERSION}")
        try:
            values.pop("best", None)  # also among the evaluations
            values["evaluations"] = [Evaluation(**e) for e in values["evaluations"]]
            return RunRecord(**values)
        except (KeyError, TypeError) as error:
            raise InputError(f"{path}: not a run record ({error})") from error


def package_versions() -> dict[str, str]:
    """Return the versions of all packages that can change results."""
    found = {"python": platform.python_version()}
    for name in ("genscale", "torch", "numpy", "scipy", "accelerate", "awkward", "vector-quantize-pytorch"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@cache
def git_commit() -> str | None:
    """Return the commit of the running source tree, with ``+`` if it has changes; None outside a checkout."""
    here = Path(__file__).parent
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
        dirty = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=here, capture_output=True, text=True, check=True, timeout=10,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+" if dirty else "")


def points(records: Iterable[tuple[str, RunRecord]]) -> list[dict[str, Any]]:
    """Return one row per evaluation of each named run: the points to which scaling laws are fitted.

    ``N`` is the total number of parameters, ``D`` jets seen, ``L`` the held-out loss, ``C`` counted FLOPs.
    """
    return [_point(name, record, e) for name, record in records for e in record.evaluations]


def early_stopped_points(records: Iterable[tuple[str, RunRecord]]) -> list[dict[str, Any]]:
    """Return one row per named run on repeated data: its early-stopped loss, and the jets and FLOPs up to this loss.

    ``U`` counts the unique jets of the run, ``D`` those seen until the lowest loss; see eval.scaling.Curve.
    ``stopped_early`` is 1 if the run went on to 1.5 times the steps of its lowest loss, or if its loss fell by less
    than 2 % over the last third of its steps. Otherwise it was cut off while its loss fell, which says as much of the
    cut as of U.
    """
    rows = []
    for name, record in records:
        curve = Curve.of(
            [e.metrics["loss"] for e in record.evaluations], [e.step for e in record.evaluations]
        )
        rows.append({**_point(name, record, record.evaluations[curve.place]), "L": curve.minimum,
                     "U": record.jets_unique, "stopped_early": int(curve.finished)})  # fmt: skip
    return rows


def _point(name: str, record: RunRecord, e: Evaluation) -> dict[str, Any]:
    return {
        "N": record.parameters["total"],
        "D": e.jets_seen,
        "L": e.metrics["loss"],
        "C": e.flops,
        "U": min(e.jets_seen, record.jets_unique),
        "seed": record.seed,
        "task": record.task,
        "run": name,
        "size": record.size,
        "N_blocks": record.parameters["blocks"],
        "N_embedding": record.parameters["embedding"],
        "D_tokens": e.tokens_seen,
        "C_6nd": e.flops_6nd,
        "L_error": e.metrics.get("loss_error", ""),
        "step": e.step,
        "learning_rate": e.learning_rate,
        "schedule": record.schedule if e.cooled_from_jets is None else "cooldown",
    }
