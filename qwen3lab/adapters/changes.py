"""What an adapter changes, in memory on the model's device, by the model's own names."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from qwen3lab.checkpoints.adapted_tensors import unknown
from qwen3lab.checkpoints.lora import LEAVES, OF_EXPERT, Adapter, LowRank
from qwen3lab.checkpoints.tensor_names import EXPERT_MATRICES, published_name, split_name
from qwen3lab.checkpoints.value_range import ValueRange
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.device.dtypes import at_least_float32
from qwen3lab.errors import CheckpointError
from qwen3lab.model.transformer import Qwen3

Factors = tuple[Float[Tensor, "expert rank in"], Float[Tensor, "expert out rank"]]
"""A, and B with its factor, of all experts of a layer."""
EMBEDDINGS = ("embed.weight", "unembed.weight")


@dataclass(frozen=True, eq=False)
class Changes:
    """The tensors of one adapter, by names of the model's parameters.

    Attributes:
        matrices: changes of single matrices.
        experts: changes of all experts of a layer, by parameter.
        whole: tensors that take the place of the model's, in its dtype.
    """

    matrices: Mapping[str, LowRank]
    experts: Mapping[str, Factors]
    whole: Mapping[str, Tensor]

    @classmethod
    def read(cls, adapter: Adapter, model: Qwen3) -> "Changes":
        """Read an adapter for a model.

        Raises:
            CheckpointError: it is for another model, has values that are not finite, or cannot be
                kept apart from the weights.
        """
        shapes = {
            n: tuple(p.shape) for n, p in Qwen3(model.config, device="meta").named_parameters()
        }
        names = {published_name(n): n for n in shapes if split_name(n)[1] not in EXPERT_MATRICES}
        check_known(adapter, names, model.config)
        matrices, whole = {}, {}
        for matrix in adapter.modules.keys() & names.keys():
            name = names[matrix]
            found = adapter.low_rank(matrix, shapes[name], model.config.n_experts)
            assert found is not None
            matrices[name] = _placed(adapter, matrix, found, model)
        for published in adapter.replaced:
            name = names[published]
            if model.config.tied_embeddings and name in EMBEDDINGS:
                raise CheckpointError(
                    f"the adapter {adapter.folder} replaces {published}, which is embedding and "
                    "unembedding of this model: load the model with adapter= instead"
                )
            value = _whole(adapter, published, shapes[name])
            whole[name] = value.to(model.device, model.dtype)
        return cls(matrices, dict(_experts(adapter, model, shapes)), whole)

    def layers(self) -> set[int]:
        """Layers that have a change."""
        names = [*self.matrices, *self.experts, *self.whole]
        return {int(split_name(name)[0]) for name in names if split_name(name)[0]}

    def digest(self) -> str:
        """A SHA-256 digest of all names and values, as hexadecimal text."""
        digest = hashlib.sha256()
        for name, value in self._tensors():
            digest.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
            digest.update(value.contiguous().cpu().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        for name, found in sorted(self.matrices.items()):
            values = (found.a, found.b, found.magnitude)
            yield from ((name, value) for value in values if value is not None)
        for name, pair in sorted(self.experts.items()):
            yield from ((name, value) for value in pair)
        yield from sorted(self.whole.items())

    def only(self, layers: set[int]) -> "Changes":
        """The changes in some layers."""

        def kept(found: Mapping[str, object]) -> dict:
            return {n: v for n, v in found.items() if split_name(n)[0] in map(str, layers)}

        return Changes(kept(self.matrices), kept(self.experts), kept(self.whole))


def check_known(adapter: Adapter, names: Mapping[str, str], config: Qwen3Config) -> None:
    """Raises `CheckpointError` for an adapter of a tensor that the model does not have."""
    routed = {f"model.layers.{layer}.mlp.experts" for layer in config.moe_layers}
    for name in (*adapter.modules, *adapter.replaced):
        found = OF_EXPERT.fullmatch(name)
        is_expert = (
            found
            and name not in adapter.replaced
            and found[1] in routed
            and int(found[2]) < config.n_experts
            and any(found[3] in leaves for leaves in LEAVES.values())
        )
        if name not in names and not is_expert:
            raise unknown(adapter, name)
    for name in adapter.fused:
        if name.rpartition(".")[0] not in routed:
            raise unknown(adapter, name)


def _placed(adapter: Adapter, matrix: str, found: LowRank, model: Qwen3) -> LowRank:
    """A change on the model's device, with the factor in B."""
    b = found.b * found.scale
    for value in (found.a, b, found.magnitude):
        if value is not None:
            ValueRange(matrix, str(adapter.folder)).add(value)
    where = {"device": model.device, "dtype": at_least_float32(model.dtype)}
    magnitude = None if found.magnitude is None else found.magnitude.to(**where)
    return LowRank(found.a.to(**where), b.to(**where), 1.0, magnitude)


