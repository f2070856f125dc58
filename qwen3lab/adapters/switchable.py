"""`lab.adapters`: LoRA adapters by name, and labs with some of them switched on.

An adapter is not switched on in a lab, it makes another lab, as quick to make as an object. Both
share the weights, which are only read: the matrices B and A of the adapter are multiplied beside
them in the forward pass. So the base model stays as it is whatever happens, another thread can
record it meanwhile, and everything that takes a lab takes one with adapters.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from qwen3lab.adapters.adapted_model import Weighted, adapted
from qwen3lab.adapters.changes import Changes
from qwen3lab.arguments import argument, checked, whole
from qwen3lab.checkpoints.adapted_tensors import Strong, check_sums, checked_strength
from qwen3lab.checkpoints.folders import find_folder
from qwen3lab.checkpoints.lora import Adapter
from qwen3lab.display import Displayed, Summary, count, one_line
from qwen3lab.errors import CheckpointError
from qwen3lab.model.transformer import Qwen3
from qwen3lab.translation import tr

AnyLab = TypeVar("AnyLab")
MAX_NAME_CHARACTERS = 80


@dataclass(repr=False, eq=False)
class SwitchableAdapter(Displayed):
    """An adapter that is kept apart from the weights.

    Attributes:
        strength: factor of its change where `on` names none; 1 is the adapter as trained. Labs that
            are already made keep theirs.
        described: name, rank, alpha and modules.
        layers: that it changes.
        digest: of its values, as hexadecimal text.
    """

    strength: float
    described: str
    layers: tuple[int, ...]
    digest: str
    _adapter: Adapter
    _changes: Changes

    def __setattr__(self, name: str, value: object) -> None:
        object.__setattr__(self, name, checked_strength(value) if name == "strength" else value)

    def _summary(self) -> Summary:
        layers = ", ".join(map(str, self.layers)) or tr("none")
        return Summary(self.described, {tr("layers"): layers, tr("strength"): f"{self.strength:g}"})


class Adapters(Mapping[str, SwitchableAdapter], Generic[AnyLab]):
    """The adapters of a lab, by name.

    Args:
        held: the lab's own table of them.
        model: the base model.
        make: a lab from a model, a label for its name, and a description of its adapters.
    """

    def __init__(
        self,
        held: dict[str, SwitchableAdapter],
        model: Qwen3,
        make: Callable[[Qwen3, str, str], AnyLab],
    ) -> None:
        self._held, self._model, self._make = held, model, make

    def __getitem__(self, name: str) -> SwitchableAdapter:
        if name not in self._held:
            known = (
                f"there are {', '.join(map(repr, self._held))}" if self._held else "none is added"
            )
            raise CheckpointError(
                f"there is no adapter {one_line(str(name), width=60)!r} ({known}): add it with "
                "lab.adapters.add(name, folder)"
            )
        return self._held[name]

    def __contains__(self, name: object) -> bool:
        return name in self._held

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._held))

    def __len__(self) -> int:
        return len(self._held)

    def __repr__(self) -> str:
        return f"{count(len(self), 'adapter')}: {', '.join(map(one_line, self))}".removesuffix(": ")

    @checked
    def add(self, name: str, source: str | Path, *, strength: float = 1.0) -> SwitchableAdapter:
        """Read a LoRA adapter that peft saved, beside the weights.

        Args:
            name: for the adapter; `on` takes it.
            source: a folder or hub id.
            strength: factor of its change unless `on` is given another.

        Raises:
            CheckpointError: the name is taken, there is no such adapter, or it is for another
                base model.
        """
        if not name or len(name) > MAX_NAME_CHARACTERS or not name.isprintable():
            raise CheckpointError(
                f"the name {one_line(name, width=60)!r} cannot be that of an adapter: expected 1 "
                f"to {MAX_NAME_CHARACTERS} printable characters"
            )
        if name in self._held:
            raise CheckpointError(
                f"there is an adapter {name!r} already: choose another name, or remove it with "
                "lab.adapters.remove"
            )
        adapter = Adapter.open(find_folder(source))
        changes = Changes.read(adapter, self._model)
        described = Strong(adapter, 1.0, name).described(self._model.config.n_experts)
        layers = tuple(sorted(changes.layers()))
        added = SwitchableAdapter(strength, described, layers, changes.digest(), adapter, changes)
        self._held[name] = added
        return added

    def remove(self, name: str) -> None:
        """Forget an adapter; labs that were made with it keep it.

        Raises:
            CheckpointError: there is none of that name.
        """
        self[name]
        del self._held[name]

    def on(
        self,
        names: str | Sequence[str] | Mapping[str, float | int],
        *,
        layers: Sequence[int] | None = None,
    ) -> AnyLab:
        """A lab with adapters switched on, which shares this lab's weights.

        Args:
            names: of one adapter, of several, whose changes are added up, or strengths by name.
            layers: use only what the adapters change in these layers; None for all that they
                change, in the embeddings and the final norm, too.

        Raises:
            CheckpointError: no such adapter, or adapters that do not add up.
            ValueError: a strength that is no finite number, or a layer that the model does not
                have.

        Example:
            >>> import qwen3lab
            >>> lab = qwen3lab.load("tiny-dense")
            >>> lab.adapters  # lab.adapters.add("tuned", folder), then lab.adapters.on("tuned")
            0 adapters
        """
        chosen = self._chosen(names)
        check_sums([each for each, _ in chosen])
        only = None if layers is None else self._layers(layers)
        parts = [
            Weighted(changes if only is None else changes.only(only), each.strength)
            for each, changes in chosen
        ]
        where = "" if only is None else f" in layers {', '.join(map(str, sorted(only)))}"
        label = " + ".join(each.label for each, _ in chosen) + where
        described = "; ".join(self._described(each) for each, _ in chosen) + where
        return self._make(adapted(self._model, parts), label, described)

    def _chosen(
        self, names: str | Sequence[str] | Mapping[str, float | int]
    ) -> list[tuple[Strong, Changes]]:
        if isinstance(names, Mapping):
            wanted = {name: checked_strength(value) for name, value in names.items()}
        else:
            given = argument(str | Sequence[str], "names", names)
            listed = [given] if isinstance(given, str) else given
            wanted = {name: self[name].strength for name in listed}
        if not wanted:
            raise CheckpointError("no adapter is named: the lab itself is the model without any")
        return [
            (Strong(self[name]._adapter, strength, name), self[name]._changes)
            for name, strength in wanted.items()
        ]

    def _described(self, each: Strong) -> str:
        """The description, with a digest that tells adapters of one name apart."""
        described = each.described(self._model.config.n_experts)
        return f"{described}, SHA-256 {self[each.name].digest[:12]}"

    def _layers(self, layers: Sequence[int]) -> set[int]:
        n = self._model.config.n_layers
        given = argument(Sequence[int], "layers", layers)
        return {whole(layer, "a layer", least=-n, most=n - 1) % n for layer in given}
