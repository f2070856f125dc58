"""Decoding beside the memory's limit, and the price of recording, for shapes of real size."""

import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch
from tqdm.auto import tqdm

from qwen3lab.bench.measuring import in_turns, machine, on_threads, prompt
from qwen3lab.bench.peers import Ours
from qwen3lab.bench.plan import PROMPT_TO_DECODE, BenchPlan, shape_of, weights_of
from qwen3lab.bench.report import OURS, PLAIN, Measurement, Report
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.device.dtypes import DTYPES
from qwen3lab.model.transformer import Qwen3

DENSE_SHAPES = ("qwen3-0.6b", "qwen3-4b", "qwen3-8b")
SHAPES = (*DENSE_SHAPES, "qwen3-30b-a3b")
"""The shapes that are measured, all layers of each."""
LIMIT = "memory's limit"
COPIED_BYTES = {"cuda": 2**30, "cpu": 2**28}
"""Bytes that are copied to measure the memory's bandwidth: more than a cache holds."""
NOTE = (
    "Random weights, made on the device. The memory's limit is the rate at which a step could read "
    "the weights that one token uses, and the keys and values of its past, at the bandwidth of a "
    "copy, measured in the same run. Goals on one H100 in bfloat16: 60 % of it for 0.6B, 4B, 8B; "
    "212 tokens/s for 30B-A3B, and with a recording of attention and routing at least 91 % of the "
    "plain rate for prompts and 95 % for replies."
)


@torch.no_grad()
def run_gpu(plan: BenchPlan, *, shapes: Sequence[str] = SHAPES, progress: bool = True) -> Report:
    """Time decoding, and prompts and replies with a recording, for each of several shapes.

    Args:
        plan: uses tokens, decode, repeats, threads, device and dtype. With a `model` only this one
            is measured, else the shapes.
        shapes: names in the catalog, measured one after another, each with as many layers as the
            plan keeps.
        progress: show a bar.

    Raises:
        BenchError: a shape is unknown.
    """
    names = [plan.title] if plan.model else list(shapes)
    runs = (2 + 2 * len(plan.tokens)) * (plan.repeats + 1)
    rows: list[Measurement] = []
    with (
        on_threads(plan.threads) as threads,
        tqdm(total=runs * len(names), disable=not progress) as bar,
    ):
        bandwidth = bytes_per_second(plan.device)
        for name, side in zip(names, _sides(plan, shapes), strict=True):
            bar.set_description(name)
            rows += _decoding(plan, name, side, bandwidth, bar.update)
            for n in plan.tokens:
                rows += _prompts(plan, name, side, n, bar.update)
            del side
            _free()
    notes = (NOTE, f"The memory's bandwidth: {bandwidth / 1e9:,.0f} GB/s.")
    title = f"Decoding and recording, {', '.join(names)}"
    header = machine(plan, threads)
    return Report(title, header, "Only qwen3lab runs.", 0.0, rows, notes=notes)


def bytes_per_second(device: str) -> float:
    """The memory's bandwidth: bytes that the fastest of some copies reads and writes."""
    kind = torch.device(device).type
    source = torch.ones(COPIED_BYTES.get(kind, COPIED_BYTES["cpu"]) // 4, device=device)
    target = torch.empty_like(source)
    [seconds] = in_turns({"copy": partial(target.copy_, source)}, 5, lambda: None).values()
    return 2 * source.nbytes / min(seconds)


def bytes_of_step(config: Qwen3Config, dtype: torch.dtype, n_past: int) -> int:
    """Bytes that a decoding step of one token reads: weights, keys and values.

    Args:
        config: the model's sizes.
        dtype: of weights, keys and values.
        n_past: tokens before the new one.
    """
    # Of an embedding that is not the unembedding, one row is read.
    unread = 0 if config.tied_embeddings else config.d_vocab * config.d_model
    past = 2 * config.n_layers * config.n_kv_heads * config.d_head * n_past
    return (config.n_active_params - unread + past) * dtype.itemsize


def _sides(plan: BenchPlan, shapes: Sequence[str]) -> Iterator[Ours]:
    """The models, one at a time."""
    if plan.model is not None:
        with weights_of(plan) as folder:
            yield Ours(folder, plan.device, plan.dtype)
        return
    for name in shapes:
        config = shape_of(replace(plan, shape=name))
        model = Qwen3(config, device=plan.device, dtype=DTYPES[plan.dtype]).eval()
        model.init_weights(torch.Generator(plan.device).manual_seed(0))
        yield Ours.of(model)
        del model
        _free()


def _decoding(
    plan: BenchPlan, name: str, side: Ours, bandwidth: float, tick: Callable[[], object]
) -> list[Measurement]:
    """Rates of decoding, plain beside the limit, and recorded beside plain."""
    ids, n = prompt(side, PROMPT_TO_DECODE), plan.decode
    jobs = {
        PLAIN: partial(side.decode, ids, n),
        OURS: partial(side.decode_recording, ids, n),
    }
    rates = {
        key: tuple(n / s for s in runs) for key, runs in in_turns(jobs, plan.repeats, tick).items()
    }
    dtype = DTYPES[plan.dtype]
    limit = bandwidth / bytes_of_step(side.model.config, dtype, PROMPT_TO_DECODE + n // 2)
    shares = tuple(100 * rate / limit for rate in rates[PLAIN])
    beside = {OURS: rates[PLAIN], LIMIT: (limit,)}
    return [
        Measurement(f"decode, {name}", n, "tokens/s", beside),
        Measurement(f"decode, share of the limit, {name}", n, "%", {OURS: shares}),
        Measurement(f"decode recorded, {name}", n, "tokens/s", rates),
    ]


def _prompts(
    plan: BenchPlan, name: str, side: Ours, n: int, tick: Callable[[], object]
) -> list[Measurement]:
    """Rates of a prompt, recorded beside plain."""
    ids = prompt(side, n)
    jobs = {PLAIN: partial(side.forward, ids), OURS: partial(side.record, ids)}
    times = in_turns(jobs, plan.repeats, tick)
    rates = {key: tuple(n / s for s in runs) for key, runs in times.items()}
    return [Measurement(f"prompt recorded, {name}", n, "tokens/s", rates)]


def _free() -> None:
    """Free the memory of the last model, which holds cycles, before the next one is made."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
