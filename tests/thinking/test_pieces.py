from dataclasses import replace

import pytest
import torch

from qwen3lab.generation.reply import Chat
from qwen3lab.thinking import pieces


def chat(thought, answer=("four",), *, forced=0, opened=("<think>", "\n")):
    """A reply with these thinking tokens, of which the last `forced` were inserted."""
    tokens = [*opened, *thought, "</think>", *answer]
    first = 3 + len(opened)
    n = len(tokens)
    flags = torch.zeros(n, dtype=torch.bool)
    flags[len(opened) + len(thought) - forced : len(opened) + len(thought) + 1] = forced > 0
    return Chat(
        prompt_ids=[0, 1, 2],
        token_ids=list(range(n)),
        tokens=tokens,
        text="".join(tokens),
        stop="natural",
        logprobs=torch.zeros(n),
        entropy=torch.zeros(n),
        forced=flags,
        recording=None,
        messages=[],
        thinking="".join(thought),
        answer="".join(answer),
        thinking_tokens=len(thought) - forced,
        answer_tokens=len(answer),
        spans={
            "prompt": (0, 3),
            "thinking": (first, first + len(thought)),
            "answer": (first + len(thought) + 1, first + len(thought) + 1 + len(answer)),
        },
    )


def texts(found):
    return [piece.text for piece in found]


def test_sentences_end_at_marks_before_whitespace():
    found = pieces(chat(["A", " 3", ".", "5", " b", ".", " Why", "?", " So", "!"]))
    assert texts(found) == ["A 3.5 b.", " Why?", " So!"]
    assert [(piece.start, piece.end, piece.kept) for piece in found] == [
        (5, 11, 6),
        (11, 13, 8),
        (13, 15, 10),
    ]


def test_line_breaks_and_chinese_marks_end_sentences_which_include_whitespace():
    found = pieces(chat(["一", "。", "二", "\n", "\n", "三", ".\n", " ", "四"]))
    assert texts(found) == ["一。", "二\n\n", "三.\n ", "四"]


def test_a_text_without_marks_is_one_sentence():
    assert texts(pieces(chat(["7", "+", "2", "⑨"]))) == ["7+2⑨"]


def test_pieces_have_the_given_number_of_tokens():
    found = pieces(chat(list("abcdefg")), 3)
    assert texts(found) == ["abc", "def", "g"]
    assert [piece.kept for piece in found] == [3, 6, 7]
    assert texts(pieces(chat(list("abc")), 5)) == ["abc"]


def test_without_a_line_break_after_think_the_first_token_counts():
    (piece,) = pieces(chat(["a", "b"], opened=("<think>",)))
    assert piece.kept == 2
    (late,) = pieces(chat(["a", "b"], opened=("<think>", "\n", "\n")))
    assert late.kept == 3  # The second line break counts as a thinking token.


def test_the_early_stop_sentence_belongs_to_no_piece():
    assert texts(pieces(chat(["a", ".", " enough", " now"], forced=2))) == ["a."]


def test_a_reply_without_thinking_is_an_error():
    with pytest.raises(ValueError, match="the reply has no thinking: ask with thinking=True"):
        pieces(chat([]))
    reasons = {
        "it was asked to answer at once; ask with thinking=True": {"thinking_asked": False},
        "the model answered at once.*ask a harder question": {"thinking_asked": True},
        "stopped before its first token; give a larger budget": {
            "thinking_asked": True,
            "stop": "budget",
        },
        "the reply ended before its first token": {"thinking_asked": True, "stop": "interrupted"},
    }
    for reason, values in reasons.items():
        with pytest.raises(ValueError, match=reason) as raised:
            pieces(replace(chat([]), **values))
        asked = values["thinking_asked"]
        assert ("ask with thinking=True" in str(raised.value)) == (asked is False)
    with pytest.raises(ValueError, match="the reply has no thinking"):
        pieces(chat(["enough"], forced=1))


@pytest.mark.parametrize("every", [0, -1, "word"])
def test_an_invalid_size_of_pieces_is_an_error(every):
    with pytest.raises(ValueError, match="every is"):
        pieces(chat(["a"]), every)


def test_paragraphs_end_after_a_blank_line():
    tokens = ["a", ".", "\n", "b", ".\n\n", "c", " d", "\n", "\n", "\n", "e", "\n"]
    found = pieces(chat(tokens), "paragraph")
    assert texts(found) == ["a.\nb.\n\n", "c d\n\n\n", "e\n"]
    assert texts(pieces(chat(["a", ".", " b"]), "paragraph")) == ["a. b"]


def test_inserted_tokens_do_not_count_as_thinking_tokens():
    """An inserted continuation such as "Wait" is in a piece but does not count."""
    reply = chat(["a", ".", " Wait", " b", "."])
    reply.forced[4] = True
    assert [piece.kept for piece in pieces(reply, "sentence")] == [2, 4]
    assert [piece.kept for piece in pieces(reply, 3)] == [2, 4]


def test_the_think_token_may_be_in_the_prompt():
    (piece,) = pieces(chat(["a", "b"], opened=()))
    assert (piece.start, piece.kept) == (3, 2)


def test_too_few_sentences_become_pieces_of_equally_many_tokens():
    thought = ["a", " b", ".", " c", " d", ".", " e"]
    assert texts(pieces(chat(thought), at_least=3)) == ["a b.", " c d.", " e"]
    assert texts(pieces(chat(thought), at_least=4)) == list(thought)
    assert len(pieces(chat(thought), at_least=100)) == len(thought)


def test_a_number_of_pieces_below_one_is_an_error():
    with pytest.raises(ValueError, match="at_least is 0: expected 1 piece or more"):
        pieces(chat(["a"]), at_least=0)
