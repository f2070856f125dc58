"""Stand-ins for `qwen3lab.Lab` with fixed replies, to test explorers without a trained model.

`FakeLab` has no model: its recordings hold random values of the right shapes. `scripted_lab` is a
real `Lab` of a small random model whose most likely next token follows a script.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from qwen3lab import Lab
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.generation.reply import Chat, ChatStep
from qwen3lab.generation.sampling import Sampling
from qwen3lab.generation.suggested import EMBEDDED, GENERAL
from qwen3lab.model.transformer import Qwen3
from qwen3lab.recording.recording import Recording
from tests.reference import NO_EXPERTS, small_config

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


ENGLISH_THOUGHTS = (
    "First, I note that a spider has eight legs, so step {n} keeps that number in mind. "
    "The question asks for three spiders, not for two. Is that all? "
    "I check the product again: 3 * 8 = 24.\n\n"
)
CHINESE_THOUGHTS = (
    "第{n}步：一只蜘蛛有八条腿。三只蜘蛛一共有多少条腿？我再算一遍：三乘八等于二十四。\n\n"
)

CODE = """```python
def legs(spiders: int) -> int:
    per_spider = 8
    return spiders * per_spider  # <b>24</b> for three
```"""
ANSWER_IN_PARAGRAPHS = f"""Three spiders have twenty-four legs, because each of them has eight.

{CODE}

Incomprehensibilities aside, the multiplication is straightforward: 3 * 8 = 24.

**答案**：三只蜘蛛一共有24条腿。"""
EARLY_ANSWER = f"""Three spiders have sixteen legs, because each of them has eight.

{CODE}

**答案**：三只蜘蛛一共有16条腿。"""


@dataclass(frozen=True)
class Script:
    """What a scripted model writes.

    Attributes:
        thinking: the text between `<think>` and `</think>`.
        answer: the answer after at least half of the thinking, or without any.
        early_answer: the answer after less than half of it.
    """

    thinking: str
    answer: str = ANSWER_IN_PARAGRAPHS
    early_answer: str = EARLY_ANSWER


def long_thinking(steps: int) -> str:
    """English paragraphs of three sentences, every third one followed by a Chinese one."""
    texts = []
    for n in range(steps):
        texts.append(ENGLISH_THOUGHTS.format(n=n))
        if n % 3 == 2:
            texts.append(CHINESE_THOUGHTS.format(n=n))
    return "".join(texts).strip()


class ScriptedModel(Qwen3):
    """A random model whose next token is the script's, with nearly all of the probability.

    It follows what it reads: the chat template, inserted early-stop sentences, rewound caches.
    """

    def __init__(self, config: Qwen3Config, tokenizer: Any, script: Script) -> None:
        super().__init__(config)
        self.init_weights(torch.Generator().manual_seed(0))

        def ids(text: str) -> list[int]:
            return tokenizer.encode(text, add_special_tokens=False)

        self.header = ids("<|im_start|>assistant\n")
        (self.end_think,) = ids("</think>")
        (end,) = ids("<|im_end|>")
        self.thinking = ids(f"<think>\n{script.thinking}\n</think>")
        self.answers = [
            [*ids("\n\n"), *ids(text), end] for text in (script.early_answer, script.answer)
        ]
        self.read: list[int] = []

    def forward(self, token_ids, *, cache=None, **options):
        past = 0 if cache is None else cache.length
        logits = super().forward(token_ids, cache=cache, **options)
        self.read = [*self.read[:past], *token_ids[0].tolist()]
        logits[0, -1, self.next_token()] += 12.0
        return logits

    def next_token(self) -> int:
        """The script's token after what was read."""
        n = len(self.header)
        starts = [i for i in range(len(self.read)) if self.read[i : i + n] == self.header]
        reply = self.read[starts[-1] + n :]
        if self.end_think not in reply:
            return self.thinking[min(len(reply), len(self.thinking) - 1)]
        close = reply.index(self.end_think)
        is_late = close < 4 or 2 * close >= len(self.thinking)
        answer = self.answers[is_late]
        return answer[min(len(reply) - close - 1, len(answer) - 1)]


def scripted_lab(tokenizer: Any, script: Script, *, d_vocab: int, experts: bool = False) -> Lab:
    """A lab that thinks and answers as the script says, through the tokenizer given."""
    kinds = {} if experts else NO_EXPERTS
    config = small_config(d_vocab=d_vocab, n_ctx=8192, tied_embeddings=True, **kinds)
    return Lab(ScriptedModel(config, tokenizer, script), tokenizer, "scripted")
