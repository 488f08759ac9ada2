import dataclasses
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from genscale.config import from_mapping
from genscale.data.convert import convert
from genscale.data.export import export_root
from genscale.data.store import JetStore
from genscale.errors import InputError, Interrupted
from genscale.files import locked
from genscale.inference.stores import encode_store
from genscale.models import fused
from genscale.records import RunRecord
from genscale.training.checkpoint import Checkpoints
from genscale.training.generator import GeneratorRun, GeneratorTask, load_generator
from genscale.training.loop import train
from genscale.training.tagger import TaggerRun, TaggerTask, load_tagger
from genscale.training.task import TrainingConfig
from genscale.training.tokenizer import TokenizerRun, TokenizerTask

TWO_CPUS = Path(__file__).parents[3] / "configs" / "accelerate" / "two_cpus.yaml"
TRAINING = TrainingConfig(
    jets=480, batch_jets=16, evaluations=4, first_evaluation_jets=100, validation_jets=64, warmup_steps=5
)


@pytest.fixture
def generator_run(token_stores, tokenizer_run) -> GeneratorRun:
    return GeneratorRun(
        str(token_stores / "train"), str(token_stores / "validation"), str(tokenizer_run), training=TRAINING
    )


@pytest.fixture
def tagger_run(jet_stores) -> TaggerRun:
    return TaggerRun(
        str(jet_stores / "train"), str(jet_stores / "validation"), 8, dropout=0.1, training=TRAINING
    )


def losses(record: RunRecord) -> list[float]:
    return [e.metrics["loss"] for e in record.evaluations]


class Stopping(GeneratorTask):
    """Sends itself a signal in the middle of a step."""

    calls, at, number = 0, 13, signal.SIGTERM

    def loss(self, model, batch):
        self.calls += 1
        if self.calls == self.at:
            os.kill(os.getpid(), self.number)
        return super().loss(model, batch)


class Breaking(GeneratorTask):
    """Has a loss that is not a number at one step."""

    calls = 0

    def loss(self, model, batch):
        self.calls += 1
        return super().loss(model, batch) * (float("nan") if self.calls == 8 else 1.0)


def test_learns_and_records_what_it_did(generator_run, tmp_path):
    run = dataclasses.replace(
        generator_run, training=dataclasses.replace(TRAINING, jets=4800, jets_unique=600, learning_rate=3e-3)
    )
    record = train(GeneratorTask(run), run.training, tmp_path / "run", progress=False)
    assert losses(record)[-1] < losses(record)[0] - 0.1
    assert record == RunRecord.load(tmp_path / "run")
    assert (record.jets_seen, record.jets_unique) == (4800, 600)
    assert record.parameters["total"] == sum(record.parameters[k] for k in ("embedding", "blocks", "head"))
    last = record.final
    assert last.metrics["loss_padded_128"] == pytest.approx(last.metrics["loss_per_jet"] / 128)
    assert last.flops_6nd == 6 * record.parameters["total"] * last.tokens_seen
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [e.step for e in record.evaluations]
    assert any((tmp_path / "run" / "tensorboard").iterdir())


def test_the_loss_is_nats_per_real_token(generator_run, tmp_path):
    record = train(GeneratorTask(generator_run), TRAINING, tmp_path / "run", progress=False)
    model, _ = load_generator(tmp_path / "run")
    task = GeneratorTask(generator_run)
    total = tokens = 0.0
    from genscale.data.order import HELD_OUT_SEED, JetOrder

    rows = JetOrder(len(task.validation_rows), 64, HELD_OUT_SEED)[0:64]
    for row in rows:
        sequence = task.validation_rows.store.read([int(row)], columns=["tokens"])["tokens"].to_list()[0]
        inputs, targets = torch.tensor([sequence[:-1]]), torch.tensor(sequence[1:])
        from genscale.data.packing import Packing

        with torch.no_grad():
            nats = model(inputs[0], targets, Packing.build([len(targets)]))
        total, tokens = total + float(nats.total), tokens + len(targets)
    assert record.final.metrics["loss"] == pytest.approx(total / tokens, rel=1e-5)
    assert record.final.metrics["loss_per_jet"] == pytest.approx(total / 64, rel=1e-5)


def test_same_seed_same_numbers_other_seed_others(tagger_run, tmp_path):
    a = train(TaggerTask(tagger_run), TRAINING, tmp_path / "a", progress=False)
    b = train(TaggerTask(tagger_run), TRAINING, tmp_path / "b", progress=False)
    other = dataclasses.replace(tagger_run, training=dataclasses.replace(TRAINING, seed=2))
    c = train(TaggerTask(other), other.training, tmp_path / "c", progress=False)
    assert losses(a) == losses(b) != losses(c)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]
    assert load_tagger(tmp_path / "a")[1]["features"] == "full21"