def _whole(adapter: Adapter, published: str, shape: tuple[int, ...]) -> Tensor:
    value = adapter.whole(published)
    assert value is not None
    if tuple(value.shape) != shape:
        raise CheckpointError(
            f"the adapter {adapter.folder} holds {published} with shape {tuple(value.shape)}, and "
            f"the model's is {shape}: it is for another base model"
        )
    ValueRange(published, str(adapter.folder)).add(value)
    return value


def _experts(
    adapter: Adapter, model: Qwen3, shapes: Mapping[str, tuple[int, ...]]
) -> Iterator[tuple[str, Factors]]:
    """The changes of every layer whose experts have one."""
    for name, shape in shapes.items():
        layer, inner = split_name(name)
        if inner in EXPERT_MATRICES:
            experts = f"model.layers.{layer}.mlp.experts"
            found = [_of_expert(adapter, f"{experts}.{e}", inner, shape) for e in range(shape[0])]
            if any(each is not None for each in found):
                yield name, _stacked(adapter, name, found, shape, model)


def _of_expert(
    adapter: Adapter, expert: str, inner: str, shape: tuple[int, ...]
) -> tuple[Tensor, Tensor] | None:
    """A and B, with its factor, of one expert's gate and up, or down."""
    leaves = EXPERT_MATRICES[inner]
    size = (shape[1] // len(leaves), shape[2])
    found = [adapter.low_rank(f"{expert}.{leaf}.weight", size, shape[0]) for leaf in leaves]
    given = [each for each in found if each is not None]
    if not given:
        return None
    if any(each.magnitude is not None for each in given):
        raise CheckpointError(
            f"the adapter {adapter.folder} changes {expert} by DoRA, which is not kept apart from "
            "the weights: load the model with adapter= instead"
        )
    pieces = [torch.zeros(size[0], 0) if each is None else each.b * each.scale for each in found]
    if len(given) == len(found) and all(torch.equal(given[0].a, each.a) for each in given):
        return given[0].a, torch.cat(pieces)
    return torch.cat([each.a for each in given]), torch.block_diag(*pieces)


def _stacked(
    adapter: Adapter,
    name: str,
    found: list[tuple[Tensor, Tensor] | None],
    shape: tuple[int, ...],
    model: Qwen3,
) -> Factors:
    """A and B of all experts; zeros where an expert has a lower rank, or none."""
    rank = max(len(each[0]) for each in found if each is not None)
    where = {"device": model.device, "dtype": at_least_float32(model.dtype)}
    a, b = torch.zeros(shape[0], rank, shape[2]), torch.zeros(shape[0], shape[1], rank)
    for expert, each in enumerate(found):
        if each is not None:
            a[expert, : len(each[0])], b[expert, :, : len(each[0])] = each
    for value in (a, b):
        ValueRange(name, str(adapter.folder)).add(value)
    return a.to(**where), b.to(**where)
