"""Counts of routing that add up exactly, whatever the order and the machine: they are integers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int, UInt

from qwen3lab.corpus.route_sums import RouteSums

if TYPE_CHECKING:
    import pyarrow

WEIGHT_UNIT = 2.0**-28
"""Weights are counted in whole multiples of it. Sums of integers do not depend on the order, and
64 bits hold those of 34 billion tokens."""
ALL = ("", "")
"""Column and label of all tokens."""


@dataclass(frozen=True)
class Routed:
    """The routing of one text.

    Attributes:
        token_ids: of the text.
        experts: chosen experts of each layer with experts, best first; -1 is no expert.
        weights: of these experts; None if they are not known.
    """

    token_ids: Int[np.ndarray, " token"]
    experts: Int[np.ndarray, "layer token k"]
    weights: Float[np.ndarray, "layer token k"] | None

    @property
    def n_routed(self) -> int:
        """Tokens whose experts are known."""
        return int((self.experts >= 0).any(axis=(0, 2)).sum()) if len(self.experts) else 0


class Counts:
    """Counts of routed slots and weights: by label, by pair of experts, and by token.

    Args:
        layers: numbers of the layers with experts.
        n_experts: in each of them.
        columns: what the texts or their tokens are grouped by.
        weighs: False if weights are not known.

    Attributes:
        groups: column and label of each group, in the order of their first occurrence.
        slots: of each layer, group and expert.
        units: of weight, likewise; see `WEIGHT_UNIT`.
        tokens: of each group, that were routed.
        routes: sums over pairs of experts, and by token.
    """

    def __init__(
        self, layers: Sequence[int], n_experts: int, columns: Sequence[str], *, weighs: bool = True
    ) -> None:
        self.layers, self.n_experts, self.columns = tuple(layers), n_experts, tuple(columns)
        self.weighs, self.groups = weighs, list[tuple[str, str]]()
        n_layers = len(self.layers)
        self.slots = np.zeros((n_layers, 0, n_experts), np.int64)
        self.units = self.slots.copy()
        self.tokens = np.zeros(0, np.int64)
        self.routes = RouteSums(n_layers, n_experts)

    def add(self, texts: Sequence[tuple[Routed, Sequence[str | tuple[str, ...]]]]) -> None:
        """Add texts; each has for each column a label, or a label for each of its tokens."""
        if not texts or not self.layers:
            return
        chosen = self._chosen([routed for routed, _ in texts])
        n_tokens = [len(routed.token_ids) for routed, _ in texts]
        units = self._units([routed for routed, _ in texts])
        is_routed = (chosen < self.n_experts).any(axis=(0, 2))
        for place in range(max(len(self.columns), 1)):
            labels = [own[place] if own else ALL[1] for _, own in texts]
            groups = self._groups(labels, n_tokens, place)
            self._add_slots(chosen, units, groups)
            self.tokens += np.bincount(groups[is_routed], minlength=len(self.groups))
        token_ids = np.concatenate([routed.token_ids for routed, _ in texts])
        self.routes.add(chosen, token_ids.astype(np.int64))

    def _chosen(self, texts: Sequence[Routed]) -> UInt[np.ndarray, "layer token k"]:
        """The experts in the smallest type; `n_experts`, which counts nowhere, for none."""
        experts = np.concatenate([routed.experts for routed in texts], axis=1)
        none = np.where(experts < 0, self.n_experts, experts)
        return none.astype(smallest_unsigned(self.n_experts + 1))

    def _groups(
        self, labels: Sequence[str | tuple[str, ...]], n_tokens: Sequence[int], place: int
    ) -> np.ndarray:
        """The number of each token's group."""
        column = self.columns[place] if self.columns else ALL[0]
        keys, sizes = list[tuple[str, str]](), list[int]()
        for label, n in zip(labels, n_tokens, strict=True):
            own = (label,) if isinstance(label, str) else label
            keys += [(column, each) for each in own]
            sizes += [n] if isinstance(label, str) else [1] * n
        return np.repeat(self._numbers(keys), sizes)

    def _units(self, texts: Sequence[Routed]) -> np.ndarray | None:
        if not self.weighs:
            return None
        weights = np.concatenate([each.weights for each in texts if each.weights is not None], 1)
        return np.rint(weights / WEIGHT_UNIT)  # Exact in float32: the unit is a power of two.

    def _numbers(self, keys: Sequence[tuple[str, str]]) -> np.ndarray:
        """The number of each group; new ones get rows."""
        new = [key for key in dict.fromkeys(keys) if key not in self.groups]
        if new:
            self.groups += new
            rows = ((0, 0), (0, len(new)), (0, 0))
            self.slots, self.units = np.pad(self.slots, rows), np.pad(self.units, rows)
            self.tokens = np.pad(self.tokens, (0, len(new)))
        number = {key: row for row, key in enumerate(self.groups)}
        return np.array([number[key] for key in keys])

    def _add_slots(self, chosen: np.ndarray, units: np.ndarray | None, groups: np.ndarray) -> None:
        width = self.n_experts + 1
        size = len(self.groups) * width
        for layer, routes in enumerate(chosen):
            cells = (groups[:, None] * width + routes).ravel()
            counts = np.bincount(cells, minlength=size)
            self.slots[layer] += counts.reshape(-1, width)[:, :-1]
            if units is not None:  # Whole numbers below 2**53 are exact as doubles.
                sums = np.bincount(cells, weights=units[layer].ravel(), minlength=size)
                self.units[layer] += sums.reshape(-1, width)[:, :-1].astype(np.int64)

    def tables(self) -> Mapping[str, "pyarrow.Table"]:
        """Tables of the counts that are not zero, by name."""
        import pyarrow

        layers, small = np.array(self.layers, np.uint16), smallest_unsigned(self.n_experts)
        at, group, expert = self.slots.nonzero()
        units = self.units[at, group, expert]
        counts = {
            "layer": layers[at],
            "column": [self.groups[each][0] for each in group],
            "label": [self.groups[each][1] for each in group],
            "expert": expert.astype(small),
            "slots": self.slots[at, group, expert],
            "weight_units": units if self.weighs else pyarrow.nulls(len(at), pyarrow.int64()),
        }
        groups = {
            "column": pyarrow.array([column for column, _ in self.groups], pyarrow.string()),
            "label": pyarrow.array([label for _, label in self.groups], pyarrow.string()),
            "tokens": self.tokens,
        }
        row, token, chosen, slots = self.routes.by_token()
        tokens = {
            "layer": layers[row] if len(row) else np.zeros(0, np.uint16),
            "expert": chosen.astype(small),
            "token_id": token.astype(np.uint32),
            "slots": slots,
        }
        for name in ("column", "label"):
            counts[name] = pyarrow.array(counts[name], pyarrow.string())
        return {
            "counts": pyarrow.table(counts),
            "groups": pyarrow.table(groups),
            "co_activation": _pairs(self.routes.together, layers, small, "other"),
            "transitions": _pairs(self.routes.next, layers, small, "next_expert"),
            "tokens": pyarrow.table(tokens),
        }


