"""Which language is shown: chosen by a call, a variable, a notebook's folder or the locale."""

import locale
import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

ENGLISH = "en"
FOLDER = Path(__file__).parent / "locale"
"""One folder for each language that has a catalogue."""

VARIABLE = "QWEN3LAB_LANG"
LOCALE_VARIABLES = ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")
"""As gettext reads them: the first that is set decides."""

_NAMES_ON_WINDOWS = {"chinese": "zh"}

_chosen: str | None = None


def languages() -> list[str]:
    """The languages that can be shown here."""
    return [ENGLISH, *sorted(_catalogues())] if find_spec("babel") else [ENGLISH]


def language() -> str:
    """The language of texts, figures, widgets and error messages: "en" or "zh".

    Unless `set_language` chose one, it is that of `QWEN3LAB_LANG`; then that of the folder, for a
    notebook in a folder named `zh`; then that of the locale, if there is a catalogue for it.

    Raises:
        ValueError: `QWEN3LAB_LANG` names an unknown language.
    """
    global _chosen
    if _chosen is None:
        _chosen = _default()
    return _chosen


def set_language(name: str) -> None:
    """Choose the language of all that is shown from now on; what is shown already stays.

    Args:
        name: "en" or "zh".

    Raises:
        ValueError: the language is unknown.
    """
    global _chosen
    _chosen = _known(name, "the language")


def _default() -> str:
    if asked := os.environ.get(VARIABLE):
        return _known(asked, VARIABLE)
    return next((name for name in _hints() if name in languages()), ENGLISH)


def _hints() -> Iterator[str]:
    """Languages that the surroundings suggest, the surest first."""
    if "ipykernel.kernelapp" in sys.modules:
        yield Path.cwd().name
    values = [os.environ[name] for name in LOCALE_VARIABLES if os.environ.get(name)]
    yield _code(values[0] if values else locale.getlocale()[0] or "")


def _code(name: str) -> str:
    """The language of a locale's name, such as "zh_CN.UTF-8" or "Chinese (Simplified)_China"."""
    first = name.lower().replace("-", "_").partition(":")[0]
    word = first.partition("_")[0].partition(".")[0].partition(" ")[0]
    return _NAMES_ON_WINDOWS.get(word, word)


def _known(name: str, what: str) -> str:
    code = _code(name) if isinstance(name, str) else name
    if code in languages():
        return code
    if code in _catalogues():
        raise ValueError(f"{what} is {name!r}: its texts need Babel: pip install babel")
    choices = " or ".join(map(repr, languages()))
    raise ValueError(f"{what} is {name!r}: expected {choices}")


def _catalogues() -> set[str]:
    return {path.parents[1].name for path in FOLDER.glob("*/LC_MESSAGES/qwen3lab.po")}
