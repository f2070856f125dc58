"""A made-up attention sink, for models that have learned none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from jaxtyping import Float
from torch import Tensor

from qwen3lab.arguments import check_fields
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.errors import HookError
from qwen3lab.hooks.edits import Edit
from qwen3lab.translation import tr


@dataclass(frozen=True)
class MadeUpSink:
    """An intervention that makes the first token of every prompt an attention sink.

    It adds a constant to the score of the first token, in all heads of the layers. The weight of
    that token, before the row is normalised, is multiplied by the exponential of the constant.

    Attributes:
        nats: the constant.
        layers: that have the sink; None for all.

    Raises:
        ValueError: a value of another type.
    """

    nats: float = 4.0
    layers: Sequence[int] | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    def edits(self, config: Qwen3Config, padding: Sequence[int]) -> Mapping[str, Edit]:
        """The edits of one run, by hook name.

        Raises:
            HookError: the model has no such layer.
        """
        layers = range(config.n_layers) if self.layers is None else self.layers
        for layer in layers:
            if not -config.n_layers <= layer < config.n_layers:
                raise HookError(
                    tr(
                        "layer {layer} does not exist: the model has layers 0 to {last}",
                        layer=layer,
                        last=config.n_layers - 1,
                    )
                )
        edit = partial(_raise_first, nats=self.nats, padding=tuple(padding))
        return {f"blocks.{layer % config.n_layers}.attn.hook_attn_scores": edit for layer in layers}


def _raise_first(
    scores: Float[Tensor, "batch head query key"], name: str, *, nats: float, padding: Sequence[int]
) -> Float[Tensor, "batch head query key"]:
    for row, first in enumerate(padding):
        scores[row, :, :, first] += nats
    return scores
