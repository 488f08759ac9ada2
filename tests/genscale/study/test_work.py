"""What a cell asks for, without doing it."""

import importlib

import pytest

from genscale.study import work

TOKENS, PREDICTION = "genscale.inference.stores", "genscale.inference.prediction"


@pytest.mark.parametrize(
    ("kind", "module", "function"),
    [
        ("encode", TOKENS, "encode_store"),
        ("decode", TOKENS, "decode_store"),
        ("quality", TOKENS, "tokenizer_quality"),
        ("generate", TOKENS, "generate_store"),
        ("predict", PREDICTION, "predict_store"),
    ],
)
def test_cells_that_use_a_model_take_the_accelerator_as_the_commands_do(
    kind, module, function, tmp_path, monkeypatch
):
    names = ("jets", "tokens", "tokenizer", "run")
    arguments = {**dict.fromkeys(names, "there"), "n_jets": 1, "temperature": 1.0, "seed": 1}
    devices = []
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(
        importlib.import_module(module), function, lambda *_, **keys: devices.append(keys.get("device"))
    )
    work.WORK[kind](arguments, tmp_path, tmp_path / "out")
    assert devices == ["cuda"]
