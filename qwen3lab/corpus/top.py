"""Top examples: for each expert, head or feature, the texts in which its value is largest."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from qwen3lab.corpus.counting import Routed

if TYPE_CHECKING:
    import pandas
    import pyarrow
    import pyarrow.dataset

COLUMNS = ("hook", "unit", "score", "row", "position")


class TopExamples:
    """Keeps the best texts of each unit: an expert, a head, or a feature of one hook.

    A text counts once for a unit, with its largest value there. Of equal values the first wins.

    Args:
        n: texts of each unit.
    """

    def __init__(self, n: int) -> None:
        self.n = n
        self._hooks: dict[str, int] = {}
        self._least: dict[int, np.ndarray] = {}  # That a unit's value must reach to be kept.
        self._kept = _nothing()
        self._pending: list[dict[str, np.ndarray]] = []

    def add_routes(
        self, hooks: Sequence[str], n_experts: int, rows: Sequence[int], texts: Sequence[Routed]
    ) -> None:
        """Add the routing of whole texts; the value of an expert is its weight.

        Args:
            hooks: of each layer's weights.
            n_experts: of each layer.
            rows: number of each text.
            texts: whose weights are known.
        """
        experts = np.concatenate([each.experts for each in texts], axis=1)
        weights = np.concatenate([each.weights for each in texts if each.weights is not None], 1)
        lengths = [len(each.token_ids) for each in texts]
        text = np.repeat(np.arange(len(texts)), lengths)
        position = np.concatenate([np.arange(n) for n in lengths])
        for hook, chosen, values in zip(hooks, experts, weights, strict=True):
            least = self._least_of(hook, n_experts)
            token, rank = ((chosen >= 0) & (values >= least[chosen])).nonzero()
            unit, score = chosen[token, rank].astype(np.int64), values[token, rank]
            best = _largest(text[token] * n_experts + unit, score, len(texts) * n_experts)
            token, unit, score = token[best], unit[best], score[best]
            self._append(hook, np.array(rows)[text[token]], unit, score, position[token])

    def add_values(self, hook: str, row: int, values: Float[np.ndarray, "token unit"]) -> None:
        """Add a hook's values for one text."""
        n_units = values.shape[1]
        position = values.argmax(axis=0)
        score = values[position, np.arange(n_units)]
        unit = (score >= self._least_of(hook, n_units)).nonzero()[0]
        self._append(hook, np.full(len(unit), row), unit, score[unit], position[unit])

    def _least_of(self, hook: str, n_units: int) -> np.ndarray:
        number = self._hooks.setdefault(hook, len(self._hooks))
        return self._least.setdefault(number, np.full(n_units, -np.inf))

    def _append(
        self, hook: str, row: np.ndarray, unit: np.ndarray, score: np.ndarray, position: np.ndarray
    ) -> None:
        self._pending.append(
            {
                "hook": np.full(len(unit), self._hooks[hook]),
                "unit": unit,
                "score": score.astype(np.float64),
                "row": row,
                "position": position,
            }
        )

    def trim(self) -> None:
        """Drop what is not among the best, if much is waiting; called after each batch."""
        if sum(len(each["unit"]) for each in self._pending) > len(self._kept["unit"]):
            self._drop()

    def _drop(self) -> None:
        joined = {
            name: np.concatenate([self._kept[name], *(each[name] for each in self._pending)])
            for name in COLUMNS
        }
        best = best_rows(joined, self.n)
        self._pending, self._kept = [], {name: each[best] for name, each in joined.items()}
        hook, unit, score = (self._kept[name] for name in ("hook", "unit", "score"))
        last = np.arange(self.n - 1, len(unit))  # The n-th of a unit, best first.
        last = last[
            (unit[last] == unit[last - self.n + 1]) & (hook[last] == hook[last - self.n + 1])
        ]
        for number, least in self._least.items():
            own = last[hook[last] == number]
            least[unit[own]] = score[own]

    def table(self, token_ids: Mapping[int, Sequence[int]], context: int) -> "pyarrow.Table":
        """The examples, with the tokens around each.

        Args:
            token_ids: of each row.
            context: tokens before and after.
        """
        import pyarrow

        self._drop()
        names = {number: hook for hook, number in self._hooks.items()}
        kept = self._kept
        starts = np.maximum(kept["position"] - context, 0)
        around = [
            token_ids[int(row)][start : position + context + 1]
            for row, start, position in zip(kept["row"], starts, kept["position"], strict=True)
        ]
        return pyarrow.table(
            {
                "hook": pyarrow.array([names[each] for each in kept["hook"]], pyarrow.string()),
                "unit": kept["unit"].astype(np.uint32),
                "score": kept["score"],
                "row": kept["row"].astype(np.int64),
                "position": kept["position"].astype(np.uint32),
                "token": (kept["position"] - starts).astype(np.uint32),
                "token_ids": pyarrow.array(around, pyarrow.list_(pyarrow.uint32())),
            }
        )


def _largest(
    key: Int[np.ndarray, " value"], score: Float[np.ndarray, " value"], n_keys: int
) -> Int[np.ndarray, " found"]:
    """Index of the largest score of each key, of equal ones the first."""
    largest = np.full(n_keys, -np.inf, score.dtype)
    np.maximum.at(largest, key, score)
    tied = (score == largest[key]).nonzero()[0]
    return tied[np.unique(key[tied], return_index=True)[1]]


def best_rows(columns: Mapping[str, np.ndarray], n: int) -> Int[np.ndarray, " kept"]:
    """Indices of the `n` rows of the largest score for each hook and unit, best first."""
    hook, unit = columns["hook"], columns["unit"]
    order = np.lexsort((columns["position"], columns["row"], -columns["score"], unit, hook))
    if not len(order):
        return order
    is_first = np.ones(len(order), bool)
    is_first[1:] = (np.diff(hook[order]) != 0) | (np.diff(unit[order]) != 0)
    starts = is_first.nonzero()[0]
    rank = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    return order[rank < n]


def best_examples(
    data: "pyarrow.dataset.Dataset",
    hook: str,
    unit: int | None,
    n: int,
    vocabulary: Sequence[str],
) -> "pandas.DataFrame":
    """The best examples over all parts: unit, score, row, position, before, token, after.

    Args:
        data: tables that `TopExamples.table` made.
        hook: whose units are shown.
        unit: one of them, or None for all.
        n: examples of each.
        vocabulary: the text of each token id.
    """
    import pandas
    import pyarrow.dataset

    where = pyarrow.dataset.field("hook") == hook
    if unit is not None:
        where &= pyarrow.dataset.field("unit") == unit
    found = data.to_table(filter=where).to_pydict()
    columns = {name: np.array(found[name]) for name in ("unit", "score", "row", "position")}
    order = best_rows({**columns, "hook": np.zeros(len(columns["row"]))}, n)
    texts = [[str(vocabulary[token]) for token in found["token_ids"][at]] for at in order]
    places = [found["token"][at] for at in order]
    return pandas.DataFrame(
        {
            **{name: values[order] for name, values in columns.items()},
            "before": ["".join(t[:at]) for t, at in zip(texts, places, strict=True)],
            "token": [t[at] for t, at in zip(texts, places, strict=True)],
            "after": ["".join(t[at + 1 :]) for t, at in zip(texts, places, strict=True)],
        }
    )


def _nothing() -> dict[str, np.ndarray]:
    kinds = (np.int64, np.int64, np.float64, np.int64, np.int64)
    return {name: np.zeros(0, kind) for name, kind in zip(COLUMNS, kinds, strict=True)}
