import numpy as np
import pytest
import torch
import torch.nn.functional as F

from genscale.data.packing import Packing
from genscale.models import head as module
from genscale.models.generator import Generator, GeneratorConfig
from genscale.models.head import head_nats

TOKENS, WIDTH, VOCABULARY = 11, 5, 17


@pytest.fixture(params=[1, 4, 100])
def rows_at_once(request, monkeypatch):
    """Tokens in a chunk: all sizes must give the same numbers."""
    monkeypatch.setattr(module, "CHUNK_BYTES_CPU", request.param * VOCABULARY * 8)


def head(dtype=torch.float64, bias=True):
    torch.manual_seed(0)
    hidden = torch.randn(TOKENS, WIDTH, dtype=dtype, requires_grad=True)
    weight = torch.randn(VOCABULARY, WIDTH, dtype=dtype, requires_grad=True)
    shift = torch.randn(VOCABULARY, dtype=dtype, requires_grad=True) if bias else None
    return hidden, weight, shift, torch.randint(0, VOCABULARY, (TOKENS,))


@pytest.mark.usefixtures("rows_at_once")
@pytest.mark.parametrize("bias", [True, False])
def test_equals_cross_entropy_with_its_gradients(bias):
    hidden, weight, shift, targets = head(bias=bias)
    leaves = [t for t in (hidden, weight, shift) if t is not None]
    expected = F.cross_entropy(F.linear(hidden, weight, shift), targets, reduction="none")
    nats = head_nats(hidden, weight, shift, targets)
    torch.testing.assert_close(nats.per_token, expected, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(nats.total, expected.sum(), rtol=1e-13, atol=1e-13)
    assert not nats.per_token.requires_grad
    # Any factor may follow the sum: a mean over tokens, the scale of half precision, a part of a larger loss.
    ours = torch.autograd.grad((0.3 * nats.total) ** 2, leaves)
    theirs = torch.autograd.grad((0.3 * expected.sum()) ** 2, leaves)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("rows_at_once")
def test_gradients_are_those_of_finite_differences():
    hidden, weight, shift, targets = head()
    assert torch.autograd.gradcheck(lambda *x: head_nats(*x, targets).total, (hidden, weight, shift))


def test_without_gradients_the_likelihood_is_the_same():
    hidden, weight, shift, targets = head()
    expected = head_nats(hidden, weight, shift, targets)
    with torch.no_grad():
        nats = head_nats(hidden, weight, shift, targets)
    assert torch.equal(nats.per_token, expected.per_token)
    assert torch.equal(nats.total, expected.total)
    assert not nats.total.requires_grad


def test_extreme_logits_stay_finite():
    hidden = torch.tensor([[1.0], [1.0]], requires_grad=True)
    weight = torch.tensor([[-500.0], [0.0], [500.0]], requires_grad=True)
    nats = head_nats(hidden, weight, None, torch.tensor([0, 2]))
    assert nats.per_token.tolist() == [1000.0, 0.0]
    nats.total.backward()
    assert weight.grad.flatten().tolist() == [-1.0, 0.0, 1.0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_only_the_products_lose_precision(dtype):
    hidden, weight, shift, targets = head(torch.float32)
    leaves = (hidden, weight, shift)
    with torch.autocast("cpu", dtype=dtype):
        nats = head_nats(hidden, weight, shift, targets)
    assert nats.per_token.dtype == nats.total.dtype == torch.float32
    rounded = (hidden.to(dtype) @ weight.to(dtype).T).float() + shift
    expected = F.cross_entropy(rounded, targets, reduction="none")
    torch.testing.assert_close(nats.per_token, expected.detach(), rtol=1e-6, atol=1e-6)
    ours = torch.autograd.grad(nats.total, leaves)
    theirs = torch.autograd.grad(F.cross_entropy(F.linear(*leaves), targets, reduction="sum"), leaves)
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("tied", [True, False])
def test_a_generators_gradient_is_that_of_its_logits(tied):
    torch.manual_seed(0)
    model = Generator(GeneratorConfig(16, 2, 2, 20, max_tokens=12, tied_head=tied)).double()
    lengths = np.array([5, 3])
    packing = Packing.build(lengths)
    inputs, targets = torch.randint(0, 20, (2, 8))
    model(inputs, targets, packing).total.backward()
    ours = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    F.cross_entropy(model.logits(model.hidden(inputs, packing)), targets, reduction="sum").backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(ours[name], p.grad, rtol=1e-11, atol=1e-11)


def test_logits_of_all_tokens_never_exist_at_once():
    from torch.profiler import ProfilerActivity, profile

    vocabulary, tokens = 8194, 3000
    hidden = torch.randn(tokens, 4, requires_grad=True)
    weight = torch.randn(vocabulary, 4, requires_grad=True)
    targets = torch.randint(0, vocabulary, (tokens,))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        head_nats(hidden, weight, None, targets).total.backward()
    largest = max(event.cpu_memory_usage for event in found.events())
    assert largest < 2 * module.CHUNK_BYTES_CPU < 4 * tokens * vocabulary
