"""Path patching: the effect of one part of the model through one later reader of it.

All parts between sender and reader are frozen at the run that is patched. Then the residual stream
at the reader changes by exactly what the sender wrote, and by nothing else.

Source: Wang et al., "Interpretability in the wild" (2022, arXiv 2211.00593), section 3.1;
Goldowsky-Dill et al., "Localizing model behavior with path patching" (2023, arXiv 2304.05969).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from qwen3lab.arguments import checked
from qwen3lab.device.grad_mode import without_grad
from qwen3lab.hooks.taps import Keep
from qwen3lab.lab import Lab
from qwen3lab.metrics.metric import Metric
from qwen3lab.patching.alignment import Align
from qwen3lab.patching.changes import INDICES, OUT, WEIGHTS, Activations, added
from qwen3lab.patching.passes import RESID_PRE, logits_from
from qwen3lab.patching.prepared import TwoRuns, two_runs
from qwen3lab.patching.results import Patched
from qwen3lab.patching.sites import SITES
from qwen3lab.patching.sweep import Positioned, cells_of, shape_of, sweep
from qwen3lab.text.prompt import Prompt
from qwen3lab.translation import later, tr

RESID_MID = "blocks.{l}.hook_resid_mid"
RESID_POST = "blocks.{l}.hook_resid_post"

READERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "q": ("q", ("head",)),
    "k": ("k", ("kv_head",)),
    "v": ("v", ("kv_head",)),
    "mlp": ("mlp_out", ()),
}
"""For each reader, the site of what it makes of the stream, and the axes of the result."""

LOGITS = "logits"


@dataclass(frozen=True)
class Sender:
    """A part of the model that writes to the residual stream.

    Attributes:
        kind: "head", "mlp" or "expert".
        layer: of the model.
        index: number of the head or expert; None for an MLP.
    """

    kind: str
    layer: int
    index: int | None = None

    def __str__(self) -> str:
        number = "" if self.index is None else f".{self.index}"
        return f"{self.kind} {self.layer}{number}"

    @property
    def hooks(self) -> tuple[str, ...]:
        """The hooks that say what it writes."""
        of_kind = {
            "head": ("blocks.{l}.attn.hook_result",),
            "mlp": ("blocks.{l}.hook_mlp_out",),
            "expert": (INDICES, WEIGHTS, OUT),
        }
        return tuple(hook.format(l=self.layer) for hook in of_kind[self.kind])

    def wrote(self, kept: Activations) -> Float[Tensor, "pos d_model"]:
        """What it added to the residual stream in a run."""
        values = [kept[hook] for hook in self.hooks]
        if self.kind == "expert":
            return added(self.index, values[0], values[1], values[2])
        return values[0] if self.index is None else values[0][:, self.index]


def head(layer: int, head: int) -> Sender:
    """A head as the sender of a path."""
    return Sender("head", layer, head)


def mlp(layer: int) -> Sender:
    """An MLP, or all experts of a layer, as the sender of a path."""
    return Sender("mlp", layer)


def expert(layer: int, expert: int) -> Sender:
    """One expert as the sender of a path: its weight times its output, where it is chosen."""
    return Sender("expert", layer, expert)


@checked
def path_patching(
    lab: Lab,
    *,
    clean: Prompt,
    corrupt: Prompt,
    metric: Metric,
    sender: Sender,
    to: str = "q",
    direction: str = "denoise",
    align: Align = "position",
    thinking: bool | None = None,
    progress: bool = True,
) -> Patched:
    """Put what one part wrote in one run into another run, for one later reader alone.

    Args:
        lab: the model.
        clean: as in `patch`.
        corrupt: as in `patch`.
        metric: as in `patch`.
        sender: `patching.head(2, 3)`, `patching.mlp(2)` or `patching.expert(2, 14)`; at all tokens
            that correspond.
        to: what reads it. "q", "k" or "v": each later head, by its queries, keys or values; "mlp":
            each later MLP or layer of experts, which may choose others; "logits": the final norm
            and the unembedding, the direct effect.
        direction: as in `patch`.
        align: as in `patch`.
        thinking: as in `patch`.
        progress: as in `patch`.

    Returns:
        The values, normalised as those of `patch`: [layer, head] for heads, [layer] for MLPs, and
        one value, of the last layer, for the logits. Layers that do not read the sender are left
        out.

    Raises:
        ValueError: as in `patch`; or a sender or a reader that the model does not have, or no
            reader after the sender.

    Example:
        >>> import qwen3lab
        >>> from qwen3lab import patching
        >>> lab = qwen3lab.load("tiny-moe")
        >>> metric = patching.logit_difference("7", "9")
        >>> prompts = {"clean": "3+4=?", "corrupt": "5+4=?"}
        >>> found = patching.path_patching(
        ...     lab, **prompts, metric=metric, sender=patching.head(0, 1), to="v"
        ... )
        >>> found.axes, found.layers[0]
        (('layer', 'kv_head'), 1)
    """
    sender = _checked_sender(lab, sender)
    layers = _readers(lab, sender, to)
    site, axes = READERS.get(to, ("resid_post", ()))
    after = range(sender.layer, lab.config.n_layers)
    stream = [hook.format(l=layer) for layer in after for hook in (RESID_MID, RESID_POST)]
    runs = two_runs(
        lab,
        clean,
        corrupt,
        metric=metric,
        hooks=[*sender.hooks, *stream, *SITES[site].hooks(layers)],
        align=align,
        direction=direction,
        thinking=thinking,
    )
    received, direct = _received(runs, sender, SITES[site].hooks(layers))
    if to == LOGITS:
        raw = torch.tensor([direct])
    else:
        every = tuple(range(len(runs.base.ids)))
        cells = cells_of(
            lab,
            SITES[site],
            axes,
            layers,
            own=runs.base.activations,
            other=received,
            where=Positioned(every, every),
        )
        raw = sweep(lab, runs.base, cells, runs.reader, shape=shape_of(cells), progress=progress)
    name = f"{sender} to {to}"
    return runs.result(
        raw, method=later("path patching"), site=name, axes=("layer", *axes), layers=layers
    )


def _checked_sender(lab: Lab, sender: Sender) -> Sender:
    """The sender, its layer counted from 0."""
    config, n = lab.config, lab.config.n_layers
    if not -n <= sender.layer < n:
        raise ValueError(
            tr(
                "layer {layer} does not exist: {name} has layers 0 to {last}",
                layer=sender.layer,
                name=lab.name,
                last=n - 1,
            )
        )
    layer = sender.layer % n
    if sender.kind == "expert" and layer not in config.moe_layers:
        raise ValueError(
            tr(
                "layer {layer} of {name} has no experts: send from patching.mlp({layer})",
                layer=layer,
                name=lab.name,
            )
        )
    size = {"head": config.n_heads, "expert": config.n_experts}.get(sender.kind)
    if size is not None and (sender.index is None or not 0 <= sender.index < size):
        raise ValueError(
            tr(
                "{kind} {index} does not exist: layer {layer} has {kind}s 0 to {last}",
                kind=sender.kind,
                index=sender.index,
                layer=layer,
                last=size - 1,
            )
        )
    return Sender(sender.kind, layer, sender.index)


def _readers(lab: Lab, sender: Sender, to: str) -> tuple[int, ...]:
    """The layers of the readers."""
    n = lab.config.n_layers
    if to == LOGITS:
        return (n - 1,)
    if to not in READERS:
        raise ValueError(
            tr(
                "there is no reader {to!r}: choose from {value}",
                to=to,
                value=", ".join([*READERS, LOGITS]),
            )
        )
    # The MLP of a layer reads the heads of the same layer.
    first = sender.layer + (0 if (to, sender.kind) == ("mlp", "head") else 1)
    if first >= n:
        raise ValueError(
            tr(
                "nothing reads {sender} by {to!r}: layer {last} is the last one",
                sender=sender,
                to=to,
                last=n - 1,
            )
        )
    return tuple(range(first, n))


class _Carried:
    """Sets the residual stream to that of the unpatched run, plus what the sender changed."""

    def __init__(self, base: Activations, sender: Sender, change: Tensor, keep: Keep) -> None:
        self.base, self.change, self.keep = base, change, keep
        # The stream entering the sender's own block has not changed, nor that before its MLP.
        self.unchanged = {RESID_PRE.format(l=sender.layer)}
        if sender.kind != "head":
            self.unchanged.add(RESID_MID.format(l=sender.layer))

    def __call__(self, name: str, value: Tensor) -> Tensor:
        if name.endswith(("hook_resid_pre", "hook_resid_mid", "hook_resid_post")):
            before = self.base[name][None]
            return before if name in self.unchanged else before + self.change
        return self.keep(name, value)

    def wants(self, name: str) -> bool:
        return self.keep.wants(name)


@without_grad
def _received(
    runs: TwoRuns, sender: Sender, hooks: Sequence[str]
) -> tuple[dict[str, Tensor], float]:
    """What all later readers make of the changed stream, each on its own, and the metric.

    One pass serves all readers, because each gets the stream of the unpatched run with the
    sender's change. The metric is that of the direct path to the logits.
    """
    base, reader = runs.base, runs.reader
    where = runs.where
    wrote = sender.wrote(runs.other.activations)[list(where.at)]
    change = torch.zeros_like(sender.wrote(base.activations))
    change[list(where.to)] = wrote - sender.wrote(base.activations)[list(where.to)]
    keep = Keep(hooks)
    tap = _Carried(base.activations, sender, change, keep)
    with runs.lab.lock:
        resid = base.activations[RESID_PRE.format(l=sender.layer)][None]
        logits = logits_from(runs.lab, resid, sender.layer, tap, last_only=reader.last_only)
        return {name: value[0] for name, value in keep.kept.items()}, float(reader(logits))
