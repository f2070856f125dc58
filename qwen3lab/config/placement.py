"""Chooses how a model is held within a limit of memory: whole, quantised, or streamed.

Everything is computed from the configuration's parameter counts. `load(memory=)` and the table of
`qwen3lab models` use the same functions.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from qwen3lab.config.qwen3_config import BYTES_PER_VALUE, Qwen3Config

QUANTISED = ("int8", "int4")
"""Quantisations, the more exact first."""
Way = Literal["whole", "kept", "int8", "int4", "host", "streamed", "refused"]

RECORDED_TOKENS = 1024
"""Tokens, prompt and reply together, for whose recording and key/value cache room is left."""
RESERVED_BYTES = 500_000_000
"""Left for libraries: their kernels, workspaces and buffers, and a CUDA context."""
UNITS_IN_MEMORY = 2
"""Streamed units of one kind in memory besides the kept ones: one in use, one being read."""
READ_BUFFER_BYTES = 2 * 2**24
"""Of the buffers through which files are read."""
GROUP_SIZE = 32
"""The columns of a matrix are a multiple of it in int4."""

SIZES = {f"{size} GB": size * 10**9 for size in (8, 12, 16, 24, 48, 80)}
"""Memory of usual GPUs and laptops, in bytes."""


@dataclass(frozen=True)
class Placement:
    """How a model is held within a limit of memory.

    Attributes:
        way: "whole"; "kept", whole and packed as the checkpoint stores them; "int8" or "int4",
            whole and quantised; "host", with the weights in the host's
            memory and the most used ones on the device; "streamed" from disk; "refused", if the
            limit is below the least that streaming needs.
        memory: the limit, in bytes.
        dtype: of the weights, or of those that are not quantised.
        weights: bytes of all weights, this way.
        in_dtype: bytes of all weights in `dtype`.
        room: bytes that are left for a recording and the libraries.
        is_moe: True for a mixture of experts.
        resident: bytes on the device while only experts are copied to it when they are used.
        least: bytes of weights on the device that streaming needs.
        alternative: a quantisation that was not allowed, with which the model would fit; or "".
    """

    way: Way
    memory: int
    dtype: str
    weights: int
    in_dtype: int
    room: int
    is_moe: bool
    resident: int
    least: int
    alternative: str = ""

    @property
    def weights_limit(self) -> int:
        """Bytes for streamed weights on the device: the limit without the room, if that suffices.

        A limit that is too small for both is that of the weights alone.
        """
        return self.memory - self.room if self.memory - self.room >= self.least else self.memory

    @property
    def label(self) -> str:
        """The way in a word or two, for a table."""
        if self.way == "whole":
            return self.dtype
        if self.way == "host":
            return "experts on host" if self.holds_all_but_experts else "streamed"
        return {"refused": "no"}.get(self.way, self.way)

    @property
    def holds_all_but_experts(self) -> bool:
        """True if everything but the experts fits on the device, beside the room."""
        return self.is_moe and self.resident + self.room <= self.memory

    @property
    def sentence(self) -> str:
        """What was picked, and why."""
        limit, room = _gb(self.memory), f"{_gb(self.room)} for a recording"
        whole = f"{_gb(self.in_dtype)} in {self.dtype}"
        if self.way == "whole":
            return f"whole in {self.dtype}: {_gb(self.weights)} and {room} fit in {limit}"
        because = f"{whole} and {room} do not fit in {limit}"
        if self.way == "kept":
            return f"kept packed as they are stored, {_gb(self.weights)}: {because}"
        if self.way in QUANTISED:
            return f"quantised to {self.way}, {_gb(self.weights)}: {because}"
        hint = f'; quantise="auto" would take {self.alternative}' if self.alternative else ""
        if self.way == "host":
            what = "experts" if self.holds_all_but_experts else "weights"
            return (
                f"{what} in host memory, copied when they are used, the most used kept on the "
                f"device: {because}{hint}"
            )
        return f"streamed from disk, the most used weights kept in memory: {because}{hint}"


def choose(
    config: Qwen3Config,
    memory: int,
    *,
    dtype: str = "bfloat16",
    kinds: Sequence[str] = (),
    host_bytes: int | float | None = None,
    available: Sequence[str] = QUANTISED,
    kept: int | None = None,
) -> Placement:
    """The best way in which a model is held within a limit: exact, then fast.

    Whole in the asked dtype if that fits beside a recording; else packed as they are stored, if
    they are and that fits; else quantised, if that is allowed and fits; else streamed, from the
    host's memory if that holds the weights, or from disk.

    Args:
        config: of the model.
        memory: limit in bytes.
        dtype: of the weights.
        kinds: allowed quantisations, the better first: "int8", "int4". Empty keeps weights exact.
        host_bytes: free memory of the host; None if the limit is that of the host itself.
        available: quantisations that could be allowed; named in `Placement.sentence`.
        kept: bytes of the weights as a quantised checkpoint stores them; None for another one.

    Raises:
        ConfigError: an unknown dtype or kind.
    """
    room, in_dtype = room_bytes(config, dtype), config.weight_bytes(dtype)
    least = least_streamed_bytes(config, dtype)
    sizes = {kind: config.quantised_bytes(kind, dtype) for kind in (*kinds, *available)}
    fitting = [k for k in sizes if is_quantisable(config, k) and sizes[k] + room <= memory]
    allowed = [kind for kind in fitting if kind in kinds]
    way: Way
    if in_dtype + room <= memory:
        way = "whole"
    elif kept is not None and kept + room <= memory:
        way, sizes["kept"] = "kept", kept
    elif allowed:
        way = "int8" if allowed[0] == "int8" else "int4"
    elif memory < least:
        way = "refused"
    else:
        way = "host" if host_bytes is not None and host_bytes > in_dtype else "streamed"
    return Placement(
        way=way,
        memory=memory,
        dtype=dtype,
        weights=sizes.get(way, in_dtype),
        in_dtype=in_dtype,
        room=room,
        is_moe=config.is_moe,
        resident=resident_bytes(config, dtype),
        least=least,
        alternative=next(iter(fitting), "") if way in ("host", "streamed") else "",
    )


def fits(config: Qwen3Config) -> Mapping[str, str]:
    """For each of `SIZES`, the best way if every quantisation is allowed.

    A mixture whose experts stay in the host's memory is "experts on host".
    """
    options: dict[str, Any] = {"kinds": QUANTISED, "host_bytes": math.inf}
    return {name: choose(config, size, **options).label for name, size in SIZES.items()}


def room_bytes(config: Qwen3Config, dtype: str) -> int:
    """Bytes for a recording of `RECORDED_TOKENS`, its cache and one layer's activations.

    A recording keeps queries and keys of every layer, the routing, and the last residual stream.
    """
    heads = config.n_heads + config.n_kv_heads
    kept = config.n_layers * heads * config.d_head + config.d_model
    kept += len(config.moe_layers) * (config.n_experts + 2 * config.n_experts_per_token)
    experts = config.n_experts_per_token * (3 * config.d_expert + config.d_model)
    layer = 6 * config.d_model + 3 * heads * config.d_head + max(3 * config.d_mlp, experts)
    cached = config.kv_cache_bytes_per_token(dtype)
    per_token = (kept + layer) * BYTES_PER_VALUE[dtype] + cached
    return min(RECORDED_TOKENS, config.n_ctx) * per_token + RESERVED_BYTES


def resident_bytes(config: Qwen3Config, dtype: str) -> int:
    """Bytes on the device while only experts are copied to it when they are used."""
    one = 3 * config.d_model * config.d_expert
    outside = config.n_params - len(config.moe_layers) * config.n_experts * one
    return (outside + UNITS_IN_MEMORY * one) * BYTES_PER_VALUE[dtype] + READ_BUFFER_BYTES


def least_streamed_bytes(config: Qwen3Config, dtype: str) -> int:
    """Minimum bytes for streaming a model, read buffers included, without activations."""
    return least_streamed_values(config) * BYTES_PER_VALUE[dtype] + READ_BUFFER_BYTES


def least_streamed_values(config: Qwen3Config) -> int:
    """Minimum number of weights in memory while a model is streamed.

    Counts the embedding, the final norm, the unembedding, and the units in use and being read.
    """
    outer = config.d_vocab * config.d_model * (1 if config.tied_embeddings else 2) + config.d_model
    attention = config.d_model * config.d_head * 2 * (config.n_heads + config.n_kv_heads)
    block = attention + 2 * config.d_model + 2 * config.d_head
    dense, routed = 3 * config.d_model * config.d_mlp, config.n_experts * config.d_model
    n_moe = len(config.moe_layers)
    units = (block + dense) * (n_moe < config.n_layers) + (block + routed) * (n_moe > 0)
    units += 3 * config.d_model * config.d_expert
    return outer + UNITS_IN_MEMORY * units


def is_quantisable(config: Qwen3Config, kind: str) -> bool:
    """True if the columns of every matrix are as the kind needs them."""
    columns = [config.d_model, config.n_heads * config.d_head]
    columns += [config.d_mlp] if len(config.moe_layers) < config.n_layers else []
    columns += [config.d_expert] if config.is_moe else []
    return kind != "int4" or all(n % GROUP_SIZE == 0 for n in columns)


def _gb(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.3g} GB" if n_bytes >= 10**8 else f"{n_bytes / 1e6:.3g} MB"
