"""Explore and interpret the Qwen3 family in Jupyter.

import qwen3lab

lab = qwen3lab.load("tiny-moe")
chat = lab.chat("3+2*7-1=?", record=True, seed=0)
chat.thinking, chat.answer
chat.recording.routing.layer(2).experts

The package is imported piece by piece, when a name is first used; `__init__.pyi` lists the names.
"""

from importlib.metadata import version
from typing import Any

import lazy_loader

from qwen3lab import _moved

__version__ = version("qwen3lab")
_lazy_name, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
_moved.install()


def __getattr__(name: str) -> Any:
    """A public name, imported when it is first used; a module that has moved, with a warning."""
    return _moved.module(name) if _moved.knows(name) else _lazy_name(name)