@pytest.mark.skipif(torch.cuda.is_available(), reason="about CPUs")
def test_records_whether_blocks_were_fused_and_compiles_nothing_on_a_cpu(tagger_run, tmp_path):
    run = dataclasses.replace(tagger_run, dropout=0.0, training=dataclasses.replace(TRAINING, jets=64))
    plain = train(TaggerTask(run), run.training, tmp_path / "plain", progress=False)
    assert plain.fused_blocks == fused.available(torch.zeros(1, run.d_model))
    with_compile = dataclasses.replace(run, training=dataclasses.replace(run.training, compile=True))
    with pytest.warns(UserWarning, match="not compiled on a CPU"):
        same = train(TaggerTask(with_compile), with_compile.training, tmp_path / "compile", progress=False)
    assert losses(same) == losses(plain)
    with_dropout = dataclasses.replace(run, dropout=0.1)
    other = train(TaggerTask(with_dropout), run.training, tmp_path / "dropout", progress=False)
    assert other.fused_blocks is False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_saves_and_the_resumed_run_ends_the_same(generator_run, tmp_path, number):
    whole = train(GeneratorTask(generator_run), TRAINING, tmp_path / "whole", progress=False)
    task = Stopping(generator_run)
    task.number = number
    with pytest.raises(Interrupted, match="run the same command to resume") as stop:
        train(task, TRAINING, tmp_path / "cut", progress=False)
    assert stop.value.signal == number
    resumed = train(GeneratorTask(generator_run), TRAINING, tmp_path / "cut", progress=False)
    assert losses(resumed) == losses(whole)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]


def test_a_resumed_run_keeps_the_curve_of_its_first_part(generator_run, tmp_path):
    with pytest.raises(Interrupted):
        train(Stopping(generator_run), TRAINING, tmp_path / "run", progress=False)
    record = train(GeneratorTask(generator_run), TRAINING, tmp_path / "run", progress=False)
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    seen = [e.jets_seen for e in record.evaluations]
    assert seen[0] < Stopping.at * TRAINING.batch_jets < seen[-1]
    assert [event.step for event in events.Scalars("validation/loss")] == seen
    assert events.Scalars("train/loss")[0].step == TRAINING.batch_jets


def test_one_process_trains_in_one_precision_and_then_in_another(tagger_run, tmp_path):
    trained = {}
    for precision in ("fp32", "bf16", "fp32"):
        training = dataclasses.replace(TRAINING, precision=precision)
        run = dataclasses.replace(tagger_run, training=training)
        folder = tmp_path / f"{precision}-{len(trained)}"
        trained[folder.name] = losses(train(TaggerTask(run), training, folder, progress=False))
    assert trained["fp32-0"] == trained["fp32-2"] != trained["bf16-1"]


def test_dropout_goes_on_where_it_was(tagger_run, tmp_path):
    class StoppingTagger(TaggerTask):
        calls = 0

        def loss(self, model, batch):
            self.calls += 1
            if self.calls == 9:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().loss(model, batch)

    whole = train(TaggerTask(tagger_run), TRAINING, tmp_path / "whole", progress=False)
    with pytest.raises(Interrupted):
        train(StoppingTagger(tagger_run), TRAINING, tmp_path / "cut", progress=False)
    resumed = train(TaggerTask(tagger_run), TRAINING, tmp_path / "cut", progress=False)
    assert losses(resumed) == losses(whole)


def test_damaged_checkpoint_is_skipped_with_a_warning(generator_run, tmp_path):
    whole = train(GeneratorTask(generator_run), TRAINING, tmp_path / "whole", progress=False)
    often = dataclasses.replace(TRAINING, checkpoint_s=1e-6)
    task = Stopping(generator_run)
    with pytest.raises(Interrupted):
        train(task, often, tmp_path / "cut", progress=False)
    folders = sorted((tmp_path / "cut" / "checkpoints").glob("step-*"))
    assert len(folders) == 2
    weights = folders[-1] / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.warns(UserWarning, match="model.safetensors: checksum differs"):
        resumed = train(GeneratorTask(generator_run), TRAINING, tmp_path / "cut", progress=False)
    assert losses(resumed) == losses(whole)


