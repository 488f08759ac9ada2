"""Summary of a folder: a store, a training run or a study."""

from __future__ import annotations

from pathlib import Path

from genscale.data import summary as stores
from genscale.errors import InputError
from genscale.records import RECORD_FILE, RunRecord


def describe(path: Path, verify: bool = False) -> str:
    """Return a summary of the store, run or study in a folder, as text.

    Parameters
    ----------
    path : Path
        The folder.
    verify : bool
        Also compare the checksums of a store.

    Returns
    -------
    str

    Raises
    ------
    InputError
        The folder holds neither a store nor a run nor a study, or it is damaged.
    """
    if (path / "study.yaml").exists():
        from genscale.study.run import status

        return "\n".join(f"{state:8s} {cell.id}" for cell, state in status(path))
    if (path / RECORD_FILE).exists():
        return _run(RunRecord.load(path))
    if (path / "manifest.json").exists():
        return stores.render(stores.summary(path, verify=verify))
    if not path.is_dir():
        raise InputError(f"{path}: no such folder")
    raise InputError(
        f"{path}: neither a store (manifest.json) nor a run (record.json) nor a study (study.yaml)"
    )


def _run(record: RunRecord) -> str:
    parts = ", ".join(f"{name} {n:,}" for name, n in record.parameters.items())
    lines = [
        f"{record.task} {record.size}, seed {record.seed}: {record.schedule} learning rate, {record.device}, "
        f"{record.processes} x {record.threads} threads, {record.wall_s:.0f} s",
        f"N: {parts}",
        f"D: {record.jets_seen:,} jets seen, {record.jets_unique:,} different, {record.tokens_seen:,} tokens",
        f"C: {record.flops:.3g} FLOPs counted, 6ND {record.flops_6nd:.3g}",
        f"{'jets seen':>12s} {'loss':>10s} {'± (held out)':>13s}",
    ]
    for e in record.evaluations:
        error = e.metrics.get("loss_error")
        shown = "" if error is None else f"{error:.4f}"
        lines.append(f"{e.jets_seen:12,d} {e.metrics['loss']:10.4f} {shown:>13s}")
    return "\n".join(lines)
