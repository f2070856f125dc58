"""What IPython keeps of a cell's output is forgotten when the cell runs again."""

import builtins
import gc
import weakref

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from qwen3lab.widgets import Workbench
from qwen3lab.widgets.workbench import cells
from tests.fake_lab import FakeLab


class Shown:
    """What a cell shows."""

    def close(self) -> None:
        """Nothing is open."""


def test_ipython_keeps_no_output_that_was_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    # IPython leaves `_` alone where another program, such as doctest, has made it a builtin.
    monkeypatch.delattr(builtins, "_", raising=False)
    shell = InteractiveShell(config=Config({"HistoryManager": {"enabled": False}}))
    monkeypatch.setattr(cells, "get_ipython", lambda: shell)
    shell.user_ns["made"] = Shown()
    shell.run_cell("made", store_history=True)
    shell.run_cell("kept = made; del made", store_history=True)
    assert shell.user_ns["_1"] is shell.user_ns_hidden["_1"] is shell.user_ns["kept"]
    gone = weakref.ref(shell.user_ns["kept"])
    cells.forget(shell.user_ns["kept"])
    assert "_1" not in shell.user_ns and "kept" in shell.user_ns
    del shell.user_ns["kept"]
    gc.collect()
    assert gone() is None


def test_a_closed_workbench_is_in_no_old_output(monkeypatch: pytest.MonkeyPatch) -> None:
    # IPython leaves `_` alone where another program, such as doctest, has made it a builtin.
    monkeypatch.delattr(builtins, "_", raising=False)
    shell = InteractiveShell(config=Config({"HistoryManager": {"enabled": False}}))
    monkeypatch.setattr(cells, "get_ipython", lambda: shell)
    shell.user_ns["bench"] = Workbench(FakeLab(), question="Hi")
    shell.run_cell("bench", store_history=True)
    assert shell.user_ns["_1"] is shell.user_ns["_"] is shell.user_ns["bench"]
    shell.user_ns["bench"].close()
    assert "_1" not in shell.user_ns and shell.user_ns["_"] == "" and shell.user_ns["_oh"] == {}
    assert shell.user_ns["bench"].closed
