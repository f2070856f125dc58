"""Layers, tokens and titles of a figure, from arguments or from the labels of the values."""

from collections.abc import Sequence

from torch import Tensor

from qwen3lab.figures.theme import escape
from qwen3lab.recording.labels import labels_of
from qwen3lab.translation import tr


def tokens_of(values: Tensor, tokens: Sequence[str] | None) -> Sequence[str]:
    """Text of each token, from the argument or the labels.

    Raises:
        ValueError: neither has it.
    """
    labels = labels_of(values)
    if tokens is not None:
        return tokens
    if labels is None:
        raise ValueError(
            tr(
                "the values are a plain tensor without token labels: pass tokens=, such "
                "as rec.tokens"
            )
        )
    return labels.tokens


def layers_of(values: Tensor, layers: Sequence[int] | None, *, what: str) -> list[int]:
    """The layer of each row, from the argument or the labels.

    Args:
        values: the first axis is the layer.
        layers: take precedence over the labels.
        what: name of the values, for the message.

    Raises:
        ValueError: neither has it, or the number of layers and rows differ.
    """
    labels = labels_of(values)
    numbers = labels.layers if layers is None and labels is not None else layers
    if numbers is None:
        if not len(values):
            return []
        raise ValueError(
            tr(
                "the {what} is a plain tensor of {n_values} rows without layer labels: "
                "pass layers=, with the layer number of each row",
                what=what,
                n_values=len(values),
            )
        )
    if len(numbers) != len(values):
        raise ValueError(
            tr(
                "the {what} has {n_values} rows, but there are {n_numbers} layers: "
                "expected one layer per row",
                what=what,
                n_values=len(values),
                n_numbers=len(numbers),
            )
        )
    return list(numbers)


def layer_of(values: Tensor, layer: int | None) -> int | None:
    """The layer, from the argument or the labels; None if neither has it."""
    labels = labels_of(values)
    return labels.layer if layer is None and labels is not None else layer


def by_model(title: str, values: Tensor) -> str:
    """A title followed by the model's name, if the labels have it."""
    labels = labels_of(values)
    return f"{title} · {escape(labels.model_name)}" if labels and labels.model_name else title