def test_damaged_state_is_skipped_and_one_without_a_checksum_is_read(generator_run, tmp_path):
    whole = train(GeneratorTask(generator_run), TRAINING, tmp_path / "whole", progress=False)
    often = dataclasses.replace(TRAINING, checkpoint_s=1e-6)
    with pytest.raises(Interrupted):
        train(Stopping(generator_run), often, tmp_path / "cut", progress=False)
    older, newer = sorted((tmp_path / "cut" / "checkpoints").glob("step-*/state.json"))
    values = json.loads(older.read_text())
    del values["sha256"]  # as checkpoints were before
    older.write_text(json.dumps(values))
    values = json.loads(newer.read_text())
    for damage in (
        {"state": {k: v for k, v in values["state"].items() if k != "step"}},
        {"files": {}},
        {"files": []},
    ):
        newer.write_text(json.dumps(values | damage))
        with pytest.warns(UserWarning, match=r"checkpoint skipped.*state\.json"):
            assert Checkpoints(tmp_path / "cut").newest() == older.parent
    newer.write_text("[1]")
    with pytest.warns(UserWarning, match="checkpoint skipped"):
        resumed = train(GeneratorTask(generator_run), TRAINING, tmp_path / "cut", progress=False)
    assert losses(resumed) == losses(whole)


def test_a_full_disk_is_named_with_the_file_and_leaves_nothing_behind(generator_run, tmp_path, full_disk):
    whole = train(GeneratorTask(generator_run), TRAINING, tmp_path / "whole", progress=False)
    often = dataclasses.replace(TRAINING, checkpoint_s=1e-6)
    with full_disk(10_000), pytest.raises(OSError, match="too large") as full:
        train(GeneratorTask(generator_run), often, tmp_path / "run", progress=False)
    assert Path(full.value.filename).suffix == ".safetensors"
    assert not list((tmp_path / "run" / "checkpoints").iterdir())
    assert losses(train(GeneratorTask(generator_run), TRAINING, tmp_path / "run", progress=False)) == losses(
        whole
    )
    with full_disk(1_000), pytest.raises(OSError, match="too large"):
        GeneratorTask(generator_run).save(load_generator(tmp_path / "run")[0], tmp_path / "copy")
    assert not [file for file in (tmp_path / "copy").rglob("*") if file.is_file()]


def test_a_warm_up_that_fills_the_run_is_named(generator_run, tmp_path):
    long = dataclasses.replace(TRAINING, warmup_steps=TRAINING.n_steps)
    with pytest.warns(UserWarning, match=rf"warmup_steps: {long.n_steps} of {long.n_steps} steps"):
        train(GeneratorTask(generator_run), long, tmp_path / "run", progress=False)


def test_micro_batches_change_nothing(generator_run, tmp_path):
    whole = train(GeneratorTask(generator_run), TRAINING, tmp_path / "whole", progress=False)
    split = dataclasses.replace(generator_run, training=dataclasses.replace(TRAINING, accumulate=4))
    parts = train(GeneratorTask(split), split.training, tmp_path / "parts", progress=False)
    assert losses(parts) == pytest.approx(losses(whole), abs=2e-5)


def test_loss_that_is_no_number_is_named_with_step_rate_and_jets(generator_run, tmp_path):
    with pytest.raises(
        FloatingPointError, match=r"loss is nan at step 7, learning rate 0.001, batch of store rows \["
    ):
        train(Breaking(generator_run), TRAINING, tmp_path / "run", progress=False)
    assert not (tmp_path / "run" / "record.json").exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [("learning_rate", math.inf), ("learning_rate", math.nan), ("weight_decay", math.inf), ("seed", 10**20)],
)
def test_numbers_that_no_training_can_use_are_refused(key, value):
    with pytest.raises(InputError, match=f"{key}: {value} is"):
        dataclasses.replace(TRAINING, **{key: value})


def test_no_number_of_held_out_jets_means_all(tagger_run, generator_run, tokenizer_run, tmp_path):
    tokenizer = from_mapping(TokenizerRun, RunRecord.load(tokenizer_run).config, "record.json")
    for task, run in ((TaggerTask, tagger_run), (GeneratorTask, generator_run), (TokenizerTask, tokenizer)):
        found = []
        for jets in (0, 200, 10**6):
            config = dataclasses.replace(TRAINING, jets=32, validation_jets=jets)
            folder = tmp_path / task.__name__ / str(jets)
            found.append(losses(train(task(run), config, folder, progress=False)))
        assert found[0] == found[1] == found[2]


