"""`genscale evaluate` as its user sees it: files in, page, table and JSON out."""

import csv
import json
import re

import awkward as ak
import numpy as np
import pytest
from typer.testing import CliRunner

from eval.fidelity.result import Row
from eval.fidelity.score import FidelityResult
from eval.fidelity.warnings import particle_warnings
from eval.jets.constituents import Constituents
from eval.jets.observables import DEFAULT_FIVE, REGISTRY
from genscale.cli import app
from genscale.data.constituents import to_store_rows
from genscale.data.schema import CLASSES
from genscale.data.store import StoreWriter
from genscale.errors import InputError, run_guarded
from genscale.fidelity import evaluate, evaluate_stores
from genscale.fidelity.samples import Selection, load_sample, sample_pair_warnings


def write_store(path, particles, label=None):
    labels = None if label is None else np.full(len(particles), CLASSES.index(label))
    writer = StoreWriter(path, "jets", {})
    writer.write_shard("00000", to_store_rows(particles, labels))
    writer.finish()
    return path


def write_npz(path, particles, most=60):
    padded = [
        ak.to_numpy(ak.fill_none(ak.pad_none(particles[f], most, clip=True), 0.0))
        for f in ("pt", "eta_rel", "phi_rel")
    ]
    np.savez(path, particles=np.stack(padded, axis=2))
    return path


@pytest.fixture(scope="module")
def stores(tmp_path_factory, make_jets):
    folder = tmp_path_factory.mktemp("stores")
    return {
        "reference": write_store(folder / "reference", make_jets(450, 1, 10)),
        "alike": write_store(folder / "alike", make_jets(300, 2, 10)),
        "wider": write_npz(folder / "wider.npz", make_jets(320, 3, 14, 0.12)),
    }


@pytest.fixture(scope="module")
def evaluation(stores, tmp_path_factory):
    """A file of a foreign generator against a store, with a store as tokenizer floor."""
    out = tmp_path_factory.mktemp("evaluation") / "mine.json"
    result = evaluate(
        stores["wider"],
        stores["reference"],
        out,
        tokenizer_floor=stores["alike"],
        workers=2,
        progress=False,
    )
    return out, result


def test_everything_that_applies_is_measured(evaluation):
    _, result = evaluation
    assert set(result.observables) == set(REGISTRY) - {"jet_charge"}
    assert set(result.particles) == {"particle_pt", "particle_eta_rel", "particle_phi_rel"}
    assert set(result.classifiers) == {"trees_on_observables"}
    assert result.settings["joint_observables"] == list(DEFAULT_FIVE)
    assert result.n_tokenizer == 300
    assert result.observables["multiplicity"].value == pytest.approx(4, abs=0.6)
    assert result.observables["multiplicity"].resolved
    assert result.joint.tokenizer is not None


def test_what_needs_more_jets_says_how_many(evaluation):
    _, result = evaluation
    assert str(result.skipped["fpd"]) == "reference has 450 jets: at least 1000 are needed, 50000 recommended"
    assert str(result.skipped["tagger"]) == "generated has 320 jets: at least 1000 are needed"
    assert any("to resolve a joint distance of 0.05, take" in line for line in result.warnings)


