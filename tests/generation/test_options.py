"""Options of recording and chat: in the signature, in the help, and misspelt."""

import inspect

import pytest

from qwen3lab.generation.options import CHAT_DEFAULTS, ChatOptions, accepts
from qwen3lab.lab import Lab


@pytest.mark.parametrize(("method", "own"), [(Lab.chat, {}), (Lab.chat_batch, {"batch": None})])
def test_the_signature_shows_every_option_with_its_default(method, own):
    shown = {
        name: parameter.default
        for name, parameter in inspect.signature(method).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    assert shown == own | CHAT_DEFAULTS
    assert {"budget", "thinking", "seed", "record", "on_step"} <= shown.keys()


@pytest.mark.parametrize(
    "method", [Lab.chat, Lab.chat_batch, Lab.generate, Lab.record, Lab.record_to_disk]
)
def test_the_help_describes_each_option(method):
    text = inspect.getdoc(method) or ""
    names = [
        name
        for name, parameter in inspect.signature(method).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    assert len(names) >= 3 and "{options}" not in text
    assert all(text.count(f"\n    {name}: ") == 1 for name in names)


@pytest.mark.parametrize(
    ("given", "nearest"), [("budgt", "budget"), ("samplng", "sampling"), ("message", "messages")]
)
def test_a_misspelt_option_is_refused_with_the_nearest_one(tiny_lab, given, nearest):
    with pytest.raises(TypeError, match=rf"chat\(\) has no option '{given}': .* '{nearest}'"):
        tiny_lab.chat("3+2=?", **{given: 3})


def test_an_unknown_option_is_refused_with_the_list_of_options(tiny_lab):
    with pytest.raises(
        TypeError, match="choose from attention, capture, dtype, edits, prompt, thinking"
    ):
        tiny_lab.record("3+2=?", xyz=1)


def test_an_option_without_a_default_fails_at_declaration():
    with pytest.raises(AssertionError, match="a type and a default"):
        accepts(ChatOptions, {"budget": None})


def test_the_signature_names_long_types_by_their_aliases():
    text = str(inspect.signature(Lab.chat))
    assert "edits: AnyEdits | None = None" in text and "record: bool | HookNames = False" in text
    assert "sampling: Sampling | None = None" in text and "Callable" not in text
