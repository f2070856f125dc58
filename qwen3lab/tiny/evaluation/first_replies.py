"""The replies to the fifty first questions, and to two examples of the order of operations."""

from collections.abc import Sequence
from dataclasses import dataclass

from tqdm.auto import tqdm

from qwen3lab.generation.reply import all_finished
from qwen3lab.generation.sampling import Sampling
from qwen3lab.lab import Lab
from qwen3lab.tiny.world.first_questions import FirstQuestion
from qwen3lab.tiny.world.outside import ANSWERS

MAX_NEW_TOKENS = 200

ORDER_EXAMPLES = (
    FirstQuestion("2+3*4=?", "number", "20", "2+3*4"),
    FirstQuestion("2*(3+4)=?", "outside"),
)
"""Arithmetic is read from left to right; brackets that say otherwise are outside of the world."""


@dataclass(frozen=True)
class FirstReply:
    """A question with the expected and the given answer.

    Attributes:
        question: its text.
        expected: the right answer.
        answer: the model's, after thinking.
    """

    question: str
    expected: str
    answer: str

    @property
    def right(self) -> bool:
        """True if the answer is the expected one."""
        return self.answer == self.expected


def first_replies(lab: Lab, questions: Sequence[FirstQuestion], bar: tqdm) -> list[FirstReply]:
    """The answers to these questions with thinking, under greedy decoding."""
    replies = lab.chat_batch(
        [question.question for question in questions],
        thinking=True,
        sampling=Sampling.greedy(),
        max_new_tokens=MAX_NEW_TOKENS,
    )
    bar.update(len(questions))
    return [
        FirstReply(question.question, expected_answer(question), reply.answer.strip())
        for question, reply in zip(questions, all_finished(replies), strict=True)
    ]


def expected_answer(question: FirstQuestion) -> str:
    """The right answer; for a question from outside, the reply in its language."""
    if question.kind != "outside":
        return question.reply
    is_chinese = any("一" <= character <= "鿿" for character in question.question)
    return ANSWERS["zh" if is_chinese else "en"]
