"""The tokenizer that is built from two packages' data is the published one."""

import json

import pytest

from qwen3lab.text.tokenizer import open_tokenizer
from tests.standins.qwen_tokenizer import FILES, can_build, published_folder, write_built

TEXTS = (
    "Hello world",
    "  indented\n\n\tcode = {'a': 1_000}  # §\r\n",
    "一只蜘蛛有八条腿，三只有多少条？",
    "naïve café, n\u0303 and ñ; İstanbul; I'LL we've don't",
    "🕷️🕸 مرحبا नमस्ते привет",
    "<|im_start|>user\n<think>\n</think> <tool_call>x</tool_call><|im_end|><|endoftext|>",
    "1234567890 3.14159",
)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    if not can_build():
        pytest.skip("`make test` installs the packages with the tokenizer's data")
    folder = tmp_path_factory.mktemp("built")
    write_built(folder)
    return folder


def fields(folder, name):
    return json.loads((folder / name).read_text("utf-8"))


def test_its_ids_are_those_that_qwen_documents(built):
    tokenizer = open_tokenizer(built)
    assert len(tokenizer) == 151_669
    assert tokenizer.encode("Hello world") == [9707, 1879]
    assert tokenizer.encode("</think>\n\n") == [151668, 271]
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (151645, 151643)


def test_every_text_is_decoded_to_itself(built):
    tokenizer = open_tokenizer(built)
    normal = [text for text in TEXTS if "n\u0303" not in text]
    assert [tokenizer.decode(tokenizer.encode(text)) for text in normal] == normal


def test_its_files_are_the_published_ones(built):
    published = published_folder()
    if published is None:
        pytest.xfail("the published files are not here to compare with")
    assert fields(built, FILES[0]) == fields(published, FILES[0])
    ours, theirs = fields(built, FILES[1]), fields(published, FILES[1])
    # Of the template the hub has had two versions: the revised one takes messages without text.
    assert ours.pop("chat_template").startswith(theirs.pop("chat_template")[:200])
    assert ours == theirs


def test_its_ids_are_those_of_the_published_tokenizer(built, published_tokenizer):
    tokenizer = open_tokenizer(built)
    assert [tokenizer.encode(t) for t in TEXTS] == [published_tokenizer.encode(t) for t in TEXTS]
