"""Runs: determinism, workers, interruption, bad input."""

import os
import signal
import subprocess
import sys
import time

import awkward as ak
import pytest

from genscale.data.schema import CLASSES
from genscale.data.simulation import simulate, simulate_shard
from genscale.data.simulation.run import plan
from genscale.data.store import JetStore, StoreWriter
from genscale.errors import InputError

SMALL = {"n_jets": 19, "classes": ("Wqq", "QCD"), "seed": 3, "mpi": False, "shard_jets": 4, "progress": False}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    path = tmp_path_factory.mktemp("simulation") / "jets"
    simulate(path, **SMALL)
    return JetStore.open(path)


def test_shards_divide_jets_over_classes():
    tasks = plan(23, ("QCD", "Tbl", "Hbb"), 3)
    counts = {name: sum(t.n_jets for t in tasks if t.name == name) for name in ("QCD", "Tbl", "Hbb")}
    assert counts == {"QCD": 8, "Tbl": 8, "Hbb": 7}
    assert [t.name for t in tasks[:3]] == ["QCD", "Hbb", "Tbl"]  # key order: classes alternate
    assert len({t.key for t in tasks}) == len(tasks)
    assert max(t.n_jets for t in tasks) == 3


def test_a_class_may_have_more_jets_than_its_share(undisturbed, tmp_path):
    manifest = simulate(tmp_path / "jets", **SMALL, jets_of={"QCD": 14})
    assert {name: n for name, n in manifest.class_counts.items() if n} == {"Wqq": 10, "QCD": 14}
    few, more = undisturbed.read(), JetStore.open(tmp_path / "jets").read()
    for label in (
        "label_QCD",
        "label_Wqq",
    ):  # the jets of a class are the same ones, as far as both stores reach
        pt, all_pt = few.jet_pt[few[label] == 1].tolist(), more.jet_pt[more[label] == 1].tolist()
        assert pt == all_pt[: len(pt)]


def test_jets_of_another_class_are_refused(tmp_path):
    with pytest.raises(InputError, match="Tbl is not one of the classes"):
        simulate(tmp_path / "jets", **SMALL, jets_of={"Tbl": 5})
    with pytest.raises(InputError, match="0 jets of QCD"):
        simulate(tmp_path / "jets", **SMALL, jets_of={"QCD": 0})
    assert not (tmp_path / "jets").exists()


def test_store_has_what_was_asked_for(undisturbed):
    assert len(undisturbed) == 19
    assert undisturbed.manifest.class_counts["Wqq"] == 10
    assert undisturbed.manifest.class_counts["QCD"] == 9
    assert undisturbed.manifest.meta["seed"] == 3
    assert any("pTHatMin" in line for line in undisturbed.manifest.meta["pythia_settings"]["QCD"][0])


def test_same_seed_same_jets_and_another_seed_others():
    first, again = (simulate_shard("Wqq", 8, seed=5, mpi=False) for _ in range(2))
    assert ak.array_equal(first, again)
    other = simulate_shard("Wqq", 8, seed=6, mpi=False)
    next_shard = simulate_shard("Wqq", 8, seed=5, index=1, mpi=False)
    assert not set(first.jet_pt.tolist()) & set(other.jet_pt.tolist())
    assert not set(first.jet_pt.tolist()) & set(next_shard.jet_pt.tolist())


def test_a_short_shard_is_the_beginning_of_a_long_one():
    assert ak.array_equal(
        simulate_shard("Hqql", 5, seed=1, mpi=False), simulate_shard("Hqql", 30, seed=1, mpi=False)[:5]
    )


def test_number_of_workers_does_not_matter(undisturbed, tmp_path):
    simulate(tmp_path / "jets", workers=2, **SMALL)
    assert JetStore.open(tmp_path / "jets").fingerprint == undisturbed.fingerprint


