import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import awkward as ak
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from genscale.data import mapping, schema
from genscale.data.manifest import FORMAT_VERSION, MANIFEST, partial_path
from genscale.data.store import JetStore, Store, StoreWriter, TokenStore
from genscale.errors import InputError

SIZES = (7, 0, 5, 1, 9)
SOME = ["part_px", "part_charge", "jet_pt", "label_Hbb"]  # one column of each kind
TOKEN_META = {"tokenizer_fingerprint": "abc", "vocabulary_size": 10, "source_fingerprint": "def"}


@pytest.fixture
def chunks(make_jets):
    return [make_jets(size, seed) for seed, size in enumerate(SIZES)]


@pytest.fixture
def store(tmp_path, chunks, make_store):
    return make_store(tmp_path / "jets", chunks)


@pytest.fixture
def everything(store):
    return store.read()


def first_shard(store: Store) -> Path:
    return store.path / "shards" / f"{store.manifest.shards[0].key}.arrow"


def edit_manifest(path: Path, **changes: object) -> None:
    file = path / MANIFEST
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


class TestReading:
    def test_returns_what_was_written(self, store, chunks):
        rows = store.read()
        written = ak.concatenate(chunks)
        assert len(store) == len(rows) == sum(SIZES)
        assert set(rows.fields) == set(schema.COLUMNS) == set(store.columns)
        for name in rows.fields:
            np.testing.assert_array_equal(
                ak.to_numpy(ak.flatten(rows[name], axis=None)).astype(np.float64),
                ak.to_numpy(ak.flatten(written[name], axis=None)).astype(np.float32),
            )
        assert ak.to_list(ak.num(rows["part_px"])) == ak.to_list(ak.num(written["part_px"]))

    def test_types_are_those_of_the_schema(self, everything):
        for name in everything.fields:
            flat = ak.to_numpy(ak.flatten(everything[name], axis=None))
            assert flat.dtype == schema.DTYPES[name], name

    @settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    @given(rows=st.lists(st.integers(-sum(SIZES), sum(SIZES) - 1), max_size=40))
    def test_rows_come_in_the_order_of_the_indices(self, store, everything, equal, rows):
        indices = np.array(rows, dtype=np.int64)
        assert equal(store.read(indices, SOME), everything[SOME][indices])

    @settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    @given(window=st.slices(sum(SIZES)))
    def test_slices_are_those_of_the_whole(self, store, everything, equal, window):
        rows = np.arange(sum(SIZES))[window]  # numpy's meaning of a slice: awkward fails on some empty ones
        assert equal(store.read(window, SOME), everything[SOME][rows])

    def test_mask(self, store, everything, equal):
        mask = np.arange(len(store)) % 3 == 0
        assert equal(store.read(mask), everything[mask])

    def test_chosen_columns_only(self, store):
        assert store.read(np.array([1]), columns=["jet_pt", "part_px"]).fields == ["jet_pt", "part_px"]

    def test_a_slice_of_one_shard_is_not_copied(self, store):
        twice = [np.asarray(store.read(slice(2, 5))["part_px"].layout.content.data) for _ in range(2)]
        assert np.shares_memory(*twice)

    def test_letting_pages_go_changes_nothing(self, store, everything, equal, monkeypatch):
        monkeypatch.setattr(mapping, "RESIDENT_LIMIT_BYTES", 1000)
        tight = JetStore.open(store.path)
        before = tight.read(slice(0, 4))
        order = np.random.default_rng(0).permutation(len(tight))
        for _ in range(3):
            assert equal(tight.read(order), everything[order])
        assert equal(before, everything[0:4])

    def test_labels_are_positions_in_the_class_list(self, store, everything):
        expected = [next(i for i, n in enumerate(schema.LABELS) if jet[n]) for jet in everything]
        assert store.labels().dtype == np.int64
        assert store.labels().tolist() == expected
        assert store.labels([3, 0, 3]).tolist() == [expected[3], expected[0], expected[3]]
        assert store.labels(slice(1, 4)).tolist() == expected[1:4]
        counts = {name: expected.count(i) for i, name in enumerate(schema.CLASSES)}
        assert store.manifest.class_counts == counts
        assert store.classes == tuple(name for name in schema.CLASSES if counts[name])

    def test_other_programs_read_the_shards(self, store, everything):
        table = pa.ipc.open_file(first_shard(store)).read_all()
        assert table.num_rows == SIZES[0]
        assert table["part_energy"].to_pylist() == ak.to_list(everything["part_energy"][: SIZES[0]])

    def test_survives_pickling(self, store, everything, equal):
        assert equal(pickle.loads(pickle.dumps(store)).read(), everything)

    def test_unknown_column_names_the_nearest(self, store):
        with pytest.raises(
            InputError, match=r"jets: column part_enrgy is missing \(found part_px.*did you mean part_energy"
        ):
            store.read(columns=["part_enrgy"])

    @pytest.mark.parametrize("row", [sum(SIZES), -sum(SIZES) - 1])
    def test_row_out_of_range(self, store, row):
        with pytest.raises(IndexError, match="not among its 22 rows"):
            store.read([row])


