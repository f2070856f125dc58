"""Models with int8 or int4 weights.

The matrices of attention, MLPs and experts are quantised. Routers, norms and embeddings keep
their precision: they are small, or have a large effect on the output.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm.auto import tqdm

from qwen3lab.checkpoints.safetensors_reader import TensorSource
from qwen3lab.checkpoints.tensor_plan import assign, copy_parts, plan_tensors
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.device.grad_mode import without_grad
from qwen3lab.device.malloc import give_back
from qwen3lab.model.experts import Product
from qwen3lab.model.transformer import Experts, Qwen3
from qwen3lab.quantisation.packed_matrices import PackedMatrices, PackFunction, make_packer
from qwen3lab.translation import tr

PROGRESS_DELAY_SECONDS = 2.0
"""Loading that takes longer shows a progress bar."""


class QuantisedLinear(nn.Module):
    """A linear layer without bias and with a quantised matrix."""

    def __init__(self, packed: PackedMatrices) -> None:
        super().__init__()
        self.packed = packed

    @property
    def weight(self) -> Float[Tensor, "row column"]:
        """The dequantised matrix."""
        return self.packed.dequantise()

    def forward(self, x: Float[Tensor, "*any column"]) -> Float[Tensor, "*any row"]:
        out = self.packed.matmul(x.reshape(-1, x.shape[-1]))
        return out.unflatten(0, x.shape[:-1])


class QuantisedExperts(Experts):
    """Experts with quantised matrices; only experts with tokens are run."""

    stacked = False

    def __init__(
        self,
        config: Qwen3Config,
        layer: int,
        router: nn.Linear,
        gate_up: PackedMatrices,
        down: PackedMatrices,
    ) -> None:
        super().__init__(config, layer, device="meta")
        self.router = router
        del self.gate_up, self.down
        # Cast: `Experts` itself uses only the shapes of these two.
        self.gate_up = cast(nn.Parameter, gate_up)
        self.down = cast(nn.Parameter, down)

    def products(self, experts: list[int]) -> Iterator[tuple[Product, Product]]:
        """For each expert, its two products, computed from the quantised matrices."""
        gate_up, down = cast(PackedMatrices, self.gate_up), cast(PackedMatrices, self.down)
        return ((partial(gate_up.matmul, index=e), partial(down.matmul, index=e)) for e in experts)


def quantise(model: Qwen3, kind: str, *, blocks: Iterable[int] | None = None) -> None:
    """Quantise a model's blocks in place.

    Args:
        model: with weights in full precision.
        kind: "int8" or "int4".
        blocks: numbers of the blocks to quantise; None means all.

    Raises:
        CheckpointError: an unknown kind, torchao is missing, or in int4 a number of columns that
            is not a multiple of the group size.
    """
    pack: PackFunction = make_packer(kind)
    replace_matrices(model, lambda name, matrices: pack(matrices), blocks=blocks)


def replace_matrices(
    model: Qwen3,
    pack: Callable[[str, Tensor], PackedMatrices | None],
    *,
    blocks: Iterable[int] | None = None,
) -> None:
    """Put quantised matrices in place of a model's, block by block.

    Args:
        model: with weights in full precision, or on the meta device.
        pack: makes them, from the name of a parameter and the matrix, or the stack of matrices;
            None leaves a matrix, or both stacks of a layer, as they are.
        blocks: numbers of the blocks; None means all.
    """
    for layer in range(model.config.n_layers) if blocks is None else blocks:
        block: Any = model.blocks[layer]
        if layer in model.config.moe_layers:
            whole, prefix = block.mlp, f"blocks.{layer}.mlp"
            gate_up = pack(f"{prefix}.gate_up", whole.gate_up)
            down = pack(f"{prefix}.down", whole.down)
            if gate_up is not None and down is not None:
                block.mlp = QuantisedExperts(model.config, layer, whole.router, gate_up, down)
        for name, module in list(block.named_modules()):
            if isinstance(module, nn.Linear) and not name.endswith("router"):
                packed = pack(f"blocks.{layer}.{name}.weight", module.weight)
                if packed is not None:
                    block.set_submodule(name, QuantisedLinear(packed))


@without_grad
def open_quantised(
    config: Qwen3Config,
    weights: TensorSource,
    kind: str,
    *,
    device: torch.device | str,
    dtype: torch.dtype,
    source: str,
) -> Qwen3:
    """Read a model and quantise it block by block.

    Peak memory is the quantised model plus one block in full precision and a read buffer of
    16 MiB.

    Args:
        config: of the model.
        weights: the checkpoint.
        kind: "int8" or "int4".
        device: of the model.
        dtype: of the activations, and of the weights that are not quantised.
        source: name of the checkpoint, for error messages.

    Raises:
        CheckpointError: see `quantise` and `plan_tensors`.
    """
    make_packer(kind)
    model = Qwen3(config, device="meta")
    parts = plan_tensors(model, weights, source)
    names = dict(model.named_parameters())

    def fill(prefix: str, *, inside: bool) -> None:
        for name, like in names.items():
            if name.startswith("blocks.") == inside and name.startswith(prefix):
                out = torch.empty(like.shape, device=device, dtype=dtype)
                assign(model, name, copy_parts(weights, parts[name], out))

    layers = range(config.n_layers)
    for layer in tqdm(
        layers, unit=tr("layer"), desc=kind, delay=PROGRESS_DELAY_SECONDS, leave=False
    ):
        fill(f"blocks.{layer}.", inside=True)
        quantise(model, kind, blocks=[layer])
        give_back()
    fill("", inside=False)
    return model.requires_grad_(False)


@dataclass(frozen=True)
class Quantisation:
    """Kind and error of a model's quantisation.

    Attributes:
        kind: "int8" or "int4", or "kept" for weights that stay as they are stored.
        error: root mean square of the rounding error, relative to that of the weights.
    """

    kind: str
    error: float


def quantisation_of(model: Qwen3) -> Quantisation | None:
    """Kind and error of a model's quantisation; None if the model is not quantised."""
    packed: list[PackedMatrices] = [
        module for module in model.modules() if isinstance(module, PackedMatrices)
    ]
    if not packed:
        return None
    error = sum(matrices.squared_error for matrices in packed)
    norm = sum(matrices.squared_norm for matrices in packed)
    return Quantisation(packed[0].kind, (error / norm) ** 0.5 if norm else 0.0)
