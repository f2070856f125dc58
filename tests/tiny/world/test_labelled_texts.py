import pytest

from qwen3lab import tiny
from qwen3lab.tiny.world.families import FAMILIES
from qwen3lab.tiny.world.problems import split_of


@pytest.fixture(scope="module")
def found(tiny_tokenizer):
    return tiny.texts(tiny_tokenizer, n=6, seed=3)


def test_there_are_so_many_of_each_family_and_all_are_held_out(found):
    assert [text.family for text in found] == [name for name in FAMILIES for _ in range(6)]
    assert {split_of(text.problem.key) for text in found} == {"held-out"}


def test_every_token_has_a_label_and_the_tokens_are_those_of_the_text(found, tiny_tokenizer):
    for text in found:
        assert len(text.labels) == len(text.token_ids)
        assert tiny_tokenizer.decode(text.token_ids) == text.text


def test_families_that_think_are_chats_with_a_thinking_and_what_follows_is_known(
    found, tiny_tokenizer
):
    for text in found:
        parts = {label.part for label in text.labels}
        if FAMILIES[text.family].thinks:
            assert {"question", "thinking", "answer", "frame"} <= parts
            assert text.text.endswith(f"</think>\n\n{text.problem.answer}<|im_end|>\n")
        else:
            assert parts == {"passage"}
        known = [i for i, is_known in zip(text.token_ids, text.known, strict=True) if is_known]
        if FAMILIES[text.family].thinks:
            written = f"{text.problem.thinking}{text.problem.answer}".split()
            assert "".join(tiny_tokenizer.decode(known).split()) == "".join(written)


def test_the_same_seed_gives_the_same_texts(found, tiny_tokenizer):
    assert tiny.texts(tiny_tokenizer, n=6, seed=3) == found
    assert tiny.texts(tiny_tokenizer, n=6, seed=4) != found


@pytest.mark.published
def test_another_tokenizer_reads_them_too(published_tokenizer):
    (text,) = tiny.texts(published_tokenizer, n=1, families=["swaps"])
    assert text.problem.answer in published_tokenizer.decode(text.token_ids)
    assert {"question", "thinking", "answer"} <= {label.part for label in text.labels}


def test_an_unknown_family_is_named(tiny_tokenizer):
    with pytest.raises(ValueError, match="there is no family 'sums': choose from arithmetic"):
        tiny.texts(tiny_tokenizer, n=1, families=["sums"])
