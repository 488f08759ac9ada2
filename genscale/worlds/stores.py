"""A world on disk: jet stores, token stores and a tokenizer, as studies and trainings take them.

    out/
        world.json                      the world, its parameters, its seed
        tokenizer/                      one code per symbol of the world; a teacher's own tokenizer
        jets/train, validation, test    one particle per token, for taggers
        tokens/train, validation, test  the same jets for generators

The particles of the jet store carry exactly what the tokens carry, so that the floor of tagging is that of the
sequences. A particle's angles, and its energy, are those that its token decodes to alone (the energy may stand for what
precedes the token: `World.context`); its pT falls with its position and has no other meaning.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

import awkward as ak
import numpy as np
from tqdm import tqdm

from genscale.data.constituents import to_store_rows
from genscale.data.manifest import MANIFEST, partial_path
from genscale.data.order import HELD_OUT_SEED, JetOrder
from genscale.data.schema import CLASSES
from genscale.data.store import StoreWriter, TokenStore
from genscale.errors import InputError, require
from genscale.files import read_json, write_json
from genscale.worlds.floors import provenance
from genscale.worlds.teacher import Teacher
from genscale.worlds.world import Floats, Jets, World
from tokenizer import BinningConfig, Preprocessing, Tokenizer

#: Jets of one shard, which has random numbers of its own.
SHARD_JETS: Final = 5_000

SPLITS: Final = ("train", "validation", "test")

#: ln(pT / GeV) of the first particle, and by how much it falls from one to the next: 128 positions stay within the
#: range in which the features of a tagger are not clipped.
FIRST_LN_PT: Final = 6.0
LN_PT_STEP: Final = 0.08


def write_world(
    world: World, out: Path, jets: dict[str, int], *, seed: int = 1, progress: bool = True
) -> None:
    """Sample a world and write its stores; an interrupted run is resumed, and nothing is there before all is.

    Parameters
    ----------
    world : World
    out : Path
        Folder to write.
    jets : dict of str to int
        Number of jets of each of `SPLITS`.
    seed : int
        Seed of the jets; those of the splits are independent.
    progress : bool
        Show a progress bar.

    Raises
    ------
    InputError
        ``out`` exists, was begun with other settings, or a number is not positive.
    """
    for split in SPLITS:
        require(jets[split] >= 1, f"{split} jets: {jets[split]} are less than one")
    if out.exists():
        raise InputError(f"{out}: is already there; choose another folder or remove it first")
    partial, coder = partial_path(out), tokenizer_of(world)
    description = {**provenance(world), "seed": seed, "jets": jets, "tokenizer": coder.fingerprint}
    _begin(partial / "world.json", description)
    coder.save(partial / "tokenizer")
    points = code_points(coder)
    for number, split in enumerate(SPLITS):
        stores = [partial / "jets" / split, partial / "tokens" / split]
        if all((store / MANIFEST).is_file() for store in stores):
            continue
        for store in stores:  # a kill between the two leaves one finished: both are written again
            shutil.rmtree(store, ignore_errors=True)
        meta = {"origin": "world", "world": world.name, "seed": seed, "split": split}
        token_meta = {
            "tokenizer_fingerprint": coder.fingerprint, "vocabulary_size": coder.vocab_size,
            "source_fingerprint": "world",
        }  # fmt: skip
        particles = StoreWriter(stores[0], "jets", meta)
        tokens = StoreWriter(stores[1], "tokens", {**meta, **token_meta})
        n = jets[split]
        with tqdm(total=n, unit="jet", unit_scale=True, desc=split, disable=not progress) as bar:
            for shard, low in enumerate(range(0, n, SHARD_JETS)):
                key, size = f"{shard:05d}", min(SHARD_JETS, n - low)
                if not (particles.has_shard(key) and tokens.has_shard(key)):
                    drawn = world.sample(size, np.random.default_rng([seed, 1000 + number, shard]))
                    labels = np.array([CLASSES.index(name) for name in world.class_names])[drawn.labels]
                    particles.write_shard(key, particle_rows(drawn, points, labels, world.context(drawn)))
                    tokens.write_shard(key, _token_rows(drawn, coder, labels))
                bar.update(size)
        particles.finish()
        tokens.finish()
    partial.rename(out)


def _begin(file: Path, description: dict[str, object]) -> None:
    """Write the description of a world that is begun, or compare it with that of the world to be resumed."""
    if file.is_file():
        theirs = read_json(file)
        for key in ("world", "parameters", "seed", "jets", "tokenizer"):
            require(
                theirs.get(key) == description[key],
                f"{file.parent}: begun with other settings ({key} is {theirs.get(key)} there, {description[key]} "
                "here); repeat them to resume, choose another folder, or remove it to start again",
            )
    else:
        write_json(file, description)


def tokenizer_of(world: World) -> Tokenizer:
    """Tokenizer of a world: that of a teacher, otherwise cells in the angles, in which each code has one of its own.

    The cells form the smallest grid, nearly square, that has one for every code; a few may be left over.
    """
    if isinstance(world, Teacher):
        return world.tokenizer
    columns = int(np.ceil(np.sqrt(world.n_codes)))
    rows = -(-world.n_codes // columns)
    select = Preprocessing(max_constituents=world.max_codes)
    coder = Tokenizer.create(BinningConfig(bins=[1, rows, columns], spacing="uniform", preprocessing=select))
    reach = select.max_abs_angle * np.array([select.eta_scale, select.phi_scale])
    first = -reach * (1 - 1 / np.array([rows, columns]))
    # Cells without particles decode to their centres, so that one particle in the centre of the first places them all.
    coder.model.fit(np.array([[0.0, *first]]))  # type: ignore[operator]
    coder.model.eval()
    return coder


def code_points(coder: Tokenizer) -> Floats:
    """Energy (GeV), eta_rel and phi_rel that stand for each code in the jet store.

    Parameters
    ----------
    coder : Tokenizer

    Returns
    -------
    array of float, shape (n_codes, 3)

    Raises
    ------
    InputError
        Two codes cannot be told apart, so that jets would carry less than tokens do.
    """
    codes = np.arange(coder.config.codebook_size)
    alone = coder.decode(ak.from_numpy(codes[:, None] + 1), sort=False)
    points = np.stack([ak.to_numpy(ak.flatten(alone[name])) for name in ("pt", "eta_rel", "phi_rel")], axis=1)
    distinct, first = np.unique(points, axis=0, return_inverse=True)
    if len(distinct) < len(points):
        twice = np.flatnonzero(np.bincount(first.ravel()) > 1)[0]
        a, b = np.flatnonzero(first.ravel() == twice)[:2]
        raise InputError(
            f"tokenizer: codes {a} and {b} decode to the same particle; taggers could not tell them apart"
        )
    return points.astype(np.float64)


def particle_rows(jets: Jets, points: Floats, labels: np.ndarray, energies: Floats | None = None) -> ak.Array:
    """Rows of a jet store with one particle per code.

    Parameters
    ----------
    jets : Jets
    points : array of float64, shape (n_codes, 3)
        From `code_points`.
    labels : array of int, shape (n_jets,)
        Positions in ``schema.CLASSES``.
    energies : array of float64, shape (n_codes_of_all_jets,), optional
        Energy of each particle, from `World.context`; by default that of its code.

    Returns
    -------
    ak.Array
    """
    energy, eta, phi = points[jets.codes].T
    energy = energy if energies is None else energies
    flat = {"pt": np.exp(FIRST_LN_PT - LN_PT_STEP * jets.positions), "eta_rel": eta, "phi_rel": phi}
    particles = ak.zip({name: ak.unflatten(values, jets.lengths) for name, values in flat.items()})
    rows = to_store_rows(particles, labels)
    return ak.with_field(rows, ak.unflatten(energy, jets.lengths), "part_energy")


def _token_rows(jets: Jets, coder: Tokenizer, labels: np.ndarray) -> ak.Array:
    places = np.arange(len(jets.codes)) + 2 * np.repeat(np.arange(len(jets)), jets.lengths) + 1
    tokens = np.full(len(jets.codes) + 2 * len(jets), coder.start_token, dtype=np.int32)
    tokens[places] = jets.codes + 1
    tokens[np.cumsum(jets.lengths + 2) - 1] = coder.stop_token
    return ak.zip({"tokens": ak.unflatten(tokens, jets.lengths + 2), "label": labels}, depth_limit=1)


def read_jets(store: TokenStore, world: World, rows: np.ndarray) -> Jets:
    """Read jets of a world back from a token store.

    Parameters
    ----------
    store : TokenStore
        Written by `write_world`.
    world : World
        The world that they were sampled from.
    rows : array of int
        Rows of the store.

    Returns
    -------
    Jets
    """
    tokens = store.read(rows, columns=["tokens"])["tokens"]
    codes = ak.to_numpy(ak.flatten(tokens[:, 1:-1])).astype(np.int64) - 1
    number = np.full(len(CLASSES), -1)
    number[[CLASSES.index(name) for name in world.class_names]] = np.arange(len(world.class_names))
    return Jets(codes, ak.to_numpy(ak.num(tokens)).astype(np.int64) - 2, number[store.labels(rows)])


def held_out_floors(world: World, tokens: Path, n_jets: int = 0) -> dict[str, float]:
    """Losses that the world itself would have on held-out jets: the floors of losses measured on the same jets.

    They scatter about the floors of the world as far as these jets do, and all losses on these jets with them, so that
    the differences of losses and floors scatter much less.

    Parameters
    ----------
    world : World
    tokens : Path
        Token store of the held-out jets.
    n_jets : int
        Number of them that trainings are evaluated on (``validation_jets``); 0 means all.

    Returns
    -------
    dict of str to float
        ``generation_nats_per_token``, ``generation_given_class_nats_per_token`` and ``tagging_nats``.
    """
    store = TokenStore.open(tokens, verify=False)
    n = min(n_jets, len(store)) if n_jets else len(store)
    jets = read_jets(store, world, JetOrder(len(store), n, HELD_OUT_SEED)[0:n])
    likelihood = world.log_likelihood(jets)
    posterior, log_marginal = world.bayes(likelihood)
    own = np.arange(n), jets.labels
    n_tokens = float((jets.lengths + 1).sum())
    return {
        "generation_nats_per_token": float(-log_marginal.sum() / n_tokens),
        "generation_given_class_nats_per_token": float(-likelihood[own].sum() / n_tokens),
        "tagging_nats": float(-np.log(posterior[own]).mean()),
    }
