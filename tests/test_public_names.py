"""Every analysis, experiment and figure can be reached by its public path."""

import ast
from pathlib import Path

import pytest

import qwen3lab
from qwen3lab import figures

PACKAGE = Path(qwen3lab.__file__).parent


@pytest.mark.parametrize("package", ["analysis", "experiments"])
def test_the_stub_of_a_lazy_package_lists_all_of_its_modules(package):
    folder = PACKAGE / package
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    modules |= {path.parent.name for path in folder.glob("*/__init__.py")}
    stub = ast.parse((folder / "__init__.pyi").read_text("utf-8"))
    listed = {
        name.name
        for node in ast.walk(stub)
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }
    assert listed == modules


def test_all_public_functions_that_return_a_figure_are_listed():
    returning = {
        node.name
        for path in (PACKAGE / "figures").glob("*.py")
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.returns is not None
        if ast.unparse(node.returns) == "go.Figure" and not node.name.startswith("_")
    }
    assert len(returning) > 15
    assert returning - {"empty_figure", "labelled_map", "add_key"} <= set(figures.__all__)
