import copy
import itertools
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from transformers import AutoTokenizer

from qwen3lab.errors import ChatError
from qwen3lab.text import template_process
from qwen3lab.text.chat_template import (
    as_messages,
    early_stop_text,
    render,
    render_ids,
    switch_of,
    thinking_mode,
)
from qwen3lab.text.tokenizer import (
    StopFilter,
    TextStream,
    encode_text,
    end_ids,
    open_tokenizer,
    token_texts,
)

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
    # Qwen's documentation of the thinking budget puts a blank line before it.
    assert early_stop_text(published_tokenizer) == (
        "\n\nConsidering the limited time by the user, I have to give the solution based on the "
        "thinking directly now.\n</think>\n\n"
    )


SOFT_SWITCHES = [
    "What is 2+2? /no_think",
    "Explain:\n```\ncd ~/no_think && ls\n```",
    "see https://example.org/no_think.html",
    "/think a /no_think",
    "what does <think> do? and </think>?",
]


@pytest.mark.parametrize("text", SOFT_SWITCHES)
@pytest.mark.parametrize("role", ["user", "system"])
@pytest.mark.parametrize("thinking", [None, True, False])
def test_soft_switches_are_text_that_the_template_passes_on(
    published_tokenizer, text, role, thinking
):
    talk = [{"role": role, "content": text}, *ASKED]
    options = {} if thinking is None else {"enable_thinking": thinking}
    expected = published_tokenizer.apply_chat_template(
        talk, tokenize=False, add_generation_prompt=True, **options
    )
    assert render(published_tokenizer, talk, thinking=thinking) == expected
    assert thinking_mode(published_tokenizer, talk, thinking) is (thinking is not False)


HEADER = "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
OPENS = "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n<think>\\n' }}{%- endif %}"
OFF = (
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if not enable_thinking %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}{%- endif %}"
)
PLAIN = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{%- endfor %}"
)
ADDS_TEXT = (
    "{%- if enable_thinking is false %}{{- 'Answer at once.' }}{%- endif %}" + PLAIN + HEADER
)


def with_ending(tokenizer, ending):
    """The tokenizer with another end of its chat template."""
    changed = copy.deepcopy(tokenizer)
    head = changed.chat_template
    changed.chat_template = head[: head.rindex("{%- if add_generation_prompt")] + ending
    return changed


@pytest.mark.parametrize(
    ("ending", "modes"),
    [
        pytest.param(HEADER, (True, True, True), id="no switch, the model opens the block"),
        pytest.param(OPENS, (True, True, True), id="always open, as Thinking-2507"),
        pytest.param(OFF, (False, True, False), id="off unless asked for"),
    ],
)
def test_the_mode_is_what_the_rendered_prompt_says(published_tokenizer, ending, modes):
    tokenizer = with_ending(published_tokenizer, ending)
    found = tuple(thinking_mode(tokenizer, ASKED, asked) for asked in (None, True, False))
    assert found == modes


@pytest.mark.parametrize(
    ("template", "modes"),
    [(PLAIN + HEADER, (False, False, False)), (ADDS_TEXT, (True, True, False))],
)
def test_a_template_that_does_not_treat_thinking_has_none(published_tokenizer, template, modes):
    tokenizer = copy.deepcopy(published_tokenizer)
    tokenizer.chat_template = template
    found = tuple(thinking_mode(tokenizer, ASKED, asked) for asked in (None, True, False))
    assert found == modes


@pytest.mark.parametrize(
    ("begun", "thinks"),
    [("A good one is the", False), ("<think>\nLegs: 3 times", True), ("two  words ", False)],
)
def test_a_reply_that_was_begun_is_continued_as_in_transformers(published_tokenizer, begun, thinks):
    talk = [*ASKED, {"role": "assistant", "content": begun}]
    expected = published_tokenizer.apply_chat_template(
        talk, tokenize=False, continue_final_message=True
    )
    assert render(published_tokenizer, talk, continue_reply=True) == expected
    assert expected.endswith(begun)
    assert thinking_mode(published_tokenizer, talk) is thinks


CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}],
}


@pytest.mark.parametrize(
    ("last", "message"),
    [
        ({"role": "assistant", "content": " \n"}, "an assistant's, is empty: leave it out"),
        (CALL, "the conversation ends with tool calls"),
    ],
)
def test_a_last_message_that_cannot_be_continued_is_refused(published_tokenizer, last, message):
    with pytest.raises(ChatError, match=message):
        render_ids(published_tokenizer, [*ASKED, last], continue_reply=True)


