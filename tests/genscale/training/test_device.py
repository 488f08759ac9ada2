"""What can be shown without a GPU of what runs on one: where the tensors are, and how often the host waits for them.

On the device ``meta`` tensors have shapes but no values. An operation on tensors of two devices fails there, as on a
GPU, and so does every operation whose result the host would have to read.
"""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from genscale.data.batching import Batch
from genscale.inference import sampling
from genscale.inference.sampling import SamplingConfig, sample
from genscale.models import blocks, fused, head
from genscale.models.generator import Generator, GeneratorConfig
from genscale.models.head import logits_buffer
from genscale.training.generator import GeneratorRun, GeneratorTask
from genscale.training.loop import train
from genscale.training.optimizer import FlatAdamW
from genscale.training.tagger import TaggerRun, TaggerTask
from genscale.training.task import TrainingConfig
from genscale.training.tokenizer import TokenizerRun, TokenizerTask
from tokenizer import VQVAEConfig

META = torch.device("meta")
TRAINING = TrainingConfig(
    jets=64, batch_jets=16, evaluations=1, validation_jets=32, warmup_steps=0, learning_rate=1e-3
)
MODELS = {
    "generator": {},
    "omnijet": {"size": "omnijet", "model": {"d_model": 16, "n_layers": 2, "n_heads": 2}},
    "generator of classes with positions": {
        "class_conditional": True,
        "model": {"positions": "learned", "activation": "swiglu"},
    },
    "tagger": {"d_model": 8},
    "tagger of uslu with dropout": {"d_model": 8, "preset": "uslu", "dropout": 0.1},
}


@pytest.fixture
def make_task(jet_stores, token_stores, tokenizer_run):
    def make(name: str) -> GeneratorTask | TaggerTask:
        if name.startswith("tagger"):
            stores = str(jet_stores / "train"), str(jet_stores / "validation")
            return TaggerTask(TaggerRun(*stores, training=TRAINING, **MODELS[name]))
        stores = str(token_stores / "train"), str(token_stores / "validation")
        return GeneratorTask(GeneratorRun(*stores, str(tokenizer_run), training=TRAINING, **MODELS[name]))

    return make


def first_batch(task) -> Batch:
    return task.train_rows.pack(*task.train_rows.load(np.arange(16)), np.arange(16))[0:16]


@pytest.mark.parametrize("name", MODELS)
def test_a_training_step_neither_mixes_devices_nor_reads_from_its_own(make_task, name):
    task = make_task(name)
    model = task.model.to(META).train()
    optimizer = FlatAdamW(model, weight_decay=1e-2, clip_norm=1.0)
    batch = first_batch(task).to(META)
    loss = task.loss(model, batch)
    loss.backward()
    optimizer.step(1e-3, batch.n_tokens)
    assert loss.device == META


@pytest.mark.parametrize("name", MODELS)
def test_an_evaluation_reads_its_sums_once_at_the_end(make_task, name):
    task, read = make_task(name), []

    def reduce(values, how):
        read.append(values.device)
        return torch.ones_like(values, device="cpu")

    accelerator = SimpleNamespace(device=META, process_index=0, num_processes=1, reduce=reduce)
    model = task.model.to(META).eval()
    with torch.no_grad():
        assert task.evaluate(model, accelerator, TRAINING)["loss"] == 1.0
    assert read == [META] * (
        2 if name.startswith("tagger") else 1
    )  # a tagger also counts the jets that are right


@pytest.mark.parametrize("settings", [{}, {"top_k": 5}, {"top_p": 0.8}, {"temperature": 0.7}])
def test_drawing_a_token_neither_mixes_devices_nor_reads_from_its_own(settings):
    model = Generator(GeneratorConfig(16, 2, 2, 40, 9)).to(META).eval()
    draw = sampling._Draw(model, SamplingConfig(**settings), None, 8, lambda jets, hits: None)
    logits, tokens = (
        logits_buffer(8, 40, model.embedding.weight),
        torch.zeros(8, dtype=torch.int64, device=META),
    )
    with torch.inference_mode():
        for position in range(3):
            model.step(tokens, position, draw._cache, out=logits[:, :40])
            tokens, margin = draw._invert(
                logits, torch.zeros(8, draw.depth, dtype=torch.float64, device=META)
            )
    assert tokens.device == margin.device == META


class HostReads(TorchDispatchMode):
    """Counts the operations after which the host has to wait for a GPU: it reads a value, or needs a size from it."""

    NAMES = ("_local_scalar_dense", "bincount", "equal", "is_nonzero", "masked_select", "nonzero", "_unique2",
             "unique_dim", "unique_consecutive", "repeat_interleave")  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        by_mask = name in ("index", "index_put", "index_put_") and any(
            i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1]
        )
        known_size = name == "repeat_interleave" and kwargs.get("output_size") is not None
        self.count += by_mask or (name in self.NAMES and not known_size)
        return func(*args, **kwargs)


@pytest.fixture
def no_fused(monkeypatch):
    """Compute as on a GPU, not in compiled C."""
    for module in {blocks.fused, head.fused, fused}:
        monkeypatch.setattr(module, "available", lambda rows: False)
        monkeypatch.setattr(module, "head_available", lambda hidden, weight: False)


def reads_per_step(task_of, run, folder) -> float:
    """Host reads of one training step, from two trainings of which one has four steps more."""
    counts = []
    for jets in (64, 128):
        longer = replace(run, training=replace(run.training, jets=jets))
        task = task_of(longer)
        with HostReads() as reads:
            train(task, longer.training, folder / str(jets), progress=False)
        counts.append(reads.count)
    return (counts[1] - counts[0]) / 4


@pytest.mark.parametrize("name", MODELS)
def test_the_host_waits_once_in_a_training_step(make_task, no_fused, tmp_path, name):
    task = make_task(name)
    # For the loss: weights must not change by a gradient that is not finite.
    assert reads_per_step(type(task), task.config, tmp_path) == 1


def test_the_reads_of_a_tokenizer_step_do_not_grow(jet_stores, tmp_path):
    shape = VQVAEConfig(codebook_size=8, d_model=8, n_heads=2, n_encoder_blocks=1, n_decoder_blocks=1)
    stores = str(jet_stores / "train"), str(jet_stores / "validation")
    run = TokenizerRun(*stores, shape, TRAINING)
    # The loss, three reads for the layout of the padded batch, and those of the quantizer's library, some of which
    # depend on whether codes have died.
    assert reads_per_step(TokenizerTask, run, tmp_path) <= 12


@pytest.mark.parametrize("settings", [{}, {"top_k": 5}, {"top_p": 0.8}])
def test_the_host_waits_for_few_things_at_a_position_when_it_draws_jets(settings):
    model = Generator(GeneratorConfig(16, 2, 2, 40, 9)).eval()
    with HostReads() as reads:
        sample(model, 16, SamplingConfig(**settings))
    # Per position: jets near a step of the probabilities, whether any has ended, which, and what replaces them.
    assert reads.count <= 6 * 9
