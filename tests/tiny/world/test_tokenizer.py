import itertools
import json
import random

import pytest
from transformers import AutoTokenizer

from qwen3lab import tiny
from qwen3lab.checkpoints.embedded import EMBEDDED, embedded_models
from qwen3lab.text.chat_template import early_stop_text
from qwen3lab.text.tokenizer import token_texts
from qwen3lab.tiny.world import outside
from qwen3lab.tiny.world.common_words import ENGLISH
from qwen3lab.tiny.world.families import FAMILIES
from qwen3lab.tiny.world.problems import Piece
from qwen3lab.tiny.world.settings import WORLDS
from qwen3lab.tiny.world.tokenizer import EARLY_STOP, N_VOCAB, write_tokenizer


@pytest.mark.parametrize(
    "text",
    [
        "Ann has the key. 3+2*7=?",
        "你好，世界！ 龘 🙂👩‍👩‍👧 é ñ ß",
        "\x00\x01\t  \r\n\n \u2028 <b>&amp;</b> \\ \"'`",
        "1234567890 3.14 -> ** ''",
        "عربي עברית हिन्दी ไทย",
    ],
)
def test_decoding_an_encoded_text_returns_the_text(tiny_tokenizer, text):
    assert tiny_tokenizer.decode(tiny_tokenizer.encode(text)) == text


def test_each_digit_is_a_token(tiny_tokenizer):
    ids = tiny_tokenizer.encode("2026 and 17")
    assert token_texts(tiny_tokenizer, ids) == ["2", "0", "2", "6", " and", " ", "1", "7"]


def test_common_words_are_single_tokens(tiny_tokenizer):
    words = [word for word in ENGLISH.split() if word.isascii()]
    single = [len(tiny_tokenizer.encode(f" {word}")) == 1 for word in words]
    assert sum(single) / len(single) > 0.95
    assert token_texts(tiny_tokenizer, tiny_tokenizer.encode("你好朋友"))[0] == "你"


