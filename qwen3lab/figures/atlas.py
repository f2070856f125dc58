"""What experts do: a map of their labels, and specialisation by topic and by type."""

from itertools import product

import plotly.graph_objects as go
import torch

from qwen3lab.analysis.atlas import Atlas, ExpertEntry
from qwen3lab.analysis.topic_and_type import TopicAndType
from qwen3lab.arguments import checked
from qwen3lab.figures.maps import Side, labelled_map
from qwen3lab.figures.theme import MUTED, OKABE_ITO, TEMPLATE, empty_figure, escape, short_text
from qwen3lab.translation import tr

MAX_NAMED_EXPERTS = 20
"""Experts of a layer up to which a cell has room for its label."""
LABEL_WIDTH = 10
"""Characters of a word in a cell."""


@checked
def atlas_map(atlas: Atlas, column: str) -> go.Figure:
    """The label that each expert is most associated with, layer by layer.

    Args:
        atlas: from `corpus.atlas`.
        column: of the labels.

    Raises:
        ValueError: the atlas has no such column.
    """
    if column not in atlas.columns:
        known = ", ".join(atlas.columns) or "none"
        raise ValueError(
            tr(
                "the atlas has no labels {column!r}: its columns are {known}",
                column=column,
                known=known,
            )
        )
    if not atlas.layers:
        return empty_figure(tr("There is no expert to show: a dense model has no experts."))
    rows = [[atlas[layer, e] for e in range(atlas.n_experts)] for layer in atlas.layers]
    best = [[entry.best(column) for entry in row] for row in rows]
    values = torch.tensor([[each.npmi if each else torch.nan for each in row] for row in best])
    figure = labelled_map(
        values,
        Side(tr("layer"), [str(layer) for layer in atlas.layers]),
        Side(tr("expert"), [str(expert) for expert in range(atlas.n_experts)]),
        title=tr(
            "What experts do, by {column} · {model}",
            column=escape(column),
            model=escape(atlas.model),
        ),
        subtitle=tr(
            "the {column} of the largest npmi; grey: associated with none", column=escape(column)
        ),
        value=tr("npmi (0: independent, 1: only together)"),
        hover=tr("layer %{y}, expert %{x}<br>%{customdata}<br>npmi %{z:.2f}"),
        high=max(float(values.nan_to_num(0.0).max()), 0.01),
        about=[[_hover(entry, column) for entry in row] for row in rows],
        row_height=40,
        adapts=False,
    )
    if atlas.n_experts <= MAX_NAMED_EXPERTS:
        names = [[each.label if each else "" for each in row] for row in best]
        texts = [[_in_cell(name) if name else "" for name in row] for row in names]
        named = {"texttemplate": "%{text}", "textfont": {"size": 10}}
        figure.update_traces(text=texts, selector={"type": "heatmap"}, **named)
    return figure


def _in_cell(name: str) -> str:
    """A label with a line for each word."""
    return "<br>".join(short_text(word, width=LABEL_WIDTH) for word in name.split(" ")[:2])


def _hover(entry: ExpertEntry, column: str) -> str:
    own = [each for each in entry.labels if each.column == column]
    labels = [
        tr("{label}: {share:.0%} of its tokens", label=escape(each.label), share=each.share)
        for each in own
    ]
    tokens = " ".join(short_text(text, width=12) for text, _ in entry.tokens)
    lines = [
        *labels,
        tr("typical: {tokens}", tokens=tokens),
        tr("{share:.0%} of all tokens", share=entry.share),
    ]
    return "<br>".join(lines)


@checked
def topic_and_type(found: TopicAndType, *, chance: TopicAndType | None = None) -> go.Figure:
    """What experts tell about the topic of the text and the type of the token, layer by layer.

    Args:
        found: from `corpus.topic_and_type`.
        chance: the same of labels without a meaning, such as shuffled ones; drawn dotted.
    """
    if not found.layers:
        return empty_figure(tr("There is nothing to show: a dense model has no experts."))
    topic, kind = map(escape, found.names)
    lines = {
        "type_within_topic": (
            tr("{kind}, within one {topic}", kind=kind, topic=topic),
            OKABE_ITO[0],
            "circle",
        ),
        "topic_within_type": (
            tr("{topic}, within one {kind}", topic=topic, kind=kind),
            OKABE_ITO[5],
            "diamond",
        ),
        "topic": (tr("{topic} alone", topic=topic), OKABE_ITO[1], "square"),
    }
    figure = go.Figure()
    for (measure, (name, colour, symbol)), is_chance in product(lines.items(), (False, True)):
        if is_chance and (chance is None or measure != "topic_within_type"):
            continue
        shown = chance if is_chance and chance is not None else found
        name, colour = (tr("by chance (shuffled labels)"), MUTED) if is_chance else (name, colour)
        figure.add_scatter(
            x=[str(layer) for layer in shown.layers],
            y=getattr(shown, measure).tolist(),
            name=name,
            mode="lines+markers",
            line={"color": colour, "width": 2, "dash": "dot" if is_chance else "solid"},
            marker={"symbol": "x" if is_chance else symbol, "size": 8},
            hovertemplate=tr("layer %{{x}}<br>{name}: %{{y:.3f}} nats<extra></extra>", name=name),
        )
    figure.update_layout(
        template=TEMPLATE,
        height=400,
        title=tr("What the expert tells about {kind} and {topic}", kind=kind, topic=topic),
        title_subtitle_text=tr("mutual information, alone and with the other label known"),
        margin_t=84,
        legend={"orientation": "h", "y": -0.2, "yanchor": "top"},
    )
    figure.update_xaxes(title=tr("layer"), type="category")
    return figure.update_yaxes(title=tr("mutual information (nats)"), rangemode="tozero")
