from pathlib import Path

import pytest

from genscale.data.store import StoreWriter, TokenStore
from genscale.errors import InputError
from genscale.inference import stores
from genscale.inference.sampling import SamplingConfig
from genscale.inference.stores import encode_store, generate_store
from genscale.training.generator import GeneratorRun, GeneratorTask
from genscale.training.loop import train
from genscale.training.task import TrainingConfig
from tokenizer import Tokenizer


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def generator(token_stores, tokenizer_run, tmp_path_factory) -> Path:
    training = TrainingConfig(jets=32, batch_jets=16, evaluations=1, validation_jets=16, warmup_steps=0)
    run = GeneratorRun(
        str(token_stores / "train"), str(token_stores / "validation"), str(tokenizer_run), training=training
    )
    folder = tmp_path_factory.mktemp("generator") / "run"
    train(GeneratorTask(run), training, folder, progress=False)
    return folder


def test_token_shards_are_larger_than_what_is_encoded_at_once(
    jet_stores, tokenizer_run, token_stores, tmp_path, monkeypatch
):
    monkeypatch.setattr(stores, "SHARD_JETS", 30)
    monkeypatch.setattr(stores, "TOKEN_SHARD_JETS", 80)
    encode_store(jet_stores / "validation", tokenizer_run, tmp_path / "t", progress=False)
    store, whole = TokenStore.open(tmp_path / "t"), TokenStore.open(token_stores / "validation")
    assert [shard.rows for shard in store.manifest.shards] == [80, 80, 40]
    assert store.read().to_list() == whole.read().to_list()


def test_an_encoding_goes_on_but_not_with_shards_of_another_size(
    jet_stores, tokenizer_run, tmp_path, monkeypatch
):
    """A shard of fewer jets under the same name would be taken for a whole one."""
    monkeypatch.setattr(stores, "TOKEN_SHARD_JETS", 80)
    write, written = StoreWriter.write_shard, []

    def two(self, key, rows):
        if len(written) == 2:
            raise Killed
        written.append(key)
        write(self, key, rows)

    arguments = (jet_stores / "validation", tokenizer_run, tmp_path / "t")
    monkeypatch.setattr(StoreWriter, "write_shard", two)
    with pytest.raises(Killed):
        encode_store(*arguments, progress=False)
    monkeypatch.setattr(stores, "TOKEN_SHARD_JETS", 100)
    with pytest.raises(InputError, match="rows_per_shard is 80 there, 100 here"):
        encode_store(*arguments, progress=False)
    monkeypatch.setattr(stores, "TOKEN_SHARD_JETS", 80)
    written.remove("00000")
    assert encode_store(*arguments, progress=False).rows == 200
    assert written == ["00001", "00002"]


def test_generated_tokens_are_decoded_on_the_device_given(generator, tmp_path, monkeypatch):
    decode, devices = Tokenizer.decode, []

    def watched(self, *args, **keys):
        devices.append(keys.get("device"))
        return decode(self, *args, **keys)

    monkeypatch.setattr(Tokenizer, "decode", watched)
    generate_store(generator, tmp_path / "made", 5, SamplingConfig(), device="cpu", progress=False)
    assert devices == ["cpu"]


def test_counts_of_single_shards_are_not_published_but_kept_till_then(generator, tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "SHARD_JETS", 5)
    whole = generate_store(generator, tmp_path / "whole", 12, SamplingConfig(), progress=False)

    def killed(*args, **keys):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(StoreWriter, "finish", killed)
        with pytest.raises(Killed):
            generate_store(generator, tmp_path / "cut", 12, SamplingConfig(), progress=False)
    monkeypatch.setattr(stores, "sample", killed)  # nothing is drawn again
    resumed = generate_store(generator, tmp_path / "cut", 12, SamplingConfig(), progress=False)
    assert resumed.shards == whole.shards
    for name in ("whole", "cut"):
        assert sorted(file.name for file in (tmp_path / name).iterdir()) == [
            "manifest.json", "sampling.json", "shards",
        ]  # fmt: skip
    texts = [(tmp_path / name / "sampling.json").read_text() for name in ("whole", "cut")]
    assert texts[0] == texts[1]


def test_some_jets_of_a_store_are_a_fixed_choice(jet_stores, tokenizer_run, token_stores, tmp_path):
    encode_store(jet_stores / "validation", tokenizer_run, tmp_path / "some", n_jets=30, progress=False)
    some, whole = TokenStore.open(tmp_path / "some"), TokenStore.open(token_stores / "validation")
    assert len(some) == 30
    everything = [tuple(jet) for jet in whole.read()["tokens"].to_list()]
    assert {tuple(jet) for jet in some.read()["tokens"].to_list()} <= set(everything)
    tokens, offsets = stores.token_sequences(whole, 30)
    assert len(offsets) == 31
    assert len(tokens) == offsets[-1] == sum(len(jet) for jet in some.read()["tokens"].to_list())
