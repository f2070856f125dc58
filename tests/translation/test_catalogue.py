"""The Chinese catalogue has every message of the code, translated, with the same placeholders."""

import ast
import importlib
import re
import string
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "qwen3lab"
HOW = "run `python .ci/translation/catalogue.py`, and fill in msgstr in qwen3lab.po"


@pytest.fixture(scope="module")
def maker():
    """The module that brings catalogues up to date, which is not a part of the package."""
    sys.path.insert(0, str(ROOT / ".ci" / "translation"))
    try:
        yield importlib.import_module("catalogue")
    finally:
        sys.path.remove(str(ROOT / ".ci" / "translation"))


@pytest.fixture(scope="module")
def messages(maker):
    """Every message of the code."""
    return [message for message in maker.extracted() if message.id]


@pytest.fixture(scope="module", params=["zh"])
def catalogue(maker, request):
    (path,) = [each for each in maker.catalogues() if each.parents[1].name == request.param]
    return maker.read(path)


def _texts(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _places(message) -> str:
    return ", ".join(place for place, _ in message.locations)


def test_there_are_messages_of_python_and_of_scripts(messages):
    kinds = {Path(place).suffix for message in messages for place, _ in message.locations}
    assert kinds == {".py", ".js"}


def test_every_message_has_a_translation(messages, catalogue):
    known = {_texts(each.id)[0]: each for each in catalogue if each.id}
    missing = [
        f"{_places(message)}: {_texts(message.id)[0]!r}"
        for message in messages
        if not (found := known.get(_texts(message.id)[0])) or not all(_texts(found.string))
    ]
    assert not missing, f"not translated ({HOW}):\n" + "\n".join(missing)


def test_the_catalogue_is_the_one_that_the_code_gives_now(maker, messages, catalogue):
    now = {(_texts(each.id), _places(each)) for each in messages}
    kept = {(_texts(each.id), _places(each)) for each in catalogue if each.id}
    assert not now ^ kept, f"{HOW}: {sorted(now ^ kept)}"


def test_a_translation_has_the_placeholders_of_its_message(catalogue):
    different = [
        (each.id, each.string)
        for each in catalogue
        if each.id and all(_texts(each.string))
        for text in _texts(each.string)
        if sorted(_fields(text)) != sorted(_fields(_texts(each.id)[-1]))
    ]
    assert not different


def test_nothing_is_fuzzy_or_obsolete(catalogue):
    assert not [each.id for each in catalogue if each.id and each.fuzzy]
    assert not list(catalogue.obsolete)


def test_an_update_keeps_translations_and_drops_what_nothing_shows(maker, tmp_path):
    path = tmp_path / "zh" / "LC_MESSAGES" / "qwen3lab.po"
    path.parent.mkdir(parents=True)
    (original,) = maker.catalogues()
    stale = '\n#: qwen3lab/lab.py\nmsgid "nobody says this"\nmsgstr "没有人说这句"\n'
    path.write_text(original.read_text("utf-8") + stale, "utf-8")
    assert maker.updated(path) == maker.updated(original)


def test_each_call_gives_values_for_exactly_the_placeholders_of_its_message():
    wrong = [
        f"{place}: {text!r} with {sorted(given)}"
        for place, text, given in _calls()
        if given != _needed(text, given)
    ]
    assert not wrong, "give each value to `tr`, as in `tr('layer {layer}', layer=3)`"


def test_placeholders_have_names():
    unnamed = [
        (place, text)
        for place, text, given in _calls()
        if given and any(re.match(r"\d*$", field) for field, *_ in _fields(text))
    ]
    assert not unnamed


def _needed(text: str, given: set[str]) -> set[str]:
    """Names of the placeholders; those of plotly, such as `%{x}`, stay where no value is given."""
    own = text if given else re.sub(r"%\{[^}]*\}", "", text)
    return {re.split(r"[.\[]", field)[0] for field, *_ in _fields(own) if field}


def _fields(text: str) -> Iterator[tuple[str, str, str]]:
    """Name, format and conversion of each placeholder."""
    try:
        parsed = list(string.Formatter().parse(text))
    except ValueError:  # Plain text with a brace.
        return
    for _, name, spec, conversion in parsed:
        if name is not None:
            yield name, spec or "", conversion or ""


def _calls() -> Iterator[tuple[str, str, set[str]]]:
    """Each message that a call holds as a literal, with the names of the values beside it."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            given = {keyword.arg for keyword in node.keywords if keyword.arg}
            given |= {"n"} if node.func.id == "tr_count" else set()
            n_messages = {"tr": 1, "tr_count": 2}.get(node.func.id, 0)
            for literal in node.args[:n_messages]:
                if isinstance(literal, ast.Constant):
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", literal.value, given
