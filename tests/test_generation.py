import awkward as ak
import numpy as np
import pytest
import torch

from genscale.errors import InputError
from genscale.generation import SamplingConfig, sample
from genscale.models.generator import Generator, GeneratorConfig
from genscale.models.packing import Packing


@pytest.fixture(scope="module")
def model() -> Generator:
    torch.manual_seed(0)
    made = Generator(GeneratorConfig(16, 2, 2, 12, max_tokens=9)).eval()
    with torch.no_grad():
        for p in made.parameters():
            p.add_(0.5 * torch.randn_like(p))
    return made


def test_jets_do_not_depend_on_batch_size_or_on_other_jets(model):
    config = SamplingConfig(seed=3)
    expected = sample(model, 60, config).tokens.to_list()
    for batch in (1, 7, 60):
        assert sample(model, 60, config, batch_jets=batch).tokens.to_list() == expected
    assert sample(model, 20, config, first_jet=40).tokens.to_list() == expected[40:]


def test_seeds_differ_and_repeat(model):
    a = sample(model, 30, SamplingConfig(seed=1)).tokens.to_list()
    assert a == sample(model, 30, SamplingConfig(seed=1)).tokens.to_list()
    assert a != sample(model, 30, SamplingConfig(seed=2)).tokens.to_list()


def test_sequences_are_well_formed_and_hits_of_the_limit_are_reported(model):
    drawn = sample(model, 300, SamplingConfig())
    stop, limit = 11, 9
    for tokens, hit in zip(drawn.tokens.to_list(), drawn.hit_max_length, strict=True):
        assert tokens[0] == 0
        assert 0 not in tokens[1:]
        assert stop not in tokens[:-1]
        assert (tokens[-1] != stop) == hit
        assert len(tokens) <= limit + 1
        assert not hit or len(tokens) == limit
    assert 0 < drawn.hit_max_length.mean() < 1


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_frequencies_follow_the_models_probabilities(model, temperature):
    n = 20_000
    drawn = sample(model, n, SamplingConfig(temperature=temperature, seed=5), batch_jets=5000).tokens
    first = ak.to_numpy(drawn[:, 1])
    with torch.no_grad():
        logits = model.logits(model.hidden(torch.tensor([0]), Packing.build(np.array([1]))))[0]
    logits[0] = -torch.inf
    p = (logits.double() / temperature).softmax(0).numpy()
    counts = np.bincount(first, minlength=12)
    expected = n * p[1:]
    chi2 = ((counts[1:] - expected) ** 2 / expected).sum()
    assert counts[0] == 0
    # 10 degrees of freedom: a correct sampler exceeds 30 once in a thousand seeds, and this seed is fixed.
    assert chi2 < 30


def test_top_k_and_top_p_keep_the_likeliest(model):
    with torch.no_grad():
        logits = model.logits(model.hidden(torch.tensor([0]), Packing.build(np.array([1]))))[0]
    logits[0] = -torch.inf
    order = logits.argsort(descending=True).tolist()
    p = logits.double().softmax(0)
    first = set(ak.to_numpy(sample(model, 500, SamplingConfig(top_k=2)).tokens[:, 1]).tolist())
    assert first == set(order[:2])
    nucleus = float(p[order[0]] + p[order[1]]) - 1e-6
    first = set(ak.to_numpy(sample(model, 500, SamplingConfig(top_p=nucleus)).tokens[:, 1]).tolist())
    assert first == set(order[:2])


def test_greedy_limit_is_deterministic(model):
    drawn = sample(model, 5, SamplingConfig(top_k=1)).tokens.to_list()
    assert all(tokens == drawn[0] for tokens in drawn)


def test_labels_are_checked(model):
    with pytest.raises(InputError, match="unconditional"):
        sample(model, 1, SamplingConfig(), label=0)
    conditional = Generator(GeneratorConfig(8, 1, 1, 12, max_tokens=9, n_classes=2))
    with pytest.raises(InputError, match="class-conditional"):
        sample(conditional, 1, SamplingConfig())
    assert len(sample(conditional, 3, SamplingConfig(), label=1).tokens) == 3


@pytest.mark.parametrize(
    "bad", [{"temperature": 0}, {"top_p": 0}, {"top_p": 1.5}, {"top_k": -1}, {"seed": -1}]
)
def test_impossible_settings_are_named(bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        SamplingConfig(**bad)
