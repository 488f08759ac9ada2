"""Backends, which run the cells of a study: in this process, in processes of this machine, or as SLURM jobs."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from genscale.errors import InputError
from genscale.processes import THREAD_VARIABLES, available_cores
from genscale.study.cells import Cell
from genscale.study.jobs import Train
from genscale.study.plan import run_cell


class Job(Protocol):
    """A started cell, whose output and errors are written to the file ``log``."""

    @property
    def log(self) -> Path:
        """File with the output of the cell, once it runs."""
        ...

    def poll(self) -> int | None:
        """Return None while the cell runs, then 0 or an error code."""
        ...

    def stop(self) -> None:
        """Ask the cell to save and end."""
        ...

    def join(self) -> None:
        """Wait until the cell has stopped."""
        ...


class Backend(Protocol):
    """A place to run cells."""

    #: Cells at one time.
    slots: int

    def start(self, study: Path, cell: Cell, threads: int) -> Job:
        """Start a cell."""
        ...

    def close(self) -> None:
        """Release what was kept for further cells."""
        ...


def log_file(study: Path, cell: Cell) -> Path:
    """Return the file to which the output of a cell is written."""
    return study / "logs" / f"{cell.id.replace('/', '.')}.log"


class _Finished:
    """A job that has ended already."""

    def __init__(self, log: Path) -> None:
        self.log = log

    def poll(self) -> int | None:
        return 0

    def stop(self) -> None:
        pass

    def join(self) -> None:
        pass


class DebugBackend:
    """Runs cells one after another in this process, for debuggers and tests."""

    slots = 1

    def start(self, study: Path, cell: Cell, threads: int) -> Job:
        """Run the cell to its end; exceptions propagate."""
        run_cell(study, cell.id)
        return _Finished(log_file(study, cell))

    def close(self) -> None:
        """Do nothing: nothing is kept."""


class LocalBackend:
    """Runs cells in processes of this machine with a fixed number of threads; their output goes to ``logs/<cell>.log``.

    A process that has finished a cell runs the next one (`genscale.study.worker`).
    """

    def __init__(self, slots: int = 0) -> None:
        self.slots = slots or available_cores()
        self._idle: dict[tuple[Path, int], list[subprocess.Popen[str]]] = {}

    def start(self, study: Path, cell: Cell, threads: int) -> Job:
        """Give the cell to a process, which ends when this process ends, for whatever reason."""
        log = log_file(study, cell)
        log.parent.mkdir(parents=True, exist_ok=True)
        idle = self._idle.setdefault((study, threads), [])
        job = _Work(idle.pop() if idle else _worker(study, threads, log), log, idle)
        job.begin(cell)
        return job

    def close(self) -> None:
        """End the processes that are waiting for a cell."""
        for process in itertools.chain(*self._idle.values()):
            _pipe(process.stdin).close()  # the end of its input
            process.wait()
        self._idle.clear()


def _worker(study: Path, threads: int, log: Path) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        # The number of threads determines the order of floating-point sums, so that it must not depend on the machine.
        **dict.fromkeys(THREAD_VARIABLES, str(threads)),
    }
    with log.open("ab") as output:  # for errors before the first cell begins
        return subprocess.Popen(
            [sys.executable, "-m", "genscale.study.worker", str(study)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=output, env=environment, text=True,
            preexec_fn=_end_with_parent,
        )  # fmt: skip


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None  # processes are started with pipes
    return pipe


class _Work:
    """A cell in a worker process, which is idle again when the cell is done."""

    def __init__(self, process: subprocess.Popen[str], log: Path, idle: list[subprocess.Popen[str]]) -> None:
        self.process, self.log, self.idle = process, log, idle
        self.done = False

    def begin(self, cell: Cell) -> None:
        with contextlib.suppress(BrokenPipeError):  # the process has died, which poll reports
            print(cell.id, self.log, sep="\t", file=_pipe(self.process.stdin), flush=True)

    def poll(self) -> int | None:
        if self.done:
            return 0
        answers = _pipe(self.process.stdout)
        if not select.select([answers], [], [], 0)[0]:
            return None
        if answers.readline():
            self.done = True
            self.idle.append(self.process)
            return 0
        return self.process.wait()  # the process closed its output without an answer, so that it has ended

    def stop(self) -> None:
        self.process.terminate()

    def join(self) -> None:
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _end_with_parent() -> None:
    """Let a child process end with its parent (on Linux), so that no orphan keeps the lock of a run's folder."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


