"""Metrics: one number read from the logits of a run, as an object with a name.

A metric is made without a model, and resolved for the model that it is read from: then its tokens
get their ids, and a token that the model does not have is refused, before any work.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from qwen3lab.arguments import is_whole
from qwen3lab.display import one_line
from qwen3lab.lab import Lab
from qwen3lab.recording.recording import Recording
from qwen3lab.text.tokenizer import token_texts
from qwen3lab.translation import tr

Token = str | int
"""Text that is one token of the model, or a token id."""

Logits = Float[Tensor, "batch pos vocab"]
Values = Float[Tensor, " batch"]


@dataclass(frozen=True)
class Reading:
    """A metric for one model.

    Attributes:
        label: what is read, with the model's tokens, such as `logit “8” - logit “3”`.
        unit: of the values.
        appended: token ids that follow the prompt in the run.
        read: the metric of each prompt of a batch, from its logits.
    """

    label: str
    unit: str
    appended: tuple[int, ...]
    read: Callable[[Logits], Values]


@dataclass(frozen=True)
class Metric:
    """One number that is read from the logits of a run.

    Attributes:
        label: what is read.
        unit: of the number.
        position: of the logits, in the prompt; None if the metric chooses its own.
        resolve: the metric for a model; raises `ValueError` if the model has not its tokens.
    """

    label: str
    unit: str
    position: int | None
    resolve: Callable[[Lab], Reading]


def logit(token: Token, *, position: int = -1) -> Metric:
    """The logit of a token.

    Args:
        token: text of one token, or its id.
        position: of the logits, in the prompt; -1 is its last token, whose logits predict the next.

    Example:
        >>> import qwen3lab
        >>> lab = qwen3lab.load("tiny-moe")
        >>> metric = qwen3lab.metrics.logit("7").resolve(lab)
        >>> metric.label, metric.unit
        ('logit “7”', 'logits')
    """
    place = _place(position)

    def resolve(lab: Lab) -> Reading:
        chosen = token_id(lab, token)
        label = f"logit {quoted(lab, chosen)}{_at(place)}"
        return Reading(label, "logits", (), lambda logits: logits[:, place, chosen])

    return Metric(f"logit {_shown(token)}{_at(place)}", "logits", place, resolve)


def logit_difference(token: Token, other: Token, *, position: int = -1) -> Metric:
    """The logit of a token minus that of another one.

    Args:
        token: text of one token, or its id.
        other: the token whose logit is subtracted.
        position: as in `logit`.
    """
    place = _place(position)

    def resolve(lab: Lab) -> Reading:
        first, second = token_id(lab, token), token_id(lab, other)
        if first == second:
            raise ValueError(
                tr("both tokens are {quoted}: give two different ones", quoted=quoted(lab, first))
            )
        label = tr(
            "logit {token} - logit {other}{at}",
            token=quoted(lab, first),
            other=quoted(lab, second),
            at=_at(place),
        )

        def read(logits: Logits) -> Values:
            return logits[:, place, first] - logits[:, place, second]

        return Reading(label, "logits", (), read)

    label = tr(
        "logit {token} - logit {other}{at}",
        token=_shown(token),
        other=_shown(other),
        at=_at(place),
    )
    return Metric(label, "logits", place, resolve)


def log_probability(token: Token, *, position: int = -1) -> Metric:
    """The logarithm of the probability of a token.

    Args:
        token: text of one token, or its id.
        position: as in `logit`.
    """
    place = _place(position)

    def resolve(lab: Lab) -> Reading:
        chosen = token_id(lab, token)
        label = tr("log probability of {quoted}{at}", quoted=quoted(lab, chosen), at=_at(place))

        def read(logits: Logits) -> Values:
            return logits[:, place].log_softmax(dim=-1)[:, chosen]

        return Reading(label, "nats", (), read)

    return Metric(
        tr("log probability of {shown}{at}", shown=_shown(token), at=_at(place)),
        "nats",
        place,
        resolve,
    )


def kl_to(recording: Recording, *, position: int = -1) -> Metric:
    """The KL divergence from another run's next-token distribution to that of this run.

    Args:
        recording: the other run, P in KL(P || Q).
        position: of the logits in both runs, as in `logit`.
    """
    place = _place(position)
    label = tr("KL divergence to the other run{at}", at=_at(place))

    def resolve(lab: Lab) -> Reading:
        if recording.config.d_vocab != lab.config.d_vocab:
            raise ValueError(
                tr(
                    "the recording is of {model_name}, with {d_vocab:,} tokens, and {name} "
                    "has {n_vocab:,}: give a run of the same tokens",
                    model_name=recording.model_name,
                    d_vocab=recording.config.d_vocab,
                    name=lab.name,
                    n_vocab=lab.config.d_vocab,
                )
            )
        check_place(place, len(recording))
        log_p = recording.logits[place].float().log_softmax(dim=-1)

        def read(logits: Logits) -> Values:
            log_q = logits[:, place].log_softmax(dim=-1)
            given = log_p.to(log_q)
            return (given.exp() * (given - log_q)).sum(dim=-1)

        return Reading(label, "nats", (), read)

    return Metric(label, "nats", place, resolve)


def answer_log_probability(answer: str) -> Metric:
    """The logarithm of the probability that the model goes on with a text of any length.

    The text follows the prompt in the run, and the log probabilities of its tokens are summed.

    Args:
        answer: the text, as in `"34"` or `" Paris"`.
    """
    if not isinstance(answer, str) or not answer:
        raise ValueError(
            tr("the answer is {answer!r}: expected text of at least one character", answer=answer)
        )

    def resolve(lab: Lab) -> Reading:
        ids = tuple(lab.token_ids(answer))

        def read(logits: Logits) -> Values:
            # The logits at the token before each token of the answer predict that token.
            rows = logits[:, -len(ids) - 1 : -1].log_softmax(dim=-1)
            wanted = torch.tensor(ids, device=rows.device).expand(len(rows), -1)
            return rows.gather(-1, wanted[..., None]).squeeze(-1).sum(dim=-1)

        return Reading(label, "nats", ids, read)

    label = tr("log probability of {shown}", shown=_shown(answer))
    return Metric(label, "nats", None, resolve)


def token_id(lab: Lab, token: Token) -> int:
    """The id of a token.

    Raises:
        ValueError: the text is not one token of the model, or the id is outside its vocabulary.
    """
    if isinstance(token, str):
        ids = lab.token_ids(token) if token else []
        if len(ids) != 1:
            pieces = ", ".join(f"“{one_line(text)}”" for text in token_texts(lab.tokenizer, ids))
            raise ValueError(
                tr(
                    "{shown} is {n_ids} tokens of {name}{pieces}: expected one; "
                    "answer_log_probability takes a text of any length",
                    shown=_shown(token),
                    n_ids=len(ids),
                    name=lab.name,
                    pieces=f" ({pieces})" if ids else "",
                )
            )
        return ids[0]
    if not is_whole(token):
        raise ValueError(
            tr("the token is {token!r}: expected text of one token, or a token id", token=token)
        )
    if not 0 <= int(token) < lab.config.d_vocab:
        raise ValueError(
            tr(
                "token {token} does not exist: {name} has tokens 0 to {last}",
                token=int(token),
                name=lab.name,
                last=lab.config.d_vocab - 1,
            )
        )
    return int(token)


def quoted(lab: Lab, token: int) -> str:
    """A token's text in quotation marks."""
    return f"“{one_line(token_texts(lab.tokenizer, [token])[0])}”"


