"""Messages to a canvas: quantised cells, labels and spans; exact values on request."""

import pytest
import torch

from qwen3lab.figures.scales import ColourScale
from qwen3lab.widgets.components.canvas import Canvas
from qwen3lab.widgets.components.heatmap import (
    Axis,
    Heatmap,
    Span,
    block_value,
    palette_bytes,
    payload,
    quantise,
)

NAN = torch.nan
UNIT = ColourScale("linear", 0.0, 1.0)
MAP = Heatmap(
    title="A map",
    values=torch.tensor([[0.0, 0.5], [1.0, NAN]]),
    rows=Axis("row", "row", ("<b>", "\n")),
    columns=Axis("column", "column", ("x", ""), (Span("half", 0, 1, "#fff"),)),
    value_title="weight",
    nothing="not chosen",
)


def test_values_are_quantised_to_1_to_255_and_nan_to_0() -> None:
    assert list(quantise(MAP.values, UNIT)) == [1, 128, 255, 0]


def test_a_quantised_value_is_within_half_a_step() -> None:
    values = torch.rand(30, 40)
    levels = torch.frombuffer(bytearray(quantise(values, UNIT)), dtype=torch.uint8)
    decoded = (levels.float().reshape(30, 40) - 1) / 254
    assert (decoded - values).abs().max() <= 0.5 / 254 + 1e-6


def test_values_outside_the_scale_are_clamped() -> None:
    assert list(quantise(torch.tensor([[-3.0, 7.0]]), UNIT)) == [1, 255]


def test_a_scale_of_width_zero_maps_to_its_low_end() -> None:
    assert list(quantise(torch.zeros(1, 2), ColourScale("linear", 0.0, 0.0))) == [1, 1]


def test_the_palette_runs_from_violet_to_yellow_for_viridis() -> None:
    palette = palette_bytes("Viridis")
    assert len(palette) == 3 * 256
    assert tuple(palette[:3]) == (68, 1, 84)
    assert tuple(palette[-3:]) == (253, 231, 37)


def test_labels_are_sent_with_visible_white_space_and_spans_unchanged() -> None:
    sent = payload(MAP)
    assert sent["rows"]["labels"] == ["<b>", "↵"]  # drawn as text by the canvas, never as HTML
    assert sent["columns"]["labels"] == ["x", ""]
    assert sent["columns"]["spans"] == [
        {"name": "half", "start": 0.0, "end": 1.0, "colour": "#fff"}
    ]
    assert sent["shape"] == [2, 2]


def test_an_exact_value_is_text_and_an_empty_cell_gives_its_meaning() -> None:
    assert block_value(MAP, 0, 1) == "weight 0.5000"
    assert block_value(MAP, 1, 1) == "not chosen"


def test_a_map_of_more_than_a_million_cells_is_pooled() -> None:
    values = torch.zeros(2049, 3)
    values[2048, 2] = 0.25
    big = Heatmap("big", values, Axis("r", "r", ("",) * 2049), Axis("c", "c", ("",) * 3), "weight")
    sent = payload(big)
    assert sent["shape"] == [683, 3]
    assert sent["rows"]["step"] == 3
    assert len(sent["rows"]["labels"]) == 683
    assert block_value(big, 682, 2) == "weight 0.2500 (largest of 3 × 1)"
    with pytest.raises(ValueError, match="the map has 683 rows and 3 columns"):
        block_value(big, 683, 0)


def test_a_value_request_is_answered_with_the_exact_value(monkeypatch) -> None:
    canvas, sent = Canvas(), []
    monkeypatch.setattr(canvas, "send", sent.append)
    canvas.show(MAP)
    canvas.answer({"kind": "value", "row": 1, "column": 0})
    assert sent == [{"kind": "value", "row": 1, "column": 0, "text": "weight 1.0000"}]


def test_a_request_for_a_missing_cell_or_a_malformed_request_is_ignored(monkeypatch) -> None:
    canvas, sent = Canvas(), []
    monkeypatch.setattr(canvas, "send", sent.append)
    canvas.answer({"kind": "value", "row": 0, "column": 0})
    canvas.show(MAP)
    canvas.answer({"kind": "value", "row": 7, "column": 0})
    canvas.answer({"kind": "value", "row": "x", "column": None})
    canvas.answer({"kind": "other"})
    assert sent == []


def test_show_nothing_shows_a_sentence() -> None:
    canvas = Canvas()
    canvas.show(MAP)
    canvas.show_nothing("No experts here.")
    assert canvas.map == {"empty": "No experts here."}
    assert canvas.heatmap is None
