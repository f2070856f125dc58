"""The strongest pairs of a head's OV circuit, compared with a plain search in blocks."""

import time
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from qwen3lab.analysis.circuits import copying_scores, ov_pairs, qk_pairs
from qwen3lab.bench.measuring import machine, on_threads
from qwen3lab.bench.memory import peak_bytes, start_counting
from qwen3lab.bench.plan import BenchPlan, shape_of
from qwen3lab.bench.report import OURS, Measurement, Report
from qwen3lab.device.dtypes import DTYPES
from qwen3lab.device.malloc import map_large
from qwen3lab.errors import BenchError
from qwen3lab.lab import Lab, load
from qwen3lab.model.transformer import Qwen3

PLAIN_SEARCH = "blocked float32, topk"
N_PAIRS = 20
ROWS_PER_BLOCK = 512
MAX_GAP = 1e-3
"""Largest accepted relative difference between the entries of the two sides."""

NOTE = (
    "Memory: peak of the process above its memory before the call. The plain search multiplies "
    "all rows in float32 and keeps the best of each block; its order of near-equal entries is not "
    "exact."
)


class TokenNumbers:
    """Stands for the tokenizer of random weights: a token's text is its number."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def decode(self, token_ids: Sequence[int], **options: bool) -> str:
        """The numbers of the tokens."""
        return " ".join(map(str, token_ids))


@torch.no_grad()
def run_circuits(plan: BenchPlan, *, progress: bool = True) -> Report:
    """Time `ov_pairs`, `qk_pairs` and `copying_scores`, with their peak memory.

    Args:
        plan: the model, or a shape; uses repeats, threads, device and dtype.
        progress: show a bar.

    Raises:
        BenchError: the pairs of the two sides differ.
        CheckpointError: the plan's model cannot be opened.
    """
    map_large()
    lab = _lab(plan)
    jobs: dict[tuple[str, str], Callable[[], object]] = {
        ("OV pairs", OURS): lambda: ov_pairs(lab, 0, 0, n=N_PAIRS).value,
        ("OV pairs", PLAIN_SEARCH): lambda: plain_ov_pairs(lab, N_PAIRS),
        ("QK pairs", OURS): lambda: qk_pairs(lab, 0, 0, n=N_PAIRS).value,
        ("copying scores", OURS): lambda: copying_scores(lab),
    }
    seconds: dict[tuple[str, str], list[float]] = {name: [] for name in jobs}
    memory: dict[tuple[str, str], list[float]] = {name: [] for name in jobs}
    results: dict[tuple[str, str], object] = {}
    bar = tqdm(total=plan.repeats * len(jobs), disable=not progress)
    with on_threads(plan.threads) as threads, bar:
        for _ in range(plan.repeats):
            for name, job in jobs.items():
                before, start = start_counting(plan.device), time.perf_counter()
                results[name] = job()
                seconds[name].append(time.perf_counter() - start)
                after = peak_bytes(plan.device)
                if before is not None and after is not None:
                    memory[name].append((after - before) / 2**20)
                bar.update()
    gap = _gap(results["OV pairs", OURS], results["OV pairs", PLAIN_SEARCH])
    rows = [
        _row(case, lab, unit, values)
        for case in ("OV pairs", "QK pairs", "copying scores")
        for unit, values in (("s", seconds), ("MiB", memory))
    ]
    return Report(
        f"Circuits: {plan.title}",
        machine(plan, threads),
        f"Both sides find the same entries; largest relative difference {gap:.1e}.",
        gap,
        rows,
        sizes="words",
        notes=(NOTE,),
    )


def plain_ov_pairs(lab: Lab, n: int) -> tuple[float, ...]:
    """The largest entries of the first head's OV circuit: every block in float32, and topk."""
    config, block, n_tokens = lab.config, lab.model.blocks[0], len(lab.tokenizer)
    weights = (lab.model.embed.weight, lab.model.unembedding, block.attn.v.weight)
    embedding, unembedding, w_v = (weight.detach().float() for weight in weights)
    embedding, unembedding = embedding[:n_tokens], unembedding[:n_tokens]
    x = torch.nn.functional.rms_norm(embedding, (config.d_model,), eps=config.eps)
    left = x @ (w_v[: config.d_head] * block.ln1.weight.float()).T
    w_o = block.attn.o.weight.detach().float()[:, : config.d_head]
    right = unembedding @ (w_o * lab.model.ln_final.weight.float()[:, None])
    right -= right.mean(dim=0)
    best = left.new_zeros(0)
    for rows in left.split(ROWS_PER_BLOCK):
        product = (rows @ right.T).flatten()
        best = torch.cat([best, product.topk(min(n, len(product))).values])
        best = best.topk(min(n, len(best))).values
    return tuple(best.tolist())


def _lab(plan: BenchPlan) -> Lab:
    if plan.model is not None:
        return load(plan.model, device=plan.device, dtype=plan.dtype)
    config = shape_of(plan)
    model = Qwen3(config, device=plan.device, dtype=DTYPES[plan.dtype])
    model.init_weights(torch.Generator(plan.device).manual_seed(0))
    return Lab(model, TokenNumbers(config.d_vocab))


def _gap(ours: object, theirs: object) -> float:
    """The largest relative difference between the entries of the two sides.

    Raises:
        BenchError: it is above `MAX_GAP`.
    """
    mine = torch.tensor(ours, dtype=torch.float64)
    other: Float[Tensor, " n"] = torch.tensor(theirs, dtype=torch.float64)
    gap = float(((mine - other).abs() / other.abs().max()).max())
    if not gap <= MAX_GAP:
        raise BenchError(
            f"the largest entries of the two sides differ by {gap:.1e}, above {MAX_GAP:.0e}: "
            "their times are not comparable"
        )
    return gap


def _row(case: str, lab: Lab, unit: str, values: dict[tuple[str, str], list[float]]) -> Measurement:
    sides = {side: tuple(found) for (name, side), found in values.items() if name == case}
    return Measurement(case, len(lab.tokenizer), unit, sides)
