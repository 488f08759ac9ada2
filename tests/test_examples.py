"""The examples run, and print what they promise."""

import runpy
from pathlib import Path

import awkward as ak
import numpy as np

from genscale.data.constituents import to_store_rows
from genscale.data.writing import StoreWriter

EXAMPLES = Path(__file__).parents[1] / "examples"


def example(name):
    return runpy.run_path(str(EXAMPLES / name))["main"]


def test_fit_a_table(capsys):
    example("fit_a_table.py")()
    out = capsys.readouterr().out
    assert "L = E + A/N^alpha + B/D^beta" in out
    assert "(identified)" in out
    assert "with 5e+12 FLOPs: N = " in out


def test_fit_a_table_of_ones_own(tmp_path, capsys):
    table = tmp_path / "mine.csv"
    rows = [(n, d, 1 + 5 / n**0.3 + 20 / d**0.25) for n in (1e3, 1e4, 1e5, 1e6) for d in (1e4, 1e5, 1e6, 1e7)]
    table.write_text("N,D,L\n" + "\n".join(",".join(map(repr, row)) for row in rows))
    example("fit_a_table.py")(table)
    assert "alpha    0.3 " in capsys.readouterr().out


def test_can_this_grid_tell(capsys):
    example("can_this_grid_tell.py")()
    laptop, paper = capsys.readouterr().out.split("the paper:")
    assert "not identified" in laptop
    assert "not identified" not in paper


def random_jets(folder, seed):
    rng = np.random.default_rng(seed)
    counts = rng.poisson(30, 300) + 3
    pt = rng.exponential(20, counts.sum()) + 1
    eta, phi = rng.normal(0, 0.2, (2, counts.sum()))
    jets = ak.zip(
        {name: ak.unflatten(x, counts) for name, x in {"pt": pt, "eta_rel": eta, "phi_rel": phi}.items()}
    )
    writer = StoreWriter(folder, "jets", {})
    writer.write_shard("all", to_store_rows(jets[ak.argsort(jets.pt, axis=1, ascending=False)], None))
    writer.finish()
    return folder


def test_score_two_stores(tmp_path, capsys):
    example("score_two_stores.py")(random_jets(tmp_path / "a", 1), random_jets(tmp_path / "b", 2))
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines[1:]} >= {"joint", "jet_mass", "tau21", "leading_fraction"}
