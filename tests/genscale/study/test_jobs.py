"""What a job asks for, without doing it."""

import importlib
from pathlib import Path

import pytest

from genscale.study.jobs import Decode, Encode, Generate, Predict, Quality

TOKENS, PREDICTION = "genscale.inference.stores", "genscale.inference.prediction"


@pytest.mark.parametrize(
    ("job", "module", "function"),
    [
        (Encode("jets", "tokenizer"), TOKENS, "encode_store"),
        (Decode("tokens", "tokenizer", 1), TOKENS, "decode_store"),
        (Quality("tokenizer", "jets"), TOKENS, "tokenizer_quality"),
        (Generate("generator/a", 1, 1.0, 1), TOKENS, "generate_store"),
        (Predict("tagger/a", "/jets"), PREDICTION, "predict_store"),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_jobs_that_use_a_model_take_the_accelerator_as_the_commands_do(
    job, module, function, tmp_path, monkeypatch
):
    calls = []
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(
        importlib.import_module(module),
        function,
        lambda *paths, **keys: calls.append((paths, keys["device"])),
    )
    job.run(tmp_path, tmp_path / "out")
    ((paths, device),) = calls
    assert device == "cuda"
    read = {str(path) for path in paths if isinstance(path, Path)} - {
        str(out) for out in (tmp_path / "out").rglob("*")
    }
    assert {str(tmp_path / path) for path in job.reads} <= read
