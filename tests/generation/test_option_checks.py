"""Options of the wrong type are refused by name, before anything is run."""

import re

import numpy as np
import pytest

from qwen3lab.generation.sampling import Sampling


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("max_new_tokens", 1.5, "max_new_tokens is 1.5: expected an integer"),
        ("max_new_tokens", "3", "max_new_tokens is '3': expected an integer"),
        ("max_new_tokens", True, "max_new_tokens is True: expected an integer"),
        ("seed", "x", "seed is 'x': expected an integer"),
        ("seed", 1.5, "seed is 1.5: expected an integer"),
        ("seed", 2**64, f"seed is {2**64}: expected an integer from -2**63 to 2**64 - 1"),
        ("seed", -(2**70), f"seed is {-(2**70)}: expected an integer from"),
        ("sampling", "greedy", "sampling is 'greedy': expected Sampling or None"),
        ("extend", 2, "extend is 2: expected Extension or None"),
        ("steering", "stop", "steering is 'stop': expected Steering or None"),
        ("cancel", 5, "cancel is 5: expected Event or None"),
        ("on_step", 5, "on_step is 5: expected a function or None"),
        ("thinking", "yes", "thinking is 'yes': expected True, False or None"),
        ("record", None, "record is None: expected True, False, a hook name or"),
        ("record", 5, "record is 5: expected True, False, a hook name or several"),
    ],
)
def test_an_option_of_a_chat_that_has_another_type_is_refused(tiny_lab, option, value, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        tiny_lab.chat("3+2=?", **{option: value})


@pytest.mark.parametrize("capture", [None, 5, True, b"hook_embed"])
def test_a_capture_that_names_no_hooks_is_refused(tiny_lab, capture):
    with pytest.raises(
        ValueError, match=re.escape(f"capture is {capture!r}: expected a hook name or")
    ):
        tiny_lab.record("3+2=?", capture=capture)


def test_integers_of_numpy_are_integers(tiny_lab):
    options = {"max_new_tokens": np.int64(3), "seed": np.uint8(1), "sampling": Sampling.greedy()}
    assert len(tiny_lab.chat("3+2=?", **options).token_ids) == 3
