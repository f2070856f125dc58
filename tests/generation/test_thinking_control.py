from dataclasses import replace

import pytest

from qwen3lab.generation.reply import split_reply
from qwen3lab.generation.thinking_control import (
    Extension,
    Marks,
    ReplyGuide,
    Steering,
    marks_of,
    stop_check,
    stop_strings,
)

END, THINK, CLOSE, NEWLINE = 90, 91, 92, 10
SENTENCE = (80, 81, CLOSE, NEWLINE)
MARKS = Marks(
    ends=frozenset({END}), think=THINK, end_think=CLOSE, newline=(NEWLINE,), early_stop=SENTENCE
)


def written(guide, drawn, n=40):
    """The reply if the model samples these tokens one after the other."""
    drawn, out = list(drawn), []
    for _ in range(n):
        # After an inserted token, the model samples the same token again at the next step.
        inserted = guide.next(drawn[0] if drawn else 0)
        token = drawn.pop(0) if inserted is None else inserted
        out.append(token)
        if guide.take(token):
            break
    return out


def test_a_reply_that_the_model_ends_has_the_stop_natural():
    guide = ReplyGuide(MARKS)
    written(guide, [THINK, NEWLINE, 1, 2, NEWLINE, CLOSE, NEWLINE, 5, END])
    assert (guide.stop, guide.n_thinking, guide.answer_ids) == ("natural", 3, [NEWLINE, 5, END])


def test_the_early_stop_sentence_is_inserted_when_the_budget_is_used_up():
    guide = ReplyGuide(MARKS, budget=2)
    out = written(guide, [THINK, NEWLINE, 1, 2, 5, END])
    assert out == [THINK, NEWLINE, 1, 2, *SENTENCE, 5, END]
    assert (guide.stop, guide.n_thinking) == ("budget", 2)


def test_a_line_break_inside_the_thinking_counts_as_a_token():
    guide = ReplyGuide(MARKS, budget=2)
    out = written(guide, [THINK, 1, NEWLINE, 5, END])
    assert out == [THINK, 1, NEWLINE, *SENTENCE, 5, END]


def test_a_budget_of_zero_opens_and_closes_the_thinking_block():
    guide = ReplyGuide(MARKS, budget=0)
    assert written(guide, [THINK, 5, END]) == [THINK, NEWLINE, *SENTENCE, 5, END]
    assert guide.n_thinking == 0


def test_thinking_that_ends_within_the_budget_is_not_cut():
    guide = ReplyGuide(MARKS, budget=3)
    out = written(guide, [THINK, NEWLINE, 1, 2, CLOSE, 5, END])
    assert out == [THINK, NEWLINE, 1, 2, CLOSE, 5, END]
    assert guide.stop == "natural"


def test_the_budget_does_not_limit_the_answer():
    guide = ReplyGuide(MARKS, budget=1)
    written(guide, [THINK, NEWLINE, 1, *range(20, 40), END])
    assert guide.answer_ids[1:-1] == list(range(20, 40))


def test_an_unfinished_reply_has_the_stop_length():
    guide = ReplyGuide(MARKS)
    written(guide, [1, 2, 3], n=3)
    assert (guide.stop, guide.ended) == ("length", False)


def test_a_stop_string_ends_the_answer_but_not_the_thinking():
    guide = ReplyGuide(MARKS, stopped=lambda ids: 7 in ids)
    out = written(guide, [THINK, 7, CLOSE, 6, 7, 8])
    assert out == [THINK, 7, CLOSE, 6, 7]
    assert guide.stop == "string"


class Letters:
    """A tokenizer whose token `n` is the character with code point `n`."""

    def decode(self, ids, *, skip_special_tokens):
        return "".join(map(chr, ids))


def test_a_stop_string_that_spans_several_tokens_is_found():
    stopped = stop_check(Letters(), ["end."])
    assert stopped is not None
    text = "a long text before it, and then the end."
    results = [stopped([ord(char) for char in text[:n]]) for n in range(len(text) + 1)]
    assert results == [False] * len(text) + [True]


