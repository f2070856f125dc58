"""LoRA adapters that PEFT saved, matrix by matrix.

For a module with A [r, in] and B [out, r]: W' = W + s B A, with s = alpha / r, or alpha / sqrt(r)
with `use_rslora`. With DoRA and its magnitude m [out], each row of W' is scaled to the norm m.

An adapter of fused experts (`target_parameters`) holds all experts of a layer in one A [r E, in]
and one B [out, r E]; here it is read as one A and B for each expert's matrix.

Source: PEFT 0.21, `tuners/lora/layer.py` and `tuners/lora/variants.py`.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from qwen3lab.checkpoints.lora_config import MERGE_WITH_PEFT, AdapterConfig
from qwen3lab.checkpoints.safetensors_file import SafetensorsFile
from qwen3lab.checkpoints.tensor_names import EXPERT_MATRICES, FUSED_EXPERTS
from qwen3lab.display import count, one_line
from qwen3lab.errors import CheckpointError

WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
A, B, MAGNITUDE = "lora_A.weight", "lora_B.weight", "lora_magnitude_vector"
PARTS = (A, B, MAGNITUDE)
INNER, OUTER = ".mlp.experts.base_layer.weight", ".mlp.experts.weight"
"""Ends of the names under which the two adapters of one layer's fused experts are sorted in."""
IN_OUT_ORDER_SINCE = (0, 19, 1)
"""PEFT of which A of a fused parameter has the columns that its experts multiply tokens with."""
LEAVES = {
    FUSED_EXPERTS[inner].rpartition(".")[2]: leaves for inner, leaves in EXPERT_MATRICES.items()
}
"""The matrices of one expert in each fused parameter, in row order."""
OF_EXPERT = re.compile(r"(.+\.mlp\.experts)\.(\d+)\.(\w+)\.weight")


