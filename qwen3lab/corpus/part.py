"""Runs one part of a corpus: reads its rows, records them, and writes its tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.corpus.activations import Activations
from qwen3lab.corpus.counting import Counts, Routed, routes_table
from qwen3lab.corpus.folder import Folder
from qwen3lab.corpus.plan import CONTEXT_TOKENS, CorpusPlan
from qwen3lab.corpus.saliency import Lengths, LengthTap, Saliency
from qwen3lab.corpus.source import Part, Source
from qwen3lab.corpus.texts import Groups, Skipped, Text, as_text, by_length, columns_of
from qwen3lab.corpus.top import TopExamples
from qwen3lab.device.grad_mode import without_grad
from qwen3lab.errors import CorpusError
from qwen3lab.generation.decoding import reads_last_only
from qwen3lab.hooks.points import hook_names, resolve_hooks
from qwen3lab.hooks.taps import Chain
from qwen3lab.lab import Lab
from qwen3lab.model.batching import pad_left
from qwen3lab.recording.recorder import Recorder
from qwen3lab.storage.atomic_files import whole_file
from qwen3lab.translation import tr

if TYPE_CHECKING:
    import pyarrow

EXPERTS, WEIGHTS = "blocks.{}.mlp.hook_expert_indices", "blocks.{}.mlp.hook_expert_weights"


@dataclass(frozen=True)
class Kept:
    """What a plan keeps of a model, with every hook named.

    Attributes:
        plan: with globs.
        config: of the model.
        top_hooks, reduce, full: of the plan, without globs.
    """

    plan: CorpusPlan
    config: Qwen3Config
    top_hooks: tuple[str, ...]
    reduce: Mapping[str, str]
    full: tuple[str, ...]

    @classmethod
    def of(cls, plan: CorpusPlan, config: Qwen3Config) -> "Kept":
        """Resolve the plan's hooks.

        Raises:
            HookError: the model lacks one.
            CorpusError: one has no value for each token; the routing of a dense model.
        """
        if not config.is_moe and (set(plan.keep) - {"top"} or (plan.keep and not plan.top_hooks)):
            raise CorpusError(
                tr(
                    "{model} is dense, so it has no routing to keep: give reduce=, full= or "
                    "top_hooks=",
                    model=plan.model,
                )
            )
        reduce = {
            name: how for hook, how in plan.reduce.items() for name in resolve_hooks(hook, config)
        }
        top, full = (
            tuple(resolve_hooks(hooks, config)) if hooks else ()
            for hooks in (plan.top_hooks, plan.full)
        )
        points = hook_names(config)
        for hook in (*top, *reduce, *full):
            axes = points[hook].axes.split()
            if axes[:2] != ["batch", "pos"] or (hook in top and "k" in axes):
                raise CorpusError(
                    tr(
                        "{hook} has the axes {axes}: expected a hook with a value, or one for "
                        "each head "
                        "or feature, for every token",
                        hook=hook,
                        axes=points[hook].axes,
                    )
                )
        return cls(plan, config, top, reduce, full)

    @property
    def routes(self) -> bool:
        """True if the routing is recorded."""
        return bool(self.plan.keep) and self.config.is_moe

    @cached_property
    def hooks(self) -> tuple[str, ...]:
        """Every hook that is recorded, in the order of the forward pass."""
        wanted = [*self.top_hooks, *self.reduce, *self.full]
        if self.routes:
            for layer in self.config.moe_layers:
                wanted += [EXPERTS.format(layer), WEIGHTS.format(layer)]
        return tuple(resolve_hooks(wanted, self.config))


@dataclass(frozen=True)
class Recorded:
    """What one pass gave of one text: its routing, other hooks by name, and outputs' sizes."""

    routed: Routed
    values: Mapping[str, Tensor]
    lengths: Lengths | None = None


