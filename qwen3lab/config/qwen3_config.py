"""The configuration of a Qwen3 model.

Sizes have the names common in interpretability (`d_model`, `n_kv_heads`). `from_dict` reads a
published `config.json` of the old or new generation; `to_dict` writes one that `transformers`
opens.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwen3lab.arguments import check_fields, checked
from qwen3lab.config.json_fields import (
    flag,
    number,
    shown,
    size,
    warn_about_unused,
)
from qwen3lab.config.known_fields import known_fields
from qwen3lab.config.output_heads import is_base_model, read_labels
from qwen3lab.config.rope import PLAIN_ROPE, Rope, read_rope, yarn_fields
from qwen3lab.config.supported import N_EXPERTS_FIELDS, check_layer_types, check_supported
from qwen3lab.errors import ConfigError, HeadlessError

BYTES_PER_VALUE = {"float32": 4, "bfloat16": 2, "float16": 2}
MAX_LAYERS, MAX_EXPERTS = 2**12, 2**14
MAX_PARAMS = 2**60
"""Larger models would overflow torch's 64-bit tensor sizes in bytes."""
DENSE_HEAD_SIZE = 128
"""Of a dense Qwen3 without `head_dim`; of a mixture of experts it is hidden size over heads."""
DEFAULT_CONTEXT = 32_768
"""Of a config.json without `max_position_embeddings`."""
DEFAULT_MLP_OF_EXPERTS = 6144
"""Width of dense layers among experts in a config.json without `intermediate_size`."""


