"""When a lens first reads the answer: at which token of the thinking, and in which layer."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool
from torch import Tensor

from qwen3lab.display import Displayed, Summary
from qwen3lab.metrics.metric import quoted
from qwen3lab.recording.equality import EqualByValue
from qwen3lab.translation import tr

if TYPE_CHECKING:
    from qwen3lab.lenses.lens import Lens


@dataclass(frozen=True, repr=False, eq=False)
class FirstLead(EqualByValue, Displayed):
    """Where the answer's token first leads: is more probable than all others.

    Attributes:
        kind: of the lens.
        model_name: of the model.
        answer: text of the answer's token, in quotation marks.
        span: the searched part of the recording, such as "thinking".
        searched: first and past-the-end position of the part.
        position: first token at which the answer leads in any row; None if it never does.
        place: the first row where it leads there, such as "layer 2"; empty if it never does.
        layer: of that row.
        token: text of the token at the position; the lens predicts what follows it.
        probability: of the answer there.
        is_written_there: True if the answer's token stands at the position. Early layers often
            predict the token that they read.
        is_written_next: True if the text goes on with the answer's token there. Then the thinking
            is about to write it, perhaps as a number of another step.
        by_place: for each row, the first position where the answer leads; None if it never does.
    """

    kind: str
    model_name: str
    answer: str
    span: str
    searched: tuple[int, int]
    position: int | None
    place: str
    layer: int | None
    token: str
    probability: float
    is_written_there: bool
    is_written_next: bool
    by_place: dict[str, int | None]

    def _summary(self) -> Summary:
        where = tr(
            "token {position} ({token}), {place}",
            position=self.position,
            token=self.token,
            place=self.place,
        )
        facts = {
            tr("answer"): self.answer,
            tr("searched"): tr(
                "{span}, tokens {searched} to {last}",
                span=self.span,
                searched=self.searched[0],
                last=self.searched[1] - 1,
            ),
            tr("first leads"): tr("never") if self.position is None else where,
        }
        if self.position is not None:
            facts[tr("probability")] = f"{self.probability:.3f}"
            facts[tr("written")] = self._written()
        return Summary(tr("First lead of the answer, {kind}", kind=tr(self.kind)), facts)

    def _written(self) -> str:
        if self.is_written_there:
            return tr("there")
        return tr("next") if self.is_written_next else tr("neither there nor next")


def find_first_lead(lens: "Lens", token: int, span: str | None, *, unwritten: bool) -> FirstLead:
    """The first token of a span, and there the first row, at which a token leads.

    Args:
        lens: of the recording.
        token: of the answer.
        span: of the recording; None for all positions of the lens.
        unwritten: leave out positions where that token stands, or where the text goes on with it.

    Raises:
        ValueError: the recording has no such span, or the lens has none of its positions.
    """
    searched = _within(lens, span)
    narrow = replace(lens, positions=searched)
    leads = narrow.rank(token) == 0
    written = _written(lens, searched, token)
    if unwritten:
        leads = leads & ~written.any(dim=0)
    return _found(narrow, leads, written, token, span or tr("all positions"))


def _within(lens: "Lens", span: str | None) -> tuple[int, ...]:
    if span is None:
        return lens.positions
    spans = lens.recording.spans
    first, end = spans.get(span, (0, 0))
    found = tuple(position for position in lens.positions if first <= position < end)
    if not found:
        known = ", ".join(name for name, (start, stop) in spans.items() if stop > start)
        raise ValueError(
            tr("the lens has no token of a span {span!r}: ", span=span)
            + (
                tr("choose from {known}", known=known)
                if known
                else tr("record a chat, or give span=None")
            )
        )
    return found


def _written(lens: "Lens", positions: Sequence[int], token: int) -> Bool[Tensor, "2 token"]:
    """Where the token stands at a position, and where it stands at the next one."""
    ids = lens.recording.token_ids
    is_there = [int(ids[p]) == token for p in positions]
    is_next = [ids[p + 1 : p + 2].tolist() == [token] for p in positions]
    return torch.tensor([is_there, is_next])


def _found(
    lens: "Lens",
    leads: Bool[Tensor, "layer token"],
    written: Bool[Tensor, "2 token"],
    token: int,
    span: str,
) -> FirstLead:
    """The result from a lens of only the searched positions."""
    columns = [row.nonzero().flatten().tolist() for row in leads]
    firsts = [lens.positions[each[0]] if each else None for each in columns]
    position = min((first for first in firsts if first is not None), default=None)
    row = firsts.index(position) if position is not None else 0
    column = lens.positions.index(position) if position is not None else 0
    led = position is not None
    here = replace(lens, positions=(position,), places=(lens.places[row],)) if led else None
    return FirstLead(
        kind=lens.kind,
        model_name=lens.recording.model_name,
        answer=quoted(lens.lab, token),
        span=span,
        searched=(lens.positions[0], lens.positions[-1] + 1),
        position=position,
        place=lens.names[row] if led else "",
        layer=lens.places[row].layer if led else None,
        token=lens.tokens[column] if led else "",
        probability=float(here.probability(token)) if here is not None else 0.0,
        is_written_there=led and bool(written[0, column]),
        is_written_next=led and bool(written[1, column]),
        by_place=dict(zip(lens.names, firsts, strict=True)),
    )
