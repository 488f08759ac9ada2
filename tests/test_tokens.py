import pytest

from genscale import tokens
from genscale.data.store import StoreWriter, TokenStore
from genscale.errors import InputError
from genscale.tokens import encode_store


class Killed(Exception):
    pass


def test_token_shards_are_larger_than_what_is_encoded_at_once(
    jet_stores, tokenizer_run, token_stores, tmp_path, monkeypatch
):
    monkeypatch.setattr(tokens, "SHARD_JETS", 30)
    monkeypatch.setattr(tokens, "TOKEN_SHARD_JETS", 80)
    encode_store(jet_stores / "validation", tokenizer_run, tmp_path / "t", progress=False)
    store, whole = TokenStore.open(tmp_path / "t"), TokenStore.open(token_stores / "validation")
    assert [shard.rows for shard in store.manifest.shards] == [80, 80, 40]
    assert store.read().to_list() == whole.read().to_list()


def test_an_encoding_goes_on_but_not_with_shards_of_another_size(
    jet_stores, tokenizer_run, tmp_path, monkeypatch
):
    """A shard of fewer jets under the same name would be taken for a whole one."""
    monkeypatch.setattr(tokens, "TOKEN_SHARD_JETS", 80)
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
    monkeypatch.setattr(tokens, "TOKEN_SHARD_JETS", 100)
    with pytest.raises(InputError, match="rows_per_shard is 80 there, 100 here"):
        encode_store(*arguments, progress=False)
    monkeypatch.setattr(tokens, "TOKEN_SHARD_JETS", 80)
    written.remove("00000")
    assert encode_store(*arguments, progress=False).rows == 200
    assert written == ["00001", "00002"]