@dataclass(frozen=True)
class Qwen3Config:
    """Sizes and switches of one Qwen3 model, dense or mixture of experts.

    `has_unembedding` is False for a model without logits, as for embeddings or classification.
    `labels` are those of a classifier, in the order of its scores.
    """

    d_model: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    d_mlp: int
    d_vocab: int
    n_ctx: int = 40_960
    eps: float = 1e-6
    rope: Rope = PLAIN_ROPE
    tied_embeddings: bool = False
    n_experts: int = 0
    n_experts_per_token: int = 0
    d_expert: int = 0
    norm_topk_prob: bool = True
    moe_layers: tuple[int, ...] = ()
    has_unembedding: bool = True
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        try:
            check_fields(self)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        _require_positive(self)
        if self.n_heads % self.n_kv_heads:
            raise ConfigError(
                f"n_heads {self.n_heads} is not a multiple of n_kv_heads {self.n_kv_heads}: "
                "every key/value head must serve the same number of query heads"
            )
        if self.d_head % 2:
            raise ConfigError(f"d_head {self.d_head} is odd: rotary embeddings rotate pairs")
        if self.moe_layers and not 0 < self.n_experts_per_token <= self.n_experts:
            raise ConfigError(
                f"{self.n_experts_per_token} experts per token cannot be chosen from "
                f"{self.n_experts}: expected between 1 and the number of experts"
            )
        if self.labels and self.has_unembedding:
            raise ConfigError(
                "a model with labels and an unembedding is none that transformers has: a "
                "classifier has no logits of tokens"
            )
        if self.n_params > MAX_PARAMS:
            raise ConfigError(
                f"a model of these sizes has {self.n_params:.0e} parameters, more than the limit "
                f"of {MAX_PARAMS:.0e}: check the sizes"
            )

    @classmethod
    def from_file(cls, path: str | Path) -> "Qwen3Config":
        """Read a `config.json`, or the one in a folder.

        Raises:
            ConfigError: there is no such file, it is not JSON, or the model is not a Qwen3.
        """
        path = Path(path)
        path = path / "config.json" if path.is_dir() else path
        if path.exists() and not path.is_file():  # Reading a pipe would block.
            raise ConfigError(f"{path} is not a regular file: a model folder needs a config.json")
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ConfigError(
                f"{path} does not exist: a model folder needs a config.json"
            ) from error
        except OSError as error:
            raise ConfigError(
                f"{path} cannot be read ({error.strerror}): check its permissions"
            ) from error
        except (ValueError, RecursionError) as error:
            raise ConfigError(
                f"{path} is not valid JSON ({error}): correct it, or fetch it again"
            ) from error
        if not isinstance(fields, dict):
            raise ConfigError(f"{path} holds a {type(fields).__name__}: expected a JSON object")
        try:
            return cls.from_dict(fields, source=str(path))
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error

    @classmethod
    @checked
    def from_dict(cls, fields: Mapping[str, Any], *, source: str = "config.json") -> "Qwen3Config":
        """Read the fields of a published `config.json`, old or new generation.

        Args:
            fields: of the file.
            source: the file, for warnings.

        Raises:
            ConfigError: not a Qwen3 or Qwen3-MoE, a feature that Qwen3 does not have
                (sliding windows, attention biases), or a missing or invalid size.

        Warns:
            UserWarning: fields that are not used; the message names them.
        """
        is_moe = check_supported(fields)
        warn_about_unused(fields, known_fields(fields, is_moe=is_moe), source)
        n_layers = size(fields, "num_hidden_layers", most=MAX_LAYERS)
        check_layer_types(fields, n_layers)
        tied, labels = flag(fields, "tie_word_embeddings"), read_labels(fields)
        return cls(
            d_model=size(fields, "hidden_size"),
            n_layers=n_layers,
            n_heads=size(fields, "num_attention_heads"),
            n_kv_heads=_n_kv_heads(fields, is_moe=is_moe),
            d_head=_head_size(fields, is_moe=is_moe),
            d_mlp=size(
                fields, "intermediate_size", default=DEFAULT_MLP_OF_EXPERTS if is_moe else None
            ),
            d_vocab=size(fields, "vocab_size"),
            n_ctx=size(fields, "max_position_embeddings", default=DEFAULT_CONTEXT),
            eps=number(fields, "rms_norm_eps", default=1e-6),
            rope=read_rope(fields, source),
            tied_embeddings=tied,
            has_unembedding=not labels and (tied or not is_base_model(fields)),
            labels=labels,
            n_experts=size(fields, *N_EXPERTS_FIELDS, most=MAX_EXPERTS) if is_moe else 0,
            n_experts_per_token=size(fields, "num_experts_per_tok") if is_moe else 0,
            d_expert=size(fields, "moe_intermediate_size") if is_moe else 0,
            norm_topk_prob=flag(fields, "norm_topk_prob") if is_moe else True,
            moe_layers=_read_moe_layers(fields, n_layers) if is_moe else (),
        )

    def to_dict(self) -> dict[str, Any]:
        """The fields of a published `config.json`, which `transformers` opens."""
        kind = "qwen3_moe" if self.is_moe else "qwen3"
        of_class = "ForCausalLM" if self.has_unembedding else "Model"
        of_class = "ForSequenceClassification" if self.labels else of_class
        fields: dict[str, Any] = {
            "architectures": [("Qwen3Moe" if self.is_moe else "Qwen3") + of_class],
            "model_type": kind,
            "hidden_size": self.d_model,
            "num_hidden_layers": self.n_layers,
            "num_attention_heads": self.n_heads,
            "num_key_value_heads": self.n_kv_heads,
            "head_dim": self.d_head,
            "intermediate_size": self.d_mlp,
            "vocab_size": self.d_vocab,
            "max_position_embeddings": self.n_ctx,
            "rms_norm_eps": self.eps,
            "rope_theta": self.rope.theta,
            "tie_word_embeddings": self.tied_embeddings,
            "hidden_act": "silu",
            "attention_bias": False,
            "use_sliding_window": False,
        }
        if self.rope.is_yarn:
            fields["rope_scaling"] = yarn_fields(self.rope)
        if self.labels:
            fields |= {
                "id2label": {str(place): label for place, label in enumerate(self.labels)},
                "label2id": {label: place for place, label in enumerate(self.labels)},
            }
        if self.is_moe:
            fields |= {
                "num_experts": self.n_experts,
                "num_experts_per_tok": self.n_experts_per_token,
                "moe_intermediate_size": self.d_expert,
                "norm_topk_prob": self.norm_topk_prob,
                "decoder_sparse_step": 1,
                "mlp_only_layers": [i for i in range(self.n_layers) if i not in self.moe_layers],
            }
        return fields

    @property
    def is_moe(self) -> bool:
        """True if any layer is a mixture of experts."""
        return bool(self.moe_layers)

    @property
    def n_params(self) -> int:
        """Total number of parameters; tied embeddings count once."""
        return self._count(experts_per_layer=self.n_experts)

    @property
    def n_active_params(self) -> int:
        """Parameters used in one token's forward pass, embeddings included."""
        return self._count(experts_per_layer=self.n_experts_per_token)

    @property
    def products_per_token(self) -> int:
        """Multiply-adds of one token with the blocks' weights and in the weighted sum of experts.

        The unembedding and the products of queries with keys are not counted.
        """
        heads = 2 * self.n_heads + 2 * self.n_kv_heads
        attention = self.d_model * self.d_head * heads
        experts = self.n_experts_per_token * 3 * self.d_model * self.d_expert
        mixing = self.n_experts_per_token * self.d_model
        routed = self.d_model * self.n_experts + experts + mixing
        n_moe = len(self.moe_layers)
        dense = 3 * self.d_model * self.d_mlp
        return self.n_layers * attention + n_moe * routed + (self.n_layers - n_moe) * dense

    def require_unembedding(self) -> None:
        """Check that the model has logits.

        Raises:
            HeadlessError: it has none.
        """
        if not self.has_unembedding:
            kind, way = "an embedding model", "lab.embed(texts) gives embeddings"
            if self.labels:
                kind, way = "a classifier", "lab.classify(text) gives its scores"
            raise HeadlessError(
                f"this model is {kind}, without unembedding (lm_head.weight): it has no logits and "
                f"writes no text; lab.record records its activations, and {way}"
            )

    def weight_bytes(self, dtype: str = "bfloat16") -> int:
        """Bytes of all weights in `dtype`.

        Raises:
            ConfigError: an unknown dtype.
        """
        return self.n_params * _bytes_per_value(dtype)

    def quantised_bytes(self, kind: str, dtype: str = "bfloat16") -> int:
        """Bytes of the weights after `load(..., quantise=kind)`.

        The matrices inside the blocks are quantised; the other weights have the dtype. In int8,
        each row of a matrix has a scale; in int4, each group of 32 weights has a scale and a zero
        point.

        Raises:
            ConfigError: `kind` is neither "int8" nor "int4", or an unknown dtype.
        """
        value = _bytes_per_value(dtype)
        scale = 4 if dtype == "float16" else value  # Small scales would lose precision in float16.
        d_q, d_kv = self.n_heads * self.d_head, self.n_kv_heads * self.d_head
        n_moe = len(self.moe_layers)
        n_dense = self.n_layers - n_moe
        n_mlps = n_dense + n_moe * self.n_experts
        width = n_dense * self.d_mlp + n_moe * self.n_experts * self.d_expert
        matrices = self.n_layers * 2 * self.d_model * (d_q + d_kv) + 3 * self.d_model * width
        rows = self.n_layers * (d_q + 2 * d_kv + self.d_model) + 2 * width + n_mlps * self.d_model
        groups = matrices // 32
        sizes = {"int8": matrices + scale * rows, "int4": matrices // 2 + 2 * scale * groups}
        if kind not in sizes:
            raise ConfigError(f"quantise is {kind!r}: choose from {', '.join(sizes)}")
        return sizes[kind] + value * (self.n_params - matrices)

    def kv_cache_bytes_per_token(self, dtype: str = "bfloat16") -> int:
        """Bytes per token in the key/value cache.

        Raises:
            ConfigError: an unknown dtype.
        """
        return 2 * self.n_layers * self.n_kv_heads * self.d_head * _bytes_per_value(dtype)

    def _count(self, *, experts_per_layer: int) -> int:
        attention = self.d_model * self.d_head * 2 * (self.n_heads + self.n_kv_heads)
        norms = 2 * self.d_model + 2 * self.d_head
        experts = self.n_experts * self.d_model + 3 * experts_per_layer * self.d_model * (
            self.d_expert
        )
        dense = 3 * self.d_model * self.d_mlp
        n_moe = len(self.moe_layers)
        is_one = self.tied_embeddings or not self.has_unembedding
        embeddings = self.d_vocab * self.d_model * (1 if is_one else 2)
        embeddings += len(self.labels) * self.d_model
        blocks = self.n_layers * (attention + norms) + n_moe * experts
        return embeddings + blocks + (self.n_layers - n_moe) * dense + self.d_model


def _require_positive(config: Qwen3Config) -> None:
    names = ["d_model", "n_layers", "n_heads", "n_kv_heads", "d_head", "d_mlp", "d_vocab", "n_ctx"]
    names += ["d_expert"] if config.is_moe else []
    for name in names:
        if getattr(config, name) < 1:
            raise ConfigError(f"{name} is {getattr(config, name)}: expected a positive number")
    if not 0 < config.eps < math.inf:
        raise ConfigError(f"eps is {config.eps}: expected a positive number")
    if list(config.moe_layers) != sorted(set(config.moe_layers) & set(range(config.n_layers))):
        raise ConfigError(
            f"moe_layers are {config.moe_layers}: expected layers from 0 to {config.n_layers - 1} "
            "in ascending order"
        )


def _bytes_per_value(dtype: str) -> int:
    if dtype not in BYTES_PER_VALUE:
        raise ConfigError(f"dtype {dtype!r} is unknown: choose from {', '.join(BYTES_PER_VALUE)}")
    return BYTES_PER_VALUE[dtype]


def _n_kv_heads(fields: Mapping[str, Any], *, is_moe: bool) -> int:
    """Key/value heads; null means one for each query head in a dense model of `transformers`."""
    each_its_own = not is_moe and fields.get("num_key_value_heads", 0) is None
    return size(fields, "num_attention_heads" if each_its_own else "num_key_value_heads")


def _head_size(fields: Mapping[str, Any], *, is_moe: bool) -> int:
    """Size of a head; without `head_dim`, the default of `transformers` for the architecture."""
    if not is_moe:
        return size(fields, "head_dim", default=DENSE_HEAD_SIZE)
    n_heads = max(size(fields, "num_attention_heads"), 1)
    return size(fields, "head_dim", default=size(fields, "hidden_size") // n_heads)


def _read_moe_layers(fields: Mapping[str, Any], n_layers: int) -> tuple[int, ...]:
    """Layers with experts: every `decoder_sparse_step`-th, except `mlp_only_layers`."""
    step = size(fields, "decoder_sparse_step", default=1)
    listed = fields.get("mlp_only_layers")
    listed = [] if listed is None else listed
    is_list = isinstance(listed, list | tuple) and all(type(i) is int for i in listed)
    if step < 1 or not is_list:
        raise ConfigError(
            f"decoder_sparse_step {step!r} and mlp_only_layers {shown(listed)} do not define "
            "which layers have experts: expected a number of at least 1 and a list of layers"
        )
    dense = set(listed)
    return tuple(i for i in range(n_layers) if i not in dense and (i + 1) % step == 0)