class PartRecorder:
    """Collects what is kept of one part.

    Args:
        kept: what that is.
    """

    def __init__(self, kept: Kept) -> None:
        plan, config = kept.plan, kept.config
        self.kept = kept
        self.counts = Counts(config.moe_layers, config.n_experts, plan.groupings)
        self.top = TopExamples(plan.top)
        self.saliency = Saliency(config.moe_layers, config.n_experts)
        self.activations = Activations(kept.reduce, kept.full)
        self.routes: dict[int, Routed] = {}
        self.n_routed = 0

    def add(self, texts: Sequence[Text], batch: Sequence[Recorded]) -> list[Skipped]:
        """Add a batch; returns the texts whose values are not finite, which are left out."""
        broken, counted, rows = list[Skipped](), list[tuple[Routed, Groups]](), list[int]()
        for text, each in zip(texts, batch, strict=True):
            if reason := _not_finite(each):
                broken.append(Skipped(text.row, text.id, reason))
                continue
            counted.append((each.routed, text.groups(self.kept.plan)))
            rows.append(text.row)
            self.n_routed += each.routed.n_routed
            if "routes" in self.kept.plan.keep:
                self.routes[text.row] = each.routed
            if "top" in self.kept.plan.keep:
                self._add_values(text, each)
            if each.lengths is not None:
                self.saliency.add([(each.routed, each.lengths)])
            if self.kept.reduce or self.kept.full:
                self.activations.add(text.row, len(text.token_ids), each.values)
        if "counts" in self.kept.plan.keep:
            self.counts.add(counted)
        if "top" in self.kept.plan.keep and counted:
            self._add_routes(rows, [routed for routed, _ in counted])
        return broken

    def _add_routes(self, rows: Sequence[int], texts: Sequence[Routed]) -> None:
        config = self.kept.config
        if self.kept.routes:
            hooks = [WEIGHTS.format(layer) for layer in config.moe_layers]
            self.top.add_routes(hooks, config.n_experts, rows, texts)
        self.top.trim()

    def _add_values(self, text: Text, found: Recorded) -> None:
        points = hook_names(self.kept.config)
        for hook in self.kept.top_hooks:
            value = found.values[hook].float()
            if "head" in points[hook].axes:  # The value of a head is the length of its vector.
                value = value.norm(dim=-1)
            self.top.add_values(hook, text.row, value.flatten(1).numpy())


def run_part(lab: Lab, kept: Kept, source: Source, part: Part, folder: Folder) -> dict[str, int]:
    """Run a part and write its files; returns its entry of the journal.

    A part that is run again writes the same files again.

    Raises:
        CorpusError: the rows cannot be read, or a file cannot be written.
    """
    plan, recorder = kept.plan, PartRecorder(kept)
    found = [
        as_text(row, values, plan, lab.tokenizer, lab.config)
        for row, values in source.rows(part, columns_of(plan))
    ]
    texts = [each for each in found if isinstance(each, Text)]
    skipped = [each for each in found if isinstance(each, Skipped)]
    for batch in by_length(texts, plan.batch_tokens):
        skipped += recorder.add(batch, run_batch(lab, batch, kept))
    left = {each.row for each in skipped}
    run = [text for text in texts if text.row not in left]
    return {
        "part": part.number,
        "first_row": part.first_row,
        "n_rows": part.n_rows,
        "texts": len(run),
        "tokens": sum(len(text.token_ids) for text in run),
        "routed": recorder.n_routed,
        "cut": sum(text.was_cut for text in run),
        "skipped": len(skipped),
        "bytes": write_part(folder, part, recorder, run, skipped),
    }


@without_grad
def run_batch(lab: Lab, texts: Sequence[Text], kept: Kept) -> list[Recorded]:
    """Run texts in one forward pass, each as if it ran alone."""
    rows = [text.token_ids for text in texts]
    ids, mask = pad_left(rows, lab.model.device)
    recorder = Recorder(kept.hooks)
    sizes = LengthTap(kept.config.moe_layers if "saliency" in kept.plan.keep else ())
    tap = Chain(recorder, sizes) if sizes.names else recorder
    padded = None if bool(mask.all()) else mask
    with lab.lock:
        lab.model(ids, mask=padded, tap=tap, last_only=reads_last_only(recorder))
    recorder.wait()
    routed, lengths = _routing(recorder, kept, rows, mask.cpu()), _lengths(sizes, rows, mask.cpu())
    longest = ids.shape[1]
    values = recorder.cut([(longest - len(row), longest) for row in rows])
    return [Recorded(*each) for each in zip(routed, values, lengths, strict=True)]


def _lengths(
    sizes: LengthTap, rows: Sequence[list[int]], mask: Bool[Tensor, "batch pos"]
) -> Sequence[Lengths | None]:
    """The sizes of the experts' outputs of each row, without padding."""
    if not sizes.names:
        return [None] * len(rows)
    ends = np.cumsum([len(row) for row in rows])[:-1]
    pieces = np.split(sizes.stacked()[:, :, mask].numpy(), ends, axis=2)
    return [Lengths(norms, peaks) for norms, peaks in pieces]


