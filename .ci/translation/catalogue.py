"""Brings the catalogues of translations up to date with the messages in the code.

`make format` runs it: new messages are entered without a translation, which
`tests/translation/test_catalogue.py` then asks for; those that nothing shows any more are left out.
"""

import ast
import inspect
import io
from collections.abc import Iterator
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_file
from babel.messages.pofile import read_po, write_po

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "qwen3lab"
LOCALES = PACKAGE / "translation" / "locale"
N_MESSAGES = {"tr": 1, "tr_count": 2, "later": 1}
"""Functions of Python whose first arguments are messages: the singular, and the plural."""
COMMANDS = PACKAGE / "cli"
"""Here, docstrings of commands and every `help=` are messages, too."""


def extracted() -> Catalog:
    """All messages of the package and its scripts; places are files without line numbers."""
    found = Catalog(charset="utf-8")
    for path in sorted(PACKAGE.rglob("*.py")):
        shown = [*of_python(path), *(of_help(path) if COMMANDS in path.parents else ())]
        for message in shown:
            found.add(message, locations=[(str(path.relative_to(ROOT)), 0)])
    for path in sorted(PACKAGE.rglob("*.js")):
        for _, message, _, _ in extract_from_file("javascript", path, keywords={"tr": None}):
            found.add(message, locations=[(str(path.relative_to(ROOT)), 0)])
    for message in found:
        message.locations = sorted(set(message.locations))
    return found


def of_python(path: Path) -> Iterator[str | tuple[str, ...]]:
    """The messages of one file; Babel's own extractor misses calls within calls and f-strings."""
    nodes = ast.walk(ast.parse(path.read_text("utf-8")))
    calls = [n for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
    for call in sorted(calls, key=lambda each: (each.lineno, each.col_offset)):
        given = call.args[: N_MESSAGES.get(call.func.id, 0)]
        texts = [each.value for each in given if isinstance(each, ast.Constant)]
        if texts:
            yield texts[0] if len(texts) == 1 else tuple(texts)


def of_help(path: Path) -> Iterator[str]:
    """The help of the commands and options in a file of the command line."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef) and any(map(_makes_command, node.decorator_list)):
            yield inspect.cleandoc(ast.get_docstring(node) or "")
        given = node.keywords if isinstance(node, ast.Call) else ()
        for keyword in given:
            if keyword.arg == "help" and isinstance(keyword.value, ast.Constant):
                yield keyword.value.value


def _makes_command(decorator: ast.expr) -> bool:
    made_by = decorator.func if isinstance(decorator, ast.Call) else decorator
    return isinstance(made_by, ast.Attribute) and made_by.attr in ("command", "callback")


def catalogues() -> list[Path]:
    """The catalogue of each language."""
    return sorted(LOCALES.glob("*/LC_MESSAGES/qwen3lab.po"))


def read(path: Path) -> Catalog:
    """A catalogue, with the messages that are obsolete."""
    with path.open("rb") as file:
        return read_po(file, locale=path.parents[1].name)


def updated(path: Path) -> str:
    """The text of a catalogue that has the messages of the code, and no other."""
    catalogue, template = read(path), extracted()
    template.creation_date = catalogue.creation_date
    catalogue.update(template, no_fuzzy_matching=True)
    catalogue.header_comment = ""
    catalogue.project, catalogue.version = "qwen3lab", ""
    catalogue.msgid_bugs_address = catalogue.last_translator = ""
    text = io.BytesIO()
    write_po(
        text, catalogue, width=96, ignore_obsolete=True, include_lineno=False, sort_by_file=True
    )
    return text.getvalue().decode("utf-8")


def write() -> list[Path]:
    """Write the catalogues again; gives those that changed."""
    changed = []
    for path in catalogues():
        text = updated(path)
        if path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
            changed.append(path)
    return changed


if __name__ == "__main__":
    for path in write():
        missing = [message.id for message in read(path) if message.id and not message.string]
        print(f"written: {path.relative_to(ROOT)}; {len(missing)} messages lack a translation")
