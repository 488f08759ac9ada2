import dataclasses
import json

import pytest

from genscale.config import config_hash, from_mapping, load_config, save_yaml, to_mapping
from genscale.errors import InputError
from genscale.keys import config_keys
from genscale.shipped import shipped_file, shipped_names
from genscale.study.config import StudyConfig
from genscale.training.generator import GeneratorRun
from genscale.training.tagger import TaggerRun
from genscale.training.task import TrainingConfig


def test_file_then_overrides_then_round_trip(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("size: nano\ntraining:\n  jets: 500\n")
    config = load_config(GeneratorRun, file, ["training.learning_rate=0.01", "model.norm=post"])
    assert (config.size, config.training.jets, config.training.learning_rate) == ("nano", 500, 0.01)
    assert config.model == {"norm": "post"}
    assert config.training.batch_jets == TrainingConfig().batch_jets
    save_yaml(config, tmp_path / "resolved.yaml")
    assert load_config(GeneratorRun, tmp_path / "resolved.yaml") == config
    assert from_mapping(GeneratorRun, to_mapping(config), "record") == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "training:\n  learning_rat: 1",
            r"run.yaml: unknown key training.learning_rat; did you mean learning_rate",
        ),
        ("sise: nano", r"unknown key sise; did you mean size"),
        ("training:\n  jets: many", r"training.jets.*many"),
        ("training:\n  jets: 0", r"jets: 0 is not at least 1"),
        ("training:\n  schedule: linear", r"schedule: 'linear' is not one of constant, cosine"),
        ("- a list", r"expected a mapping"),
        ("a: [", r"not a YAML file"),
    ],
)
def test_mistakes_are_named(tmp_path, text, message):
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=message):
        load_config(GeneratorRun, file)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.seed", "expected key=value"),
        ("trainin.seed=2", "did you mean training"),
        ("size.x=1", "size"),
    ],
)
def test_bad_overrides_are_named(override, message):
    with pytest.raises(InputError, match=message):
        load_config(GeneratorRun, None, [override])


def test_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nothing.yaml: no such configuration file"):
        load_config(GeneratorRun, tmp_path / "nothing.yaml")


def test_every_key_of_a_study_is_listed_with_its_default_and_meaning():
    def leaves(values: dict, prefix: str = "") -> dict:
        found = {}
        for name, value in values.items():
            nested = isinstance(value, dict) and value
            found.update(leaves(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value})
        return found

    keys = list(config_keys(StudyConfig))
    assert all(key.type and key.meaning.endswith(".") for key in keys)
    defaults = {key.name: json.loads(key.default) for key in keys}
    given = [f"{key.name}={key.default}" for key in keys]
    assert load_config(StudyConfig, None, given) == StudyConfig()
    del defaults["fit.min_jets"]  # its 0 stands for a number that follows from the other keys
    expected = leaves(to_mapping(StudyConfig()))
    del expected["fit.min_jets"]
    assert defaults == expected


@pytest.mark.parametrize(
    ("kind", "cls"),
    [("studies", StudyConfig), ("generator", GeneratorRun), ("tagger", TaggerRun)],
)
def test_every_shipped_configuration_is_valid(kind, cls):
    for name in shipped_names(kind):
        load_config(cls, shipped_file(kind, name))


def test_hash_changes_with_any_value():
    base = TrainingConfig()
    changed = [dataclasses.replace(base, seed=2), dataclasses.replace(base, jets=20_000)]
    assert len({config_hash(c) for c in [base, *changed]}) == 3
    assert config_hash(base) == config_hash(TrainingConfig())


def test_learning_rate_of_a_size_outside_the_grid_is_refused():
    with pytest.raises(InputError, match=r"generator.learning_rates: xxl is not in the grid"):
        load_config(StudyConfig, None, ["generator.learning_rates.xxl=0.1"])