def _pairs(counts: np.ndarray, layers: np.ndarray, small: np.dtype, other: str) -> "pyarrow.Table":
    import pyarrow

    at, one, two = counts.nonzero()
    return pyarrow.table(
        {
            "layer": layers[at],
            "expert": one.astype(small),
            other: two.astype(small),
            "slots": counts[at, one, two],
        }
    )


def smallest_unsigned(n_values: int) -> np.dtype:
    """The smallest unsigned type that holds the numbers below `n_values`."""
    return np.min_scalar_type(max(n_values - 1, 0))


def routes_table(
    rows: Sequence[int], texts: Sequence[Routed], layers: Sequence[int], n_experts: int
) -> "pyarrow.Table":
    """The routes of texts: a row for each token, with lists of experts and weights by layer.

    A token without a route has null.

    Args:
        rows: number of each text in the data set.
        texts: in the same order, at least one.
        layers: numbers of the layers with experts.
        n_experts: in each of them.
    """
    import pyarrow

    lengths = [len(each.token_ids) for each in texts]
    columns = {
        "row": np.repeat(np.array(rows, np.int64), lengths),
        "position": np.concatenate([np.arange(n, dtype=np.uint32) for n in lengths]),
        "token_id": np.concatenate([each.token_ids for each in texts]).astype(np.uint32),
    }
    for at, layer in enumerate(layers):
        experts = np.concatenate([each.experts[at] for each in texts])
        has_none = np.asarray((experts < 0).any(axis=1))
        small = np.where(experts < 0, 0, experts).astype(smallest_unsigned(n_experts))
        columns[f"experts.{layer}"] = _lists(small, has_none)
        if texts[0].weights is not None:
            weights = np.concatenate([each.weights[at] for each in texts])  # type: ignore[index]
            columns[f"weights.{layer}"] = _lists(weights.astype(np.float32), has_none)
    return pyarrow.table(columns)


def _lists(values: np.ndarray, is_null: np.ndarray) -> "pyarrow.Array":
    import pyarrow

    flat = pyarrow.array(values.ravel())
    mask = pyarrow.array(is_null) if is_null.any() else None
    return pyarrow.FixedSizeListArray.from_arrays(flat, values.shape[1], mask=mask)
