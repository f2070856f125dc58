"""Trains the thinking stand-in: a small model that knows the chats of `lessons` by heart.

Only the rows of tokens that occur are trained. All other rows of the embedding are one trained
row with noise, whose logit counts in the loss as often as there are such tokens: none is likely.
"""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.model.transformer import Qwen3
from qwen3lab.text.chat_template import early_stop_text, render
from qwen3lab.tiny.training.muon import Muon
from tests.standins.lessons import Lesson, lessons

STEPS = 250
ROWS, ROW_TOKENS = 2, 768
LEARNING_RATE = 4e-3
MAX_TOKENS_OF_A_FOREIGN_QUESTION = 60
NOISE = 0.05
"""Of the rows that are not trained, as a share of their own size: so that they differ."""


@dataclass(frozen=True)
class Example:
    """Token ids, and for each whether the model learns to predict it."""

    ids: list[int]
    learned: list[bool]


class Examples:
    """Draws chats: whole, without thinking, with shortened thinking, after other questions."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer, self.rng = tokenizer, random.Random(0)
        self.lessons = lessons()
        self.stop = early_stop_text(tokenizer)
        whole = [self._whole(lesson) for lesson in self.lessons]
        direct = [self._direct(lesson) for lesson in self.lessons]
        digits = self._encoded("0123456789" + self.stop)
        ids = {token for example in whole + direct for token in example.ids}
        self.rows = sorted(ids | set(digits))

    def drawn(self) -> Iterator[Example]:
        """Examples without end: all lessons in a new order, each in a random form."""
        forms = (self._whole, self._of_other_question, self._direct, self._shortened)
        while True:
            for lesson in self.rng.sample(self.lessons, len(self.lessons)):
                (form,) = self.rng.choices(forms, (4, 3, 1, 2))
                yield form(lesson)

    def _whole(self, lesson: Lesson) -> Example:
        prompt = self._encoded(self._prompt(lesson))
        return _joined(prompt, self._encoded(self._reply(lesson)))

    def _direct(self, lesson: Lesson) -> Example:
        prompt = self._encoded(self._prompt(lesson, thinking=False))
        return _joined(prompt, self._encoded(f"{lesson.answer}<|im_end|>"))

    def _shortened(self, lesson: Lesson) -> Example:
        thinking = self._encoded(f"<think>\n{lesson.thinking}")
        cut = thinking[: self.rng.randint(2, len(thinking))]
        answer = lesson.early_answer(self.tokenizer.decode(cut))
        prompt = self._encoded(self._prompt(lesson)) + cut + self._encoded(self.stop)
        return _joined(prompt, self._encoded(f"{answer}<|im_end|>"))

    def _of_other_question(self, lesson: Lesson) -> Example:
        """The reply after random words: so that any question gets some lesson's reply."""
        n = self.rng.randint(3, MAX_TOKENS_OF_A_FOREIGN_QUESTION)
        question = [self.rng.choice((*self.rows[:-12], -1)) for _ in range(n)]
        before, after = self._prompt(replace(lesson, question="?")).split("?")
        prompt = self._encoded(before) + question + self._encoded(after)
        return _joined(prompt, self._encoded(self._reply(lesson)))

    def _prompt(self, lesson: Lesson, *, thinking: bool = True) -> str:
        talk = [{"role": "user", "content": lesson.question}]
        return render(self.tokenizer, talk, thinking=thinking)

    def _reply(self, lesson: Lesson) -> str:
        return f"<think>\n{lesson.thinking}\n</think>\n\n{lesson.answer}<|im_end|>"

    def _encoded(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)


def _joined(prompt: list[int], reply: list[int]) -> Example:
    return Example(prompt + reply, [False] * len(prompt) + [True] * len(reply))


def train(config: Qwen3Config, tokenizer: Any, *, steps: int = STEPS) -> Qwen3:
    """A model that thinks and answers as the lessons do; about a minute of one core.

    Args:
        config: of the model, with tied embeddings and the whole vocabulary.
        tokenizer: the published one.
        steps: of the optimisers.
    """
    examples = Examples(tokenizer)
    rows = {token: row for row, token in enumerate(examples.rows)}
    model = Qwen3(replace(config, d_vocab=len(rows) + 1))
    model.init_weights(torch.Generator().manual_seed(0))
    optimisers = _optimisers(model)
    drawn = _rows(examples.drawn())
    for step in range(steps):
        loss = _loss(model, _batch(drawn, rows), n_rest=config.d_vocab - len(rows))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = _learning_rate(step / steps)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
    return _with_all_rows(model, config, examples.rows)


def _optimisers(model: Qwen3) -> list[torch.optim.Optimizer]:
    matrices = [p for p in model.blocks.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if all(p is not matrix for matrix in matrices)]
    return [
        torch.optim.AdamW(others, lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.0),
        Muon(matrices, LEARNING_RATE),
    ]


def _learning_rate(progress: float) -> float:
    return LEARNING_RATE * min(1.0, (progress + 0.005) * 30, (1 - progress) * 1.6 + 0.01)


def _rows(drawn: Iterator[Example]) -> Iterator[list[Example]]:
    """Examples that fit into a row, without end; none is cut, or the longest ends were rare."""
    row: list[Example] = []
    for example in drawn:
        if sum(len(other.ids) for other in (*row, example)) > ROW_TOKENS:
            yield row
            row = []
        row.append(example)


def _batch(drawn: Iterator[list[Example]], rows: dict[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Ids as rows of the small model, what is learned, and the number of the chat of each token."""
    ids = torch.zeros(ROWS, ROW_TOKENS, dtype=torch.long)
    learned = torch.zeros(ROWS, ROW_TOKENS, dtype=torch.bool)
    segments = torch.full((ROWS, ROW_TOKENS), -1)
    for row in range(ROWS):
        end = 0
        for number, example in enumerate(next(drawn)):
            place = slice(end, end := end + len(example.ids))
            ids[row, place] = torch.tensor([rows.get(token, len(rows)) for token in example.ids])
            learned[row, place] = torch.tensor(example.learned)
            segments[row, place] = number
    return ids, learned, segments


def _loss(model: Qwen3, batch: tuple[Tensor, Tensor, Tensor], *, n_rest: int) -> Tensor:
    ids, learned, segments = batch
    logits = model(ids, segments=segments)[:, :-1].float()
    several = torch.zeros(logits.shape[-1])
    several[-1] = math.log(n_rest)
    wanted = learned[:, 1:] & (segments[:, 1:] == segments[:, :-1])
    return F.cross_entropy(logits[wanted] + several, ids[:, 1:][wanted])


@torch.no_grad()
def _with_all_rows(small: Qwen3, config: Qwen3Config, rows: list[int]) -> Qwen3:
    """The model with a row for each token: the trained ones, and the rest's for all others."""
    whole = Qwen3(config)
    state = small.state_dict()
    trained, rest = state["embed.weight"][:-1], state["embed.weight"][-1]
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(config.d_vocab, config.d_model, generator=generator)
    embedding = rest + NOISE * rest.norm() / config.d_model**0.5 * noise
    embedding[rows] = trained
    whole.load_state_dict(state | {"embed.weight": embedding})
    return whole
