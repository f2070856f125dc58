"""One HTML page of a view, which works without Python and without a network."""

import html
import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from qwen3lab.analysis.map_windows import WALL_GAP
from qwen3lab.errors import RecordingError
from qwen3lab.figures.scales import AUTOMATIC, ScaleChoice
from qwen3lab.figures.theme import SEQUENTIAL, visible
from qwen3lab.recording.recording import Recording
from qwen3lab.translation import language, tr
from qwen3lab.widgets.components.heatmap import palette_bytes, payload
from qwen3lab.widgets.components.layout import STYLE
from qwen3lab.widgets.components.scripts import FOLDER, SHARED, as_function_body, words_for
from qwen3lab.widgets.explorers.attention_compute import frame_on_wall, wall_heatmap
from qwen3lab.widgets.explorers.chat_compute import MASKED, token_parts, token_spans
from qwen3lab.widgets.explorers.text_compute import of_reply
from qwen3lab.widgets.workbench.keep.packing import (
    ATTENTION,
    ChosenScales,
    Packed,
    attention_bytes,
    check_layers,
    float_bytes,
    routing_bytes,
    scale_fields,
    shade_fields,
)
from qwen3lab.widgets.workbench.keep.restoring import KeptBench, shown_recording

HERE = Path(__file__).parent
PAGE = ("page_parts.js", "page_routing.js", "page.js")
MAX_WALL_LAYERS, MAX_WALL_HEADS = 12, 16
"""Largest wall of thumbnails that can be read on half a page."""

POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'"
"""The page asks nobody for anything, whatever a text in it says."""


def page_html(bench: KeptBench, layers: Sequence[int] | None) -> str:
    """The page of a view.

    Args:
        bench: the workbench, with a finished run.
        layers: whose attention the page shows; all that were recorded if None.

    Raises:
        RecordingError: there is no finished run, or the maps are too large for a page.
    """
    recording = shown_recording(bench)
    chosen = check_layers(recording, layers)
    packed = Packed()
    data = _data(bench, recording, chosen, packed)
    question = bench.state.asked or "".join(recording.tokens)
    title = html.escape(f"{question[:80]} – {bench.name}")
    return (
        f'<!DOCTYPE html>\n<html lang="{language()}">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="generator" content="qwen3lab {html.escape(version("qwen3lab"))}">\n'
        f"<title>{title}</title>\n<style>{STYLE}\n{_read('page.css')}</style>\n</head>\n<body>\n"
        f"<noscript>{tr('This page needs JavaScript.')}</noscript>\n"
        f'<script type="application/json" id="data">{_json(data)}</script>\n'
        f'<script type="text/plain" id="packed">{packed.text()}</script>\n'
        f"<script>{_script()}</script>\n</body>\n</html>\n"
    )


def _data(
    bench: KeptBench, recording: Recording, layers: tuple[int, ...], packed: Packed
) -> dict[str, Any]:
    """What the page shows; numbers are in `packed`, and stand here by their place."""
    state, parts = bench.state, token_parts(recording)
    colours = ScaleChoice.named(state.colours)
    shown = zip(recording.tokens, parts, strict=True)
    return {
        "model": bench.name,
        "question": state.asked,
        "reply": state.current.answer if state.current is not None else "",
        "tokens": [[visible(text), part, "\n" in text] for text, part in shown],
        "spans": [vars(span) | {"name": tr(span.name)} for span in token_spans(recording)],
        "quantities": _quantities(bench, recording, packed),
        "notes": [
            {"kind": note.kind, "place": list(note.place), "name": note.name, "text": note.text}
            for note in state.notes
            if note.fits(recording)
        ],
        "palette": packed.add(palette_bytes(SEQUENTIAL)),
        "attention": {
            "layers": list(layers),
            "heads": recording.config.n_heads,
            "cells": packed.add(attention_bytes(recording, layers)),
            "nothing": tr(MASKED),
            **scale_fields(ATTENTION),
            "chosen": _of_heads(recording, layers, colours, packed),
        },
        "wall": _wall(recording, layers, colours, packed),
        "routing": _routing(recording, colours, packed),
        "picks": {
            "layer": state.layer if state.layer in layers else layers[0],
            "head": state.head,
            "routingLayer": state.routing_layer,
            "expert": state.expert,
            "token": state.token,
            "tab": state.tab,
        },
    }