def test_folders_are_guarded(generator_run, tmp_path):
    with locked(tmp_path / "busy"), pytest.raises(InputError, match="in use by another process"):
        train(GeneratorTask(generator_run), TRAINING, tmp_path / "busy", progress=False)
    train(GeneratorTask(generator_run), TRAINING, tmp_path / "run", progress=False)
    other = dataclasses.replace(generator_run, size="nano")
    with pytest.raises(InputError, match="finished run of another configuration"):
        train(GeneratorTask(other), TRAINING, tmp_path / "run", progress=False)


def test_a_run_without_its_weights_is_not_finished(generator_run, tagger_run, tmp_path):
    config = dataclasses.replace(TRAINING, keep_weights_at=[160])
    for task_of, run in ((GeneratorTask, generator_run), (TaggerTask, tagger_run)):
        run, folder = dataclasses.replace(run, training=config), tmp_path / task_of.__name__
        first = train(task_of(run), config, folder, progress=False)
        assert train(task_of(run), config, folder, progress=False) == first
        for weights in (folder / "model.safetensors", folder / "weights" / "jets-160" / "model.safetensors"):
            whole = weights.read_bytes()
            for left in (None, whole[:-1]):
                weights.unlink() if left is None else weights.write_bytes(left)
                with pytest.raises(InputError, match=rf"{weights}: missing or damaged.*was finished"):
                    train(task_of(run), config, folder, progress=False)
            weights.write_bytes(whole)


def test_a_tokenizer_without_its_weights_is_not_finished(tokenizer_run, tmp_path):
    run = shutil.copytree(tokenizer_run, tmp_path / "run")
    config = from_mapping(TokenizerRun, RunRecord.load(run).config, "record.json")
    next(run.glob("weights-*")).unlink()
    with pytest.raises(InputError, match=r"missing, though tokenizer\.json names it; .* was finished"):
        train(TokenizerTask(config), config.training, run, progress=False)


def test_impossible_data_is_refused(generator_run, tagger_run, tmp_path):
    with pytest.raises(InputError, match="unique jets: 601 wanted, but the store has 600"):
        train(
            TaggerTask(tagger_run),
            dataclasses.replace(TRAINING, jets_unique=601),
            tmp_path / "a",
            progress=False,
        )
    with pytest.raises(InputError, match="tokens: missing"):
        GeneratorTask(GeneratorRun())
    with pytest.raises(InputError, match=r"unknown key model.nrom; did you mean norm"):
        GeneratorTask(dataclasses.replace(generator_run, model={"nrom": "post"}))


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"norm": "sandwich"}, r"model.norm: 'sandwich' is not one of pre, post"),
        ({"activation": "silu"}, r"model.activation: 'silu' is not one of gelu, "),
        ({"positions": "rotary"}, r"model.positions: 'rotary' is not one of learned, none"),
        ({"mlp_ratio": 2.5}, r"model.mlp_ratio: 2.5 is not a positive whole number"),
        ({"d_model": 10, "n_heads": 4}, r"model.d_model: 10 is not a multiple of n_heads, 4"),
        (
            {"max_tokens": 40},
            r"model.max_tokens: 40 is too short .* 128 constituents; give model.max_tokens=129",
        ),
        ({"vocab_size": 7}, r"unknown key model.vocab_size"),
    ],
)
def test_impossible_shapes_are_refused(generator_run, model, said):
    with pytest.raises(InputError, match=said):
        GeneratorTask(dataclasses.replace(generator_run, model=model))


def test_the_shape_of_a_rung_can_be_changed(generator_run):
    task = GeneratorTask(
        dataclasses.replace(generator_run, model={"d_model": 24, "n_layers": 1, "n_heads": 3})
    )
    config = task.model.config
    assert (config.d_model, config.n_layers, config.n_heads) == (24, 1, 3)


def test_a_test_split_is_never_trained_on(tagger_run, generator_run, jet_stores, tmp_path):
    export_root(JetStore.open(jet_stores / "test"), tmp_path / "root")
    convert([tmp_path / "root"], tmp_path / "test", split="test", progress=False)
    with pytest.raises(InputError, match="test: a test split; train on another store"):
        TaggerTask(dataclasses.replace(tagger_run, jets=str(tmp_path / "test")))
    TaggerTask(dataclasses.replace(tagger_run, validation=str(tmp_path / "test")))
    encode_store(tmp_path / "test", Path(generator_run.tokenizer), tmp_path / "tokens", progress=False)
    with pytest.raises(InputError, match="tokens: a test split; train on another store"):
        GeneratorTask(dataclasses.replace(generator_run, tokens=str(tmp_path / "tokens")))


