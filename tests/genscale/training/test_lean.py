"""Nodes that only train need no package for simulation, for files of other programs, for fits or for figures."""

import subprocess
import sys
from pathlib import Path

import numpy as np

from genscale.data.store import JetStore

ROOT = Path(__file__).parents[3]

#: Whatever else genscale depends on, and what its extras bring; docs/gpu.md lists the packages that are needed.
BLOCKED = (
    "energyflow", "fastjet", "h5py", "jinja2", "matplotlib", "mplhep", "ot", "pythia8mc", "sklearn",
    "submitit", "tensorboard", "typer", "uproot", "vector", "wasserstein",
)  # fmt: skip

CODE = """
import sys
from pathlib import Path
sys.modules.update(dict.fromkeys(sys.argv[5].split(",")))  # importing one of them fails

from genscale.inference.likelihood import likelihood_store
from genscale.inference.prediction import predict_store
from genscale.inference.sampling import SamplingConfig
from genscale.inference.stores import generate_store
from genscale.training.generator import GeneratorRun, GeneratorTask
from genscale.training.loop import train
from genscale.training.tagger import TaggerRun, TaggerTask
from genscale.training.task import TrainingConfig

jets, tokens, tokenizer, out = map(Path, sys.argv[1:5])
training = TrainingConfig(jets=32, batch_jets=16, evaluations=1, validation_jets=16, warmup_steps=0, learning_rate=1e-3)
stores = str(tokens / "train"), str(tokens / "validation")
generator = GeneratorRun(*stores, str(tokenizer), training=training)
tagger = TaggerRun(str(jets / "train"), str(jets / "validation"), d_model=4, training=training)
train(GeneratorTask(generator), training, out / "generator", progress=False)
train(TaggerTask(tagger), training, out / "tagger", progress=False)
generate_store(out / "generator", out / "jets", 8, SamplingConfig(), progress=False)
likelihood_store(out / "generator", tokens / "validation", out / "likelihood.arrow", progress=False)
predict_store(out / "tagger", jets / "test", out / "predictions.npz", progress=False)
"""


def test_training_sampling_and_scoring_need_few_packages(jet_stores, token_stores, tokenizer_run, tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", CODE]
    folders = [str(folder) for folder in (jet_stores, token_stores, tokenizer_run, tmp_path)]
    done = subprocess.run(
        [*command, *folders, ",".join(BLOCKED)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for file in ("generator/metrics.jsonl", "tagger/metrics.jsonl", "likelihood.arrow", "predictions.npz"):
        assert (tmp_path / file).stat().st_size, file
    drawn = JetStore.open(tmp_path / "jets")
    assert len(drawn) == 8
    assert np.isfinite(np.asarray(drawn.read(slice(0, 8), columns=["jet_pt"])["jet_pt"])).all()