def _quantities(bench: KeptBench, recording: Recording, packed: Packed) -> list[dict[str, Any]]:
    """Surprisal and entropy of each token; none if neither is known."""
    found = []
    for name in ("surprisal", "entropy"):
        try:
            shades = of_reply(recording, bench.state.current, name)
        except RecordingError:  # The logits were not recorded.
            continue
        about = {"title": shades.title, "nothing": shades.nothing}
        about |= shade_fields(shades.scale(bench.state.colours))
        found.append(about | {"values": packed.add(float_bytes(shades.values))})
    return found


def _of_heads(
    recording: Recording, layers: tuple[int, ...], colours: ScaleChoice, packed: Packed
) -> dict[str, object] | None:
    """The chosen scale of the map of each head; None for the automatic one, that of the bytes."""
    if colours.kind == AUTOMATIC:
        return None
    chosen = ChosenScales(colours, ATTENTION, packed)
    for layer in layers:
        for values in recording.attention.pattern(layer):
            chosen.add(values)
    return chosen.fields()


def _wall(
    recording: Recording, layers: tuple[int, ...], colours: ScaleChoice, packed: Packed
) -> dict[str, object] | None:
    """Thumbnails of the heads; None for too many of them."""
    if len(layers) > MAX_WALL_LAYERS or recording.config.n_heads > MAX_WALL_HEADS:
        return None
    sent = payload(wall_heatmap(recording, layers), colours)
    cells, palette = sent.pop("cells"), sent.pop("palette")
    assert isinstance(cells, bytes) and isinstance(palette, bytes)
    bottom = frame_on_wall(recording, layers[0], 0, layers=layers)[2]
    pitch = bottom + 1 + WALL_GAP
    return {"map": sent, "cells": packed.add(cells), "pitch": pitch, "gap": WALL_GAP}


def _routing(
    recording: Recording, colours: ScaleChoice, packed: Packed
) -> dict[str, object] | None:
    """Experts and weights of every layer with experts; None for a dense model."""
    if not recording.routing.layers:
        return None
    experts, weights, scale = routing_bytes(recording)
    chosen = ChosenScales(colours, scale, packed)
    if colours.kind != AUTOMATIC:  # One scale for all layers, as the page has one without a choice.
        chosen.add(torch.cat([*recording.routing.weights]), scale.high)
    return {
        "layers": list(recording.routing.layers),
        "nExperts": recording.config.n_experts,
        "perToken": recording.config.n_experts_per_token,
        "experts": packed.add(experts),
        "weights": packed.add(weights),
        **scale_fields(scale),
        "chosen": chosen.fields() if chosen.places else None,
    }


def _json(data: dict[str, Any]) -> str:
    """JSON that cannot end its script element: "<" stands only in texts, and is written as a code.

    Lone halves of surrogate pairs, which a file cannot hold, are written as codes, too.
    """
    return json.dumps(data, ensure_ascii=True, allow_nan=False).replace("<", "\\u003c")


def _script() -> str:
    """The scripts of the widgets, each in a function of its own, and that of the page."""
    widgets = {
        "text": ("textview.js",),
        "map": ("map_layout.js", "paint.js", "canvas.js"),
    }
    made = "\n".join(
        f"widgets.{name} = (() => {{\n{_as_function(files)}\n}})();"
        for name, files in widgets.items()
    )
    shared = (FOLDER / SHARED).read_text("utf-8")
    start = "const widgets = {};"
    used = [
        FOLDER / name for name in (SHARED, *(name for files in widgets.values() for name in files))
    ]
    words = words_for(*used, *(HERE / name for name in PAGE))
    page = "\n".join(map(_read, PAGE))
    return f'"use strict";\n{words}\n{shared}\n{page}\n{start}\n{made}\nshowPage(widgets);'


def _as_function(files: Sequence[str]) -> str:
    """Modules as the body of a function that returns what the last one exports."""
    return as_function_body("\n".join((FOLDER / name).read_text("utf-8") for name in files))


def _read(name: str) -> str:
    return (HERE / name).read_text("utf-8")
