"""Rows of a data set as texts: token ids, labels and a name; rows that cannot be run are named."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.corpus.plan import CorpusPlan, pair_of
from qwen3lab.corpus.source import FILE, Row
from qwen3lab.display.plain import one_line
from qwen3lab.text.prompt import checked, is_messages, unchecked_ids

MAX_REASON = 200

Groups = tuple[str | tuple[str, ...], ...]
"""For each grouping, that of a text, or of each of its tokens."""


@dataclass(frozen=True)
class Text:
    """A row of the data set that is run.

    Attributes:
        row: its number in the data set.
        id: its name.
        labels: a value for each label column.
        token_ids: what the model reads.
        was_cut: True if the text has more tokens.
        token_labels: for each column of them, a label of each token.
    """

    row: int
    id: str
    labels: tuple[str, ...]
    token_ids: list[int]
    was_cut: bool = False
    token_labels: tuple[tuple[str, ...], ...] = ()

    def groups(self, plan: CorpusPlan) -> Groups:
        """The group of the text, or of each of its tokens, for each of the plan's groupings."""
        own = dict(zip(plan.labels, self.labels, strict=True))
        by_token = dict(zip(plan.token_labels, self.token_labels, strict=True))
        pairs = (tuple(pair_of(own[a], each) for each in by_token[b]) for a, b in plan.pairs)
        return (*self.labels, *self.token_labels, *pairs)


@dataclass(frozen=True)
class Skipped:
    """A row that is not run, and why."""

    row: int
    id: str
    reason: str


def columns_of(plan: CorpusPlan) -> list[str]:
    """The columns that a plan reads."""
    return [plan.column, *plan.labels, *plan.token_labels, *([plan.id] if plan.id else [])]


def as_text(
    row: int, values: Row, plan: CorpusPlan, tokenizer: Any, config: Qwen3Config
) -> Text | Skipped:
    """One row as a text, or the reason why it is none."""
    if isinstance(values, str):
        return Skipped(row, str(row), values)
    name = str(values.get(plan.id or FILE, row))
    for column in columns_of(plan):
        if values.get(column) is None:
            return Skipped(row, name, f"it has no value in the column {column!r}")
    prompt = values[plan.column]
    if not isinstance(prompt, Sequence) or isinstance(prompt, bytes):
        kind = type(prompt).__name__
        return Skipped(row, name, f"it has {kind} in place of a text, messages or token ids")
    limit = min(plan.max_tokens or config.n_ctx, config.n_ctx)
    try:
        mode = plan.thinking if is_messages(prompt) else None
        ids = unchecked_ids(tokenizer, prompt, thinking=mode) if len(prompt) else []
        if not ids:
            return Skipped(row, name, "its text is empty")
        if len(ids) > limit and plan.too_long == "skip":
            return Skipped(row, name, f"it has {len(ids)} tokens, more than {limit}")
        labels = tuple(_label(values[column], column) for column in plan.labels)
        by_token = tuple(
            _labels_of_tokens(values[column], column, len(ids))[:limit]
            for column in plan.token_labels
        )
        own = checked(ids[:limit], config)
        return Text(row, name, labels, own, len(ids) > limit, by_token)
    except (ValueError, TypeError) as error:
        return Skipped(row, name, one_line(str(error), width=MAX_REASON))


def by_length(texts: Sequence[Text], batch_tokens: int) -> Iterator[list[Text]]:
    """Batches of texts of similar length, shortest first, whose padded size is limited."""
    batch: list[Text] = []
    for text in sorted(texts, key=lambda text: (len(text.token_ids), text.row)):
        if batch and (len(batch) + 1) * len(text.token_ids) > batch_tokens:
            yield batch
            batch = []
        batch.append(text)
    if batch:
        yield batch


def _label(value: Any, column: str) -> str:
    if isinstance(value, list | tuple | Mapping):
        raise ValueError(f"its label in the column {column!r} is not one value")
    return str(value)


def _labels_of_tokens(value: Any, column: str, n_tokens: int) -> tuple[str, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise ValueError(f"its labels in the column {column!r} are no list: give one for a token")
    if len(value) != n_tokens:
        raise ValueError(
            f"it has {len(value)} labels in the column {column!r} for {n_tokens} tokens: give one "
            "for each token, and token ids in place of the text if you are not sure"
        )
    return tuple(_label(each, column) for each in value)
