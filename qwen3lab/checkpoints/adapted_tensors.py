"""The tensors of a base model with LoRA adapters added while they are read."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from qwen3lab.arguments import real
from qwen3lab.checkpoints.computed_tensors import ComputedTensors
from qwen3lab.checkpoints.lora import LEAVES, MAGNITUDE, OF_EXPERT, Adapter
from qwen3lab.checkpoints.safetensors_reader import StoredTensors
from qwen3lab.checkpoints.tensor_names import StoredPart, is_fused
from qwen3lab.display.plain import one_line
from qwen3lab.errors import CheckpointError


@dataclass(frozen=True)
class Strong:
    """An adapter and how strongly it is added.

    Attributes:
        adapter: the adapter.
        strength: factor of its change; 1 is the adapter as trained.
        name: as the caller gave it.
    """

    adapter: Adapter
    strength: float = 1.0
    name: str = ""

    @property
    def label(self) -> str:
        """The name, with the strength where it is not 1."""
        return self.name if self.strength == 1 else f"{self.strength:g} x {self.name}"

    def described(self, n_experts: int) -> str:
        """What is added: name, strength, rank, alpha and modules, in one line.

        Args:
            n_experts: of the base model.
        """
        found = self.adapter.facts(n_experts)
        return f"LoRA adapter {one_line(self.label, width=120)} ({found})"


def checked_strength(value: object, called: str = "the strength") -> float:
    """A strength as a finite number; raises `ValueError`, with what it is called, for another."""
    strength = real(value, called)
    if not math.isfinite(strength):
        raise ValueError(f"{called} is {strength}: expected a finite number")
    return strength


class AdaptedTensors(ComputedTensors):
    """The tensors of a base model with adapters added, one after another.

    Args:
        weights: of the base model.
        adapters: to add.
        n_experts: of the base model; 0 if it is dense.

    Raises:
        CheckpointError: an adapter changes a tensor that the base model does not have, or two of
            them cannot be added up.
    """

    def __init__(self, weights: StoredTensors, adapters: Sequence[Strong], n_experts: int) -> None:
        super().__init__(weights, " + ".join(str(each.adapter.folder) for each in adapters))
        self.base, self.n_experts = weights, n_experts
        self._changes: dict[str, list[Strong]] = {}
        names = weights.names()
        for each in adapters:
            for name in _stored_names(each.adapter, names, n_experts):
                self._changes.setdefault(name, []).append(each)
        check_sums(adapters)

    def names(self) -> set[str]:
        return self.base.names()

    def shape(self, name: str) -> tuple[int, ...]:
        for each in self._changes.get(name, ()):
            if name in each.adapter.replaced:
                return each.adapter.file.header(each.adapter.replaced[name]).shape
        return self.base.shape(name)

    def dtype(self, name: str) -> torch.dtype:
        return self.base.dtype(name)

    def is_computed(self, name: str) -> bool:
        return name in self._changes

    def compute(self, name: str) -> Tensor:
        return self.compute_part(StoredPart(name))

    def compute_part(self, part: StoredPart) -> Tensor:
        value = self._of_base(part)
        for each in self._changes[part.name]:
            value = self._added(each, part, value)
        return value

    def file_stamps(self) -> list[str]:
        adapters = {id(each.adapter): each for found in self._changes.values() for each in found}
        return [
            *self.base.file_stamps(),
            *(f"{each.adapter.file.stamp()} {each.strength!r}" for each in adapters.values()),
        ]

    def _of_base(self, part: StoredPart) -> Tensor:
        if part.entry is None:
            return self.base.tensor(part.name).float()
        out = torch.empty(self.base.shape(part.name)[1:])
        self.base.fill([(out, part)])
        return out

    def _added(self, each: Strong, part: StoredPart, value: Tensor) -> Tensor:
        name, entry = part
        whole = each.adapter.whole(name)
        if whole is not None:
            whole = whole if entry is None else whole[entry]
            return whole if each.strength == 1 else value + each.strength * (whole - value)
        if not is_fused(name):
            found = each.adapter.low_rank(name, tuple(value.shape), self.n_experts)
            assert found is not None
            return found.added(value, each.strength)
        if entry is not None:
            return self._added_to_expert(each, name, entry, value)
        pairs = enumerate(value)
        return torch.stack([self._added_to_expert(each, name, e, one) for e, one in pairs])

    def _added_to_expert(self, each: Strong, fused: str, expert: int, value: Tensor) -> Tensor:
        """One expert of a fused parameter, whose matrices are stacked in rows."""
        experts, _, end = fused.rpartition(".")
        pieces = []
        for leaf, piece in zip(LEAVES[end], value.chunk(len(LEAVES[end])), strict=True):
            matrix = f"{experts}.{expert}.{leaf}.weight"
            found = each.adapter.low_rank(matrix, tuple(piece.shape), self.n_experts)
            pieces.append(piece if found is None else found.added(piece, each.strength))
        return torch.cat(pieces)


def check_sums(adapters: Sequence[Strong]) -> None:
    """Refuses adapters whose sum depends on their order.

    Raises:
        CheckpointError: two adapters change a matrix, and one of them is DoRA or replaces it; the
            same adapter twice.
    """
    holders: dict[str, tuple[Strong, bool]] = {}
    folders = [each.adapter.folder.resolve() for each in adapters]
    for index, each in enumerate(adapters):
        if folders[index] in folders[:index]:
            raise CheckpointError(
                f"the adapter {each.adapter.folder} is given twice: give it once, with a strength"
            )
        modules = each.adapter.modules
        for name in [*modules, *each.adapter.replaced]:
            is_alone = name not in modules or MAGNITUDE in modules[name]
            other = holders.setdefault(name, (each, is_alone))
            if other[0] is not each and (is_alone or other[1]):
                raise CheckpointError(
                    f"the adapters {other[0].adapter.folder} and {each.adapter.folder} both change "
                    f"{one_line(name, width=120)}, one by DoRA or as a whole, which does not add "
                    "up: give one of them, or merge them with peft"
                )


def _stored_names(adapter: Adapter, names: set[str], n_experts: int) -> set[str]:
    """The base model's stored names of the tensors that an adapter changes."""
    found: set[str] = set()
    for name in (*adapter.matrices(n_experts if adapter.fused else 0), *adapter.replaced):
        stored = name if name in names else _fused_name(name, n_experts)
        if stored not in names:
            raise unknown(adapter, name)
        found.add(stored)
    if adapter.fused and not n_experts:
        raise unknown(adapter, min(adapter.fused))
    return found


def unknown(adapter: Adapter, name: str) -> CheckpointError:
    """The error that says that an adapter is for another base model."""
    return CheckpointError(
        f"the adapter {adapter.folder} changes {one_line(name, width=120)}, which the base model "
        "does not have: it is for another base model"
    )


def _fused_name(matrix: str, n_experts: int) -> str:
    """The fused parameter that holds an expert's matrix; "" for any other matrix."""
    found = OF_EXPERT.fullmatch(matrix)
    if not found or int(found[2]) >= n_experts:
        return ""
    experts, _, leaf = found.groups()
    return next((f"{experts}.{end}" for end, leaves in LEAVES.items() if leaf in leaves), "")
