"""Data of the atlas explorer: its map, and what is shown of one expert, as escaped HTML."""

import html

import torch

from qwen3lab.analysis.atlas import Association, Atlas, Example, ExpertEntry, Neighbour
from qwen3lab.figures.theme import visible
from qwen3lab.translation import tr
from qwen3lab.widgets.components.heatmap import Axis, Heatmap
from qwen3lab.widgets.explorers.routing_compute import layer_axis

MAX_TEXT = 60
"""Characters before and after the token of an example."""


def atlas_heatmap(atlas: Atlas, column: str) -> Heatmap:
    """The largest npmi of each expert with a label of the column: layers by experts."""
    values = [
        [
            best.npmi if (best := atlas[layer, e].best(column)) else torch.nan
            for e in range(atlas.n_experts)
        ]
        for layer in atlas.layers
    ]
    table = torch.tensor(values)
    return Heatmap(
        title=tr("Association of each expert with one {column}", column=column),
        values=table,
        rows=layer_axis(atlas.layers),
        columns=Axis(tr("expert"), tr("expert"), ("",) * atlas.n_experts),
        value_title=tr("largest npmi"),
        high=max(float(table.nan_to_num(0.0).max()), 0.01),
        nothing=tr("associated with none"),
    )


def entry_html(entry: ExpertEntry) -> str:
    """Labels, typical tokens and examples of an expert."""
    labels = tr(", ").join(map(_label_html, entry.labels))
    tokens = " ".join(f"<code>{html.escape(visible(text))}</code>" for text, _ in entry.tokens)
    facts = {
        tr("Tokens"): tr("{share:.0%} of all", share=entry.share),
        tr("Labels"): labels or tr("associated with none"),
        tr("Typical tokens"): tokens or tr("none"),
    }
    named = (tr("{what}: {of}", what=name, of=fact) for name, fact in facts.items())
    rows = "".join(f"<div>{each}</div>" for each in named)
    examples = "".join(map(_example_html, entry.examples))
    where = tr("Where its weight is largest:")
    head = f'<div class="q3-hint">{where}</div>' if examples else ""
    return f'<div style="line-height: 1.6">{rows}{head}{examples}</div>'


def _label_html(label: Association) -> str:
    facts = tr(
        "({column}, npmi {npmi:.2f}, {share:.0%} of its tokens)",
        column=html.escape(label.column),
        npmi=label.npmi,
        share=label.share,
    )
    return f"<b>{html.escape(label.label)}</b> {facts}"


def _example_html(example: Example) -> str:
    before, after = visible(example.before)[-MAX_TEXT:], visible(example.after)[:MAX_TEXT]
    token = f"<mark>{html.escape(visible(example.token))}</mark>"
    text = f"{html.escape(before)}{token}{html.escape(after)}"
    return f'<div><span class="q3-hint">{example.score:.2f}</span> <code>{text}</code></div>'


def neighbour_label(neighbour: Neighbour) -> str:
    """The text of the button that goes to a neighbour."""
    return tr(
        "layer {layer}, expert {expert} ({share:.0%})",
        layer=neighbour.layer,
        expert=neighbour.expert,
        share=neighbour.share,
    )
