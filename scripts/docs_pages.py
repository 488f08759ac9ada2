"""Pages that mkdocs adds to docs/: the project's own files, and the reference made from docstrings."""

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PACKAGES = ("genscale", "tokenizer", "eval")
PAGES = {"index.md": "README.md", "changelog.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the reference into the navigation, one entry a package."""
    names = list(_reference())
    groups: list[Any] = [{p: [{n: _page(n)} for n in names if n.split(".")[0] == p]} for p in PACKAGES]
    assert config.nav is not None
    config.nav.insert(len(config.nav) - 1, {"Reference": groups})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that have no file of their own below docs/."""
    for page, source in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=_as_page(text, str(config.repo_url))))
    for name, modules in _reference().items():
        # The package itself repeats what its modules define; its docstring is enough.
        entries = [f"::: {m}" + ("\n    options: { members: false }" if m == name else "") for m in modules]
        text = f"# {name}\n\n" + "\n\n".join(entries)
        files.append(File.generated(config, _page(name), content=text))
    return files


def _page(name: str) -> str:
    return f"reference/{name}.md"


def _reference() -> dict[str, list[str]]:
    """Modules of each package, one entry a folder."""
    found: dict[str, list[str]] = {}
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            parts = file.relative_to(ROOT).with_suffix("").parts
            folder = ".".join(parts[:-1])
            name = folder if parts[-1] == "__init__" else ".".join(parts)
            if not any(part.startswith("_") for part in name.split(".")):
                found.setdefault(folder, []).append(name)
    return found


def _as_page(text: str, repository: str) -> str:
    """Links of a file in the project's folder as links of a page in docs/: other files lie in the repository."""
    text = text.replace("](docs/", "](")
    known = {source: page for page, source in PAGES.items()}

    def link(match: re.Match[str]) -> str:
        target = match[1]
        if target in known:
            return f"]({known[target]})"
        return f"]({repository}/blob/main/{target})" if (ROOT / target).exists() else match[0]

    return re.sub(r"\]\(([^)#:]+)\)", link, text)
