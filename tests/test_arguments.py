"""Arguments of public functions: what an annotation allows, and the sentence for all else."""

import inspect
import pkgutil
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module

import numpy as np
import pandas
import pytest
import torch
from jaxtyping import Float, Int
from torch import Tensor

from qwen3lab.arguments import argument, checked, real, whole
from qwen3lab.generation.sampling import Sampling
from qwen3lab.generation.thinking_control import Extension, Steering
from tests.fresh_process import in_a_fresh_process


@checked
def sample(
    weights: Float[Tensor, "token k"],
    experts: Int[Tensor, "token k"],
    *,
    n: int = 1,
    by: float = 0.0,
    queries: Sequence[int] | None = None,
    layers: int | Iterable[int] = (),
    named: Mapping[str, int] | None = None,
    then: Callable[[int], None] | None = None,
    exact: bool = True,
) -> tuple:
    return n, by, queries, layers


WEIGHTS, EXPERTS = torch.ones(3, 2), torch.ones(3, 2).long()


def given(**options):
    return sample(WEIGHTS, EXPERTS, **options)


@pytest.mark.parametrize("value", [2, np.int32(2), np.uint8(2), torch.tensor(2), np.array(2)])
def test_integers_of_other_libraries_become_those_of_python(value):
    assert type(given(n=value)[0]) is int and given(n=value)[0] == 2
    assert given(queries=[0, value])[2] == [0, 2]


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), torch.tensor(0.5), np.float64(0.5)])
def test_numbers_of_other_libraries_become_those_of_python(value):
    assert type(given(by=value)[1]) is float and given(by=value)[1] == 0.5
    assert type(given(by=2)[1]) is float


@pytest.mark.parametrize(
    "value",
    [np.array([1, 2]), torch.tensor([1, 2]), pandas.Series([1, 2]), iter([1, 2]), range(1, 3)],
)
def test_any_row_of_integers_is_a_list_of_them(value):
    assert list(given(queries=value)[2]) == [1, 2]


def test_what_can_be_read_once_is_read_once():
    assert given(layers=(n for n in (1, 2)))[3] == [1, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 2.0}, "n is 2.0: expected an integer"),
        ({"n": "2"}, "n is '2': expected an integer"),
        ({"n": True}, "n is True: expected an integer"),
        ({"n": np.True_}, "n is np.True_: expected an integer"),
        ({"n": torch.tensor([2, 3])}, "expected an integer"),
        ({"n": None}, "n is None: expected an integer"),
        ({"by": "1"}, "by is '1': expected a number"),
        ({"by": float("nan")}, "by is nan: expected a number"),
        ({"by": True}, "by is True: expected a number"),
        ({"by": 1j}, "by is 1j: expected a number"),
        ({"queries": "12"}, "queries is '12': expected a list or None"),
        ({"queries": {1, 2}}, "expected a list or None"),
        ({"queries": 3}, "queries is 3: expected a list or None"),
        ({"queries": [1, 1.5]}, "queries[1] is 1.5: expected an integer"),
        ({"layers": "12"}, "layers is '12': expected an integer or a list"),
        ({"named": [1]}, "named is [1]: expected a mapping such as a dict or None"),
        ({"then": 5}, "then is 5: expected a function or None"),
        ({"exact": 1}, "exact is 1: expected True or False"),
    ],
)
def test_everything_else_is_refused_by_name(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        given(**options)


@pytest.mark.parametrize(
    ("weights", "experts", "message"),
    [
        (WEIGHTS, EXPERTS[:2], "experts is a tensor of int64 with the shape (2, 2): expected int"),
        (WEIGHTS, EXPERTS.float(), "experts is a tensor of float32 with the shape (3, 2)"),
        (WEIGHTS[0], EXPERTS, "weights is a tensor of float32 with the shape (2,): expected real"),
        (WEIGHTS > 0, EXPERTS, "weights is a tensor of bool"),
        (WEIGHTS.numpy(), EXPERTS, "expected a tensor of real numbers (token, k)"),
    ],
)
def test_tensors_of_other_axes_sizes_and_dtypes_are_refused(weights, experts, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        sample(weights, experts)


def test_the_range_of_an_integer_is_part_of_the_sentence():
    assert whole(np.int64(0), "n", least=0, most=0) == 0
    with pytest.raises(ValueError, match="n is 1: expected 0 to 0"):
        whole(1, "n", least=0, most=0)
    with pytest.raises(ValueError, match="n is -1: expected 0 or more"):
        whole(-1, "n", least=0)
    assert real(10**300, "x") == 1e300


CASES = {
    "temperature is '1': expected a number": (Sampling, {"temperature": "1"}),
    "top_k is 2.0: expected an integer or None": (Sampling, {"top_k": 2.0}),
    "top_k is True: expected an integer or None": (Sampling, {"top_k": True}),
    "top_p is None: expected a number": (Sampling, {"top_p": None}),
    "min_p is [0.1]: expected a number": (Sampling, {"min_p": [0.1]}),
    "text is 5: expected a text": (Extension, {"text": 5}),
    "times is 1.5: expected an integer": (Extension, {"times": 1.5}),
    "below is 'x': expected an integer or None": (Extension, {"below": "x"}),
    "tokens is -3: expected 0 or more": (Steering().think_more, {"tokens": -3}),
    "tokens is 1.5: expected an integer": (Steering().think_more, {"tokens": 1.5}),
}


def sentences():
    """The message of each case, without the types that tests check."""
    found = []
    for make, fields in CASES.values():
        with pytest.raises(ValueError, match="expected") as caught:
            make(**fields)
        found.append(str(caught.value))
    return found


def test_options_in_objects_are_checked_where_the_object_is_made():
    assert in_a_fresh_process(sentences) == list(CASES)


def test_sampling_with_numbers_of_numpy_equals_that_with_numbers_of_python():
    assert in_a_fresh_process(top_k_of, np.int64(3)) is int


def top_k_of(value):
    assert Sampling(0.5, value) == Sampling(0.5, int(value))
    return type(Sampling(0.5, value).top_k)


def checked_functions():
    for package in ("analysis", "experiments", "exercises", "figures", "interventions"):
        root = import_module(f"qwen3lab.{package}")
        inner = pkgutil.walk_packages(getattr(root, "__path__", []), f"{root.__name__}.")
        for module in [root, *(import_module(each.name) for each in inner)]:
            for name, function in inspect.getmembers(module, inspect.isfunction):
                if function.__module__ == module.__name__ and not name.startswith("_"):
                    yield function


def test_every_annotation_of_the_public_functions_decides_and_allows_the_default():
    functions = list(checked_functions())
    assert len(functions) > 90
    for function in functions:
        for name, each in inspect.signature(function).parameters.items():
            if each.kind is each.VAR_KEYWORD or each.annotation is object:
                continue
            if each.default is not each.empty:
                argument(each.annotation, name, each.default)
            with pytest.raises(ValueError, match=f"{name} is .*: expected "):
                argument(each.annotation, name, object())


def test_checking_arguments_of_the_catalogue_imports_no_torch():
    code = "import sys, qwen3lab; list(qwen3lab.models()); print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_a_whole_number_beyond_the_range_of_float_is_refused_by_name():
    with pytest.raises(ValueError, match=r"strength is 1000.*: expected a smaller number"):
        argument(float, "strength", 10**400)
