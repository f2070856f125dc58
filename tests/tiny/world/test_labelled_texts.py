import pytest

from qwen3lab import tiny
from qwen3lab.tiny.world.families import FAMILIES
from qwen3lab.tiny.world.problems import split_of


@pytest.fixture(scope="module")
def labelled(tiny_tokenizer):
    return tiny.texts(tiny_tokenizer, n=6, seed=3)


def test_each_family_has_n_texts_and_all_are_held_out(labelled):
    assert [text.family for text in labelled] == [name for name in FAMILIES for _ in range(6)]
    assert {split_of(text.problem.key) for text in labelled} == {"held-out"}


def test_every_token_of_the_text_has_a_label(labelled, tiny_tokenizer):
    for text in labelled:
        assert len(text.labels) == len(text.token_ids)
        assert tiny_tokenizer.decode(text.token_ids) == text.text


def test_families_that_think_give_chats_whose_thinking_and_answer_are_known(
    labelled, tiny_tokenizer
):
    for text in labelled:
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


def test_the_same_seed_gives_the_same_texts(labelled, tiny_tokenizer):
    assert tiny.texts(tiny_tokenizer, n=6, seed=3) == labelled
    assert tiny.texts(tiny_tokenizer, n=6, seed=4) != labelled


@pytest.mark.published
def test_texts_are_labelled_for_the_published_tokenizer(published_tokenizer):
    (text,) = tiny.texts(published_tokenizer, n=1, families=["swaps"])
    assert text.problem.answer in published_tokenizer.decode(text.token_ids)
    assert {"question", "thinking", "answer"} <= {label.part for label in text.labels}


def test_the_error_for_an_unknown_family_names_it(tiny_tokenizer):
    with pytest.raises(ValueError, match="there is no family 'sums': choose from arithmetic"):
        tiny.texts(tiny_tokenizer, n=1, families=["sums"])
