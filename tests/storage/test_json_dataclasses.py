"""Dataclasses come back from JSON as they were, and values of other types are refused."""

import json
from dataclasses import dataclass

import pytest

from qwen3lab.storage.json_dataclasses import structure, unstructure


@dataclass(frozen=True)
class Counted:
    by_budget: dict[int, float]
    nested: dict[str, dict[int, int]]


def test_a_mapping_by_integers_comes_back_from_json():
    counted = Counted({0: 0.5, -4: 1.0, 16: 0.25}, {"a": {2: 3}})
    fields = json.loads(json.dumps(unstructure(counted)))
    assert fields == {"by_budget": {"0": 0.5, "-4": 1.0, "16": 0.25}, "nested": {"a": {"2": 3}}}
    assert structure(Counted, fields) == counted


@pytest.mark.parametrize("key", ["", "a", "1.0", "01", " 1", "1_0", "+1"])
def test_a_key_that_is_no_plain_integer_is_refused(key):
    with pytest.raises(ValueError, match="this is no Counted"):
        structure(Counted, {"by_budget": {key: 0.5}, "nested": {}})


def test_a_value_of_another_type_is_refused_under_integer_keys():
    with pytest.raises(ValueError, match="'3' is no int"):
        structure(Counted, {"by_budget": {}, "nested": {"a": {"2": "3"}}})
