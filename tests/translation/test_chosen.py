"""The language is that of a call, a variable, a notebook's folder or the locale, in this order."""

import subprocess
import sys
from pathlib import Path

import pytest

import qwen3lab
from qwen3lab.translation import chosen


@pytest.fixture
def not_chosen(monkeypatch):
    """As in a new process, in which nothing says a language."""
    monkeypatch.setattr(chosen, "_chosen", None)
    for name in (chosen.VARIABLE, *chosen.LOCALE_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(chosen.locale, "getlocale", lambda: (None, None))
    monkeypatch.delitem(sys.modules, "ipykernel.kernelapp", raising=False)


@pytest.mark.usefixtures("not_chosen")
def test_the_language_is_english_if_nothing_says_another():
    assert qwen3lab.language() == "en"


@pytest.mark.usefixtures("not_chosen")
def test_a_chosen_language_stays_until_another_is_chosen():
    qwen3lab.set_language("zh")
    assert qwen3lab.language() == "zh"
    qwen3lab.set_language("en")
    assert qwen3lab.language() == "en"


@pytest.mark.usefixtures("not_chosen")
@pytest.mark.parametrize("name", ["zh_CN.UTF-8", "zh-Hans", "zh", "zh_TW:en"])
@pytest.mark.parametrize("variable", ["LANG", "LC_ALL", "QWEN3LAB_LANG"])
def test_a_chinese_locale_gives_chinese(monkeypatch, variable, name):
    monkeypatch.setenv(variable, name)
    assert qwen3lab.language() == "zh"


@pytest.mark.usefixtures("not_chosen")
@pytest.mark.parametrize("name", ["Chinese (Simplified)_China", "Chinese_China", "zh_CN"])
def test_the_locale_counts_where_no_variable_says_it_as_on_windows(monkeypatch, name):
    monkeypatch.setattr(chosen.locale, "getlocale", lambda: (name, "cp936"))
    assert qwen3lab.language() == "zh"


@pytest.mark.usefixtures("not_chosen")
def test_of_several_variables_the_first_counts_as_in_gettext(monkeypatch):
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert qwen3lab.language() == "en"


@pytest.mark.usefixtures("not_chosen")
def test_the_variable_of_the_package_comes_before_the_locale(monkeypatch):
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    monkeypatch.setenv("QWEN3LAB_LANG", "en")
    assert qwen3lab.language() == "en"


@pytest.mark.usefixtures("not_chosen")
@pytest.mark.parametrize(("is_kernel", "expected"), [(True, "zh"), (False, "en")])
def test_a_notebook_in_the_chinese_folder_is_chinese(monkeypatch, tmp_path, is_kernel, expected):
    (tmp_path / "zh").mkdir()
    monkeypatch.chdir(tmp_path / "zh")
    monkeypatch.setenv("LANG", "en_US.UTF-8")
    if is_kernel:
        monkeypatch.setitem(sys.modules, "ipykernel.kernelapp", sys)
    assert qwen3lab.language() == expected


@pytest.mark.usefixtures("not_chosen")
@pytest.mark.parametrize("name", ["klingon", ""])
def test_an_unknown_language_is_refused_with_those_that_exist(name):
    with pytest.raises(ValueError, match=r"the language is .*: expected 'en' or 'zh'"):
        qwen3lab.set_language(name)
    assert qwen3lab.language() == "en"


@pytest.mark.usefixtures("not_chosen")
def test_an_unknown_language_in_the_variable_is_refused(monkeypatch):
    monkeypatch.setenv("QWEN3LAB_LANG", "klingon")
    with pytest.raises(ValueError, match="QWEN3LAB_LANG is 'klingon': expected 'en' or 'zh'"):
        qwen3lab.language()


@pytest.mark.usefixtures("not_chosen")
def test_without_babel_english_is_shown_and_chinese_says_what_it_needs(monkeypatch):
    monkeypatch.setattr(chosen, "find_spec", lambda name: None)
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    assert qwen3lab.language() == "en"
    with pytest.raises(ValueError, match="pip install babel"):
        qwen3lab.set_language("zh")


def test_neither_torch_nor_babel_is_imported_to_show_english():
    code = (
        "import sys, qwen3lab; from qwen3lab.translation import tr; qwen3lab.set_language('en');"
        "assert tr('layer {n}', n=3) == 'layer 3';"
        "print([name for name in ('torch', 'babel', 'gettext') if name in sys.modules])"
    )
    root = Path(qwen3lab.__file__).parents[1]
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root
    )
    assert found.stdout.strip() == "['gettext']"
