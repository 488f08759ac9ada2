"""A trained generator as a world."""

import numpy as np
import pytest
import torch

from genscale.errors import InputError
from genscale.models.generator import Generator, GeneratorConfig
from genscale.worlds import make_world
from genscale.worlds.floors import estimate_floors
from genscale.worlds.teacher import Teacher
from genscale.worlds.world import Jets, entropy


@pytest.fixture(scope="module")
def teacher(teacher_run) -> Teacher:
    return Teacher(str(teacher_run), ["QCD", "Wqq", "Tbqq"])


class Small(Teacher):
    """Untrained, over three codes and at most three of them, so that all jets can be listed."""

    def __post_init__(self) -> None:
        torch.manual_seed(3)
        config = GeneratorConfig(8, 1, 2, vocab_size=5, max_tokens=4, n_classes=10, positions="learned")
        model = Generator(config).eval()
        for parameter in model.parameters():
            parameter.data *= 4  # initial weights are small: all jets would be nearly equally probable
        object.__setattr__(self, "model", model)

    @property
    def max_codes(self) -> int:
        return 3


@pytest.fixture(scope="module")
def small() -> tuple[Small, Jets]:
    sequences = [c for n in range(4) for c in np.ndindex(*[3] * n)]
    codes = np.concatenate([np.array(c, dtype=np.int64) for c in sequences])
    lengths = np.array([len(c) for c in sequences])
    return Small(), Jets(codes, lengths, np.zeros(len(lengths), dtype=np.int64))


def test_all_jets_have_a_probability_of_one(small):
    world, jets = small
    np.testing.assert_allclose(np.exp(world.log_likelihood(jets)).sum(0), 1, rtol=1e-6)


def test_floors_are_those_of_all_jets(small):
    world, jets = small
    likelihood = world.log_likelihood(jets)
    posterior, log_marginal = world.bayes(likelihood)
    p = np.exp(log_marginal)
    found = estimate_floors(world, 20_000, seed=2)
    for floor, true in (
        (found.generation_nats_per_jet, entropy(p)),
        (found.generation_given_class_nats_per_jet, world.prior @ entropy(np.exp(likelihood).T)),
        (found.tagging_nats, p @ entropy(posterior)),
        (found.tokens_per_jet, p @ (jets.lengths + 1)),
    ):
        assert 0 < floor.error < 0.02
        assert abs(floor.value - true) < 4 * floor.error
    assert abs(found.closure_nats.value) < 4 * found.closure_nats.error


def test_entropies_of_a_trained_teacher_close(teacher):
    floors = estimate_floors(teacher, 600, seed=1)
    assert abs(floors.closure_nats.value) < 4 * floors.closure_nats.error
    assert floors.class_entropy_nats.value == pytest.approx(np.log(3))
    assert 0 < floors.tagging_nats.value <= floors.class_entropy_nats.value + 1e-9


def test_averaged_entropies_have_a_smaller_error_than_likelihoods(teacher):
    jets = teacher.sample(600, np.random.default_rng(4))
    nats = -teacher.log_likelihood(jets)[np.arange(600), jets.labels]
    given_class = teacher.predictive_entropies(jets)[1].sum(1)
    error = np.hypot(nats.std(), given_class.std()) / np.sqrt(600)
    assert abs(nats.mean() - given_class.mean()) < 4 * error
    # Compared per token, because the number of tokens varies in the same way in both.
    tokens = jets.lengths + 1
    residuals = [values - values.sum() / tokens.sum() * tokens for values in (given_class, nats)]
    assert residuals[0].std() < residuals[1].std() / 2


def test_jets_end_at_the_longest_length(teacher):
    jets = teacher.sample(200, np.random.default_rng(1))
    assert jets.lengths.max() <= teacher.max_codes
    assert np.isfinite(teacher.log_likelihood(jets)).all()


def test_an_unconditional_teacher_is_refused(blind_run):
    with pytest.raises(InputError, match="unconditional generator, which has no classes to tag"):
        make_world("teacher", [f"run={blind_run}"])


@pytest.mark.parametrize(
    ("classes", "message"),
    [("[QCD]", "give at least two"), ("[QCD,QCD]", "give at least two"), ("[QCD,Tbq]", "did you mean Tb")],
)
def test_unknown_classes_are_refused(teacher_run, classes, message):
    with pytest.raises(InputError, match=message):
        make_world("teacher", [f"run={teacher_run}", f"classes={classes}"])
