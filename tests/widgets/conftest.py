"""Closes every workbench after its test: an open one keeps its widgets and threads."""

import weakref
from collections.abc import Iterator

import pytest

from qwen3lab.widgets.workbench.bench import Workbench


@pytest.fixture(autouse=True)
def close_benches(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Close the workbenches that a test has made."""
    made: weakref.WeakSet[Workbench] = weakref.WeakSet()
    begin = Workbench.__init__

    def noting(self: Workbench, *args: object, **options: object) -> None:
        begin(self, *args, **options)  # type: ignore[arg-type]
        made.add(self)

    monkeypatch.setattr(Workbench, "__init__", noting)
    # Outside of a notebook, a displayed widget prints itself with its style sheet.
    monkeypatch.setattr("qwen3lab.widgets.workbench.bench.display", lambda root: None)
    yield
    for bench in [*made]:
        bench.close()
