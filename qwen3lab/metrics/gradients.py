"""Gradients of a metric with respect to the activations of a run."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from qwen3lab.arguments import checked
from qwen3lab.device.grad_mode import with_grad
from qwen3lab.display import Displayed, Summary, one_line
from qwen3lab.errors import HookError
from qwen3lab.hooks.edits import AnyEdits, Edits, listed_edits
from qwen3lab.hooks.points import resolve_hooks
from qwen3lab.hooks.taps import Chain, Tap
from qwen3lab.lab import Lab
from qwen3lab.metrics.metric import Metric, resolved
from qwen3lab.quantisation.quantised_model import quantisation_of
from qwen3lab.recording.equality import EqualByValue
from qwen3lab.text.prompt import Prompt
from qwen3lab.text.tokenizer import token_texts
from qwen3lab.translation import tr

CHOICE = "hook_expert_indices"
CHOICE_NOTE = (
    "the choice of experts has no gradient: that of the experts' weights says how the metric "
    "changes while the same experts are chosen"
)


@dataclass(frozen=True, repr=False, eq=False)
class Gradients(EqualByValue, Displayed):
    """The gradient of a metric with respect to activations of one run.

    Attributes:
        metric: label of the metric.
        unit: of the metric.
        value: of the metric.
        tokens: of the run, the prompt and what the metric appended to it.
        activations: of the run, by hook name, as in a recording.
        gradients: of the metric, by hook name, in units of the metric for each unit of the
            activation; same shapes.
        note: what has no gradient; empty if everything has.
    """

    metric: str
    unit: str
    value: float
    tokens: list[str]
    activations: Mapping[str, Tensor]
    gradients: Mapping[str, Tensor]
    note: str

    def __getitem__(self, hook: str) -> Tensor:
        """The gradient with respect to the activation of a hook."""
        if hook not in self.gradients:
            raise HookError(
                tr(
                    "{hook!r} has no gradient here: choose from {gradients}",
                    hook=hook,
                    gradients=", ".join(self.gradients),
                )
            )
        return self.gradients[hook]

    def _summary(self) -> Summary:
        facts = {
            tr("metric"): self.metric,
            tr("value"): f"{self.value:.4f} {self.unit}",
            tr("text"): one_line("".join(self.tokens)),
            tr("hooks"): f"{len(self.gradients):,}",
        }
        return Summary(tr("Gradients"), facts, note=self.note)


@checked
def gradients(
    lab: Lab,
    prompt: Prompt,
    *,
    of: Metric,
    hooks: object = "blocks.*.hook_resid_post",
    edits: AnyEdits | None = None,
    thinking: bool | None = None,
) -> Gradients:
    """The gradient of a metric with respect to the activations of some hooks, in one run.

    In a mixture of experts, the gradient flows through the experts and their weights. The choice of
    the experts has none.

    Args:
        lab: a model in memory, with the weights as stored.
        prompt: text, chat messages or token ids.
        of: the metric.
        hooks: hook names or globs.
        edits: as in `Lab.record`; the gradient flows through them.
        thinking: as in `Lab.record`.

    Raises:
        ValueError: the model is quantised or streamed, or the metric does not fit it.
        HookError: a hook that the model does not have, or that has no gradient.

    Example:
        >>> import qwen3lab
        >>> from qwen3lab import metrics
        >>> lab = qwen3lab.load("tiny-moe")
        >>> found = metrics.gradients(lab, "3+4=?", of=metrics.logit("7"))
        >>> found["blocks.3.hook_resid_post"].shape  # token, d_model
        torch.Size([4, 128])
    """
    check_has_gradients(lab)
    names = _differentiable(hooks, lab)
    ids = lab.token_ids(prompt, thinking=thinking)
    reading = resolved(of, lab, len(ids))
    ids = lab.token_ids([*ids, *reading.appended])
    keep = KeepForGradients(names)
    given = [each for each in listed_edits(edits) if each != {}] if edits is not None else []
    taps: list[Tap] = [Edits(given, lab.config)] if given else []
    with lab.lock:
        value, found = _backward(lab, ids, Chain(_Root(), *taps, keep), keep, reading.read)
    return Gradients(
        metric=reading.label,
        unit=reading.unit,
        value=value,
        tokens=token_texts(lab.tokenizer, ids),
        activations={name: kept.detach()[0].cpu() for name, kept in keep.kept.items()},
        gradients=found,
        note=CHOICE_NOTE if lab.config.is_moe else "",
    )


class KeepForGradients:
    """A tap that keeps activations attached to the graph, by name in `kept`."""

    def __init__(self, names: list[str]) -> None:
        self.names, self.kept = names, dict[str, Tensor]()

    def __call__(self, name: str, value: Tensor) -> Tensor:
        """Keep a wanted activation, and return it unchanged."""
        if name in self.names:
            # Pattern hooks and others are views of what follows: a node of its own has a gradient.
            value = value.view_as(value)
            self.kept[name] = value
        return value

    def wants(self, name: str) -> bool:
        """True if the name is kept."""
        return name in self.names


class _Root:
    """Makes the embeddings the beginning of the graph, also where no parameter needs a gradient."""

    def __call__(self, name: str, value: Tensor) -> Tensor:
        return value.detach().requires_grad_() if name == "hook_embed" else value

    def wants(self, name: str) -> bool:
        return name == "hook_embed"


@with_grad
def _backward(
    lab: Lab, ids: list[int], tap: Tap, keep: KeepForGradients, read
) -> tuple[float, dict[str, Float[Tensor, "..."]]]:
    logits = lab.model(torch.tensor([ids], device=lab.model.device), tap=tap)
    value = read(logits)[0]
    names = list(keep.kept)
    found = torch.autograd.grad(value, [keep.kept[name] for name in names], allow_unused=True)
    # A hook that the metric does not depend on, such as later tokens, has a gradient of zero.
    return float(value.detach()), {
        name: (torch.zeros_like(keep.kept[name]) if each is None else each)[0].cpu()
        for name, each in zip(names, found, strict=True)
    }


def check_has_gradients(lab: Lab) -> None:
    """Raises `ValueError` for a model without gradients: quantised, or read from disk."""
    kind = quantisation_of(lab.model)
    if kind is not None:
        raise ValueError(
            tr(
                "{name} is quantised ({kind}), and its integer weights have no "
                "gradients: load it without quantise=",
                name=lab.name,
                kind=kind.kind,
            )
        )
    if lab.model.blocks.is_streamed:
        raise ValueError(
            tr(
                "the weights of {name} are read from disk for every pass, which keeps no "
                "graph for gradients: load it without memory=",
                name=lab.name,
            )
        )


def _differentiable(hooks: object, lab: Lab) -> list[str]:
    names = resolve_hooks(hooks, lab.config)  # type: ignore[arg-type]
    is_listed = isinstance(hooks, str) and "*" not in hooks and hooks != "all"
    if is_listed and names and names[0].endswith(CHOICE):
        raise HookError(
            tr("{names!r} has no gradient: {choice_note}", names=names[0], choice_note=CHOICE_NOTE)
        )
    return [name for name in names if not name.endswith(CHOICE)]
