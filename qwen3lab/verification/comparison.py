"""Runs our model and `transformers` side by side, layer by layer, and compares every hook.

Each layer of both gets the same input, the residual stream of `transformers`, so that an error
shows in the layer that makes it, and nowhere else. Beside that, each model's own stream runs
through all layers, to the logits.
"""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from qwen3lab.device.grad_mode import without_grad
from qwen3lab.hooks.points import hook_names
from qwen3lab.hooks.taps import NO_TAP, Keep
from qwen3lab.model.positions import Positions
from qwen3lab.model.transformer import Qwen3
from qwen3lab.verification.prompts import Run
from qwen3lab.verification.report import Difference, Experts, Greedy, HookWorst
from qwen3lab.verification.rounding import (
    AFTER_TIE,
    FACTOR,
    WIDER,
    Distance,
    by_expert,
    compare_choices,
    distance,
)
from qwen3lab.verification.transformers_hooks import run_layer
from qwen3lab.verification.transformers_reference import Reference, angles, causal_mask

CHOICE, WEIGHTS = "mlp.hook_expert_indices", "mlp.hook_expert_weights"
AFTER_CHOICE = (WEIGHTS, "hook_mlp_out", "hook_resid_post")
"""Hooks that depend on the choice of experts; tokens with a tie are left out."""
LOGITS = "hook_unembed"
OWN_STREAM = "on its own stream"


@dataclass
class Findings:
    """What the comparison found so far."""

    differences: list[Difference] = field(default_factory=list)
    worst: dict[str, HookWorst] = field(default_factory=dict)
    experts: Experts = field(default_factory=Experts)
    greedy: Greedy = field(default_factory=Greedy)

    def take(self, hook: str, prompt: str, found: Distance, *, note: str = "") -> None:
        """Count a compared hook, and keep it if it is the worst of its kind or differs."""
        kind = ".".join(part for part in hook.split(".") if part != "blocks" and not part.isdigit())
        kind = f"{kind} {note}".strip()
        before = self.worst.get(kind)
        if before is None or not found.share <= before.share:
            self.worst[kind] = HookWorst(kind, hook, prompt, found.ours, found.theirs, found.share)
        if not found.holds:
            self.add(Difference(hook, prompt, found.ours, found.theirs, found.allowed, note))

    def add(self, difference: Difference) -> None:
        """Keep a difference."""
        self.differences.append(difference)


@dataclass
class _Streams:
    """The residual streams of one prompt, and what its layers need."""

    run: Run
    ids: Tensor
    positions: Positions
    rotary: tuple[Tensor, Tensor]
    mask: Tensor
    theirs: Tensor
    ours: Tensor
    exact: Tensor
    exact_rotary: tuple[Tensor, Tensor]
    exact_mask: Tensor
    parted: bool = False


@without_grad
def compare(
    model: Qwen3, reference: Reference, runs: Sequence[Run], *, progress: bool = True
) -> Findings:
    """Compare all hooks of all layers, the logits and the greedy tokens.

    Args:
        model: ours, in memory or streamed.
        reference: the same weights in the modules of `transformers`.
        runs: prompts with our continuations.
        progress: show a progress bar over the layers.
    """
    findings = Findings()
    streams = [_start(model, reference, run, findings) for run in runs]
    pairs = zip(model.blocks, reference.layers(), strict=True)
    bar = tqdm(pairs, total=len(model.blocks), unit="layer", desc="compare", disable=not progress)
    for layer, (block, theirs) in enumerate(bar):
        exact = _widened(theirs, model)
        for stream in streams:
            _compare_layer(model, layer, block, (theirs, exact), stream, findings)
    wide_norm, wide_head = _widened(reference.norm, model), _widened(reference.head, model)
    for stream in streams:
        _compare_logits(model, reference, (wide_norm, wide_head), stream, findings)
    findings.differences.sort(key=lambda found: _place(found, model))
    return findings


