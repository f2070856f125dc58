"""What differs between a page and its translation.

Code, links, names and numbers are compared. The words cannot be; so each section of an English page
has a digest in `.ci/docs/chinese_pages.json`, which says what words the Chinese page translates.
Whoever has read the Chinese page against the English one writes its digests anew:

    python -m tests.translated_page notebooks/guide/howto/load.md       or all pages, without a name
"""

import ast
import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[1]
GUIDE = ROOT / "notebooks" / "guide"
CHINESE = GUIDE / "zh"
README = ROOT / "README.md"
DIGESTS = ROOT / ".ci" / "docs" / "chinese_pages.json"

_MADE = re.compile(r"<!-- (?:table|rows)[^\n]*-->\n.*?<!-- end of \w+ -->", re.DOTALL)
_NUMBER = re.compile(r"(\d[\d,]*(?:\.\d+)?)\s*(million|billion|万|亿)?")
_TIMES = {"": 1.0, "million": 1e6, "billion": 1e9, "万": 1e4, "亿": 1e8}
_COUNTED = {
    "paragraph_open": "paragraphs",
    "list_item_open": "list items",
    "tr_open": "table rows",
    "td_open": "table cells",
    "fence": "code blocks",
    "code_block": "indented code blocks",
    "html_block": "HTML comments",
}


@dataclass
class Section:
    """What stands below one heading: numbers and names, which a translation keeps."""

    heading: str
    level: str
    prose: list[str] = field(default_factory=list)
    blocks: Counter[str] = field(default_factory=Counter)
    code: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    numbers: set[float] = field(default_factory=set)

    @property
    def digest(self) -> str:
        """Of the words, however the lines are broken."""
        return hashlib.sha256(" ".join(" ".join(self.prose).split()).encode()).hexdigest()[:12]


def guide_pages() -> list[Path]:
    """Every page of the guide; JupyterLab leaves copies beside those that it opened."""
    return [page for page in sorted(GUIDE.rglob("*.md")) if "." not in page.parent.name]


def english_pages() -> list[Path]:
    """The README, and every page of the guide that is not Chinese."""
    return [README, *(page for page in guide_pages() if CHINESE not in page.parents)]


def chinese_of(page: Path) -> Path:
    """Where the Chinese page of an English one is."""
    return CHINESE / ("README.md" if page == README else page.relative_to(GUIDE))


def tokens_of(text: str) -> list[Any]:
    """The tokens of a page; tables that are made from the code are left out."""
    return MarkdownIt("commonmark").enable("table").parse(_MADE.sub("", text))


def _essence(language: str, code: str) -> str:
    """Code without what a translation changes: comments, docstrings, words beside a command."""
    if language != "python":
        lines = (re.split(r"\s{2,}|\s#", line)[0] for line in code.splitlines())
        return "\n".join(line for line in lines if line)
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.FunctionDef)) and ast.get_docstring(node):
            node.body = [*node.body[1:], ast.Pass()]
    return ast.unparse(tree)


def _numbers(text: str) -> set[float]:
    found = _NUMBER.findall(text)
    return {float(digits.replace(",", "")) * _TIMES[unit] for digits, unit in found}


def sections(text: str) -> list[Section]:
    """A page, heading by heading."""
    found = [Section("the beginning", "h0")]
    tokens = tokens_of(text)
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        here = found[-1]
        if token.type == "heading_open" and following is not None:
            found.append(Section(following.content, token.tag))
        elif token.type in ("fence", "code_block"):
            here.code.append(_essence(token.info, token.content))
        elif token.type == "inline":
            here.prose.append(token.content)
            _add_words(here, token.children)
        here.blocks[_COUNTED.get(token.type, "")] += 1
    return found


