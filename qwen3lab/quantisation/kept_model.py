"""Models whose matrices stay packed as their checkpoint stores them.

A matrix is decoded for the duration of one product, so the weights are those of the model that is
decoded on the way in, to the bit. On a CPU, four-bit integers in groups are multiplied in bfloat16
by torch's int4 kernel instead, whose scales and offsets are rounded to bfloat16.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from qwen3lab.checkpoints.formats.packed_format import Grouped
from qwen3lab.checkpoints.packed_tensors import PackedSource, PackedTensor
from qwen3lab.checkpoints.tensor_names import EXPERT_MATRICES, StoredPart
from qwen3lab.checkpoints.tensor_plan import assign, copy_parts, plan_tensors
from qwen3lab.checkpoints.value_range import ValueRange
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.device.grad_mode import without_grad
from qwen3lab.device.malloc import give_back
from qwen3lab.errors import CheckpointError
from qwen3lab.model.transformer import Qwen3
from qwen3lab.quantisation.packed_matrices import Int4ForCpu, PackedMatrices, fits_int4_kernel
from qwen3lab.quantisation.quantised_model import PROGRESS_DELAY_SECONDS, replace_matrices
from qwen3lab.translation import tr

KEEP = "keep"
"""The value of `load(quantise=)` that keeps weights packed."""
KERNEL_GROUPS = (32, 64, 128, 256)
"""Inputs in a group, of which torch's int4 kernel for CPUs knows these."""
Pieces = Sequence[PackedTensor]
"""The stored matrices whose rows make up one matrix of the model, in order."""


class Kept(PackedMatrices):
    """Matrices as they are stored, decoded for each product."""

    kind = "kept"

    def __init__(
        self, shape: tuple[int, int, int], device: torch.device, dtype: torch.dtype
    ) -> None:
        super().__init__(shape, device, dtype)
        self._pieces: list[list[tuple[PackedTensor, Mapping[str, str]]]] = []

    def keep(self, pieces: Pieces) -> None:
        """Append a matrix."""
        held = []
        for piece in pieces:
            names = {}
            for part, value in piece.parts.items():
                names[part] = f"m{len(self._pieces)}_{len(held)}_{part.replace('.', '_')}"
                self.register_buffer(names[part], value.to(self.device), persistent=False)
            held.append((PackedTensor({}, piece.decode, piece.grouped), names))
        self._pieces.append(held)

    def dequantise(self, index: int = 0) -> Float[Tensor, "row column"]:
        decoded = [
            piece.decode({part: self.get_buffer(name) for part, name in names.items()})
            for piece, names in self._pieces[index]
        ]
        return (decoded[0] if len(decoded) == 1 else torch.cat(decoded)).to(self.dtype)


class KeptForCpu(Int4ForCpu):
    """Four-bit integers as they are stored, in the layout of torch's kernel for CPUs."""

    kind = "kept"

    def keep(self, index: int, pieces: Sequence[Grouped]) -> None:
        """Store a matrix as number `index`."""
        self._store_values(index, torch.cat([piece.q for piece in pieces]).int())
        scale, offset = (
            torch.cat([getattr(piece, name) for piece in pieces]) for name in ("scale", "offset")
        )
        # The kernel adds (q - 8) * scale and the second number.
        self.scale_zero[index] = torch.stack([scale, offset + 8 * scale], dim=-1).transpose(0, 1)


@without_grad
def open_kept(
    config: Qwen3Config,
    weights: PackedSource,
    *,
    device: torch.device | str,
    dtype: torch.dtype,
    source: str,
) -> Qwen3:
    """Read a model and leave the matrices inside its blocks packed.

    Every matrix is decoded once, to check it.

    Args:
        config: of the model.
        weights: the checkpoint.
        device: of the model.
        dtype: of the activations, and of the weights that are not packed.
        source: name of the checkpoint, for error messages.

    Raises:
        CheckpointError: see `plan_tensors`; a value is NaN or infinite; no matrix inside the blocks
            is packed in a way that can be kept.
    """
    model = Qwen3(config, device="meta")
    planned = plan_tensors(model, weights, source)
    device, kept = torch.device(device), 0

    def pack(name: str, like: Tensor) -> PackedMatrices | None:
        nonlocal kept
        prefix = name.rpartition(".mlp.")[0] if like.ndim == 3 else ""
        names = [f"{prefix}.{inner}" for inner in EXPERT_MATRICES] if prefix else [name]
        if not any(_is_packed(weights, part) for each in names for part in planned[each]):
            return None
        kept += 1
        matrices = _matrices(weights, planned[name], like)
        return _kept(matrices, tuple(like.shape[-2:]), device, dtype, (name, source))

    layers = range(config.n_layers)
    for layer in tqdm(
        layers, unit=tr("layer"), desc=KEEP, delay=PROGRESS_DELAY_SECONDS, leave=False
    ):
        replace_matrices(model, pack, blocks=[layer])
        give_back()
    if not kept:
        raise CheckpointError(
            f"{source} holds {weights.described}, and none of it can stay packed: load it without "
            'quantise="keep"'
        )
    for name, like in list(model.named_parameters()):
        out = torch.empty(like.shape, device=device, dtype=dtype)
        assign(model, name, copy_parts(weights, planned[name], out))
    return model.requires_grad_(False)