def _start(model: Qwen3, reference: Reference, run: Run, findings: Findings) -> _Streams:
    ids = run.ids.to(model.device)
    theirs, ours = reference.embed(ids), model.embed(ids)
    wide = theirs.to(_wide_device(model), WIDER[theirs.dtype])
    findings.take("hook_embed", run.name, distance(ours, theirs, wide))
    rotary = angles(reference, ids, theirs)
    tokens = ids.shape[1]
    return _Streams(
        run,
        ids,
        Positions.of(ids, None, None, model.config, None),
        rotary,
        causal_mask(tokens, theirs),
        theirs,
        ours,
        wide,
        _wide_angles(reference, ids, wide),
        causal_mask(tokens, wide),
    )


def _wide_angles(reference: Reference, ids: Tensor, wide: Tensor) -> tuple[Tensor, Tensor]:
    # In float32, in which the rotary module computes whatever the dtype.
    like = torch.empty(0, device=ids.device, dtype=torch.float32)
    cos, sin = angles(reference, ids, like)
    return cos.to(wide), sin.to(wide)


def _compare_layer(
    model: Qwen3,
    layer: int,
    block: Any,
    modules: tuple[nn.Module, nn.Module],
    stream: _Streams,
    findings: Findings,
) -> None:
    """Compare a layer on the same input, then let the three streams pass it."""
    module, wide = modules
    prefix = f"blocks.{layer}."
    theirs = run_layer(module, stream.theirs, stream.rotary, stream.mask)
    exact_args = (stream.exact_rotary, stream.exact_mask)
    exact = run_layer(wide, stream.theirs.to(stream.exact), *exact_args)
    names = [n for n in hook_names(model.config) if n.removeprefix(prefix) in theirs]
    tap = Keep(n for n in names if n.startswith(prefix))
    block(stream.theirs, stream.positions, tap)
    ours = {name.removeprefix(prefix): value for name, value in tap.kept.items()}
    _compare_hooks(prefix, ours, theirs, exact, stream.run.name, findings)

    own = Keep([f"{prefix}{CHOICE}"])
    stream.ours = block(stream.ours, stream.positions, own)
    wide_own = run_layer(wide, stream.exact, *exact_args)
    stream.exact, stream.theirs = wide_own["hook_resid_post"], theirs["hook_resid_post"]
    for chosen in (own.kept.get(f"{prefix}{CHOICE}"), wide_own.get(CHOICE)):
        stream.parted |= chosen is not None and _others_chosen(chosen, theirs[CHOICE])
    _compare_streams(f"{prefix}hook_resid_post", stream, findings)


def _compare_hooks(
    prefix: str,
    ours: dict[str, Tensor],
    theirs: dict[str, Tensor],
    exact: dict[str, Tensor],
    prompt: str,
    findings: Findings,
) -> None:
    same = None
    if CHOICE in ours:
        logits = [each["mlp.hook_router_logits"][0] for each in (theirs, exact)]
        chosen = [each[CHOICE][0].to(logits[1].device) for each in (ours, theirs, exact)]
        choices = compare_choices(*chosen, *logits)
        findings.experts.count(choices.n_tokens, choices.tied, choices.wrong)
        same = choices.same[None]
        if choices.wrong:
            note = f"{choices.wrong} of {choices.n_tokens} tokens go to other experts"
            share = choices.wrong / choices.n_tokens
            findings.add(Difference(f"{prefix}{CHOICE}", prompt, share, 0.0, 0.0, note))
    for name, value in ours.items():
        if name == CHOICE:
            continue
        one, other, third = (each[name] for each in (ours, theirs, exact))
        if name == WEIGHTS:
            one, other, third = (by_expert(e[name], e[CHOICE]) for e in (ours, theirs, exact))
        rows = same.to(value.device) if same is not None and name in AFTER_CHOICE else None
        findings.take(f"{prefix}{name}", prompt, _distance(one, other, third, rows))


