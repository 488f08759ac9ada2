import csv
import dataclasses

import pytest

from eval.scaling import read_points
from genscale.errors import InputError
from genscale.files import write_csv
from genscale.records import Evaluation, RunRecord, early_stopped_points, points


@pytest.fixture
def record() -> RunRecord:
    evaluations = [
        Evaluation(10, 320, 12_800, 1e9, 9e8, 1e-3, {"loss": 5.0, "loss_error": 0.01}),
        Evaluation(20, 640, 25_600, 2e9, 1.8e9, 1e-3, {"loss": 4.5, "loss_error": 0.01}),
    ]
    return RunRecord(
        task="generator", size="pico", parameters={"embedding": 10, "blocks": 20, "head": 0, "total": 30},
        jets_seen=640, jets_unique=500, tokens_seen=25_600, flops=2e9, flops_6nd=1.8e9, schedule="constant", seed=3,
        config={"size": "pico"}, config_hash="abc", data={}, evaluations=evaluations, wall_s=1.0, device="cpu",
        threads=1, processes=1,
    )  # fmt: skip


def test_round_trip(record, tmp_path):
    record.save(tmp_path)
    assert RunRecord.load(tmp_path) == record
    assert record.final.metrics["loss"] == 4.5


def test_points_are_what_fits_read(record, tmp_path):
    write_csv(tmp_path / "points.csv", points([("generator/pico-s3", record)]))
    read = read_points(tmp_path / "points.csv", where={"task": "generator"})
    assert read.N.tolist() == [30, 30]
    assert read.D.tolist() == [320, 640]
    assert read.L.tolist() == [5.0, 4.5]
    assert read.C.tolist() == [1e9, 2e9]
    assert read.U.tolist() == [320, 500]
    with (tmp_path / "points.csv").open() as f:
        assert next(csv.DictReader(f))["run"] == "generator/pico-s3"


def test_runs_that_were_cut_off_while_their_loss_fell_are_told_from_those_that_stopped(record):
    def row(*losses):
        evaluations = [
            Evaluation(n, 100 * n, 4000 * n, 1e6 * n, 9e5 * n, 1e-3, {"loss": loss})
            for n, loss in enumerate(losses, 1)
        ]
        return early_stopped_points([("run", dataclasses.replace(record, evaluations=evaluations))])[0]

    falling = row(5.0, 4.0, 3.0, 2.0)
    assert (falling["L"], falling["D"], falling["stopped_early"]) == (2.0, 400, 0)
    turned = row(5.0, 2.0, 3.0, 4.0)
    assert (turned["L"], turned["D"], turned["U"], turned["stopped_early"]) == (2.0, 200, 500, 1)


def test_newer_and_broken_records_are_refused(record, tmp_path):
    dataclasses.replace(record, version=99).save(tmp_path)
    with pytest.raises(InputError, match="record version 99, this genscale reads 1"):
        RunRecord.load(tmp_path)
    (tmp_path / "record.json").write_text("{")
    with pytest.raises(InputError, match="not valid JSON"):
        RunRecord.load(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        RunRecord.load(tmp_path / "none")
