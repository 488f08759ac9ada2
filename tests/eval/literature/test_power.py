"""Power: simulated studies recover what was put in, decide wrongly hardly ever, and noise decides nothing."""

from dataclasses import replace

import numpy as np
import pytest

from eval.common.errors import InputError
from eval.literature.claims import CLAIMS, judge
from eval.literature.design import Design, Noise, Run, noise_of
from eval.literature.findings import Findings
from eval.literature.ideal import ideal_bounds
from eval.literature.measure import single_pass_constants
from eval.literature.power import OTHERWISE, PUBLISHED, STEEPER, TESTS, study_power
from eval.literature.values import published
from eval.literature.worlds import World, simulate_study, tagging_law
from eval.scaling import Points, fit
from eval.scaling.plan import Frontier
from eval.scaling.steps import paired_steps

#: Parameters of taggers of width 4 to 128, and those in their blocks.
WIDTHS = {4: (1126, 984), 8: (3778, 3504), 16: (13690, 13152), 32: (51946, 50880), 64: (202_250, 200_128),
          96: (450_906, 447_744), 128: (798_218, 794_000)}  # fmt: skip


def taggers(data, seeds):
    """Single passes of every width with its number of seeds."""
    return tuple(
        Run(*map(float, WIDTHS[width]), seed, np.asarray(data, dtype=float))
        for width, count in seeds.items()
        for seed in range(1, count + 1)
    )


#: 13 runs with eight losses each, three seeds of the three smallest sizes.
COARSE = taggers(np.geomspace(8e3, 3e5, 8), {4: 3, 8: 3, 16: 3, 32: 1, 64: 1, 96: 1, 128: 1})
#: Five sizes, seven amounts of data, four seeds.
FINE = taggers(4e3 * 2.0 ** np.arange(7), dict.fromkeys((4, 8, 16, 32, 64), 4))


def repeated(unique=(1000, 2000, 4000, 8000, 16000), epochs=60):
    return tuple(
        Run(*map(float, WIDTHS[width]), 1, u * np.geomspace(0.5, epochs, 30), float(u))
        for width in (4, 8, 16, 32, 64)
        for u in unique
    )


def test_the_world_of_the_published_law_is_the_published_law():
    design = Design(tagging=COARSE)
    law = tagging_law(design, PUBLISHED)
    assert (law.floor, law.a, law.alpha, law.b, law.beta) == pytest.approx((0.32, 11.27, 0.44, 7.22, 0.22))
    points = simulate_study(design, PUBLISHED, {"tagging": Noise(1e-9)}, np.random.default_rng(0)).tagging
    assert pytest.approx(law.floor + law.a * points.N**-law.alpha + law.b * points.D**-law.beta) == points.L


def test_other_worlds_keep_the_loss_in_the_middle_and_differ_by_two_margins():
    design = Design(tagging=COARSE)
    n = float(np.exp(np.log([run.size for run in COARSE]).mean()))
    d = float(np.exp(np.log(np.concatenate([run.jets for run in COARSE])).mean()))
    here, there = (tagging_law(design, world)(n, np.array([d]))[0] for world in (PUBLISHED, OTHERWISE))
    assert there == pytest.approx(here)
    a = [world.beta / (world.alpha + world.beta) for world in (PUBLISHED, OTHERWISE, STEEPER)]
    assert abs(OTHERWISE.alpha - PUBLISHED.alpha) == pytest.approx(2 * 0.11)
    assert abs(OTHERWISE.beta - PUBLISHED.beta) == pytest.approx(2 * 0.055)
    assert abs(a[1] - a[0]) > 0.2
    assert a[2] == pytest.approx(0.517)


