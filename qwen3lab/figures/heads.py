"""All heads: their scores, and the attention received by each token."""

from collections.abc import Sequence

import plotly.graph_objects as go
from jaxtyping import Float
from torch import Tensor

from qwen3lab.analysis.attention.profile import HeadProfile
from qwen3lab.arguments import checked
from qwen3lab.figures.labels import by_model, layers_of, tokens_of
from qwen3lab.figures.maps import Side, labelled_map
from qwen3lab.figures.sizes import PLOT_WIDTH, thinned
from qwen3lab.figures.theme import (
    OKABE_ITO,
    TEMPLATE,
    empty_figure,
    token_axis,
    token_labels,
)
from qwen3lab.translation import later, tr

SCORES = {
    "first": later("share on the first token"),
    "itself": later("share on the token itself"),
    "previous": later("share on the previous token"),
    "duplicate": later("share on earlier occurrences"),
    "induction": later("share on tokens after earlier occurrences"),
    "special": later("share on special tokens"),
    "drawn": later("share on the most attended token"),
    "entropy": later("entropy (nats)"),
    "relative_entropy": later("entropy (share of its maximum)"),
    "distance": later("mean distance (tokens)"),
}
MAX_TOKENS = 1024
"""Maximum number of tokens in a sink profile."""

MAX_LINES = 12
"""Maximum number of layers in a sink profile with a line each."""

RECEIVED = later("Attention received by each token")


@checked
def head_map(scores: HeadProfile, score: str) -> go.Figure:
    """One score of every head, by layer and head, with the likely kind as hover text.

    Args:
        scores: from `analysis.attention.head_profile`.
        score: one of its fields, such as "induction".

    Raises:
        ValueError: no such score.
    """
    if score not in SCORES:
        raise ValueError(
            tr(
                "there is no score {score!r}: choose from {scores}",
                score=score,
                scores=", ".join(SCORES),
            )
        )
    values = getattr(scores, score)
    kinds = [[f"{tr(kind)}, {100 * above:.0f} %" for kind, above in row] for row in scores.kinds()]
    return labelled_map(
        values,
        Side(tr("layer"), [str(layer) for layer in scores.layers]),
        Side(tr("head"), [str(head) for head in range(values.shape[1])]),
        title=tr("Attention of each head: {score}", score=tr(SCORES[score])),
        subtitle="",
        value=tr(SCORES[score]),
        hover=tr("layer %{y}, head %{x}<br>%{z:.3f}<br>likely kind: %{customdata}"),
        high=top_of(scores, score),
        about=kinds,
        adapts=False,
    )


def top_of(scores: HeadProfile, score: str) -> float:
    """Value at the high end of a score's colours: 1 for shares."""
    values = getattr(scores, score)
    return max(float(values.max()), 1e-6) if score in ("entropy", "distance") else 1.0


@checked
def sink_profile(
    mass: Float[Tensor, "layer head key"],
    tokens: Sequence[str] | None = None,
    *,
    layers: Sequence[int] | None = None,
) -> go.Figure:
    """The attention that each token receives, mean over heads, one line per layer.

    More than `MAX_LINES` layers are a map: layers downwards, tokens to the right.

    Args:
        mass: from `analysis.attention.key_mass`, which labels tokens and layers.
        tokens: text of each token, such as `rec.tokens`; needed for a plain tensor.
        layers: the layer of each row; needed for a plain tensor.

    Raises:
        ValueError: the numbers of keys and tokens differ, or tokens or layers are unknown.
    """
    tokens = tokens_of(mass, tokens)
    if mass.shape[-1] != len(tokens):
        raise ValueError(
            tr(
                "the mass has {n_keys} keys, but there are {n_tokens} tokens: expected "
                "one key per token",
                n_keys=mass.shape[-1],
                n_tokens=len(tokens),
            )
        )
    if not tokens:
        return empty_figure(tr("There is no attention to show: the recording has no tokens."))
    numbers = layers_of(mass, layers, what=tr("mass"))
    shown = slice(0, MAX_TOKENS)
    labels = token_labels(tokens[shown])
    received = mass.mean(dim=1)[:, shown].detach()
    note = (
        tr("; the first {max_tokens} tokens", max_tokens=MAX_TOKENS)
        if len(tokens) > MAX_TOKENS
        else ""
    )
    subtitle = tr("mean over heads, and over the token itself and later queries{note}", note=note)
    title = by_model(tr(RECEIVED), mass)
    if len(numbers) > MAX_LINES:
        return labelled_map(
            received,
            Side(tr("layer"), [str(number) for number in numbers]),
            Side(tr("token"), labels),
            title=title,
            subtitle=subtitle,
            value=tr("share of attention"),
            hover=tr("layer %{y}<br>%{x}<br>%{z:.3f}"),
            high=1.0,
        ).update_xaxes(tickangle=-90, tickfont_size=11)
    figure = go.Figure(
        [
            _line(layer, labels, values.tolist(), OKABE_ITO[row % len(OKABE_ITO)])
            for row, (layer, values) in enumerate(zip(numbers, received, strict=True))
        ]
    )
    figure.update_layout(
        template=TEMPLATE, height=380, title=title, title_subtitle_text=subtitle, margin_t=84
    )
    figure.update_xaxes(token_axis(tr("token")) | thinned(len(labels), PLOT_WIDTH), tickangle=-90)
    return figure.update_yaxes(title=tr("share of attention"), range=[0, 1])


def _line(layer: int, labels: Sequence[str], values: Sequence[float], colour: str) -> go.Scatter:
    return go.Scatter(
        x=labels,
        y=values,
        mode="lines",
        name=tr("layer {layer}", layer=layer),
        line={"color": colour, "width": 1.5},
        hovertemplate=tr("layer {layer}", layer=layer) + "<br>%{x}<br>%{y:.3f}<extra></extra>",
    )