def test_the_special_tokens_are_qwens(tiny_tokenizer):
    assert (tiny_tokenizer.eos_token, tiny_tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    for mark in ("<|im_start|>", "<|im_end|>", "<think>", "</think>", "<tool_call>"):
        assert len(tiny_tokenizer.encode(mark)) == 1
    assert len(tiny_tokenizer) == N_VOCAB


CONVERSATIONS = [
    [{"role": "user", "content": "a"}],
    [{"role": "system", "content": "s"}, {"role": "user", "content": "a\nb"}],
    [
        {"role": "user", "content": "a /no_think"},
        {"role": "assistant", "content": "<think>\nx\ny\n</think>\n\nb"},
        {"role": "user", "content": "c /think"},
    ],
    [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
    [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b", "reasoning_content": "\nwhy\n"},
    ],
    [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "<think>\n\n</think>\n\nb"},
        {"role": "user", "content": "c"},
        {"role": "assistant", "content": "<think>z</think>d"},
    ],
]


@pytest.mark.parametrize("messages", CONVERSATIONS)
def test_chats_are_rendered_as_by_the_published_template(
    tiny_tokenizer, published_tokenizer, messages
):
    for thinking, prompt in itertools.product((True, False), (True, False)):
        options = {"tokenize": False, "add_generation_prompt": prompt, "enable_thinking": thinking}
        ours = tiny_tokenizer.apply_chat_template(messages, **options)
        assert ours == published_tokenizer.apply_chat_template(messages, **options)


def test_the_early_stop_sentence_comes_from_the_tokenizers_files(tiny_tokenizer):
    assert early_stop_text(tiny_tokenizer) == f"{EARLY_STOP}\n</think>\n\n"


def test_the_tokenizers_files_state_the_edition_of_the_world(tmp_path):
    write_tokenizer(tmp_path)
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["world"] == 2


def test_two_builds_give_the_same_vocabulary(tiny_tokenizer, tmp_path):
    write_tokenizer(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path).get_vocab() == tiny_tokenizer.get_vocab()


@pytest.mark.parametrize("name", embedded_models())
def test_the_shipped_tokenizer_is_the_one_that_the_code_builds(tmp_path, name):
    write_tokenizer(tmp_path)
    shipped = AutoTokenizer.from_pretrained(EMBEDDED / name)
    built = AutoTokenizer.from_pretrained(tmp_path)
    assert shipped.get_vocab() == built.get_vocab()
    assert shipped.chat_template == built.chat_template


def test_every_word_of_the_worlds_is_a_single_token(tiny_tokenizer):
    for language, world in WORLDS.items():
        for word in world.vocabulary:
            for text in (word, f" {word}") if language == "en" else (word,):
                assert len(tiny_tokenizer.encode(text)) == 1, text


@pytest.mark.parametrize("text", ["Wait", "\n", " plus", " minus", " times", "加", "减", "乘", "×"])
def test_words_that_structure_arithmetic_are_single_tokens(tiny_tokenizer, text):
    assert len(tiny_tokenizer.encode(text)) == 1


@pytest.mark.parametrize("name", ["arithmetic", "code"])
def test_no_token_spans_two_pieces_of_arithmetic_or_a_program(tiny_tokenizer, name):
    rng = random.Random(0)
    family = FAMILIES[name]
    for _ in range(100):
        problem = family.draw(rng, rng.randint(family.least, family.most), "train")
        pieces = [problem.thought] if name == "arithmetic" else [problem.asked, problem.thought]
        for part in pieces:
            texts = [piece.text for piece in part]
            one_by_one = [i for text in texts for i in tiny_tokenizer.encode(text)]
            assert tiny_tokenizer.encode("".join(texts)) == one_by_one


def test_labels_line_up_with_tokens(tiny_tokenizer):
    for problem in tiny.problems("arithmetic", n=30, steps=4, seed=2):
        text = (
            f"<|im_start|>user\n{problem.question}<|im_end|>\n<|im_start|>assistant\n"
            f"<think>\n{problem.thinking}\n</think>\n\n{problem.answer}<|im_end|>\n"
        )
        ids = tiny_tokenizer.encode(text)
        labels = tiny.label_tokens(problem, text, tiny_tokenizer)
        assert len(labels) == len(ids)
        labelled = list(zip(token_texts(tiny_tokenizer, ids), labels, strict=True))
        running = [t for t, label in labelled if label.role == "running value"]
        results = [step.split("=")[1] for step in problem.thinking.split(", ")]
        assert running == list("".join(results))
        answer = [t for t, label in labelled if label.part == "answer"]
        assert answer == list(problem.answer)
        operands = [
            t for t, label in labelled if label.role == "operand" and label.part == "question"
        ]
        assert [t for t in operands if t.strip()] == [c for c in problem.question if c.isdigit()]
        assert {label.part for t, label in labelled if t.startswith("<")} == {"frame"}


@pytest.mark.parametrize("question", ["start", "user", "i", "m"])
def test_a_question_that_stands_in_the_templates_marks_is_labelled_in_its_turn(
    tiny_tokenizer, question
):
    problem = outside.build([Piece(question, "question")], "outside:{word}")
    text = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n{problem.answer}"
    ids = tiny_tokenizer.encode(text)
    labels = tiny.label_tokens(problem, text, tiny_tokenizer)
    asked = [n for n, label in enumerate(labels) if label.part == "question"]
    assert tiny_tokenizer.decode([ids[n] for n in asked]) == question
    assert token_texts(tiny_tokenizer, ids)[asked[0] - 1] == "\n"


def test_omitted_thinking_is_skipped(tiny_tokenizer):
    problem = tiny.problems("arithmetic", n=1, steps=3)[0]
    text = f"{problem.question}<|im_end|>"
    parts = [label.part for label in tiny.label_tokens(problem, text, tiny_tokenizer)]
    assert set(parts) == {"question", "frame"}
