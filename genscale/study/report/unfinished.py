"""What a study that is not finished lacks, said at the top of its report."""

from __future__ import annotations

from collections import Counter

from genscale.pages import Section
from genscale.study.results.study import Study

#: Outputs of each stage of a study, by the folder of their cells.
STAGES = {
    "world": "world", "floors": "floors of the world", "jets": "jet stores", "tokenizer": "tokenizer",
    "tokens": "token stores", "quality": "tokenizer resolution",
    "generator": "generators", "samples": "samples", "fidelity": "scores", "codebooks": "steps of the codebooks",
    "tagger": "taggers", "predictions": "predictions", "repetition": "trainings on repeated data",
    "inputs": "trainings with other inputs", "control": "controls", "variations": "variations",
}  # fmt: skip


def section(study: Study) -> Section | None:
    """Stages of which cells are missing; None for a finished study."""
    if not study.missing:
        return None
    missing, done = (
        Counter(cell.id.split("/")[0] for cell in cells) for cells in (study.missing, study.done)
    )
    counts = ", ".join(f"{n} of {n + done[stage]} {STAGES[stage]}" for stage, n in missing.items())
    text = f"This study is not finished. Missing are {counts}. All results below are made from what is there."
    return Section("Not finished", found=[text], summary=[text])
