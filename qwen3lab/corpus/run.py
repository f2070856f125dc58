"""The result of a corpus run, read from its folder piece by piece."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from qwen3lab.analysis.routing import loads_of_layers
from qwen3lab.analysis.specialisation import npmi
from qwen3lab.arguments import checked
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.corpus.activations import ROWS, STARTS, reduced_name
from qwen3lab.corpus.counting import ALL, WEIGHT_UNIT
from qwen3lab.corpus.folder import TABLES, VOCABULARY, Folder, check_pyarrow
from qwen3lab.corpus.plan import CorpusPlan
from qwen3lab.corpus.sums import summed
from qwen3lab.corpus.top import best_examples
from qwen3lab.display import Displayed, Summary
from qwen3lab.errors import CorpusError
from qwen3lab.recording.labels import LabelledTensor
from qwen3lab.storage.checked_tensors import open_tensors
from qwen3lab.translation import tr, tr_count

if TYPE_CHECKING:
    import pandas
    import pyarrow
    import pyarrow.dataset


@checked
def open(folder: str | Path) -> "CorpusRun":
    """Open a folder that `record` or `from_routed_experts` wrote, complete or not.

    Raises:
        CorpusError: the folder holds no corpus, or a file of it is missing.
    """
    return CorpusRun(folder)


@dataclass(frozen=True)
class Shard:
    """Activations of one part.

    Attributes:
        rows: number of each text in the data set.
        starts: where the tokens of each text start in full activations.
        values: by text if they are reduced, by token if they are full.
    """

    rows: Int[Tensor, " text"]
    starts: Int[Tensor, " text"]
    values: Tensor


class CorpusRun(Displayed):
    """Counts, examples and activations of a data set. Tables are read from disk on access.

    Memory depends on the number of experts, labels and kept examples, not on that of the tokens.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: str | Path) -> None:
        check_pyarrow()
        self._folder = Folder(folder)
        self._manifest = self._folder.manifest()
        self._done = self._folder.done()

    @property
    def folder(self) -> Path:
        """Where the run is stored."""
        return self._folder.path

    @property
    def plan(self) -> CorpusPlan:
        """What was asked for."""
        return self._manifest.plan

    @property
    def config(self) -> Qwen3Config:
        """Of the model."""
        return self._manifest.config

    @property
    def versions(self) -> Mapping[str, str]:
        """Versions of the packages that wrote the folder."""
        return self._manifest.versions

    @property
    def hooks(self) -> tuple[str, ...]:
        """Recorded hooks."""
        return self._manifest.hooks

    @property
    def is_complete(self) -> bool:
        """True if every part is done."""
        return len(self._done) == self._manifest.n_parts

    def total(self, name: str) -> int:
        """Sum over the parts: "texts", "tokens", "routed", "cut", "skipped" or "bytes"."""
        return sum(entry[name] for entry in self._done.values())

    def _summary(self) -> Summary:
        parts = tr("{done} of {planned}", done=len(self._done), planned=self._manifest.n_parts)
        n_bytes, tokens = self.total("bytes"), self.total("tokens")
        facts = {
            tr("model"): self.plan.model,
            tr("texts"): f"{self.total('texts'):,}",
            tr("skipped rows"): f"{self.total('skipped'):,}" * bool(self.total("skipped")),
            tr("cut texts"): f"{self.total('cut'):,}" * bool(self.total("cut")),
            tr("parts"): parts * (not self.is_complete),
            tr("size"): tr(
                "{n_bytes:,} bytes, {each:.1f} a token",
                n_bytes=n_bytes,
                each=n_bytes / max(tokens, 1),
            ),
        }
        missing = tr("not complete: resume=True runs the other parts") * (not self.is_complete)
        note = missing if self._manifest.knows_weights else _no_weights(self._manifest.engine)
        shown = {name: fact for name, fact in facts.items() if fact}
        counted = tr_count("{n:,} token", "{n:,} tokens", tokens)
        return Summary(tr("Corpus of {counted}", counted=counted), shown, note=note)

    def table(self, name: str) -> "pyarrow.dataset.Dataset":
        """One of the tables on disk, to be read lazily with pyarrow or DuckDB.

        Args:
            name: "rows", "skipped", "counts", "groups", "co_activation", "transitions", "tokens",
                "top", "routes" or "saliency".

        Raises:
            CorpusError: no such table, or it was not kept.
        """
        import pyarrow.dataset

        if name not in TABLES:
            raise CorpusError(f"there is no table {name!r}: choose from {', '.join(TABLES)}")
        paths = [self._folder.table(name, part) for part in self._done]
        there = [str(path) for path in paths if path.is_file()]
        if not there or (name != "skipped" and len(there) < len(paths)):
            raise CorpusError(self._why_missing(name, bool(there)))
        return pyarrow.dataset.dataset(there, format="parquet")

    def _why_missing(self, name: str, some: bool) -> str:
        if some:
            return f"files of the table {name!r} are missing in {self.folder}: run it again"
        if not self._done:
            return f"no part of {self.folder} is done: run it, or resume it"
        return (
            f"this run kept no {name}: keep was {', '.join(self.plan.keep) or 'empty'}, and "
            "another choice needs a run of its own"
        )

    @cached_property
    def counts(self) -> "pandas.DataFrame":
        """A tidy table: layer, expert, label, slots, weight, tokens; and npmi, of several labels.

        `slots` is the number of the label's tokens that are routed to the expert, `weight` the sum
        of their weights (its importance; NaN if the engine does not export weights), `tokens` the
        number of the label's tokens. With several label columns, `column` names each one's.
        """
        import pandas

        slots, units, tokens, groups = self._grid()
        layers = self.config.moe_layers
        at, group, expert = (axis.ravel() for axis in np.indices(slots.shape))
        weight = units.ravel() * WEIGHT_UNIT
        frame = pandas.DataFrame(
            {
                "layer": np.array(layers)[at],
                "expert": expert,
                "column": [groups[each][0] for each in group],
                "label": [groups[each][1] for each in group],
                "slots": slots.ravel(),
                "weight": weight if self._manifest.knows_weights else np.nan,
                "tokens": tokens[group],
            }
        )
        frame["npmi"] = _npmi_by_column(slots, groups).ravel()
        dropped = [] if len(self.plan.groupings) > 1 else ["column"]
        dropped += [] if len(groups) > 1 else ["npmi"]
        return frame.drop(columns=dropped)

    def _grid(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[tuple[str, str]]]:
        """Slots and weight units of every layer, group and expert; tokens and names of groups."""
        groups = summed(self.table("groups"), ["column", "label"], ["tokens"]).to_pylist()
        groups.sort(key=lambda each: (each["column"], each["label"]))
        names = [(each["column"], each["label"]) for each in groups]
        row = {name: number for number, name in enumerate(names)}
        layer_row = {layer: number for number, layer in enumerate(self.config.moe_layers)}
        found = summed(
            self.table("counts"),
            ["layer", "column", "label", "expert"],
            ["slots", "weight_units"],
        ).to_pydict()
        shape = (len(layer_row), len(names), self.config.n_experts)
        slots, units = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        at = (
            [layer_row[layer] for layer in found["layer"]],
            [row[key] for key in zip(found["column"], found["label"], strict=True)],
            found["expert"],
        )
        slots[at] = found["slots"]
        if self._manifest.knows_weights:
            units[at] = found["weight_units"]
        return slots, units, np.array([each["tokens"] for each in groups]), names

    def load(self, label: str | None = None) -> Float[LabelledTensor, "layer expert"]:
        """Share of routed slots of each expert, for one label of the first column or all tokens.

        Raises:
            CorpusError: no such label.
        """
        slots, _, _, groups = self._grid()
        column = self.plan.groupings[0] if self.plan.groupings else ALL[0]
        of_column = [(n, name) for n, (of, name) in enumerate(groups) if of == column]
        rows = [n for n, name in of_column if label in (None, name)]
        if not rows:
            known = ", ".join(name for _, name in of_column) or "none"
            raise CorpusError(f"there is no label {label!r}: the labels are {known}")
        chosen = torch.from_numpy(slots[:, rows].sum(axis=1)).double()
        shares = (chosen / chosen.sum(dim=1, keepdim=True)).float()
        return loads_of_layers(shares, self.config.moe_layers, self.plan.model)

    def co_activation(self, layer: int) -> Int[Tensor, "expert other"]:
        """Number of tokens that are routed to both experts; the diagonal is an expert's tokens.

        Divided by the diagonal, its rows are those of `analysis.structure.co_activation`.
        """
        return self._pairs("co_activation", "other", layer)

    def transitions(self, layer: int) -> Int[Tensor, "expert next_expert"]:
        """Number of tokens of each expert that the next layer with experts routes to each expert.

        With rows divided by their sums it is `analysis.structure.transitions`.
        """
        return self._pairs("transitions", "next_expert", layer)

    def _pairs(self, name: str, other: str, layer: int) -> Tensor:
        import pyarrow.dataset

        if layer not in self.config.moe_layers:
            listed = ", ".join(map(str, self.config.moe_layers))
            raise CorpusError(f"layer {layer} has no experts: the layers with experts are {listed}")
        of_layer = pyarrow.dataset.field("layer") == layer
        found = summed(self.table(name), ["expert", other], ["slots"], where=of_layer).to_pydict()
        table = torch.zeros(self.config.n_experts, self.config.n_experts, dtype=torch.int64)
        places = (torch.tensor(found["expert"]).long(), torch.tensor(found[other]).long())
        table[places] = torch.tensor(found["slots"], dtype=torch.int64)
        return table

    def tokens(self, layer: int, expert: int) -> "pandas.DataFrame":
        """The tokens that are routed to an expert: token_id, text, slots; the most frequent first.

        Raises:
            CorpusError: the counts were not kept.
        """
        import pyarrow.dataset

        field = pyarrow.dataset.field
        where = (field("layer") == layer) & (field("expert") == expert)
        found = summed(self.table("tokens"), ["token_id"], ["slots"], where=where).to_pandas()
        texts = [self.vocabulary[token] for token in found.token_id]
        found.insert(1, "text", texts)
        found = found.sort_values(["slots", "token_id"], ascending=[False, True])
        return found.reset_index(drop=True)

    def top(self, hook: str, unit: int | None = None) -> "pandas.DataFrame":
        """The texts in which an expert, head or feature is largest: score, row, position, text.

        Args:
            hook: such as "blocks.3.mlp.hook_expert_weights", or one of `top_hooks`.
            unit: number of the expert, head or feature; None for all, with a column `unit`.

        Raises:
            CorpusError: examples were not kept, or not of this hook.
        """
        if not self._manifest.knows_weights:
            raise CorpusError(_no_weights(self._manifest.engine))
        found = best_examples(self.table("top"), hook, unit, self.plan.top, self.vocabulary)
        if found.empty and hook not in self.hooks:
            raise CorpusError(f"{hook} was not recorded: the hooks are {', '.join(self.hooks)}")
        return found if unit is None else found.drop(columns="unit")

    @property
    def skipped(self) -> "pandas.DataFrame":
        """Rows that were not run: row, id, reason."""
        import pandas

        if not self.total("skipped"):
            return pandas.DataFrame({"row": [], "id": [], "reason": []})
        return self.table("skipped").to_table().to_pandas().sort_values("row", ignore_index=True)

    def reduced(self, hook: str) -> Iterator[Shard]:
        """The reduced activations of a hook, part by part; by text along the first axis."""
        return self._shards(reduced_name(hook), hook)

    def activations(self, hook: str) -> Iterator[Shard]:
        """The full activations of a hook, part by part; by token along the first axis."""
        return self._shards(hook, hook)

    def _shards(self, name: str, hook: str) -> Iterator[Shard]:
        parts = [part for part, entry in self._done.items() if entry["texts"]]
        for part in parts:
            path = self._folder.shard(part)
            try:
                with open_tensors(path) as file:
                    if name not in file.stored:
                        raise ValueError(f"it does not hold {hook}")
                    yield Shard(file.read(ROWS), file.read(STARTS), file.read(name))
            except (OSError, ValueError) as error:
                raise CorpusError(
                    f"{path} cannot be read ({error}): name a hook of reduce= or full=, or run the "
                    "corpus again"
                ) from error

    @cached_property
    def vocabulary(self) -> list[str]:
        """The text of each token id."""
        import pyarrow
        import pyarrow.parquet

        path = self.folder / VOCABULARY
        try:
            texts = pyarrow.parquet.read_table(path, columns=["text"])["text"].to_pylist()
        except (pyarrow.ArrowException, OSError) as error:
            raise CorpusError(f"{path} cannot be read ({error}): run the corpus again") from error
        return texts + ["�"] * (self.config.d_vocab - len(texts))


def _npmi_by_column(slots: np.ndarray, groups: Sequence[tuple[str, str]]) -> np.ndarray:
    """Normalised pointwise mutual information of the labels of each column with the experts."""
    found = np.full(slots.shape, np.nan)
    for column in dict.fromkeys(column for column, _ in groups):
        rows = [number for number, (of, _) in enumerate(groups) if of == column]
        for at, layer in enumerate(slots):
            if layer[rows].any():
                found[at, rows] = npmi(torch.from_numpy(layer[rows]).double()).numpy()
    return found


def _no_weights(engine: str) -> str:
    return (
        f"these routes come from {engine}, which does not export weights, so importance and top "
        "examples are not available: record the texts with qwen3lab for them"
    )
