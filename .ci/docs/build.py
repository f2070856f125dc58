"""Builds the guide: the pages of notebooks/guide, and an API reference made from the packages.

    python .ci/docs/build.py [FOLDER]       build/guide if left out; warnings are errors

The pages are copied first, so that nothing is written into the source tree.
"""

import importlib
import re
import shutil
import sys
import warnings
from pathlib import Path
from types import ModuleType

from sphinx.cmd.build import build_main
from tables import GUIDE, ROOT, layers, module_file, submodules, summary, write

from qwen3lab import errors

BESIDE = ("CONTRIBUTING.md", "CHANGELOG.md")
"""Pages of the repository's root that the site has, too."""

TREE = """
```{{toctree}}
:hidden:
:caption: {caption}

{pages}
```
"""
PAGE = """# {name}

```{{eval-rst}}
.. automodule:: {path}
{options}
```
"""
INSIDE = """
## {name}

```{{eval-rst}}
.. automodule:: {path}
{options}
```
"""


def public(path: str) -> list[str]:
    """Names in a module's `__all__`, without modules, and without errors, which have a page."""
    module = importlib.import_module(path)
    names = [name for name in getattr(module, "__all__", []) if name not in vars(errors)]
    return [name for name in names if not isinstance(getattr(module, name), ModuleType)]


def documented_elsewhere(path: str, name: str) -> bool:
    """True for a name that another package makes public, too, and defines."""
    home = getattr(getattr(importlib.import_module(path), name), "__module__", "")
    package = ".".join(home.split(".")[:2])
    return package.startswith("qwen3lab.") and package != path and name in public(package)


def defined(path: str) -> list[str]:
    """Public functions and classes that a module itself defines."""
    found = vars(importlib.import_module(path)).items()
    return [
        name
        for name, value in found
        if not name.startswith("_") and callable(value) and getattr(value, "__module__", "") == path
    ]


def api_page(name: str) -> str:
    """The reference of one package or module."""
    path = f"qwen3lab.{name}"
    if not module_file(name).name.startswith("__init__"):
        return PAGE.format(name=name, path=path, options="   :members:")
    listed = [each for each in public(path) if not documented_elsewhere(path, each)]
    page = PAGE.format(name=name, path=path, options=_members(listed))
    # A package of modules, such as analysis: it lists modules and none of their names.
    return page if listed else page + "".join(_inner(f"{name}.{m}") for m in submodules(name))


def _inner(name: str) -> str:
    path = f"qwen3lab.{name}"
    options = _members(public(path) or defined(path))
    return INSIDE.format(name=name.rpartition(".")[2], path=path, options=options)


def _members(names: list[str]) -> str:
    return f"   :members: {', '.join(names)}\n   :imported-members:" if names else ""


def write_api(folder: Path) -> None:
    """A page for every package, and one for the names of the root."""
    folder.mkdir()
    names = sorted(name for layer in layers() for name in layer)
    for name in names:
        (folder / f"{name}.md").write_text(api_page(name), "utf-8")
    lines = [f"- [{name}]({name}.md): {summary(name)}" for name in names]
    tree = "\n".join(("```{toctree}", ":hidden:", "", *names, "```"))
    text = "# API reference\n\nWhat each package makes public.\n\n" + "\n".join(lines)
    (folder / "index.md").write_text(f"{text}\n\n{tree}\n", "utf-8")


def add_contents(index: Path) -> None:
    """Put the table of contents, made from the links of the first page, at its end."""
    text = index.read_text("utf-8")
    linked = re.findall(r"\]\(([\w/-]+)\.md\)", text)
    reference = ["api/index", *(name.lower().removesuffix(".md") for name in BESIDE)]
    trees = {
        "Guide": [name for name in linked if "/" not in name and name not in reference],
        "How to": [name for name in linked if name.startswith("howto/")],
        "Case studies": [name for name in linked if name.startswith("cases/")],
        "Reference": reference,
    }
    made = [TREE.format(caption=name, pages="\n".join(pages)) for name, pages in trees.items()]
    index.write_text(text + "".join(made), "utf-8")


def gather(folder: Path) -> None:
    """Everything that the site is made of, in one folder."""
    shutil.rmtree(folder, ignore_errors=True)
    # JupyterLab leaves .ipynb_checkpoints beside what it opened.
    shutil.copytree(GUIDE, folder, ignore=shutil.ignore_patterns(".*"))
    for name in BESIDE:
        shutil.copy(ROOT / name, folder / name.lower())
    for page in folder.rglob("*.md"):
        text = page.read_text("utf-8").replace("](notebooks/guide/", "](")
        for name in BESIDE:
            # Two folders up from the guide is the repository's root; here it is the site's.
            text = text.replace(f"../../{name}", name.lower())
        page.write_text(text, "utf-8")
    write_api(folder / "api")
    add_contents(folder / "index.md")


def main(out: Path = ROOT / "build" / "guide") -> int:
    """Build the site; gives Sphinx' exit code."""
    source = out.with_name(f"{out.name}-source")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        gather(source)
    options = [
        "-W",
        "--keep-going",
        "-q",
        "-c",
        str(ROOT / ".ci" / "docs"),
        "-d",
        f"{out}-doctrees",
    ]
    return build_main([*options, str(source), str(out)])


if __name__ == "__main__":
    write()
    sys.exit(main(*map(Path, sys.argv[1:])))
