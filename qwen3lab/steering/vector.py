"""Steering vectors: directions that are added to an activation of chosen layers, at chosen tokens.

A vector is an intervention: `lab.chat(question, edits=4 * vector)`. It composes with other edits
in a list, and two vectors with `+`.

Source: Turner et al., "Steering language models with activation engineering" (arXiv 2308.10248).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from qwen3lab.arguments import check_fields, checked, real
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.display import Displayed, Summary, one_line
from qwen3lab.errors import HookError
from qwen3lab.hooks.edits import Edit
from qwen3lab.recording.equality import EqualByValue
from qwen3lab.steering.addition import Addition
from qwen3lab.steering.places import Pass, Positions, place_of
from qwen3lab.translation import tr

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, repr=False, eq=False)
class Vector(EqualByValue, Displayed):
    """A steering vector: directions that are added to the activations of a run.

    Attributes:
        additions: the directions with their hooks and tokens, in the order of the layers.
        made_by: how it was made.
        model_name: of the model that it was made with; empty if unknown.
        weights: fingerprint of that model's weights; empty if unknown.
    """

    additions: tuple[Addition, ...]
    made_by: str
    model_name: str = ""
    weights: str = ""

    __array_ufunc__ = None
    """NumPy's numbers leave `number * vector` to the vector."""

    def __post_init__(self) -> None:
        check_fields(self)
        sizes = {len(each.direction) for each in self.additions}
        if len(sizes) != 1:
            sizes_ = " and ".join(map(str, sorted(sizes))) or tr("no directions")
            raise HookError(tr("a vector has directions of one size: found {sizes}", sizes=sizes_))

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers with a direction."""
        return tuple(sorted({each.layer for each in self.additions}))

    def __getitem__(self, layer: int) -> Float[Tensor, " d_model"]:
        """A copy of the direction at a layer.

        Raises:
            HookError: the vector has none there, or several, at different tokens or hooks.
        """
        found = [each.direction for each in self.additions if each.layer == layer]
        if len(found) != 1:
            layers = ", ".join(map(str, self.layers))
            raise HookError(
                tr(
                    "the vector has {n_found} directions at layer {layer}: its layers are {layers}",
                    n_found=len(found),
                    layer=layer,
                    layers=layers,
                )
            )
        return found[0].clone()

    def __len__(self) -> int:
        return len(self.additions)

    def __iter__(self) -> Any:
        raise HookError(tr("a vector is not a sequence: iterate over its layers or its additions"))

    def __mul__(self, strength: object) -> "Vector":
        factor = real(strength, tr("the strength"))
        if abs(factor) == float("inf"):
            raise ValueError(
                tr("the strength is {factor}: expected a finite number", factor=factor)
            )
        scaled = [replace(each, direction=factor * each.direction) for each in self.additions]
        return replace(self, additions=tuple(scaled))

    __rmul__ = __mul__

    def __neg__(self) -> "Vector":
        return self * -1

    def __add__(self, other: object) -> "Vector":
        """Both vectors; directions at the same hook and tokens are summed."""
        if not isinstance(other, Vector):
            return NotImplemented
        sizes = [len(each.additions[0].direction) for each in (self, other)]
        if sizes[0] != sizes[1]:
            raise HookError(
                tr(
                    "the vectors are for models of different sizes: d_model is {one} and "
                    "{other}; give vectors of one model",
                    one=sizes[0],
                    other=sizes[1],
                )
            )
        return Vector(
            _summed([*self.additions, *other.additions]),
            _joined(self.made_by, other.made_by),
            _joined(self.model_name, other.model_name),
            self.weights if self.weights == other.weights else "",
        )

    def __sub__(self, other: object) -> "Vector":
        if not isinstance(other, Vector):
            return NotImplemented
        return self + -other

    @checked
    def at(
        self,
        *,
        layers: int | Iterable[int] | None = None,
        positions: Positions | None = None,
        hook: str | None = None,
    ) -> "Vector":
        """The vector at other layers, tokens or hooks.

        Args:
            layers: those to keep; a vector of one layer is put at all of them.
            positions: numbers from 0 on, a slice, "all", "last" (token of the prompt), "generated"
                (tokens of the reply), or `steering.thinking(lab)`.
            hook: within the layers, such as "hook_mlp_out".

        Raises:
            HookError: the vector has no direction for a layer, or a position is negative.
        """
        chosen = self.additions
        if layers is not None:
            chosen = self._moved([layers] if isinstance(layers, int) else list(layers))
        if positions is not None:
            place = place_of(positions)
            chosen = tuple(replace(each, place=place) for each in chosen)
        if hook is not None:
            chosen = tuple(replace(each, hook=hook) for each in chosen)
        return replace(self, additions=_summed(chosen))

    def _moved(self, layers: Sequence[int]) -> tuple[Addition, ...]:
        if len(self.layers) == 1:
            return tuple(replace(each, layer=layer) for layer in layers for each in self.additions)
        missing = set(layers) - set(self.layers)
        if missing:
            raise HookError(
                tr(
                    "the vector has no direction for layer {missing}: its layers are {listed}",
                    missing=min(missing),
                    listed=", ".join(map(str, self.layers)),
                )
            )
        return tuple(each for each in self.additions if each.layer in layers)

    def edits(self, config: Qwen3Config, padding: Sequence[int]) -> Mapping[str, Edit]:
        """The edits for one run, by hook name; see `qwen3lab.hooks.edits.Intervention`.

        Args:
            config: of the model.
            padding: number of padding tokens to the left of each text in the batch.

        Raises:
            HookError: the model has another size, or no such layer.
        """
        for each in self.additions:
            _check_fits(each, config)
        run = _Run(self.additions, padding)
        return {"hook_embed": run.begin, **{each.name: run.add for each in self.additions}}

    def to_pandas(self) -> "pandas.DataFrame":
        """A table: layer, hook, tokens, norm; in the order of the layers."""
        import pandas

        rows = [(each.layer, each.hook, str(each.place), each.norm) for each in self.additions]
        return pandas.DataFrame(rows, columns=["layer", "hook", "tokens", "norm"])

    def _summary(self) -> Summary:
        facts = {
            tr("made by"): self.made_by,
            tr("model"): self.model_name or tr("unknown"),
            tr("layers"): ", ".join(map(str, self.layers)),
            tr("norm"): ", ".join(f"{each.norm:.3g}" for each in self.additions),
            tr("at"): ", ".join(dict.fromkeys(str(each.place) for each in self.additions)),
        }
        return Summary(tr("Steering vector"), facts, frame=self.to_pandas)


class _Run:
    """State of one run that the edits of a vector share: which tokens its current pass runs."""

    def __init__(self, additions: Sequence[Addition], padding: Sequence[int]) -> None:
        self.additions, self.padding = additions, torch.tensor(padding)
        self.n_past = 0
        self.now: list[Pass] = []
        self.on_device: dict[int, Tensor] = {}

    def begin(self, embed: Float[Tensor, "batch pos d_model"], name: str) -> None:
        """Note the tokens of a forward pass; called at its start."""
        columns = torch.arange(self.n_past, self.n_past + embed.shape[1])
        positions = (columns - self.padding[:, None]).to(embed.device)
        outside = torch.zeros(len(embed), dtype=torch.bool, device=embed.device)
        before = [each.thinks[:, -1] for each in self.now] or [outside] * len(self.additions)
        self.now = [
            Pass(positions, self.n_past > 0, each.place.thinks(embed, last))
            for each, last in zip(self.additions, before, strict=True)
        ]
        self.n_past += embed.shape[1]

    def add(
        self, value: Float[Tensor, "batch pos d_model"], name: str
    ) -> Float[Tensor, "batch pos d_model"]:
        """The activation with the directions of this hook added."""
        for number, each in enumerate(self.additions):
            if each.name == name:
                if number not in self.on_device:
                    self.on_device[number] = each.direction.to(value)
                where = each.place.where(self.now[number])
                value = value + where[..., None] * self.on_device[number]
        return value


def _check_fits(each: Addition, config: Qwen3Config) -> None:
    if len(each.direction) != config.d_model:
        raise HookError(
            tr(
                "the vector has d_model {n_direction}, and this model {d_model}: give a "
                "vector that was made with this model",
                n_direction=len(each.direction),
                d_model=config.d_model,
            )
        )
    if each.layer >= config.n_layers:
        raise HookError(
            tr(
                "layer {layer} of the vector does not exist: the model has layers 0 to {last}",
                layer=each.layer,
                last=config.n_layers - 1,
            )
        )


def _summed(additions: Iterable[Addition]) -> tuple[Addition, ...]:
    """Sums directions at the same hook and tokens; sorted by layer."""
    summed: list[Addition] = []
    for each in additions:
        for place, known in enumerate(summed):
            if known.name == each.name and known.place == each.place:
                summed[place] = replace(known, direction=known.direction + each.direction)
                break
        else:
            summed.append(each)
    return tuple(sorted(summed, key=lambda each: each.layer))


def _joined(one: str, other: str) -> str:
    return one if one == other else f"{one_line(one)} + {one_line(other)}"