def _routing(
    recorder: Recorder, kept: Kept, rows: Sequence[list[int]], mask: Bool[Tensor, "batch pos"]
) -> list[Routed]:
    """The routing of each row, without padding; for speed, all rows are taken out at once."""
    token_ids = [np.array(row, np.int64) for row in rows]
    if not kept.routes:
        return [Routed(ids, np.zeros((0, len(ids), 0), np.int16), None) for ids in token_ids]
    layers, others = kept.config.moe_layers, {*kept.top_hooks, *kept.reduce, *kept.full}
    arrays = []
    for pattern in (EXPERTS, WEIGHTS):
        hooks = [pattern.format(layer) for layer in layers]
        stacked = torch.stack([recorder.pieces[hook][0].cpu() for hook in hooks])[:, mask]
        arrays.append(stacked.float().numpy() if pattern == WEIGHTS else stacked.short().numpy())
        for hook in set(hooks) - others:
            del recorder.pieces[hook]
    ends = np.cumsum([len(ids) for ids in token_ids])[:-1]
    parts = (np.split(array, ends, axis=1) for array in arrays)
    return [Routed(*each) for each in zip(token_ids, *parts, strict=True)]


def write_part(
    folder: Folder,
    part: Part,
    recorder: PartRecorder,
    texts: Sequence[Text],
    skipped: Sequence[Skipped],
) -> int:
    """Write the files of a part; returns their bytes."""
    import pyarrow

    plan, config = recorder.kept.plan, recorder.kept.config
    tables = {"rows": rows_table(texts, plan.labels)}
    if skipped:
        columns = {
            name: [getattr(each, name) for each in sorted(skipped, key=lambda each: each.row)]
            for name in ("row", "id", "reason")
        }
        tables["skipped"] = pyarrow.table(columns)
    if recorder.kept.routes and "counts" in plan.keep:
        tables |= recorder.counts.tables()
    if "top" in plan.keep:
        of_row = {text.row: text.token_ids for text in texts}
        tables["top"] = recorder.top.table(of_row, CONTEXT_TOKENS)
    if "saliency" in plan.keep:
        tables["saliency"] = recorder.saliency.table()
    if recorder.routes:
        rows = sorted(recorder.routes)
        routed = [recorder.routes[row] for row in rows]
        tables["routes"] = routes_table(rows, routed, config.moe_layers, config.n_experts)
    n_bytes = sum(folder.write_table(name, part.number, table) for name, table in tables.items())
    return n_bytes + _write_activations(folder, part, recorder, bool(texts))


def _write_activations(folder: Folder, part: Part, recorder: PartRecorder, any_text: bool) -> int:
    if not any_text or not (recorder.kept.reduce or recorder.kept.full):
        return 0
    path = folder.shard(part.number)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path, error=CorpusError) as unfinished:
        recorder.activations.save(unfinished, {"qwen3lab_corpus": str(part.number)})
    return path.stat().st_size


def rows_table(texts: Sequence[Text], labels: Sequence[str]) -> "pyarrow.Table":
    """A row for each text: number, name, tokens, whether it was cut, and its labels."""
    import pyarrow

    texts = sorted(texts, key=lambda text: text.row)
    columns = {
        "row": pyarrow.array([text.row for text in texts], pyarrow.int64()),
        "id": pyarrow.array([text.id for text in texts], pyarrow.string()),
        "n_tokens": pyarrow.array([len(text.token_ids) for text in texts], pyarrow.uint32()),
        "was_cut": pyarrow.array([text.was_cut for text in texts], pyarrow.bool_()),
    }
    for place, name in enumerate(labels):
        values = [text.labels[place] for text in texts]
        columns[f"label.{name}"] = pyarrow.array(values, pyarrow.string())
    return pyarrow.table(columns)


def _not_finite(found: Recorded) -> str:
    """What is wrong with a text's values; "" if they are finite."""
    weights = found.routed.weights
    if weights is not None and not np.isfinite(weights).all():
        return "the weights of its experts are not finite"
    if found.lengths is not None and not np.isfinite(found.lengths.norms).all():
        return "the outputs of its experts are not finite"
    for hook, value in found.values.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            return f"{hook} is not finite"
    return ""
