"""Data of the compare view's panes, computed from two recorded replies. Draws nothing."""

import html
from bisect import bisect_right
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from qwen3lab.analysis.alignment import Alignment
from qwen3lab.analysis.differences import (
    DIVERGENCE,
    SURPRISAL,
    Difference,
    attention_difference,
    prediction_difference,
    routing_difference,
)
from qwen3lab.analysis.pooling import MAX_SIDE
from qwen3lab.display import one_line
from qwen3lab.errors import RecordingError
from qwen3lab.figures.difference import largest
from qwen3lab.figures.maps import DIVERGING
from qwen3lab.figures.theme import PART_COLOURS, visible
from qwen3lab.generation.reply import Chat
from qwen3lab.translation import later, tr, tr_count
from qwen3lab.widgets.components.heatmap import Axis, Heatmap, Span
from qwen3lab.widgets.explorers.answer_html import answer_html
from qwen3lab.widgets.explorers.chat_compute import token_parts
from qwen3lab.widgets.explorers.compare_state import ATTENTION, ROUTING
from qwen3lab.widgets.explorers.comparison import differences, judge
from qwen3lab.widgets.explorers.replies import answer_box, verdict_html

MAX_NAME = 40
"""Characters of a run's name in a title."""

SHORT = {SURPRISAL: later("surprisal"), DIVERGENCE: "KL"}


def one_vocabulary(lab: Any, other: Any) -> bool:
    """True if a token id means the same to both models."""
    if lab.config.d_vocab != other.config.d_vocab:
        return False
    one, two = lab.tokenizer, other.tokenizer
    return one is two or one.get_vocab() == two.get_vocab()


def page_of(aligned: Alignment, token: int) -> tuple[int, int]:
    """First and end of the `MAX_SIDE` aligned tokens that a token of the run is among."""
    place = max(0, bisect_right(aligned.pairs, token, key=lambda pair: pair[0]) - 1)
    first = place // MAX_SIDE * MAX_SIDE
    return first, min(len(aligned), first + MAX_SIDE)


def difference(
    aligned: Alignment, what: str, layer: int, head: int, routing_layer: int
) -> Difference:
    """The difference of one of `COMPARED`.

    Raises:
        ValueError: the models cannot be compared so.
    """
    if what == ATTENTION:
        return attention_difference(aligned, layer, head)
    if what == ROUTING:
        return routing_difference(aligned, routing_layer)
    return prediction_difference(aligned)


def difference_heatmap(found: Difference, first: int = 0) -> Heatmap:
    """A difference on a scale that is symmetric around 0.

    Args:
        found: of a page of aligned tokens.
        first: number of the first of them.
    """
    one, other = (one_line(name, width=MAX_NAME) for name in found.aligned.names)
    tokens = _pair_axis(found.aligned, first)
    high, what = largest(found), tr(found.what)
    rows = tokens if not found.rows else _row_axis(found)
    return Heatmap(
        title=tr(
            "{what}: {one} minus {other}",
            what=f"{what[:1].upper()}{what[1:]}",
            one=one,
            other=other,
        ),
        values=found.values,
        rows=rows,
        columns=tokens,
        value_title=tr(found.unit),
        low=-high,
        high=high,
        nothing=found.nothing,
        square=not found.rows,
        palette=DIVERGING,
        adapts=True,
    )


def aligned_note(aligned: Alignment, page: tuple[int, int]) -> str:
    """How many tokens of both runs correspond, and which of them are shown."""
    replaced = sum(one != other for one, other in aligned.tokens)
    text = tr(
        "{n_aligned:,} tokens aligned, of {n_one:,} and {n_other:,}",
        n_aligned=len(aligned),
        n_one=len(aligned.one),
        n_other=len(aligned.other),
    )
    text += tr("; {replaced:,} of them differ", replaced=replaced) if replaced else ""
    if page[1] - page[0] < len(aligned):
        text += tr(
            "; shown: {first:,} to {last:,}, around the picked token",
            first=page[0],
            last=page[1] - 1,
        )
    return text


def pair_note(aligned: Alignment, token: int) -> str:
    """Which token of the second run a token of the run corresponds to, and how they differ."""
    place = aligned.place_of(token)
    if token < 0:
        return tr("Click a cell to pick its token in every view.")
    shown = tr("Token {token} “{text}”", token=token, text=visible(aligned.one.tokens[token]))
    if place < 0:
        return tr("{shown} corresponds to no token of the other run.", shown=shown)
    there = aligned.pairs[place][1]
    text = tr(
        "{shown} corresponds to token {there} “{text}”",
        shown=shown,
        there=there,
        text=visible(aligned.other.tokens[there]),
    )
    if not aligned.same_vocabulary or min(token, there) == 0:
        return tr("{text}.", text=text)
    try:
        surprisal, divergence = prediction_difference(aligned.part(place, place + 1)).values[:, 0]
    except RecordingError:  # A reply that was recorded without what its logits are made of.
        return tr("{text}.", text=text)
    return tr(
        "{text}: surprisal {surprisal:+.2g} nats, KL of the prediction {divergence:.2g} nats.",
        text=text,
        surprisal=surprisal,
        divergence=divergence,
    )


def texts_html(replies: Sequence[tuple[str, Chat]]) -> str:
    """Two replies with their names, marked where their words differ; model output is escaped."""
    (_, one), (_, other) = replies
    verdict = verdict_html(judge(other.answer, one.answer))
    marked = differences(one.thinking, other.thinking) if one.thinking and other.thinking else None
    columns = []
    for index, (name, chat) in enumerate(replies):
        reference = (other, one)[index]
        answer = answer_box(chat.answer.strip(), reference.answer.strip())
        thoughts = _thinking(chat, marked[index] if marked else ())
        said = f"<br>{verdict}" if index else ""
        length = tr_count("answer · {n:,} token", "answer · {n:,} tokens", chat.answer_tokens)
        columns.append(
            f'<div><div class="q3-run-name">{html.escape(one_line(name, width=160))}</div>'
            f'<div class="q3-hint">{length}{said}</div>{answer}'
            f"{thoughts}</div>"
        )
    return f'<div class="q3-answers q3-diff">{"".join(columns)}</div>'


def _thinking(chat: Chat, marked: Sequence[tuple[int, int]]) -> str:
    if not chat.thinking:
        return f'<div class="q3-hint">{tr("no thinking")}</div>'
    text = answer_html(chat.thinking, marked)
    length = tr_count("thinking · {n:,} token", "thinking · {n:,} tokens", chat.thinking_tokens)
    return (
        f'<div class="q3-hint">{length}</div>'
        f'<div class="q3-answer-text q3-thought-text" tabindex="0">{text}</div>'
    )


def _pair_axis(aligned: Alignment, first: int) -> Axis:
    """The aligned tokens: the text of both where they differ, and the parts of the first run."""
    labels = tuple(one if one == other else f"{one}≠{other}" for one, other in aligned.tokens)
    parts = token_parts(aligned.one)
    spans, place = list[Span](), 0
    for name, group in groupby(parts[i] for i, _ in aligned.pairs):
        end = place + len(list(group))
        if name:
            spans.append(Span(name, place, end, PART_COLOURS[name]))
        place = end
    return Axis(tr("aligned token"), tr("aligned token"), labels, tuple(spans), first=first)


def _row_axis(found: Difference) -> Axis:
    if found.row_unit == "expert":
        return Axis(tr("expert"), tr("expert"), ("",) * len(found.rows))
    return Axis("", "", tuple(tr(SHORT.get(name, name)) for name in found.rows))
