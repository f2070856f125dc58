"""Problems as the chats that a model learns from.

A document says which of its tokens were written by the model; only those teach it to answer.
The early-stop sentence is never among them: a model must not learn to cut itself short.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from qwen3lab.tiny import arithmetic
from qwen3lab.tiny.problems import Problem

Mode = Literal["think", "answer", "switch", "cut"]
QUESTION_WEIGHT = 0.05
"""A little of the loss goes to the question, so that the model knows what questions look like."""

EMPTY_BLOCK = "<think>\n\n</think>\n\n"
MODES: Mapping[Mode, float] = {"think": 0.2, "answer": 0.5, "switch": 0.08, "cut": 0.22}
"""Shares: thinking; answering at once, as the template asks; answering at once because
`/no_think` says so; answering after a thinking that was cut."""

HEAD_STEPS = (1,) * 10 + (2,) * 9 + (3, 3, 3, 4, 4, 5, 6, 8, 10, 12)
"""Steps of problems that are to be answered at once: mostly few, so that those are learned;
each teaches by a single token, where a thinking teaches by dozens."""


@dataclass(frozen=True)
class Document:
    """Token ids, and how much each counts as something to predict."""

    kind: str
    token_ids: list[int]
    weights: list[float]


class Writer:
    """Writes documents with a tokenizer; the same random state writes the same ones."""

    def __init__(self, tokenizer: Any, early_stop: str, *, max_steps: int = 12) -> None:
        self.tokenizer, self.early_stop, self.max_steps = tokenizer, early_stop, max_steps

    def write(self, rng: random.Random) -> Document:
        """One document, its mode and its problem drawn."""
        mode = rng.choices(list(MODES), weights=list(MODES.values()))[0]
        steps = rng.randint(1, self.max_steps)
        if mode in ("answer", "switch"):
            steps = min(rng.choice(HEAD_STEPS), self.max_steps)
        problem = arithmetic.draw(rng, steps, "train")
        history = self._history(rng) if rng.random() < 0.06 else ""
        return self.document(problem, mode, rng, history=history)

    def document(
        self, problem: Problem, mode: Mode, rng: random.Random, *, history: str = ""
    ) -> Document:
        """A problem as a chat in one mode, after what was said before."""
        switch = {"switch": " /no_think", "think": rng.choice(("", "", "", " /think"))}
        prompt = f"{history}{turn('user', problem.question + switch.get(mode, ''))}"
        prompt += "<|im_start|>assistant\n"
        own, inserted = f"<think>\n{problem.thinking}\n</think>\n\n", ""
        if mode == "answer":
            prompt, own = prompt + EMPTY_BLOCK, ""
        elif mode == "switch":
            own = EMPTY_BLOCK
        pieces = [(prompt, QUESTION_WEIGHT)]
        if mode == "cut":
            own, inserted = "", f"{self.early_stop}\n</think>\n\n"
            pieces += [(self._begun(problem, rng), 1.0)]
        pieces += [(own, 1.0), (inserted, 0.0), (f"{problem.answer}<|im_end|>", 1.0), ("\n", 0.0)]
        return self._encoded(f"{problem.family} {mode}", pieces)

    def _begun(self, problem: Problem, rng: random.Random) -> str:
        """A thinking cut after any token; mostly near its end, where little is left to do."""
        ids = self.tokenizer.encode(problem.thinking, add_special_tokens=False)
        share = rng.random() if rng.random() < 0.5 else rng.random() ** 0.3
        kept = self.tokenizer.decode(ids[: round(share * len(ids))])
        return f"<think>\n{kept}"

    def _history(self, rng: random.Random) -> str:
        """An earlier question and its answer; the thinking of earlier turns is not kept."""
        before = arithmetic.draw(rng, rng.randint(1, 3), "train")
        return turn("user", before.question) + turn("assistant", before.answer)

    def _encoded(self, kind: str, pieces: list[tuple[str, float]]) -> Document:
        ids: list[int] = []
        weights: list[float] = []
        for text, weight in pieces:
            new = self.tokenizer.encode(text, add_special_tokens=False) if text else []
            ids += new
            weights += [weight] * len(new)
        return Document(kind, ids, weights)


def turn(role: str, content: str) -> str:
    """One turn as the chat template renders it."""
    return f"<|im_start|>{role}\n{content}<|im_end|>\n"
