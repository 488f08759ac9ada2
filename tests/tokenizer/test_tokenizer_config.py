import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tokenizer.config import PRESETS, VQVAEConfig

CONFIGS = Path(__file__).parents[2] / "configs" / "tokenizer"


@pytest.mark.parametrize("name", PRESETS)
def test_files_state_the_presets_in_full(name):
    values = OmegaConf.to_container(OmegaConf.load(CONFIGS / f"{name}.yaml"))["model"]
    assert values == PRESETS[name].as_dict()
    assert VQVAEConfig.from_dict(values) == PRESETS[name]


def test_every_key_in_the_files_has_a_comment():
    for path in CONFIGS.glob("*.yaml"):
        for line in path.read_text().splitlines():
            assert not line.strip() or "#" in line, f"{path.name}: {line}"


def test_importing_the_package_is_light():
    """Torch, genscale and eval stay out until a class is used."""
    code = "import sys, tokenizer; print({'torch', 'genscale', 'eval'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
    code = "import sys, tokenizer.quality; print({'genscale', 'eval', 'matplotlib'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
