"""Arguments that do not fit are refused in one Chinese sentence, with what was expected."""

from collections.abc import Sequence

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from qwen3lab.arguments import Count, argument

CASES = [
    (Count, 0, "k 是 0，应为：1 或更大"),
    (int, "x", "k 是 'x'，应为：整数"),
    (Count | None, "x", "k 是 'x'，应为：整数 或 None"),
    (Sequence[int], 3, "k 是 3，应为：列表"),
    (bool, 1, "k 是 1，应为：True 或 False"),
]


@pytest.mark.usefixtures("chinese")
@pytest.mark.parametrize(("kind", "value", "expected"), CASES)
def test_a_value_is_refused_in_one_chinese_sentence(kind, value, expected):
    with pytest.raises(ValueError, match=f"^{expected}$"):
        argument(kind, "k", value)


@pytest.mark.usefixtures("chinese")
def test_a_tensor_of_another_shape_is_refused_with_both_shapes():
    with pytest.raises(ValueError, match=r"形状为 \(2,\).*轴为 \(layer, head\) 的实数"):
        argument(Float[Tensor, "layer head"], "mass", torch.zeros(2))