def test_a_text_is_one_stop_string():
    assert stop_strings("end.") == ("end.",)
    assert stop_strings(["a", "b"]) == ("a", "b")
    assert stop_strings(None) == stop_strings([]) == ()


@pytest.mark.parametrize("wrong", ["", ["a", ""], [3], 3, b"ab", True])
def test_stop_strings_must_be_text(wrong):
    with pytest.raises(ValueError, match="expected strings that are not empty"):
        stop_strings(wrong)
    with pytest.raises(ValueError, match="not empty"):
        stop_check(Letters(), [""])
    assert stop_check(Letters(), []) is None


def test_the_marks_of_the_published_tokenizer_have_their_published_ids(published_tokenizer):
    marks = marks_of(published_tokenizer)
    assert (marks.think, marks.end_think, marks.newline) == (151667, 151668, (198,))
    # 271 is the token of two line breaks in the published vocabulary; they follow </think>.
    assert marks.early_stop[-2:] == (151668, 271)


def test_a_tokenizer_without_thinking_has_no_think_marks():
    class Plain:
        eos_token_id, init_kwargs = 3, {}

        def convert_tokens_to_ids(self, token):
            return {"a": 0}.get(token)

        def encode(self, text, *, add_special_tokens):
            return [0]

    marks = marks_of(Plain())
    assert (marks.think, marks.end_think, marks.ends) == (None, None, frozenset({3}))


WAIT = (70, 71)


def test_an_early_end_of_thinking_is_refused_the_given_number_of_times():
    guide = ReplyGuide(MARKS, extension=Extension(times=2), continuation=WAIT)
    out = written(guide, [THINK, NEWLINE, 1, CLOSE, 5, END])
    # The model samples </think> at every step; inserted tokens do not count.
    assert out == [THINK, NEWLINE, 1, *WAIT, *WAIT, CLOSE, 5, END]
    assert (guide.refused, guide.n_thinking, guide.stop) == (2, 1, "natural")


def test_an_end_of_thinking_is_refused_only_below_the_minimum_length():
    long_enough = ReplyGuide(MARKS, extension=Extension(5, below=3), continuation=WAIT)
    assert written(long_enough, [THINK, 1, 2, 3, CLOSE, END]) == [THINK, 1, 2, 3, CLOSE, END]
    short = ReplyGuide(MARKS, extension=Extension(1, below=3), continuation=WAIT)
    assert written(short, [THINK, 1, CLOSE, END]) == [THINK, 1, *WAIT, CLOSE, END]


def test_the_budget_also_limits_extended_thinking():
    guide = ReplyGuide(MARKS, budget=2, extension=Extension(9), continuation=WAIT)
    out = written(guide, [THINK, NEWLINE, 1, 2, 5, END])
    assert out == [THINK, NEWLINE, 1, 2, *SENTENCE, 5, END]
    other = ReplyGuide(MARKS, budget=3, extension=Extension(1), continuation=WAIT)
    out = written(other, [THINK, NEWLINE, 1, CLOSE, 5, END])
    assert out == [THINK, NEWLINE, 1, *WAIT, CLOSE, 5, END]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"times": 0}, "times is 0"), ({"below": 0}, "below is 0"), ({"text": ""}, "is empty")],
)
def test_invalid_extensions_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Extension(**wrong)


def test_steering_ends_the_thinking_between_two_tokens():
    steering = Steering()
    guide = ReplyGuide(MARKS, steering=steering)
    assert written(guide, [THINK, NEWLINE, 1, 2], n=4) == [THINK, NEWLINE, 1, 2]
    steering.stop_thinking()
    assert written(guide, [3, 5, END]) == [*SENTENCE, 3, 5, END]
    assert (guide.stop, guide.n_thinking) == ("asked", 2)


def test_thinking_that_is_stopped_before_its_line_break_gets_one():
    steering = Steering()
    steering.stop_thinking()
    guide = ReplyGuide(MARKS, steering=steering)
    assert written(guide, [THINK, 5, END]) == [THINK, NEWLINE, *SENTENCE, 5, END]