def test_the_least_compute_of_a_law_is_that_of_the_frontier():
    points = simulate_study(
        Design(tagging=FINE), PUBLISHED, {"tagging": Noise(1e-9)}, np.random.default_rng(0)
    ).tagging
    frontier = Frontier.of(fit(points, bootstrap=0))
    law = tagging_law(Design(tagging=FINE), PUBLISHED)
    for loss in (0.8, 1.2):
        assert law.compute_for(loss) == pytest.approx(float(frontier.flops_for(loss)[0]), rel=1e-3)


@pytest.mark.parametrize("length", [0.3, 1.0])
def test_scatter_and_its_correlation_are_measured_back(length):
    runs = taggers(np.geomspace(1e3, 1e6, 20), dict.fromkeys((4, 8, 16), 12))
    points = simulate_study(
        Design(tagging=runs), PUBLISHED, {"tagging": Noise(0.03, length)}, np.random.default_rng(1)
    ).tagging
    found = noise_of(points)
    assert found.scatter == pytest.approx(0.03, rel=0.15)
    assert found.length == pytest.approx(length, rel=0.3)
    with pytest.raises(InputError, match="no run was repeated"):
        noise_of(points.select(points.seed == "1"))


def test_the_bound_is_the_error_of_a_least_squares_fit():
    """Without correlation the mean square of ln L is the likelihood: its estimates scatter by the bound."""
    noise = Noise(0.01, 1e-6)
    bounds = {b.key: b for b in ideal_bounds(Design(tagging=FINE), noise)}
    fits = [
        fit(
            simulate_study(Design(tagging=FINE), PUBLISHED, {"tagging": noise}, np.random.default_rng(i)).tagging,
            loss="mse-log", bootstrap=0, starts=16,
        )
        for i in range(100)
    ]  # fmt: skip
    for key in ("alpha", "beta", "a"):
        values = [{**f.params, **f.derived}[key].value for f in fits]
        assert 1.96 * np.std(values) == pytest.approx(bounds[key].half_width, rel=0.2)
        assert np.mean(values) == pytest.approx(published(key).value, abs=0.01)


def test_the_bound_refuses_a_coarse_grid_and_passes_a_fine_one():
    coarse = {b.key: b.power for b in ideal_bounds(Design(tagging=COARSE), Noise(0.04))}
    fine = {b.key: b.power for b in ideal_bounds(Design(tagging=FINE), Noise(0.01))}
    assert max(coarse.values()) < 0.5
    assert min(fine.values()) > 0.9


@pytest.fixture(scope="module")
def coarse():
    """A coarse study at 4 % of scatter, with repeated data, other inputs and rejections."""
    others = {"21 features, 128 particles": 0, "3 features, 40 particles": 1}
    columns = {name: tuple(run for run in repeated() if run.size == 13690) for name in others}
    design = Design(COARSE, repetition=repeated(), inputs=columns, background=3000)
    return {p.key: p for p in study_power(design, {"tagging": Noise(0.04)}, trials=4, bootstrap=25)}


def test_a_coarse_grid_has_no_power_for_exponents(coarse):
    """At 4 % of scatter such a grid supports no exponent, even if the published law is true to the last digit."""
    for key in ("alpha", "beta", "a"):
        assert coarse[key].supports == 0
    assert not coarse["alpha"].tested


def test_every_simulated_claim_has_a_power(coarse):
    expected = [c.key for c in CLAIMS if c.task == "tagging" and c.key in TESTS]
    assert list(coarse) == expected
    assert {c.key for c in CLAIMS} - set(TESTS) == {"L_inf", "generation: SWD", "generation: window"}
    for power in coarse.values():
        assert power.to_dict()["power"] == max(power.supports, power.contradicts)
        assert power.holds != power.fails


def test_a_grid_that_is_fine_enough_decides_and_is_hardly_ever_wrong(coarse):
    found = {p.key: p for p in study_power(Design(FINE), {"tagging": Noise(0.006)}, trials=4, bootstrap=25)}
    for key in ("alpha", "beta", "a", "tagging: N", "tagging: D"):
        assert found[key].tested, found[key]
    wrong = [p.wrongly_contradicts for p in (*found.values(), *coarse.values())]
    wrong += [p.wrongly_supports for p in (*found.values(), *coarse.values())]
    assert np.mean(wrong) < 0.05