def test_files_agree_with_the_result(evaluation):
    out, result = evaluation
    assert FidelityResult.from_json(out.read_text()).to_json() == result.to_json()
    with out.with_suffix(".csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(Row.__dataclass_fields__)
    assert [row["name"] for row in rows] == [row.name for row in result.rows()]
    joint = next(row for row in rows if row["name"] == "joint")
    assert float(joint["value"]) == result.joint.value
    page = out.with_suffix(".html").read_text()
    assert "wider.npz against reference" in page
    assert result.joint.verdict in page
    assert "tagger was not measured: generated has 320 jets" in page
    assert "perfect" not in page
    figures = {file.stem for file in (out.parent / "mine_figures").iterdir()}
    assert figures == {"significance", "joint", "substructure", "flow", "particles"}
    assert page.count('src="data:image/png') == len(figures)


def test_every_cell_of_the_page_stands_below_its_heading(evaluation):
    out, result = evaluation
    page = out.with_suffix(".html").read_text()
    tables = re.findall(r"<table>(.*?)</table>", page, re.DOTALL)
    assert len(tables) >= 4
    cells: dict[str, dict[str, str]] = {}
    for table in tables:
        header, *rows = (re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in table.split("<tr")[1:])
        for row in rows:
            cells.setdefault(row[0], dict(zip(header, row, strict=True)))
    row = next(row for row in result.rows() if row.name == "multiplicity" and row.group == "observable")
    shown = cells["multiplicity"]
    assert shown["p"] == f"{row.p_value:.2g}"
    assert shown["verdict"] == "resolved"
    assert float(shown["without the floor"]) == pytest.approx(row.corrected, rel=0.01)
    assert float(shown["tokenizer alone"]) == pytest.approx(row.tokenizer, rel=0.01)


@pytest.mark.slow
def test_numbers_do_not_depend_on_the_workers(stores, evaluation, tmp_path):
    out, _ = evaluation
    evaluate(stores["wider"], stores["reference"], tmp_path / "mine.json", tokenizer_floor=stores["alike"],
             workers=1, progress=False)  # fmt: skip
    for suffix in (".json", ".csv"):
        assert (tmp_path / "mine.json").with_suffix(suffix).read_text() == out.with_suffix(suffix).read_text()


def test_the_quick_score_has_the_same_five(stores, evaluation, tmp_path):
    quick = evaluate_stores(
        stores["wider"], stores["reference"], tmp_path / "q.json", tokenizer_floor=stores["alike"]
    )
    full = evaluation[1]
    assert quick.joint.value == pytest.approx(full.joint.value, rel=1e-9)
    for name in DEFAULT_FIVE:
        assert quick.observables[name].value == pytest.approx(full.observables[name].value, rel=1e-9)


def test_earlier_versions_can_still_be_read(stores, tmp_path):
    data = json.loads(evaluate_stores(stores["alike"], stores["reference"], tmp_path / "q.json").to_json())
    entries = (data["joint"], *data["observables"].values())
    for entry in entries:
        del entry["error_generated"]
    data |= {"schema_version": 2, "divergences": {}, "matching": None}
    joint = FidelityResult.from_json(json.dumps(data)).joint
    assert joint.distance.error_generated == joint.distance.error_jets
    for key in ("particles", "divergences", "published", "matching", "classifiers", "skipped"):
        del data[key]
    data["schema_version"] = 1
    for entry in entries:
        del entry["published"], entry["floor"]["squared"]
    old = FidelityResult.from_json(json.dumps(data))
    assert old.observables["jet_mass"].value == data["observables"]["jet_mass"]["value"]
    assert old.classifiers == {}


class TestWarnings:
    def warnings(self, a, b):
        return sample_pair_warnings(load_sample(a, "generated"), load_sample(b, "reference"))

    def test_the_same_jets_twice(self, stores, tmp_path, make_jets):
        assert self.warnings(stores["alike"], stores["reference"]) == []
        copy = write_store(tmp_path / "copy", make_jets(300, 2, 10))
        assert any("hold the same jets" in line for line in self.warnings(stores["alike"], copy))

    def test_another_mixture_of_classes(self, tmp_path, make_jets):
        a = write_store(tmp_path / "a", make_jets(50, 1, 5), "QCD")
        b = write_store(tmp_path / "b", make_jets(50, 2, 5), "Tbqq")
        (line,) = self.warnings(a, b)
        assert "QCD 100 % and 0 %, Tbqq 0 % and 100 %" in line

    def test_another_cap_and_another_threshold(self, make_jets):
        jets = make_jets(300, 5, 10)
        capped = Constituents(jets[:, :8], "generated")
        hard = Constituents(ak.drop_none(ak.mask(jets, jets.pt > 2)), "reference")
        found = particle_warnings(capped, hard)
        assert any("generated: " in line and "have exactly 8 particles" in line for line in found)
        assert any(line.startswith("particle_pt:") and "cut differently" in line for line in found)
        assert (
            particle_warnings(
                Constituents(jets, "generated"), Constituents(make_jets(300, 6, 10), "reference")
            )
            == []
        )


class TestBadInput:
    def error(self, *arguments, capsys):
        code = run_guarded(lambda: app(["evaluate", *map(str, arguments)], standalone_mode=False))
        assert code == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        return line

    def test_by_message(self, stores, tmp_path, capsys, make_jets):
        reference = stores["reference"]
        assert "nowhere: no such file" in self.error(tmp_path / "nowhere", reference, capsys=capsys)
        text = tmp_path / "jets.txt"
        text.write_text("jets")
        assert "jets.txt: none of the known formats" in self.error(text, reference, capsys=capsys)
        bad = np.ones((3, 4, 3))
        bad[1, 2, 0] = np.nan
        np.savez(tmp_path / "nan.npz", x=bad)
        line = self.error(tmp_path / "nan.npz", reference, capsys=capsys)
        assert "nan.npz" in line
        assert "pT is not finite in 1 jets, first in jet 1" in line
        line = self.error(reference, reference, "--out", tmp_path / "scores.txt", capsys=capsys)
        assert "a name that ends in .json" in line

    def test_nothing_half_written(self, stores, tmp_path):
        np.savez(tmp_path / "one.npz", x=np.full((1, 4, 3), 5.0))
        with pytest.raises(ValueError, match=r"one\.npz: 1 jets; at least 4 are needed"):
            evaluate(
                tmp_path / "one.npz", stores["reference"], tmp_path / "f.json", progress=False, workers=1
            )
        assert not list(tmp_path.glob("f*"))


def test_command_prints_verdicts(stores, tmp_path):
    out = tmp_path / "f.json"
    done = CliRunner().invoke(
        app, ["evaluate", str(stores["alike"]), str(stores["reference"]), "--quick", "--out", str(out)]
    )
    assert done.exit_code == 0, done.output
    assert "not resolved at n = 300" in done.output
    assert out.exists()
    with pytest.raises(InputError):
        load_sample(tmp_path / "no", "generated")


def test_flow_polynomials_of_higher_degree(stores, tmp_path):
    pytest.importorskip("energyflow", reason="energyflow is not installed (extra energyflow)")
    out = tmp_path / "mine.json"
    result = evaluate(
        stores["alike"], stores["reference"], out, n_jets=100, efps="d<=5,n<=3", workers=1, progress=False
    )
    assert {"efp_2_5_0", "efp_3_5_0"} <= set(result.observables)
    assert result.observables["efp_2_5_0"].floor.mean > 0
    assert "efp_2_5_0" in out.with_suffix(".html").read_text()


def test_flow_polynomials_are_not_quick(stores, tmp_path):
    command = ["evaluate", str(stores["alike"]), str(stores["reference"]), "--quick", "--efps", "d<=6"]
    result = CliRunner().invoke(app, command)
    assert isinstance(result.exception, InputError)
    assert "--efps: not with --quick" in str(result.exception)


class TestSelection:
    def test_efficiency_of_a_cut_beside_that_of_the_reference(self, stores, tmp_path):
        out = tmp_path / "cut.json"
        command = ["evaluate", str(stores["alike"]), str(stores["reference"]), "--quick", "--out", str(out)]
        result = CliRunner().invoke(app, [*command, "--range", "multiplicity=8:12"])
        assert result.exit_code == 0, result.output
        selection = json.loads(out.read_text())["settings"]["selection"]
        for name, path, n in (("generated", "alike", 300), ("reference", "reference", 450)):
            counts = ak.to_numpy(ak.num(load_sample(stores[path], name).particles.pt))
            share = np.mean((counts >= 8) & (counts < 12))
            assert selection["efficiency"][name]["value"] == pytest.approx(share)
            error = selection["efficiency"][name]["standard_error"]
            assert error == pytest.approx(np.sqrt(share * (1 - share) / n))
        assert "% of the generated jets pass 8 <= multiplicity < 12" in result.output
        assert json.loads(out.read_text())["n_generated"] < 300

    def test_only_one_class(self, make_jets, tmp_path):
        particles = make_jets(40, 5, 10)
        writer = StoreWriter(tmp_path / "both", "jets", {})
        writer.write_shard("0", to_store_rows(particles, np.arange(40) % 2, ("gluon", "quark")))
        writer.finish()
        sample = load_sample(tmp_path / "both", "reference", selection=Selection(("quark",)))
        assert (len(sample), sample.shares) == (20, {"gluon": 0, "quark": 1})
        with pytest.raises(InputError, match=r"both: no class top \(found gluon, quark\)"):
            load_sample(tmp_path / "both", "reference", selection=Selection(("top",)))

    def test_unknown_observable(self):
        with pytest.raises(InputError, match=r"--range jet_mas: .*nearest is jet_mass"):
            Selection((), {"jet_mas": (0, 1)})


class TestRanking:
    def test_the_better_generator_comes_first(self, stores, tmp_path):
        out = tmp_path / "ranking.json"
        paths = [str(stores[name]) for name in ("wider", "alike", "reference")]
        result = CliRunner().invoke(app, ["evaluate", *paths, "--out", str(out)])
        assert result.exit_code == 0, result.output
        found = json.loads(out.read_text())
        assert list(found["ranking"]) == ["alike", "wider.npz"]
        assert found["settings"]["n_jets"] == 300
        assert found["differences"][0]["significance"] > 3
        assert "alike is nearer to the reference than wider.npz by" in result.output

    def test_options_of_one_generator(self, stores, tmp_path):
        paths = [str(stores[name]) for name in ("wider", "alike", "reference")]
        result = CliRunner().invoke(app, ["evaluate", *paths, "--order", "2"])
        assert "not for a ranking of several" in str(result.exception)
        result = CliRunner().invoke(app, ["evaluate", paths[0]])
        assert "one path only" in str(result.exception)
        result = CliRunner().invoke(app, ["evaluate", paths[1], paths[1], paths[2]])
        assert "given twice" in str(result.exception)
