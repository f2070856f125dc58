"""Views of a recording's routing: router logits, chosen experts and weights by layer."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, SupportsIndex

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.display import Displayed, Summary
from qwen3lab.errors import RecordingError
from qwen3lab.recording.indices import whole_number
from qwen3lab.recording.labels import LabelledTensor, Labels, labelled
from qwen3lab.translation import later, tr

if TYPE_CHECKING:
    import pandas


class LayerRouting(Displayed):
    """The routing of one layer.

    Attributes:
        layer: number of the layer in the model.
        model_name: name or path that the model was loaded from.
        tokens: text of each token.
        n_experts: number of experts in the layer.
    """

    def __init__(
        self,
        layer: int,
        config: Qwen3Config,
        activations: Mapping[str, Tensor],
        tokens: Sequence[str],
        model_name: str,
    ) -> None:
        self.layer, self.model_name, self.tokens = layer, model_name, tuple(tokens)
        self.n_experts, self._activations = config.n_experts, activations

    @property
    def experts(self) -> Int[LabelledTensor, "token k"]:
        """Chosen experts, best first; -1 is a slot that an edit left empty."""
        return self._labelled("expert_indices", later("chosen experts"), "rank")

    @property
    def weights(self) -> Float[LabelledTensor, "token k"]:
        """Weights of the chosen experts as applied, best first, float32."""
        return self._labelled("expert_weights", later("expert weights"), "rank")

    @property
    def logits(self) -> Float[LabelledTensor, "token expert"]:
        """Router logits before the softmax, float32."""
        return self._labelled("router_logits", later("router logits"), "expert")

    def to_pandas(self) -> "pandas.DataFrame":
        """A table with one row per token: token, token_text, then expert and weight by rank."""
        import pandas

        experts, weights = self.experts, self.weights
        columns: dict[str, object] = {"token": range(len(experts)), "token_text": self.tokens}
        for rank in range(experts.shape[1]):
            columns[f"expert {rank}"] = experts[:, rank].numpy()
            columns[f"weight {rank}"] = weights[:, rank].numpy()
        return pandas.DataFrame(columns)

    def _labelled(self, hook: str, what: str, axis: str) -> LabelledTensor:
        values = _routed(self._activations, hook, self.layer)
        kind = torch.float32 if values.is_floating_point() else torch.int64
        values = values.to(kind, copy=True)  # Writing to the copy leaves the recording as it is.
        axes = ("token", axis)
        return labelled(
            values, Labels(what, axes, (self.layer,), None, self.tokens, self.model_name)
        )

    def _summary(self) -> Summary:
        return Summary(
            tr(
                "Routing of layer {layer} · {model_name}",
                layer=self.layer,
                model_name=self.model_name,
            ),
            {tr("tokens"): f"{len(self.tokens):,}", tr("experts"): str(self.n_experts)},
            frame=self.to_pandas,
        )


class RoutingView(Displayed):
    """Router logits, chosen experts and weights of every layer with experts.

    `routing.layer(2)` is the routing of layer 2 of the model. In `experts`, `weights` and `logits`,
    the first axis counts only the layers *with experts*: row 2 is layer `routing.layers[2]`. The
    numbers differ if a model has dense layers. A model without experts has an empty view.

    Args:
        config: of the model that ran.
        activations: by hook name.
        tokens: text of each token.
        model_name: name or path that the model was loaded from.
    """

    def __init__(
        self,
        config: Qwen3Config,
        activations: Mapping[str, Tensor],
        tokens: Sequence[str],
        model_name: str = "",
    ) -> None:
        self._config, self._activations = config, activations
        self._tokens, self._model_name = tokens, model_name

    def __len__(self) -> int:
        return len(self.layers)

    def layer(self, layer: SupportsIndex) -> LayerRouting:
        """The routing of a layer, by its number in the model; negative numbers count from the end.

        Raises:
            RecordingError: the layer does not exist, or has no experts.
        """
        n_layers = self._config.n_layers
        number = whole_number(layer, tr("the layer"))
        number += n_layers if -n_layers <= number < 0 else 0
        if number not in self.layers:
            listed = ", ".join(map(str, self.layers)) or tr("none, because this model is dense")
            raise RecordingError(
                tr(
                    "layer {number} has no experts: the layers with experts are {listed}",
                    number=number,
                    listed=listed,
                )
            )
        return LayerRouting(number, self._config, self._activations, self._tokens, self._model_name)

    def _summary(self) -> Summary:
        if not self._config.is_moe:
            return Summary(
                tr("Routing: empty, because this model is dense: it has no experts to route to")
            )
        config = self._config
        return Summary(
            tr("Routing") + (f" · {self._model_name}" if self._model_name else ""),
            {
                tr("layers with experts"): ", ".join(map(str, self.layers)),
                tr("experts"): tr(
                    "top {n_experts_per_token} of {n_experts}",
                    n_experts_per_token=config.n_experts_per_token,
                    n_experts=config.n_experts,
                ),
                tr("tokens"): f"{len(self._tokens):,}",
            },
            note=tr("routing.layer(n) is the routing of layer n"),
        )

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers with experts, by number in the model; the first axis of `experts` counts these."""
        return self._config.moe_layers

    @property
    def logits(self) -> Float[Tensor, "layer token expert"]:
        """Router logits before the softmax, float32; row i is layer `layers[i]`."""
        return self._stacked("router_logits", self._config.n_experts).float()

    @property
    def experts(self) -> Int[Tensor, "layer token k"]:
        """Chosen experts, best first; -1 is an empty slot. Row i is layer `layers[i]`."""
        return self._stacked("expert_indices", self._config.n_experts_per_token, -1).long()

    @property
    def weights(self) -> Float[Tensor, "layer token k"]:
        """Weights of the chosen experts as applied, best first, float32; row i is `layers[i]`."""
        return self._stacked("expert_weights", self._config.n_experts_per_token).float()

    def to_pandas(self) -> "pandas.DataFrame":
        """A tidy table of chosen experts: layer, token, token_text, rank, expert, weight."""
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

    def _stacked(self, hook: str, width: int, empty: int = 0) -> Tensor:
        """One hook of all layers with experts, padded to the largest k, as an edit may change k."""
        if not self._config.is_moe:
            return torch.zeros(0, len(self._tokens), width)
        values = [_routed(self._activations, hook, layer) for layer in self.layers]
        widest = max(value.shape[-1] for value in values)
        return torch.stack([F.pad(v, (0, widest - v.shape[-1]), value=empty) for v in values])


def _routed(activations: Mapping[str, Tensor], hook: str, layer: int) -> Tensor:
    name = f"blocks.{layer}.mlp.hook_{hook}"
    if name not in activations:
        raise RecordingError(
            tr(
                "{name} was not recorded: record again with the routing hooks, which "
                "record() includes by default",
                name=name,
            )
        )
    return activations[name]