@dataclass(frozen=True)
class LowRank:
    """What an adapter adds to one matrix.

    Attributes:
        a: A, float32.
        b: B, float32.
        scale: factor of B A.
        magnitude: norms of the changed rows, for DoRA; None for plain LoRA.
    """

    a: Float[Tensor, "rank in"]
    b: Float[Tensor, "out rank"]
    scale: float
    magnitude: Float[Tensor, " out"] | None = None

    def added(
        self, weight: Float[Tensor, "out in"], strength: float = 1.0
    ) -> Float[Tensor, "out in"]:
        """A matrix in float32 with the change; DoRA's is its whole difference times `strength`."""
        if self.magnitude is None:
            return weight + (self.b @ self.a) * (self.scale * strength)
        changed = weight + (self.b @ self.a) * self.scale
        changed = (self.magnitude / changed.norm(dim=1))[:, None] * changed
        return changed if strength == 1 else weight + strength * (changed - weight)


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter.

    Attributes:
        config: of the adapter.
        file: of its weights.
        modules: for each adapted matrix, the stored name of each of its parts.
        fused: the same for each adapted parameter of fused experts.
        replaced: stored names of whole tensors that take the place of the base model's.
    """

    config: AdapterConfig
    file: SafetensorsFile
    modules: Mapping[str, Mapping[str, str]]
    fused: Mapping[str, Mapping[str, str]]
    replaced: Mapping[str, str]
    _kept: dict[str, Tensor] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def open(cls, folder: Path) -> "Adapter":
        """Read an adapter's config and the header of its weights.

        Raises:
            CheckpointError: files are missing or damaged, or it is no LoRA that can be added.
        """
        config, path = AdapterConfig.read(folder), folder / WEIGHTS
        if not path.exists():
            raise CheckpointError(
                f"{folder} has no {WEIGHTS}: expected an adapter that peft saved as safetensors"
            )
        file = SafetensorsFile(path)
        modules, replaced = _parts_by_matrix(file)
        _check_magnitudes(file, modules, expected=config.is_dora)
        fused = _fused(config, modules, file.path)
        plain = {name: parts for name, parts in modules.items() if not _is_fused(name)}
        return cls(config, file, plain, fused, replaced)

    @property
    def folder(self) -> Path:
        """The folder that it was read from."""
        return self.config.folder

    @property
    def base(self) -> str:
        """The base model that the config names; empty if there is none."""
        return self.config.base

    def facts(self, n_experts: int) -> str:
        """Its ranks, alphas and modules, such as "rank 4, alpha 8, on 6 tensors: q_proj".

        Args:
            n_experts: of the base model; of fused experts, PEFT stores all in one tensor.
        """
        held = {**self.modules, **self.fused}
        sizes = {name: self.file.headers[parts[A]].shape[0] for name, parts in held.items()}
        ranks = {n // max(n_experts, 1) if name in self.fused else n for name, n in sizes.items()}
        facts = [f"rank {_range(ranks)}"] if ranks else []
        facts += [f"alpha {_range({self.config.alpha_of(name) for name in held})}"] if held else []
        facts += ["rank-stabilised"] * self.config.is_rank_stabilised
        facts += ["DoRA"] * any(MAGNITUDE in parts for parts in held.values())
        facts += [f"on {_listed(held)}"] if held else []
        facts += [f"in place of {_listed(self.replaced)}"] if self.replaced else []
        return one_line(", ".join(facts), width=300)

    def matrices(self, n_experts: int) -> Iterator[str]:
        """Published names of all changed matrices; of fused experts, one for each expert's."""
        yield from self.modules
        for name in self.fused:
            experts, _, leaf = name.rpartition(".")
            for expert in range(n_experts):
                yield from (f"{experts}.{expert}.{each}.weight" for each in LEAVES[leaf])

    def low_rank(self, matrix: str, shape: tuple[int, ...], n_experts: int) -> LowRank | None:
        """The change of a matrix; None if the adapter leaves it as it is.

        Args:
            matrix: published name; an expert's matrix has a name of its own.
            shape: of the matrix, (out, in).
            n_experts: of the model.

        Raises:
            CheckpointError: the adapter is for a matrix of another shape.
        """
        if matrix in self.modules:
            parts = {part: self.file.tensor(n).float() for part, n in self.modules[matrix].items()}
            a, b, magnitude = parts[A], parts[B], parts.get(MAGNITUDE)
            self._check(matrix, a, b, shape)
            if magnitude is not None and magnitude.shape != shape[:1]:
                raise CheckpointError(
                    f"the adapter {self.folder} has {tuple(magnitude.shape)} magnitudes for "
                    f"{matrix}, whose shape is {shape}: it is for another base model"
                )
            return LowRank(a, b, self.config.scale(matrix, len(a)), magnitude)
        if self.fused and (found := OF_EXPERT.fullmatch(matrix)):
            experts, expert, leaf = found.groups()
            for end, leaves in LEAVES.items():
                if leaf in leaves and f"{experts}.{end}" in self.fused:
                    place = leaves.index(leaf), len(leaves)
                    return self._of_expert(f"{experts}.{end}", int(expert), place, shape, n_experts)
        return None

    def _of_expert(
        self,
        fused: str,
        expert: int,
        place: tuple[int, int],
        shape: tuple[int, ...],
        n_experts: int,
    ) -> LowRank:
        """One expert's matrix of a fused parameter; `place` is its index and their number."""
        a, b = (self._keep(self.fused[fused][part]) for part in (A, B))
        index, n_stacked = place
        whole = (n_stacked * shape[0], shape[1])
        self._check_fused(fused, a, b, whole, n_experts)
        rank = len(a) // n_experts
        rows = slice(index * shape[0], (index + 1) * shape[0])
        return LowRank(
            a.unflatten(0, (n_experts, rank))[expert].float(),
            b.unflatten(1, (rank, n_experts))[rows, :, expert].float(),
            self.config.scale(fused, rank),
        )

    def _keep(self, stored: str) -> Tensor:
        """A tensor of all experts; those of the last layer are kept, as all its experts read it."""
        value = self._kept.get(stored)
        if value is None:
            value = self.file.tensor(stored)
            while len(self._kept) >= 2 * len(LEAVES):
                self._kept.pop(next(iter(self._kept)), None)
            self._kept[stored] = value
        return value

    def whole(self, name: str) -> Float[Tensor, "*any"] | None:
        """A tensor that takes the place of the base model's, in float32; None if there is none."""
        return self.file.tensor(self.replaced[name]).float() if name in self.replaced else None

    def _check(self, matrix: str, a: Tensor, b: Tensor, shape: tuple[int, ...]) -> None:
        fits = a.ndim == 2 and b.ndim == 2 and len(a) == b.shape[1]
        if not fits or (len(b), a.shape[1]) != tuple(shape):
            raise CheckpointError(
                f"the adapter {self.folder} has A {tuple(a.shape)} and B {tuple(b.shape)} for "
                f"{matrix}, whose shape is {tuple(shape)}: it is for another base model"
            )

    def _check_fused(
        self, fused: str, a: Tensor, b: Tensor, whole: tuple[int, int], n_experts: int
    ) -> None:
        """Refuses other shapes, and those of a PEFT that took rows for columns."""
        is_square, is_recent = whole[0] == whole[1], self.config.peft >= IN_OUT_ORDER_SINCE
        exchanged = a.ndim == b.ndim == 2 and (a.shape[1], len(b)) == whole
        if exchanged and not (is_square and is_recent):
            raise CheckpointError(
                f"the adapter {self.folder} of {fused} may be of a peft before "
                f"{'.'.join(map(str, IN_OUT_ORDER_SINCE))}, which exchanged its rows and columns: "
                f"{MERGE_WITH_PEFT}"
            )
        self._check(fused, a, b, whole)
        if n_experts < 1 or len(a) % n_experts:
            raise CheckpointError(
                f"the adapter {self.folder} has A {tuple(a.shape)} for {fused}, and the model "
                f"{n_experts} experts: it is for another base model"
            )


