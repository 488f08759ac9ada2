"""The classes of jets belong to their store: any names, any number, or none."""

import numpy as np
import pytest

from genscale.data import schema
from genscale.data.store import JetStore, StoreWriter, TokenStore, require_classes
from genscale.errors import InputError

TOKENS = {"tokenizer_fingerprint": "a", "vocabulary_size": 9, "source_fingerprint": "b"}


@pytest.fixture
def two_class_jets(make_jets):
    import awkward as ak

    jets = make_jets(10, seed=3)[[name for name in schema.COLUMNS if name not in schema.LABELS]]
    quark = np.arange(10) % 3 == 0
    return ak.with_field(ak.with_field(jets, ~quark, "label_gluon"), quark, "label_quark")


def test_a_store_names_its_own_classes(tmp_path, two_class_jets, make_store):
    store = make_store(tmp_path / "jets", [two_class_jets[:6], two_class_jets[6:]])
    assert store.class_names == ("gluon", "quark")
    assert store.manifest.class_counts == {"gluon": 6, "quark": 4}
    assert store.labels().tolist() == [1, 0, 0] * 3 + [1]
    assert store.columns.index("label_gluon") < store.columns.index("aux_genpart_pid")


def test_some_of_jetclass_s_classes_keep_its_order(tmp_path, two_class_jets, make_store):
    renamed = two_class_jets[[n for n in two_class_jets.fields if not n.startswith("label_")]]
    renamed["label_Tbqq"], renamed["label_QCD"] = two_class_jets["label_gluon"], two_class_jets["label_quark"]
    store = make_store(tmp_path / "jets", [renamed])
    assert store.class_names == ("QCD", "Tbqq")
    assert store.labels().tolist() == [0, 1, 1] * 3 + [0]


def test_jets_of_no_class(tmp_path, make_jets, make_store):
    store = make_store(tmp_path / "jets", [make_jets(4)[list(schema.REQUIRED_COLUMNS)]])
    assert (store.class_names, store.classes, store.manifest.class_counts) == ((), (), {})
    with pytest.raises(InputError, match=r"no labels .*convert --class NAME"):
        store.labels()
    with pytest.raises(InputError, match="has no labels, and the tagger needs them"):
        require_classes(store, ("QCD",), "the tagger")


def test_other_classes_than_a_network_s_are_refused(tmp_path, two_class_jets, make_store):
    store = make_store(tmp_path / "jets", [two_class_jets])
    require_classes(store, ("gluon", "quark"), "the tagger")
    with pytest.raises(
        InputError, match=r"jets: its classes are gluon, quark, those of the tagger quark, gluon"
    ):
        require_classes(store, ("quark", "gluon"), "the tagger")


def test_a_class_name_that_no_column_can_have(tmp_path, two_class_jets):
    jets = two_class_jets
    jets["label_a b"] = jets["label_quark"]
    with pytest.raises(InputError, match="'label_a b': a class is named by letters"):
        StoreWriter(tmp_path / "jets", "jets", {}).write_shard("0", jets)


@pytest.mark.parametrize(
    ("classes", "labels", "dtype"),
    [(("gluon", "quark"), [0, 1, 1], "int8"), ((), [-1, -1, -1], "int8"),
     (tuple(map(str, range(188))), [187, 0, 150], "int16")],
)  # fmt: skip
def test_tokens_carry_the_classes_of_their_jets(tmp_path, classes, labels, dtype):
    import awkward as ak

    writer = StoreWriter(tmp_path / "t", "tokens", TOKENS, classes)
    writer.write_shard("0", ak.zip({"tokens": ak.Array([[0, 8]] * 3), "label": labels}, depth_limit=1))
    writer.finish()
    store = TokenStore.open(tmp_path / "t")
    assert (store.class_names, store.labels().tolist()) == (classes, labels)
    assert store.manifest.columns["label"] == dtype


@pytest.mark.parametrize(("classes", "labels"), [(("a", "b"), [0, 2]), ((), [0, -1])])
def test_labels_of_no_class_are_refused(tmp_path, classes, labels):
    import awkward as ak

    writer = StoreWriter(tmp_path / "t", "tokens", TOKENS, classes)
    with pytest.raises(InputError, match="labels"):
        writer.write_shard("0", ak.zip({"tokens": ak.Array([[0, 8]] * 2), "label": labels}, depth_limit=1))


def test_a_store_that_was_begun_with_other_classes_is_not_resumed(tmp_path):
    StoreWriter(tmp_path / "t", "tokens", TOKENS, ("a", "b"))
    with pytest.raises(InputError, match=r"other settings \(classes"):
        StoreWriter(tmp_path / "t", "tokens", TOKENS, ("a", "c"))


def test_stores_of_earlier_versions_keep_their_ten_classes(tmp_path, make_jets, make_store):
    store = make_store(tmp_path / "jets", [make_jets(5, classes=("QCD", "Tbl"))])
    assert store.class_names == schema.CLASSES
    assert JetStore.open(tmp_path / "jets").classes == ("QCD", "Tbl")
