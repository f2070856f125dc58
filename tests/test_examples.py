"""Examples in docstrings and in the guide run, and give what they say."""

import ast
import doctest
import re
from pathlib import Path

import pytest

import qwen3lab
from tests.translated_page import README, english_pages

PACKAGE = Path(qwen3lab.__file__).parent
# Code of the Chinese pages is the same (tests/test_chinese_guide.py); the README has own tests.
PAGES = [page for page in english_pages() if page != README]
BLOCK = re.compile(r"(<!-- not run: [^\n]+ -->\n)?```python\n(.*?)```", re.DOTALL)
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef)


def docstring_examples() -> list[doctest.DocTest]:
    """Every docstring of the package that has an example; nothing is imported to find them."""
    parser, found = doctest.DocTestParser(), []
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text("utf-8")
        if ">>>" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            docstring = ast.get_docstring(node) if isinstance(node, DOCUMENTED) else None
            if docstring and ">>>" in docstring:
                name = f"{path.relative_to(PACKAGE)}:{getattr(node, 'name', '')}"
                found.append(parser.get_doctest(docstring, {}, name, str(path), 0))
    return found


EXAMPLES = docstring_examples()


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_in_a_docstring_gives_what_it_says(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    said: list[str] = []
    runner.run(example, out=said.append)
    assert not runner.failures, "".join(said)


@pytest.mark.parametrize(
    "name",
    [
        "lab.py:load",
        "lab.py:record",
        "lab.py:chat",
        "recording/recording.py:save",
        "thinking/sweep.py:sweep",
        "thinking/convergence.py:convergence",
        "tiny/world/families.py:problems",
        "figures/attention.py:attention_map",
        "interventions/rerouting.py:off",
        "analysis/routing.py:expert_load",
    ],
)
def test_what_people_call_most_has_an_example(name):
    assert name in [example.name for example in EXAMPLES]


def blocks(page: Path) -> list[tuple[str, bool]]:
    """A page's code, and whether it can run anywhere."""
    return [(code, not excuse) for excuse, code in BLOCK.findall(page.read_text("utf-8"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_of_a_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {}
    for code, runs in blocks(page):
        compiled = compile(code, page.name, "exec")
        if runs:
            exec(compiled, scope)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_fits_the_width_of_a_page(page):
    lines = [line for code, _ in blocks(page) for line in code.splitlines()]
    assert [line for line in lines if len(line) > 88] == []


def test_most_pages_of_the_guide_have_code_that_runs():
    pages = [page for page in PAGES if "course" not in page.parts]  # Those are for the lesson.
    running = [page for page in pages if any(runs for _, runs in blocks(page))]
    assert {page.stem for page in pages} - {page.stem for page in running} == {
        "architecture",
        "glossary",
        "gpu",
        "index",
        "interrupts",
        "promises",
    }