def test_steering_adds_tokens_to_the_budget():
    steering = Steering()
    guide = ReplyGuide(MARKS, budget=2, steering=steering)
    written(guide, [THINK, NEWLINE, 1], n=3)
    steering.think_more(2)
    assert written(guide, [2, 3, 4, 5, END]) == [2, 3, 4, *SENTENCE, 5, END]
    assert (guide.stop, guide.n_thinking) == ("budget", 4)


def test_steering_refuses_the_next_end_of_thinking():
    steering = Steering()
    guide = ReplyGuide(MARKS, steering=steering, continuation=WAIT)
    steering.think_more(5)
    assert written(guide, [THINK, 1, CLOSE, 5, END]) == [THINK, 1, *WAIT, CLOSE, 5, END]
    assert (guide.refused, guide.n_thinking) == (1, 1)


def test_an_answer_ends_at_its_maximum_length():
    guide = ReplyGuide(MARKS, answer_tokens=2)
    assert written(guide, [THINK, 1, 2, 3, CLOSE, 5, 6, 7, END]) == [THINK, 1, 2, 3, CLOSE, 5, 6]
    assert (guide.stop, guide.ended) == ("length", True)


def test_the_answer_is_empty_during_the_thinking():
    guide = ReplyGuide(MARKS)
    written(guide, [THINK, 1, 2], n=3)
    assert guide.answer_ids == []


@pytest.mark.parametrize(
    ("prompt", "opened"),
    [
        ([1, THINK], True),
        ([1, THINK, NEWLINE], True),
        ([1, THINK, NEWLINE, NEWLINE, CLOSE, NEWLINE], False),
        ([1, THINK, 5, 1], True),
        ([1, THINK, 98], True),
        ([THINK, 5, END, 1], False),
        ([THINK, 5, CLOSE, 1], False),
        ([], False),
    ],
)
def test_a_prompt_may_open_the_thinking(prompt, opened):
    """As prompts of Qwen3-Thinking-2507 and begun replies do; earlier turns do not count."""
    guide = ReplyGuide(MARKS, budget=2, prompt_ids=prompt)
    assert (guide.opened, guide.part) == (opened, "thinking" if opened else "answer")


def test_the_budget_limits_thinking_that_the_prompt_opened():
    guide = ReplyGuide(MARKS, budget=2, prompt_ids=[7, THINK, NEWLINE])
    assert written(guide, [1, 2, 5, END]) == [1, 2, *SENTENCE, 5, END]
    assert (guide.n_thinking, guide.stop, guide.cut_by_budget) == (2, "budget", True)
    none = ReplyGuide(MARKS, budget=0, prompt_ids=[7, THINK, NEWLINE])
    assert written(none, [5, END]) == [*SENTENCE, 5, END]
    bare = ReplyGuide(MARKS, budget=0, prompt_ids=[7, THINK])
    assert written(bare, [5, END]) == [NEWLINE, *SENTENCE, 5, END]


def test_an_end_token_is_not_a_thinking_token():
    guide = ReplyGuide(MARKS, budget=2)
    assert written(guide, [THINK, NEWLINE, 1, END]) == [THINK, NEWLINE, 1, END]
    assert (guide.n_thinking, guide.stop) == (1, "natural")


def test_inserted_tokens_are_marked_and_do_not_open_the_thinking_block():
    guide = ReplyGuide(MARKS, extension=Extension(), continuation=[70])
    for drawn in [THINK, CLOSE, NEWLINE, 1, CLOSE, 5, END]:
        inserted = guide.next(drawn)
        guide.take(drawn if inserted is None else inserted)
    assert guide.token_ids == [THINK, 70, NEWLINE, 1, CLOSE, 5, END]
    assert guide.inserted == [False, True, *(5 * [False])]
    assert guide.n_thinking == 2, "a line break after the continuation is a thinking token"
    again = ReplyGuide(MARKS)
    for token, inserted in zip(guide.token_ids, guide.inserted, strict=True):
        again.take(token, inserted=inserted)
    assert again.n_thinking == 2


