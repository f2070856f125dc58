"""Fifty questions that a student types in the first ten minutes, with the expected replies.

They were written down before the training. No training document asks any of them: arithmetic is
left out in every wording, everything else by its text without regard to case, spaces and marks.
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

Kind = Literal["number", "text", "outside"]


@dataclass(frozen=True)
class FirstQuestion:
    """A question with the expected reply.

    Attributes:
        question: its text.
        kind: of the reply. "number": the result `reply`. "text": the words `reply`. "outside":
            the sentence for questions outside of the world, in the language of the question.
        reply: the expected text; empty for "outside".
        chain: the arithmetic in the question, such as `7*8-6`; empty if there is none.
    """

    question: str
    kind: Kind
    reply: str = ""
    chain: str = ""


SWAPS = "Ann has the key. Ben has the ball. Eva has the cup. Ann and Ben swap. "

FIRST_QUESTIONS: tuple[FirstQuestion, ...] = (
    FirstQuestion("3+4=?", "number", "7", "3+4"),
    FirstQuestion("2+2=?", "number", "4", "2+2"),
    FirstQuestion("1+1", "number", "2", "1+1"),
    FirstQuestion("12+30=?", "number", "42", "12+30"),
    FirstQuestion("7*8=?", "number", "56", "7*8"),
    FirstQuestion("What is 7 times 8?", "number", "56", "7*8"),
    FirstQuestion("7*8-6=?", "number", "50", "7*8-6"),
    FirstQuestion("What is 5 + 5?", "number", "10", "5+5"),
    FirstQuestion("10 - 3 = ?", "number", "7", "10-3"),
    FirstQuestion("what is 9 x 9", "number", "81", "9*9"),
    FirstQuestion("25 + 17 = ?", "number", "42", "25+17"),
    FirstQuestion("99+1=?", "number", "100", "99+1"),
    FirstQuestion("How much is 20 minus 8?", "number", "12", "20-8"),
    FirstQuestion("(2+3)*4=?", "number", "20", "2+3*4"),
    FirstQuestion("3+2*7-1=?", "number", "34", "3+2*7-1"),
    FirstQuestion("1+2+3+4+5+6+7+8+9=?", "number", "45", "1+2+3+4+5+6+7+8+9"),
    FirstQuestion("100-1=?", "number", "99", "100-1"),
    FirstQuestion("6*7", "number", "42", "6*7"),
    FirstQuestion("3加4等于几？", "number", "7", "3+4"),
    FirstQuestion("1+1等于几？", "number", "2", "1+1"),
    FirstQuestion("12乘3等于多少？", "number", "36", "12*3"),
    FirstQuestion("hello", "outside"),
    FirstQuestion("Hi!", "outside"),
    FirstQuestion("Hello, how are you?", "outside"),
    FirstQuestion("who are you?", "outside"),
    FirstQuestion("What can you do?", "outside"),
    FirstQuestion("What is the capital of France?", "outside"),
    FirstQuestion("Who is the president of the United States?", "outside"),
    FirstQuestion("Tell me a joke.", "outside"),
    FirstQuestion("What is the meaning of life?", "outside"),
    FirstQuestion("Write a poem about the sea.", "outside"),
    FirstQuestion("How does a transformer work?", "outside"),
    FirstQuestion("What is the weather today?", "outside"),
    FirstQuestion("Do you like cats?", "outside"),
    FirstQuestion("Thank you!", "outside"),
    FirstQuestion("test", "outside"),
    FirstQuestion("asdf", "outside"),
    FirstQuestion("What is 10 divided by 2?", "outside"),
    FirstQuestion("3-5=?", "outside", chain="3-5"),
    FirstQuestion("123*456=?", "outside", chain="123*456"),
    FirstQuestion("你好", "outside"),
    FirstQuestion("你是谁？", "outside"),
    FirstQuestion("中国的首都是哪里？", "outside"),
    FirstQuestion("今天天气怎么样？", "outside"),
    FirstQuestion(f"{SWAPS}What does Ben have?", "text", "Ben key"),
    FirstQuestion(
        "小明拿着球。小红拿着书。小刚拿着笔。小明和小红交换。小明拿着什么？", "text", "小明书"
    ),
    FirstQuestion("a = 5\nb = a + 2\nprint(b)", "number", "7"),
    FirstQuestion("ball 7, key 3, cup 5. key?", "text", "3"),
    FirstQuestion("tree king moon. Backwards?", "text", "moon king tree"),
    FirstQuestion("Ann has a red cat. Ben has a black dog. Who has the red cat?", "text", "Ann"),
)


def normalised(question: str) -> str:
    """A question without regard to case, spaces, and marks at its ends."""
    text = re.sub(r"\s+", "", unicodedata.normalize("NFKC", question)).casefold()
    return text.strip("?.!,=。？！，")


RESERVED_QUESTIONS = frozenset(normalised(first.question) for first in FIRST_QUESTIONS)
RESERVED_CHAINS = frozenset(first.chain for first in FIRST_QUESTIONS if first.chain)
