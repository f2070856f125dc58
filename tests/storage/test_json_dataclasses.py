import json
from dataclasses import dataclass

import pytest

from qwen3lab.storage.json_dataclasses import structure, unstructure


@dataclass(frozen=True)
class Counts:
    by_length: dict[str, dict[int, float]]


COUNTS = Counts({"sums": {1: 0.5, 12: 1.0}})


def test_whole_numbers_as_keys_come_back_from_json():
    fields = unstructure(COUNTS)
    assert structure(Counts, fields) == COUNTS
    assert structure(Counts, json.loads(json.dumps(fields))) == COUNTS


@pytest.mark.parametrize("key", ["01", "1.0", " 1", "one", "", "True"])
def test_a_key_of_another_type_is_refused(key):
    with pytest.raises(ValueError, match="this is no Counts"):
        structure(Counts, {"by_length": {"sums": {key: 1.0}}})


@pytest.mark.parametrize("value", [[], None, "x", [["sums", {}]]])
def test_a_mapping_that_is_none_is_refused(value):
    with pytest.raises(ValueError, match="this is no Counts"):
        structure(Counts, {"by_length": value})