def _parts_by_matrix(
    file: SafetensorsFile,
) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """The stored names of each adapted matrix's parts, and those of replaced tensors."""
    modules: dict[str, dict[str, str]] = {}
    replaced: dict[str, str] = {}
    for stored in sorted(file.headers):
        name = stored.removeprefix(PREFIX)
        part = next((part for part in PARTS if name.endswith(f".{part}")), None)
        if part is not None:
            modules.setdefault(f"{name.removesuffix(part)}weight", {})[part] = stored
        elif "lora_" in name or not stored.startswith(PREFIX):
            raise CheckpointError(
                f"{file.path} holds {one_line(stored, width=120)}, which is not read: merge the "
                "adapter with peft (model.merge_and_unload()), save that, and load it"
            )
        else:
            replaced[name] = stored
    for matrix, parts in modules.items():
        if A not in parts or B not in parts:
            missing = A if A not in parts else B
            raise CheckpointError(
                f"{file.path} lacks {missing} of {one_line(matrix, width=120)}: fetch it again"
            )
    if not modules and not replaced:
        raise CheckpointError(f"{file.path} holds no tensors: fetch it again")
    return modules, replaced


def _check_magnitudes(
    file: SafetensorsFile, modules: Mapping[str, Mapping[str, str]], *, expected: bool
) -> None:
    """Check that all modules have a magnitude with DoRA, and none without."""
    for matrix, parts in modules.items():
        if (MAGNITUDE in parts) != expected:
            found = "lacks" if expected else "holds"
            raise CheckpointError(
                f"{file.path} {found} {MAGNITUDE} of {one_line(matrix, width=120)}, and its config "
                f"gives use_dora as {expected}: fetch the adapter's files together"
            )


def _fused(
    config: AdapterConfig, modules: Mapping[str, Mapping[str, str]], path: Path
) -> dict[str, Mapping[str, str]]:
    """The stored parts of each adapted parameter of fused experts.

    PEFT wraps the module once for each of its targeted parameters, in their order, so the names
    say inner and outer only; which parameters there are is in the config.
    """
    found: dict[str, Mapping[str, str]] = {}
    if not any(map(_is_fused, modules)) and any(
        each.endswith(tuple(LEAVES)) for each in config.parameters
    ):
        raise CheckpointError(
            f"{path} holds no adapter of fused experts, and target_parameters names some: fetch "
            "it again"
        )
    for layer in {n.removesuffix(INNER).removesuffix(OUTER) for n in modules if _is_fused(n)}:
        wanted = [f"{layer}.mlp.experts.{end}" for end in LEAVES]
        targeted = [name for name in wanted if config.targets(name)]
        held = [n for n in (f"{layer}{INNER}", f"{layer}{OUTER}") if n in modules]
        if len(targeted) != len(held) or f"{layer}{OUTER}" not in held:
            raise CheckpointError(
                f"{path} holds {len(held)} adapters of the fused experts of {one_line(layer)}, and "
                f"target_parameters names {len(targeted)}: {MERGE_WITH_PEFT}"
            )
        found |= {name: modules[key] for name, key in zip(targeted, held, strict=True)}
        if any(MAGNITUDE in modules[key] for key in held):
            raise CheckpointError(
                f"{path} holds DoRA of fused experts, which peft does not have: fetch it again"
            )
    return found


def _listed(names: Collection[str]) -> str:
    """How many tensors, and the ends of their names, each once."""
    ends = sorted({name.removesuffix(".weight").rpartition(".")[2] for name in names})
    return f"{count(len(names), 'tensor')}: {', '.join(ends)}"


def _range(values: Collection[int | float]) -> str:
    low, high = min(values), max(values)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _is_fused(name: str) -> bool:
    return name.endswith((INNER, OUTER))
