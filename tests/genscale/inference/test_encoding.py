"""Jets of other stores than simulated ones: of no class, and jets that the tokenizer does not fit."""

import awkward as ak
import numpy as np
import pytest

from genscale.data.constituents import to_store_rows
from genscale.data.store import JetStore, StoreWriter, TokenStore
from genscale.errors import InputError
from genscale.inference.likelihood import likelihood_store
from genscale.inference.sampling import SamplingConfig
from genscale.inference.stores import decode_store, encode_store, generate_store
from genscale.training.generator import GeneratorRun, GeneratorTask
from genscale.training.loop import train
from genscale.training.task import TrainingConfig


def store_of(path, jets, labels=None, classes=()):
    writer = StoreWriter(path, "jets", {})
    writer.write_shard("0", to_store_rows(jets, labels, classes))
    writer.finish()
    return path


def trained(tokens, tokenizer_run, run, **settings):
    """Train on some jets of a token store; the others are held out."""
    store = TokenStore.open(tokens)
    jets = store.read(slice(0, len(store)))
    for split, part in (("train", jets[:40]), ("validation", jets[40:])):
        writer = StoreWriter(
            run.parent / f"{run.name}-{split}", "tokens", store.manifest.meta, store.class_names
        )
        writer.write_shard("0", part)
        writer.finish()
    stores = (str(run.parent / f"{run.name}-{split}") for split in ("train", "validation"))
    training = TrainingConfig(jets=32, batch_jets=16, evaluations=1, validation_jets=16, warmup_steps=0)
    config = GeneratorRun(*stores, str(tokenizer_run), training=training, **settings)
    train(GeneratorTask(config), training, run, progress=False)
    return run


def test_jets_without_labels_go_all_the_way(tmp_path, tokenizer_run, make_jets):
    jets = store_of(tmp_path / "jets", make_jets(60, 1))
    encode_store(jets, tokenizer_run, tmp_path / "tokens", progress=False)
    tokens = TokenStore.open(tmp_path / "tokens")
    assert (tokens.class_names, set(tokens.labels())) == ((), {-1})
    decode_store(tmp_path / "tokens", tokenizer_run, tmp_path / "decoded", progress=False)
    assert JetStore.open(tmp_path / "decoded").class_names == ()
    run = trained(tmp_path / "tokens", tokenizer_run, tmp_path / "run")
    generate_store(run, tmp_path / "made", 5, SamplingConfig(), progress=False)
    assert JetStore.open(tmp_path / "made").class_names == ()
    found = likelihood_store(run, jets, tmp_path / "l.arrow", progress=False)
    assert list(found["classes"]) == ["unknown"]
    with pytest.raises(InputError, match="has no labels, and the training needs them"):
        trained(tmp_path / "tokens", tokenizer_run, tmp_path / "conditional", class_conditional=True)


def test_classes_of_any_name_go_all_the_way(tmp_path, tokenizer_run, make_jets):
    labels = np.arange(60) % 2
    jets = store_of(tmp_path / "jets", make_jets(60, 1), labels, ("gluon", "quark"))
    encode_store(jets, tokenizer_run, tmp_path / "tokens", progress=False)
    assert TokenStore.open(tmp_path / "tokens").labels().tolist() == labels.tolist()
    decode_store(tmp_path / "tokens", tokenizer_run, tmp_path / "decoded", progress=False)
    assert JetStore.open(tmp_path / "decoded").labels().tolist() == labels.tolist()
    run = trained(tmp_path / "tokens", tokenizer_run, tmp_path / "run", class_conditional=True)
    generate_store(run, tmp_path / "made", 5, SamplingConfig(), class_label="quark", progress=False)
    made = JetStore.open(tmp_path / "made")
    assert (made.class_names, made.classes) == (("gluon", "quark"), ("quark",))
    with pytest.raises(InputError, match="class 'QCD': known are gluon, quark"):
        generate_store(run, tmp_path / "other", 5, SamplingConfig(), class_label="QCD", progress=False)


def test_a_tokenizer_that_does_not_fit_the_jets_is_refused(tmp_path, tokenizer_run, make_jets):
    jets = make_jets(60, 1)
    shifted = ak.with_field(jets, jets.eta_rel + 2.0, "eta_rel")
    path = store_of(tmp_path / "jets", shifted)
    with pytest.raises(
        InputError, match=r"drops 100\.0 % of the particles and empties 100\.0 % of the jets.*--accept-loss"
    ):
        encode_store(path, tokenizer_run, tmp_path / "tokens", progress=False)
    assert not list(tmp_path.glob("tokens*"))
    encode_store(path, tokenizer_run, tmp_path / "tokens", accept_loss=True, progress=False)
    assert TokenStore.open(tmp_path / "tokens").manifest.items == 2 * 60
    fitting = store_of(tmp_path / "fitting", jets)
    encode_store(fitting, tokenizer_run, tmp_path / "t", progress=False)
    run = trained(tmp_path / "t", tokenizer_run, tmp_path / "run")
    with pytest.raises(InputError, match="the tokenizer drops 100"):
        likelihood_store(run, path, tmp_path / "l.arrow", progress=False)
