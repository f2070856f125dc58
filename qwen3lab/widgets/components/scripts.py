"""The text of the widgets' JavaScript modules."""

import hashlib
import json
import re
from pathlib import Path

from qwen3lab.translation import words

FOLDER = Path(__file__).parent
SHARED = "element.js"
ONCE = "export default () => (globalThis.qwen3labScripts ??= {})"
COMMENT = re.compile(r"^[ \t]*(?:/\*\*.*?\*/[ \t]*\n?|//[^\n]*\n)", re.DOTALL | re.MULTILINE)
"""A comment that begins a line; a third of the scripts, which the browser need not wait for."""


class Script:
    """One module: its words, the shared functions, then files of this folder in their order.

    anywidget asks for the text whenever a widget is made, so that the words are those of the
    language then. Widgets take text and no path: for a path, anywidget watches the file with a
    signal that keeps every widget alive.

    anywidget imports the text once for each widget, and a page keeps all modules that it has ever
    imported. So the code is a function, which the page runs, and compiles, for its first widget.
    """

    def __init__(self, *names: str) -> None:
        self.files = [FOLDER / name for name in (SHARED, *names)]
        self.code = "\n".join(COMMENT.sub("", file.read_text("utf-8")) for file in self.files)

    def __str__(self) -> str:
        code = f"{words_for(*self.files)}\n{as_function_body(self.code)}"
        key = hashlib.sha256(code.encode()).hexdigest()[:16]
        return f"function make() {{\n{code}\n}}\n{ONCE}.q{key} ??= make();\n"


def script(*names: str) -> Script:
    """The module of a widget, from files of this folder."""
    return Script(*names)


def as_function_body(code: str) -> str:
    """A module as the body of a function that returns what the module exports."""
    return code.replace("export default {", "return {")


def words_for(*files: Path) -> str:
    """The line of JavaScript that hands `tr` of element.js the translations for some scripts."""
    found = words(*(f"{file.parent.name}/{file.name}" for file in files))
    # A script in a page ends at "</script", wherever it stands.
    return f"const WORDS = {json.dumps(found, ensure_ascii=False)};".replace("<", "\\u003c")
