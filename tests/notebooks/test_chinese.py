"""The Chinese notebooks have the code of the English ones, and current Chinese prose."""

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
from markdown_it import MarkdownIt
from nbformat import NotebookNode

from qwen3lab.translation import tr
from tests.notebooks.books import (
    CHINESE,
    NOTEBOOKS,
    execute,
    mime_types,
    open_book,
    paired_script,
    titles,
)

BOOKS = sorted(path.name for path in NOTEBOOKS.glob("*.ipynb"))
QUICK = BOOKS[:1]
RUN = [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in BOOKS]
HAN = r"\u3400-\u9fff"
WIDE = r"\u3000-\u303f\uff00-\uffef“”‘’…"
CODE_SPAN, LINK = re.compile(r"```.*?```|`[^`]+`", re.DOTALL), re.compile(r"\]\(([^)\s]+)\)")
BOLD = re.compile(r"\*\*([^*]+)\*\*")
SENTENCE = re.compile(r"(?:[A-Za-z][A-Za-z'’-]*[ ,]+){3,}[A-Za-z]{2,}")
LATIN, STOPS = "A-Za-z0-9`", "，。：；？！、（）"
TYPOGRAPHY = {
    "half-width punctuation after a Chinese character": rf"[{HAN}][,.:;?!()]",
    "no space between Chinese and Latin": rf"[{HAN}][{LATIN}]|[{LATIN}][{HAN}]",
    "a space beside full-width punctuation": rf"\S [{STOPS}]|[{STOPS}] \S",
    "a line break that shows as a space": rf"[{HAN}{WIDE}]\n[{HAN}{WIDE}]",
}


@pytest.fixture(scope="module")
def edition():
    """The module that makes the Chinese edition, which is not a part of the package."""
    folder = str(NOTEBOOKS.parent / ".ci" / "docs")
    sys.path.insert(0, folder)
    try:
        yield importlib.import_module("chinese")
    finally:
        sys.path.remove(folder)


def prose(book: NotebookNode) -> list[str]:
    return [cell.source for cell in book.cells if cell.cell_type == "markdown"]


def both(name: str) -> list[tuple[str, str]]:
    """English and Chinese prose, cell by cell."""
    books = [open_book(folder / name) for folder in (NOTEBOOKS, CHINESE)]
    return list(zip(*map(prose, books), strict=True))


def plain(text: str) -> str:
    """Paragraphs without emphasis, with `` `x` `` for each span of code."""
    text = re.sub(r"^(#.*)\n", r"\1\n\n", text, flags=re.MULTILINE)
    return CODE_SPAN.sub("`x`", text).replace("*", "")


def code(book: NotebookNode) -> list[dict]:
    """Kinds of all cells, and what the code cells hold."""
    return [
        dict(cell) if cell.cell_type == "code" else {"cell_type": cell.cell_type}
        for cell in book.cells
    ]


def levels(text: str) -> list[str]:
    return re.findall(r"^#+(?= )", text, flags=re.MULTILINE)


def emphasis(text: str) -> int:
    """The number of bold or italic parts, as a browser would show them."""
    inline = [token for token in MarkdownIt().parse(text) if token.children]
    kinds = [child.type for token in inline for child in token.children or ()]
    return kinds.count("strong_open") + kinds.count("em_open")


def test_every_notebook_has_a_chinese_edition_of_the_same_name():
    assert sorted(path.name for path in CHINESE.glob("*.ipynb")) == BOOKS


@pytest.mark.parametrize("name", BOOKS)
def test_a_chinese_notebook_has_the_code_cells_of_the_english_one(name: str):
    english, chinese = (open_book(folder / name) for folder in (NOTEBOOKS, CHINESE))
    assert code(chinese) == code(english), "run `make format`"
    assert chinese.metadata == english.metadata, "run `make format`"


@pytest.mark.parametrize("name", BOOKS)
def test_chinese_prose_translates_the_english_prose_as_it_is_now(edition: ModuleType, name: str):
    english, chinese = (open_book(folder / name) for folder in (NOTEBOOKS, CHINESE))
    assert not (cells := edition.stale(english, chinese)), (
        f"the English prose of {name} has changed: mend the Chinese cells that begin with {cells}, "
        f"then run python .ci/docs/chinese.py --accept {Path(name).stem}"
    )