def test_held_out_jets_are_not_those_of_the_training(tagger_run, generator_run):
    for task, run, key in ((TaggerTask, tagger_run, "jets"), (GeneratorTask, generator_run, "tokens")):
        with pytest.raises(InputError, match=r"train: holds jets of .*train \(shard"):
            task(dataclasses.replace(run, validation=getattr(run, key)))
    tokenizer = TokenizerRun(tagger_run.jets, tagger_run.jets)
    with pytest.raises(InputError, match="store of other jets"):
        TokenizerTask(tokenizer)


def test_tokens_of_another_tokenizer_are_refused(generator_run, tmp_path):
    from tokenizer import Tokenizer

    other = Tokenizer.create(Tokenizer.load(generator_run.tokenizer).config, seed=9)
    other.model.load_state_dict(
        {k: v + 1e-3 if v.is_floating_point() else v
         for k, v in Tokenizer.load(generator_run.tokenizer).model.state_dict().items()}
    )  # fmt: skip
    other.save(tmp_path / "other")
    with pytest.raises(InputError, match="was not made by the tokenizer"):
        GeneratorTask(dataclasses.replace(generator_run, tokenizer=str(tmp_path / "other")))


def command(run: GeneratorRun, out, **training) -> list[str]:
    keys = {"tokens": run.tokens, "validation": run.validation, "tokenizer": run.tokenizer}
    keys |= {f"training.{k}": v for k, v in {**dataclasses.asdict(run.training), **training}.items()}
    train_generator = ["-m", "genscale.cli", "train", "generator", "--out", str(out)]
    return [*train_generator, *(f"{k}={v}" for k, v in keys.items())]


def test_killed_at_random_moments_it_ends_bit_identical(generator_run, tmp_path):
    whole = train(GeneratorTask(generator_run), TRAINING, tmp_path / "whole", progress=False)
    out = tmp_path / "killed"
    chance, kills = random.Random(1), 0
    start = [sys.executable, *command(generator_run, out, checkpoint_s=1e-3)]
    while True:
        process = subprocess.Popen(start, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        before = set(Checkpoints(out).folder.glob("step-*"))
        limit = time.monotonic() + 120
        # Wait for it to get on, then let a random part of its remaining work pass.
        while process.poll() is None and set(Checkpoints(out).folder.glob("step-*")) == before:
            assert time.monotonic() < limit
            time.sleep(0.002)
        if kills < 3:
            time.sleep(chance.uniform(0, 0.05))
            process.kill()
            kills += 1
        _, errors = process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), errors.decode()[-2000:]
        if (out / "record.json").exists():
            break
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert losses(RunRecord.load(out)) == losses(whole)
    assert (out / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()


def test_two_processes_give_the_loss_curve_of_one(generator_run, tmp_path):
    whole = train(GeneratorTask(generator_run), TRAINING, tmp_path / "one", progress=False)
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(TWO_CPUS)]
    done = subprocess.run(
        [*launch, *command(generator_run, tmp_path / "two")],
        capture_output=True, text=True, timeout=120, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    two = RunRecord.load(tmp_path / "two")
    assert two.processes == 2
    assert losses(two) == pytest.approx(losses(whole), abs=1e-5)
    assert two.jets_seen == whole.jets_seen
    assert two.tokens_seen == whole.tokens_seen


def test_a_tokenizers_batch_is_not_split():
    with pytest.raises(InputError, match=r"training\.accumulate: 2; a tokenizer's batch is not split"):
        TokenizerRun(training=dataclasses.replace(TRAINING, accumulate=2))


def test_two_processes_train_one_codebook(jet_stores, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(f"""
import sys
from pathlib import Path
import torch
from genscale.training.loop import train
from genscale.training.task import TrainingConfig
from genscale.training.tokenizer import TokenizerRun, TokenizerTask
from tokenizer import VQVAEConfig

model = VQVAEConfig(codebook_size=16, d_model=8, n_heads=1, n_encoder_blocks=1, n_decoder_blocks=1)
training = TrainingConfig(jets=128, batch_jets=32, evaluations=1, validation_jets=16)
stores = [str(Path({str(jet_stores)!r}) / split) for split in ("train", "validation")]
task = TokenizerTask(TokenizerRun(*stores, model, training))
train(task, training, Path({str(tmp_path / "run")!r}), progress=False)
book = task.tokenizer.model.quantizer.codebook.contiguous()
books = [torch.empty_like(book) for _ in range(2)]
torch.distributed.all_gather(books, book)
sys.exit(0 if torch.equal(*books) else "codebooks differ")
""")
    done = subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(TWO_CPUS), str(program)],
        capture_output=True, text=True, timeout=300, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
