"""The guide and the README in Chinese say what the English ones say, in Chinese typography."""

import re
import unicodedata
from itertools import pairwise
from pathlib import Path

import pytest
from babel.messages.pofile import read_po

from qwen3lab.translation.chosen import FOLDER
from tests.translated_page import (
    CHINESE,
    GUIDE,
    README,
    ROOT,
    chinese_of,
    differences,
    english_pages,
    guide_pages,
    known_digests,
    sections,
    stale,
    tokens_of,
)

PAGES = english_pages()
CHINESE_PAGES = [page for page in guide_pages() if CHINESE in page.parents]
CATALOGUE = FOLDER / "zh" / "LC_MESSAGES" / "qwen3lab.po"
HAN = "\u4e00-\u9fff"


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> list[str]:
    """The text of a page's paragraphs, headings and cells, with a mark for each piece of code."""
    pieces = []
    for token in tokens_of(page.read_text("utf-8")):
        marks = {"code_inline": "`", "softbreak": "\n", "text": None}
        known = [child for child in token.children or [] if child.type in marks]
        pieces.append("".join(marks[child.type] or child.content for child in known))
    return [piece for piece in pieces if piece]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_a_page_has_a_chinese_one_with_its_headings_code_links_names_and_numbers(page):
    chinese = chinese_of(page)
    assert chinese.exists(), f"{named(page)} has no Chinese page: write {named(chinese)}"
    found = differences(page, page.read_text("utf-8"), chinese.read_text("utf-8"))
    assert not found, "bring the Chinese page up to date. " + "; ".join(found)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_the_words_of_a_page_are_those_that_were_translated(page):
    assert stale(page, page.read_text("utf-8"), known_digests().get(named(page), [])) == []


def test_no_chinese_page_is_left_over():
    assert sorted(map(chinese_of, PAGES)) == CHINESE_PAGES


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_a_page_and_its_chinese_one_link_to_each_other_in_their_first_lines(page):
    chinese = chinese_of(page)
    for here, label, there in ((page, "中文", chinese), (chinese, "English", page)):
        start = "\n".join(here.read_text("utf-8").splitlines()[:3])
        (link,) = re.findall(rf"\[{label}\]\(([^)]+)\)", start)
        assert (here.parent / link).resolve() == there


ENGLISH = """# Load

[中文](zh/index.md)

Two of 67 million, see [a page](hooks.md) and `rec`.

```python
x = 1  # one
```

## Next

A sentence.
"""
SAME = """# 加载

[English](../index.md)

6,700 万里的两个，见[一页](hooks.md)和 `rec`。

```python
x = 1  # 一
```

## 下一步

一句话。
"""


def test_translated_words_and_comments_are_no_difference():
    assert differences(ROOT / "notebooks/guide/index.md", ENGLISH, SAME) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("## Next", "### Next", 'index.md: a heading is "Next" (h3), in Chinese "下一步" (h2)'),
        ("x = 1", "x = 2", '"Load": code block 1 is another one in Chinese'),
        ("(hooks.md)", "(glossary.md)", "has no link to notebooks/guide/zh/glossary.md"),
        ("`rec`", "`lab`", "does not name lab"),
        ("67 million", "68 million", "has no number 68000000.0"),
        ("A sentence.", "A sentence.\n\nMore.", '"Next": the English page has 2 paragraphs'),
        ("A sentence.", "- a\n- b", "has 2 list items, the Chinese 0"),
    ],
)
def test_an_edit_of_the_english_page_alone_is_named_with_its_page_and_place(old, new, said):
    found = differences(ROOT / "notebooks/guide/index.md", ENGLISH.replace(old, new), SAME)
    assert any(said in sentence for sentence in found)
    assert all(sentence.startswith("notebooks/guide/index.md") for sentence in found)


def test_an_edit_of_the_words_alone_is_named_with_its_page_and_section():
    page = ROOT / "notebooks/guide/index.md"
    digests = [section.digest for section in sections(ENGLISH)]
    assert stale(page, ENGLISH.replace("Two of", "Two\nof"), digests) == []
    (said,) = stale(page, ENGLISH.replace("A sentence", "Another one"), digests)
    assert said.startswith('notebooks/guide/index.md, "Next": the English words have changed')


def wide(line: str) -> int:
    """Columns of a line; a Chinese character takes two."""
    return sum(2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in line)


@pytest.mark.parametrize("page", CHINESE_PAGES, ids=named)
def test_chinese_code_fits_the_width_of_a_page(page):
    blocks = [token for token in tokens_of(page.read_text("utf-8")) if token.type == "fence"]
    lines = [line for block in blocks for line in block.content.splitlines()]
    assert [line for line in lines if wide(line) > 88] == []


@pytest.mark.parametrize("page", CHINESE_PAGES, ids=named)
def test_a_chinese_page_has_no_line_break_within_a_paragraph(page):
    """A browser shows one as a space, between characters that have none."""
    assert [piece for piece in prose(page) if "\n" in piece] == []


@pytest.mark.parametrize("page", CHINESE_PAGES, ids=named)
def test_emphasis_on_a_chinese_page_is_closed_where_markdown_sees_it(page):
    """Bold that ends in a full stop, before a character, stays as two stars in the text."""
    assert [piece for piece in prose(page) if "**" in piece] == []


@pytest.mark.parametrize("page", CHINESE_PAGES, ids=named)
def test_chinese_text_has_full_width_punctuation_and_spaces_beside_latin(page):
    narrow = re.compile(rf"[{HAN}][,;:?!()]|[,;:?!()][{HAN}]|[{HAN}]\.(?:\s|$)")
    close = re.compile(rf"[{HAN}][A-Za-z0-9`]|[A-Za-z0-9`%][{HAN}]")
    spaced = re.compile(r" [，。：；？！、“”（）]|[，。：；？！、（）] ")
    found = [each for rule in (narrow, close, spaced) for each in map(rule.search, prose(page))]
    assert [each.string[max(0, each.start() - 8) : each.end() + 8] for each in found if each] == []


def test_the_first_lines_of_the_readme_lead_to_the_chinese_one():
    assert "[中文](notebooks/guide/zh/README.md)" in README.read_text("utf-8")[:200]


def emphasised(page: Path) -> set[str]:
    """The words that a page sets in bold or italics."""
    inline = [token.children for token in tokens_of(page.read_text("utf-8")) if token.children]
    return {
        word.content
        for children in inline
        for start, word in pairwise(children)
        if start.type in ("em_open", "strong_open") and word.type == "text"
    }


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("howto/workbench.md", {"Text", "Raw", "Add, ask again", "Keep this change"}),
        ("cases/a-wrong-digit.md", {"largest", "without each head", "Change the model"}),
    ],
)
def test_the_labels_that_a_page_quotes_are_those_that_the_interface_shows_in_chinese(name, labels):
    with CATALOGUE.open("rb") as file:
        shown = {str(each.id).lower(): str(each.string) for each in read_po(file) if each.id}
    quoted = {
        word: shown[word.lower()] for word in emphasised(GUIDE / name) if word.lower() in shown
    }
    assert labels <= quoted.keys()
    text = (CHINESE / name).read_text("utf-8")
    assert [label for label in quoted.values() if label not in text] == []