@pytest.mark.parametrize("call", [CALL, {k: v for k, v in CALL.items() if k != "content"}])
def test_tool_calls_without_content_render_as_in_transformers(published_tokenizer, call):
    talk = [*ASKED, call, {"role": "tool", "content": "24"}]
    # The first published template cannot; the revised one and those of 2507 take no text for none.
    if "message.content is string" in published_tokenizer.chat_template:
        rendered = published_tokenizer.apply_chat_template(
            talk, tokenize=False, add_generation_prompt=True
        )
        assert render(published_tokenizer, talk) == rendered
    else:
        with pytest.raises(ChatError, match="the chat template refuses the conversation"):
            render(published_tokenizer, talk)
    tokenizer = copy.deepcopy(published_tokenizer)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }}{{ m.content if m.content is string else '' }}"
        "{% for c in m.tool_calls or [] %}{{ c.function | tojson }}{% endfor %}{% endfor %}"
    )
    expected = tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=True)
    assert render(tokenizer, talk) == expected
    assert '"name": "f"' in expected


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('No user query found in messages.') }}", "No user query found"),
        ("{% if %}", "Expected an expression"),
        ("{{ messages[9].content + 1 }}", "has no element 9"),
        ("{{ 'a' + 1 }}", "can only concatenate str"),
    ],
)
def test_a_template_that_fails_is_a_chat_error_with_its_message(tiny_tokenizer, template, message):
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.chat_template = template
    with pytest.raises(ChatError, match=f"refuses the conversation: .*{message}"):
        render(tokenizer, ASKED)


def test_a_refusal_quotes_one_short_line(tiny_tokenizer):
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.chat_template = "{{ raise_exception('x' * 10000 + '\x1b\\nsecond') }}"
    with pytest.raises(ChatError, match=r"refuses the conversation: x+…$") as raised:
        render(tokenizer, [{"role": "user", "content": "a"}])
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize("wrong", [0, 1, "no", 0.0, []])
def test_a_switch_that_a_template_would_misread_is_refused(wrong):
    with pytest.raises(ChatError, match="expected True, False or None"):
        switch_of(wrong)