def resolved(metric: Metric, lab: Lab, length: int) -> Reading:
    """The metric for this model, for prompts of this length.

    Args:
        metric: of this module.
        lab: that runs the prompts.
        length: of the prompts, in tokens.

    Raises:
        ValueError: something that is no metric, a token that the model does not have, or a position
            that the prompts do not have.
    """
    if not isinstance(metric, Metric):
        raise ValueError(
            tr(
                "the metric is of type {kind}: expected one of qwen3lab.metrics, as "
                'in metrics.logit("7")',
                kind=type(metric).__name__,
            )
        )
    if metric.position is not None:
        check_place(metric.position, length)
    return metric.resolve(lab)


def _place(position: object) -> int:
    if not is_whole(position):
        raise ValueError(
            tr(
                "position is {position!r}: expected an integer; -1 is the last token",
                position=position,
            )
        )
    return int(position)  # type: ignore[call-overload]


def check_place(place: int, n: int) -> None:
    """Raises `ValueError` if a run of `n` tokens has no such position."""
    if not -n <= place < n:
        raise ValueError(
            tr(
                "position {place} does not exist: the run has tokens 0 to {last}",
                place=place,
                last=n - 1,
            )
        )


def _at(place: int) -> str:
    return "" if place == -1 else tr(" at token {place}", place=place)


def _shown(token: Token) -> str:
    return f"“{one_line(token)}”" if isinstance(token, str) else f"token {token}"
