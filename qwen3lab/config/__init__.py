"""Model configurations: one Qwen3 model's sizes, and the catalog of the published models."""

from qwen3lab.config.catalog import PUBLISHED, ModelRow, ModelTable
from qwen3lab.config.qwen3_config import BYTES_PER_VALUE, Qwen3Config
from qwen3lab.config.rope import Rope
from qwen3lab.errors import ConfigError

__all__ = [
    "BYTES_PER_VALUE",
    "PUBLISHED",
    "ConfigError",
    "ModelRow",
    "ModelTable",
    "Qwen3Config",
    "Rope",
]
