import numpy as np
import pytest
import torch

from genscale.data.packing import Packing
from genscale.errors import InputError
from genscale.models.counting import count_parameters, generator_flops
from genscale.models.generator import Generator, GeneratorConfig
from genscale.models.ladder import LADDER, generator_config


def small(**changes) -> Generator:
    torch.manual_seed(0)
    model = Generator(GeneratorConfig(16, 2, 2, 20, max_tokens=12, **changes))
    # Weights of a fresh model are small: larger ones make every path matter.
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return model.double().eval()


def nats(model, sequences, jets_per_group=16, labels=None):
    """Loss per token of each sequence, all in one packed batch."""
    lengths = np.array([len(s) - 1 for s in sequences])
    packing = Packing.build(lengths, jets_per_group=jets_per_group)
    inputs = torch.cat([torch.tensor(s[:-1]) for s in sequences])
    targets = torch.cat([torch.tensor(s[1:]) for s in sequences])
    return model(inputs, targets, packing, labels).per_token.split(lengths.tolist())


SEQUENCES = [[0, 5, 3, 9, 4, 19], [0, 7, 19], [0, 2, 2, 11, 19], [0, 19]]
SHAPES = [
    {},
    {"norm": "post", "activation": "relu", "scaled_embedding": False, "tied_head": False},
    {"tied_head": False},
    {"positions": "learned"},
]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_jet_does_not_depend_on_its_batch(shape):
    model = small(**shape)
    together = nats(model, SEQUENCES)
    for group in (1, 2, 3):
        for a, b in zip(together, nats(model, SEQUENCES, group), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    for sequence, expected in zip(SEQUENCES, together, strict=True):
        torch.testing.assert_close(nats(model, [sequence])[0], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_no_token_sees_a_later_one(shape):
    model = small(**shape)
    a, b = [0, 5, 3, 9, 4, 19], [0, 5, 3, 8, 1, 19]
    first, second = nats(model, [a])[0], nats(model, [b])[0]
    assert torch.equal(first[:2], second[:2])
    assert not torch.allclose(first[3:], second[3:])


@pytest.mark.parametrize("shape", SHAPES)
def test_probabilities_of_all_continuations_sum_to_one(shape):
    model = small(**shape)
    total = sum(torch.exp(-nats(model, [[0, 4, token]])[0][1]) for token in range(20))
    torch.testing.assert_close(total, torch.ones((), dtype=torch.float64))


@pytest.mark.parametrize("shape", SHAPES)
def test_cached_steps_give_the_same_logits(shape):
    model = small(**shape)
    tokens = torch.tensor([[0, 5, 3, 9], [0, 7, 1, 2]])
    packing = Packing.build(np.array([4, 4]))
    full = model.logits(model.hidden(tokens.flatten(), packing)).view(2, 4, -1)
    cache = model.new_cache(2)
    logits = torch.empty(2, 20, dtype=full.dtype)
    for position in range(4):
        with torch.no_grad():
            model.step(tokens[:, position], position, cache, out=logits)
        torch.testing.assert_close(logits, full[:, position])


def test_class_label_changes_the_likelihood_and_is_required():
    model = small(n_classes=3)
    losses = [nats(model, SEQUENCES[:1], labels=torch.tensor([label]))[0] for label in range(3)]
    assert not torch.allclose(losses[0], losses[1])
    with pytest.raises(ValueError, match="labels"):
        nats(model, SEQUENCES[:1])


def test_equals_gpt2_with_copied_weights():
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        vocab_size=20,
        n_positions=12,
        n_embd=16,
        n_layer=2,
        n_head=2,
        resid_pdrop=0,
        embd_pdrop=0,
        attn_pdrop=0,
    )
    torch.manual_seed(1)
    theirs = transformers.GPT2LMHeadModel(config).double().eval()
    ours = small(qkv_bias=True, positions="learned", scaled_embedding=False)
    state = theirs.state_dict()
    with torch.no_grad():
        ours.embedding.weight.copy_(state["transformer.wte.weight"])
        ours.position_embedding.weight.copy_(state["transformer.wpe.weight"])
        names = {"norm1": "ln_1", "norm2": "ln_2", "attention.qkv": "attn.c_attn", "attention.out": "attn.c_proj",
                 "up": "mlp.c_fc", "down": "mlp.c_proj"}  # fmt: skip
        for i, block in enumerate(ours.blocks):
            for mine, his in names.items():
                module, source = block.get_submodule(mine), f"transformer.h.{i}.{his}"
                weight = state[f"{source}.weight"]
                # GPT-2 keeps the weights of its linear layers transposed.
                module.weight.copy_(weight if "ln_" in his else weight.T)
                module.bias.copy_(state[f"{source}.bias"])
        ours.final_norm.weight.copy_(state["transformer.ln_f.weight"])
        ours.final_norm.bias.copy_(state["transformer.ln_f.bias"])
    tokens = torch.randint(0, 20, (3, 10))
    with torch.no_grad():
        expected = theirs(tokens).logits
        hidden = ours.hidden(tokens.flatten(), Packing.build(np.full(3, 10)))
    torch.testing.assert_close(ours.logits(hidden).view(3, 10, -1), expected, rtol=1e-10, atol=1e-10)


def test_omnijet_preset_has_the_released_number_of_parameters():
    count = count_parameters(Generator(generator_config("omnijet", 8194)))
    assert count.total == 6_570_498
    assert count.embedding + count.head == 2 * 8194 * 256 + 8194


def test_rungs_grow_by_about_four():
    blocks = []
    for size in LADDER:
        with torch.device("meta"):
            blocks.append(count_parameters(Generator(generator_config(size, 514))).blocks)
    ratios = np.array(blocks[1:]) / blocks[:-1]
    assert blocks[0] < 10_000
    assert 1e8 < blocks[-1] < 1e9
    assert ((ratios > 3.4) & (ratios < 5.2)).all()


def test_unknown_size_names_the_nearest():
    with pytest.raises(InputError, match="did you mean micro"):
        generator_config("micor", 514)


def test_counted_flops_equal_what_torch_counts():
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    config = generator_config("nano", 300)
    # In double precision, because fused blocks are not operations that torch could count.
    model = Generator(config).double()
    jets, length = 4, 40
    packing = Packing.build(np.full(jets, length), jets_per_group=4)
    tokens = torch.randint(0, 300, (jets * length,))
    # Fused attention on CPU is not counted by torch; the plain one is.
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        model(tokens, tokens, packing)
    ours = generator_flops(config, jets, jets * length) / 3
    # torch counts the whole attention square, we its causal half.
    square = config.n_layers * 2 * 2 * config.d_model * (length - (length + 1) / 2) * jets * length
    assert counter.get_total_flops() == pytest.approx(ours + square, rel=1e-9)