class SlurmBackend:
    """Runs cells as SLURM jobs through submitit; ``cluster="local"`` does the same without SLURM.

    Parameters
    ----------
    cluster : str
        Executor of submitit: "slurm", "local" or "debug".
    slots : int
        Number of cells that are submitted at one time.
    options : mapping of str to Any, optional
        submitit's parameters, such as ``slurm_partition``, ``timeout_min``, ``gpus_per_node``. With ``nodes`` or
        ``tasks_per_node`` above one, every training is shared by that many processes, one GPU each; other
        work stays in one.

    Raises
    ------
    InputError
        submitit is not installed.
    """

    def __init__(
        self, cluster: str = "slurm", slots: int = 64, options: Mapping[str, Any] | None = None
    ) -> None:
        try:
            import submitit
        except ImportError as error:
            raise InputError("this backend needs submitit: pip install 'genscale[cluster]'") from error
        self.submitit, self.cluster, self.slots, self.options = submitit, cluster, slots, dict(options or {})

    def start(self, study: Path, cell: Cell, threads: int) -> Job:
        """Submit the cell as a job."""
        executor = self.submitit.AutoExecutor(folder=str(study / "logs" / "submitit"), cluster=self.cluster)
        parameters = {
            "name": f"genscale-{cell.id.replace('/', '-')}",
            "cpus_per_task": threads,
            **self.options,
        }
        if not isinstance(cell.job, Train):
            parameters |= {"nodes": 1, "tasks_per_node": 1}
        try:
            executor.update_parameters(**parameters)
        except (NameError, AssertionError) as error:
            raise InputError(f"--cluster: {str(error).splitlines()[0]}") from error
        return _SubmititJob(executor.submit(ResumableCell(study.absolute(), cell.id)))

    def close(self) -> None:
        """Do nothing: jobs belong to the cluster."""


@dataclass(frozen=True)
class ResumableCell:
    """A cell in the form that submitit runs; after its time limit or a preemption it is submitted again and resumed."""

    study: Path
    cell_id: str

    def __call__(self) -> None:
        """Run the cell; all tasks of its job share a training."""
        from submitit import JobEnvironment
        from submitit.helpers import TorchDistributedEnvironment

        if JobEnvironment().num_tasks > 1:
            TorchDistributedEnvironment().export(overwrite=True)
        run_cell(self.study, self.cell_id)

    def checkpoint(self) -> Any:
        """Return the job that submitit submits if this one is interrupted: the same cell."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class _SubmititJob:
    def __init__(self, job: Any) -> None:
        self.job = job

    @property
    def log(self) -> Path:
        return Path(self.job.paths.stderr)

    def poll(self) -> int | None:
        if not self.job.done():
            return None
        return 0 if self.job.exception() is None else 1

    def stop(self) -> None:
        self.job.cancel()

    def join(self) -> None:
        """Do nothing: a job of a cluster continues by itself until it has saved."""


def make_backend(name: str, slots: int = 0, options: Mapping[str, Any] | None = None) -> Backend:
    """Return the backend of that name: local, debug, slurm, or submitit-local; the last two take ``options``."""
    if options and name in ("local", "debug"):
        raise InputError(f"--cluster {next(iter(options))}: the backend {name} has no such options")
    if name == "local":
        return LocalBackend(slots)
    if name == "debug":
        return DebugBackend()
    if name in ("slurm", "submitit-local"):
        return SlurmBackend("slurm" if name == "slurm" else "local", slots or 64, options)
    raise InputError(f"backend {name!r}: known are local, debug, slurm, submitit-local")
