"""Weights of 8 or 4 bits, for models that nearly fit: what is kept, and how it multiplies.

The matrices of attention, MLPs and experts are quantised. Routers, norms and embeddings, which
are small or decide much, stay as they are. `torchao` chooses scales and rounds; torch's own
kernels multiply where they are quick, and elsewhere a matrix is made whole for as long as a
product takes.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from tqdm.auto import tqdm

from qwen3lab.config import Qwen3Config
from qwen3lab.filling import assembled, assign, plan
from qwen3lab.model import Experts, Qwen3, swiglu
from qwen3lab.packing import packed, unpacked
from qwen3lab.weights import CheckpointError, Source

GROUP = 32
"""Neighbours in a row that share a scale and a zero, where there are 4 bits."""
FEW = 16
"""Rows up to which a product with 8-bit weights is quicker than making them whole (measured)."""
MANY = 128
"""The same of 4 bits, which take longer to make whole."""
PATIENCE = 2.0
"""Seconds until a progress bar shows."""


class Packed(nn.Module):
    """Matrices of one shape, quantised.

    Args:
        shape: how many there are, and their rows and columns.
        device: where they are kept.
        dtype: in which they multiply.

    Attributes:
        lost: sum of squares of what rounding changed.
        total: sum of squares of the weights as they were.
    """

    kind: str

    def __init__(
        self, shape: tuple[int, int, int], device: torch.device, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.shape, self.device, self.dtype = shape, device, dtype
        self.lost, self.total = 0.0, 0.0

    @torch.no_grad()
    def put(self, which: int, matrix: Float[Tensor, "row column"]) -> None:
        """Quantise a matrix and keep it as number `which`."""
        self._pack(which, matrix)
        self.lost += float((self.whole(which) - matrix).float().square().sum())
        self.total += float(matrix.float().square().sum())

    def times(self, x: Float[Tensor, "place column"], which: int = 0) -> Float[Tensor, "place row"]:
        """The product of rows of `x` and a matrix, as of a linear layer."""
        return F.linear(x, self.whole(which))

    def whole(self, which: int = 0) -> Float[Tensor, "row column"]:
        """A matrix as it multiplies."""
        raise NotImplementedError

    def _pack(self, which: int, matrix: Float[Tensor, "row column"]) -> None:
        """Round a matrix and keep it."""
        raise NotImplementedError

    def _room(self, name: str, *shape: int, dtype: torch.dtype) -> Tensor:
        """A buffer for all matrices; not saved with a model, since no format holds it."""
        room = torch.empty(self.shape[0], *shape, device=self.device, dtype=dtype)
        self.register_buffer(name, room, persistent=False)
        return room


class Int8(Packed):
    """Eight bits for each weight, and a scale for each row: `w = q * scale`, |q| at most 127."""

    kind = "int8"

    def __init__(
        self, shape: tuple[int, int, int], device: torch.device, dtype: torch.dtype
    ) -> None:
        super().__init__(shape, device, dtype)
        self.q = self._room("q", *shape[1:], dtype=torch.int8)
        self.scale = self._room("scale", shape[1], dtype=dtype)

    def times(self, x: Float[Tensor, "place column"], which: int = 0) -> Float[Tensor, "place row"]:
        if len(x) <= FEW and _has_kernels(x):
            return torch.ops.aten._weight_int8pack_mm(x, self.q[which], self.scale[which])
        return super().times(x, which)

    def whole(self, which: int = 0) -> Float[Tensor, "row column"]:
        return self.q[which].to(self.dtype) * self.scale[which, :, None]

    def _pack(self, which: int, matrix: Float[Tensor, "row column"]) -> None:
        block, ao = (1, self.shape[2]), _torchao()
        symmetric = ao.MappingType.SYMMETRIC
        limits = {"quant_min": -127, "quant_max": 127}
        options = {"eps": _least_scale(self.dtype), "scale_dtype": torch.float32, **limits}
        scale, nought = ao.choose_qparams_affine(matrix, symmetric, block, torch.int8, **options)
        self.scale[which] = scale
        # Rounded with the scale as it is kept, which has fewer bits.
        kept = self.scale[which].float()
        self.q[which] = ao.quantize_affine(matrix, block, kept, nought, torch.int8, **limits)


class Int4(Packed):
    """Four bits for each weight, a scale and a zero for each group: `w = (q - 8) * scale + zero`.

    Two neighbours share a byte, the first in its lower half.
    """

    kind = "int4"

    def __init__(
        self, shape: tuple[int, int, int], device: torch.device, dtype: torch.dtype
    ) -> None:
        super().__init__(shape, device, dtype)
        _, rows, columns = shape
        self.q = self._room("q", rows, columns // 2, dtype=torch.uint8)
        # Groups first, then rows: as torch's kernel wants them.
        self.scale_zero = self._room("scale_zero", columns // GROUP, rows, 2, dtype=dtype)

    def whole(self, which: int = 0) -> Float[Tensor, "row column"]:
        q = self._numbers(which).unflatten(-1, (-1, GROUP)).float()
        spread = "group row both -> both row group 1"
        scale, zero = rearrange(self.scale_zero[which], spread).float()
        return q.mul_(scale).add_(zero - 8 * scale).to(self.dtype).flatten(1)

    def _pack(self, which: int, matrix: Float[Tensor, "row column"]) -> None:
        block, ao = (1, GROUP), _torchao()
        limits = {"quant_min": 0, "quant_max": 15}
        options = {"eps": _least_scale(self.dtype), "scale_dtype": torch.float32, **limits}
        chosen = ao.choose_qparams_affine(
            matrix, ao.MappingType.ASYMMETRIC, block, torch.int32, keepdim=True, **options
        )
        # One number for each group of a row, also where a row is one group.
        scale, nought = (found.reshape(len(matrix), -1) for found in chosen)
        q = ao.quantize_affine(matrix, block, scale, nought, torch.int32, **limits)
        zero = (8 - nought) * scale
        self.scale_zero[which] = torch.stack([scale, zero], dim=-1).transpose(0, 1)
        self._keep(which, q)

    def _numbers(self, which: int) -> UInt8[Tensor, "row column"]:
        """What is kept of each weight, from 0 to 15."""
        return torch.stack([self.q[which] & 15, self.q[which] >> 4], dim=-1).flatten(1)

    def _keep(self, which: int, q: Int[Tensor, "row column"]) -> None:
        first, second = q.to(torch.uint8).unflatten(-1, (-1, 2)).unbind(dim=-1)
        self.q[which] = first | second << 4


class Int4ForCpu(Int4):
    """The same, in the order in which torch's kernel for CPUs reads it."""

    def times(self, x: Float[Tensor, "place column"], which: int = 0) -> Float[Tensor, "place row"]:
        if len(x) > MANY or not _has_kernels(x):
            return super().times(x, which)
        scales = self.scale_zero[which]
        return torch.ops.aten._weight_int4pack_mm_for_cpu(x, self.q[which], GROUP, scales)

    def _numbers(self, which: int) -> UInt8[Tensor, "row column"]:
        return unpacked(self.q[which])

    def _keep(self, which: int, q: Int[Tensor, "row column"]) -> None:
        self.q[which] = packed(q)


