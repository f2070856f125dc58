"""Replies of vLLM and SGLang in their documented layouts, made from a recording."""

import base64

import numpy as np


def encoded(array):
    """An array as vLLM's HTTP interface gives it."""
    data = base64.b64encode(array.tobytes()).decode()
    return {"encoding": "base64", "data": data, "dtype": str(array.dtype), "shape": [*array.shape]}


def vllm(rec, taken, n_prompt):
    """A reply over HTTP, whose last token no pass has read."""
    ids = rec.token_ids.tolist()
    choice = {"token_ids": ids[n_prompt:], "routed_experts": encoded(taken[n_prompt:-1])}
    return {
        "object": "text_completion",
        "prompt_token_ids": ids[:n_prompt],
        "prompt_routed_experts": encoded(taken[:n_prompt]),
        "choices": [{"index": 0, **choice}],
    }


def sglang(rec, taken, config, n_prompt):
    """A reply of SGLang: flat int32 over all layers, without the last token."""
    whole = np.zeros((len(taken), config.n_layers, taken.shape[2]), np.int32)
    whole[:, list(config.moe_layers)] = taken
    ids = rec.token_ids.tolist()
    return {
        "prompt_token_ids": ids[:n_prompt],
        "output_ids": ids[n_prompt:],
        "meta_info": {
            "routed_experts": base64.b64encode(whole[:-1].tobytes()).decode(),
            "prompt_tokens": n_prompt,
            "completion_tokens": len(ids) - n_prompt,
        },
    }
