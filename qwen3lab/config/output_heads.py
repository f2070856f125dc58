"""What a `config.json` says of a model's output: logits, scores of labels, or neither.

Source: transformers, `Qwen3ForCausalLM`, `Qwen3Model` and `Qwen3ForSequenceClassification`.
"""

from collections.abc import Mapping
from typing import Any

from qwen3lab.config.json_fields import shown
from qwen3lab.errors import ConfigError

BASE_MODELS = ("Qwen3Model", "Qwen3MoeModel")
CLASSIFIERS = ("Qwen3ForSequenceClassification", "Qwen3MoeForSequenceClassification")
DEFAULT_LABELS = 2
"""Of a classifier's config.json that names none."""
MAX_LABELS = 2**16


def is_base_model(fields: Mapping[str, Any]) -> bool:
    """True if the fields are those of a model that was saved without any head."""
    return _architecture(fields) in BASE_MODELS


def read_labels(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """The labels of a classifier, in the order of its scores; none for any other model.

    Raises:
        ConfigError: labels that are no texts numbered from 0 on.
    """
    if _architecture(fields) not in CLASSIFIERS:
        return ()
    named, count = fields.get("id2label"), fields.get("num_labels")
    if named is None:
        count = DEFAULT_LABELS if count is None else count
        if type(count) is not int or not 0 < count <= MAX_LABELS:
            raise ConfigError(
                f"config.json gives num_labels as {shown(count)}: expected 1 to {MAX_LABELS}"
            )
        return tuple(f"LABEL_{place}" for place in range(count))
    places = [str(place) for place in range(len(named))] if isinstance(named, Mapping) else []
    if not places or {str(key) for key in named} != set(places):
        raise ConfigError(
            f"config.json gives id2label as {shown(named)}: expected labels numbered from 0 on"
        )
    if count is not None and count != len(places):
        raise ConfigError(
            f"config.json gives num_labels as {shown(count)} and {len(places)} labels in id2label: "
            "remove the wrong one"
        )
    by_place = {str(key): label for key, label in named.items()}
    if not all(isinstance(label, str) for label in by_place.values()):
        raise ConfigError(f"config.json gives id2label as {shown(named)}: expected texts as labels")
    return tuple(by_place[place] for place in places)


def _architecture(fields: Mapping[str, Any]) -> str:
    """The class that a config.json names first; empty if none."""
    listed = fields.get("architectures")
    first = listed[0] if isinstance(listed, list | tuple) and listed else ""
    return first if isinstance(first, str) else ""
