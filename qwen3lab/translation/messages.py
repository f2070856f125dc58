"""Looks messages up in the catalogue of the language that is shown."""

import functools
import gettext
import io
from typing import TYPE_CHECKING, Any

from qwen3lab.translation.chosen import ENGLISH, FOLDER, language

if TYPE_CHECKING:
    from babel.messages.catalog import Catalog


def tr(message: str, /, **values: Any) -> str:
    """A message in the language that is shown.

    Args:
        message: in English, with named placeholders: `tr("layer {layer}", layer=3)`. Never an
            f-string: a catalogue knows only the text before its values are filled in.
        values: of the placeholders; without any, braces are plain text.
    """
    text = _translations(language()).gettext(message) if message else ""
    return text.format(**values) if values else text


def tr_count(one: str, many: str, n: int, /, **values: Any) -> str:
    """A message about a number of things: `tr_count("{n:,} token", "{n:,} tokens", 3)`.

    Args:
        one: the message for one of them.
        many: the message for none or several.
        n: the number, which is the placeholder `n`.
        values: of the other placeholders.
    """
    return _translations(language()).ngettext(one, many, n).format(n=n, **values)


def later(message: str) -> str:
    """The message itself, marked for the catalogue; `tr` looks it up when it is shown."""
    return message


def words(*files: str) -> dict[str, str]:
    """The translations of all messages of some files, for scripts; none in English.

    Args:
        files: ends of paths, such as "widgets/components/canvas.js".
    """
    if language() == ENGLISH:
        return {}
    return {
        message.id: message.string
        for message in _catalogue(language())
        if isinstance(message.id, str) and isinstance(message.string, str) and message.string
        if any(place.endswith(files) for place, _ in message.locations)
    }


@functools.cache
def _translations(name: str) -> gettext.NullTranslations:
    if name == ENGLISH:
        return gettext.NullTranslations()
    from babel.messages.mofile import write_mo

    compiled = io.BytesIO()
    write_mo(compiled, _catalogue(name))
    compiled.seek(0)
    return gettext.GNUTranslations(compiled)


@functools.cache
def _catalogue(name: str) -> "Catalog":
    from babel.messages.pofile import read_po

    with (FOLDER / name / "LC_MESSAGES" / "qwen3lab.po").open("rb") as file:
        return read_po(file, locale=name)
