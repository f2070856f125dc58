"""Memory of a run: what stays of each text that was run."""

import gc
import json
import tracemalloc

import pytest

from qwen3lab import corpus
from qwen3lab.corpus import part, recorder

PART_ROWS, N_PARTS, N_TOKENS = 16, 12, 96
WARM_UP = 2
"""Parts after which caches are filled."""
MAX_BYTES_OF_A_TEXT = 300
"""A share of what stays of a part. A list of a text's token ids has 824, its routes have 2,304."""


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """A file whose parts are equal."""
    path = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    ids = [[(7 * row + 3 * at) % 500 for at in range(N_TOKENS)] for row in range(PART_ROWS)]
    rows = [json.dumps({"text": text, "kind": "ab"[row % 2]}) for row, text in enumerate(ids)]
    path.write_text("\n".join(N_PARTS * rows), encoding="utf-8")
    return path


def peaks_of_parts(lab, path, out, keep, monkeypatch):
    """Largest memory of Python and numpy during each part."""
    run_part, peaks = recorder.run_part, list[int]()

    def watched(*given):
        gc.collect()
        tracemalloc.reset_peak()
        entry = run_part(*given)
        peaks.append(tracemalloc.get_traced_memory()[1])
        return entry

    monkeypatch.setattr(recorder, "run_part", watched)
    tracemalloc.start()
    try:
        corpus.record(
            path, model=lab, out=out, keep=keep, label="kind", part_rows=PART_ROWS, progress=False
        )
    finally:
        tracemalloc.stop()
    return peaks


def growth(peaks):
    """Bytes of a text that stay."""
    assert len(peaks) == N_PARTS
    return (peaks[-1] - peaks[WARM_UP]) / (PART_ROWS * (N_PARTS - WARM_UP - 1))


@pytest.mark.parametrize("keep", [("counts",), ("counts", "top"), ("counts", "routes", "saliency")])
def test_memory_does_not_grow_with_the_number_of_texts(
    tiny_lab, texts, tmp_path, keep, monkeypatch
):
    peaks = peaks_of_parts(tiny_lab, texts, tmp_path / "run", keep, monkeypatch)
    assert growth(peaks) < MAX_BYTES_OF_A_TEXT


def test_texts_that_stay_would_be_seen(tiny_lab, texts, tmp_path, monkeypatch):
    write_part, kept = part.write_part, []

    def leaking(folder, own, found, run, skipped):
        kept.append([text.token_ids for text in run])
        return write_part(folder, own, found, run, skipped)

    monkeypatch.setattr(part, "write_part", leaking)
    peaks = peaks_of_parts(tiny_lab, texts, tmp_path / "run", ("counts",), monkeypatch)
    assert growth(peaks) > MAX_BYTES_OF_A_TEXT