def _add_words(section: Section, children: Iterable[Any]) -> None:
    for child in children:
        if child.type in ("link_open", "image"):
            section.links.append(child.attrs.get("href") or child.attrs["src"])
        elif child.type == "code_inline":
            section.names.add(child.content.replace("notebooks/zh/", "notebooks/"))
        elif child.type == "text":
            section.numbers |= _numbers(child.content)


def _target(link: str, page: Path) -> str:
    """Where a link of a page leads, the same for both languages."""
    if link.startswith("http"):
        return link
    path, _, anchor = link.partition("#")
    place = (page.parent / path).resolve()
    place = chinese_of(place) if place in english_pages() else place
    return str(place.relative_to(ROOT)).replace("_zh.png", ".png") + ("#" if anchor else "")


def _links(section: Section, page: Path) -> Counter[str]:
    """The targets of a section's links, without those to the page in the other language."""
    targets = Counter(_target(link, page) for link in section.links)
    for own in (page, chinese_of(page) if page in english_pages() else page):
        targets.pop(_target(own.name, own), None)
    return targets


def _said(items: Iterable[object]) -> str:
    return ", ".join(sorted(map(str, items)))


def _compared(one: Section, other: Section, page: Path) -> Iterator[str]:
    for kind in _COUNTED.values():
        english, chinese = one.blocks[kind], other.blocks[kind]
        if english != chinese:
            yield f"the English page has {english} {kind}, the Chinese {chinese}"
    for place, codes in enumerate(zip(one.code, other.code, strict=False), 1):
        if codes[0] != codes[1]:
            yield f"code block {place} is another one in Chinese"
    ours, theirs = _links(one, page), _links(other, chinese_of(page))
    if ours - theirs:
        yield f"the Chinese page has no link to {_said(ours - theirs)}"
    if theirs - ours:
        yield f"only the Chinese page has a link to {_said(theirs - ours)}"
    if one.names - other.names:
        yield f"the Chinese page does not name {_said(one.names - other.names)}"
    if other.names - one.names:
        yield f"only the Chinese page names {_said(other.names - one.names)}"
    if one.numbers - other.numbers:
        yield f"the Chinese page has no number {_said(one.numbers - other.numbers)}"


def differences(page: Path, english: str, chinese: str) -> list[str]:
    """Sentences that say where a Chinese page is not that of the English one, and how.

    Args:
        page: the English page; links of both texts are read as they lead from their places.
        english: its text.
        chinese: the text of its translation.
    """
    name, pairs = page.relative_to(ROOT), (sections(english), sections(chinese))
    for one, other in zip_longest(*pairs, fillvalue=Section("nothing more", "no level")):
        if one.level != other.level:
            headings = (
                f'"{one.heading}" ({one.level}), in Chinese "{other.heading}" ({other.level})'
            )
            return [f"{name}: a heading is {headings}"]
    return [
        f'{name}, "{one.heading}": {said}'
        for one, other in zip(*pairs, strict=True)
        for said in _compared(one, other, page)
    ]


def stale(page: Path, english: str, translated: list[str]) -> list[str]:
    """Sentences that name the sections whose English words are not those that were translated.

    Args:
        page: the English page.
        english: its text.
        translated: digests of the sections when they were translated.
    """
    name = page.relative_to(ROOT)
    return [
        f'{name}, "{section.heading}": the English words have changed. Bring the Chinese page up '
        f"to date, then run python -m tests.translated_page {name}"
        for section, known in zip_longest(sections(english), translated)
        if section and section.digest != known
    ]


def known_digests() -> dict[str, list[str]]:
    """The digests of the English words that were translated, by page."""
    return json.loads(DIGESTS.read_text("utf-8"))


def accept(pages: Iterable[Path]) -> None:
    """Say that the Chinese pages have what these English ones say now."""
    known = known_digests()
    for page in pages:
        found = sections(page.read_text("utf-8"))
        known[str(page.relative_to(ROOT))] = [section.digest for section in found]
    DIGESTS.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    accept([Path(name).resolve() for name in sys.argv[1:]] or english_pages())
