"""Tensors with labels for their axes: model, layers, head and tokens.

Indexing or an operation returns a plain tensor, as the labels may no longer fit the result.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from qwen3lab.display import Summary
from qwen3lab.translation import tr

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Labels:
    """Labels of a tensor: the quantity, and what each axis counts.

    Attributes:
        what: the quantity, such as "attention" or "expert load".
        axes: name of each axis, such as ("query", "key"). "layer" indexes `layers`; "query", "key"
            and "token" index `tokens`; all other axes count from 0.
        layers: layer numbers in the model.
        head: the head, if all values belong to one head, else None.
        tokens: text of each token.
        model_name: name or path that the model was loaded from; "" if unknown.
    """

    what: str
    axes: tuple[str, ...]
    layers: tuple[int, ...] = ()
    head: int | None = None
    tokens: tuple[str, ...] = ()
    model_name: str = ""

    @property
    def layer(self) -> int | None:
        """The layer, if all values belong to one layer, else None."""
        return next(iter(self.layers)) if len(self.layers) == 1 else None

    @property
    def place(self) -> str:
        """Layers and head as text, such as "layer 3, head 0" or "layers 1 to 4"; "" if unknown."""
        if not self.layers:
            return ""
        first, last = self.layers[0], self.layers[-1]
        if first != last:
            consecutive = self.layers == tuple(range(first, last + 1))
            if consecutive:
                return tr("layers {first} to {last}", first=first, last=last)
            return tr("layers {listed}", listed=", ".join(map(str, self.layers)))
        if self.head is None:
            return tr("layer {layer}", layer=first)
        return tr("layer {layer}, head {head}", layer=first, head=self.head)

    def names(self, axis: int, size: int) -> list[str]:
        """The name of each index along an axis of this size."""
        kind = self.axes[axis]
        if kind == "layer" and len(self.layers) == size:
            return [str(layer) for layer in self.layers]
        if kind in ("query", "key", "token") and len(self.tokens) == size:
            return [f"{n} {token}" for n, token in enumerate(self.tokens)]
        return [str(n) for n in range(size)]


class LabelledTensor(Tensor):
    """A tensor with `labels`, usable like any tensor. Results of operations are plain tensors.

    Attributes:
        labels: the quantity, and what each axis counts.
    """

    labels: Labels

    # Operations ignore the subclass and return plain tensors.
    __torch_function__ = torch._C._disabled_torch_function_impl  # pyright: ignore

    @property
    def layers(self) -> tuple[int, ...]:
        """Layer numbers in the model."""
        return self.labels.layers

    @property
    def layer(self) -> int | None:
        """The layer, if all values belong to one layer, else None."""
        return self.labels.layer

    @property
    def head(self) -> int | None:
        """The head, if all values belong to one head, else None."""
        return self.labels.head

    @property
    def tokens(self) -> tuple[str, ...]:
        """Text of each token."""
        return self.labels.tokens

    @property
    def model_name(self) -> str:
        """Name or path that the model was loaded from; "" if unknown."""
        return self.labels.model_name

    def plain(self) -> Tensor:
        """The same values as a plain tensor."""
        return self.as_subclass(Tensor)

    def __repr__(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._summary().text()

    def _repr_html_(self) -> str | None:
        return self._summary().html()

    def __deepcopy__(self, memo: dict[Any, Any]) -> "LabelledTensor":
        return labelled(copy.deepcopy(self.plain(), memo), self.labels)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return labelled, (self.plain(), self.labels)

    def _summary(self) -> Summary:
        labels = self.labels
        what = tr(labels.what)
        title = what[:1].upper() + what[1:]
        title += tr(", {place}", place=labels.place) if labels.place else ""
        title += f" · {labels.model_name}" if labels.model_name else ""
        # An operation in place may have changed the number of axes.
        axes = labels.axes if self.ndim == len(labels.axes) else [""] * self.ndim
        sizes = " × ".join(
            f"{size} {axis}".strip() for size, axis in zip(self.shape, axes, strict=True)
        )
        kind = str(self.dtype).removeprefix("torch.")
        is_map = labels.axes == ("query", "key")
        is_table = axes is labels.axes and self.ndim in (1, 2) and self.numel() and not is_map
        frame = self._frame if is_table else None
        note = tr("figures.attention_map draws it") if is_map else ""
        return Summary(title, {tr("a tensor of"): f"{sizes}, {kind}"}, frame, note, index=True)

    def _frame(self) -> "pandas.DataFrame":
        import pandas

        values = self.plain() if self.ndim == 2 else self.plain()[None]
        rows = self.labels.names(0, len(values)) if self.ndim == 2 else [""]
        columns = self.labels.names(self.ndim - 1, values.shape[1])
        return pandas.DataFrame(values.detach().cpu().float().numpy(), rows, columns)


def labelled(values: Tensor, labels: Labels) -> LabelledTensor:
    """The tensor with labels; it shares the memory.

    Raises:
        ValueError: the number of axis names differs from the number of axes.
    """
    if values.ndim != len(labels.axes):
        raise ValueError(
            tr(
                "{n_axes} axis names were given for a tensor of shape {shape}: expected "
                "one name per axis",
                n_axes=len(labels.axes),
                shape=tuple(values.shape),
            )
        )
    tensor = values.as_subclass(LabelledTensor)
    tensor.labels = labels
    return tensor


def labels_of(values: Tensor) -> Labels | None:
    """The labels of a tensor; None for a plain tensor."""
    return getattr(values, "labels", None) if isinstance(values, LabelledTensor) else None


def relabelled(values: Tensor, source: Tensor, what: str, axes: Sequence[str]) -> Tensor:
    """Label a result with the layers, head, tokens and model of its source.

    Args:
        values: the result.
        source: the tensor it was computed from.
        what: the quantity, such as "expert load".
        axes: name of each axis of the result.

    Returns:
        The labelled result; a plain tensor if the source has no labels.
    """
    labels = labels_of(source)
    if labels is None:
        return values
    new = Labels(what, tuple(axes), labels.layers, labels.head, labels.tokens, labels.model_name)
    return labelled(values, new)
