"""One thinking text: the answer at each point, and the importance of its parts."""

from collections.abc import Sequence

import plotly.graph_objects as go
import torch
from jaxtyping import Float, Int
from torch import Tensor

from qwen3lab.analysis.thinking_text import KINDS, Looks, sentence_kind
from qwen3lab.arguments import checked
from qwen3lab.figures.maps import Side, labelled_map
from qwen3lab.figures.sizes import MANY_ROWS, label_step, plot_height
from qwen3lab.figures.theme import (
    MUTED,
    OKABE_ITO,
    STOP_COLOUR,
    TEMPLATE,
    empty_figure,
    escape,
    short_text,
)
from qwen3lab.thinking.convergence import Convergence
from qwen3lab.thinking.importance import Importance
from qwen3lab.translation import later, tr, tr_count

MAX_NAMED_ANSWERS = 6
OTHERS = later("other answers")
WINE = "#882255"
"""A sixth colour for answers, of Tol's muted palette; it is safe for colour-blind readers, too."""

MAX_LOOKS_ROWS = 800
"""Maximum number of rows in a map of all heads: about a pixel each."""

RIGHT_COLOUR = "#009e73"
KIND_COLOURS = dict(zip(KINDS, (*OKABE_ITO[:5], MUTED), strict=True))


@checked
def convergence(found: Convergence) -> go.Figure:
    """The share of each answer at each point of the thinking, most frequent answers first.

    The right answer is green if it is known; a line marks the point after which the most frequent
    answer does not change.

    Args:
        found: from `thinking.convergence`.
    """
    shares = found.shares()
    ranked = _ranked(found)
    named = ranked[:MAX_NAMED_ANSWERS]
    right = _right_answers(found)
    colours = iter([c for c in OKABE_ITO if c not in (RIGHT_COLOUR, STOP_COLOUR)] + [WINE])
    figure = go.Figure()
    for answer in named:
        figure.add_trace(
            _layer(
                found,
                [share.get(answer, 0.0) for share in shares],
                short_text(answer, width=30) + (tr(" (right)") if answer in right else ""),
                RIGHT_COLOUR if answer in right else next(colours),
            )
        )
    if len(ranked) > len(named):
        rest = [1 - sum(share.get(answer, 0.0) for answer in named) for share in shares]
        figure.add_trace(_layer(found, rest, tr(OTHERS), MUTED))
    figure.add_vline(
        x=found.points.index(found.settled) - 0.5,
        line={"color": STOP_COLOUR, "width": 2, "dash": "dash"},
        annotation={
            "text": tr("answer settled; thinking tokens after that: {after}", after=found.after),
            "yref": "paper",
            "y": 1.02,
            "yanchor": "bottom",
            "font": {"size": 12, "color": STOP_COLOUR},
        },
    )
    drawn = len(found.answers[0])
    figure.update_layout(
        template=TEMPLATE,
        height=380,
        title=tr("Answers if the thinking is stopped early"),
        title_subtitle_text=tr_count(
            "{n} answer at each point", "{n} answers at each point", drawn
        ),
        margin_t=104,
        barmode="stack",
        bargap=0.08,
    )
    figure.update_xaxes(title=tr("thinking tokens"), type="category", showgrid=False)
    return figure.update_yaxes(title=tr("share of answers"), range=[0, 1])


@checked
def importance(found: Importance, *, measure: str = "distance") -> go.Figure:
    """Importance of each part of the thinking for the answer, in the order of the text.

    Args:
        found: from `thinking.importance`.
        measure: "distance", total variation from 0 to 1, or "divergence", in nats.

    Raises:
        ValueError: another measure.
    """
    titles = {
        "distance": tr("change of the answers (total variation)"),
        "divergence": tr("change of the answers (nats)"),
    }
    if measure not in titles:
        raise ValueError(
            tr(
                "measure is {measure!r}: choose from {titles}",
                measure=measure,
                titles=", ".join(titles),
            )
        )
    values = getattr(found, measure)
    kinds = [sentence_kind(part.text) for part in found.parts]
    names = [f"{n} {short_text(part.text.strip(), width=44)}" for n, part in enumerate(found.parts)]
    figure = go.Figure()
    for kind in KINDS:
        chosen = [place for place, each in enumerate(kinds) if each == kind]
        if chosen:
            figure.add_trace(
                go.Bar(
                    x=[_or_none(values[place]) for place in chosen],
                    y=[names[place] for place in chosen],
                    orientation="h",
                    name=tr(kind),
                    marker_color=KIND_COLOURS[kind],
                    customdata=[_answers(found, place) for place in chosen],
                    hovertemplate=tr(
                        "%{y}<br>%{x:.3f}<br>with it: %{customdata[0]}<br>"
                        "without: %{customdata[1]} (%{customdata[2]} continuations)<extra></extra>"
                    ),
                )
            )
    way = tr("left out") if found.how == "leave out" else tr("resampled as a different text")
    figure.update_layout(
        template=TEMPLATE,
        height=max(260, min(1000, 170 + 22 * len(names))),
        title=tr("Importance of each part of the thinking"),
        title_subtitle_text=tr(
            "each part is {way}; {samples} continuations", way=way, samples=found.samples
        ),
        margin_t=84,
        showlegend=len(set(kinds)) > 1,
        legend_title={"text": tr("kind of part"), "font": {"size": 13}},
    )
    top = 1 if measure == "distance" else None
    figure.update_xaxes(title=titles[measure], range=[0, top])
    return figure.update_yaxes(
        title=tr("part of the thinking"),
        categoryorder="array",
        categoryarray=names,
        autorange="reversed",
        showgrid=False,
    )