class TestFingerprint:
    def test_depends_on_content_only(self, tmp_path, chunks, store, make_store):
        again = StoreWriter(tmp_path / "again", "jets", {"seed": 2})
        for number in reversed(range(len(chunks))):
            again.write_shard(f"{number:03d}", chunks[number])
        again.finish()
        assert JetStore.open(tmp_path / "again").fingerprint == store.fingerprint
        assert make_store(tmp_path / "less", chunks[:-1]).fingerprint != store.fingerprint


class TestDamage:
    def test_no_manifest(self, tmp_path):
        with pytest.raises(InputError, match=r"no manifest\.json here"):
            JetStore.open(tmp_path)

    def test_unfinished_store_says_so(self, tmp_path, make_jets):
        StoreWriter(tmp_path / "jets", "jets", {}).write_shard("a", make_jets(3))
        with pytest.raises(InputError, match=r"jets\.partial is unfinished: run the command .* again"):
            JetStore.open(tmp_path / "jets")

    def test_manifest_is_not_json(self, store):
        (store.path / MANIFEST).write_text("{")
        with pytest.raises(InputError, match=r"manifest\.json: not a store manifest"):
            JetStore.open(store.path)

    def test_wrong_kind(self, store):
        with pytest.raises(InputError, match="a store of jets, but one of tokens is needed"):
            TokenStore.open(store.path)

    @pytest.mark.parametrize("version", [FORMAT_VERSION + 1, 0, -1, 1.5, "1", True, None])
    def test_other_versions(self, store, version):
        edit_manifest(store.path, format_version=version)
        with pytest.raises(InputError, match=f"store format {version!r}, but this genscale reads 1 to"):
            JetStore.open(store.path)

    @pytest.mark.parametrize("outside", ["../../elsewhere", "/elsewhere", "..", "", "a\0b", 7, None])
    def test_a_manifest_does_not_lead_out_of_its_folder(self, store, outside):
        first = json.loads((store.path / MANIFEST).read_text())["shards"][0]
        if isinstance(outside, str) and outside.endswith("elsewhere"):
            outside = str(store.path.parent / "elsewhere") if outside[0] == "/" else outside
            (store.path.parent / "elsewhere.arrow").write_bytes(first_shard(store).read_bytes())
        edit_manifest(store.path, shards=[{**first, "key": outside}])
        with pytest.raises(InputError, match=r"manifest.json: shard key"):
            JetStore.open(store.path)

    def test_missing_column(self, store):
        columns = {k: v for k, v in store.manifest.columns.items() if k != "part_energy"}
        edit_manifest(store.path, columns=columns)
        with pytest.raises(InputError, match=r"column part_energy is missing \(found part_px, part_py"):
            JetStore.open(store.path)

    def test_missing_shard(self, store):
        first_shard(store).unlink()
        with pytest.raises(InputError, match=r"000\.arrow: missing, though .*manifest\.json lists it"):
            JetStore.open(store.path, verify=False)

    def test_truncated_shard(self, store):
        file = first_shard(store)
        os.truncate(file, file.stat().st_size // 2)
        with pytest.raises(InputError, match=r"000\.arrow: \d+ bytes, the manifest says \d+"):
            JetStore.open(store.path, verify=False)

    def test_flipped_byte(self, store):
        file = first_shard(store)
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
        with pytest.raises(InputError, match=r"000\.arrow: checksum \w+ differs .* damaged"):
            JetStore.open(store.path)

    def test_unverified_garbage_is_named_when_it_is_read(self, store):
        file = first_shard(store)
        file.write_bytes(bytes(file.stat().st_size))
        with pytest.raises(InputError, match=r"000\.arrow: not a readable Arrow file"):
            JetStore.open(store.path, verify=False).read()


FEW_DESCRIPTORS = """
import os, resource, sys
from genscale.data.store import JetStore
from genscale.errors import InputError

store = JetStore.open(sys.argv[1])
limit = len(os.listdir("/dev/fd")) + 20
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
if sys.argv[2] == "none left":
    null = os.open(os.devnull, os.O_RDONLY)
    try:
        while True:
            os.dup(null)
    except OSError:
        pass
try:
    print(len(store.read()), len(store.read(range(len(store) - 1, -1, -1))))
except InputError as error:
    print(error)
"""


class TestDescriptors:
    def read(self, store: Store, how: str) -> str:
        program = [sys.executable, "-c", FEW_DESCRIPTORS, str(store.path), how]
        return subprocess.run(program, capture_output=True, text=True, check=True, timeout=60).stdout

    @pytest.mark.skipif(not Path("/dev/fd").is_dir(), reason="no list of open files")
    def test_a_store_may_have_more_shards_than_a_process_open_files(self, tmp_path, make_jets, make_store):
        store = make_store(tmp_path / "jets", [make_jets(1, seed) for seed in range(60)])
        assert self.read(store, "some left") == "60 60\n"

    @pytest.mark.skipif(not Path("/dev/fd").is_dir(), reason="no list of open files")
    def test_too_many_open_files_are_no_damage(self, store):
        said = self.read(store, "none left")
        assert "too many files are open" in said
        assert "ulimit -n" in said
        assert "make it again" not in said


class TestWriting:
    def test_refuses_a_finished_store(self, store):
        with pytest.raises(InputError, match="a finished store is already there; choose another folder"):
            StoreWriter(store.path, "jets", {"seed": 1})

    def test_an_empty_folder_is_no_obstacle(self, tmp_path, make_jets, make_store):
        (tmp_path / "jets").mkdir()
        assert len(make_store(tmp_path / "jets", [make_jets(2)])) == 2

    def test_refuses_a_foreign_folder(self, tmp_path):
        (tmp_path / "thesis.tex").touch()
        with pytest.raises(InputError, match="something that is not a store is already there"):
            StoreWriter(tmp_path, "jets", {})

    def test_refuses_the_unfinished_store_of_other_settings(self, tmp_path):
        StoreWriter(tmp_path / "jets", "jets", {"seed": 1, "cuts": {"pt_gev": 500}})
        with pytest.raises(InputError, match="pt_gev is 500 there, 600 here"):
            StoreWriter(tmp_path / "jets", "jets", {"seed": 1, "cuts": {"pt_gev": 600}})

    def test_goes_on_where_it_was(self, tmp_path, chunks, store):
        StoreWriter(tmp_path / "b", "jets", {"seed": 1}).write_shard("000", chunks[0])
        writer = StoreWriter(tmp_path / "b", "jets", {"seed": 1})
        assert writer.has_shard("000")
        assert not writer.has_shard("001")
        for number, chunk in enumerate(chunks[1:], start=1):
            writer.write_shard(f"{number:03d}", chunk)
        writer.finish()
        assert JetStore.open(tmp_path / "b").fingerprint == store.fingerprint

    def test_a_damaged_shard_of_an_unfinished_store_is_not_there(self, tmp_path, make_jets):
        writer = StoreWriter(tmp_path / "jets", "jets", {})
        writer.write_shard("a", make_jets(5))
        file = writer.partial / "shards" / "a.arrow"
        data = bytearray(file.read_bytes())
        data[-200] ^= 1
        file.write_bytes(data)
        assert not writer.has_shard("a")

    def test_nothing_to_finish(self, tmp_path):
        with pytest.raises(InputError, match="no shard was written"):
            StoreWriter(tmp_path / "jets", "jets", {}).finish()

    def test_shards_of_different_columns(self, tmp_path, make_jets):
        writer = StoreWriter(tmp_path / "jets", "jets", {})
        jets = make_jets(3)
        writer.write_shard("a", jets)
        writer.write_shard("b", jets[list(schema.REQUIRED_COLUMNS)])
        with pytest.raises(InputError, match=r"b\.arrow: its columns differ from those of a"):
            writer.finish()

    def test_generated_jets_need_no_displacements(self, tmp_path, make_jets, make_store):
        store = make_store(tmp_path / "jets", [make_jets(4)[list(schema.REQUIRED_COLUMNS)]])
        assert set(store.columns) == set(schema.REQUIRED_COLUMNS)

    def test_jets_without_particles(self, tmp_path, make_jets, make_store, equal):
        jets = make_jets(30, most_particles=2, least_particles=0)
        store = make_store(tmp_path / "jets", [jets, jets])
        assert ak.to_list(ak.num(store.read(np.arange(30, 60))["part_px"])) == ak.to_list(
            ak.num(jets["part_px"])
        )

    @pytest.mark.parametrize("key", ["", "a/b", "..", ".hidden", "a b"])
    def test_keys_are_file_names(self, tmp_path, make_jets, key):
        with pytest.raises(InputError, match="use letters, digits"):
            StoreWriter(tmp_path / "jets", "jets", {}).write_shard(key, make_jets(1))

    def test_two_processes(self, tmp_path, chunks, store):
        writer = StoreWriter(tmp_path / "b", "jets", {"seed": 1})
        with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
            keys = [f"{number:03d}" for number in range(len(chunks))]
            list(pool.map(writer.write_shard, keys, chunks))
        writer.finish()
        assert JetStore.open(tmp_path / "b").fingerprint == store.fingerprint


def broken(jets: ak.Array, name: str, values: object) -> ak.Array:
    return ak.with_field(jets, values, name)


class TestSchemaAtTheDoor:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda j: j[[f for f in j.fields if f != "part_px"]], "column part_px is missing"),
            (
                lambda j: broken(j, "part_enrgy", j["part_px"]),
                "part_enrgy is not in the jet schema; did you mean part_energy",
            ),
            (lambda j: broken(j, "part_px", j["part_px"] * np.nan), "part_px has values that are not finite"),
            (lambda j: broken(j, "jet_pt", -j["jet_pt"]), "jet_pt has negative values"),
            (
                lambda j: broken(j, "part_charge", j["part_px"]),
                "part_charge must hold whole numbers that fit int8",
            ),
            (
                lambda j: broken(j, "part_dphi", j["part_dphi"][:, :1]),
                "part_dphi has other list lengths than part_px",
            ),
            (lambda j: broken(j, "jet_eta", j["part_px"]), "column jet_eta must hold numbers"),
            (lambda j: broken(j, "part_deta", j["jet_eta"]), "column part_deta must hold lists"),
            (lambda j: broken(j, "label_QCD", np.ones(len(j))), "exactly one of label_QCD"),
            (lambda j: broken(j, "part_px", j["part_px"][:, ::-1] * 2), "not ordered by falling pT"),
            (
                lambda j: broken(j, "jet_pt", np.array(["a"] * len(j))),
                "a store takes numbers and lists of numbers",
            ),
        ],
    )
    def test_refuses(self, tmp_path, make_jets, change, message):
        writer = StoreWriter(tmp_path / "jets", "jets", {})
        jets = make_jets(8, least_particles=3)
        with pytest.raises(InputError, match=message):
            writer.write_shard("a", change(jets))
        assert not writer.has_shard("a")

    def test_substructure_may_be_undefined(self, tmp_path, make_jets, make_store):
        store = make_store(tmp_path / "jets", [broken(make_jets(3), "jet_tau4", np.full(3, np.nan))])
        assert np.isnan(ak.to_numpy(store.read()["jet_tau4"])).all()


