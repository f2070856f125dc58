"""A sweep of patches over layers and positions, beside loops that run one patch in each pass."""

from collections.abc import Callable
from contextlib import redirect_stderr
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from qwen3lab.bench.measuring import in_turns, machine, on_threads
from qwen3lab.bench.peers import Lens, installed
from qwen3lab.bench.plan import BenchPlan, weights_of
from qwen3lab.bench.report import OURS, Measurement, Report
from qwen3lab.bench.suites.circuits import TokenNumbers
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.errors import BenchError
from qwen3lab.hooks.taps import Keep
from qwen3lab.lab import Lab
from qwen3lab.loading import load_model
from qwen3lab.metrics.metric import logit_difference
from qwen3lab.patching.activation import patch
from qwen3lab.patching.passes import Replace

LOOP = "one patch a pass"
SITE = "resid_pre"
TOKENS = (1, 2)
"""Their logit difference is the metric."""

MAX_TOKENS = 24
"""Maximum length of the prompts: a loop runs the model for each of their tokens in each layer."""

MAX_GAP = 1e-3
"""Largest accepted difference between the maps of two sides, relative to the largest effect."""

NOTE = (
    "All sides replace the residual stream entering each layer, at one position at a time. The "
    "prompts differ from their first token on, so that every patch has to be run but those of the "
    "first layer, where only the first token's embedding differs; qwen3lab does not run the others."
)

Sweep = Callable[[Tensor, Tensor], Float[Tensor, "layer pos"]]


@torch.no_grad()
def run_patching(plan: BenchPlan, *, progress: bool = True) -> Report:
    """Time a sweep of activation patching by qwen3lab, by a plain loop, and by TransformerLens.

    Args:
        plan: the model, or a shape; uses tokens (at most `MAX_TOKENS`), repeats, threads, device
            and dtype.
        progress: show a bar.

    Raises:
        BenchError: the maps of the sides differ.
        CheckpointError: the plan's model cannot be opened.
    """
    lengths = sorted({min(n, MAX_TOKENS) for n in plan.tokens})
    rows, gaps = [], []
    with on_threads(plan.threads) as threads, weights_of(plan) as folder:
        sides = _sides(folder, plan)
        bar = tqdm(total=len(sides) * len(lengths) * (plan.repeats + 1), disable=not progress)
        with bar:
            for n in lengths:
                clean, corrupt = _prompts(n, _vocabulary(folder))
                maps: dict[str, Tensor] = {}
                jobs = {
                    name: _kept(sweep, name, maps, clean, corrupt) for name, sweep in sides.items()
                }
                seconds = in_turns(jobs, plan.repeats, bar.update)
                gaps.append(_gap(maps))
                measured = {name: tuple(1e3 * s for s in runs) for name, runs in seconds.items()}
                rows.append(Measurement("layer x position sweep", n, "ms", measured))
    gap = max(gaps)
    return Report(
        f"Patching: {plan.title}",
        machine(plan, threads),
        f"The maps of all sides agree; largest difference {gap:.1e} of the largest effect.",
        gap,
        rows,
        notes=(NOTE,),
    )


def _vocabulary(folder: Path) -> int:
    """The number of tokens of the model in a folder."""
    return Qwen3Config.from_file(folder).d_vocab


def _sides(folder: Path, plan: BenchPlan) -> dict[str, Sweep]:
    model = load_model(folder, device=plan.device, dtype=plan.dtype)
    lab = Lab(model, TokenNumbers(model.config.d_vocab))
    sides: dict[str, Sweep] = {
        OURS: lambda clean, corrupt: _by_batches(lab, clean, corrupt),
        LOOP: lambda clean, corrupt: _by_loop(lab, clean, corrupt),
    }
    if Lens.name in installed():
        theirs = Lens(folder, plan.device, plan.dtype).model
        sides[Lens.name] = lambda clean, corrupt: _by_transformer_lens(theirs, clean, corrupt)
    return sides


def _by_batches(lab: Lab, clean: Tensor, corrupt: Tensor) -> Float[Tensor, "layer pos"]:
    return patch(
        lab,
        clean=clean[0],
        corrupt=corrupt[0],
        metric=logit_difference(*TOKENS),
        site=SITE,
        progress=False,
    ).raw


def _by_loop(lab: Lab, clean: Tensor, corrupt: Tensor) -> Float[Tensor, "layer pos"]:
    """One pass for each patch, as in a loop over recorded runs."""
    hooks = [f"blocks.{layer}.hook_{SITE}" for layer in range(lab.config.n_layers)]
    runs = []
    for ids in (clean, corrupt):
        keep = Keep(hooks)
        lab.model(ids.to(lab.model.device), tap=keep)
        runs.append(keep.kept)
    found = torch.zeros(len(hooks), corrupt.shape[1])
    for layer, hook in enumerate(hooks):
        for place in range(corrupt.shape[1]):
            value = runs[1][hook].clone()
            value[:, place] = runs[0][hook][:, place]
            logits = lab.model(corrupt.to(lab.model.device), tap=Replace(hook, value))
            found[layer, place] = _difference(logits)
    return found


def _by_transformer_lens(model: Any, clean: Tensor, corrupt: Tensor) -> Float[Tensor, "layer pos"]:
    sweeps: Any = import_module("transformer_lens.patching")
    device = model.cfg.device
    _, cache = model.run_with_cache(clean.to(device))
    with redirect_stderr(StringIO()):  # Their bar cannot be switched off.
        found = sweeps.get_act_patch_resid_pre(model, corrupt.to(device), cache, _difference)
    return found.cpu()


def _difference(logits: Tensor) -> Tensor:
    first, second = TOKENS
    last = logits[0, -1].float()
    return last[first] - last[second]


def _prompts(n: int, d_vocab: int) -> tuple[Tensor, Tensor]:
    """Two prompts of random tokens that differ in the first one."""
    generator = torch.Generator().manual_seed(n)
    clean = torch.randint(0, d_vocab, (1, n), generator=generator)
    corrupt = clean.clone()
    corrupt[0, 0] = (corrupt[0, 0] + 1) % d_vocab
    return clean, corrupt


def _kept(
    sweep: Sweep, name: str, maps: dict[str, Tensor], clean: Tensor, corrupt: Tensor
) -> Callable[[], object]:
    """A job that keeps the map of its last run, to compare it."""

    def job() -> object:
        maps[name] = sweep(clean, corrupt)
        return maps[name]

    return job


def _gap(maps: dict[str, Tensor]) -> float:
    """The largest difference between our map and the others, relative to the largest effect.

    Raises:
        BenchError: it is above `MAX_GAP`.
    """
    ours = maps[OURS].double()
    size = max(float((ours - ours[0, -1]).abs().max()), 1e-9)
    gap = max(float((ours - other).abs().max()) for other in maps.values()) / size
    if not gap <= MAX_GAP:
        raise BenchError(
            f"the maps of the sides differ by {gap:.1e} of the largest effect, above "
            f"{MAX_GAP:.0e}: their times are not comparable"
        )
    return gap
