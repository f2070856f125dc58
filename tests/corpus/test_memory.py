"""Memory of a run: what stays of each text that was run."""

import json
import tracemalloc

import pytest

from qwen3lab import corpus

PART_ROWS = 16
N_TOKENS = 24
MAX_BYTES_OF_A_TEXT = 120
"""A number for each part, and an entry of the journal, shared by its texts. The token ids of one
text, as numbers of Python, have more."""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The same part once and ten times."""
    folder, found = tmp_path_factory.mktemp("texts"), []
    rows = [
        json.dumps(
            {"text": [(7 * row + 3 * at) % 500 for at in range(N_TOKENS)], "kind": "ab"[row % 2]}
        )
        for row in range(PART_ROWS)
    ]
    for times in (1, 10):
        found.append(folder / f"{times}.jsonl")
        found[-1].write_text("\n".join(times * rows), encoding="utf-8")
    return found


def peak_bytes(lab, path, out, keep):
    """Largest memory of Python and numpy during a run, above that before it."""
    tracemalloc.start()
    try:
        corpus.record(
            path, model=lab, out=out, keep=keep, label="kind", part_rows=PART_ROWS, progress=False
        )
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("keep", [("counts",), ("counts", "top"), ("counts", "routes", "saliency")])
def test_memory_does_not_grow_with_the_number_of_texts(tiny_lab, files, tmp_path, keep):
    one, ten = files
    peak_bytes(tiny_lab, one, tmp_path / "first", keep)  # Imports, and caches of the hooks.
    small = peak_bytes(tiny_lab, one, tmp_path / "one", keep)
    large = peak_bytes(tiny_lab, ten, tmp_path / "ten", keep)
    assert large - small < MAX_BYTES_OF_A_TEXT * 9 * PART_ROWS
