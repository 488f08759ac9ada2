"""Dependence of the learnable window on the codebook: generators on the tokens of coarser tokenizers."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from genscale.inference.stores import token_levels
from genscale.pages import Section, Table
from genscale.study.jobs import Train
from genscale.study.results.study import Study

CODEBOOKS_FILE = "codebooks.csv"


@dataclass(frozen=True)
class Codebook:
    """A generator trained on the tokens of one codebook; losses in nats per token.

    Attributes
    ----------
    codes : int
        K.
    uniform : float
        ln V, the first of the reference levels (`eval.scaling.entropy`).
    unigram : float
    position : float
    bigram : float
    bigram_held_out : float
        Loss of a bigram table on held-out jets, which is not below the level.
    loss : float
        Loss of the generator on held-out jets.
    loss_error : float
        Standard error of the loss.
    share : float
        1 - loss / ln V: it depends on the codebook.
    below_bigram : float
        Nats per token by which the generator is better than a bigram table.
    below_bigram_per_jet : float
        The same in nats per jet.
    """

    codes: int
    uniform: float
    unigram: float
    position: float
    bigram: float
    bigram_held_out: float
    loss: float
    loss_error: float
    share: float
    below_bigram: float
    below_bigram_per_jet: float


def section(study: Study) -> Section | None:
    """Generators on coarser codebooks, the coarsest first; None for a study without them."""
    found = []
    for cell in (
        cell for cell in study.done if cell.id.startswith("codebooks/") and isinstance(cell.job, Train)
    ):
        folder = (study.folder / cell.id).parent
        levels, metrics = token_levels(folder), study.records[cell.id].saved.metrics
        loss, bigram = metrics["loss"], levels.levels["bigram"]
        found.append(
            Codebook(
                int(folder.name.removeprefix("k")), **levels.levels, bigram_held_out=levels.held_out["bigram"],
                loss=loss, loss_error=metrics["loss_error"], share=1 - loss / levels.levels["uniform"],
                below_bigram=bigram - loss, below_bigram_per_jet=levels.tokens_per_jet * (bigram - loss),
            )
        )  # fmt: skip
    if not found:
        return None
    found.sort(key=lambda e: e.codes)
    return Section("Codebooks", tables=[_table(found)], data={CODEBOOKS_FILE: [asdict(e) for e in found]})


def _table(found: list[Codebook]) -> Table:
    return Table.of(
        "Codebooks",
        "The same jets with coarser codebooks (codes merged by k-means of their vectors) and one generator on each; "
        "losses in nats per token. As the codes become finer, the share of the uniform level that a generator learns "
        "tends to zero, whereas what it learns beyond a bigram table tends to a limit.",
        found,
        [
            ("codes", lambda e: str(e.codes)),
            ("ln V", lambda e: f"{e.uniform:.3f}"),
            ("unigram", lambda e: f"{e.unigram:.3f}"),
            ("position", lambda e: f"{e.position:.3f}"),
            ("bigram", lambda e: f"{e.bigram:.3f} to {e.bigram_held_out:.3f}"),
            ("generator", lambda e: f"{e.loss:.3f} ± {e.loss_error:.3f}"),
            ("share", lambda e: f"{e.share:.2f}"),
            ("below the bigram", lambda e: f"{e.below_bigram:.3f}"),
            ("per jet", lambda e: f"{e.below_bigram_per_jet:.1f}"),
        ],
    )
