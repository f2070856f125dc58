import pytest

from qwen3lab.chat import open_tokenizer
from qwen3lab.tiny.tokenizer import write_tokenizer


@pytest.fixture(scope="session")
def tiny_tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    return open_tokenizer(folder)
