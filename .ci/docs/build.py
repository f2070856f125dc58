"""Builds the guide: the pages of notebooks/guide, and an API reference made from the packages.

    python .ci/docs/build.py [FOLDER]       build/guide if left out; warnings are errors

The pages are copied first, so that nothing is written into the source tree. The Chinese pages are a
site of their own, in the folder `zh` of the English one: a site has one language and one index.
"""

import importlib
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from types import ModuleType

from sphinx.cmd.build import build_main
from tables import GUIDE, ROOT, layers, module_file, submodules, summary, write

from qwen3lab import errors

BESIDE = ("CONTRIBUTING.md", "CHANGELOG.md")
"""Pages of the repository's root that the site has, too."""
CHINESE = "zh"
LINK = re.compile(r"\[([^\]]+)\]\(([\w./-]+)\.md\)")

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


def add_contents(index: Path, captions: tuple[str, str, str]) -> None:
    """Put the table of contents, made from the links of the first page, at its end."""
    linked = re.findall(r"\]\(([\w/-]+)\.md\)", index.read_text("utf-8"))
    guide, how_to, cases = captions
    beside = [name.lower().removesuffix(".md") for name in BESIDE]
    add_tree(index, guide, [name for name in linked if "/" not in name and name not in beside])
    add_tree(index, how_to, [name for name in linked if name.startswith("howto/")])
    add_tree(index, cases, [name for name in linked if name.startswith("cases/")])


def add_tree(index: Path, caption: str, pages: list[str]) -> None:
    """Put one more list of pages into the table of contents."""
    with index.open("a", encoding="utf-8") as page:
        page.write(TREE.format(caption=caption, pages="\n".join(pages)))


def linked_across(text: str, page: Path, chinese: Path) -> str:
    """Links to pages in the other language as HTML: they lead into another site."""

    def written(found: re.Match[str]) -> str:
        target = (page.parent / f"{found[2]}.md").resolve()
        if target.exists() and (chinese in target.parents) != (chinese in page.parents):
            return f'<a href="{found[2]}.html">{found[1]}</a>'
        return found[0]

    return LINK.sub(written, text)


def gather(folder: Path) -> None:
    """Everything that the site is made of, in one folder."""
    shutil.rmtree(folder, ignore_errors=True)
    # JupyterLab leaves .ipynb_checkpoints beside what it opened. The Chinese README is for GitHub.
    shutil.copytree(GUIDE, folder, ignore=shutil.ignore_patterns(".*", "README.md"))
    chinese = folder.resolve() / CHINESE
    for name in BESIDE:
        shutil.copy(ROOT / name, folder / name.lower())
    for page in folder.resolve().rglob("*.md"):
        text = page.read_text("utf-8").replace("](notebooks/guide/", "](")
        for name in BESIDE:
            # Two folders up from the guide is the repository's root; here it is the site's.
            text = text.replace(f"../../{name}", name.lower())
        page.write_text(linked_across(text, page, chinese), "utf-8")
    write_api(folder / "api")
    add_contents(folder / "index.md", ("Guide", "How to", "Case studies"))
    add_tree(folder / "index.md", "Course", course_pages(folder))
    beside = [name.lower().removesuffix(".md") for name in BESIDE]
    add_tree(folder / "index.md", "Reference", ["api/index", *beside])
    add_contents(chinese / "index.md", ("指南", "怎么做", "案例"))
    add_tree(chinese / "index.md", "课程", course_pages(chinese))


def course_pages(folder: Path) -> list[str]:
    """The pages of the course in a folder, its index first."""
    pages = sorted((folder / "course").rglob("*.md"))
    pages.sort(key=lambda page: page.stem != "index")
    return [page.relative_to(folder).with_suffix("").as_posix() for page in pages]


def write_terms(glossary: Path, out: Path) -> None:
    """The terms of the Chinese glossary, one a line, so that the search index has them as words."""
    bold = re.findall(r"\*\*([^*]+)\*\*", glossary.read_text("utf-8"))
    out.write_text("\n".join(word for each in bold for word in each.split("、")) + "\n", "utf-8")


def main(out: Path = ROOT / "build" / "guide") -> int:
    """Build both sites; gives Sphinx' exit code."""
    source = out.with_name(f"{out.name}-source")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        gather(source)
    options = ["-W", "--keep-going", "-q", "-c", str(ROOT / ".ci" / "docs")]
    english = ["-D", f"exclude_patterns={CHINESE}", "-d", f"{out}-doctrees"]
    failed = build_main([*options, *english, str(source), str(out)])
    terms = out.with_name(f"{out.name}-terms.txt")
    write_terms(source / CHINESE / "glossary.md", terms)
    chinese = ["-D", "language=zh_CN", "-D", f"html_search_options.dict={terms}"]
    chinese += ["-d", f"{out}-doctrees-{CHINESE}", str(source / CHINESE), str(out / CHINESE)]
    # Sphinx keeps what extensions registered for as long as its process runs.
    return failed or subprocess.run([sys.executable, "-m", "sphinx", *options, *chinese]).returncode


if __name__ == "__main__":
    write()
    sys.exit(main(*map(Path, sys.argv[1:])))