def test_generators_need_no_fit():
    """Five sizes, three seeds: steps of size are resolved at 0.05 %, doublings of data at 0.02 %."""
    sizes = np.geomspace(1.5e4, 2e6, 5)
    runs = tuple(Run(n, n / 2, seed, np.geomspace(1e4, 2e5, 8)) for n in sizes for seed in (1, 2, 3))
    coarse, fine = (
        {p.key: p for p in study_power(Design(generation=runs), {"generation": Noise(s)}, trials=60)}
        for s in (5e-4, 1e-4)
    )
    assert set(fine) == {"generation: N", "generation: D"}
    assert coarse["generation: N"].supports > 0.9
    assert coarse["generation: D"].supports < 0.6
    assert min(fine["generation: D"].supports, fine["generation: D"].contradicts) > 0.9
    for power in (*coarse.values(), *fine.values()):
        assert power.wrongly_contradicts < 0.05
        assert power.wrongly_supports < 0.05


def kinked(n, d):
    """A surface that is no sum of powers: the loss falls late, and later for small sizes."""
    return 0.4 + 1.9 / (1 + (d / (3e4 * (n / 1e4) ** -0.3)) ** 0.9) + 0.5 * n**-0.3


@pytest.fixture(scope="module")
def missed():
    """A well-measured table that a law misses, and the constants that it leaves undecided."""
    base = simulate_study(
        Design(tagging=COARSE), World(), {"tagging": Noise(1e-3)}, np.random.default_rng(0)
    ).tagging
    noise = np.exp(1e-3 * np.random.default_rng(1).standard_normal(len(base)))
    base = replace(base, L=kinked(base.N, base.D) * noise)
    found = decided(base)
    return base, [key for key in ("alpha", "beta", "a") if not found[key]]


@pytest.mark.parametrize("level", [0.01, 0.05])
def test_noise_does_not_buy_a_verdict_about_a_law(missed, level):
    """What a law that misses its points leaves undecided stays undecided with any noise on top."""
    base, undecided = missed
    assert undecided
    for seed in range(2):
        noise = np.exp(level * np.random.default_rng(seed).standard_normal(len(base)))
        found = decided(replace(base, L=base.L * noise))
        assert not any(found[key] for key in undecided)


def decided(points: Points) -> dict[str, bool]:
    found = Findings(tagging=single_pass_constants(points, bootstrap=25))
    return {j.claim.key: j.verdict.decided for j in judge(found)}


def test_noise_decides_no_step_more_often_than_its_error_rate():
    """Falls at the edge of what matters: over many noisy copies a decision comes no more often than 5 %."""
    n, d = (x.ravel() for x in np.meshgrid(np.geomspace(1e4, 1e6, 5), [1e4, 2e4], indexing="ij"))
    base = 3.6 - 1e-3 * np.log10(n)  # falls by just NO_FALL a decade
    for level in (1e-4, 1e-2):
        count = 0
        for trial in range(150):
            rng = np.random.default_rng(trial)
            loss = np.concatenate([base * np.exp(level * rng.standard_normal(len(n))) for _ in range(3)])
            points = Points.from_arrays(
                N=np.tile(n, 3), D=np.tile(d, 3), L=loss, seed=np.repeat(["1", "2", "3"], len(n))
            )
            found = Findings(generation_steps=paired_steps(points, doublings=2))
            count += {j.claim.key: j for j in judge(found)}["generation: N"].verdict.decided
        assert count / 150 < 0.09


def test_a_design_without_runs_or_trials_is_refused():
    with pytest.raises(InputError, match="no runs"):
        study_power(Design())
    with pytest.raises(InputError, match="trials: 0"):
        study_power(Design(tagging=COARSE), trials=0)
