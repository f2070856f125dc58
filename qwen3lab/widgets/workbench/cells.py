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


LATEST = ("_", "__", "___")
"""Names of the latest outputs; _12 is that of the cell that ran as number 12."""

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
        benches = WeakSet[Any]()
    benches.add(bench)
    _shown[cell] = (run, benches)


def forget(bench: Closable) -> None:
    """Drop IPython's own references to the output of a cell, which keep its recording in memory."""
    shell: Any = get_ipython()
    if shell is None:
        return
    outputs = shell.user_ns.get("_oh", {})
    for number in [n for n, value in outputs.items() if value is bench]:
        del outputs[number]
    nothing = ""
    for names in (shell.user_ns, shell.user_ns_hidden):  # IPython keeps what it set in both.
        for name in [name for name, value in names.items() if value is bench]:
            if name in LATEST:
                names[name] = nothing
            elif name.strip("_").isdigit():  # A name that a person chose stays.
                del names[name]
    for name in LATEST:
        with suppress(AttributeError):
            if getattr(shell.displayhook, name) is bench:
                setattr(shell.displayhook, name, nothing)
