"""How much a corpus run writes, said before it starts."""

from dataclasses import dataclass
from itertools import islice
from math import prod

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.corpus.counting import smallest_unsigned
from qwen3lab.corpus.part import Kept
from qwen3lab.corpus.plan import CONTEXT_TOKENS, positions_of
from qwen3lab.corpus.source import Source
from qwen3lab.corpus.texts import Text, as_text, columns_of
from qwen3lab.display import Displayed, Summary
from qwen3lab.hooks.points import hook_names
from qwen3lab.lab import Lab
from qwen3lab.translation import tr

SAMPLED_ROWS = 32
"""Rows of the first part whose tokens are counted for the estimate."""
COUNT_BYTES = 6
"""Of a count in a compressed Parquet file, as measured on the embedded model."""
SALIENCY_BYTES = 43
"""Of an expert in the table of saliency: five columns of 8 bytes, and its numbers."""
FLOAT_BYTES = 4


@dataclass(frozen=True, repr=False)
class Expected(Displayed):
    """What a run is expected to write.

    Attributes:
        tokens: of the data set, from the length of its first rows.
        bytes: upper bound of the counts, and size of routes and activations.
    """

    tokens: int
    bytes: int

    def _summary(self) -> Summary:
        facts = {tr("tokens"): f"{self.tokens:,}", tr("bytes"): f"{self.bytes:,}"}
        return Summary(tr("Expected size of a corpus"), facts)


def expected(lab: Lab, kept: Kept, source: Source) -> Expected:
    """The tokens and bytes of a run, before it starts."""
    plan, first = kept.plan, source.parts[0]
    rows = islice(source.rows(first, columns_of(plan)), SAMPLED_ROWS)
    texts = [as_text(row, values, plan, lab.tokenizer, lab.config) for row, values in rows]
    lengths = [len(text.token_ids) for text in texts if isinstance(text, Text)]
    tokens = int(sum(lengths) / max(len(texts), 1) * source.n_rows)
    size = tokens * token_bytes(kept) + source.n_rows * text_bytes(kept)
    return Expected(tokens, int(size + len(source.parts) * part_bytes(kept, tokens, source)))


def token_bytes(kept: Kept) -> int:
    """Bytes of a token: of its routes and of its full activations."""
    config = kept.config
    n = sum(FLOAT_BYTES * _values(hook, config) for hook in kept.full)
    if "routes" in kept.plan.keep:
        slots = len(config.moe_layers) * config.n_experts_per_token
        n += slots * (smallest_unsigned(config.n_experts).itemsize + FLOAT_BYTES) + 8
    return n


def text_bytes(kept: Kept) -> int:
    """Bytes of a text: of its row, and of its reduced activations."""
    positions = {hook: positions_of(hook, how) or (0,) for hook, how in kept.reduce.items()}
    values = sum(len(at) * _values(hook, kept.config) for hook, at in positions.items())
    return 64 + FLOAT_BYTES * values


def part_bytes(kept: Kept, tokens: int, source: Source) -> int:
    """Bytes of the counts and examples of a part, at most."""
    config, keep = kept.config, kept.plan.keep
    n_layers, n_experts = len(config.moe_layers), config.n_experts
    in_part = tokens // len(source.parts) + 1
    slots = in_part * n_layers * config.n_experts_per_token
    n = 0
    if "counts" in keep and n_layers:
        pairs = min(slots * config.n_experts_per_token, n_layers * n_experts**2)
        tokens_of_experts = min(slots, n_layers * n_experts * config.d_vocab)
        n += COUNT_BYTES * (2 * pairs + tokens_of_experts + n_layers * n_experts)
    if "saliency" in keep:
        n += SALIENCY_BYTES * n_layers * n_experts
    if "top" in keep:
        units = n_layers * n_experts + sum(_values(hook, config) for hook in kept.top_hooks)
        n += units * kept.plan.top * (24 + 4 * CONTEXT_TOKENS)
    return n


def _values(hook: str, config: Qwen3Config) -> int:
    """Values of a hook for one token."""
    sizes = {
        **{name: getattr(config, name) for name in ("d_model", "d_head", "d_mlp")},
        "head": config.n_heads,
        "kv_head": config.n_kv_heads,
        "expert": config.n_experts,
        "k": config.n_experts_per_token,
        "vocab": config.d_vocab,
        "1": 1,
    }
    return prod(sizes[axis] for axis in hook_names(config)[hook].axes.split()[2:])
