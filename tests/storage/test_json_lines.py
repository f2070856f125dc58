"""One line of JSON, or the reason why it is none."""

import pytest

from qwen3lab.storage.json_lines import parse_json_line


def test_a_line_is_read_as_json():
    line = ' {"a": [1, 2.5, null, "④"]}\r'.encode()
    assert parse_json_line(line) == {"a": [1, 2.5, None, "④"]}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "is not JSON"),
        (b'"\xff"', r"is not UTF-8 text \(invalid start byte at byte 2\)"),
        (b"\xff\xfe{\0}\0", "is not UTF-8 text"),
        (b"NaN", "NaN is no number of JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": 1, "b": 2, "a": 3}', "the key 'a' stands in one object twice"),
    ],
)
def test_what_json_does_not_allow_is_refused(line, reason):
    with pytest.raises(ValueError, match=reason):
        parse_json_line(line)
