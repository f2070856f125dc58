import json

import pytest

from qwen3lab.errors import ChatError
from qwen3lab.text.tokenizer import open_tokenizer
from qwen3lab.tiny.world.tokenizer import write_tokenizer


@pytest.mark.parametrize("value", ["many", [], "<b>\n" * 1000])
def test_a_setting_that_makes_encoding_fail_is_refused_when_the_tokenizer_opens(tmp_path, value):
    write_tokenizer(tmp_path)
    file = tmp_path / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model_max_length": value}))
    with pytest.raises(
        ChatError, match=f"{tmp_path} has no tokenizer that transformers opens"
    ) as e:
        open_tokenizer(tmp_path)
    assert len(str(e.value)) < 500
