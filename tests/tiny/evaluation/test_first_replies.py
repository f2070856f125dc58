import pytest
from tqdm.auto import tqdm

from qwen3lab import Sampling
from qwen3lab.tiny.evaluation.first_replies import ORDER_EXAMPLES, FirstReply, first_replies
from qwen3lab.tiny.world.first_questions import FIRST_QUESTIONS
from tests.tiny.evaluation.known_lab import KnownLab

ENGLISH = "I only know my small world: sums, swaps, programs, stories, lists."
CHINESE = "我只知道我的小世界：算术、交换、程序、故事、列表。"


def test_a_reply_is_right_if_it_is_the_expected_one_in_the_language_of_the_question(tiny_tokenizer):
    known = {"3+4=?": "7", "2+2=?": "5", "hello": ENGLISH, "你好": CHINESE, "Hi!": CHINESE}
    lab = KnownLab(tiny_tokenizer, lambda question, options: ("", known.get(question, "")))
    found = first_replies(lab, FIRST_QUESTIONS, tqdm(disable=True))
    assert [reply.question for reply in found] == [first.question for first in FIRST_QUESTIONS]
    assert {reply.question for reply in found if reply.right} == {"3+4=?", "hello", "你好"}
    assert all(options["thinking"] is True for _, options in lab.asked)
    assert all(options["sampling"] == Sampling.greedy() for _, options in lab.asked)


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("12+30=?", "42"),
        ("今天天气怎么样？", CHINESE),
        ("test", ENGLISH),
        ("tree king moon. Backwards?", "moon king tree"),
    ],
)
def test_the_expected_answer_is_that_of_the_list(tiny_tokenizer, question, expected):
    found = first_replies(KnownLab(tiny_tokenizer), FIRST_QUESTIONS, tqdm(disable=True))
    [reply] = [reply for reply in found if reply.question == question]
    assert reply == FirstReply(question, expected, "")


def test_the_order_examples_are_read_from_left_to_right(tiny_tokenizer):
    found = first_replies(KnownLab(tiny_tokenizer), ORDER_EXAMPLES, tqdm(disable=True))
    assert [(reply.question, reply.expected) for reply in found] == [
        ("2+3*4=?", "20"),
        ("2*(3+4)=?", ENGLISH),
    ]
