"""A model with adapters beside its weights: a second model that shares them with the first.

Nothing is written to the first model, and nothing is registered on it. Both can run at any time.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from qwen3lab.adapters.changes import Changes, Factors
from qwen3lab.checkpoints.lora import LowRank
from qwen3lab.checkpoints.tensor_names import split_name
from qwen3lab.checkpoints.tensor_plan import assign
from qwen3lab.device.grad_mode import without_grad
from qwen3lab.errors import CheckpointError
from qwen3lab.model.blocks import BlockList, Blocks
from qwen3lab.model.low_rank import AdaptedExperts, AdaptedLinear, RescaledLinear
from qwen3lab.model.transformer import Block, Experts, Qwen3

AnyModule = TypeVar("AnyModule", bound=nn.Module)


@dataclass(frozen=True)
class Weighted:
    """The changes of an adapter and their strength."""

    changes: Changes
    strength: float


@without_grad
def adapted(model: Qwen3, parts: Sequence[Weighted]) -> Qwen3:
    """A model that shares the weights of another, with changes beside them.

    Args:
        model: in memory, streamed or quantised.
        parts: the changes, whose sum is added; those of strength 0 are left out.

    Raises:
        CheckpointError: a quantised matrix would be replaced.
    """
    parts = [each for each in parts if each.strength != 0]
    view = _view(model)
    names = [name for name, _ in Qwen3(model.config, device="meta").named_parameters()]
    for name in names:
        if not split_name(name)[0]:
            _merge(view, name, parts)
    layers: set[int] = set().union(*(each.changes.layers() for each in parts))
    if model.blocks.is_streamed:
        view.blocks = AdaptedBlocks(model.blocks, parts, layers)
    else:
        view.blocks = BlockList(
            _adapted_block(block, layer, model, parts) if layer in layers else block
            for layer, block in enumerate(model.blocks)
        )
    return view.eval()


class AdaptedBlocks(nn.Module):
    """The blocks of a streamed model; each gets its changes while it has its weights.

    Args:
        base: the streamed blocks, which are shared.
        parts: the changes.
        layers: that have changes.
    """

    is_streamed = True

    def __init__(self, base: Blocks[Block], parts: Sequence[Weighted], layers: set[int]) -> None:
        super().__init__()
        self._base, self._parts, self._layers = (base,), parts, layers

    @property
    def config(self) -> Any:
        return cast(Any, self._base[0]).config

    @property
    def kept_bytes(self) -> int:
        """Bytes of weights that are kept in memory between passes."""
        return self._base[0].kept_bytes

    @property
    def bytes_read(self) -> int:
        """Bytes of weights that were read so far."""
        return self._base[0].bytes_read

    @property
    def bytes_used(self) -> int:
        """Bytes of weights that passes asked for so far, read or kept."""
        return self._base[0].bytes_used

    def __len__(self) -> int:
        return len(self._base[0])

    def __iter__(self) -> Iterator[Block]:
        return self.since(0)

    def since(self, first: int) -> Iterator[Block]:
        """The blocks from layer `first` on, in order."""
        with closing(cast(Any, self._base[0].since(first))) as blocks:
            for layer, block in enumerate(blocks, first):
                yield self._adapted(block, layer)

    def __getitem__(self, layer: int) -> Block:
        """A copy of a block with its weights; the matrices of its experts are not loaded."""
        return self._adapted(self._base[0][layer], layer % len(self))

    def file_stamps(self) -> list[str]:
        """The files of the weights, and a digest of the changes."""
        stamps = [f"adapter {each.changes.digest()} {each.strength!r}" for each in self._parts]
        return [*self._base[0].file_stamps(), *stamps]

    @without_grad
    def _adapted(self, block: Block, layer: int) -> Block:
        if layer not in self._layers:
            return block
        return _adapted_block(block, layer, self, self._parts)


def _view(module: AnyModule) -> AnyModule:
    """A module of its own with the same parameters and submodules."""
    view = copy.copy(module)
    for kind in ("_modules", "_parameters", "_buffers"):
        view.__dict__[kind] = dict(module.__dict__[kind])
    return view


def _merge(view: Qwen3, name: str, parts: Sequence[Weighted]) -> None:
    """Give a parameter outside of the blocks its changes; they are few, and read as matrices."""
    value = None
    for each in parts:
        changes, like = each.changes, view.get_parameter(name) if value is None else value
        if name in changes.whole:
            value = _between(like, changes.whole[name], each.strength)
        elif name in changes.matrices:
            value = changes.matrices[name].added(like, each.strength).to(like.dtype)
    if value is not None:
        module = name.partition(".")[0]
        setattr(view, module, _view(getattr(view, module)))
        assign(view, name, value.detach())


def _between(old: Tensor, new: Tensor, strength: float) -> Tensor:
    return new if strength == 1 else (old + strength * (new.float() - old.float())).to(old.dtype)


def _adapted_block(block: Block, layer: int, of: Any, parts: Sequence[Weighted]) -> Block:
    """A block that shares its weights with another, with the changes beside them."""
    view, prefix = _view(block), f"blocks.{layer}."
    view.attn, view.mlp = _view(block.attn), _view(block.mlp)
    linear: dict[str, list[tuple[LowRank, float]]] = {}
    experts: dict[str, list[tuple[Factors, float]]] = {}
    for each in parts:
        for name, value in each.changes.whole.items():
            if name.startswith(prefix):
                _replace(view, name.removeprefix(prefix), value, each.strength)
        for name, found in each.changes.matrices.items():
            if name.startswith(prefix):
                linear.setdefault(name.removeprefix(prefix), []).append((found, each.strength))
        for name, pair in each.changes.experts.items():
            if name.startswith(prefix):
                experts.setdefault(name.rpartition(".")[2], []).append((pair, each.strength))
    for name, found in linear.items():
        module = name.removesuffix(".weight")
        view.set_submodule(module, _adapted_linear(view.get_submodule(module), found))
    if experts:
        mlp = cast(Experts, view.mlp)
        summed = {name: _summed(found) for name, found in experts.items()}
        view.mlp = AdaptedExperts(of.config, layer, cast(Experts, block.mlp), mlp.router, summed)
    return view


def _adapted_linear(base: nn.Module, found: list[tuple[LowRank, float]]) -> AdaptedLinear:
    if found[0][0].magnitude is None:
        a = torch.cat([change.a for change, _ in found])
        return AdaptedLinear(base, a, torch.cat([c.b * strength for c, strength in found], dim=1))
    [(change, strength)] = found  # `check_sums` refuses others beside it.
    assert change.magnitude is not None
    norms = (cast(Tensor, base.weight).to(change.b.dtype) + change.b @ change.a).norm(dim=1)
    return RescaledLinear(base, change.a, change.b, change.magnitude / norms, strength)


def _summed(found: list[tuple[Factors, float]]) -> Factors:
    return (
        torch.cat([a for (a, _), _ in found], dim=1),
        torch.cat([b * strength for (_, b), strength in found], dim=2),
    )


def _replace(view: Block, name: str, value: Tensor, strength: float) -> None:
    """Give a module of a block another weight."""
    path = name.removesuffix(".weight")
    module = view.get_submodule(path)
    if "weight" not in module._parameters:
        raise CheckpointError(
            f"an adapter replaces {view.name}.{name}, which is quantised here: load the model "
            "without quantise="
        )
    view.set_submodule(path, _view(module))
    new = _between(cast(Tensor, module.weight), value, strength)
    assign(view, name, new.detach())
