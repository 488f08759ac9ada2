"""The benchmark of GPUs, on a CPU."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks import gpu

ROOT = Path(__file__).parents[1]


def bench(seconds: float = 100.0) -> gpu.Bench:
    return gpu.Bench(torch.device("cpu"), quick=True, deadline=time.monotonic() + seconds)


def test_the_command_writes_one_table_and_one_file_of_figures(tmp_path):
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.gpu", "--device", "cpu", "--quick"]
    subprocess.run([*command, "--out", str(tmp_path)], cwd=ROOT, check=True, capture_output=True)
    rows = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert {row["part"] for row in rows} == {"right", "fast"}  # a CPU does not tell the peak of its memory
    for row in rows:
        assert row["value"] is not None, row
        if row["part"] == "right":
            assert row["note"].startswith(("right", "to the bit")), row
        else:
            assert row["value"] > 0, row
    assert len((tmp_path / "gpu.txt").read_text().splitlines()) == len(rows) + 2


@pytest.mark.parametrize("name", gpu.TOLERANCE)
def test_a_device_that_computes_something_else_is_found(name):
    work = gpu.tagger_work(8, "vigl", 4)
    calls = []

    def loss(*inputs):
        calls.append(0)
        return work.loss(*inputs) * (1 + 0.1 * (len(calls) - 1))  # the second call is that of the device

    changed = gpu.Work(work.model, work.inputs, loss, work.terms)
    assert gpu.agreement(bench(), "tagger", changed, name).note.startswith("beyond")


def test_nothing_is_begun_when_no_time_is_left():
    row = bench(seconds=-1.0).guarded("fast", "something", lambda: pytest.fail("was begun"))
    assert row.value is None
    assert row.note == "not measured: no time was left"


def test_a_case_that_needs_too_much_memory_is_listed():
    def measure():
        raise torch.OutOfMemoryError("too much")

    assert bench().guarded("fast", "something", measure).note == "not measured: out of memory"
