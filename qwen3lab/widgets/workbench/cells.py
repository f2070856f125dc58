"""Which workbench each notebook cell shows: a cell that runs again closes what it showed before."""

from contextlib import suppress
from typing import Any, Protocol, runtime_checkable
from weakref import WeakSet

from IPython.core.getipython import get_ipython


@runtime_checkable
class Closable(Protocol):
    """What a cell shows."""

    def close(self) -> None:
        """Remove it from the page and from memory."""
        ...


_shown: dict[str, tuple[str, WeakSet[Any]]] = {}
"""By cell: the run of the cell, and what that run displayed."""


def parent() -> tuple[str, str] | None:
    """The cell that runs now and the number of its run; None outside of a notebook.

    A front end that does not name its cells, as nbclient, is told apart by their code.
    """
    kernel = getattr(get_ipython(), "kernel", None)
    message: dict[str, Any] = kernel.get_parent() if kernel is not None else {}
    run = str(message.get("header", {}).get("msg_id", ""))
    cell = message.get("metadata", {}).get("cellId") or message.get("content", {}).get("code")
    return (str(cell), run) if cell and run else None


def displayed(bench: Closable) -> None:
    """Note that the cell shows a workbench; close those of an earlier run of the same cell."""
    found = parent()
    if found is None:
        return
    cell, run = found
    before, benches = _shown.get(cell, (run, WeakSet[Any]()))
    if before != run:
        for old in [*benches]:
            if old is not bench:
                old.close()
                _forget(old)
        benches = WeakSet[Any]()
    benches.add(bench)
    _shown[cell] = (run, benches)


def _forget(bench: Closable) -> None:
    """Drop IPython's own references to the output of a cell, which keep its recording in memory."""
    shell: Any = get_ipython()
    if shell is None:
        return
    outputs = shell.user_ns.get("_oh", {})
    for number in [n for n, value in outputs.items() if value is bench]:
        del outputs[number]
        shell.user_ns.pop(f"_{number}", None)
    for name in ("_", "__", "___"):
        if shell.user_ns.get(name) is bench:
            shell.user_ns[name] = ""
        with suppress(AttributeError):
            if getattr(shell.displayhook, name) is bench:
                setattr(shell.displayhook, name, "")
