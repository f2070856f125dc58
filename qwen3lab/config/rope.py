"""Rotary position embeddings: their settings, and how a config.json stores them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qwen3lab.config.json_fields import number, shown, size
from qwen3lab.errors import ConfigError


@dataclass(frozen=True)
class Rope:
    """Rotary position embedding; `factor` above 1 means YaRN (arXiv 2309.00071).

    Attributes:
        theta: base of the wavelengths.
        factor: ratio of the extended context to the original one; 1 is plain rotary embedding.
        original_n_ctx: positions the frequencies were trained for (used by YaRN only).
        beta_fast: dimensions with more rotations over the original context are not interpolated.
        beta_slow: dimensions with fewer rotations are interpolated fully.
        attention_factor: scale of cosine and sine; None derives 0.1 ln(factor) + 1.
    """

    theta: float = 1e6
    factor: float = 1.0
    original_n_ctx: int = 0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None

    @property
    def is_yarn(self) -> bool:
        """True if YaRN rescales the frequencies."""
        return self.factor > 1.0

    @property
    def scale(self) -> float:
        """Factor on cosine and sine; 1 for plain rotary embeddings."""
        if not self.is_yarn:
            return 1.0
        if self.attention_factor is not None:
            return self.attention_factor
        return 0.1 * math.log(self.factor) + 1.0


PLAIN_ROPE = Rope()
"""Rotary embedding without YaRN, with the base of the published models."""


def read_rope(fields: Mapping[str, Any]) -> Rope:
    """Read the rotary embedding from the fields of a config.json.

    New files have `rope_parameters`, old ones `rope_theta` and `rope_scaling`.

    Raises:
        ConfigError: an unknown kind of scaling, or an invalid value.
    """
    inner = fields.get("rope_parameters") or {}
    scaling = fields.get("rope_scaling") or inner
    for settings in (inner, scaling):
        if not isinstance(settings, Mapping):
            raise ConfigError(
                f"config.json gives rope settings as {shown(settings)}: expected an object"
            )
    theta = number({"rope_theta": fields.get("rope_theta"), **inner, **scaling}, "rope_theta")
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    if kind == "default":
        return Rope(theta=theta)
    if kind != "yarn":
        raise ConfigError(
            f"rope scaling of type {shown(kind)} is unknown: expected 'default' or 'yarn'"
        )
    unsupported = {"mscale", "mscale_all_dim", "truncate"} & set(scaling)
    if unsupported:
        raise ConfigError(f"yarn with {', '.join(sorted(unsupported))} is not used by any Qwen3")
    original, extended = "original_max_position_embeddings", "max_position_embeddings"
    n_ctx = size(scaling, original) if original in scaling else size(fields, extended)
    if n_ctx < 1:
        raise ConfigError(f"{original} is {n_ctx}: expected a positive number")
    if scaling.get("factor") is None:
        factor = size(fields, extended) / n_ctx
    else:
        factor = number(scaling, "factor")
    if not factor >= 1:
        raise ConfigError(f"yarn's factor is {factor!r}: expected a number of at least 1")
    scale = scaling.get("attention_factor")
    return Rope(
        theta=theta,
        factor=float(factor),
        original_n_ctx=n_ctx,
        beta_fast=number(scaling, "beta_fast", default=32.0),
        beta_slow=number(scaling, "beta_slow", default=1.0),
        attention_factor=None if scale is None else number(scaling, "attention_factor"),
    )


def yarn_fields(rope: Rope) -> dict[str, Any]:
    """The value of `rope_scaling` in a config.json for YaRN."""
    fields = {
        "rope_type": "yarn",
        "factor": rope.factor,
        "original_max_position_embeddings": rope.original_n_ctx,
        "beta_fast": rope.beta_fast,
        "beta_slow": rope.beta_slow,
    }
    if rope.attention_factor is not None:
        fields["attention_factor"] = rope.attention_factor
    return fields
