"""Writes a model's folder as the hub has it: published fields, tokenizer, shards with an index."""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from qwen3lab.checkpoints.safetensors_reader import INDEX
from qwen3lab.checkpoints.tensor_names import published_tensors
from qwen3lab.model.transformer import Qwen3
from tests.standins.qwen_tokenizer import FILES

SHARDS = 3
OF_BOTH: dict[str, Any] = {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "head_dim": 128,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "max_position_embeddings": 40960,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "sliding_window": None,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.51.0",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
}
DENSE = OF_BOTH | {
    "architectures": ["Qwen3ForCausalLM"],
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "max_window_layers": 28,
    "model_type": "qwen3",
    "num_attention_heads": 16,
    "num_hidden_layers": 28,
    "num_key_value_heads": 8,
    "rope_theta": 1000000,
    "tie_word_embeddings": True,
}
"""config.json of Qwen3-0.6B."""
EXPERTS = OF_BOTH | {
    "architectures": ["Qwen3MoeForCausalLM"],
    "decoder_sparse_step": 1,
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "max_window_layers": 48,
    "mlp_only_layers": [],
    "model_type": "qwen3_moe",
    "moe_intermediate_size": 768,
    "norm_topk_prob": True,
    "num_attention_heads": 32,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 48,
    "num_key_value_heads": 4,
    "output_router_logits": False,
    "rope_theta": 1000000.0,
    "router_aux_loss_coef": 0.001,
    "tie_word_embeddings": False,
}
"""config.json of Qwen3-30B-A3B."""
GENERATION = {
    "bos_token_id": 151643,
    "do_sample": True,
    "eos_token_id": [151645, 151643],
    "pad_token_id": 151643,
    "temperature": 0.6,
    "top_k": 20,
    "top_p": 0.95,
    "transformers_version": "4.51.0",
}


def write_folder(
    model: Qwen3, fields: Mapping[str, Any], tokenizer_folder: Path, folder: Path
) -> None:
    """Write all files of a checkpoint; `fields` are those of config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(fields, indent=2), encoding="utf-8")
    generation = json.dumps(GENERATION, indent=4)
    (folder / "generation_config.json").write_text(generation, encoding="utf-8")
    for name in FILES:
        shutil.copyfile(tokenizer_folder / name, folder / name)
    _write_shards(model, folder)


def _write_shards(model: Qwen3, folder: Path) -> None:
    where, total = {}, 0
    for number, tensors in enumerate(_shards(model), 1):
        file = f"model-{number:05}-of-{SHARDS:05}.safetensors"
        save_file(tensors, folder / file, metadata={"format": "pt"})
        where |= dict.fromkeys(tensors, file)
        total += sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": where}
    (folder / INDEX).write_text(json.dumps(index, indent=2), encoding="utf-8")


def _shards(model: Qwen3) -> Iterator[dict[str, Tensor]]:
    """The published tensors in bfloat16, in equal numbers of tensors."""
    tensors = [
        (published, part.to(torch.bfloat16).contiguous())
        for name, parameter in model.state_dict().items()
        for published, part in published_tensors(name, parameter)
    ]
    size = -(-len(tensors) // SHARDS)
    for first in range(0, len(tensors), size):
        yield dict(tensors[first : first + size])
