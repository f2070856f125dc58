"""Views of a recording: attention by head; routing by layer stands in `routing_view`."""

from collections.abc import Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.display import Displayed, Summary, count
from qwen3lab.errors import RecordingError
from qwen3lab.recording.labels import LabelledTensor, Labels, labelled
from qwen3lab.recording.routing_view import LayerRouting, RoutingView

__all__ = ["AttentionView", "LayerRouting", "RoutingView"]


class AttentionView(Displayed):
    """Attention patterns of a recording, exact, rendered from rotated queries and keys.

    `attention[layer, head]` is one head's map; layers and heads count from 0, and from the
    end with negative numbers. A pattern that was recorded itself, because an edit changed it or
    `capture` named it, is returned as recorded.

    Args:
        config: of the model that ran.
        activations: by hook name.
        tokens: text of each token, for the labels of a map.
        model_name: what the model was loaded as, for the labels of a map.
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
        held = f"{count(len(layers), 'layer')} of {self._config.n_heads} heads"
        return Summary(
            "Attention patterns",
            {"recorded": held if layers else "none"},
            note="attention[layer, head] renders one map",
        )

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers whose attention was recorded."""
        return tuple(layer for layer in range(self._config.n_layers) if self._has(layer))

    @property
    def some_layers(self) -> tuple[int, ...]:
        """Layers whose attention was recorded, at least one.

        Raises:
            RecordingError: attention was not recorded.
        """
        return self.layers or (self._layer(0),)

    def _has(self, layer: int) -> bool:
        name = f"blocks.{layer}.attn."
        keys = {f"{name}hook_rot_q", f"{name}hook_rot_k"}
        return keys <= self._activations.keys() or f"{name}hook_pattern" in self._activations

    def __getitem__(self, place: tuple[int, int]) -> Float[LabelledTensor, "query key"]:
        """One head's pattern, float32; rows sum to 1.

        It is a tensor that also has `layer`, `head`, `tokens` and `model_name`.

        Raises:
            RecordingError: no such layer or head, or attention was not recorded.
        """
        layer, head = place
        heads = range(self._config.n_heads)
        if not -len(heads) <= head < len(heads):
            raise RecordingError(
                f"head {head} does not exist: layer {layer} has heads 0 to {len(heads) - 1}"
            )
        layer, head = self._layer(layer), heads[head]
        pattern = self._render(layer, slice(head, head + 1), slice(None))[0]
        tokens = tuple(self._tokens)
        return labelled(
            pattern,
            Labels("attention", ("query", "key"), (layer,), head, tokens, self._model_name),
        )

    def pattern(
        self, layer: int, *, queries: slice = slice(None), heads: slice = slice(None)
    ) -> Float[Tensor, "head query key"]:
        """The patterns of a layer's heads, float32; `queries` and `heads` select some of them.

        Raises:
            RecordingError: no such layer, or attention was not recorded.
        """
        return self._render(self._layer(layer), heads, queries)

    def blocks(
        self, layer: int, *, size: int = 256, heads: slice = slice(None)
    ) -> Iterator[tuple[int, Float[Tensor, "head query key"]]]:
        """A layer's pattern in blocks of `size` queries, each with the position of its first query.

        For statistics over long recordings: memory stays linear in the tokens.
        """
        layer = self._layer(layer)
        for start in range(0, self._n_tokens(layer), size):
            yield start, self._render(layer, heads, slice(start, start + size))

    def _layer(self, layer: int) -> int:
        layers = range(self._config.n_layers)
        if not -len(layers) <= layer < len(layers):
            raise RecordingError(
                f"layer {layer} does not exist: the model has layers 0 to {len(layers) - 1}"
            )
        if not self._has(layers[layer]):
            raise RecordingError(
                f"attention of layer {layers[layer]} was not recorded: record again with "
                "the hooks hook_rot_q and hook_rot_k, as record() does by default"
            )
        return layers[layer]

    def _n_tokens(self, layer: int) -> int:
        name = f"blocks.{layer}.attn.hook_"
        if f"{name}pattern" in self._activations:
            return self._activations[f"{name}pattern"].shape[1]
        return self._activations[f"{name}rot_q"].shape[0]

    def _render(self, layer: int, heads: slice, queries: slice) -> Float[Tensor, "head query key"]:
        name = f"blocks.{layer}.attn.hook_"
        if f"{name}pattern" in self._activations:
            return self._activations[f"{name}pattern"][heads, queries].float()
        q, k = self._activations[f"{name}rot_q"], self._activations[f"{name}rot_k"]
        n, group = len(q), q.shape[1] // k.shape[1]
        rows, chosen = torch.arange(n)[queries], range(q.shape[1])[heads]
        # No query looks beyond itself: later keys are not multiplied at all.
        end = int(rows.max()) + 1 if len(rows) else 0
        keys = k[:end, [head // group for head in chosen]].float()
        asked = q[queries, heads].float() * self._config.d_head**-0.5
        scores = einsum(asked, keys, "query head d_head, key head d_head -> head query key")
        # Only keys after the first of these queries can be later than one of them.
        first = int(rows.min()) + 1 if len(rows) else 0
        later = torch.arange(first, end) > rows[:, None]
        scores[..., first:].masked_fill_(later, -torch.inf)
        return F.pad(torch.softmax(scores, dim=-1), (0, n - end))
