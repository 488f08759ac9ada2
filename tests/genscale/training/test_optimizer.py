import copy

import numpy as np
import pytest
import torch
from torch import nn

from genscale.data.packing import Packing
from genscale.models.tagger import Tagger, TaggerConfig
from genscale.training.optimizer import FlatAdamW, flatten_parameters

PACKING = Packing.build(np.array([5, 3]))
TERMS = 2


def loss(model: nn.Module, step: int, *packing: Packing) -> torch.Tensor:
    rows = torch.randn(8, 21, generator=torch.Generator().manual_seed(step))
    return model(rows, *packing).square().sum() * (100 if step == 3 else 1)  # once a gradient that is clipped


@pytest.mark.parametrize("clip_norm", [0.5, 1e9])
def test_it_is_the_adamw_of_torch_with_clipping(clip_norm):
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Linear(21, 8), nn.Tanh(), nn.Linear(8, 3))
    theirs = copy.deepcopy(ours)
    flat = FlatAdamW(ours, weight_decay=0.1, clip_norm=clip_norm)
    plain = torch.optim.AdamW(theirs.parameters(), weight_decay=0.1)
    for step in range(8):
        plain.param_groups[0]["lr"] = rate = 1e-2 / (step + 1)
        loss(ours, step).backward()
        flat.step(rate, TERMS)
        plain.zero_grad()
        (loss(theirs, step) / TERMS).backward()
        nn.utils.clip_grad_norm_(theirs.parameters(), clip_norm)
        plain.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_it_goes_on_from_its_tensors():
    torch.manual_seed(0)
    whole = Tagger(TaggerConfig(8, dropout=0.0))
    cut = copy.deepcopy(whole)
    optimizers = [FlatAdamW(model, 0.1, 1.0) for model in (whole, cut)]
    for step in range(6):
        if step == 3:
            kept = {name: t.clone() for name, t in optimizers[1].tensors().items()}
            optimizers[1] = FlatAdamW(cut, 0.1, 1.0)
            optimizers[1].load(kept)
        for model, optimizer in zip((whole, cut), optimizers, strict=True):
            loss(model, step, PACKING).backward()
            optimizer.step(1e-2, TERMS)
    assert torch.equal(optimizers[0].parameters, optimizers[1].parameters)
    assert kept["0.exp_avg"].shape == next(cut.parameters()).shape
    assert float(kept["0.step"]) == 3


def test_parameters_become_views_of_one_vector():
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1, bias=False))
    before = [p.detach().clone() for p in model.parameters()]
    vector = flatten_parameters(model)
    assert torch.equal(vector, torch.cat([p.flatten() for p in before]))
    assert flatten_parameters(model).data_ptr() == vector.data_ptr()
    vector.zero_()
    assert all(not p.any() for p in model.parameters())
