"""A stand-in for `qwen3lab.Lab` with fixed replies, to test explorers without a model.

Its recordings hold random values of the right shapes.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.generation.reply import Chat, ChatStep
from qwen3lab.generation.sampling import Sampling
from qwen3lab.generation.suggested import EMBEDDED, GENERAL
from qwen3lab.recording.recording import Recording

PROMPT = ["<|im_start|>", "user", "\n", "Hi", "<|im_end|>", "<think>", "\n"]
THOUGHTS = [" one", " <b>two</b>", " three", "</think>"]
ANSWER = ["\n\n", "Four", ".", "<|im_end|>"]
SIZES = {"d_model": 32, "n_layers": 4, "n_heads": 4, "n_kv_heads": 2, "d_head": 16}
MOE = Qwen3Config(
    **SIZES,
    d_mlp=64,
    d_vocab=50,
    n_experts=6,
    n_experts_per_token=2,
    d_expert=16,
    moe_layers=(1, 3),
)
DENSE = Qwen3Config(**SIZES, d_mlp=64, d_vocab=50)


class FakeTokenizer:
    """Decodes a token id as the token at that position of the reply."""

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        assert not skip_special_tokens
        return "".join((THOUGHTS + ANSWER)[i] for i in ids)


class FakeLab:
    """Replies with `THOUGHTS` and `ANSWER`; pauses before token `pause_at` until `go_on` is set."""

    def __init__(self, config: Qwen3Config = MOE, *, pause_at: int | None = None) -> None:
        self.name, self.config, self.tokenizer = "fake", config, FakeTokenizer()
        self.pause_at, self.paused, self.go_on = pause_at, threading.Event(), threading.Event()
        self.asked: list[tuple[str, dict]] = []
        self.error: Exception | None = None
        self.suggested = replace(EMBEDDED, questions=GENERAL)

    def chat(
        self,
        question: str,
        *,
        on_step: Callable[[ChatStep], None],
        cancel: threading.Event,
        **options: object,
    ) -> Chat:
        self.asked.append((question, options))
        if self.error is not None:
            raise self.error
        reply = [*THOUGHTS, *ANSWER]
        for i in range(len(reply)):
            if i == self.pause_at:
                self.paused.set()
                assert self.go_on.wait(timeout=20), "the test never let the reply go on"
            if cancel.is_set():
                return self._chat(i, "interrupted")
            part = "thinking" if i < len(THOUGHTS) else "answer"
            on_step(ChatStep(i, reply[i], part, -0.5, 0.25 * i, False))
        return self._chat(len(reply), "natural")

    def chat_sampling(self, messages: str, *, thinking: bool | None = None) -> Sampling:
        return Sampling.published(thinking=bool(thinking))

    def _chat(self, n: int, stop: str) -> Chat:
        reply, start = [*THOUGHTS, *ANSWER][:n], len(PROMPT)
        thinking, answer = (start, start + min(n, 3)), (start + min(n, 5), start + min(n, 7))
        spans = {"prompt": (0, start), "thinking": thinking, "answer": answer}
        return Chat(
            prompt_ids=list(range(start)),
            token_ids=list(range(n)),
            tokens=reply,
            text="".join(reply),
            stop=stop,
            logprobs=torch.full((n,), -0.5),
            entropy=0.25 * torch.arange(n),
            forced=torch.zeros(n, dtype=torch.bool),
            recording=record(self.config, [*PROMPT, *reply], spans),
            messages=[],
            thinking="".join(THOUGHTS[:3]),
            answer="Four.",
            thinking_tokens=min(n, 3),
            answer_tokens=max(0, min(n, 7) - 5),
            spans=spans,
        )


def record(config: Qwen3Config, tokens: list[str], spans: dict) -> Recording:
    """A recording of these tokens with random queries, keys and routing."""
    chance, n = torch.Generator().manual_seed(len(tokens)), len(tokens)
    activations = {}
    for layer in range(config.n_layers):
        attn = f"blocks.{layer}.attn.hook_rot_"
        activations[f"{attn}q"] = torch.randn(n, config.n_heads, config.d_head, generator=chance)
        activations[f"{attn}k"] = torch.randn(n, config.n_kv_heads, config.d_head, generator=chance)
    for layer in config.moe_layers:
        logits = torch.randn(n, config.n_experts, generator=chance)
        weights, experts = logits.softmax(-1).topk(config.n_experts_per_token)
        mlp = f"blocks.{layer}.mlp.hook_"
        activations[f"{mlp}router_logits"] = logits
        activations[f"{mlp}expert_indices"] = experts
        activations[f"{mlp}expert_weights"] = weights / weights.sum(-1, keepdim=True)
    return Recording(torch.arange(n), tokens, config, "fake", activations, spans)