def _is_packed(weights: PackedSource, part: StoredPart) -> bool:
    return weights.packed_bytes(part.name) is not None


def _matrices(weights: PackedSource, parts: Sequence[StoredPart], like: Tensor) -> list[Pieces]:
    """For each matrix of a parameter, its stored pieces."""
    n = len(like) if like.ndim == 3 else 1
    if len(parts) % n:  # All experts in one tensor.
        stacked = weights.tensor(parts[0].name)
        return [[_plain(matrix)] for matrix in stacked]
    held = [weights.packed(part) or _plain(_floats(weights, part)) for part in parts]
    size = len(parts) // n
    return [held[first : first + size] for first in range(0, len(held), size)]


def _floats(weights: PackedSource, part: StoredPart) -> Tensor:
    whole = weights.tensor(part.name)
    return whole if part.entry is None else whole[part.entry]


def _plain(matrix: Tensor) -> PackedTensor:
    """A matrix that is stored as floats, beside packed ones."""
    return PackedTensor({"weight": matrix}, _as_float32, _not_grouped)


def _as_float32(parts: Mapping[str, Tensor]) -> Tensor:
    return parts["weight"].float()


def _not_grouped(parts: Mapping[str, Tensor]) -> None:
    return None


def _kept(
    matrices: Sequence[Pieces],
    shape: tuple[int, ...],
    device: torch.device,
    dtype: torch.dtype,
    called: tuple[str, str],
) -> PackedMatrices:
    """Matrices of one shape; `called` are the names of parameter and checkpoint, for errors."""
    full = len(matrices), shape[0], shape[1]
    if fits_int4_kernel(full, device, dtype):
        for_cpu = _for_cpu(matrices, full, dtype, called)
        if for_cpu is not None:
            return for_cpu
    kept = Kept(full, device, dtype)
    for pieces in matrices:
        kept.squared_norm += float(_decoded(pieces, dtype, called).square().sum())
        kept.keep(pieces)
    return kept


def _for_cpu(
    matrices: Sequence[Pieces],
    shape: tuple[int, int, int],
    dtype: torch.dtype,
    called: tuple[str, str],
) -> KeptForCpu | None:
    """The matrices in the layout of the kernel; None if it does not take one of them."""
    found: KeptForCpu | None = None
    for index, pieces in enumerate(matrices):
        groups = [group for piece in pieces if (group := piece.grouped(piece.parts)) is not None]
        sizes = {group.size for group in groups}
        if len(groups) < len(pieces) or len(sizes) > 1 or not sizes <= set(KERNEL_GROUPS):
            return None
        if found is None:
            found = KeptForCpu(shape, torch.device("cpu"), dtype, sizes.pop())
        elif sizes != {found.group_size}:
            return None
        decoded = _decoded(pieces, dtype, called)
        found.keep(index, groups)
        lost = found.dequantise(index).float() - decoded.to(dtype).float()
        found.squared_error += float(lost.square().sum())
        found.squared_norm += float(decoded.square().sum())
    return found


def _decoded(pieces: Pieces, dtype: torch.dtype, called: tuple[str, str]) -> Tensor:
    """A matrix in float32; raises `CheckpointError` for a value that is NaN or infinite."""
    decoded = torch.cat([piece.decode(piece.parts) for piece in pieces])
    found = ValueRange(*called)
    found.add(decoded)
    found.warn_beyond(dtype)
    return decoded
