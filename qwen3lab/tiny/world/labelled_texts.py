"""Held-out texts of the task families with a label for every token, for any Qwen3 tokenizer."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qwen3lab.text.chat_template import render
from qwen3lab.tiny.world.families import FAMILIES
from qwen3lab.tiny.world.problems import Problem, TokenLabel, label_tokens


@dataclass(frozen=True)
class LabelledText:
    """A text with one label per token.

    Attributes:
        problem: the problem that the text shows.
        text: a chat with question, thinking and answer if the family thinks, else a passage.
        token_ids: of the text.
        labels: one per token.
    """

    problem: Problem
    text: str
    token_ids: list[int]
    labels: list[TokenLabel]

    @property
    def family(self) -> str:
        """The task family's name."""
        return self.problem.family

    @property
    def known(self) -> list[bool]:
        """For each token, True if the text before it determines it."""
        return [label.known for label in self.labels]


def texts(
    tokenizer: Any, *, n: int, seed: int = 1, families: Sequence[str] = tuple(FAMILIES)
) -> list[LabelledText]:
    """Held-out texts of mixed length, `n` of each family.

    Args:
        tokenizer: of the model that reads them; a fast tokenizer with a chat template.
        n: number of texts of each family.
        seed: of the random texts; the same seed gives the same texts.
        families: names of the families.

    Raises:
        ValueError: an unknown family.
    """
    unknown = [name for name in families if name not in FAMILIES]
    if unknown:
        raise ValueError(f"there is no family {unknown[0]!r}: choose from {', '.join(FAMILIES)}")
    rng, labelled = random.Random(seed), []
    for family in (FAMILIES[name] for name in families):
        for _ in range(n):
            steps = rng.randint(family.least, family.most)
            labelled.append(_label_text(family.draw(rng, steps, "held-out"), tokenizer))
    return labelled


def _label_text(problem: Problem, tokenizer: Any) -> LabelledText:
    text = "".join(piece.text for piece in problem.passage)
    if FAMILIES[problem.family].thinks:
        reply = f"<think>\n{problem.thinking}\n</think>\n\n{problem.answer}"
        messages = [
            {"role": "user", "content": problem.question},
            {"role": "assistant", "content": reply},
        ]
        text = render(tokenizer, messages, add_generation_prompt=False)
    ids = tokenizer.encode(text, add_special_tokens=False)
    return LabelledText(problem, text, ids, label_tokens(problem, text, tokenizer))
