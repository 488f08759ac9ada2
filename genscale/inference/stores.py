"""From store to store: jets to tokens, tokens to jets, generators to jets. Each is resumed shard by shard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
from tqdm import tqdm

from eval.scaling import ReferenceLevels, Sequences, reference_levels
from genscale.config import to_mapping
from genscale.data.conform import UNKNOWN_CLASS
from genscale.data.constituents import COLUMNS, constituents, to_store_rows
from genscale.data.manifest import Manifest
from genscale.data.order import HELD_OUT_SEED, JetOrder
from genscale.data.schema import CLASSES
from genscale.data.store import JetStore, StoreWriter, TokenStore
from genscale.errors import InputError
from genscale.files import read_json, write_json
from genscale.inference.encoding import require_fit
from genscale.inference.sampling import SamplingConfig, require_label, sample
from genscale.models.generator import Generator
from genscale.training.generator import TOKENIZER_FOLDER, load_generator
from tokenizer import Tokenizer

#: Jets worked on at once; also those of a shard of jets.
SHARD_JETS = 5_000

#: Training jets that reference models are counted on at most, which takes some seconds.
REFERENCE_JETS = 200_000

#: Jets in one token shard: about 10 MB; a hundred million jets fill 2,000 files.
TOKEN_SHARD_JETS = 50_000


def encode_store(
    jets: Path,
    tokenizer: Path,
    out: Path,
    *,
    n_jets: int = 0,
    accept_loss: bool = False,
    device: str = "cpu",
    progress: bool = True,
) -> Manifest:
    """Turn a jet store into a token store with the same jets in the same order.

    Parameters
    ----------
    jets : Path
        Jet store.
    tokenizer : Path
        Folder of the tokenizer.
    out : Path
        Token store to write; one that was interrupted is completed.
    n_jets : int
        Encode only this many jets, a fixed choice over the whole store; 0 means all.
    accept_loss : bool
        Encode even if the tokenizer drops many particles.
    device : str
        Where the network runs.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Manifest
        Manifest of the token store.

    Raises
    ------
    InputError
        The tokenizer drops more than a few percent of the particles or empties as many jets, and `accept_loss` is not
        set.
    """
    store, coder = JetStore.open(jets), Tokenizer.load(tokenizer)
    if not accept_loss:
        require_fit(coder, store)
    labels = store.labels() if store.class_names else np.full(len(store), UNKNOWN_CLASS)
    chosen = _choice(len(store), n_jets)
    meta = _token_meta(coder, store) | ({"n_jets": n_jets} if n_jets else {})
    writer = StoreWriter(out, "tokens", meta, store.class_names)
    with tqdm(total=len(chosen), unit="jet", unit_scale=True, desc="encode", disable=not progress) as bar:
        for key, places in _parts(len(chosen), TOKEN_SHARD_JETS):
            rows = chosen[places]
            if writer.has_shard(key):
                bar.update(len(rows))
                continue
            pieces = []
            for _, part in _parts(len(rows)):
                particles = constituents(store.read(rows[part], columns=COLUMNS))
                pieces.append(coder.encode(particles, device=device))
                bar.update(len(part))
            tokens = ak.concatenate(pieces)
            writer.write_shard(key, ak.zip({"tokens": tokens, "label": labels[rows]}, depth_limit=1))
    return writer.finish()


def decode_store(
    tokens: Path, tokenizer: Path, out: Path, *, n_jets: int = 0, device: str = "cpu", progress: bool = True
) -> Manifest:
    """Turn a token store into a jet store.

    Parameters
    ----------
    tokens : Path
        Token store.
    tokenizer : Path
        Folder of the tokenizer that made it.
    out : Path
        Jet store to write; one that was interrupted is completed.
    n_jets : int
        Decode only this many jets, a fixed choice over the whole store; 0 means all, in order.
    device : str
        Where the network runs.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Manifest
        Manifest of the jet store.

    Raises
    ------
    InputError
        The tokens were made by another tokenizer.
    """
    store, coder = TokenStore.open(tokens), Tokenizer.load(tokenizer)
    require_same_tokenizer(store.manifest.meta["tokenizer_fingerprint"], coder, tokens, tokenizer)
    meta = {
        "origin": "decoded",
        "source_fingerprint": store.fingerprint,
        "tokenizer_fingerprint": coder.fingerprint,
    }
    writer = StoreWriter(out, "jets", {**meta, "n_jets": n_jets})
    labels = store.labels() if store.class_names else None
    chosen = _choice(len(store), n_jets)
    with tqdm(total=len(chosen), unit="jet", unit_scale=True, desc="decode", disable=not progress) as bar:
        for key, part in _parts(len(chosen)):
            if not writer.has_shard(key):
                rows = chosen[part]
                particles = coder.decode(store.read(rows, columns=["tokens"])["tokens"], device=device)
                chosen_labels = None if labels is None else labels[rows]
                writer.write_shard(key, to_store_rows(particles, chosen_labels, store.class_names))
            bar.update(len(part))
    return writer.finish()


def generate_store(
    run: Path,
    out: Path,
    n_jets: int,
    config: SamplingConfig,
    *,
    class_label: str | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> Manifest:
    """Draw jets from a trained generator and write them as a jet store.

    Parameters
    ----------
    run : Path
        Folder of a finished generator run, or of weights that a run kept; the tokenizer that decodes its tokens lies
        within.
    out : Path
        Jet store to write; one that was interrupted is completed.
    n_jets : int
        Jets to draw.
    config : SamplingConfig
    class_label : str, optional
        Class to draw from a class-conditional generator.
    device : str
        Where the network runs.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Manifest
        Manifest of the jet store.

    Raises
    ------
    InputError
        There is no such run or class, the tokenizer is damaged, or ``out`` is taken.
    """
    if n_jets < 1:
        raise InputError(f"jets: {n_jets} is not at least 1")
    model, description = load_generator(run)
    classes = tuple(description.get("classes", CLASSES))
    if class_label is not None and class_label not in classes:
        raise InputError(f"class {class_label!r}: known are {', '.join(classes) or 'none'}")
    label = None if class_label is None else classes.index(class_label)
    require_label(model, label)  # before the folder is begun: it would be one of other settings
    coder = Tokenizer.load(run / TOKENIZER_FOLDER)
    require_same_tokenizer(description["tokenizer_fingerprint"], coder, run, run / TOKENIZER_FOLDER)
    meta: dict[str, Any] = {
        "origin": "generated", "model": description["sha256"], "tokenizer_fingerprint": coder.fingerprint,
        "sampling": to_mapping(config), "class": class_label, "n_jets": n_jets,
    }  # fmt: skip
    writer = StoreWriter(out, "jets", meta)
    hits = _generate(model.to(device), coder, writer, n_jets, config, label, classes, device, progress)
    # Into the unfinished folder: it is published with the store, or not at all.
    found = {"n_jets": n_jets, "hit_max_length": hits, "share": hits / n_jets}
    write_json(writer.partial / "sampling.json", found)
    manifest = writer.finish()
    # Only now: had they gone first, a kill in between would have cost every shard.
    for count in out.glob("hits-*.json"):
        count.unlink()
    return manifest


def _generate(
    model: Generator, coder: Tokenizer, writer: StoreWriter, n_jets: int, config: SamplingConfig,
    label: int | None, classes: tuple[str, ...], device: str, progress: bool,
) -> int:  # fmt: skip
    """Write all shards; return the number of jets that hit the maximal length."""
    cut = 0
    with tqdm(total=n_jets, unit="jet", desc="generate", disable=not progress, mininterval=0.5) as bar:

        def report(jets: int, hits: int) -> None:
            nonlocal cut
            cut += hits
            bar.set_postfix(hit_max_length=cut, refresh=False)
            bar.update(jets)

        for key, part in _parts(n_jets):
            count = (
                writer.partial / f"hits-{key}.json"
            )  # before the shard: a resumed run counts this one's, too
            if writer.has_shard(key):
                report(len(part), read_json(count))
                continue
            drawn = sample(model, len(part), config, first_jet=int(part[0]), label=label, report=report)
            write_json(count, int(drawn.hit_max_length.sum()))
            labels = None if label is None else np.full(len(part), label)
            jets = coder.decode(drawn.tokens, device=device)
            writer.write_shard(key, to_store_rows(jets, labels, classes))
    return cut


def tokenizer_quality(
    tokenizer: Path,
    jets: Path,
    out: Path,
    figure: Path | None = None,
    *,
    n_jets: int = 0,
    device: str = "cpu",
) -> dict[str, Any]:
    """Measure a tokenizer on a jet store; write JSON and, where a path is given, the figure.

    Parameters
    ----------
    tokenizer : Path
        Folder of the tokenizer.
    jets : Path
        Jet store.
    out : Path
        JSON file.
    figure : Path, optional
        Image file.
    n_jets : int
        Use only this many jets, a fixed choice over the whole store; 0 means all.
    device : str
        Where the network runs.

    Returns
    -------
    dict
        The contents of the JSON file.
    """
    from tokenizer.figures import plot_quality
    from tokenizer.quality import quality

    coder, store = Tokenizer.load(tokenizer), JetStore.open(jets)
    rows = np.sort(_choice(len(store), n_jets))
    particles = constituents(store.read(rows, columns=COLUMNS))
    found = quality(coder, particles, progress=True, device=device).as_dict()
    if figure is not None:
        plot_quality(coder, particles, device=device).savefig(figure, dpi=110)
    write_json(out, found)
    return found


def token_sequences(store: TokenStore, n_jets: int = 0) -> Sequences:
    """Token sequences of a store, as the reference models of ``eval.scaling`` take them.

    Parameters
    ----------
    store : TokenStore
    n_jets : int
        At most this many jets, a fixed choice over the whole store; 0 means all.

    Returns
    -------
    Sequences
    """
    rows = np.sort(_choice(len(store), n_jets))
    return sequences_of(store.read(rows, columns=["tokens"])["tokens"])


def token_levels(tokens: Path) -> ReferenceLevels:
    """Reference levels of a folder with token stores ``train``, to count tables on, and ``validation``."""
    train, held_out = (TokenStore.open(tokens / split, verify=False) for split in ("train", "validation"))
    return reference_levels(
        token_sequences(train, REFERENCE_JETS),
        token_sequences(held_out),
        int(train.manifest.meta["vocabulary_size"]),
        start_token=Tokenizer.start_token,
    )


def sequences_of(tokens: ak.Array) -> Sequences:
    """Ragged tokens, a jet per row, as the reference models of ``eval.scaling`` take them."""
    layout = ak.to_packed(tokens).layout
    return Sequences(layout.content.data, layout.offsets.data.astype(np.int64))


def require_same_tokenizer(fingerprint: str, coder: Tokenizer, tokens: Path, tokenizer: Path) -> None:
    """Raise InputError unless the tokens were made by this tokenizer."""
    if fingerprint != coder.fingerprint:
        raise InputError(
            f"{tokenizer}: not the tokenizer that made {tokens} "
            f"(fingerprint {coder.fingerprint[:12]}, expected {fingerprint[:12]})"
        )


def coarsen_tokenizer(tokenizer: Path, out: Path, codebook_size: int, *, seed: int = 0) -> None:
    """Write a tokenizer with fewer codes, whose vectors are merged by k-means; see ``Tokenizer.coarsened``."""
    Tokenizer.load(tokenizer).coarsened(codebook_size, seed=seed).save(out)


def _token_meta(coder: Tokenizer, store: JetStore) -> dict[str, Any]:
    meta = {
        "tokenizer_fingerprint": coder.fingerprint,
        "vocabulary_size": coder.vocab_size,
        "source_fingerprint": store.fingerprint,
        "rows_per_shard": TOKEN_SHARD_JETS,  # a store with shards of another size is not resumed
    }
    # Tokens of a test split are refused for training, as its jets are.
    split = store.manifest.meta.get("split")
    return meta if split is None else {**meta, "split": split}


def _choice(n: int, wanted: int) -> np.ndarray:
    """Rows of a fixed choice of ``wanted`` among n jets; all of them in order for 0."""
    return JetOrder(n, min(wanted, n), HELD_OUT_SEED)[0 : min(wanted, n)] if wanted else np.arange(n)


def _parts(n: int, shard_jets: int = SHARD_JETS) -> Iterator[tuple[str, np.ndarray]]:
    """Keys and places of consecutive shards of n jets."""
    for low in range(0, n, shard_jets):
        yield f"{low // shard_jets:05d}", np.arange(low, min(low + shard_jets, n))
