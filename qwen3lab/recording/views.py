"""Views of a recording: attention by head, and routing by layer (from `routing_view`)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import SupportsIndex

import torch
import torch.nn.functional as F
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.display import Displayed, Summary
from qwen3lab.errors import RecordingError
from qwen3lab.recording.indices import index_of, whole_number, whole_slice
from qwen3lab.recording.labels import LabelledTensor, Labels, labelled
from qwen3lab.recording.routing_view import LayerRouting, RoutingView
from qwen3lab.translation import tr, tr_count

__all__ = ["AttentionView", "LayerRouting", "RoutingView"]


class AttentionView(Displayed):
    """Attention patterns of a recording, computed exactly from the rotated queries and keys.

    `attention[layer, head]` is the pattern of one head; layers and heads count from 0, negative
    numbers from the end. If the pattern itself was recorded, because an edit changed it or
    `capture` named it, the recorded pattern is returned.

    Args:
        config: of the model that ran.
        activations: by hook name.
        tokens: text of each token, for the labels of a pattern.
        model_name: name or path that the model was loaded from, for the labels of a pattern.
    """

    def __init__(
        self,
        config: Qwen3Config,
        activations: Mapping[str, Tensor],
        tokens: Sequence[str] = (),
        model_name: str = "",
    ) -> None:
        self._config, self._activations = config, activations
        self._tokens, self._model_name = tokens, model_name

    def _summary(self) -> Summary:
        layers = self.layers
        recorded = tr(
            "{counted} of {n_heads} heads",
            counted=tr_count("{n:,} layer", "{n:,} layers", len(layers)),
            n_heads=self._config.n_heads,
        )
        return Summary(
            tr("Attention patterns"),
            {tr("recorded"): recorded if layers else tr("none")},
            note=tr("attention[layer, head] is the pattern of one head"),
        )

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers whose attention was recorded."""
        return tuple(layer for layer in range(self._config.n_layers) if self._has(layer))

    @property
    def some_layers(self) -> tuple[int, ...]:
        """Layers whose attention was recorded; an error if there are none.

        Raises:
            RecordingError: attention was not recorded.
        """
        return self.layers or (self._layer(0),)

    def _has(self, layer: int) -> bool:
        name = f"blocks.{layer}.attn."
        keys = {f"{name}hook_rot_q", f"{name}hook_rot_k"}
        return keys <= self._activations.keys() or f"{name}hook_pattern" in self._activations

    def __getitem__(
        self, index: tuple[SupportsIndex, SupportsIndex]
    ) -> Float[LabelledTensor, "query key"]:
        """The pattern of one head, float32; rows sum to 1.

        Returns:
            A tensor that also has the attributes `layer`, `head`, `tokens` and `model_name`.

        Raises:
            RecordingError: the layer or head does not exist, or attention was not recorded.
        """
        if not isinstance(index, tuple) or len(index) != 2:
            raise RecordingError(
                tr(
                    "attention takes two integers, attention[layer, head]: "
                    "attention.pattern(layer) returns all heads of a layer"
                )
            )
        layer = index_of(index[0], self._config.n_layers, "layer", tr("the model"))
        head = index_of(index[1], self._config.n_heads, "head", f"layer {layer}")
        layer = self._layer(layer)
        pattern = self._compute(self._stored(layer), slice(head, head + 1), slice(None))[0]
        tokens = tuple(self._tokens)
        return labelled(
            pattern,
            Labels("attention", ("query", "key"), (layer,), head, tokens, self._model_name),
        )

    def pattern(
        self, layer: SupportsIndex, *, queries: slice = slice(None), heads: slice = slice(None)
    ) -> Float[Tensor, "head query key"]:
        """The patterns of a layer's heads, float32; `queries` and `heads` select some of them.

        Raises:
            RecordingError: the layer does not exist, or attention was not recorded; or `queries`
                or `heads` is no slice of integers with a positive step.
        """
        queries, heads = whole_slice(queries, "queries"), whole_slice(heads, "heads")
        return self._compute(self._stored(self._layer(layer)), heads, queries)

    def blocks(
        self, layer: SupportsIndex, *, size: int = 256, heads: slice = slice(None)
    ) -> Iterator[tuple[int, Float[Tensor, "head query key"]]]:
        """A layer's pattern in blocks of `size` queries, each with the position of its first query.

        Use it for statistics over long recordings: memory stays linear in the tokens.

        Raises:
            RecordingError: as in `pattern`, or `size` is not an integer of 1 or more.
        """
        layer, heads, size = (
            self._layer(layer),
            whole_slice(heads, "heads"),
            whole_number(size, "size"),
        )
        if size < 1:
            raise RecordingError(
                tr("size is {size}: expected 1 query or more in a block", size=size)
            )
        # Read once, as activations on disk are read and checked on each access.
        stored = self._stored(layer)
        n_tokens = stored[0].shape[1 if len(stored) == 1 else 0]
        return (
            (start, self._compute(stored, heads, slice(start, start + size)))
            for start in range(0, n_tokens, size)
        )

    def _layer(self, layer: SupportsIndex) -> int:
        number = index_of(layer, self._config.n_layers, "layer", tr("the model"))
        if not self._has(number):
            raise RecordingError(
                tr(
                    "attention of layer {number} was not recorded: record again with the "
                    "hooks hook_rot_q and hook_rot_k, which record() includes by default",
                    number=number,
                )
            )
        return number

    def _stored(self, layer: int) -> tuple[Tensor, ...]:
        """The recorded pattern of a layer, or else its rotated queries and keys."""
        name = f"blocks.{layer}.attn.hook_"
        if f"{name}pattern" in self._activations:
            return (self._activations[f"{name}pattern"],)
        return self._activations[f"{name}rot_q"], self._activations[f"{name}rot_k"]

    def _compute(
        self, stored: tuple[Tensor, ...], heads: slice, queries: slice
    ) -> Float[Tensor, "head query key"]:
        if len(stored) == 1:
            return stored[0][heads, queries].to(torch.float32, copy=True)
        q, k = stored
        n, group_size = len(q), q.shape[1] // k.shape[1]
        rows, selected = torch.arange(n)[queries], range(q.shape[1])[heads]
        # Causal attention: keys after the last query are not needed.
        end = int(rows.max()) + 1 if len(rows) else 0
        keys = k[:end, [head // group_size for head in selected]].float()
        scaled_q = q[queries, heads].float() * self._config.d_head**-0.5
        scores = einsum(scaled_q, keys, "query head d_head, key head d_head -> head query key")
        # Mask only from the first query on: earlier keys are visible to all queries.
        first = int(rows.min()) + 1 if len(rows) else 0
        is_later = torch.arange(first, end) > rows[:, None]
        scores[..., first:].masked_fill_(is_later, -torch.inf)
        return F.pad(torch.softmax(scores, dim=-1), (0, n - end))