@checked
def answer_looks(found: Looks, *, layers: Sequence[int] | None = None) -> go.Figure:
    """Attention of each head during the answer, by part of the text.

    Args:
        found: from `analysis.thinking_text.answer_looks`.
        layers: the layer of each row; those of `found` if None.

    Raises:
        ValueError: the layers are unknown, or the numbers of layers and rows differ.
    """
    if not found.mass.numel():
        return empty_figure(tr("There is nothing to show: attention was not recorded."))
    n_layers, n_heads, _ = found.mass.shape
    rows = found.layers if layers is None else layers
    if len(rows) != n_layers:
        raise ValueError(
            tr(
                "there are {n_layers} rows, but {n_rows} layers: pass layers= with one per row",
                n_layers=n_layers,
                n_rows=len(rows),
            )
        )
    step = -(-n_layers * n_heads // MAX_LOOKS_ROWS)
    shares, best = _largest(found.mass.detach(), step)
    names = [
        _heads(layer, head, step, n_heads) for layer in rows for head in range(0, n_heads, step)
    ]
    columns = _columns(found.names)
    pooled = tr("; each row: the largest share of {step} heads", step=step) if step > 1 else ""
    figure = labelled_map(
        shares,
        Side(tr("layer and head"), names),
        Side(tr("part of the text"), columns),
        title=tr("Attention from the answer"),
        subtitle=tr(
            "mean over the positions that predict the answer's tokens{pooled}", pooled=pooled
        ),
        value=tr("share of attention"),
        hover=tr("%{y}<br>%{x}<br>%{z:.3f} of its attention")
        + (tr("<br>largest: head %{customdata}") if step > 1 else ""),
        high=1.0,
        row_height=16,
        about=best.tolist() if step > 1 else None,
    )
    if len(names) > MANY_ROWS:
        per_layer = len(names) // n_layers
        apart = label_step(n_layers, plot_height(len(names), 16))
        figure.update_yaxes(
            title=tr("layer; a row per head"),
            tickmode="array",
            tickvals=names[:: per_layer * apart],
            ticktext=[str(layer) for layer in rows[::apart]],
        )
    return figure.update_xaxes(tickangle=-40)


def _columns(names: Sequence[str]) -> list[str]:
    """The question, the parts of the thinking with the numbers of other figures, and the rest."""
    parts = [f"{n} {short_text(name.strip(), width=28)}" for n, name in enumerate(names[1:-1])]
    return [*map(tr, names[:1]), *parts, *map(tr, names[1:][-1:])]


def _largest(
    mass: Float[Tensor, "layer head part"], step: int
) -> tuple[Float[Tensor, "row part"], Int[Tensor, "row part"]]:
    """The largest share of each `step` heads of a layer, and the number of that head."""
    blocks = [part.max(dim=1) for part in mass.split(step, dim=1)]
    shares = torch.stack([block.values for block in blocks], dim=1)
    best = torch.stack([block.indices + step * n for n, block in enumerate(blocks)], dim=1)
    return shares.flatten(0, 1), best.flatten(0, 1)


def _heads(layer: int, head: int, step: int, n_heads: int) -> str:
    last = min(head + step, n_heads) - 1
    return (
        tr("layer {layer}, head {head}", layer=layer, head=head)
        if last == head
        else tr("layer {layer}, heads {head} to {last}", layer=layer, head=head, last=last)
    )


def _layer(found: Convergence, y: Sequence[float], name: str, colour: str) -> go.Bar:
    thoughts = [
        tr("before the thinking") if piece is None else short_text(piece.text.strip(), width=60)
        for piece in found.thoughts
    ]
    return go.Bar(
        x=[str(point) for point in found.points],
        y=list(y),
        name=name,
        marker_color=colour,
        # As customdata: in the template, plotly would substitute a `%{y}` in an answer's text.
        customdata=[[thought, name] for thought in thoughts],
        hovertemplate=tr(
            "after %{x} tokens, “%{customdata[0]}”<br>answer %{customdata[1]}: "
            "%{y:.2f}<extra></extra>"
        ),
    )


def _ranked(found: Convergence) -> list[str]:
    """All answers: the most frequent one at the last point first, then by frequency."""
    counts: dict[str, int] = {}
    for drawn in found.answers:
        for answer in drawn:
            counts[answer] = counts.get(answer, 0) + 1
    last = found.favourites[-1]
    return sorted(counts, key=lambda answer: (answer != last, -counts[answer], answer))


def _right_answers(found: Convergence) -> set[str]:
    if found.right is None:
        return set()
    pairs = zip(found.answers, found.right, strict=True)
    return {
        a for drawn, right in pairs for a, is_right in zip(drawn, right, strict=True) if is_right
    }


def _answers(found: Importance, place: int) -> list[object]:
    sides = [found.kept[place], found.without[place]]
    favourites = [escape(next(iter(side), tr("none"))) for side in sides]
    return [*favourites, found.differed[place]]


def _or_none(value: float) -> float | None:
    return None if value != value else value
