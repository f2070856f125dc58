"""A stand-in for a lab whose replies are known, to test what is counted, not a model."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from qwen3lab import Lab
from qwen3lab.generation.reply import Chat, Generation

Reply = Callable[[str, dict[str, Any]], tuple[str, str]]


class KnownLab(Lab):
    """Replies as told, through the embedded models' tokenizer; it has no model.

    Attributes:
        asked: every question with its options.
    """

    def __init__(
        self,
        tokenizer: Any,
        reply: Reply = lambda question, options: ("", ""),
        rest: Callable[[str], str] = lambda prompt: "",
    ) -> None:
        """A lab with this tokenizer.

        Args:
            tokenizer: the embedded models'.
            reply: from the question and the options of a chat to thinking and answer.
            rest: from a prompt as text to the text that follows.
        """
        self.name, self.tokenizer, self.reply, self.rest = "known", tokenizer, reply, rest
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def chat_batch(self, conversations: Sequence[Any], **options: Any) -> list[Chat]:
        """A reply to each question; question `i` has the seed `seed + i`."""
        seed = options.get("seed", 0)
        self.asked += [(q, options | {"seed": seed + i}) for i, q in enumerate(conversations)]
        return [chat(*self.reply(question, options)) for question in conversations]

    def token_ids(self, prompt: Any, **options: Any) -> list[int]:
        """The prompt of a chat."""
        return self.tokenizer.apply_chat_template(
            prompt, add_generation_prompt=True, return_dict=False
        )

    def generate(self, prompt: Any, **options: Any) -> Generation:
        """The rest of a text."""
        begun = self.tokenizer.decode(prompt, skip_special_tokens=False)
        return Generation(text=self.rest(begun), **NOTHING)


NOTHING: dict[str, Any] = {
    "prompt_ids": [],
    "token_ids": [],
    "tokens": [],
    "stop": "natural",
    "logprobs": torch.zeros(0),
    "entropy": torch.zeros(0),
    "forced": torch.zeros(0, dtype=torch.bool),
    "recording": None,
}


def chat(thinking: str, answer: str) -> Chat:
    """A reply without tokens."""
    parts: dict[str, Any] = {"messages": [], "thinking_tokens": 0, "answer_tokens": 0, "spans": {}}
    return Chat(text="", thinking=thinking, answer=answer, **parts, **NOTHING)


def solver(problems: Sequence[Any]) -> Reply:
    """Replies with the thinking and the right answer of these problems."""
    by_question = {problem.question: problem for problem in problems}

    def reply(question: str, options: dict[str, Any]) -> tuple[str, str]:
        problem = by_question[question]
        return problem.thinking if options["thinking"] else "", problem.truth

    return reply
