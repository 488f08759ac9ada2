"""The configuration of a study: one YAML file, and what each of its keys means."""

from genscale.study.config.grids import GeneratorStage, Grid, TaggerStage
from genscale.study.config.jets import WORLD, JetsConfig
from genscale.study.config.stages import (
    CONTROL_EPOCHS,
    CodebooksStage,
    ControlStage,
    FitStage,
    Inputs,
    InputsStage,
    RepetitionStage,
    SamplesStage,
    TokenizerStage,
)
from genscale.study.config.study import StudyConfig

__all__ = [
    "CONTROL_EPOCHS", "WORLD", "CodebooksStage", "ControlStage", "FitStage", "GeneratorStage", "Grid", "Inputs",
    "InputsStage", "JetsConfig", "RepetitionStage", "SamplesStage", "StudyConfig", "TaggerStage", "TokenizerStage",
]  # fmt: skip
