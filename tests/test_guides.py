import pytest

from qwen3lab.guides import Marks, ReplyGuide, marks_of, stop_check

END, THINK, CLOSE, NEWLINE = 90, 91, 92, 10
SENTENCE = (80, 81, CLOSE, NEWLINE)
MARKS = Marks(
    ends=frozenset({END}), think=THINK, end_think=CLOSE, newline=(NEWLINE,), early_stop=SENTENCE
)


def written(guide, drawn, n=40):
    """What comes out when the model would draw these tokens, one after the other."""
    drawn, out = iter(drawn), []
    for _ in range(n):
        inserted = guide.next()
        token = next(drawn) if inserted is None else inserted
        out.append(token)
        if guide.take(token):
            break
    return out


def test_a_reply_that_ends_by_itself_is_natural():
    guide = ReplyGuide(MARKS)
    written(guide, [THINK, NEWLINE, 1, 2, NEWLINE, CLOSE, NEWLINE, 5, END])
    assert (guide.stop, guide.n_thinking, guide.answer_ids) == ("natural", 3, [NEWLINE, 5, END])


def test_a_budget_counts_thinking_tokens_and_then_inserts_the_sentence():
    guide = ReplyGuide(MARKS, budget=2)
    out = written(guide, [THINK, NEWLINE, 1, 2, 5, END])
    assert out == [THINK, NEWLINE, 1, 2, *SENTENCE, 5, END]
    assert (guide.stop, guide.n_thinking) == ("budget", 2)


def test_a_line_break_counts_where_it_does_not_open_the_block():
    guide = ReplyGuide(MARKS, budget=2)
    out = written(guide, [THINK, 1, NEWLINE, 5, END])
    assert out == [THINK, 1, NEWLINE, *SENTENCE, 5, END]


def test_a_budget_of_nothing_opens_the_block_and_closes_it():
    guide = ReplyGuide(MARKS, budget=0)
    assert written(guide, [THINK, 5, END]) == [THINK, NEWLINE, *SENTENCE, 5, END]
    assert guide.n_thinking == 0


def test_a_thinking_that_ends_in_time_is_not_cut():
    guide = ReplyGuide(MARKS, budget=3)
    out = written(guide, [THINK, NEWLINE, 1, 2, CLOSE, 5, END])
    assert out == [THINK, NEWLINE, 1, 2, CLOSE, 5, END]
    assert guide.stop == "natural"


def test_the_answer_after_a_cut_has_no_budget():
    guide = ReplyGuide(MARKS, budget=1)
    written(guide, [THINK, NEWLINE, 1, *range(20, 40), END])
    assert guide.answer_ids[1:-1] == list(range(20, 40))


def test_a_reply_that_is_cut_off_by_its_length_says_so():
    guide = ReplyGuide(MARKS)
    written(guide, [1, 2, 3], n=3)
    assert (guide.stop, guide.ended) == ("length", False)


def test_a_stop_string_ends_the_answer_but_not_the_thinking():
    guide = ReplyGuide(MARKS, stopped=lambda ids: 7 in ids)
    out = written(guide, [THINK, 7, CLOSE, 6, 7, 8])
    assert out == [THINK, 7, CLOSE, 6, 7]
    assert guide.stop == "string"


class Letters:
    """A tokenizer of which token `n` is the letter of that code."""

    def decode(self, ids, *, skip_special_tokens):
        return "".join(map(chr, ids))


def test_a_stop_string_is_found_where_tokens_meet():
    stopped = stop_check(Letters(), ["end."])
    assert stopped is not None
    text = "a long text before it, and then the end."
    found = [stopped([ord(char) for char in text[:n]]) for n in range(len(text) + 1)]
    assert found == [False] * len(text) + [True]


def test_stop_strings_must_be_text():
    with pytest.raises(ValueError, match="not empty"):
        stop_check(Letters(), [""])
    assert stop_check(Letters(), []) is None


def test_the_marks_of_the_published_tokenizer(published_tokenizer):
    marks = marks_of(published_tokenizer)
    assert (marks.think, marks.end_think, marks.newline) == (151667, 151668, (198,))
    # 271 is the published token of two line breaks, which follow </think> in Qwen's replies.
    assert marks.early_stop[-2:] == (151668, 271)


def test_a_tokenizer_without_thinking_has_no_marks_for_it():
    class Plain:
        eos_token_id, init_kwargs = 3, {}

        def get_vocab(self):
            return {"a": 0}

        def encode(self, text, *, add_special_tokens):
            return [0]

    marks = marks_of(Plain())
    assert (marks.think, marks.end_think, marks.ends) == (None, None, frozenset({3}))
