import numpy as np
import pytest
import torch

from eval.common.errors import InputError as EvalInputError
from eval.scaling import fit, get_law, grid, simulate
from genscale.config import load_config, to_mapping
from genscale.data.packing import Packing
from genscale.errors import InputError
from genscale.models.cost import activation_bytes, cost, describe
from genscale.models.counting import count_parameters, generator_flops
from genscale.models.generator import Generator
from genscale.models.ladder import (
    LADDER,
    TAGGER_RATE_TIMES_WIDTH,
    generator_config,
    learning_rate,
    tagger_learning_rate,
)
from genscale.training.generator import GeneratorRun
from genscale.training.tagger import TaggerRun
from genscale.training.task import TrainingConfig
from genscale.training.tokenizer import TokenizerRun

SIZES = [*LADDER, "omnijet"]
TRUTH = {"E": 2.0, "A": 50.0, "alpha": 0.5, "B": 300.0, "beta": 0.4}


@pytest.fixture(scope="module")
def law():
    n, d = grid([1e4, 1e5, 1e6, 1e7], [1e4, 1e5, 1e6, 1e7])
    return fit(simulate(get_law("additive"), TRUTH, noise=1e-3, N=n, D=d), bootstrap=10)


@pytest.mark.parametrize("size", SIZES)
def test_every_size_builds_and_its_parts_sum_to_its_parameters(size):
    with torch.device("meta"):
        model = Generator(generator_config(size, 514))
    count = count_parameters(model)
    assert count.total == sum(p.numel() for p in model.parameters())
    # The rule of Kaplan et al. (arXiv:2001.08361, table 1): 12 layers d^2, up to norms and biases.
    c = model.config
    assert count.blocks == pytest.approx(12 * c.n_layers * c.d_model**2, rel=0.1)


def test_six_rungs_lie_below_ten_million_parameters():
    totals = [cost(size, 514, 45).parameters.total for size in LADDER]
    assert totals == sorted(totals)
    assert sum(n < 10e6 for n in totals) >= 6


@pytest.mark.parametrize(
    ("size", "change"), [("nano", {}), ("small", {}), ("micro", {"activation": "swiglu"})]
)
def test_activations_are_those_that_autograd_keeps(size, change):
    config = generator_config(size, 514, **change)
    model = Generator(config).double()  # fused blocks keep probabilities instead
    lengths = np.sort(np.random.default_rng(0).integers(20, 70, 32))[::-1]
    packing = Packing.build(lengths)
    tokens = torch.randint(0, 514, (int(lengths.sum()),))
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = {}

    def note(tensor):
        if tensor.is_floating_point() and tensor.untyped_storage().data_ptr() not in parameters:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        nats = model(tokens, tokens, packing)
    assert nats.total.item() > 0
    # More by the padding of attention, which the formula leaves out.
    assert sum(kept.values()) / 2 == pytest.approx(activation_bytes(config, len(tokens)), rel=0.08)


def test_without_a_fit_it_is_twenty_tokens_per_parameter():
    found = cost("micro", 514, 40.0)
    assert found.jets.value * 40 == pytest.approx(20 * found.parameters.total)
    tokens = 1000 * 40
    per_token = generator_flops(found.config, 1000, tokens) / tokens
    assert found.flops == pytest.approx(20 * found.parameters.total * per_token)


def test_with_a_fit_no_other_size_is_better_at_that_compute(law):
    found = cost("small", 514, 40.0, law=law)
    n, d = found.parameters.total, found.jets.value
    v = {name: law.params[name].value for name in TRUTH}

    def loss(factor: float) -> float:  # N and D at the same N D
        return v["A"] / (n * factor) ** v["alpha"] + v["B"] / (d / factor) ** v["beta"]

    assert loss(1.0) < min(loss(0.98), loss(1.02))
    assert found.jets.ci68[0] <= found.jets.ci68[1]


def test_the_table_gives_hours_and_says_which_rule_it_used(law, tmp_path):
    plain = describe(8194, 41)
    assert "hours" not in plain
    assert "rule for language models" in plain
    law.to_json(tmp_path / "fit.json")
    timed = describe(8194, 41, flops_per_second=1e12, fit=tmp_path / "fit.json")
    row = next(line for line in timed.splitlines() if line.startswith("pico") and "MiB" in line).split()
    expected = cost("pico", 8194, 41, law=law)
    assert float(row[-4]) == pytest.approx(expected.flops / 1e12 / 3600, rel=0.01)
    assert "6,570,498" in timed
    assert "fit.json" in timed
    assert "rule for language models" not in timed


def test_what_cannot_be_used_is_refused(tmp_path):
    with pytest.raises(InputError, match="--flops-per-second -1: must be positive"):
        describe(514, 41, flops_per_second=-1)
    with pytest.raises(EvalInputError, match=r"nothing\.json"):
        describe(514, 41, fit=tmp_path / "nothing.json")


def test_no_rate_means_the_one_of_the_size():
    rates = [learning_rate(size) for size in LADDER]
    assert rates == sorted(rates, reverse=True)
    for size in ("pico", "large"):
        run = load_config(GeneratorRun, None, [f"size={size}", "training.batch_jets=128"])
        assert run.training.learning_rate == learning_rate(size)
        assert to_mapping(run)["training"]["learning_rate"] == learning_rate(size)  # what the record says
    assert load_config(GeneratorRun, None, ["training.learning_rate=0.5"]).training.learning_rate == 0.5
    assert load_config(GeneratorRun, None, ["size=omnijet"]).training.learning_rate == 1e-3  # as released


def test_no_rate_means_the_one_of_the_width():
    for width in (4, 8, 64, 512):
        run = load_config(TaggerRun, None, [f"d_model={width}"])
        rate = run.training.learning_rate
        assert rate == tagger_learning_rate(width) == to_mapping(run)["training"]["learning_rate"]
        assert rate * width == pytest.approx(TAGGER_RATE_TIMES_WIDTH, rel=0.05)  # two digits are kept
    assert load_config(TaggerRun, None, ["training.learning_rate=0.5"]).training.learning_rate == 0.5


def test_a_tokenizer_has_no_rule():
    with pytest.raises(InputError, match="a tokenizer has no rule for it"):
        TokenizerRun(training=TrainingConfig(learning_rate=0))
