"""Routing over a corpus: adds recordings one by one and keeps only counts."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qwen3lab.analysis.choices import router_entropy
from qwen3lab.analysis.routing import loads_of_layers, weights_by_expert
from qwen3lab.analysis.specialisation import npmi
from qwen3lab.analysis.structure import chosen
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.display import Displayed, Summary, one_line
from qwen3lab.errors import CorpusError
from qwen3lab.interrupts import HeldInterrupts
from qwen3lab.recording.labels import LabelledTensor
from qwen3lab.recording.recording import Recording
from qwen3lab.recording.recording_file import PARSING_ERRORS
from qwen3lab.storage.atomic_files import whole_file
from qwen3lab.storage.checked_tensors import open_tensors, save_checked
from qwen3lab.translation import tr, tr_count

if TYPE_CHECKING:
    import pandas

FORMAT = 1
MAX_REASON_CHARACTERS = 200
READING_ERRORS = (OSError, *PARSING_ERRORS)
"""Exceptions that a missing or damaged file can raise while it is read."""
SUMS = ("slots", "weights", "entropy", "tokens")


class RoutingCorpus(Displayed):
    """Expert counts over many texts, by group; memory does not depend on the number of tokens.

    Args:
        config: of the model whose recordings are counted.

    Attributes:
        groups: labels, in the order of their first occurrence.
        slots: number of a group's tokens routed to each expert.
        weights: summed routing weight of each expert on a group's tokens.
        entropy: summed router entropy on a group's tokens, in nats.
        tokens: number of a group's tokens.

    Raises:
        CorpusError: the model is dense.
    """

    def __init__(self, config: Qwen3Config) -> None:
        if not config.is_moe:
            raise CorpusError(tr("this model is dense: expected a mixture of experts"))
        self.config = config
        self.groups: list[str] = []
        self.slots: Float[Tensor, "layer group expert"] = self._zeros(config.n_experts)
        self.weights: Float[Tensor, "layer group expert"] = self._zeros(config.n_experts)
        self.entropy: Float[Tensor, "layer group"] = self._zeros()
        self.tokens: Int[Tensor, " group"] = torch.zeros(0, dtype=torch.long)

    def _summary(self) -> Summary:
        title = tr(
            "RoutingCorpus of {counted}",
            counted=tr_count("{n:,} token", "{n:,} tokens", int(self.tokens.sum())),
        )
        layers = tr_count("{n:,} layer", "{n:,} layers", len(self.config.moe_layers))
        sizes = tr("{layers} of {n_experts}", layers=layers, n_experts=self.config.n_experts)
        facts = {tr("groups"): str(len(self.groups)), tr("experts"): sizes}
        return Summary(title, facts, frame=self._group_sizes)

    def _group_sizes(self) -> "pandas.DataFrame":
        import pandas

        return pandas.DataFrame({"group": self.groups, "tokens": self.tokens.numpy()})

    def add(self, recording: Recording, labels: str | Sequence[str]) -> None:
        """Add the counts of a recording, all of them or, if it fails or is interrupted, none.

        Args:
            recording: with its routing.
            labels: the group of all tokens, or one group per token.

        Raises:
            CorpusError: the recording is of a model with another configuration, or the numbers
                of labels and tokens differ.
        """
        if recording.config != self.config:
            raise CorpusError(
                tr(
                    "the recording is of {model_name}, a model with another configuration: "
                    "add recordings of one model",
                    model_name=recording.model_name,
                )
            )
        named = [labels] * len(recording) if isinstance(labels, str) else list(labels)
        if len(named) != len(recording):
            raise CorpusError(
                tr(
                    "there are {n_named} labels for {n_recording} tokens: expected one for each",
                    n_named=len(named),
                    n_recording=len(recording),
                )
            )
        routing, n_experts = recording.routing, self.config.n_experts
        slots = torch.stack([chosen(each, n_experts).double() for each in routing.experts])
        weights = torch.stack(
            [
                weights_by_expert(experts, weights.double(), n_experts)
                for experts, weights in zip(routing.experts, routing.weights, strict=True)
            ]
        )
        entropies = router_entropy(routing.logits).double()
        with HeldInterrupts():
            rows = self._rows(named)
            self.tokens += torch.bincount(rows, minlength=len(self.groups))
            self.slots.index_add_(1, rows, slots)
            self.weights.index_add_(1, rows, weights)
            self.entropy.index_add_(1, rows, entropies)

    def merge(self, other: "RoutingCorpus") -> None:
        """Add the counts of another corpus.

        Raises:
            CorpusError: its model has another configuration.
        """
        if other.config != self.config:
            raise CorpusError(tr("the models of the two corpora have different configurations"))
        with HeldInterrupts():
            rows = self._rows(other.groups)
            for name in ("slots", "weights", "entropy"):
                getattr(self, name).index_add_(1, rows, getattr(other, name))
            self.tokens.index_add_(0, rows, other.tokens)

    def load(self, group: str | None = None) -> Float[LabelledTensor, "layer expert"]:
        """Share of routed slots of each expert, for one group or for all tokens.

        The result has labels for the layers.

        Raises:
            CorpusError: no such group, or no recording was added.
        """
        slots = self.slots.sum(dim=1) if group is None else self.slots[:, self._row(group)]
        if not slots.sum() > 0:
            raise CorpusError(tr("nothing was counted yet: add a recording first"))
        loads = (slots / slots.sum(dim=1, keepdim=True)).float()
        return loads_of_layers(loads, self.config.moe_layers, "")

    def to_pandas(self) -> "pandas.DataFrame":
        """A tidy table: layer, group, expert, tokens, slots, share, weight, npmi.

        `share` is the share of the group's tokens routed to the expert, `weight` its mean weight
        on these tokens, `npmi` the normalised pointwise mutual information of group and expert.
        """
        import pandas

        sizes = (torch.tensor(self.config.moe_layers), *map(torch.arange, self.slots.shape[1:]))
        layer, group, expert = (axis.flatten() for axis in torch.meshgrid(*sizes, indexing="ij"))
        tokens = self.tokens[group]
        return pandas.DataFrame(
            {
                "layer": layer.numpy(),
                "group": [self.groups[row] for row in group],
                "expert": expert.numpy(),
                "tokens": tokens.numpy(),
                "slots": self.slots.flatten().long().numpy(),
                "share": (self.slots.flatten() / tokens).numpy(),
                "weight": (self.weights / self.slots).flatten().numpy(),
                "npmi": torch.stack([npmi(layer) for layer in self.slots]).flatten().numpy(),
            }
        )

    def save(self, path: str | Path) -> None:
        """Write the counts; `RoutingCorpus.open` reads them.

        Raises:
            CorpusError: the file cannot be written.
        """
        about = {"format": FORMAT, "groups": self.groups, "config": self.config.to_dict()}
        sums = {name: getattr(self, name).contiguous() for name in SUMS}
        with whole_file(Path(path), error=CorpusError) as part:
            save_checked(sums, part, {"routing_corpus": json.dumps(about)})

    @classmethod
    def open(cls, path: str | Path) -> "RoutingCorpus":
        """Read a file written by `save`.

        Raises:
            CorpusError: no such file, or another format.
        """
        try:
            with open_tensors(Path(path)) as file:
                about = json.loads(file.metadata["routing_corpus"])
                if about["format"] != FORMAT:
                    raise ValueError(
                        tr(
                            "format {found}, and this version reads {format}",
                            found=about["format"],
                            format=FORMAT,
                        )
                    )
                return cls._rebuilt(about, {name: file.read(name) for name in SUMS}, path)
        except READING_ERRORS as error:
            reason = one_line(str(error), width=MAX_REASON_CHARACTERS)
            raise CorpusError(
                tr(
                    "{path} holds no counts ({reason}): expected a file written by "
                    "RoutingCorpus.save",
                    path=path,
                    reason=reason,
                )
            ) from error

    @classmethod
    def _rebuilt(
        cls, about: dict[str, Any], sums: dict[str, Tensor], path: str | Path
    ) -> "RoutingCorpus":
        corpus = cls(Qwen3Config.from_dict(about["config"], source=f"the config in {path}"))
        groups = about["groups"]
        if not isinstance(groups, list) or not all(isinstance(each, str) for each in groups):
            raise ValueError(tr("its groups are not a list of texts"))
        corpus._rows(groups)
        for name, value in sums.items():
            empty = getattr(corpus, name)
            if empty.shape != value.shape or empty.dtype != value.dtype:
                raise ValueError(
                    tr(
                        "{name} has shape {shape}, dtype {dtype}",
                        name=name,
                        shape=tuple(value.shape),
                        dtype=value.dtype,
                    )
                )
            if bool((value < 0).any()):
                raise ValueError(tr("{name} holds a value that is no count", name=name))
            setattr(corpus, name, value)
        return corpus

    def _row(self, group: str) -> int:
        if group not in self.groups:
            known = ", ".join(self.groups) or tr("none yet")
            raise CorpusError(
                tr("there is no group {group!r}: the groups are {known}", group=group, known=known)
            )
        return self.groups.index(group)

    def _rows(self, labels: Sequence[str]) -> Int[Tensor, " label"]:
        """Row number of each label; adds rows for new labels."""
        new = [label for label in dict.fromkeys(labels) if label not in self.groups]
        if new:
            self.groups += new
            for name in ("slots", "weights"):
                zeros = self._zeros(self.config.n_experts, groups=len(new))
                setattr(self, name, torch.cat([getattr(self, name), zeros], dim=1))
            self.entropy = torch.cat([self.entropy, self._zeros(groups=len(new))], dim=1)
            self.tokens = torch.cat([self.tokens, torch.zeros(len(new), dtype=torch.long)])
        number = {label: row for row, label in enumerate(self.groups)}
        return torch.tensor([number[label] for label in labels], dtype=torch.long)

    def _zeros(self, *width: int, groups: int = 0) -> Tensor:
        return torch.zeros(len(self.config.moe_layers), groups, *width, dtype=torch.float64)
