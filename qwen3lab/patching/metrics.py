"""The metrics of `qwen3lab.metrics`, under `patching`, where they are typed most."""

from qwen3lab.metrics.metric import (
    Metric,
    answer_log_probability,
    kl_to,
    log_probability,
    logit,
    logit_difference,
)

__all__ = [
    "Metric",
    "answer_log_probability",
    "kl_to",
    "log_probability",
    "logit",
    "logit_difference",
]
