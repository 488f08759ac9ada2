import json

import awkward as ak
import numpy as np
import pytest

from tokenizer.errors import InputError
from tokenizer.figures import plot_quality
from tokenizer.quality import Residuals, jet_observables, quality


def test_residuals_of_a_gaussian():
    x = np.random.default_rng(0).normal(0.5, 2.0, 200_000)
    found = Residuals.of(x)
    assert found.bias == pytest.approx(0.5, abs=0.02)
    assert found.rms == pytest.approx(np.hypot(0.5, 2.0), rel=0.01)
    assert found.half_width_68 == pytest.approx(2.0, rel=0.02)  # 16 % to 84 % is 0.9945 sigma each side
    assert Residuals.of(x - 0.5).median_abs == pytest.approx(0.6745 * 2.0, rel=0.02)


def test_observables_of_two_particles():
    """m^2 = 2 pT1 pT2 (cosh deta - cos dphi) for massless particles; back to back in phi, pT adds to zero."""
    jets = ak.zip(
        {
            "pt": [[30.0, 20.0], [10.0, 10.0], [7.0], []],
            "eta_rel": [[0.1, -0.3], [0.0, 0.0], [0.2], []],
            "phi_rel": [[0.2, -0.1], [0.0, np.pi], [0.1], []],
        }
    )
    found = jet_observables(jets)
    mass = np.sqrt(2 * 30 * 20 * (np.cosh(0.4) - np.cos(0.3)))
    np.testing.assert_allclose(found["mass_gev"], [mass, 20.0, 0.0, 0.0], atol=1e-6)
    pt = np.sqrt(30**2 + 20**2 + 2 * 30 * 20 * np.cos(0.3))
    np.testing.assert_allclose(found["pt_gev"], [pt, 0.0, 7.0, 0.0], atol=1e-12)
    assert found["multiplicity"].tolist() == [2, 2, 1, 0]


def test_quality_of_a_trained_tokenizer(trained, jets):
    found = quality(trained, jets)
    tokens = trained.encode(jets)
    codes = ak.to_numpy(ak.flatten(tokens[:, 1:-1]))
    _, counts = np.unique(codes, return_counts=True)
    p = counts / counts.sum()
    assert found.n_particles == len(codes)
    assert found.codes_used == len(counts) <= found.codebook_size == 64
    assert found.bits_per_particle == pytest.approx(-(p * np.log2(p)).sum())
    assert found.perplexity == pytest.approx(2**found.bits_per_particle)
    assert found.bits_per_jet == pytest.approx(found.bits_per_particle * len(codes) / len(jets))
    assert found.nominal_bits_per_particle == 6.0
    assert found.nominal_bits_per_jet == pytest.approx(6.0 * len(codes) / len(jets))
    kept = trained.preprocessing.select(jets)
    decoded = trained.decode(tokens, sort=False)
    eta = ak.to_numpy(ak.flatten(decoded.eta_rel - kept.eta_rel))
    assert found.particle["eta_rel"].rms == pytest.approx(np.sqrt((eta**2).mean()), rel=1e-5)
    assert found.particle["eta_rel"].rms < np.std(ak.to_numpy(ak.flatten(kept.eta_rel)))
    assert found.dropped_particles == pytest.approx(1 - len(codes) / ak.sum(ak.num(jets)))
    json.dumps(found.as_dict(), allow_nan=False)


def test_a_perfect_tokenizer_has_no_residuals(trained, jets, monkeypatch):
    """Jets made of decoded tokens, decoded again to the same: every distance is zero."""
    kept = trained.preprocessing.select(jets)
    monkeypatch.setattr(type(trained), "decode", lambda self, tokens, **_: kept)
    found = quality(trained, kept)
    for residuals in (*found.particle.values(), *found.jet.values()):
        assert residuals == Residuals(0.0, 0.0, 0.0, 0.0)
    assert set(found.wasserstein.values()) == {0.0}


def test_dropped_particles_show_in_the_jet_response(trained, jets):
    wide = jets[ak.num(jets) > 2]
    first = ak.local_index(wide.pt) == 1
    wide = ak.with_field(wide, ak.where(first, 5.0, wide.eta_rel), "eta_rel")
    found = quality(trained, wide)
    assert found.dropped_particles > 0.02
    assert found.jet["multiplicity"].bias <= -1
    assert found.jet["mass_relative"].bias < -0.5  # a particle at eta 5 made most of the mass


def test_no_particles_is_an_error(trained, jets):
    with pytest.raises(InputError, match="no jet has a particle"):
        quality(trained, jets[:3][:, :0])


def test_figure_has_all_panels(trained, jets, tmp_path):
    figure = plot_quality(trained, jets)
    labels = [axes.get_xlabel() for axes in figure.axes]
    assert sum(bool(label) for label in labels) == 6
    figure.savefig(tmp_path / "quality.png")
    assert (tmp_path / "quality.png").stat().st_size > 10_000
