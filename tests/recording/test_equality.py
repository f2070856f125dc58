import copy
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from qwen3lab.recording.equality import EqualByValue, same_values


@dataclass(frozen=True, eq=False)
class Result(EqualByValue):
    name: str
    values: Any


NAN = torch.tensor([1.0, torch.nan])


@pytest.mark.parametrize(
    "value",
    [NAN, [NAN, 1], (NAN,), {"a": NAN}, math.nan, "x", None, torch.tensor([]), np.array([1, 2])],
)
def test_results_of_equal_values_are_equal(value):
    one, same = Result("a", value), Result("a", copy.deepcopy(value))
    assert one == same and hash(one) == hash(same) and same in [one]
    assert one != Result("b", value)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (NAN, NAN.double()),
        (NAN, NAN[None]),
        (NAN, torch.tensor([1.0, 2.0])),
        (NAN, [1.0, math.nan]),
        ([NAN], [NAN, NAN]),
        ({"a": NAN}, {"b": NAN}),
        ({"a": NAN}, {"a": NAN + 1}),
        (math.nan, 1.0),
        (np.array([1, 2]), np.array([1, 3])),
        (np.array([1, 2]), np.array([1.0, 2.0])),
    ],
)
def test_results_of_other_values_differ(one, other):
    assert not same_values(one, other)
    assert Result("a", one) != Result("a", other)


def test_objects_of_another_class_differ():
    assert Result("a", NAN) != NAN and Result("a", NAN) != "a"


def test_results_of_analyses_are_compared_by_value(tiny_lab):
    chats = [tiny_lab.chat("3+2=?", seed=0, max_new_tokens=8) for _ in range(2)]
    assert chats[0] == chats[1]