def group_is_alive(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_killed_and_resumed_equals_undisturbed(undisturbed, tmp_path):
    path = tmp_path / "jets"
    script = (
        "from genscale.data.simulation import simulate\n"
        f"if __name__ == '__main__':\n    simulate({str(path)!r}, workers=2, **{SMALL!r})\n"
    )
    (tmp_path / "run.py").write_text(script)
    run = subprocess.Popen([sys.executable, str(tmp_path / "run.py")], start_new_session=True)
    partial = path.with_name("jets.partial")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not list(partial.glob("shards/[0-9]*.arrow")):
        time.sleep(0.02)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    assert not path.exists()
    assert list(partial.glob("shards/[0-9]*.arrow"))
    # The workers notice that nobody waits for them any more.
    while time.monotonic() < deadline and group_is_alive(run.pid):
        time.sleep(0.1)
    assert not group_is_alive(run.pid)

    with pytest.raises(InputError, match=r"other settings.*seed"):
        simulate(path, **{**SMALL, "seed": 4})
    simulate(path, **SMALL)
    assert JetStore.open(path).fingerprint == undisturbed.fingerprint
    assert not partial.exists()


def test_a_split_is_recorded_also_in_a_store_that_was_begun_without(undisturbed, tmp_path, monkeypatch):
    monkeypatch.setattr(StoreWriter, "finish", lambda writer: None)
    simulate(tmp_path / "jets", **SMALL)
    monkeypatch.undo()
    with pytest.raises(InputError, match="other settings"):
        simulate(tmp_path / "jets", **{**SMALL, "seed": 4}, split="test")
    manifest = simulate(tmp_path / "jets", **SMALL, split="test")
    assert manifest.meta == {**undisturbed.manifest.meta, "split": "test"}
    assert manifest.shards == undisturbed.manifest.shards


def test_a_finished_store_is_not_overwritten(undisturbed):
    with pytest.raises(InputError, match="already there"):
        simulate(undisturbed.path, **SMALL)


def test_a_finished_store_is_reused_for_the_same_settings_only(undisturbed):
    assert simulate(undisturbed.path, **SMALL, reuse=True) == undisturbed.manifest
    with pytest.raises(InputError, match=r"holds jets of other settings \(seed is 3 there, 4 here\)"):
        simulate(undisturbed.path, **{**SMALL, "seed": 4}, reuse=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ("Tbqqq",)}, r"'Tbqqq' is unknown; did you mean Tbqq"),
        ({"classes": ("qcd",)}, r"'qcd' is unknown; did you mean QCD"),
        ({"classes": ()}, "no class"),
        ({"classes": ("QCD", "QCD")}, "each may be named once"),
        ({"n_jets": 1}, "n_jets is 1: it must be at least 2"),
        ({"seed": -1}, "seed is -1"),
        ({"workers": 0}, "workers is 0"),
        ({"shard_jets": 0}, "shard_jets is 0"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        simulate(tmp_path / "jets", **{**SMALL, **change})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("module", "name"), [("pythia8mc", "Pythia 8"), ("fastjet", "FastJet")])
def test_missing_extra_says_how_to_get_it(tmp_path, monkeypatch, module, name):
    monkeypatch.setitem(sys.modules, module, None)  # what an absent module looks like to an import
    with pytest.raises(InputError, match=rf"{name} is missing.*pip install 'genscale\[simulate\]'"):
        simulate(tmp_path / "jets", **SMALL)
    assert not list(tmp_path.iterdir())


def test_nothing_heavy_is_imported_with_the_package():
    code = (
        "import sys, genscale.data.simulation as s; assert s.simulate; "
        "assert not {'pythia8mc', 'fastjet', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_progress_counts_jets(capfd):
    counts = []
    simulate_shard("Wqq", 12, seed=1, mpi=False, advance=counts.append)
    assert sum(counts) == 12
    assert (
        "FastJet" not in capfd.readouterr().out
    )  # its banner would end up in the output of the command line


def test_classes_are_all_known():
    from genscale.data.simulation.processes import PROCESSES

    assert tuple(PROCESSES) == CLASSES