def test_a_second_block_uses_what_is_left_of_the_budget():
    guide = ReplyGuide(MARKS, budget=3)
    out = written(guide, [THINK, NEWLINE, 1, CLOSE, 5, THINK, 6, 7, 8, 9, END])
    assert out == [THINK, NEWLINE, 1, CLOSE, 5, THINK, 6, 7, *SENTENCE, 8, 9, END]
    assert (guide.n_thinking, guide.stop, guide.answer_ids) == (3, "budget", [NEWLINE, 8, 9, END])


def test_a_block_after_the_budget_is_cut_at_once():
    guide = ReplyGuide(MARKS, budget=1)
    out = written(guide, [THINK, NEWLINE, 1, 5, THINK, 6, THINK, 7, END])
    cut = [THINK, NEWLINE, *SENTENCE]
    assert out == [THINK, NEWLINE, 1, *SENTENCE, 5, *cut, 6, *cut, 7, END]
    assert guide.n_thinking == 1


def test_a_think_token_within_the_thinking_counts_as_a_thinking_token():
    guide = ReplyGuide(MARKS, budget=3)
    out = written(guide, [THINK] * 9, n=8)
    assert out == [THINK] * 4 + list(SENTENCE)
    assert guide.n_thinking == 3


def test_thinking_stays_stopped_when_the_model_thinks_again():
    steering = Steering()
    guide = ReplyGuide(MARKS, steering=steering)
    written(guide, [THINK, NEWLINE, 1], n=3)
    steering.stop_thinking()
    out = written(guide, [5, THINK, 6, END])
    assert out == [*SENTENCE, 5, THINK, NEWLINE, *SENTENCE, 6, END]
    assert guide.stop == "asked"


def test_a_sentence_after_a_blank_line_needs_no_further_line_break():
    marks = replace(MARKS, early_stop=(98, *SENTENCE), starts_blank=True)
    guide = ReplyGuide(marks, budget=0)
    assert written(guide, [THINK, 5, END]) == [THINK, 98, *SENTENCE, 5, END]


def test_the_early_stop_follows_a_blank_line_as_in_the_published_recipe(published_tokenizer):
    marks = marks_of(published_tokenizer)
    recipe = published_tokenizer.encode(
        "\n\nConsidering the limited time by the user, I have to give the solution based on the "
        "thinking directly now.\n</think>\n\n"
    )
    guide = ReplyGuide(marks, budget=2)
    thought = published_tokenizer.encode("<think>\n2 legs and more")
    out = written(guide, [*thought, 5, END], n=4 + len(recipe))
    assert out == [*thought[:4], *recipe]
    assert marks.early_stop == tuple(recipe)
    opened = ReplyGuide(marks, prompt_ids=published_tokenizer.encode("<think>\n\n"))
    assert opened.opened


def test_end_tokens_of_the_generation_config_end_a_reply_too(tiny_tokenizer):
    marks = marks_of(tiny_tokenizer, [7])
    assert marks.ends == marks_of(tiny_tokenizer).ends | {7}


@pytest.mark.parametrize(
    ("ids", "opened", "thinking", "answer"),
    [
        ([THINK, 1, CLOSE, 5, THINK, 2, CLOSE, 6, END], False, (1, 6), (7, 8)),
        ([1, CLOSE, 5, THINK, 2, CLOSE, 6, END], True, (0, 5), (6, 7)),
        ([5, THINK, 2, CLOSE, 6, END], False, (2, 3), (4, 5)),
        ([THINK, 1, CLOSE, 5, THINK, 2], False, (1, 6), (6, 6)),
        ([THINK, 1, CLOSE, 5, CLOSE, 6, END], False, (1, 2), (3, 6)),
    ],
)
def test_a_second_block_belongs_to_the_thinking(ids, opened, thinking, answer):
    assert split_reply(ids, list(map(str, ids)), MARKS, opened=opened) == (thinking, answer)
