"""One mixture-of-experts layer, compared with the expert implementations of `transformers`."""

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
MAX_GATHERED_BYTES = 8 * 2**30
"""Maximum size of the weights that `batched_mm` gathers: one copy for each token and expert."""


@torch.no_grad()
def run_experts(plan: BenchPlan, *, progress: bool = True) -> Report:
    """Time one mixture-of-experts layer, including its router, at several numbers of tokens.

    Args:
        plan: a shape with experts; uses tokens, repeats, threads, device and dtype.
        progress: show a bar.

    Raises:
        BenchError: the shape is dense, or the outputs of the implementations differ.
    """
    config, dtype = shape_of(plan), DTYPES[plan.dtype]
    if not config.is_moe:
        raise BenchError(f"{plan.shape} has no experts: choose a shape such as qwen3-30b-a3b")
    ours = Experts(config, config.moe_layers[0], device=plan.device, dtype=dtype).eval()
    generator = torch.Generator(plan.device).manual_seed(0)
    for parameter in ours.parameters():
        parameter.normal_(0, 0.02, generator=generator)
    sides: dict[str, Callable[[Tensor], Tensor]] = {OURS: lambda x: ours(x, NO_TAP)}
    sides |= {name: _theirs(config, ours, name) for name in IMPLEMENTATIONS}
    rows, gap = [], 0.0
    bar = tqdm(total=len(plan.tokens) * (plan.repeats + 1) * len(sides), disable=not progress)
    with on_threads(plan.threads) as threads, bar:
        for n in plan.tokens:
            x = torch.randn(1, n, config.d_model, generator=generator, device=plan.device).to(dtype)
            fits = _batched_mm_fits(config, n, dtype)
            timed = {name: f for name, f in sides.items() if fits or name != "batched_mm"}
            gap = max(gap, _agreement(timed, x, plan.dtype))
            jobs = {name: partial(layer, x) for name, layer in timed.items()}
            times = in_turns(jobs, plan.repeats, bar.update)
            measured = {name: tuple(1e3 * s for s in runs) for name, runs in times.items()}
            rows.append(Measurement("one MoE layer", n, "ms", measured))
    title = (
        f"One MoE layer of {plan.shape}: {config.n_experts} experts, top "
        f"{config.n_experts_per_token}, random weights"
    )
    agreement = f"All outputs agree; largest difference {gap:.1e} of the largest value."
    limit = MAX_GATHERED_BYTES / 2**30
    note = f"batched_mm is not measured where it would gather more than {limit:.0f} GiB of weights."
    return Report(title, machine(plan, threads), agreement, gap, rows, notes=(note,))


def _theirs(config: Qwen3Config, ours: Experts, implementation: str) -> Callable[[Tensor], Tensor]:
    """The layer of `transformers` with the weights of our layer, which are shared."""
    from transformers import Qwen3MoeConfig
    from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeSparseMoeBlock

    fields = {k: v for k, v in config.to_dict().items() if k != "model_type"}
    their_config = Qwen3MoeConfig(**fields)
    their_config._experts_implementation = implementation
    with torch.device("meta"):
        # Any: the type checker does not know the attributes of the block.
        block: Any = Qwen3MoeSparseMoeBlock(their_config).eval()
    block.gate.weight = ours.router.weight
    block.experts.gate_up_proj, block.experts.down_proj = ours.gate_up, ours.down
    return block


def _batched_mm_fits(config: Qwen3Config, n_tokens: int, dtype: torch.dtype) -> bool:
    """True if the weights that `batched_mm` gathers are within `MAX_GATHERED_BYTES`."""
    per_expert = 3 * config.d_model * config.d_expert * dtype.itemsize
    return n_tokens * config.n_experts_per_token * per_expert <= MAX_GATHERED_BYTES


def _agreement(sides: dict[str, Callable[[Tensor], Tensor]], x: Tensor, dtype: str) -> float:
    """The largest difference of an output from ours, relative to the largest value."""
    outs = {name: layer(x).float() for name, layer in sides.items()}
    ours = outs.pop(OURS)
    gap = max(float((ours - peer).abs().max() / peer.abs().max()) for peer in outs.values())
    if not gap <= TOLERANCE[dtype]:
        raise BenchError(
            f"the outputs of the layers differ by {gap:.1e} of the largest value, above "
            f"{TOLERANCE[dtype]:.0e} for {dtype}: their times are not comparable"
        )
    return gap
