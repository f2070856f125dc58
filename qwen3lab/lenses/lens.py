"""`Lens`: what the unembedding reads at each layer of a recording, computed where it is looked at.

The logits of every layer and token of a real vocabulary would be gigabytes. A lens keeps the
recording, and computes logits for a few positions at a time.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from tqdm.auto import tqdm

from qwen3lab.arguments import Count, checked
from qwen3lab.display import Displayed, Summary
from qwen3lab.lab import Lab
from qwen3lab.lenses.distributions import entropy_of, kl_divergence
from qwen3lab.lenses.first_lead import FirstLead, find_first_lead
from qwen3lab.lenses.places import Place
from qwen3lab.lenses.top_of_lens import TopOfLens
from qwen3lab.metrics.metric import Token, quoted, token_id
from qwen3lab.recording.equality import EqualByValue
from qwen3lab.recording.labels import Labels, labelled
from qwen3lab.recording.on_disk import LOGITS
from qwen3lab.recording.recording import Recording
from qwen3lab.recording.rendered_logits import (
    MAX_KEPT_VOCABULARY,
    ROWS_AT_ONCE,
    OutputHead,
    RenderedLogits,
    stream_hook,
)
from qwen3lab.text.tokenizer import token_texts
from qwen3lab.translation import tr, tr_count

PROGRESS_DELAY_SECONDS = 2.0
"""A reading that takes longer shows a progress bar."""
MAX_POSITIONS_AT_ONCE = 4096
"""Positions whose logits are computed together for a small vocabulary: 64 MiB in float32."""

Take = Callable[[Float[Tensor, "token vocab"], slice], Shaped[Tensor, "..."]]
"""Reads something from logits; the slice says which positions of the lens they are of."""


@runtime_checkable
class Transport(Protocol):
    """Maps the residual stream after a layer to the basis of the last layer."""

    def moved(
        self, layer: int, stream: Float[Tensor, "token d_model"]
    ) -> Float[Tensor, "token d_model"]:
        """The stream as the final norm and the unembedding read it."""
        ...


@dataclass(frozen=True, repr=False, eq=False)
class Lens(EqualByValue, Displayed):
    """What each layer of a run predicts as the next token.

    Attributes:
        kind: "logit lens", "tuned lens" or "Jacobian lens".
        lab: the model whose final norm and unembedding read.
        recording: of the run.
        places: one for each row, in the order of the forward pass.
        positions: of the recording; one for each column.
        transport: applied to the stream before it is read; None for the logit lens.
    """

    kind: str
    lab: Lab = field(compare=False)
    recording: Recording
    places: tuple[Place, ...]
    positions: tuple[int, ...]
    transport: Transport | None = None

    @property
    def names(self) -> list[str]:
        """Name of each row, such as `layer 3` or `head 3.0`."""
        return [place.name for place in self.places]

    @property
    def tokens(self) -> list[str]:
        """Text of the token at each position; the lens predicts what follows it."""
        return [self.recording.tokens[position] for position in self.positions]

    @property
    def layers(self) -> tuple[int, ...]:
        """The layer of each row."""
        return tuple(place.layer for place in self.places)

    @property
    def head(self) -> OutputHead:
        """The final norm and the unembedding."""
        return OutputHead.of(self.lab.model)

    def stream(self, row: int) -> Float[Tensor, "token d_model"]:
        """The vectors of a row that the final norm and the unembedding read."""
        place = self.places[row]
        values = self.recording.raw(place.hook)[list(self.positions)]
        values = values if place.index is None else values[:, place.index]
        return values if self.transport is None else self.transport.moved(place.layer, values)

    @checked
    def logits(
        self, layer: int, *, hook: str | None = None, index: int | None = None
    ) -> Float[Tensor, "token vocab"]:
        """Logits of the next token that a layer predicts, float32.

        For a large vocabulary they are computed on access: index them by position.

        Args:
            layer: a negative one counts from the end.
            hook: end of the hook's name, such as "resid_mid", where the lens reads several.
            index: the head, or the place of the expert in the token's choice, where there are some.

        Raises:
            ValueError: the lens does not read there, or reads at several such places.
        """
        stream = self.stream(self._row(layer, hook, index))
        if self.lab.config.d_vocab > MAX_KEPT_VOCABULARY:
            return RenderedLogits(stream, self.head)
        return self.head.logits(stream).float()

    @checked
    def top(self, k: Count = 5) -> TopOfLens:
        """The `k` most probable next tokens of every row and position.

        Raises:
            ValueError: `k` is larger than the vocabulary.
        """
        if k > self.lab.config.d_vocab:
            raise ValueError(
                tr(
                    "k is {k}, and the vocabulary has {d_vocab:,} tokens: choose fewer",
                    k=k,
                    d_vocab=self.lab.config.d_vocab,
                )
            )

        def best(logits: Tensor, _: slice) -> Tensor:
            top = logits.softmax(dim=-1).topk(k, dim=-1)
            # Ids are exact as float64; one tensor, so that logits are computed once.
            return torch.stack([top.indices.double(), top.values.double()], dim=1)

        ids, probabilities = self.read(best).unbind(dim=2)
        distinct = ids.long().unique().tolist()
        texts = dict(zip(distinct, token_texts(self.lab.tokenizer, distinct), strict=True))
        return TopOfLens(
            kind=self.kind,
            model_name=self.recording.model_name,
            places=self.places,
            positions=self.positions,
            tokens=tuple(self.tokens),
            token_ids=ids.long(),
            probabilities=probabilities.float(),
            texts=texts,
        )

    @checked
    def rank(self, token: Token) -> Int[Tensor, "layer token"]:
        """Number of tokens that are more probable than a token; 0 where it leads.

        Args:
            token: text of one token, or its id.

        Raises:
            ValueError: the model has no such token.
        """
        chosen = token_id(self.lab, token)
        ranks = self.read(lambda logits, _: (logits > logits[:, [chosen]]).sum(dim=-1))
        return self._labelled(ranks, tr("rank of {token}", token=quoted(self.lab, chosen)))

    @checked
    def probability(self, token: Token) -> Float[Tensor, "layer token"]:
        """The probability of a token as the next one; arguments and errors as in `rank`."""
        chosen = token_id(self.lab, token)
        found = self.read(lambda logits, _: logits.softmax(dim=-1)[:, chosen])
        return self._labelled(found, tr("probability of {token}", token=quoted(self.lab, chosen)))

    def entropy(self) -> Float[Tensor, "layer token"]:
        """Entropy of each row's next-token distribution, nats."""
        found = self.read(lambda logits, _: entropy_of(logits.log_softmax(dim=-1)))
        return self._labelled(found, tr("entropy in nats"))

    def kl(self) -> Float[Tensor, "layer token"]:
        """KL divergence from the model's own next-token distribution to each row's, nats."""
        final = self.final_logits()
        found = self.read(lambda logits, block: kl_divergence(final[block].float(), logits))
        # Rounding makes the divergence of nearly equal distributions negative.
        return self._labelled(found.clamp(min=0), tr("KL divergence in nats"))

    @checked
    def first_lead(
        self, token: Token, *, span: str | None = "thinking", unwritten: bool = False
    ) -> FirstLead:
        """The first token of a span, and there the first row, at which a token leads.

        Args:
            token: of the final answer: text of one token, or its id.
            span: of the recording: "thinking", "answer" or "prompt"; None for all positions.
            unwritten: leave out positions where that token stands, or where the text goes on with
                it.

        Raises:
            ValueError: the model has no such token, the recording no such span, or the lens none of
                its positions.

        Example:
            >>> import qwen3lab
            >>> from qwen3lab import lenses
            >>> lab = qwen3lab.load("tiny-moe")
            >>> chat = lab.chat("3+2*7-1=?", thinking=True, seed=0, record=lenses.NEEDED)
            >>> lens = lenses.logit_lens(lab, chat.recording)
            >>> lens.first_lead(chat.answer[0]).span
            'thinking'
        """
        return find_first_lead(self, token_id(self.lab, token), span, unwritten=unwritten)

    def final_logits(self) -> Float[Tensor, "token vocab"]:
        """The model's own logits; for a large vocabulary they are computed on access.

        Raises:
            RecordingError: neither they nor the stream after the last block was recorded.
        """
        chosen, stream = list(self.positions), stream_hook(self.lab.config)
        if LOGITS in self.recording or stream not in self.recording:
            return self.recording[LOGITS][chosen]
        return RenderedLogits(self.recording.raw(stream)[chosen], self.head)

    def read(self, take: Take) -> Shaped[Tensor, "layer token *any"]:
        """Something read from the logits of every row, computed some positions at a time."""
        streams = [self.stream(row) for row in range(len(self.places))]
        is_small = self.lab.config.d_vocab <= MAX_KEPT_VOCABULARY
        size = MAX_POSITIONS_AT_ONCE if is_small else ROWS_AT_ONCE
        starts = range(0, len(self.positions), size)
        parts: list[list[Tensor]] = [[] for _ in streams]
        bar = tqdm(total=len(starts) * len(streams), unit=tr("row"), delay=PROGRESS_DELAY_SECONDS)
        with bar:
            for block in (slice(start, start + size) for start in starts):
                for row, stream in enumerate(streams):
                    parts[row].append(take(self.head.logits(stream[block]).float(), block))
                    bar.update()
        return torch.stack([torch.cat(each) for each in parts])

    def _row(self, layer: int, hook: str | None, index: int | None) -> int:
        """The row of a place.

        Raises:
            ValueError: there is none, or there are several.
        """
        number = layer + self.lab.config.n_layers if layer < 0 else layer
        fits = [
            row
            for row, place in enumerate(self.places)
            if place.layer == number
            and (hook is None or place.hook.endswith(hook))
            and index in (None, place.index)
        ]
        if len(fits) == 1:
            return fits[0]
        if not fits:
            raise ValueError(
                tr(
                    "the lens does not read at layer {layer}, hook {hook}, index {index}: it "
                    "reads from {first} to {last}",
                    layer=layer,
                    hook=hook,
                    index=index,
                    first=self.names[0],
                    last=self.names[-1],
                )
            )
        names = ", ".join(self.names[row] for row in fits[:4])
        raise ValueError(
            tr(
                "layer {layer} has {n_fits} such places ({names} ...): choose one with "
                "hook= or index=",
                layer=layer,
                n_fits=len(fits),
                names=names,
            )
        )

    def _labelled(self, values: Tensor, what: str) -> Tensor:
        is_by_layer = len(set(self.layers)) == len(self.layers)
        rows = "layer" if is_by_layer else "place"
        labels = Labels(
            what=f"{tr(self.kind)}{tr(': ')}{what}",
            axes=(rows, "token"),
            layers=self.layers,
            tokens=tuple(self.tokens),
            model_name=self.recording.model_name,
        )
        return labelled(values, labels)

    def _summary(self) -> Summary:
        facts = {
            tr("of"): tr_count("{n:,} token", "{n:,} tokens", len(self.positions)),
            tr("by"): self.recording.model_name,
            tr("rows"): tr("{first} to {last}", first=self.names[0], last=self.names[-1]),
        }
        note = tr("logits(layer), top(k), rank(token), probability(token), entropy(), kl()")
        return Summary(
            tr(self.kind).capitalize(),
            facts,
            note=tr("{note}; figures.lens_map draws it", note=note),
        )
