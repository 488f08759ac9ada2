import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot

from genscale.data import schema
from genscale.data.convert import convert
from genscale.data.export import BRANCH_DTYPES, FILE_NAMES, export_root
from genscale.data.manifest import partial_path
from genscale.data.store import JetStore
from genscale.errors import InputError


def processes_of_group(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def store(tmp_path, make_jets, make_store):
    classes = ("QCD", "Hbb", "Tbqq", "Tbl")
    return make_store(tmp_path / "jets", [make_jets(13, seed, classes=classes) for seed in (1, 2)])


@pytest.fixture
def exported(tmp_path, store):
    return export_root(store, tmp_path / "root", rows_per_file=5)


class TestRealRootFile:
    """Against a file that ROOT itself wrote: std::vector branches, JetClass's mixture of label types."""

    def test_agrees_with_a_plain_loop_over_the_file(self, tmp_path, jetclass_file):
        convert([jetclass_file], tmp_path / "jets", progress=False, rows_per_shard=7)
        rows = JetStore.open(tmp_path / "jets").read()
        with uproot.open(jetclass_file) as file:
            tree = file["tree"].arrays(library="np")
        assert len(rows) == 24
        unsorted = 0
        for number, jet in enumerate(rows):
            px, py = tree["part_px"][number], tree["part_py"][number]
            order = sorted(range(len(px)), key=lambda i: -(float(px[i]) ** 2 + float(py[i]) ** 2))
            unsorted += order != list(range(len(px)))
            for name in schema.PARTICLE_COLUMNS:
                assert ak.to_list(jet[name]) == [tree[name][number][i] for i in order], name
            for name in schema.JET_COLUMNS:
                assert jet[name] == tree[name][number], name
        assert unsorted > 5, "the file must be out of order for this test to mean anything"

    def test_equal_pt_keeps_its_order(self, tmp_path, make_jets):
        from genscale.data.conform import by_falling_pt

        jets = make_jets(5, least_particles=4)
        flat = ak.ones_like(jets["part_px"])
        ties = ak.with_field(ak.with_field(jets, flat, "part_px"), 0 * flat, "part_py")
        assert ak.array_equal(by_falling_pt(ties)["part_energy"], jets["part_energy"])


class TestRoundTrip:
    def test_store_to_root_to_store(self, tmp_path, store, exported, equal):
        convert([tmp_path / "root"], tmp_path / "back", progress=False)
        labels = store.labels()
        by_file = sorted(store.classes, key=lambda name: FILE_NAMES[name] + "_")
        in_file_order = [np.flatnonzero(labels == schema.CLASSES.index(name)) for name in by_file]
        assert equal(JetStore.open(tmp_path / "back").read(), store.read(np.concatenate(in_file_order)))

    def test_files_are_named_and_split_as_in_jetclass(self, store, exported):
        counts = store.manifest.class_counts
        expected = [
            f"{FILE_NAMES[n]}_{i:03d}.root" for n in schema.CLASSES for i in range(-(-counts[n] // 5))
        ]
        assert [file.name for file in exported] == expected
        for file in exported:
            with uproot.open(file) as root:
                assert root["tree"].num_entries <= 5

    def test_branches_have_the_names_and_types_of_a_real_file(self, exported, jetclass_file):
        def layout(path: Path) -> dict[str, str]:
            with uproot.open(path) as file:
                rows = file["tree"].arrays()
            return {name: str(rows[name].type.content) for name in rows.fields}

        ours = layout(exported[0])
        assert ours.pop("npart") == "int32"
        assert ours == layout(jetclass_file)

    def test_label_types_are_jetclass_s(self):
        kinds = {name: BRANCH_DTYPES.get(name, "float32") for name in schema.LABELS}
        assert list(kinds.values()) == ["float32"] + ["bool"] * 5 + ["int32"] * 4

    def test_generated_store_has_what_it_has(self, tmp_path, make_jets, make_store):
        columns = [*schema.REQUIRED_COLUMNS, *schema.LABELS]
        small = make_store(tmp_path / "gen", [make_jets(6)[columns]])
        export_root(small, tmp_path / "genroot")
        convert([tmp_path / "genroot"], tmp_path / "back", progress=False)
        assert set(JetStore.open(tmp_path / "back").columns) == set(columns)

    def test_refuses_jets_of_no_class(self, tmp_path, make_jets, make_store):
        unlabelled = make_store(tmp_path / "gen", [make_jets(6)[list(schema.REQUIRED_COLUMNS)]])
        with pytest.raises(InputError, match="these jets have no labels"):
            export_root(unlabelled, tmp_path / "genroot")

    def test_refuses_to_overwrite(self, store, exported):
        with pytest.raises(InputError, match="root: already there"):
            export_root(store, exported[0].parent)
        with pytest.raises(InputError, match="already there"):
            export_root(store, store.path)


class TestConversion:
    def test_workers_change_nothing(self, tmp_path, exported):
        for workers in (1, 2):
            convert(
                [tmp_path / "root"],
                tmp_path / f"w{workers}",
                workers=workers,
                progress=False,
                rows_per_shard=4,
            )
        one, two = (JetStore.open(tmp_path / f"w{workers}") for workers in (1, 2))
        assert one.fingerprint == two.fingerprint

    def test_resumes_and_reaches_the_same_store(self, tmp_path, exported, monkeypatch):
        monkeypatch.setattr("genscale.data.convert._LOOKED_AT", 0)  # or the damage would be found at once
        whole = convert(exported, tmp_path / "whole", progress=False, rows_per_shard=4)
        shutil.copytree(tmp_path / "root", tmp_path / "copy" / "root")
        victim = sorted((tmp_path / "copy" / "root").iterdir())[-1]
        good = victim.read_bytes()
        # the last file loses the content of a basket: everything before it is converted, then it fails
        victim.write_bytes(good[:300] + bytes(200) + good[500:])
        with pytest.raises(InputError, match=victim.name):
            convert([tmp_path / "copy" / "root"], tmp_path / "b", progress=False, rows_per_shard=4)
        assert not (tmp_path / "b").exists()
        shards = list((partial_path(tmp_path / "b") / "shards").iterdir())
        before = {file.name: file.stat().st_mtime_ns for file in shards}
        assert before
        victim.write_bytes(good)
        with pytest.raises(InputError, match=r"begun with other settings \(files is"):
            convert([tmp_path / "copy" / "root"], tmp_path / "b", progress=False, rows_per_shard=4)
        header = partial_path(tmp_path / "b") / "progress" / "header.json"
        header.unlink()  # as if the run had begun with the good file
        again = convert([tmp_path / "copy" / "root"], tmp_path / "b", progress=False, rows_per_shard=4)
        assert again.shards == whole.shards
        after = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "b" / "shards").iterdir()}
        assert all(after[name] == time for name, time in before.items())

    def test_killed_with_its_workers_then_resumed(self, tmp_path, jetclass_file):
        whole = convert([jetclass_file], tmp_path / "whole", progress=False, rows_per_shard=1)
        code = "import sys; from genscale.data.convert import convert\nif __name__ == '__main__': "
        code += "convert(sys.argv[1:2], sys.argv[2], workers=2, progress=False, rows_per_shard=1)"
        (tmp_path / "run.py").write_text(code)
        command = [sys.executable, str(tmp_path / "run.py"), str(jetclass_file), str(tmp_path / "b")]
        run = subprocess.Popen(command, start_new_session=True)
        shards, deadline = partial_path(tmp_path / "b") / "shards", time.monotonic() + 60
        while not list(shards.glob("[0-9]*.arrow")) and run.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        run.kill()
        run.wait()
        while time.monotonic() < deadline and processes_of_group(run.pid):
            time.sleep(0.05)
        assert not processes_of_group(run.pid), "workers outlived the killed conversion"
        if not (tmp_path / "b").exists():
            convert([jetclass_file], tmp_path / "b", progress=False, rows_per_shard=1)
        assert JetStore.open(tmp_path / "b").manifest.shards == whole.shards

    def test_provenance_and_split(self, tmp_path, exported):
        manifest = convert([tmp_path / "root"], tmp_path / "b", progress=False, split="val")
        assert manifest.meta["split"] == "val"
        assert manifest.meta["files"] == [
            {
                "name": file.name,
                "bytes": file.stat().st_size,
                "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            }
            for file in sorted(exported)
        ]

    def test_globs_and_files(self, tmp_path, exported):
        chosen = [str(tmp_path / "root" / "*_000.root"), tmp_path / "root" / "TTBar_001.root"]
        manifest = convert(chosen, tmp_path / "b", progress=False)
        names = [record["name"] for record in manifest.meta["files"]]
        assert names == [
            "HToBB_000.root",
            "TTBarLep_000.root",
            "TTBar_000.root",
            "TTBar_001.root",
            "ZJetsToNuNu_000.root",
        ]


class TestBadInput:
    def test_file_given_twice(self, tmp_path, exported):
        with pytest.raises(InputError, match=r"given twice, by .*root and by .*HToBB_000"):
            convert([tmp_path / "root", tmp_path / "root" / "HToBB_000.root"], tmp_path / "b", progress=False)

    def test_copy_of_a_file(self, tmp_path, jetclass_file):
        shutil.copy(jetclass_file, tmp_path / "copy.root")
        with pytest.raises(InputError, match=r"copy\.root.*; give each file once"):
            convert([jetclass_file, tmp_path / "copy.root"], tmp_path / "b", progress=False)

    def test_nothing_there(self, tmp_path):
        with pytest.raises(InputError, match="no such file, folder or glob match"):
            convert([tmp_path / "*.root"], tmp_path / "b", progress=False)
        with pytest.raises(InputError, match=r"no .*\.root file in this folder"):
            convert([tmp_path], tmp_path / "b", progress=False)
        with pytest.raises(InputError, match="nothing to convert"):
            convert([], tmp_path / "b", progress=False)

    def test_unknown_format_and_split(self, tmp_path, jetclass_file):
        known = "format 'jetklass': one of auto, jetclass, parquet, hdf5, npz, npy; nearest is jetclass"
        with pytest.raises(InputError, match=known):
            convert([jetclass_file], tmp_path / "b", format="jetklass", progress=False)
        with pytest.raises(InputError, match="split 'training': one of train, val, test"):
            convert([jetclass_file], tmp_path / "b", split="training", progress=False)

    @pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.5, 0.9, 0.999])
    def test_truncated(self, tmp_path, jetclass_file, share):
        data = jetclass_file.read_bytes()
        (tmp_path / "cut.root").write_bytes(data[: int(share * len(data))])
        with pytest.raises(
            InputError,
            match=r"cut\.root: (not a whole ROOT|none of the known formats|\d+ bytes of \d+, so cut)",
        ):
            convert([tmp_path / "cut.root"], tmp_path / "b", progress=False)
        assert not (tmp_path / "b").exists()

    def test_truncated_second_file_fails_before_the_work(self, tmp_path, exported):
        os.truncate(exported[-1], 1000)
        with pytest.raises(InputError, match=f"{exported[-1].name}: not a whole ROOT file"):
            convert(exported, tmp_path / "b", progress=False)
        assert not partial_path(tmp_path / "b").exists()

    def test_not_root_at_all(self, tmp_path):
        (tmp_path / "a.root").write_text("jets")
        with pytest.raises(
            InputError, match=r"a\.root: none of the known formats \(jetclass, parquet, hdf5, npz, npy\)"
        ):
            convert([tmp_path / "a.root"], tmp_path / "b", progress=False)
        with pytest.raises(InputError, match=r"a\.root: not a jetclass file"):
            convert([tmp_path / "a.root"], tmp_path / "b", format="jetclass", progress=False)

    def test_root_file_without_the_tree(self, tmp_path):
        with uproot.recreate(tmp_path / "a.root") as file:
            file["Events"] = {"nMuon": np.arange(3)}
        with pytest.raises(InputError, match=r"a\.root: no tree called 'tree'.*\(found Events\)"):
            convert([tmp_path / "a.root"], tmp_path / "b", progress=False)

    def test_tree_without_the_branches(self, tmp_path):
        with uproot.recreate(tmp_path / "a.root") as file:
            file["tree"] = {"part_px": np.arange(3.0), "jet_pt": np.arange(3.0)}
        with pytest.raises(
            InputError,
            match=r"branches part_py, part_pz, .* more are missing \(found (jet_pt|part_px), ",
        ):
            convert([tmp_path / "a.root"], tmp_path / "b", progress=False)

    def test_files_of_different_columns(self, tmp_path, jetclass_file, make_jets, make_store):
        small = make_store(tmp_path / "gen", [make_jets(3)[[*schema.REQUIRED_COLUMNS, *schema.LABELS]]])
        other = export_root(small, tmp_path / "genroot")[0]
        with pytest.raises(InputError, match=r"columns differ from those of .*: aux_genpart_eta"):
            convert([jetclass_file, other], tmp_path / "b", progress=False)

    def test_jets_that_break_the_schema_are_located(self, tmp_path, exported):
        with uproot.open(exported[0]) as file:
            rows = file["tree"].arrays()
        rows["label_Hbb"] = rows["label_QCD"] = ak.ones_like(rows["label_Hbb"])
        particles = ak.zip({n.removeprefix("part_"): rows[n] for n in schema.PARTICLE_COLUMNS})
        branches = {"part": particles, **{n: rows[n] for n in schema.JET_COLUMNS}}
        with uproot.recreate(tmp_path / "bad.root") as file:
            file.mktree("tree", {name: values.type.content for name, values in branches.items()})
            file["tree"].extend(branches)
        with pytest.raises(InputError, match=r"bad\.root, jets 0 to \d+: .*exactly one of label_QCD"):
            convert([tmp_path / "bad.root"], tmp_path / "b", progress=False)
