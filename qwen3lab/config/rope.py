"""Rotary position embeddings: their settings, and how a config.json stores them."""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qwen3lab.config.json_fields import (
    number,
    refuse_null,
    refuse_two_values,
    shown,
    size,
    warn_about_unused,
)
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


DEFAULT_KEYS = frozenset({"rope_type", "type", "rope_theta", "partial_rotary_factor"})
YARN_KEYS = DEFAULT_KEYS | frozenset(
    [
        "factor",
        "original_max_position_embeddings",
        "attention_factor",
        "beta_fast",
        "beta_slow",
        "mscale",
        "mscale_all_dim",
        "truncate",
    ]
)
"""Keys of the two kinds, as `transformers` reads them; it warns of others and ignores them."""

PLAIN_ROPE = Rope()
"""Rotary embedding without YaRN, with the base of the published models."""
THETA_LEFT_OUT = 10_000.0
"""The base where a config.json states none: that of `transformers`, not of a published Qwen3."""


def read_rope(fields: Mapping[str, Any], source: str = "config.json") -> Rope:
    """Read the rotary embedding from the fields of a config.json.

    New files have `rope_parameters`, old ones `rope_theta` and `rope_scaling`.

    Args:
        fields: of the file.
        source: the file, for warnings.

    Raises:
        ConfigError: an unknown kind of scaling, an invalid value, or two values for one setting.

    Warns:
        UserWarning: keys that are not used, named in the message, or no `rope_theta`.
    """
    settings = _rope_settings(fields)
    theta = _read_theta(fields, settings, source)
    kind = settings.get("rope_type", settings.get("type", "default"))
    if kind == "default":
        warn_about_unused(settings, DEFAULT_KEYS, f"the rope group in {source}")
        return Rope(theta=theta)
    if kind != "yarn":
        raise ConfigError(
            f"rope scaling of type {shown(kind)} is unknown: expected 'default' or 'yarn'"
        )
    warn_about_unused(settings, YARN_KEYS, f"the rope group in {source}")
    return _read_yarn(fields, settings, theta)


def _read_theta(fields: Mapping[str, Any], settings: Mapping[str, Any], source: str) -> float:
    """The base of the wavelengths: of the group, else beside it, else that of `transformers`."""
    for group in (settings, fields):
        if "rope_theta" in group:
            return number(group, "rope_theta")
    warnings.warn(
        f"{source} has no rope_theta: {THETA_LEFT_OUT:.0f} is used, as in transformers; the "
        f"published Qwen3 models have {PLAIN_ROPE.theta:.0f}, so check the file",
        stacklevel=2,
    )
    return THETA_LEFT_OUT


def _rope_settings(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The one group of rope settings, with its keys checked for contradictions."""
    groups = [fields.get(name) for name in ("rope_scaling", "rope_parameters")]
    for group in groups:
        if group is not None and not isinstance(group, Mapping):
            raise ConfigError(
                f"config.json gives rope settings as {shown(group)}: expected an object"
            )
    scaling, parameters = (dict(group or {}) for group in groups)
    if scaling and parameters and scaling != parameters:
        raise ConfigError(
            "config.json has rope_scaling and rope_parameters with different settings, and "
            "transformers reads the first only: remove the wrong one"
        )
    settings = scaling or parameters
    if nested := [key for key, value in settings.items() if isinstance(value, Mapping)]:
        raise ConfigError(
            f"config.json gives rope settings of its own to {shown(nested[0])}: all layers of a "
            "Qwen3 have the same"
        )
    refuse_two_values(settings, "rope_type", "type")
    name = "rope_scaling" if scaling else "rope_parameters"
    thetas = {
        "rope_theta": fields.get("rope_theta"),
        f"{name}.rope_theta": settings.get("rope_theta"),
    }
    refuse_two_values(thetas, *thetas)
    for group in (fields, settings):
        if group.get("partial_rotary_factor") not in (None, 1, 1.0):
            raise ConfigError(
                f"partial_rotary_factor is {shown(group['partial_rotary_factor'])}: Qwen3 rotates "
                "all dimensions of a head"
            )
    return settings


def _read_yarn(fields: Mapping[str, Any], settings: Mapping[str, Any], theta: float) -> Rope:
    if not theta > 1:
        raise ConfigError(f"yarn's rope_theta is {theta!r}: expected a number above 1")
    if "factor" not in settings:
        raise ConfigError(
            "config.json has no factor for yarn: write it (null means the ratio of "
            "max_position_embeddings and original_max_position_embeddings)"
        )
    refuse_null(settings, "partial_rotary_factor")
    for group in (fields, settings):
        refuse_null(group, "original_max_position_embeddings")
    scaling = {key: value for key, value in settings.items() if value is not None}
    unsupported = {key for key in ("mscale", "mscale_all_dim") if scaling.get(key) is not None}
    unsupported |= {"truncate"} if settings.get("truncate", True) is not True else set()
    if unsupported:
        raise ConfigError(f"yarn with {', '.join(sorted(unsupported))} is not used by any Qwen3")
    original, extended = "original_max_position_embeddings", "max_position_embeddings"
    refuse_two_values(
        {original: fields.get(original), f"yarn's {original}": scaling.get(original)},
        original,
        f"yarn's {original}",
    )
    if fields.get(original) is not None:  # Older files have it beside the group.
        n_ctx = size(fields, original)
    else:
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
    if factor == 1 and scale not in (None, 1):
        raise ConfigError(
            f"yarn's factor is 1 and its attention_factor is {shown(scale)}: expected a factor "
            "above 1, or no yarn"
        )
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