@pytest.mark.parametrize("name", BOOKS)
def test_headings_code_and_links_are_those_of_the_english_cell(name: str):
    for english, chinese in both(name):
        assert levels(chinese) == levels(english), chinese
        examples = {span for span in CODE_SPAN.findall(chinese) if re.search(f"[{HAN}]", span)}
        spans = set(CODE_SPAN.findall(chinese)) - examples  # a question in Chinese may be added
        assert spans == set(CODE_SPAN.findall(english)), chinese
        assert set(LINK.findall(chinese)) == set(LINK.findall(english)), chinese


@pytest.mark.parametrize("name", BOOKS)
def test_buttons_and_tabs_are_called_as_the_widgets_call_them_in_chinese(name: str, chinese: None):
    for english, text in both(name):
        stressed = english.startswith("### Exercise")  # bold words there are not labels
        for label in [] if stressed else BOLD.findall(" ".join(english.split())):
            assert tr(label) == label or tr(label) in plain(text), f"{tr(label)} is not in: {text}"


@pytest.mark.parametrize("name", BOOKS)
def test_no_english_sentence_is_left_over(name: str):
    for _, chinese in both(name):
        assert not SENTENCE.findall(plain(chinese)), chinese
        for block in re.split(r"\n\s*\n|\n(?=[-\d])", plain(chinese)):
            assert re.search(f"[{HAN}]", block) or block.strip() == "`x`", block


@pytest.mark.parametrize("name", BOOKS)
def test_chinese_prose_is_set_as_chinese_readers_expect(name: str):
    for _, chinese in both(name):
        for fault, pattern in TYPOGRAPHY.items():
            found = re.search(pattern, plain(chinese))
            assert not found, f"{fault}: {plain(chinese)[max(found.start() - 15, 0) :][:40]!r}"


@pytest.mark.parametrize("name", BOOKS)
def test_emphasis_is_shown_as_such_and_not_as_asterisks(name: str):
    for english, chinese in both(name):
        assert emphasis(chinese) == emphasis(english), chinese
        assert "*" not in MarkdownIt().render(CODE_SPAN.sub("x", chinese)), chinese


@pytest.mark.parametrize("name", BOOKS)
def test_a_chinese_notebook_is_stripped_and_paired_with_its_script(name: str):
    book, path = open_book(CHINESE / name), CHINESE / name
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in book.cells)
    assert path.with_suffix(".py").read_text("utf-8") == paired_script(path)


@pytest.mark.parametrize("name", RUN)
def test_a_chinese_notebook_runs_in_its_folder_and_its_figures_are_chinese(name: str):
    book = execute(open_book(CHINESE / name), CHINESE)
    kinds, found = mime_types(book), titles(book)
    assert "stderr" not in kinds and "error" not in kinds
    assert found and not [title for title in found if not re.search(f"[{HAN}]", title)]


def a_book(*cells: NotebookNode) -> NotebookNode:
    return nbformat.v4.new_notebook(cells=list(cells))


def markdown(source: str, name: str = "a", **metadata: str) -> NotebookNode:
    return nbformat.v4.new_markdown_cell(source, id=name, metadata=metadata)


def test_an_edit_of_the_english_prose_alone_makes_its_translation_stale(edition: ModuleType):
    english, chinese = a_book(markdown("The map.")), a_book(markdown("这张图。"))
    edition.accept(english, chinese)
    assert not edition.stale(english, chinese)
    english.cells[0].source = "The\nmap."
    assert not edition.stale(english, chinese), "lines that break elsewhere change nothing"
    english.cells[0].source = "The new map."
    assert edition.stale(english, chinese) == ["这张图。"]


def test_code_is_copied_and_prose_is_kept_where_cells_move(edition: ModuleType):
    english = a_book(markdown("One.", "a"), markdown("Two.", "b"))
    chinese = a_book(markdown("一。", "a"), markdown("二。", "b"))
    edition.accept(english, chinese)
    new = nbformat.v4.new_code_cell("1 + 1", id="c", metadata={"tags": ["exercise"]})
    moved = a_book(markdown("Two.", "d"), new, markdown("New.", "e"), markdown("One.", "a"))
    book = edition.merged(moved, chinese)
    assert [cell.source for cell in book.cells] == ["二。", "1 + 1", "New.", "一。"]
    assert [cell.id for cell in book.cells] == ["d", "c", "e", "a"]
    assert book.cells[1].metadata.tags == ["exercise"]
    assert edition.stale(moved, book) == ["New."]


def test_prose_that_is_still_english_is_not_accepted(edition: ModuleType):
    english = a_book(markdown("The map."))
    with pytest.raises(SystemExit, match=r"not translated yet: The map\."):
        edition.accept(english, edition.merged(english, english))
