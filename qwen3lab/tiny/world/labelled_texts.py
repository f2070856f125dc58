"""Held-out texts of the small world with the truth about every token, for any Qwen3 to read."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qwen3lab.text.chat_template import render
from qwen3lab.tiny.world.families import FAMILIES
from qwen3lab.tiny.world.problems import Problem, TokenLabel, label_tokens


@dataclass(frozen=True)
class LabelledText:
    """A text, and what is true of each of its tokens.

    Attributes:
        problem: what it is about.
        text: a chat with question, thinking and answer where the family thinks, else a passage.
        token_ids: of the text.
        labels: one for each token.
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
        """True for each token that follows from what stands before it."""
        return [label.known for label in self.labels]


def texts(
    tokenizer: Any, *, n: int, seed: int = 1, families: Sequence[str] = tuple(FAMILIES)
) -> list[LabelledText]:
    """Texts of these families, `n` of each, of mixed length, that no embedded model was trained on.

    Args:
        tokenizer: of the model that shall read them; a fast one with a chat template.
        n: of each family.
        seed: of the draw; the same seed, the same texts.
        families: their names.

    Raises:
        ValueError: an unknown family.
    """
    unknown = [name for name in families if name not in FAMILIES]
    if unknown:
        raise ValueError(f"there is no family {unknown[0]!r}: choose from {', '.join(FAMILIES)}")
    rng, found = random.Random(seed), []
    for family in (FAMILIES[name] for name in families):
        for _ in range(n):
            steps = rng.randint(family.least, family.most)
            found.append(_labelled(family.draw(rng, steps, "held-out"), tokenizer))
    return found


def _labelled(problem: Problem, tokenizer: Any) -> LabelledText:
    text = "".join(piece.text for piece in problem.passage)
    if FAMILIES[problem.family].thinks:
        reply = f"<think>\n{problem.thinking}\n</think>\n\n{problem.answer}"
        asked = {"role": "user", "content": problem.question}
        told = {"role": "assistant", "content": reply}
        text = render(tokenizer, [asked, told], add_generation_prompt=False)
    ids = tokenizer.encode(text, add_special_tokens=False)
    return LabelledText(problem, text, ids, label_tokens(problem, text, tokenizer))
