"""What the documentation names exists: files, modules and what they define."""

import pkgutil
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: The log and the results tell of earlier states.
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES.remove(ROOT / "docs" / "log.md")
FILE = re.compile(
    r"(?<![\w/.<-])(?:genscale|tokenizer|eval|tests|configs|scripts|examples|docs)/[\w./-]*[\w/]"
)
NAME = re.compile(r"(?<![\w/.:-])(?:genscale|eval)(?:\.\w+)+")  # `tokenizer` is also the name of variables


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_exist(page):
    missing = [name for name in FILE.findall(page.read_text()) if not (ROOT / name).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_modules_and_functions_that_a_page_names_exist(page):
    for name in NAME.findall(page.read_text()):
        assert pkgutil.resolve_name(name) is not None