KINDS: dict[str, type[Packed]] = {"int8": Int8, "int4": Int4}


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

    def __init__(self, config: Qwen3Config, layer: int, whole: Experts, pack: "Pack") -> None:
        super().__init__(config, layer, device="meta")
        self.router = whole.router
        gate_up, down = whole.gate_up, whole.down
        del self.gate_up, self.down
        # Cast: all that `Experts` asks of them elsewhere is their shape.
        self.gate_up = cast(nn.Parameter, pack(gate_up))
        self.down = cast(nn.Parameter, pack(down))

    def pays_to_pad(self, load: Int[Tensor, " expert"]) -> bool:
        """Never: all experts would have to be whole at once."""
        return False

    def can_group(self, x: Float[Tensor, "token d_model"], n_slots: int) -> bool:
        """Never, for the same reason."""
        return False

    def adds_up(self, experts: Int[Tensor, "token k"]) -> bool:
        """Never: it takes matrices that are whole."""
        return False

    def run_one_by_one(
        self,
        x: Float[Tensor, "token d_model"],
        sources: Int[Tensor, " slot"],
        load: Int[Tensor, " expert"],
    ) -> Float[Tensor, "slot d_model"]:
        gate_up, down = cast(Packed, self.gate_up), cast(Packed, self.down)
        groups = enumerate(x.index_select(0, sources).split(load.tolist()))
        hidden = ((e, swiglu(gate_up.times(group, e))) for e, group in groups if len(group))
        return torch.cat([down.times(found, e) for e, found in hidden])


