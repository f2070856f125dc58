"""Layers, tokens and titles of a figure: as given, or from the labels of the values."""

from collections.abc import Sequence

from torch import Tensor

from qwen3lab.figures.theme import escape
from qwen3lab.recording.labels import labels_of


def tokens_of(values: Tensor, tokens: Sequence[str] | None) -> Sequence[str]:
    """Text of each token.

    Raises:
        ValueError: neither given nor known.
    """
    labels = labels_of(values)
    if tokens is not None:
        return tokens
    if labels is None:
        raise ValueError(
            "the values are a plain tensor that does not know its tokens: pass them, as rec.tokens"
        )
    return labels.tokens


def layers_of(values: Tensor, layers: Sequence[int] | None, *, what: str) -> list[int]:
    """The layer of each row.

    Args:
        values: with a first axis of layers.
        layers: as given; these win over the labels.
        what: the values are, for the message.

    Raises:
        ValueError: neither given nor known, or not one for each row.
    """
    labels = labels_of(values)
    found = labels.layers if layers is None and labels is not None else layers
    if found is None:
        if not len(values):
            return []
        raise ValueError(
            f"the {what} is a plain tensor that does not know the layers of its {len(values)} "
            "rows: pass layers=, with the number of each row's layer"
        )
    if len(found) != len(values):
        raise ValueError(
            f"{len(found)} layers are named, but the {what} has {len(values)} rows: "
            "expected one name per row"
        )
    return list(found)


def layer_of(values: Tensor, layer: int | None) -> int | None:
    """The layer as given, or from the labels; None if neither is known."""
    labels = labels_of(values)
    return labels.layer if layer is None and labels is not None else layer


def by_model(title: str, values: Tensor) -> str:
    """A title with the model's name behind it, if the values know it."""
    labels = labels_of(values)
    return f"{title} · {escape(labels.model_name)}" if labels and labels.model_name else title