def _distance(ours: Tensor, theirs: Tensor, exact: Tensor, rows: Tensor | None) -> Distance:
    place = exact.device
    kept = None if rows is None else rows.to(place)
    return distance(ours.to(place), theirs.to(place), exact, kept)


def _compare_streams(hook: str, stream: _Streams, findings: Findings) -> Distance:
    """Compare the typical token of the three streams, each after its own earlier layers."""
    place = stream.exact.device
    found = distance(stream.ours.to(place), stream.theirs.to(place), stream.exact, typical=True)
    if stream.parted:
        found = Distance(found.ours, found.theirs, max(found.allowed, AFTER_TIE))
    findings.take(hook, stream.run.name, found, note=OWN_STREAM)
    return found


def _compare_logits(
    model: Qwen3,
    reference: Reference,
    wide: tuple[nn.Module, nn.Module],
    stream: _Streams,
    findings: Findings,
) -> None:
    """Compare the logits on the same input, on each model's own stream, and the greedy tokens."""
    theirs = reference.head(reference.norm(stream.theirs))
    exact = wide[1](wide[0](stream.theirs.to(stream.exact)))
    ours = F.linear(model.ln_final(stream.theirs, NO_TAP), model.unembedding)
    findings.take(LOGITS, stream.run.name, _distance(ours, theirs, exact, None))
    # In a copy, so that the logits of one prompt are in memory at a time.
    ends = replace(
        stream,
        ours=F.linear(model.ln_final(stream.ours, NO_TAP), model.unembedding),
        theirs=theirs,
        exact=wide[1](wide[0](stream.exact)),
    )
    _compare_streams(LOGITS, ends, findings)
    _compare_greedy(ends, findings)


def _compare_greedy(stream: _Streams, findings: Findings) -> None:
    """Check that `transformers` would write the same tokens, but for ties.

    Teacher-forced: where every token is the reference's own choice after the tokens before it, its
    greedy text is the same.
    """
    run = stream.run
    logits = stream.theirs[0, run.n_prompt - 1 :].to(stream.exact)
    noise = (logits - stream.exact[0, run.n_prompt - 1 :]).abs().amax(dim=-1)
    ours = stream.ours[0, run.n_prompt - 1 :].to(stream.exact)
    tie = 2 * FACTOR * torch.maximum(noise, (ours - logits).abs().amax(dim=-1))
    for index, token in enumerate(run.written):
        best, row = int(logits[index].argmax()), logits[index]
        gap = float(row[best] - row[token])
        is_tied = best != token and gap <= float(tie[index])
        findings.greedy.count(equal=best == token, tied=is_tied)
        if best != token and not is_tied:
            note = f"token {index} of the reply is {token}, and {best} of transformers"
            findings.add(Difference("greedy tokens", run.name, gap, 0.0, float(tie[index]), note))
            return


def _others_chosen(ours: Tensor, theirs: Tensor) -> bool:
    ours, theirs = (each.sort(dim=-1).values.cpu() for each in (ours, theirs))
    return not torch.equal(ours, theirs)


def _widened(module: nn.Module, model: Qwen3) -> nn.Module:
    """A copy of a module in the wider dtype, which its weights have exactly."""
    return copy.deepcopy(module).to(_wide_device(model), WIDER[model.dtype])


def _wide_device(model: Qwen3) -> torch.device:
    """Where the wider dtype exists: Apple's GPUs have no float64."""
    return torch.device("cpu") if model.device.type == "mps" else model.device


def _place(found: Difference, model: Qwen3) -> tuple[int, int]:
    """The order of the forward pass; comparisons of own streams after those on the same input."""
    order: Iterable[str] = hook_names(model.config)
    index = {name: place for place, name in enumerate(order)}
    return int(found.note == OWN_STREAM), index.get(found.hook, len(index))
