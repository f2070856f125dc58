"""One layer of experts beside the implementations that `transformers` can choose from."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from qwen3lab.bench.measuring import TOLERANCE, in_turns, machine, on_threads
from qwen3lab.bench.plan import BenchPlan, shape_of
from qwen3lab.bench.report import OURS, Measurement, Report
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.device.dtypes import DTYPES
from qwen3lab.errors import BenchError
from qwen3lab.hooks.taps import NO_TAP
from qwen3lab.model.transformer import Experts

IMPLEMENTATIONS = ("eager", "batched_mm", "grouped_mm")
MOST_GATHERED = 8 * 2**30
"""Bytes of weights that `batched_mm` may gather, one copy for every token and expert."""


@torch.no_grad()
def run_experts(plan: BenchPlan, *, progress: bool = True) -> Report:
    """Time one layer of experts, router included, at several numbers of tokens.

    Args:
        plan: the shape, which has to have experts; tokens, repeats, threads, device and dtype.
        progress: show a bar.

    Raises:
        BenchError: the shape is dense, or the sides do not compute the same.
    """
    config, dtype = shape_of(plan), DTYPES[plan.dtype]
    if not config.is_moe:
        raise BenchError(f"{plan.shape} has no experts: choose a shape such as qwen3-30b-a3b")
    ours = Experts(config, config.moe_layers[0], device=plan.device, dtype=dtype).eval()
    chance = torch.Generator(plan.device).manual_seed(0)
    for parameter in ours.parameters():
        parameter.normal_(0, 0.02, generator=chance)
    sides: dict[str, Callable[[Tensor], Tensor]] = {OURS: lambda x: ours(x, NO_TAP)}
    sides |= {name: _theirs(config, ours, name) for name in IMPLEMENTATIONS}
    rows, gap = [], 0.0
    bar = tqdm(total=len(plan.tokens) * (plan.repeats + 1) * len(sides), disable=not progress)
    with on_threads(plan.threads) as threads, bar:
        for n in plan.tokens:
            x = torch.randn(1, n, config.d_model, generator=chance, device=plan.device).to(dtype)
            able = {s: f for s, f in sides.items() if s != "batched_mm" or _fits(config, n, dtype)}
            gap = max(gap, _agreement(able, x, plan.dtype))
            jobs = {name: partial(layer, x) for name, layer in able.items()}
            times = in_turns(jobs, plan.repeats, bar.update)
            measured = {name: tuple(1e3 * s for s in runs) for name, runs in times.items()}
            rows.append(Measurement("one layer of experts", n, "ms", measured))
    title = (
        f"{config.n_experts} experts of {plan.shape}, top {config.n_experts_per_token}, "
        f"random weights"
    )
    agreement = f"All give the same outputs: largest gap {gap:.1e} of the largest value."
    note = f"batched_mm is left out where it would gather over {MOST_GATHERED / 2**30:.0f} GiB."
    return Report(title, machine(plan, threads), agreement, gap, rows, notes=(note,))


def _theirs(config: Qwen3Config, ours: Experts, implementation: str) -> Callable[[Tensor], Tensor]:
    """Their layer on our weights, which are not copied."""
    from transformers import Qwen3MoeConfig
    from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeSparseMoeBlock

    fields = {k: v for k, v in config.to_dict().items() if k != "model_type"}
    theirs = Qwen3MoeConfig(**fields)
    theirs._experts_implementation = implementation
    with torch.device("meta"):
        # Any: the block's attributes are made by its constructor.
        block: Any = Qwen3MoeSparseMoeBlock(theirs).eval()
    block.gate.weight = ours.router.weight
    block.experts.gate_up_proj, block.experts.down_proj = ours.gate_up, ours.down
    return block


def _fits(config: Qwen3Config, n_tokens: int, dtype: torch.dtype) -> bool:
    """Whether `batched_mm` can gather the weights of all choices."""
    per_expert = 3 * config.d_model * config.d_expert * dtype.itemsize
    return n_tokens * config.n_experts_per_token * per_expert <= MOST_GATHERED


def _agreement(sides: dict[str, Callable[[Tensor], Tensor]], x: Tensor, dtype: str) -> float:
    outs = {name: layer(x).float() for name, layer in sides.items()}
    mine = outs.pop(OURS)
    gap = max(float((mine - peer).abs().max() / peer.abs().max()) for peer in outs.values())
    if not gap <= TOLERANCE[dtype]:
        raise BenchError(
            f"the layers disagree by {gap:.1e} of the largest value, where {dtype} allows "
            f"{TOLERANCE[dtype]:.0e}: their times would not compare"
        )
    return gap
