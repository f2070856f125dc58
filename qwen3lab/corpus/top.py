"""Top examples: for each expert, head or feature, the texts in which its value is largest."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

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
        self._kept = _nothing()
        self._pending: list[dict[str, np.ndarray]] = []

    def add_experts(
        self,
        hook: str,
        row: int,
        experts: Int[np.ndarray, "token k"],
        weights: Float[np.ndarray, "token k"],
    ) -> None:
        """Add the routing of one layer for one text; the value of an expert is its weight."""
        position, rank = (experts >= 0).nonzero()
        unit, score = experts[position, rank], weights[position, rank]
        order = np.lexsort((position, -score, unit))
        unit, first = np.unique(unit[order], return_index=True)
        best = order[first]
        self._append(hook, row, unit, score[best], position[best])

    def add_values(self, hook: str, row: int, values: Float[np.ndarray, "token unit"]) -> None:
        """Add a hook's values for one text."""
        position = values.argmax(axis=0)
        unit = np.arange(values.shape[1])
        self._append(hook, row, unit, values[position, unit], position)

    def _append(
        self, hook: str, row: int, unit: np.ndarray, score: np.ndarray, position: np.ndarray
    ) -> None:
        number = self._hooks.setdefault(hook, len(self._hooks))
        self._pending.append(
            {
                "hook": np.full(len(unit), number),
                "unit": unit.astype(np.int64),
                "score": score.astype(np.float64),
                "row": np.full(len(unit), row),
                "position": position.astype(np.int64),
            }
        )

    def trim(self) -> None:
        """Drop what is not among the best; called after each batch."""
        joined = {
            name: np.concatenate([self._kept[name], *(each[name] for each in self._pending)])
            for name in COLUMNS
        }
        self._pending = []
        self._kept = {name: each[best_rows(joined, self.n)] for name, each in joined.items()}

    def table(self, token_ids: Mapping[int, Sequence[int]], context: int) -> "pyarrow.Table":
        """The examples, with the tokens around each.

        Args:
            token_ids: of each row.
            context: tokens before and after.
        """
        import pyarrow

        self.trim()
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
