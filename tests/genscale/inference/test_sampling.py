import awkward as ak
import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from genscale.data.packing import Packing
from genscale.errors import InputError
from genscale.inference.sampling import BRANCHES, SamplingConfig, sample
from genscale.models.generator import Generator, GeneratorConfig


def made(vocab_size: int, max_tokens: int = 9, n_layers: int = 2) -> Generator:
    """A generator with weights large enough to prefer some tokens."""
    torch.manual_seed(0)
    model = Generator(GeneratorConfig(16, n_layers, 2, vocab_size, max_tokens)).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.5 * torch.randn_like(p))
    return model


@pytest.fixture(scope="module")
def model() -> Generator:
    return made(12)


#: Trees of one, two and three levels, with and without a last node that has fewer branches.
VOCABULARIES = [12, BRANCHES + 5, BRANCHES**2, BRANCHES**2 + 1]


def first_probabilities(model: Generator, temperature: float = 1.0) -> np.ndarray:
    with torch.no_grad():
        logits = model.logits(model.hidden(torch.tensor([0]), Packing.build(np.array([1]))))[0]
    logits[0] = -torch.inf
    return (logits.double() / temperature).softmax(0).numpy()


def agree(counts: np.ndarray, expected: np.ndarray) -> bool:
    """Whether counts follow their expectations, by chi-squared, which needs some counts in every bin."""
    rare = expected < 10
    assert counts[expected == 0].sum() == 0
    if expected[rare].sum() > 0:
        counts = np.append(counts[~rare], counts[rare].sum())
        expected = np.append(expected[~rare], expected[rare].sum())
    else:
        counts, expected = counts[~rare], expected[~rare]
    return bool(chisquare(counts, expected).pvalue > 1e-3)


@pytest.mark.parametrize("vocab_size", VOCABULARIES)
@pytest.mark.parametrize("settings", [{}, {"top_k": 5}, {"top_p": 0.8}, {"temperature": 0.7}])
def test_jets_do_not_depend_on_batch_size_or_on_other_jets(vocab_size, settings):
    model, config = made(vocab_size), SamplingConfig(seed=3, **settings)
    expected = sample(model, 30, config).tokens.to_list()
    for batch in (1, 7):
        assert sample(model, 30, config, batch_jets=batch).tokens.to_list() == expected
    assert sample(model, 10, config, first_jet=20).tokens.to_list() == expected[20:]


def test_jets_do_not_depend_on_noise_of_single_precision(model, monkeypatch):
    """Logits off by as much as another order of summation may move them: the same jets."""
    model, config = made(VOCABULARIES[-1]), SamplingConfig(seed=4)
    expected = sample(model, 300, config).tokens.to_list()
    step = Generator.step

    def noisy(self, *args, out):
        step(self, *args, out=out)
        return out.add_(1e-6 * torch.randn(out.shape, generator=torch.Generator().manual_seed(1)))

    monkeypatch.setattr(Generator, "step", noisy)
    assert sample(model, 300, config).tokens.to_list() == expected


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


@pytest.mark.parametrize("vocab_size", VOCABULARIES)
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_frequencies_follow_the_models_probabilities(vocab_size, temperature):
    n, model = 20_000, made(vocab_size, max_tokens=2)
    drawn = sample(model, n, SamplingConfig(temperature=temperature, seed=5), batch_jets=5000).tokens
    counts = np.bincount(ak.to_numpy(drawn[:, 1]), minlength=vocab_size)
    expected = n * first_probabilities(model, temperature)
    assert counts[0] == expected[0] == 0
    assert agree(counts, expected)  # the seed is fixed


@pytest.mark.parametrize("n_layers", [0, 2])
def test_the_second_token_follows_from_the_first(n_layers):
    n, model = 20_000, made(12, n_layers=n_layers)
    jets = sample(model, n, SamplingConfig(seed=6)).tokens
    drawn = jets[ak.num(jets) >= 3, 1:3].to_numpy()  # the others stop at once
    first = int(np.bincount(drawn[:, 0]).argmax())
    seen = drawn[drawn[:, 0] == first, 1]
    with torch.no_grad():
        logits = model.logits(model.hidden(torch.tensor([0, first]), Packing.build(np.array([2]))))[1]
    logits[0] = -torch.inf
    expected = len(seen) * logits.double().softmax(0).numpy()
    assert agree(np.bincount(seen, minlength=12), expected)


def test_every_jet_is_reported_once_and_so_are_hits_of_the_limit(model):
    seen = []
    drawn = sample(model, 100, SamplingConfig(), batch_jets=30, report=lambda *n: seen.append(n))
    jets, hits = np.sum(seen, axis=0)
    assert jets == 100
    assert hits == drawn.hit_max_length.sum() > 0


def test_top_k_and_top_p_keep_the_likeliest(model):
    p = first_probabilities(model)
    order = (-p).argsort().tolist()
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
    "bad",
    [
        {"temperature": 0},
        {"temperature": float("inf")},
        {"temperature": float("nan")},
        {"seed": 10**20},
        {"top_p": 0},
        {"top_p": 1.5},
        {"top_k": -1},
        {"seed": -1},
    ],
)
def test_impossible_settings_are_named(bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        SamplingConfig(**bad)
