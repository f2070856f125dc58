"""All heads: scores, thumbnails of their attention maps, and attention received by each token."""

from collections.abc import Sequence

import plotly.graph_objects as go
from jaxtyping import Float
from torch import Tensor

from qwen3lab.analysis.attention.profile import HeadProfile
from qwen3lab.analysis.map_windows import WALL_GAP, attention_wall as wall_values
from qwen3lab.arguments import checked
from qwen3lab.figures.labels import by_model, layers_of, tokens_of
from qwen3lab.figures.maps import Side, labelled_map
from qwen3lab.figures.theme import (
    EMPTY_CELL_COLOUR,
    OKABE_ITO,
    SEQUENTIAL,
    TEMPLATE,
    colour_bar,
    empty_figure,
    escape,
    token_axis,
    token_labels,
)
from qwen3lab.recording.recording import Recording

SCORES = {
    "first": "share on the first token",
    "itself": "share on the token itself",
    "previous": "share on the previous token",
    "duplicate": "share on earlier occurrences",
    "induction": "share on tokens after earlier occurrences",
    "special": "share on special tokens",
    "drawn": "share on the most attended token",
    "entropy": "entropy (nats)",
    "relative_entropy": "entropy (share of its maximum)",
    "distance": "mean distance (tokens)",
}
MAX_TOKENS = 1024
"""Maximum number of tokens in a sink profile."""


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
        raise ValueError(f"there is no score {score!r}: choose from {', '.join(SCORES)}")
    values = getattr(scores, score)
    kinds = [[f"{kind}, {100 * above:.0f} %" for kind, above in row] for row in scores.kinds()]
    top = 1.0 if score not in ("entropy", "distance") else max(float(values.max()), 1e-6)
    return labelled_map(
        values,
        Side("layer", [str(layer) for layer in scores.layers]),
        Side("head", [str(head) for head in range(values.shape[1])]),
        title=f"Attention of each head: {SCORES[score]}",
        subtitle="",
        value=SCORES[score],
        hover="layer %{y}, head %{x}<br>%{z:.3f}<br>likely kind: %{customdata}",
        high=top,
        about=kinds,
    )


@checked
def attention_wall(recording: Recording, *, layers: Sequence[int] | None = None) -> go.Figure:
    """Thumbnails of all heads: rows are layers, columns heads.

    Args:
        recording: with attention.
        layers: to show; all recorded layers if None.

    Raises:
        RecordingError: no such layer, or attention was not recorded.
    """
    shown = list(recording.attention.layers if layers is None else layers)
    if not shown:
        return empty_figure("There is no attention to show: it was not recorded.")
    wall = wall_values(recording, shown)
    side = (wall.shape[1] + WALL_GAP) // recording.config.n_heads
    centre = (side - WALL_GAP) / 2 - 0.5
    figure = go.Figure(
        go.Heatmap(
            z=[[None if v != v else v for v in row] for row in wall.tolist()],
            zmin=0,
            zmax=1,
            colorscale=SEQUENTIAL,
            colorbar=colour_bar("largest weight"),
            hoverinfo="skip",
        )
    )
    heads = range(recording.config.n_heads)
    figure.update_layout(
        template=TEMPLATE,
        title=f"Thumbnails of all heads · {escape(recording.model_name)}",
        title_subtitle_text="rows of a thumbnail are queries, columns are keys; grey: later keys",
        height=int(max(320, min(1400, 130 + 52 * len(shown)))),
        plot_bgcolor=EMPTY_CELL_COLOUR,
        margin_t=84,
    )
    figure.update_xaxes(
        title="head",
        showgrid=False,
        zeroline=False,
        tickvals=[centre + side * head for head in heads],
        ticktext=[str(head) for head in heads],
    )
    return figure.update_yaxes(
        title="layer",
        showgrid=False,
        zeroline=False,
        autorange="reversed",
        tickvals=[centre + side * row for row in range(len(shown))],
        ticktext=[str(layer) for layer in shown],
    )


@checked
def sink_profile(
    mass: Float[Tensor, "layer head key"],
    tokens: Sequence[str] | None = None,
    *,
    layers: Sequence[int] | None = None,
) -> go.Figure:
    """The attention that each token receives, mean over heads, one line per layer.

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
            f"the mass has {mass.shape[-1]} keys, but there are {len(tokens)} tokens: "
            "expected one key per token"
        )
    if not tokens:
        return empty_figure("There is no attention to show: the recording has no tokens.")
    numbers = layers_of(mass, layers, what="mass")
    shown = slice(0, MAX_TOKENS)
    labels = token_labels(tokens[shown])
    figure = go.Figure()
    for row, values in enumerate(mass.mean(dim=1)[:, shown]):
        layer = numbers[row]
        figure.add_trace(
            go.Scatter(
                x=labels,
                y=values.tolist(),
                mode="lines",
                name=f"layer {layer}",
                line={"color": OKABE_ITO[row % len(OKABE_ITO)], "width": 1.5},
                hovertemplate=f"layer {layer}<br>%{{x}}<br>%{{y:.3f}}<extra></extra>",
            )
        )
    note = f"; the first {MAX_TOKENS} tokens" if len(tokens) > MAX_TOKENS else ""
    figure.update_layout(
        template=TEMPLATE,
        height=380,
        title=by_model("Attention received by each token", mass),
        title_subtitle_text=f"mean over heads, and over the token itself and later queries{note}",
        margin_t=84,
    )
    figure.update_xaxes(token_axis("token"), tickangle=-90)
    return figure.update_yaxes(title="share of attention", range=[0, 1])
