"""A recorded reply of 16,000 tokens, as long as those of published models that think."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from qwen3lab import Lab
from qwen3lab.generation.reply import Chat
from qwen3lab.model.transformer import Qwen3
from qwen3lab.text.tokenizer import open_tokenizer
from qwen3lab.tiny.world.tokenizer import write_tokenizer
from tests.fake_lab import ANSWER_IN_PARAGRAPHS, long_thinking
from tests.reference import small_config

QUESTION = "How many legs do 3 spiders have?"
SIZES = {
    **{"n_layers": 6, "n_heads": 4, "n_kv_heads": 2, "d_head": 16, "d_model": 64},
    **{"n_experts": 16, "n_experts_per_token": 4, "d_expert": 32, "moe_layers": tuple(range(6))},
}
"""Layers, heads and experts of tiny-moe, narrower."""


def long_chat(n_tokens: int) -> Chat:
    """A reply of a random model with the layers, heads and experts of tiny-moe.

    Args:
        n_tokens: of the conversation.
    """
    with TemporaryDirectory() as folder:
        write_tokenizer(Path(folder))
        tokenizer = open_tokenizer(folder)
    config = small_config(**SIZES, d_vocab=len(tokenizer), n_ctx=n_tokens, tied_embeddings=True)
    model = Qwen3(config)
    model.init_weights(torch.Generator().manual_seed(0), std=0.15)
    lab = Lab(model, tokenizer, "random")

    def ids(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False)

    prompt = ids(f"<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n<think>\n")
    answer = ids(f"\n</think>\n\n{ANSWER_IN_PARAGRAPHS}<|im_end|>")
    n_thinking = n_tokens - len(prompt) - len(answer)
    thinking = ids(long_thinking(n_thinking // 20))[:n_thinking]
    spans = {
        "prompt": (0, len(prompt)),
        "thinking": (len(prompt), len(prompt) + len(thinking)),
        "answer": (len(prompt) + len(thinking) + 3, n_tokens - 1),
    }
    recording = replace(lab.record([*prompt, *thinking, *answer]), spans=spans)
    return _chat(recording, len(prompt), len(thinking), spans)


def _chat(recording, n_prompt: int, n_thinking: int, spans: dict) -> Chat:
    reply, n_reply = recording.tokens[n_prompt:], len(recording) - n_prompt
    logprobs = recording.logprobs()[-n_reply:]
    return Chat(
        prompt_ids=recording.token_ids[:n_prompt].tolist(),
        token_ids=recording.token_ids[n_prompt:].tolist(),
        tokens=reply,
        text="".join(reply),
        stop="natural",
        logprobs=logprobs,
        entropy=-logprobs,
        forced=torch.zeros(n_reply, dtype=torch.bool),
        recording=recording,
        messages=[{"role": "user", "content": QUESTION}],
        thinking="".join(reply[:n_thinking]).strip(),
        answer=ANSWER_IN_PARAGRAPHS,
        thinking_tokens=n_thinking,
        answer_tokens=spans["answer"][1] - spans["answer"][0],
        spans=spans,
        thinking_asked=True,
    )