class TestTokens:
    def tokens(self) -> ak.Array:
        return ak.zip(
            {"tokens": ak.Array([[0, 5, 9], [0, 9], []]), "label": np.array([0, 3, 9])}, depth_limit=1
        )

    @pytest.mark.parametrize(
        ("vocabulary", "dtype"), [(10, "uint16"), (2**16, "uint16"), (2**16 + 1, "int32")]
    )
    def test_round_trip_in_the_smallest_type(self, tmp_path, vocabulary, dtype):
        writer = StoreWriter(tmp_path / "t", "tokens", {**TOKEN_META, "vocabulary_size": vocabulary})
        writer.write_shard("a", self.tokens())
        writer.write_shard("b", self.tokens())
        writer.finish()
        store = TokenStore.open(tmp_path / "t")
        rows = store.read(np.array([4, 0]))
        assert ak.to_list(rows["tokens"]) == [[0, 9], [0, 5, 9]]
        assert ak.to_numpy(ak.flatten(rows["tokens"])).dtype == dtype
        assert store.labels().tolist() == [0, 3, 9, 0, 3, 9]
        assert (store.manifest.rows, store.manifest.items) == (6, 10)

    def test_token_outside_the_vocabulary(self, tmp_path):
        writer = StoreWriter(tmp_path / "t", "tokens", {**TOKEN_META, "vocabulary_size": 9})
        with pytest.raises(InputError, match="tokens from 0 to 9; the vocabulary has 0 to 8"):
            writer.write_shard("a", self.tokens())

    def test_meta_must_name_the_tokenizer(self, tmp_path):
        with pytest.raises(InputError, match="needs tokenizer_fingerprint"):
            StoreWriter(tmp_path / "t", "tokens", {"vocabulary_size": 3, "source_fingerprint": ""})

    def test_other_columns(self, tmp_path):
        writer = StoreWriter(tmp_path / "t", "tokens", TOKEN_META)
        with pytest.raises(InputError, match=r"columns tokens, label \(found tokens\)"):
            writer.write_shard("a", self.tokens()[["tokens"]])


