"""Models of few bits, for those that nearly fit.

The matrices of attention, MLPs and experts are quantised. Routers, norms and embeddings, which
are small or decide much, stay as they are.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm.auto import tqdm

from qwen3lab.checkpoints.safetensors_reader import CheckpointReader
from qwen3lab.checkpoints.tensor_plan import assign, copy_parts, plan_tensors
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.device.malloc import give_back
from qwen3lab.model.transformer import Experts, Product, Qwen3
from qwen3lab.quantisation.packed_matrices import Pack, Packed, packer

PATIENCE = 2.0
"""Seconds until a progress bar shows."""


class QuantisedLinear(nn.Module):
    """A linear layer without bias whose matrix is quantised."""

    def __init__(self, packed: Packed) -> None:
        super().__init__()
        self.packed = packed

    @property
    def weight(self) -> Float[Tensor, "row column"]:
        """The matrix, made whole."""
        return self.packed.whole()

    def forward(self, x: Float[Tensor, "*any column"]) -> Float[Tensor, "*any row"]:
        out = self.packed.times(x.reshape(-1, x.shape[-1]))
        return out.unflatten(0, x.shape[:-1])


class QuantisedExperts(Experts):
    """Experts whose matrices are quantised; those alone that tokens were sent to are used."""

    at_hand = False

    def __init__(self, config: Qwen3Config, layer: int, whole: Experts, pack: Pack) -> None:
        super().__init__(config, layer, device="meta")
        self.router = whole.router
        gate_up, down = whole.gate_up, whole.down
        del self.gate_up, self.down
        # Cast: all that `Experts` asks of them elsewhere is their shape.
        self.gate_up = cast(nn.Parameter, pack(gate_up))
        self.down = cast(nn.Parameter, pack(down))

    def products(self, experts: list[int]) -> Iterator[tuple[Product, Product]]:
        """Products with the matrices of some experts, whose bits stay few."""
        gate_up, down = cast(Packed, self.gate_up), cast(Packed, self.down)
        return ((partial(gate_up.times, which=e), partial(down.times, which=e)) for e in experts)


def quantise(model: Qwen3, kind: str, *, blocks: Iterable[int] | None = None) -> None:
    """Quantise a model's blocks where they are.

    Args:
        model: whose weights are there in full.
        kind: "int8" or "int4".
        blocks: numbers of those to quantise; all if None.

    Raises:
        CheckpointError: an unknown kind, torchao is missing, or a matrix has a number of columns
            that does not go into groups.
    """
    pack = packer(kind)
    for layer in range(model.config.n_layers) if blocks is None else blocks:
        block: Any = model.blocks[layer]
        for name, module in list(block.named_modules()):
            if isinstance(module, Experts):
                block.set_submodule(name, QuantisedExperts(model.config, layer, module, pack))
            elif isinstance(module, nn.Linear) and not name.endswith("router"):
                block.set_submodule(name, QuantisedLinear(pack(module.weight)))


@torch.no_grad()
def open_quantised(
    config: Qwen3Config,
    weights: CheckpointReader,
    kind: str,
    *,
    device: torch.device | str,
    dtype: torch.dtype,
    source: str,
) -> Qwen3:
    """A model that is quantised block by block while it is read.

    One block at a time is there in full, in memory of its own: what comes on top of what stays
    is a block, and of the files 16 MiB at a time.

    Args:
        config: its sizes.
        weights: the checkpoint.
        kind: "int8" or "int4".
        device: where it runs.
        dtype: in which it computes.
        source: what to call the checkpoint in an error.

    Raises:
        CheckpointError: as `quantise` and `plan_tensors` say.
    """
    packer(kind)
    model = Qwen3(config, device="meta")
    parts = plan_tensors(model, weights, source)
    names = dict(model.named_parameters())

    def fill(prefix: str, *, inside: bool) -> None:
        for name, like in names.items():
            if name.startswith("blocks.") == inside and name.startswith(prefix):
                room = torch.empty(like.shape, device=device, dtype=dtype)
                assign(model, name, copy_parts(weights, parts[name], room))

    for layer in tqdm(range(config.n_layers), unit="layer", desc=kind, delay=PATIENCE, leave=False):
        fill(f"blocks.{layer}.", inside=True)
        quantise(model, kind, blocks=[layer])
        give_back()
    fill("", inside=False)
    return model.requires_grad_(False)


@dataclass(frozen=True)
class Quantisation:
    """How a model is quantised.

    Attributes:
        kind: "int8" or "int4".
        error: root mean square of what rounding changed, over that of the weights.
    """

    kind: str
    error: float


def quantisation_of(model: Qwen3) -> Quantisation | None:
    """How a model is quantised, and how far off its weights are; None if it is not."""
    parts: Sequence[Packed] = [part for part in model.modules() if isinstance(part, Packed)]
    if not parts:
        return None
    lost, total = sum(part.lost for part in parts), sum(part.total for part in parts)
    return Quantisation(parts[0].kind, (lost / total) ** 0.5 if total else 0.0)
