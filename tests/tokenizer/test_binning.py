import awkward as ak
import numpy as np
import pytest

from tokenizer import BinningConfig, Tokenizer
from tokenizer.errors import InputError


def fitted(jets, **values):
    tokenizer = Tokenizer.create(BinningConfig(**values))
    tokenizer.model.fit(tokenizer.preprocessing.features(jets)[0])
    return tokenizer


def flat(jets):
    names = ("pt", "eta_rel", "phi_rel")
    return np.stack([ak.to_numpy(ak.flatten(jets[name])).astype(float) for name in names], axis=1)


def test_code_is_the_product_of_the_bins(jets):
    tokenizer = fitted(jets, bins=[5, 4, 3], spacing="uniform", pt_range_gev=[0.1, 1000.0])
    particles = flat(tokenizer.preprocessing.select(jets))
    low, high = np.log([0.1, 1000.0])
    pt = np.clip(np.floor(5 * (np.log(particles[:, 0]) - low) / (high - low)), 0, 4)
    eta, phi = np.floor(4 * (particles[:, 1] + 0.8) / 1.6), np.floor(3 * (particles[:, 2] + 0.8) / 1.6)
    codes = ak.to_numpy(ak.flatten(tokenizer.encode(jets)[:, 1:-1])) - 1
    np.testing.assert_array_equal(codes, 12 * pt + 3 * eta + phi)
    assert tokenizer.vocab_size == 62


def test_quantile_bins_hold_equally_many_particles(jets):
    tokenizer = fitted(jets, bins=[8, 1, 1], pt_range_gev=[1e-6, 1e4])
    codes = ak.to_numpy(ak.flatten(tokenizer.encode(jets)[:, 1:-1])) - 1
    counts = np.bincount(codes, minlength=8)
    assert np.ptp(counts) <= 2


@pytest.mark.parametrize("spacing", ["uniform", "quantile"])
def test_cells_fill_the_whole_space(jets, spacing):
    tokenizer = fitted(jets, bins=[6, 5, 4], spacing=spacing, pt_range_gev=[0.5, 800.0])
    volumes = np.exp(tokenizer.log_cell_volumes())
    assert volumes.shape == (120,)
    assert volumes.sum() == pytest.approx((800 - 0.5) * 1.6 * 1.6, rel=1e-6)


def test_probabilities_over_volumes_are_a_density(jets):
    """Monte Carlo: a cell's volume is the share of a uniformly filled box that its token gets."""
    tokenizer = fitted(jets, bins=[3, 2, 2], pt_range_gev=[1.0, 100.0])
    rng = np.random.default_rng(0)
    n = 50_000
    columns = {
        "pt": rng.uniform(1, 100, n), "eta_rel": rng.uniform(-0.8, 0.8, n), "phi_rel": rng.uniform(-0.8, 0.8, n)
    }  # fmt: skip
    box = ak.zip({name: ak.unflatten(values, np.full(n // 100, 100)) for name, values in columns.items()})
    codes = ak.to_numpy(ak.flatten(tokenizer.encode(box)[:, 1:-1])) - 1
    share = np.bincount(codes, minlength=12) / n
    expected = np.exp(tokenizer.log_cell_volumes()) / (99 * 1.6 * 1.6)
    assert (np.abs(share - expected) < 5 * np.sqrt(expected / n)).all()


def test_decoding_keeps_summed_pt_and_mean_angles(jets):
    tokenizer = fitted(jets, bins=[4, 4, 4])
    kept, decoded = tokenizer.preprocessing.select(jets), tokenizer.reconstruct(jets)
    np.testing.assert_allclose(flat(decoded).sum(0), flat(kept).sum(0), rtol=1e-4, atol=1e-2)


def test_finer_bins_resolve_more(jets):
    kept = flat(fitted(jets).preprocessing.select(jets))
    errors = []
    for bins in ([2, 2, 2], [4, 4, 4], [8, 8, 8]):
        tokenizer = fitted(jets, bins=bins)
        decoded = flat(tokenizer.decode(tokenizer.encode(jets), sort=False))
        errors.append(np.sqrt(((decoded - kept)[:, 1:] ** 2).mean()))
    assert errors[0] > 1.3 * errors[1] > 1.6 * errors[2]


def test_saved_and_loaded_bins_are_the_same(jets, tmp_path):
    tokenizer = fitted(jets, bins=[8, 4, 4], spacing="uniform")
    tokenizer.save(tmp_path)
    loaded = Tokenizer.load(tmp_path)
    assert loaded.config == tokenizer.config
    assert loaded.fingerprint == tokenizer.fingerprint
    assert ak.to_list(loaded.reconstruct(jets).pt) == ak.to_list(tokenizer.reconstruct(jets).pt)
    np.testing.assert_array_equal(loaded.log_cell_volumes(), tokenizer.log_cell_volumes())


def test_bad_bins_are_named(jets, trained):
    with pytest.raises(InputError, match="have no cells of known volume"):
        trained.log_cell_volumes()
    fresh = Tokenizer.create(BinningConfig())
    for use in (fresh.log_cell_volumes, lambda: fresh.encode(jets), lambda: fresh.decode([[1]])):
        with pytest.raises(InputError, match="its bins are not placed"):
            use()
    with pytest.raises(InputError, match=r"too few different values of ln\(pT\) for 8 quantile bins"):
        fitted(ak.with_field(jets[:5], ak.full_like(jets[:5].pt, 7.0), "pt"))
    with pytest.raises(InputError, match="no particles"):
        fitted(jets[:1][:, :0])
    with pytest.raises(InputError, match=r"bins=\[8, 8\]: must be three"):
        BinningConfig(bins=[8, 8])
    with pytest.raises(InputError, match="spacing='log'"):
        BinningConfig(spacing="log")
    with pytest.raises(InputError, match="must be two positive numbers in increasing order"):
        BinningConfig(pt_range_gev=[1000.0, 0.5])