@pytest.mark.parametrize("broken", ["no added tokens", "split_special_tokens"])
def test_control_tokens_that_the_tokenizer_splits_are_refused(
    published_tokenizer, tmp_path, broken
):
    published_tokenizer.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "tokenizer.json").read_text())
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    if broken == "split_special_tokens":
        settings["split_special_tokens"] = True
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    else:  # vocab.json and merges.txt alone, as GPT-2 and the first Qwen releases store them.
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (tmp_path / name).unlink()
        (tmp_path / "vocab.json").write_text(json.dumps(saved["model"]["vocab"]))
        (tmp_path / "config.json").write_text('{"model_type": "qwen3"}')
        merges = [" ".join(merge) for merge in saved["model"]["merges"]]
        (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
        (tmp_path / "chat_template.jinja").write_text(published_tokenizer.chat_template)
    tokenizer = open_tokenizer(tmp_path)
    assert len(tokenizer.encode("<|im_start|>", add_special_tokens=False)) > 1
    with pytest.raises(ChatError, match=r"splits <\|im_start\|>.*added tokens"):
        render_ids(tokenizer, [{"role": "user", "content": "a"}])


def test_half_a_surrogate_pair_is_refused_with_its_place(tiny_tokenizer):
    with pytest.raises(ValueError, match=r"character 2 of the text is '\\ud83d', half of a surr"):
        encode_text(tiny_tokenizer, "ab\ud83d")
    with pytest.raises(ValueError, match="half of a surrogate pair"):
        render_ids(tiny_tokenizer, [{"role": "user", "content": "\udc00"}])


@pytest.mark.parametrize(
    ("talk", "message"),
    [
        ([], "the conversation is empty"),
        ("", "the conversation is empty"),
        (torch.tensor([1, 2]), "the conversation is of type Tensor"),
        (None, "the conversation is of type NoneType"),
        ([{"role": "user", "content": [{"type": "text", "text": "a"}]}], "0 has a list of parts"),
        ({"role": "user", "content": "a"}, "the conversation is a dict"),
        (["hi", "there"], "message 0 has no text"),
        ([{"role": "user", "content": None, "tool_calls": [1]}], "message 0 has no text"),
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


@pytest.mark.parametrize("left", [("tokenizer_config.json",), ("vocab.json",), ("config.json",)])
def test_a_vocabulary_that_transformers_would_invent_is_refused(tmp_path, tiny_tokenizer, left):
    tiny_tokenizer.save_pretrained(tmp_path)
    (tmp_path / "vocab.json").write_text('{"a": 0}')
    (tmp_path / "config.json").write_text('{"model_type": "qwen3"}')
    for file in tmp_path.iterdir():
        if file.name not in (*left, "config.json"):
            file.unlink()
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
RAW = "plain 👩‍👩‍👧 中文 नमस्ते ᢠ펢ᡝ and \ufffd, then \ufffd"


@pytest.mark.parametrize("which", TOKENIZERS)
def test_streamed_text_equals_the_text_of_all_tokens(request, which):
    tokenizer = request.getfixturevalue(which)
    ids = tokenizer.encode(RAW)
    stream = TextStream(tokenizer)
    assert "".join(stream.push(token) for token in ids) == RAW
    # A stream that ends, or goes on, within a character.
    for cut in range(1, len(ids)):
        for part in (ids[:cut], ids[cut:], ids[:cut] + ids[cut + 1 :]):
            stream = TextStream(tokenizer)
            got = "".join(stream.push(token) for token in part) + stream.flush()
            assert got == tokenizer.decode(part)


@pytest.mark.parametrize(
    ("stop", "pieces", "streamed"),
    [
        (["1+2"], ["3", "1", "+", "25"], ["3", "", "", ""]),
        (["1+2"], ["3", "1", "+", "4"], ["3", "", "", "1+4"]),
        (["aab"], ["a", "a", "a", "b"], ["", "", "a", ""]),
        (["xy", "bcd"], ["ab", "c", "x", "z"], ["a", "", "bc", "xz"]),
        ([], ["a", "b"], ["a", "b"]),
    ],
)
def test_text_that_may_become_a_stop_string_is_held_back(stop, pieces, streamed):
    held = StopFilter(stop)
    assert [held.push(piece) for piece in pieces] == streamed
    assert held.flush() == ""


def test_held_text_is_released_at_the_end():
    held = StopFilter(["end."])
    assert (held.push("the en"), held.flush()) == ("the ", "en")


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


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (
            "{% for a in range(9999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
            "1 seconds",
        ),
        ("{{ 'x' * 2 * 10**7 }}", "renders to 20,000,000 characters"),
        ("{{ 'x' * 10**11 }}", "MemoryError"),
        ("{{ 9**(9**9) }}", "1 seconds and 1,024 MiB"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
    ],
)
def test_a_template_that_loops_or_fills_memory_is_ended(
    tiny_tokenizer, monkeypatch, template, reason
):
    monkeypatch.setattr(template_process._PROCESS, "seconds", 1)
    monkeypatch.setattr(template_process, "SECONDS", 1)
    tokenizer = copy.copy(tiny_tokenizer)
    tokenizer.chat_template = template
    with pytest.raises(ChatError, match=f"refuses the conversation: .*{reason}"):
        render(tokenizer, ASKED)
    monkeypatch.undo()
    expected = tiny_tokenizer.apply_chat_template(ASKED, tokenize=False, add_generation_prompt=True)
    assert render(tiny_tokenizer, ASKED) == expected


def test_a_template_gets_the_special_tokens_of_its_tokenizer(tiny_tokenizer):
    tokenizer = copy.copy(tiny_tokenizer)
    tokenizer.chat_template = "{{ bos_token }}|{{ eos_token }}|{{ pad_token }}"
    assert render(tokenizer, ASKED) == "|<|im_end|>|<|endoftext|>"


def test_one_of_several_named_templates_is_the_default(tiny_tokenizer):
    tokenizer = copy.copy(tiny_tokenizer)
    tokenizer.chat_template = {"default": "plain", "tool_use": "tools"}
    assert render(tokenizer, ASKED) == "plain"
    tokenizer.chat_template = {"other": "plain"}
    with pytest.raises(ChatError, match="multiple chat templates with no default"):
        render(tokenizer, ASKED)


def test_an_error_with_control_characters_is_one_printable_line(tiny_tokenizer):
    tokenizer = copy.copy(tiny_tokenizer)
    tokenizer.chat_template = "{{ raise_exception('a\\nb\\x00' * 900) }}"
    with pytest.raises(ChatError) as caught:
        render(tokenizer, ASKED)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 400


def unknown(tokenizer):
    """The tokenizer with a template that renders the same but is not one of those known."""
    changed = copy.copy(tokenizer)
    changed.chat_template = tokenizer.chat_template + "{# changed #}"
    return changed


@pytest.fixture
def no_process(monkeypatch):
    def start(request):
        raise AssertionError("the limited process was asked")

    monkeypatch.setattr(template_process._PROCESS, "ask", start)


def test_the_embedded_template_is_rendered_without_another_process(tiny_tokenizer, no_process):
    expected = tiny_tokenizer.apply_chat_template(ASKED, tokenize=False, add_generation_prompt=True)
    assert render(tiny_tokenizer, ASKED) == expected
    with pytest.raises(AssertionError, match="was asked"):
        render(unknown(tiny_tokenizer), ASKED)


def test_the_published_template_is_rendered_without_another_process(
    published_tokenizer, no_process
):
    assert render(published_tokenizer, ASKED).startswith("<|im_start|>user\nHow many legs")


@pytest.mark.parametrize("thinking", [True, False, None])
def test_the_limited_process_renders_as_transformers_does(tiny_tokenizer, thinking):
    for talk in TALKS:
        found = render(unknown(tiny_tokenizer), talk, thinking=thinking)
        assert found == render(tiny_tokenizer, talk, thinking=thinking)


def test_a_message_that_is_not_json_is_refused_by_an_unknown_template(tiny_tokenizer):
    with pytest.raises(ChatError, match="type set is not JSON"):
        render(unknown(tiny_tokenizer), [ASKED[0] | {"tool_calls": [{1, 2}]}])


def test_conversations_are_rendered_from_several_threads(tiny_tokenizer):
    talks = [[{"role": "user", "content": str(n)}] for n in range(12)]
    expected = [tiny_tokenizer.apply_chat_template(talk, tokenize=False) for talk in talks]
    with ThreadPoolExecutor(4) as pool:
        tokenizer = unknown(tiny_tokenizer)
        found = pool.map(lambda t: render(tokenizer, t, add_generation_prompt=False), talks)
        assert list(found) == expected
