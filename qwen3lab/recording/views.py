"""Two ways to look at what was recorded: attention by head, and routing by layer."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.errors import RecordingError

if TYPE_CHECKING:
    import pandas


class AttentionView:
    """Attention patterns of a recording, exact, rendered from rotated queries and keys.

    `attention[layer, head]` is one head's map; layers and heads count from 0, and from the
    end with negative numbers. Where the pattern itself was recorded, because a hook edited
    it or it was asked for, that is what comes back.
    """

    def __init__(self, config: Qwen3Config, activations: Mapping[str, Tensor]) -> None:
        self._config, self._activations = config, activations

    def __repr__(self) -> str:
        layers = self.layers
        held = f"{len(layers)} layers of {self._config.n_heads} heads" if layers else "not recorded"
        return f"attention: {held}; attention[layer, head] renders one map"

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers whose attention was recorded."""
        return tuple(layer for layer in range(self._config.n_layers) if self._has(layer))

    @property
    def some_layers(self) -> tuple[int, ...]:
        """The same, of which there is at least one.

        Raises:
            RecordingError: attention was not recorded.
        """
        return self.layers or (self._layer(0),)

    def _has(self, layer: int) -> bool:
        name = f"blocks.{layer}.attn."
        keys = {f"{name}hook_rot_q", f"{name}hook_rot_k"}
        return keys <= self._activations.keys() or f"{name}hook_pattern" in self._activations

    def __getitem__(self, place: tuple[int, int]) -> Float[Tensor, "query key"]:
        """One head's pattern, float32; rows sum to 1.

        Raises:
            RecordingError: no such layer or head, or attention was not recorded.
        """
        layer, head = place
        heads = range(self._config.n_heads)
        if not -len(heads) <= head < len(heads):
            raise RecordingError(
                f"head {head} does not exist: layer {layer} has heads 0 to {len(heads) - 1}"
            )
        one = slice(heads[head], heads[head] + 1)
        return self._render(self._layer(layer), one, slice(None))[0]

    def pattern(
        self, layer: int, *, queries: slice = slice(None), heads: slice = slice(None)
    ) -> Float[Tensor, "head query key"]:
        """The heads' patterns of a layer, float32; `queries` cuts out rows, `heads` heads.

        Raises:
            RecordingError: no such layer, or attention was not recorded.
        """
        return self._render(self._layer(layer), heads, queries)

    def blocks(
        self, layer: int, *, size: int = 256, heads: slice = slice(None)
    ) -> Iterator[tuple[int, Float[Tensor, "head query key"]]]:
        """A layer's pattern, `size` queries at a time, each with the number of its first.

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


class RoutingView:
    """The routers' logits and choices in every layer that has experts.

    A model without experts has an empty view: no layers, and a `repr` that says so.
    """

    def __init__(
        self, config: Qwen3Config, activations: Mapping[str, Tensor], tokens: list[str]
    ) -> None:
        self._config, self._activations, self._tokens = config, activations, tokens

    def __len__(self) -> int:
        return len(self.layers)

    def __repr__(self) -> str:
        if not self._config.is_moe:
            return "routing: empty, because this model is dense: it has no experts to route to"
        config = self._config
        return (
            f"routing: {len(self)} layers, top {config.n_experts_per_token} "
            f"of {config.n_experts} experts, {len(self._tokens)} tokens"
        )

    @property
    def layers(self) -> tuple[int, ...]:
        """The model's layers with experts; the first axis of what this view gives."""
        return self._config.moe_layers

    @property
    def logits(self) -> Float[Tensor, "layer token expert"]:
        """Router logits before the softmax, float32."""
        return self._stacked("router_logits", self._config.n_experts).float()

    @property
    def experts(self) -> Int[Tensor, "layer token k"]:
        """Chosen experts, best first; -1 for a slot that an edit left empty."""
        return self._stacked("expert_indices", self._config.n_experts_per_token, -1).long()

    @property
    def weights(self) -> Float[Tensor, "layer token k"]:
        """Weights of the chosen experts as applied, best first, float32."""
        return self._stacked("expert_weights", self._config.n_experts_per_token).float()

    def to_pandas(self) -> "pandas.DataFrame":
        """A tidy table: layer, token, token_text, rank, expert, weight; one row per choice."""
        import pandas

        experts, weights = self.experts, self.weights
        sizes = (torch.tensor(self.layers, dtype=torch.long), *map(torch.arange, experts.shape[1:]))
        layer, token, rank = (
            axis.flatten().numpy() for axis in torch.meshgrid(*sizes, indexing="ij")
        )
        table = pandas.DataFrame(
            {
                "layer": layer,
                "token": token,
                "token_text": [self._tokens[index] for index in token],
                "rank": rank,
                "expert": experts.flatten().numpy(),
                "weight": weights.flatten().numpy(),
            }
        )
        return table.query("expert >= 0").reset_index(drop=True)

    def _stacked(self, hook: str, width: int, nothing: int = 0) -> Tensor:
        """One hook of all layers; an edit may have given some of them more slots than others."""
        if not self._config.is_moe:
            return torch.zeros(0, len(self._tokens), width)
        names = [f"blocks.{layer}.mlp.hook_{hook}" for layer in self.layers]
        missing = [name for name in names if name not in self._activations]
        if missing:
            raise RecordingError(
                f"{missing[0]} was not recorded: record again with the routing hooks, "
                "as record() does by default"
            )
        found = [self._activations[name] for name in names]
        widest = max(value.shape[-1] for value in found)
        return torch.stack([F.pad(v, (0, widest - v.shape[-1]), value=nothing) for v in found])
