import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genscale.data.packing import Packing
from genscale.errors import InputError
from genscale.models.counting import count_parameters, tagger_flops
from genscale.models.tagger import PRESETS, Tagger, TaggerConfig
from genscale.training.tagger import TaggerRun


def small(preset="vigl") -> Tagger:
    torch.manual_seed(0)
    model = Tagger(TaggerConfig(16, n_features=5, n_classes=3, **PRESETS[preset]))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return model.double().eval()


def logits(model, jets, jets_per_group=16):
    lengths = np.array([len(j) + 1 for j in jets])
    rows = torch.cat([torch.cat([torch.zeros(1, 5, dtype=torch.float64), j]) for j in jets])
    return model(rows, Packing.build(lengths, jets_per_group=jets_per_group))


#: Vigl et al., arXiv:2602.15781: 1.1k parameters at d = 4 to 12.6M at d = 512.
@pytest.mark.parametrize(
    ("width", "published"), [(4, 1.1e3), (8, 3.8e3), (32, 52e3), (128, 0.8e6), (512, 12.6e6)]
)
def test_parameter_counts_are_the_published_ones(width, published):
    total = count_parameters(Tagger(TaggerConfig(width))).total
    assert total == pytest.approx(published, rel=0.05)
    by_hand = 4 * (12 * width**2 + 13 * width) + 21 * width + width + width + 2 * width + 10 * width + 10
    assert total == by_hand


#: Uslu et al., arXiv:2606.19781: 3K parameters at d = 8 to 10.5M at d = 512.
@pytest.mark.parametrize(("width", "published"), [(8, 3e3), (512, 10.5e6)])
def test_the_second_preset_has_its_published_parameter_counts(width, published):
    config = TaggerConfig(width, n_features=9, **PRESETS["uslu"])
    assert config.n_heads == width // 8
    total = count_parameters(Tagger(config)).total
    assert total == pytest.approx(published, rel=0.06)
    by_hand = 4 * (10 * width**2 + 13 * width) + 9 * width + width + width + 2 * width + 10 * width + 10
    assert total == by_hand


@given(
    st.sampled_from(sorted(PRESETS)),
    st.lists(st.integers(1, 7), min_size=1, max_size=6),
    st.randoms(use_true_random=False),
)
@settings(max_examples=40, deadline=None)
def test_order_of_particles_and_other_jets_do_not_matter(preset, lengths, random):
    model = small(preset)
    generator = torch.Generator().manual_seed(sum(lengths))
    jets = [torch.randn(n, 5, dtype=torch.float64, generator=generator) for n in lengths]
    expected = torch.cat([logits(model, [jet]) for jet in jets])
    shuffled = [jet[random.sample(range(len(jet)), len(jet))] for jet in jets]
    for group in (1, 2, 16):
        torch.testing.assert_close(logits(model, shuffled, group), expected, rtol=1e-10, atol=1e-10)


def test_every_particle_matters():
    model = small()
    jet = torch.randn(4, 5, dtype=torch.float64)
    for i in range(4):
        other = jet.clone()
        other[i] += 1
        assert not torch.allclose(logits(model, [jet]), logits(model, [other]))


def test_a_preset_is_chosen_by_name():
    assert TaggerRun(d_model=96).shape(21) == TaggerConfig(96)
    assert TaggerRun(d_model=16, preset="uslu").shape(9).n_heads == 2
    with pytest.raises(InputError, match="preset: 'vigil' is not one of vigl, uslu; did you mean vigl"):
        TaggerRun(preset="vigil")
    with pytest.raises(InputError, match="d_model: 100 is not a multiple of its 12 attention heads"):
        TaggerRun(d_model=100, preset="uslu")


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_counted_flops_equal_what_torch_counts(preset):
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    config = TaggerConfig(32, dropout=0.0, **PRESETS[preset])
    # In double precision, because fused blocks are not operations that torch could count.
    model, jets, particles = Tagger(config).double().eval(), 3, 20
    packing = Packing.build(np.full(jets, particles + 1))
    # Fused attention on CPU is not counted by torch; the plain one is.
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        model(torch.randn(jets * (particles + 1), 21, dtype=torch.float64), packing)
    # The placeholder row of the class token goes through the embedding, too: torch counts it.
    extra = 2 * 21 * 32 * jets
    assert counter.get_total_flops() == pytest.approx(
        tagger_flops(config, jets, jets * particles) / 3 + extra
    )
