"""The passes of a sweep: a prompt with one activation replaced in each row of a batch.

Before the patched layer, a patched run equals the unpatched one. So the pass begins at that layer,
from the residual stream of the unpatched run.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from qwen3lab.device.dtypes import at_least_float32
from qwen3lab.device.grad_mode import without_grad
from qwen3lab.hooks.points import PATTERN_HOOKS
from qwen3lab.hooks.taps import NO_TAP, Keep, Tap
from qwen3lab.lab import Lab
from qwen3lab.metrics.metric import Metric, Reading
from qwen3lab.model.pass_threads import run_on_paying_threads
from qwen3lab.model.positions import Positions

RESID_PRE = "blocks.{l}.hook_resid_pre"

MAX_POSITIONS = 4096
"""Maximum number of positions of a batch of patched runs; more are not faster."""

MAX_VALUES = 2**26
"""Maximum number of values of a batch's logits, its attention patterns, or its patched activation:
256 MiB in float32."""


@dataclass(frozen=True)
class Reader:
    """A metric of a model, and which logits it reads.

    Attributes:
        reading: the metric.
        last_only: True if it reads the logits of the last position only.
    """

    reading: Reading
    last_only: bool

    @classmethod
    def of(cls, metric: Metric, reading: Reading) -> "Reader":
        """The reader of a resolved metric."""
        return cls(reading, metric.position == -1 and not reading.appended)

    def __call__(self, logits: Float[Tensor, "batch out vocab"]) -> Float[Tensor, " batch"]:
        """The metric of each row, on the CPU."""
        return self.reading.read(logits.to(at_least_float32(logits.dtype))).detach().cpu()


@dataclass(frozen=True)
class Run:
    """A run of one prompt.

    Attributes:
        ids: token ids, with those that the metric appends.
        activations: by hook name, without a batch axis, on the model's device.
        value: of the metric.
    """

    ids: tuple[int, ...]
    activations: Mapping[str, Tensor]
    value: float


@without_grad
def run_once(lab: Lab, ids: Sequence[int], hooks: Iterable[str], reader: Reader) -> Run:
    """Run a prompt with nothing replaced, and keep activations."""
    keep = Keep(hooks)
    with lab.lock:
        rows = torch.tensor([list(ids)], device=lab.model.device)
        value = reader(lab.model(rows, tap=keep, last_only=reader.last_only))
    kept = {name: value[0] for name, value in keep.kept.items()}
    return Run(tuple(ids), kept, float(value))


class Replace:
    """A tap that replaces the activation of one hook."""

    def __init__(self, hook: str, value: Tensor) -> None:
        self.hook, self.value = hook, value

    def __call__(self, name: str, value: Tensor) -> Tensor:
        """The replacement for the hook; other activations are unchanged."""
        return self.value if name == self.hook else value

    def wants(self, name: str) -> bool:
        """True for the hook."""
        return name == self.hook


@without_grad
def run_rows(
    lab: Lab, base: Run, layer: int, hook: str, rows: Sequence[Tensor], reader: Reader
) -> Float[Tensor, " batch"]:
    """The metric of runs in which the activation of one hook is replaced.

    Args:
        lab: the model.
        base: the unpatched run, with the residual stream entering `layer`.
        layer: that has the hook.
        hook: whose activation is replaced.
        rows: its activation in each run.
        reader: of the metric.
    """
    tap = Replace(hook, stacked(rows))
    resid = base.activations[RESID_PRE.format(l=layer)].expand(len(rows), -1, -1)
    with lab.lock:
        return reader(logits_from(lab, resid, layer, tap, last_only=reader.last_only))


def logits_from(
    lab: Lab,
    resid: Float[Tensor, "batch pos d_model"],
    layer: int,
    tap: Tap,
    *,
    last_only: bool,
) -> Float[Tensor, "batch out vocab"]:
    """The logits of a pass that begins at a layer, from the residual stream that enters it."""
    model = lab.model
    positions = Positions.of(
        torch.zeros(resid.shape[:2], dtype=torch.long, device=resid.device),
        None,
        None,
        model.config,
    )

    def through(stream: Tensor) -> Tensor:
        for block in model.blocks.since(layer):
            stream = block(stream, positions, tap)
        final = model.ln_final(stream[:, -1:] if last_only else stream, NO_TAP)
        return F.linear(final, model.unembedding)

    n_tokens = resid.shape[0] * resid.shape[1]
    return run_on_paying_threads(model.config, resid.device, n_tokens, lambda: through(resid))


def stacked(rows: Sequence[Tensor]) -> Tensor:
    """Rows as one tensor; choices of fewer experts are filled with -1, an empty slot."""
    if rows[0].is_floating_point():
        return torch.stack(list(rows))
    width = max(row.shape[-1] for row in rows)
    return torch.stack([F.pad(row, (0, width - row.shape[-1]), value=-1) for row in rows])


def rows_per_batch(lab: Lab, base: Run, hook: str, reader: Reader) -> int:
    """The number of patched runs of a batch that bounds its memory."""
    n, config = len(base.ids), lab.config
    values = [
        (1 if reader.last_only else n) * config.d_vocab,
        base.activations[hook].numel(),
        config.n_heads * n * n if hook.endswith(PATTERN_HOOKS) else 1,
    ]
    return max(1, min(MAX_POSITIONS // n, MAX_VALUES // max(values)))


def in_batches(rows: Iterable[tuple[int, Tensor]], n: int) -> Iterator[list[tuple[int, Tensor]]]:
    """Numbered rows, `n` at a time."""
    batch: list[tuple[int, Tensor]] = []
    for each in rows:
        batch.append(each)
        if len(batch) == n:
            yield batch
            batch = []
    if batch:
        yield batch