class TestDisk:
    def test_not_a_folder(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(InputError, match=r"cannot be written \(Not a directory\); free space or choose"):
            StoreWriter(tmp_path / "file" / "jets", "jets", {})

    def test_full_disk_leaves_nothing_taken_for_whole(self, tmp_path, make_jets):
        """A limit on the size of files fails writes half way, as a full disk does."""
        writer = StoreWriter(tmp_path / "jets", "jets", {})
        writer.write_shard("a", make_jets(2))
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
        try:
            with pytest.raises(InputError, match=r"b\.arrow: cannot be written \(.*\); free space"):
                writer.write_shard("b", make_jets(2000))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, handler)
        assert writer.has_shard("a")
        assert not writer.has_shard("b")
        assert [file.name for file in (writer.partial / "shards").iterdir()] == ["a.arrow"]


WRITE_FOREVER = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from conftest import fake_jets
from genscale.data.store import StoreWriter
writer = StoreWriter(Path(sys.argv[1]), "jets", {"seed": 1})
print("ready", flush=True)
for number in range(12):
    if not writer.has_shard(f"{number:03d}"):
        writer.write_shard(f"{number:03d}", fake_jets(300, number))
writer.finish()
"""


class TestKill:
    def test_killed_anywhere_then_resumed_is_the_store_never_killed(self, tmp_path, make_jets, make_store):
        whole = make_store(tmp_path / "whole", [make_jets(300, number) for number in range(12)])
        path = tmp_path / "jets"
        command = [sys.executable, "-c", WRITE_FOREVER, str(path), str(Path(__file__).parent)]
        for delay in (0.0, 0.02, 0.05):
            with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
                assert process.stdout is not None
                process.stdout.readline()
                time.sleep(delay)
                process.kill()
            if path.exists():  # it was quicker than the kill: then it is whole
                break
            with pytest.raises(InputError, match="unfinished"):
                JetStore.open(path)
            writer = StoreWriter(path, "jets", {"seed": 1})
            for record in (partial_path(path) / "progress").glob("*.shard.json"):
                assert writer.has_shard(record.name.removesuffix(".shard.json"))
        if not path.exists():
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        assert JetStore.open(path).fingerprint == whole.fingerprint
        assert {file.name for file in path.iterdir()} == {MANIFEST, "shards"}
        assert len(list((path / "shards").iterdir())) == 12
