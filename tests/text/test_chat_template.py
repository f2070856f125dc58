import itertools

import pytest
from transformers import AutoTokenizer

from qwen3lab.errors import ChatError
from qwen3lab.text.chat_template import (
    as_messages,
    early_stop_text,
    render,
    render_ids,
    thinking_mode,
)
from qwen3lab.text.tokenizer import TextStream, end_ids, open_tokenizer, token_texts

ASKED = [{"role": "user", "content": "How many legs do 3 spiders have?"}]
TALKS = [
    ASKED,
    [{"role": "system", "content": "Be brief."}, *ASKED],
    [*ASKED, {"role": "assistant", "content": "<think>\n3*8\n</think>\n\n24"}, *ASKED],
    [
        *ASKED,
        {"role": "assistant", "content": "24"},
        {"role": "user", "content": "Sure? /no_think"},
    ],
]


@pytest.mark.parametrize("talk", TALKS)
@pytest.mark.parametrize("thinking", [True, False])
def test_rendered_chats_equal_those_of_the_published_template(published_tokenizer, talk, thinking):
    expected = published_tokenizer.apply_chat_template(
        talk, tokenize=False, add_generation_prompt=True, enable_thinking=thinking
    )
    assert render(published_tokenizer, talk, thinking=thinking) == expected
    ids = render_ids(published_tokenizer, talk, thinking=thinking)
    assert ids == published_tokenizer.apply_chat_template(
        talk, add_generation_prompt=True, enable_thinking=thinking, return_dict=False
    )


def test_the_published_reply_begins_as_qwen_documents_it(published_tokenizer):
    # From the model card: without thinking, the reply starts with an empty thinking block.
    head = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    talk = [{"role": "user", "content": "Hi"}]
    assert render(published_tokenizer, talk) == head
    assert render(published_tokenizer, talk, thinking=False) == f"{head}<think>\n\n</think>\n\n"


def test_special_tokens_keep_their_published_ids(published_tokenizer):
    assert published_tokenizer.get_vocab()["<think>"] == 151667
    assert published_tokenizer.get_vocab()["</think>"] == 151668
    assert end_ids(published_tokenizer) == {151645, 151643}


def test_the_early_stop_sentence_is_the_one_in_the_technical_report(published_tokenizer):
    assert early_stop_text(published_tokenizer) == (
        "Considering the limited time by the user, I have to give the solution based on the "
        "thinking directly now.\n</think>\n\n"
    )


@pytest.mark.parametrize(
    ("texts", "thinking", "thinks"),
    [
        (["a"], None, True),
        (["a"], False, False),
        (["a /no_think"], None, False),
        (["a /no_think"], True, False),
        (["a /think"], False, False),
        (["a /no_think", "b /think"], None, True),
        (["/think a /no_think"], None, False),
        (["a /thinking of /no_thinkers"], None, True),
    ],
)
def test_the_last_soft_switch_wins_unless_thinking_is_off(texts, thinking, thinks):
    talk = [{"role": "user", "content": text} for text in texts]
    assert thinking_mode(talk, thinking) is thinks


def test_switches_count_in_system_messages_but_not_in_replies():
    system = {"role": "system", "content": "/no_think"}
    reply = {"role": "assistant", "content": "/no_think"}
    assert not thinking_mode([system, *ASKED])
    assert thinking_mode([*ASKED, reply, *ASKED])


@pytest.mark.parametrize(
    ("talk", "message"),
    [
        ([], "the conversation is empty"),
        ([{"role": "user"}], "message 0 has no text"),
        ([*ASKED, {"role": "robot", "content": "x"}], "message 1 has role 'robot'"),
    ],
)
def test_malformed_conversations_are_refused_with_the_message_number(talk, message):
    with pytest.raises(ChatError, match=message):
        as_messages(talk)


def test_rendering_without_a_chat_template_is_refused(tiny_tokenizer):
    class Base:
        chat_template = None

    with pytest.raises(ChatError, match="no chat template"):
        render(Base(), ASKED)


def test_a_conversation_that_ends_with_a_reply_gets_no_reply_header(tiny_tokenizer):
    talk = [*ASKED, {"role": "assistant", "content": "24"}]
    text = tiny_tokenizer.decode(render_ids(tiny_tokenizer, talk))
    assert text.endswith("24<|im_end|>\n")


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(ChatError, match=r"expected tokenizer\.json"):
        open_tokenizer(tmp_path)


@pytest.mark.parametrize("damage", [lambda text: text[: len(text) // 2], lambda text: "{}"])
def test_a_damaged_tokenizer_is_refused(tmp_path, tiny_tokenizer, damage):
    tiny_tokenizer.save_pretrained(tmp_path)
    file = tmp_path / "tokenizer.json"
    file.write_text(damage(file.read_text("utf-8")), "utf-8")
    with pytest.raises(ChatError, match=r"expected tokenizer\.json"):
        open_tokenizer(tmp_path)


def test_code_in_a_model_folder_is_not_run(tmp_path, tiny_tokenizer):
    tiny_tokenizer.save_pretrained(tmp_path)
    ran = tmp_path / "ran"
    (tmp_path / "evil.py").write_text(f"open({str(ran)!r}, 'w')\nclass Evil: pass\n")
    config = tmp_path / "tokenizer_config.json"
    text = config.read_text().replace(
        "{", '{"auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]},', 1
    )
    config.write_text(text)
    open_tokenizer(tmp_path)
    assert not ran.exists()


TOKENIZERS = [
    "tiny_tokenizer",
    pytest.param("published_tokenizer", marks=pytest.mark.published),
]
TEXTS = ["café ☕ 你好龘 🙂👩‍👩‍👧", "tab\tand\nbreak", "<b>&amp;</b>", "naïve 1234"]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("which", TOKENIZERS)
def test_streamed_text_is_complete_and_never_splits_a_character(request, which, text):
    tokenizer = request.getfixturevalue(which)
    stream = TextStream(tokenizer)
    parts = [stream.push(token) for token in tokenizer.encode(text)]
    assert "".join(parts) == text
    assert not any("\ufffd" in part for part in parts)


@pytest.mark.parametrize("which", TOKENIZERS)
def test_token_texts_are_characters_or_bytes_of_partial_characters(request, which):
    tokenizer = request.getfixturevalue(which)
    ids = tokenizer.encode("龘")
    texts = token_texts(tokenizer, ids)
    text = "".join(texts)
    if len(ids) == 1:
        assert text == "龘"
        return
    # The character's UTF-8 bytes, in order and complete.
    assert text.replace("⟨", "").replace("⟩", "") == "龘".encode().hex()


def test_each_token_has_one_text(tiny_tokenizer):
    ids = tiny_tokenizer.encode("<think>\nA 12")
    assert token_texts(tiny_tokenizer, ids) == ["<think>", "\n", "A", " ", "1", "2"]


def test_thinking_modes_render_alike_in_the_embedded_template(tiny_tokenizer, published_tokenizer):
    for talk, thinking in itertools.product(TALKS, (True, False)):
        ours = render(tiny_tokenizer, talk, thinking=thinking)
        assert ours == render(published_tokenizer, talk, thinking=thinking)


def test_the_saved_tokenizer_opens_in_transformers(tiny_tokenizer, tmp_path):
    tiny_tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again.encode("Start at 3") == tiny_tokenizer.encode("Start at 3")