Pack = Callable[[Float[Tensor, "*n row column"]], Packed]


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
def quantised_model(
    config: Qwen3Config,
    weights: Source,
    kind: str,
    *,
    device: torch.device | str,
    dtype: torch.dtype,
    source: str,
) -> Qwen3:
    """A model that is quantised block by block while it is read.

    One block at a time is there in full, so the peak is little above what stays.

    Args:
        config: its sizes.
        weights: the checkpoint.
        kind: "int8" or "int4".
        device: where it runs.
        dtype: in which it computes.
        source: what to call the checkpoint in an error.

    Raises:
        CheckpointError: as `quantise` and `plan` say.
    """
    packer(kind)
    model = Qwen3(config, device="meta")
    parts = plan(model, weights, source)
    names = dict(model.named_parameters())

    def fill(prefix: str, *, inside: bool) -> None:
        for name, like in names.items():
            if name.startswith("blocks.") == inside and name.startswith(prefix):
                assign(model, name, assembled(weights, parts[name], like, device, dtype))

    fill("", inside=False)
    bar = tqdm(range(config.n_layers), unit="layer", desc=kind, delay=PATIENCE, leave=False)
    for layer in bar:
        fill(f"blocks.{layer}.", inside=True)
        quantise(model, kind, blocks=[layer])
    return model.requires_grad_(False)


def packer(kind: str) -> Pack:
    """What packs a matrix, or a stack of them, in one of the `KINDS`.

    Raises:
        CheckpointError: an unknown kind, or torchao is missing.
    """
    if kind not in KINDS:
        raise CheckpointError(f"quantise is {kind!r}: choose from {', '.join(KINDS)}")
    _torchao()

    def pack(whole: Float[Tensor, "*n row column"]) -> Packed:
        stack = whole.detach()[None] if whole.ndim == 2 else whole.detach()
        n, rows, columns = stack.shape
        if kind == "int4" and columns % GROUP:
            raise CheckpointError(
                f"a matrix of {columns} columns does not go into groups of {GROUP}, which share a "
                "scale in int4: choose int8"
            )
        ordered = kind == "int4" and _has_kernels(stack) and rows % 16 == 0
        made = (Int4ForCpu if ordered else KINDS[kind])(
            (n, rows, columns), stack.device, stack.dtype
        )
        for which, matrix in enumerate(stack):
            made.put(which, matrix)
        return made

    return pack


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


def _has_kernels(x: Tensor) -> bool:
    """Torch multiplies by packed weights quickly on CPUs, in bfloat16, without a gradient."""
    return x.device.type == "cpu" and x.dtype == torch.bfloat16 and not x.requires_grad


def _least_scale(dtype: torch.dtype) -> float:
    """So that rows of zeros have a scale, too."""
    return torch.finfo(dtype).tiny


def _torchao() -> Any:
    # It warns of extensions of its own that are built for another machine, and not needed.
    logging.disable(logging.WARNING)
    try:
        return import_module("torchao.quantization.quant_primitives")
    except ImportError as error:
        raise CheckpointError(
            "quantised weights need torchao, which is not installed: "
            "run pip install 'qwen3lab[quantised]'"
        ) from error
    finally:
        logging.disable(logging.NOTSET)
