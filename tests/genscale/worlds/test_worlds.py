"""Worlds against brute force, closed forms and published numbers."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from genscale.errors import InputError
from genscale.worlds import WORLDS, Jets, make_world
from genscale.worlds.facts import Facts, FactsControl
from genscale.worlds.floors import estimate_floors
from genscale.worlds.hierarchy import Hierarchy
from genscale.worlds.lund import CA, CF, Lund
from genscale.worlds.markov import Markov
from genscale.worlds.world import entropy

DEFAULTS = [
    Markov(),
    Facts(),
    FactsControl(),
    Hierarchy(),
    Hierarchy(distinct=True, rules=2),
    Lund(),
    Lund(splitting="soft"),
]

TINY = {
    "markov": Markov(symbols=3, classes=2, stop=0.3, longest=5),
    "markov that hardly stops": Markov(symbols=3, classes=2, stop=0.001, longest=4),
    "facts": Facts(base=2, digits=2, answer=2, classes=2, noise=0.3),
    "facts_control": FactsControl(base=2, digits=2, answer=1, classes=2),
    "hierarchy": Hierarchy(symbols=3, classes=2, rules=3, depth=2),
    "distinct hierarchy": Hierarchy(symbols=2, classes=2, rules=2, depth=2, distinct=True),
    "lund": Lund(scale_gev=4, alpha_s=0.2, running=False, kt_bins=1, eta_bins=2),
    "soft lund": Lund(scale_gev=4, alpha_s=0.2, running=False, kt_bins=1, eta_bins=2, splitting="soft"),
}


def jets_of(sequences) -> Jets:
    """Jets with these codes, all of class 0."""
    lengths = np.array([len(codes) for codes in sequences])
    codes = np.array(list(itertools.chain(*sequences)), dtype=np.int64)
    return Jets(codes, lengths, np.zeros(len(lengths), dtype=np.int64))


def every_jet(world) -> Jets:
    """Every sequence that has a chance to be seen."""
    if isinstance(world, Lund):  # more emissions than this have a probability of 1e-16
        counts = itertools.product(range(14), repeat=world.n_codes)
        return jets_of([np.repeat(np.arange(world.n_codes), n) for n in counts])
    shortest = 1 if isinstance(world, Markov) else world.max_codes
    lengths = range(shortest, world.max_codes + 1)
    return jets_of([c for n in lengths for c in itertools.product(range(world.n_codes), repeat=n)])


@pytest.mark.parametrize("name", TINY)
def test_likelihoods_and_floors_are_those_of_all_jets_of_a_tiny_world(name):
    world = TINY[name]
    jets = every_jet(world)
    likelihood = world.log_likelihood(jets)
    possible = np.isfinite(likelihood).any(1)
    likelihood, lengths = likelihood[possible], jets.lengths[possible]
    np.testing.assert_allclose(np.exp(likelihood).sum(0), 1, rtol=1e-12)
    posterior, log_marginal = world.bayes(likelihood)
    p = np.exp(log_marginal)
    true = {
        "generation": entropy(p),
        "given_class": world.prior @ entropy(np.exp(likelihood).T),
        "tagging": p @ entropy(posterior),
        "tokens": p @ (lengths + 1),
    }
    known = world.exact()
    for key, value in true.items():
        if getattr(known, key) is not None:
            assert getattr(known, key) == pytest.approx(value, abs=1e-10), key
    found = estimate_floors(world, 20_000, seed=3)
    for key, floor in (
        ("generation", found.generation_nats_per_jet),
        ("given_class", found.generation_given_class_nats_per_jet),
        ("tagging", found.tagging_nats),
        ("tokens", found.tokens_per_jet),
    ):
        assert abs(floor.value - true[key]) < 4 * floor.error + 1e-10, key
    assert found.generation_nats_per_token.value == pytest.approx(
        true["generation"] / true["tokens"], abs=4 * found.generation_nats_per_token.error + 1e-10
    )


@pytest.mark.parametrize("name", TINY)
def test_samples_have_the_frequencies_that_the_likelihood_gives(name):
    world, n = TINY[name], 20_000
    jets = every_jet(world)
    p = np.exp(world.log_likelihood(jets)) * world.prior
    places = {tuple(codes): i for i, codes in enumerate(np.split(jets.codes, np.cumsum(jets.lengths)[:-1]))}
    drawn = world.sample(n, np.random.default_rng(5))
    counts = np.zeros_like(p)
    for codes, label in zip(np.split(drawn.codes, np.cumsum(drawn.lengths)[:-1]), drawn.labels, strict=True):
        counts[places[tuple(codes)], label] += 1
    assert not counts[p == 0].any()
    often = p * n >= 5
    expected = np.append(p[often], p[~often].sum()) * n
    observed = np.append(counts[often], counts[~often].sum())
    keep = expected > 1e-9
    chi2 = ((observed[keep] - expected[keep]) ** 2 / expected[keep]).sum()
    assert stats.chi2.sf(chi2, keep.sum() - 1) > 1e-3


@pytest.mark.parametrize("world", DEFAULTS, ids=lambda world: f"{world.name}-{world.exact().tagging}")
def test_entropies_close(world):
    floors = estimate_floors(world, 5_000, seed=11)
    assert abs(floors.closure_nats.value) < 4 * floors.closure_nats.error + 1e-9
    assert 0 <= floors.tagging_nats.value < floors.class_entropy_nats.value


@settings(max_examples=20, deadline=None)
@given(
    symbols=st.integers(2, 12), classes=st.integers(2, 5), stop=st.floats(0.05, 0.99), longest=st.integers(1, 40),
    contrast=st.floats(0, 1), concentration=st.floats(1, 5), seed=st.integers(0, 99),
)  # fmt: skip
def test_markov_floors_close_for_all_parameters(
    symbols, classes, stop, longest, contrast, concentration, seed
):
    world = Markov(symbols, classes, stop, longest, concentration, contrast, seed)
    floors = estimate_floors(world, 1_000, seed=1)
    assert abs(floors.closure_nats.value) < 5 * floors.closure_nats.error + 1e-9
    if contrast == 0:
        assert floors.tagging_nats.value == pytest.approx(np.log(classes), abs=1e-9)


@settings(max_examples=15, deadline=None)
@given(
    symbols=st.integers(2, 6), classes=st.integers(2, 4), rules=st.integers(1, 4), depth=st.integers(1, 3),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_hierarchy_floors_close_for_all_parameters(symbols, classes, rules, depth, seed):
    world = Hierarchy(symbols, classes, rules, 2, depth, seed=seed)
    floors = estimate_floors(world, 500, seed=1)
    assert abs(floors.closure_nats.value) < 5 * floors.closure_nats.error + 1e-9
    by_position = sum(floor.value for floor in floors.generation_nats_by_position)
    assert by_position == pytest.approx(floors.generation_nats_per_jet.value)


@settings(max_examples=15, deadline=None)
@given(
    scale=st.floats(10, 1000), running=st.booleans(), splitting=st.sampled_from(["soft", "full"]),
    kt_bins=st.integers(1, 10), eta_bins=st.integers(2, 10),
)  # fmt: skip
def test_lund_floors_close_for_all_parameters(scale, running, splitting, kt_bins, eta_bins):
    world = Lund(scale, running=running, splitting=splitting, kt_bins=kt_bins, eta_bins=eta_bins)
    floors = estimate_floors(world, 1_000, seed=1)
    assert abs(floors.closure_nats.value) < 5 * floors.closure_nats.error + 1e-9


def test_visits_of_a_long_markov_chain_are_those_of_the_fundamental_matrix():
    world = Markov(symbols=50, classes=2, stop=0.2, longest=128)
    p, going_on = world.transitions, entropy(np.array([world.stop, 1 - world.stop]))
    nats = 0.0
    for rows in p:
        visits = np.linalg.solve((np.eye(50) - (1 - world.stop) * rows[:-1]).T, rows[-1])
        nats += (entropy(rows[-1]) + visits @ (going_on + (1 - world.stop) * entropy(rows[:-1]))) / 2
    assert world.exact().given_class == pytest.approx(nats, abs=1e-9)
    assert world.exact().tokens == pytest.approx(1 / world.stop + 1, abs=1e-9)


def test_a_table_of_counts_reaches_the_floor_of_the_markov_world():
    world, rng = Markov(symbols=8, classes=2), np.random.default_rng(2)
    jets = world.sample(40_000, rng)
    before = np.concatenate([[8], jets.codes[:-1]])
    before[jets.starts] = 8
    counts = np.full((2, 9, 8), 0.5)
    np.add.at(counts, (np.repeat(jets.labels, jets.lengths), before, jets.codes), 1)
    learned = counts / counts.sum(-1, keepdims=True)
    held_out = world.sample(20_000, rng)
    own = world.log_likelihood(held_out)[np.arange(20_000), held_out.labels].mean()
    before = np.concatenate([[8], held_out.codes[:-1]])
    before[held_out.starts] = 8
    where = np.repeat(held_out.labels, held_out.lengths), before, held_out.codes
    excess = (np.log(world.transitions[where]) - np.log(learned[where])).sum() / 20_000
    assert 0 < excess < 0.005 * world.exact().given_class
    assert -own == pytest.approx(world.exact().given_class, rel=0.01)


def test_random_hierarchy_has_the_published_entropy():
    """H = ln n + ln m (s^L - 1) / (s - 1), and 384 strings for v=4, n=3, m=2, s=2, L=3."""
    world = Hierarchy(symbols=4, classes=3, rules=2, branches=2, depth=3, distinct=True)
    assert world.exact().generation == pytest.approx(5.950642557, abs=1e-8)
    found = world.enumerated()
    assert found.generation == pytest.approx(5.950642557, abs=1e-8)
    assert found.tagging == pytest.approx(0, abs=1e-12)
    strings = world.sample(20_000, np.random.default_rng(1)).codes.reshape(-1, 8)
    assert len(np.unique(strings, axis=0)) == 384


def test_overlapping_rules_give_an_entropy_by_position_and_a_floor_of_tagging():
    world = Hierarchy(symbols=3, classes=3, rules=4, branches=2, depth=2, seed=4)
    true, found = world.enumerated(), estimate_floors(world, 20_000, seed=2)
    assert true.tagging > 0.05
    assert abs(found.tagging_nats.value - true.tagging) < 4 * found.tagging_nats.error
    assert (
        abs(found.generation_nats_per_jet.value - true.generation) < 4 * found.generation_nats_per_jet.error
    )
    contributions = [floor.value for floor in found.generation_nats_by_position]
    assert sum(contributions) == pytest.approx(found.generation_nats_per_jet.value)
    assert contributions[-1] == 0  # after the last symbol the jet ends in any case


@pytest.mark.parametrize(
    ("mean_quark", "cross_entropy", "area"),
    [(2, 0.492402, 0.83618), (4, 0.356557, 0.91918), (8, 0.192844, 0.97669)],
)
def test_casimir_scaling_has_the_tagging_floor_of_two_poisson_distributions(mean_quark, cross_entropy, area):
    scale = 1000.0
    triangle = np.log(scale) ** 2 / 2
    coupling = mean_quark * np.pi / (2 * CF * triangle)
    world = Lund(scale, 1.0, coupling, running=False, splitting="soft")
    np.testing.assert_allclose(world.means.sum(1), [mean_quark, mean_quark * CA / CF], rtol=1e-12)
    assert world.exact().tagging == pytest.approx(cross_entropy, abs=5e-7)
    jets = world.sample(20_000, np.random.default_rng(3))
    score = world.log_likelihood(jets) @ [-1, 1]
    auc = stats.mannwhitneyu(score[jets.labels == 1], score[jets.labels == 0]).statistic
    auc /= (jets.labels == 1).sum() * (jets.labels == 0).sum()
    assert auc == pytest.approx(area, abs=0.01)


def test_density_of_lund_plane_integrates_to_the_means_of_the_cells():
    world = Lund(scale_gev=100, kt_bins=4, eta_bins=3)
    n = 800
    ln_kt = (np.arange(n) + 0.5) / n * np.log(100)
    inside = 0.0
    for value in ln_kt:
        reach = np.log(100) - value
        eta = (np.arange(n) + 0.5) / n * reach
        inside = inside + world.density(np.full(n, value), eta).sum(-1) * reach / n * np.log(100) / n
    np.testing.assert_allclose(world.means.sum(1), inside, rtol=1e-5)


def test_zipf_facts_have_the_exponents_of_data_and_of_size():
    """a / (1 + a) in data and a in size; the local slopes are 0.5 and 1 for a = 1."""
    world = Facts(base=1024, digits=2, exponent=1.0)
    assert _slopes(world.beyond(np.array([10, 100, 1000]))) == pytest.approx([-0.981, -0.998], abs=1.5e-3)
    assert _slopes(world.unseen(np.array([1e2, 1e3, 1e4, 1e5]))) == pytest.approx([-0.5] * 3, abs=2e-3)
    half = Facts(base=1024, digits=2, exponent=0.5)
    assert _slopes(half.unseen(np.array([1e2, 1e3, 1e4]))) == pytest.approx([-1 / 3] * 2, abs=5e-3)


def _slopes(values):
    return np.diff(np.log10(values)).tolist()


def test_facts_that_were_not_seen_have_the_share_that_is_sampled():
    world, rng = Facts(), np.random.default_rng(4)
    seen = world.sample(500, rng).codes.reshape(500, -1)[:, :3] @ [256, 16, 1]
    later = world.sample(20_000, rng).codes.reshape(20_000, -1)[:, :3] @ [256, 16, 1]
    assert np.mean(~np.isin(later, seen)) == pytest.approx(world.unseen(np.array([500.0]))[0], abs=0.03)


def test_the_control_has_no_floor_of_tagging():
    assert FactsControl().exact().tagging == 0
    assert estimate_floors(FactsControl(), 1000).generation_nats_per_token.value < 0.04


def test_same_seed_same_jets():
    for world in DEFAULTS:
        a, b = (world.sample(50, np.random.default_rng(9)) for _ in range(2))
        assert np.array_equal(a.codes, b.codes)
        assert np.array_equal(a.labels, b.labels)


@pytest.mark.parametrize(
    ("name", "parameter", "message"),
    [
        ("markof", "", "did you mean markov"),
        ("markov", "symbol=3", "did you mean symbols"),
        ("markov", "stop=0", "stop: 0 is not between 0.001 and 0.99"),
        ("markov", "classes=11", "classes: 11 is not between 2 and 10"),
        ("markov", "longest=200", "longest: 200 is not between 1 and 128"),
        ("facts", "noise=1.5", "noise: 1.5 is not between 0 and 1"),
        ("facts", "digits=9", "facts are more than"),
        ("facts_control", "noise=0.1", "the world facts has noise"),
        ("hierarchy", "depth=6 branches=3", "more than the 128"),
        ("hierarchy", "rules=40", "different productions needed, there are 36"),
        ("lund", "kt_cut_gev=500", "kt_cut_gev: 500"),
        ("lund", "splitting=hard", "not full or soft"),
        ("lund", "alpha_s=1 running=false scale_gev=100000", "would not fit"),
        ("teacher", "", "run: missing"),
    ],
)  # fmt: skip
def test_bad_parameters_are_refused_in_one_line(name, parameter, message):
    with pytest.raises(InputError, match=message) as error:
        make_world(name, parameter.split())
    assert "\n" not in str(error.value)


def test_every_world_says_what_it_is():
    for name, world in WORLDS.items():
        assert world.name == name
        assert world.about
        assert world.shown
