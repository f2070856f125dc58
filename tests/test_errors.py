"""The package's own errors: one base class, all of them at the root."""

import inspect
import pkgutil
from importlib import import_module

import pytest

import qwen3lab
from qwen3lab import Qwen3LabError

BUILT_IN = {
    "BenchError": ValueError,
    "CaptureError": RuntimeError,
    "ChatError": ValueError,
    "CheckpointError": ValueError,
    "CompileError": ValueError,
    "ConfigError": ValueError,
    "CorpusError": ValueError,
    "HookError": ValueError,
    "LabError": TypeError,
    "RecordingError": ValueError,
}
"""The kinds of version 0.1, and what code that catches them has caught since then."""


@pytest.fixture(scope="module")
def defined():
    """Every exception class that a module of the package defines."""
    modules = pkgutil.walk_packages(qwen3lab.__path__, "qwen3lab.")
    classes = {
        kind
        for module in modules
        for _, kind in inspect.getmembers(import_module(module.name), inspect.isclass)
        if issubclass(kind, BaseException) and kind.__module__.startswith("qwen3lab")
    }
    assert BUILT_IN.keys() < {kind.__name__ for kind in classes}
    return classes


def test_each_error_is_caught_by_the_base_class(defined):
    assert [kind for kind in defined if not issubclass(kind, Qwen3LabError)] == []


def test_each_error_is_a_name_of_the_root(defined):
    missing = [kind for kind in defined if getattr(qwen3lab, kind.__name__, None) is not kind]
    assert missing == []
    assert {kind.__name__ for kind in defined} <= set(dir(qwen3lab))


@pytest.mark.parametrize(("name", "kind"), BUILT_IN.items())
def test_an_error_is_still_of_its_built_in_kind(name, kind):
    assert issubclass(getattr(qwen3lab, name), kind)


@pytest.mark.parametrize(
    "act",
    [
        lambda: qwen3lab.load("no-such-model"),
        lambda: qwen3lab.load("tiny-dense", dtype="int7"),
        lambda: qwen3lab.load("tiny-dense").record("3+4=?", capture="blocks.0.nowhere"),
        lambda: qwen3lab.load("tiny-dense").chat([{"role": "nobody", "content": "3+4=?"}]),
        lambda: qwen3lab.bench.BenchPlan(repeats=0),
    ],
    ids=["model", "dtype", "hook", "role", "benchmark"],
)
def test_a_mistake_is_caught_by_the_base_class(act):
    with pytest.raises(Qwen3LabError):
        act()
