"""What holds for the packages as a whole: public names, and the directions of imports."""

import ast
import importlib
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PUBLIC = ["tokenizer", "eval.scaling", "genscale.data.store", "genscale.data.readers", "genscale.data.simulation",
          "genscale.fidelity"]  # fmt: skip


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_exist_and_are_documented(name):
    module = importlib.import_module(name)
    for public in module.__all__:
        value = getattr(module, public)
        assert not callable(value) or value.__doc__, public


def imports(file):
    """Modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        ("tokenizer", {"genscale", "eval"}),
        ("eval", {"genscale", "tokenizer", "torch"}),
        ("eval/scaling", {"awkward", "vector"}),
    ],
)
def test_imports_point_one_way(folder, forbidden):
    for file in (ROOT / folder).rglob("*.py"):
        found = {name.split(".")[0] for name in imports(file)} & forbidden
        assert not found, f"{file.relative_to(ROOT)} imports {found}"


@pytest.mark.parametrize("package", ["genscale", "eval", "eval.scaling", "tokenizer"])
def test_no_part_of_a_package_needs_what_needs_it(package):
    """The folders and files side by side in a package have an order in which each imports only earlier ones."""
    needs: dict[str, set[str]] = {}
    folder = ROOT / package.replace(".", "/")
    for file in folder.rglob("*.py"):
        part = file.relative_to(folder).parts[0].removesuffix(".py")
        found = {name.removeprefix(f"{package}.").split(".")[0] for name in imports(file)
                 if name.startswith(f"{package}.")}  # fmt: skip
        needs.setdefault(part, set()).update(found - {part})
    list(TopologicalSorter(needs).static_order())  # CycleError names the parts
