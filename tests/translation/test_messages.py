"""Messages are looked up, and their values filled in after that."""

import json

import pytest

from qwen3lab.translation import later, messages, tr, tr_count, words
from qwen3lab.widgets.components.scripts import script


@pytest.fixture
def small(monkeypatch, tmp_path, chinese):
    """A catalogue of three messages, one of them of a script."""
    folder = tmp_path / "zh" / "LC_MESSAGES"
    folder.mkdir(parents=True)
    (folder / "qwen3lab.po").write_text(
        'msgid ""\nmsgstr "Content-Type: text/plain; charset=utf-8\\n"\n\n'
        '#: qwen3lab/lab.py\nmsgid "head {head} of layer {layer}"\n'
        'msgstr "第 {layer} 层的头 {head}"\n\n'
        '#: qwen3lab/widgets/components/element.js\nmsgid "The picked </token>"\n'
        'msgstr "选中的</词元>"\n\n'
        '#: qwen3lab/lab.py\nmsgid "{n:,} token"\nmsgid_plural "{n:,} tokens"\n'
        'msgstr[0] "{n:,} 个词元"\n',
        "utf-8",
    )
    monkeypatch.setattr(messages, "FOLDER", tmp_path)
    _forget()
    yield
    _forget()


def _forget():
    messages._catalogue.cache_clear()
    messages._translations.cache_clear()


@pytest.mark.usefixtures("small")
def test_values_are_filled_into_the_translation_in_its_order():
    assert tr("head {head} of layer {layer}", head=3, layer=1) == "第 1 层的头 3"


@pytest.mark.usefixtures("small")
def test_numbers_of_things_have_one_form_in_chinese():
    counted = [tr_count("{n:,} token", "{n:,} tokens", n) for n in (0, 1, 2000)]
    assert counted == ["0 个词元", "1 个词元", "2,000 个词元"]


def test_numbers_of_things_have_two_forms_in_english():
    counted = [tr_count("{n:,} token", "{n:,} tokens", n) for n in (0, 1, 2000)]
    assert counted == ["0 tokens", "1 token", "2,000 tokens"]


@pytest.mark.usefixtures("small")
def test_a_message_without_translation_and_an_empty_one_are_shown_as_they_are():
    assert (tr("not {there}"), tr("not {x}", x=1), tr("")) == ("not {there}", "not 1", "")


@pytest.mark.usefixtures("small")
def test_a_message_that_is_marked_is_translated_when_it_is_shown():
    marked = later("head {head} of layer {layer}")
    assert marked == "head {head} of layer {layer}"
    assert tr(marked, head=0, layer=0) == "第 0 层的头 0"


def test_braces_in_values_are_not_placeholders():
    assert tr("the text {text}", text="{layer}") == "the text {layer}"


@pytest.mark.usefixtures("small")
def test_a_module_carries_the_words_of_its_own_files_in_the_language_of_now():
    line = str(script("copy_button.js")).splitlines()[1]
    assert "</" not in line
    given = json.loads(line.removeprefix("const WORDS = ").removesuffix(";"))
    assert given == {"The picked </token>": "选中的</词元>"}


def test_a_module_carries_no_words_in_english():
    assert str(script("copy_button.js")).splitlines()[1] == "const WORDS = {};"
    assert words("components/element.js") == {}
