"""Trains the maps of a tuned lens."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from qwen3lab.arguments import Count, Seed, checked
from qwen3lab.device.grad_mode import with_grad
from qwen3lab.errors import NonFiniteError
from qwen3lab.interrupts import HeldInterrupts
from qwen3lab.lab import Lab
from qwen3lab.lenses.distributions import kl_divergence
from qwen3lab.lenses.places import NEEDED
from qwen3lab.lenses.tuned import TunedLens
from qwen3lab.recording.rendered_logits import OutputHead
from qwen3lab.text.prompt import Prompt, as_prompts
from qwen3lab.translation import tr

MAX_LOGITS_AT_ONCE = 2**24
"""Maximum number of logits that are computed together: 64 MiB in float32."""


@dataclass(frozen=True)
class _Trained:
    """The maps while they are trained, as changes of the identity, on the model's device."""

    changes: list[Float[Tensor, "d_model d_model"]]
    biases: list[Float[Tensor, " d_model"]]

    @classmethod
    def start(cls, lab: Lab) -> "_Trained":
        n, d_model, device = lab.config.n_layers - 1, lab.config.d_model, lab.model.device
        options = {"device": device, "requires_grad": True}
        return cls(
            [torch.zeros(d_model, d_model, **options) for _ in range(n)],
            [torch.zeros(d_model, **options) for _ in range(n)],
        )

    def result(self, begun: TunedLens, kl: Sequence[Tensor], n_tokens: int) -> TunedLens:
        changes, biases = (torch.stack(each).detach().cpu() for each in (self.changes, self.biases))
        matrices = begun.matrices + changes
        return replace(
            begun, matrices=matrices, biases=biases, kl=torch.stack(list(kl)), n_tokens=n_tokens
        )


@checked
@with_grad
def train(
    lab: Lab,
    texts: Sequence[Prompt],
    *,
    steps: Count = 250,
    batch_size: Count = 8,
    learning_rate: float = 1e-3,
    seed: Seed = 0,
    progress: bool = True,
) -> TunedLens:
    """Train a tuned lens: minimise KL(output || lens) in each layer, from the identity on.

    Adam, whose learning rate falls to 0 in a line (the paper's own runs use SGD with momentum). The
    model's weights do not change. Each step records its texts, so memory does not depend on their
    number.

    Args:
        lab: the model; it may be quantised or streamed.
        texts: text, chat messages or token ids, such as the model was trained on.
        steps: of the optimiser.
        batch_size: texts of each step.
        learning_rate: of the first step.
        seed: of the order of the texts.
        progress: show a progress bar with the KL divergence of the last step.

    Returns:
        The maps; after a keyboard interrupt, those of the steps that were done, if any.

    Raises:
        ValueError: there is no text, the learning rate is not above 0 and at most 1, or the model
            has one layer.
        NonFiniteError: the training diverged.
    """
    rows = _checked_rows(lab, texts, learning_rate)
    begun, trained = TunedLens.identity(lab), _Trained.start(lab)
    parameters = [*trained.changes, *trained.biases]
    optimiser = torch.optim.Adam(parameters, lr=learning_rate)
    kl: list[Tensor] = []
    n_tokens = 0
    bar = tqdm(
        _batches(rows, steps, batch_size, seed), total=steps, unit=tr("step"), disable=not progress
    )
    with HeldInterrupts(at_once=False, keep=True) as held, closing(bar):
        try:
            for step, batch in enumerate(bar):
                optimiser.param_groups[0]["lr"] = learning_rate * (1 - step / steps)
                found = _gradients(lab, batch, trained, step)
                with HeldInterrupts():  # A step is done for all layers, or for none.
                    optimiser.step()
                    kl.append(found)
                    n_tokens += sum(map(len, batch))
                bar.set_postfix(KL=f"{float(found.mean()):.3f}", refresh=False)
            held.hold()
        except KeyboardInterrupt:
            held.hold()
            if not kl:
                raise
        return trained.result(begun, kl, n_tokens)


def _checked_rows(lab: Lab, texts: Sequence[Prompt], learning_rate: float) -> list[list[int]]:
    if not 0 < learning_rate <= 1:
        raise ValueError(f"learning_rate is {learning_rate}: expected above 0 and at most 1")
    if lab.config.n_layers < 2:
        raise ValueError(f"{lab.name} has one layer, whose lens is the output: nothing to train")
    rows = [lab.token_ids(text) for text in as_prompts(texts)]
    if not rows:
        raise ValueError("there is no text to train on: expected at least one")
    return rows


def _batches(
    rows: Sequence[list[int]], steps: int, batch_size: int, seed: int
) -> Iterator[list[list[int]]]:
    """Texts of each step: all of them in random order, then again in another one."""
    generator = torch.Generator().manual_seed(seed)
    queue: list[int] = []
    for _ in range(steps):
        batch: list[list[int]] = []
        while len(batch) < min(batch_size, len(rows)):
            queue = queue or torch.randperm(len(rows), generator=generator).tolist()
            batch.append(rows[queue.pop()])
        yield batch


def _gradients(
    lab: Lab, batch: list[list[int]], trained: _Trained, step: int
) -> Float[Tensor, " layer"]:
    """Set the gradients of all maps for a batch; returns the mean KL divergence of each layer."""
    head, streams = OutputHead.of(lab.model), _streams(lab, batch)
    n_rows, device = len(streams[-1]), lab.model.device
    for parameter in (*trained.changes, *trained.biases):
        parameter.grad = torch.zeros_like(parameter)
    kl = torch.zeros(len(trained.changes))
    size = max(1, MAX_LOGITS_AT_ONCE // lab.config.d_vocab)
    for rows in (slice(start, start + size) for start in range(0, n_rows, size)):
        final = head.logits(streams[-1][rows]).float().to(device)
        for layer, stream in enumerate(streams[:-1]):
            kl[layer] += _add_gradient(trained, layer, head, stream[rows].to(device), final, n_rows)
    if not bool(kl.isfinite().all()):
        layer = int(kl.isfinite().logical_not().nonzero()[0])
        raise NonFiniteError(
            f"the KL divergence of layer {layer} is not finite at step {step}: choose a smaller "
            "learning_rate"
        )
    return kl


def _streams(lab: Lab, batch: list[list[int]]) -> list[Float[Tensor, "token d_model"]]:
    """The residual stream after each layer, the tokens of all texts one after another."""
    recordings = lab.record_batch(batch, capture=NEEDED, attention=False)
    hooks = [f"blocks.{layer}.hook_resid_post" for layer in range(lab.config.n_layers)]
    return [torch.cat([recording[hook] for recording in recordings]) for hook in hooks]


def _add_gradient(
    trained: _Trained,
    layer: int,
    head: OutputHead,
    stream: Float[Tensor, "token d_model"],
    final: Float[Tensor, "token vocab"],
    n_rows: int,
) -> float:
    """Add the gradient of some rows' share of the mean KL divergence, and return the share."""
    change, bias = trained.changes[layer], trained.biases[layer]
    moved = (stream + stream @ change.T + bias).to(head.unembedding.dtype)
    logits = F.linear(head.ln_final(moved), head.unembedding).float()
    loss = kl_divergence(final, logits).sum() / n_rows
    for parameter, gradient in zip(
        (change, bias), torch.autograd.grad(loss, (change, bias)), strict=True
    ):
        assert parameter.grad is not None
        parameter.grad += gradient
    return float(loss.detach())
