"""The configuration of a study, from jets to report, in one YAML file."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from genscale.errors import require
from genscale.study.config.grids import GeneratorStage, Grid, TaggerStage
from genscale.study.config.jets import WORLD, JetsConfig
from genscale.study.config.stages import (
    CONTROL_EPOCHS,
    CodebooksStage,
    ControlStage,
    FitStage,
    InputsStage,
    RepetitionStage,
    SamplesStage,
    TokenizerStage,
)
from genscale.study.variations import Variations


@dataclass(frozen=True)
class StudyConfig:
    """A whole study.

    Attributes
    ----------
    name : str
        Results are written to ``runs/<name>`` unless another folder is given.
    threads_per_cell : int
        CPU threads of each training. They are part of the study because they change the last digits.
    jets : JetsConfig
        Origin of the jets.
    tokenizer : TokenizerStage
        Training of the tokenizer.
    generator : GeneratorStage
        Grid of generators.
    samples : SamplesStage
        Samples of the generators, and their scores.
    codebooks : CodebooksStage
        Generators on codebooks of other sizes.
    tagger : TaggerStage
        Grid of taggers.
    repetition : RepetitionStage
        Training on repeated data.
    control : ControlStage
        Tests of what limits the losses.
    inputs : InputsStage
        Taggers with other inputs.
    variations : Variations
        Runs that differ from their stage.
    fit : FitStage
        Options of the fits.
    """

    name: str = "study"
    threads_per_cell: int = 1
    jets: JetsConfig = field(default_factory=JetsConfig)
    tokenizer: TokenizerStage = field(default_factory=TokenizerStage)
    generator: GeneratorStage = field(default_factory=GeneratorStage)
    samples: SamplesStage = field(default_factory=SamplesStage)
    codebooks: CodebooksStage = field(default_factory=CodebooksStage)
    tagger: TaggerStage = field(default_factory=TaggerStage)
    repetition: RepetitionStage = field(default_factory=RepetitionStage)
    control: ControlStage = field(default_factory=ControlStage)
    inputs: InputsStage = field(default_factory=InputsStage)
    variations: Variations = field(default_factory=Variations)
    fit: FitStage = field(default_factory=FitStage)

    def __post_init__(self) -> None:
        require(
            self.name not in ("", ".", "..") and not {"/", "\0"} & {*self.name},
            f"name: {self.name!r} is not a folder name",
        )
        require(self.threads_per_cell >= 1, f"threads_per_cell: {self.threads_per_cell} is not at least 1")
        require(
            bool(self.generator.sizes or self.tagger.widths or any(self.variations.runs())),
            "generator.sizes, tagger.widths and variations: all are empty, so that the study would do nothing",
        )
        require(
            not self.jets.world or not (self.tokenizer.folder or self.codebooks.merged),
            "jets.world: has a tokenizer of its own, so that tokenizer.folder and codebooks.merged must be empty",
        )
        repeated = self.repetition
        require(not repeated.widths or bool(self.tagger.widths), "repetition.widths: needs tagger.widths")
        require(not repeated.sizes or bool(self.generator.sizes), "repetition.sizes: needs generator.sizes")
        require(
            not self.codebooks.merged or self.tokenizer.model.quantizer != "fsq",
            "codebooks.merged: the codes of quantizer fsq are a grid, which cannot be merged",
        )
        require(
            self.inputs.width in (0, *repeated.widths),
            f"inputs.width: {self.inputs.width} is not one of repetition.widths "
            f"({', '.join(map(str, repeated.widths)) or 'none'})",
        )
        control = self.control
        corners = control.recipe if isinstance(control.recipe, list) else []
        for key, values, known in (
            ("size", [control.size], self.generator.sizes),
            ("width", [control.width], list(map(str, self.tagger.widths))),
            ("recipe", corners, [*self.generator.names, *self.tagger.names]),
        ):
            for value in values:
                require(
                    not value or str(value) in known,
                    f"control.{key}: {value} is not in the grid ({', '.join(known) or 'none'})",
                )
        for task, name in self.controlled.items():
            training = self.grids[task].trained(name)
            require(
                training.jets >= CONTROL_EPOCHS * training.batch_jets,
                f"control.repetition: a quarter of the {training.jets} jets of {task} {name} is less than a batch of "
                f"{training.batch_jets}; give more jets, or control.repetition: false",
            )
        least = max((_first_fitted(task, grid, self.fit) for task, grid in self.grids.items()), default=0)
        object.__setattr__(self, "fit", replace(self.fit, min_jets=self.fit.min_jets or least))

    @property
    def tokens(self) -> str:
        """Folder of the token stores, within that of the study or by itself."""
        return f"{WORLD}/tokens" if self.jets.world else self.tokenizer.tokens or "tokens"

    @property
    def grids(self) -> dict[str, Grid]:
        """Grids of the tasks that the study has, by ``generator`` and ``tagger``."""
        both: dict[str, Grid] = {"generator": self.generator, "tagger": self.tagger}
        return {task: grid for task, grid in both.items() if grid.names}

    @property
    def controlled(self) -> dict[str, str]:
        """The size of each grid that repeats data as a control, by the task of its runs."""
        control = self.control
        if not control.repetition:
            return {}
        chosen = {"generator": control.size, "tagger": control.width and f"d{control.width}"}
        return {
            task: chosen[task] or grid.names[(len(grid.names) - 1) // 2] for task, grid in self.grids.items()
        }


def _first_fitted(stage: str, grid: Grid, fit: FitStage) -> int:
    """Return the smallest number of jets of fitted points; raises InputError for a fit that begins earlier."""
    training = grid.training
    least, plan = max(5 * training.warmup_steps, fit.min_steps), training.plan
    require(
        fit.min_jets == 0 or plan.steps(fit.min_jets) >= least,
        f"fit.min_jets: {fit.min_jets} jets are {plan.steps(fit.min_jets)} steps of {stage}.training; fits begin after "
        f"{least} (five warm-ups of {training.warmup_steps} steps, at least fit.min_steps={fit.min_steps}); give "
        f"{plan.jets(least)} or more jets, or smaller batches",
    )
    return plan.jets(least)
