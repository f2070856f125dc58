"""Size of the JavaScript modules: anywidget waits only two seconds for a module."""

import ast
import re
from itertools import chain
from pathlib import Path

import anywidget
import pytest

from qwen3lab import widgets
from qwen3lab.widgets.components.alternative_list import AlternativeList
from qwen3lab.widgets.components.canvas import Canvas
from qwen3lab.widgets.components.find_box import FindBox
from qwen3lab.widgets.components.number_picker import NumberPicker
from qwen3lab.widgets.components.plot import Plot
from qwen3lab.widgets.components.saver import Saver
from qwen3lab.widgets.components.textview import TextView
from qwen3lab.widgets.components.thoughts import Thoughts
from qwen3lab.widgets.components.transcript import Transcript

PACKAGE = Path(widgets.__file__).parent


@pytest.mark.parametrize(
    "kind",
    [AlternativeList, Canvas, FindBox, NumberPicker, Plot, Saver, TextView, Thoughts, Transcript],
)
def test_a_javascript_module_is_small(kind: type[anywidget.AnyWidget]) -> None:
    assert 100 < len(str(kind._esm)) < 40_000


@pytest.mark.parametrize("kind", [Canvas, Plot, TextView])
def test_a_module_has_the_code_of_its_files_without_their_comments(kind) -> None:
    code, files = str(kind._esm), [file.read_text("utf-8") for file in kind._esm.files]
    names = [re.findall(r"^\s*(?:async )?function (\w+)", text, re.M) for text in files]
    assert re.findall(r"^\s*(?:async )?function (\w+)", code, re.M) == ["make", *chain(*names)]
    lines = [line.strip() for line in code.splitlines()]
    assert not [line for line in lines if line.startswith(("//", "/*", "*"))]
    assert sum(map(len, files)) > 1.1 * len(code), "comments are a part of the files"


def test_no_widget_is_a_plotly_figure_widget() -> None:
    names = {
        node.attr
        for file in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Attribute)
    }
    assert "VBox" in names and "FigureWidget" not in names
