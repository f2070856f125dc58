"""Attention maps."""

from collections.abc import Sequence

import plotly.graph_objects as go
import torch
from jaxtyping import Float
from torch import Tensor

from qwen3lab.analysis.pooling import max_pool
from qwen3lab.arguments import checked
from qwen3lab.figures.labels import by_model, layer_of, tokens_of
from qwen3lab.figures.scales import add_key, colouring, scale_for
from qwen3lab.figures.sizes import cells, thinned
from qwen3lab.figures.theme import (
    EMPTY_CELL_COLOUR,
    SEQUENTIAL,
    TEMPLATE,
    empty_figure,
    token_axis,
    token_labels,
)
from qwen3lab.recording.labels import labels_of
from qwen3lab.translation import tr

MAX_TOKENS = 512
"""Maximum tokens of a map without pooling; a larger map shows the largest weight of each block."""

SIDE = 460
"""Minimum width and height of the cells, in pixels, beside long labels."""


@checked
def attention_map(
    pattern: Float[Tensor, "query key"],
    tokens: Sequence[str] | None = None,
    *,
    layer: int | None = None,
    head: int | None = None,
) -> go.Figure:
    """Attention map of one head: each row shows the attention of one query token.

    Args:
        pattern: weights of one head, rows sum to 1; `rec.attention[layer, head]` has labels for
            tokens, layer, head and model.
        tokens: text of each token, such as `rec.tokens`; needed for a plain tensor.
        layer: shown in the title.
        head: shown in the title.

    Raises:
        ValueError: the pattern does not have one row and one column per token, or its tokens are
            not known.

    Example:
        >>> import qwen3lab
        >>> rec = qwen3lab.load("tiny-moe").record("3+4=?")
        >>> figure = qwen3lab.figures.attention_map(rec.attention[3, 0])
        >>> figure.layout.title.text
        'Attention of layer 3, head 0 · tiny-moe'
    """
    tokens, labels = tokens_of(pattern, tokens), labels_of(pattern)
    head = labels.head if head is None and labels is not None else head
    n = len(tokens)
    if tuple(pattern.shape) != (n, n):
        raise ValueError(
            tr(
                "the pattern has shape {shape}, but there are {n} tokens: expected one "
                "row and one column per token",
                shape=tuple(pattern.shape),
                n=n,
            )
        )
    if n == 0:
        return empty_figure(tr("There is no attention to show: the recording has no tokens."))
    future = torch.ones(n, n, dtype=torch.bool).triu(1)
    pooled = max_pool(pattern.float().masked_fill(future, torch.nan), max_side=MAX_TOKENS)
    names = token_labels(tokens)[:: pooled.row_step]
    scale = scale_for(pooled.values)
    title = by_model(_title(layer_of(pattern, layer), head), pattern)
    figure = go.Figure(
        go.Heatmap(
            z=cells(pooled.values.detach().numpy()),
            x=names,
            y=names,
            hoverongaps=False,
            hovertemplate="query %{y}<br>key %{x}<br>weight %{z:.4~g}<extra></extra>",
            **colouring(scale, SEQUENTIAL, tr("attention weight")),
        )
    )
    add_key(figure, scale, SEQUENTIAL, tr("attention weight"))
    figure.update_layout(
        template=TEMPLATE, width=720, height=660, plot_bgcolor=EMPTY_CELL_COLOUR, title=title
    )
    shown = thinned(len(names), SIDE)
    figure.update_xaxes(token_axis(tr("key token")) | shown, tickangle=-90)
    figure.update_yaxes(token_axis(tr("query token")) | shown, autorange="reversed")
    if not pooled.is_exact:
        figure.update_layout(title_subtitle_text=_pooling_note(pooled.row_step), margin_t=84)
    return figure


def _title(layer: int | None, head: int | None) -> str:
    if layer is None and head is None:
        return tr("Attention of one head")
    if head is None:
        return tr("Attention of layer {layer}", layer=layer)
    if layer is None:
        return tr("Attention of head {head}", head=head)
    return tr("Attention of layer {layer}, head {head}", layer=layer, head=head)


def _pooling_note(step: int) -> str:
    return tr("each cell shows the largest weight of {step} × {step} tokens", step=step)
