"""Chat templates of any form: rendered as an independent sandbox renders them, or refused.

`thinking_mode` says what that text says, a budget holds with every template, and templates that
loop or fill memory are ended.
"""

import copy
import json
import time
import warnings

import pytest
from hypothesis import given, strategies as st
from jinja2.exceptions import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

import qwen3lab
from qwen3lab import Sampling
from qwen3lab.text import template_process
from qwen3lab.text.chat_template import render, thinking_mode
from qwen3lab.tiny.world.tokenizer import CHAT_TEMPLATE
from tests.fuzz.cases import fuzz, refusable
from tests.fuzz.mutations import byte_mutations
from tests.fuzz.talks import thinking_written

MODES = st.sampled_from([None, True, False])
ASKED = [{"role": "user", "content": "3+2*7-1=?"}]
HISTORY = [
    {"role": "system", "content": "Be brief."},
    *ASKED,
    {"role": "assistant", "content": "<think>\n14\n</think>\n\n④"},
    {"role": "user", "content": "a</think>b"},
]
BEGUN = [*ASKED, {"role": "assistant", "content": "<think>\n14"}]
TALKS = st.sampled_from([ASKED, HISTORY, BEGUN, HISTORY[:3]])

LOOPS = [
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}",
    "{% for m in messages %}<|im_start|>{{ m['role'] + '\n' + m['content'].split('</think>')[-1] }}"
    "<|im_end|>\n{% endfor %}",
    "<|im_start|>user\n{{ messages[-1].content }}<|im_end|>\n",
    "{% for m in messages if m.role != 'system' %}{{ m.content | trim }}<|im_end|>{% endfor %}",
    "{% for m in messages %}{% if loop.index > 2 %}{% break %}{% endif %}{{ m | tojson }}"
    "{% endfor %}",
    "{%- set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{{ ns.n }}"
    "{{ m.reasoning_content or m.content }}<|im_end|>{% endfor %}",
    "{% if messages[0].role == 'user' %}{{ raise_exception('No system message') }}{% endif %}",
    "{{ messages | map(attribute='content') | join('<|im_end|>\n') }}",
    "{{ undefined_name }}{{ bos_token }}{{ eos_token }}",
    "{{ undefined_name.field }}",
    "{{ messages[7].content + 'a' }}",
    "{{ ''.__class__.__mro__ }}",
    "",
]
HEADERS = ["<|im_start|>assistant\n", "assistant:", "", "<|im_start|>assistant"]
SWITCHES = [
    "",
    "<think>\n",
    "<think>",
    "<think>\n\n",
    "<think>\n\n</think>\n\n",
    "</think>",
    "<think>\nThe user<|im_end|>\n",
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n"
    "{% endif %}",
    "{% if not enable_thinking %}<think>\n\n</think>\n\n{% endif %}",
    "{% if enable_thinking %}<think>\n\n</think>\n\n{% endif %}",
    "{% if enable_thinking is not false %}<think>\n{% endif %}",
    "{% if enable_thinking %}<think>\n{% else %}</think>{% endif %}",
    "{% if enable_thinking is false %}Answer at once.{% endif %}",
    "{{ enable_thinking }}",
    "{% if enable_thinking is false %}{{ raise_exception('It always thinks') }}{% endif %}",
    "{{ enable_thinking.mode }}",
]


@st.composite
def templates(draw):
    """A template of parts, some of whose characters may then be damaged."""
    header = draw(st.sampled_from(HEADERS)) + draw(st.sampled_from(SWITCHES))
    guarded = f"{{% if add_generation_prompt %}}{header}{{% endif %}}"
    body = draw(st.sampled_from(LOOPS))
    text = draw(st.sampled_from([body + guarded, body + header, header + body]))
    if draw(st.integers(0, 5)) == 0:
        text = CHAT_TEMPLATE
    if draw(st.integers(0, 3)) == 0:
        text = draw(byte_mutations())(text.encode()).decode(errors="replace")
    return text


def sandboxed(template, talk, special, **options):
    """What an environment with the published functions renders; None where it raises."""

    def raise_exception(message):
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.globals["raise_exception"] = raise_exception
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of escapes in strings that Python does not know.
            return environment.from_string(template).render(messages=talk, **special, **options)
    except Exception:
        return None


def rendered(tokenizer, talk, thinking, *, generation):
    switch = {} if thinking is None else {"enable_thinking": thinking}
    return sandboxed(
        tokenizer.chat_template,
        talk,
        tokenizer.special_tokens_map,
        add_generation_prompt=generation,
        **switch,
    )


def with_template(tokenizer, template):
    changed = copy.copy(tokenizer)
    changed.chat_template = template
    return changed


@fuzz("templates", 0.5)
@given(template=templates(), talk=TALKS, thinking=MODES, generation=st.booleans())
def test_templates_render_as_in_an_independent_sandbox(
    tiny_tokenizer, template, talk, thinking, generation
):
    tokenizer = with_template(tiny_tokenizer, template)
    expected = rendered(tokenizer, talk, thinking, generation=generation) if template else None
    with refusable() as outcome:
        outcome.value = render(tokenizer, talk, thinking=thinking, add_generation_prompt=generation)
    assert outcome.value == expected


def expected_mode(tokenizer, talk, thinking):
    """Whether the reply may think, from the text of the prompts; None if one is not rendered."""
    asked, on, off = (
        rendered(tokenizer, talk, mode, generation=True) for mode in (thinking, True, False)
    )
    if asked is None or on is None or off is None:
        return None
    turn = asked.replace("<|endoftext|>", "<|im_end|>").rpartition("<|im_end|>")[2]
    opened, closed = turn.rfind("<think>"), turn.rfind("</think>")
    if max(opened, closed) >= 0:
        return opened > closed
    if on != off:
        return asked != off
    question = [{"role": "user", "content": "a"}]
    thought = "<think>\nb\n</think>\n\nc"
    history = [*question, {"role": "assistant", "content": thought}, *question]
    on, off = (rendered(tokenizer, question, mode, generation=True) for mode in (True, False))
    later = rendered(tokenizer, history, True, generation=True)
    if on is None or off is None or (on == off and later is None):
        return True  # The template says nothing, and the vocabulary has <think>.
    return on != off or thought not in later


@fuzz("templates", 0.3)
@given(template=templates(), talk=st.sampled_from([ASKED, HISTORY]), thinking=MODES)
def test_the_thinking_mode_is_what_the_prompt_says(tiny_tokenizer, template, talk, thinking):
    tokenizer = with_template(tiny_tokenizer, template)
    expected = expected_mode(tokenizer, talk, thinking) if template else None
    with refusable() as outcome:
        outcome.value = thinking_mode(tokenizer, talk, thinking)
    assert outcome.value == expected


@pytest.fixture(scope="module")
def lab():
    return qwen3lab.load("tiny-dense", device="cpu")


@fuzz("templates", 0.17)
@given(
    template=templates(),
    talk=TALKS,
    thinking=MODES,
    budget=st.integers(0, 8),
    temperature=st.sampled_from([0.0, 1.0, 3.0]),
)
def test_a_budget_holds_with_every_template(lab, template, talk, thinking, budget, temperature):
    odd = qwen3lab.Lab(lab.model, with_template(lab.tokenizer, template), "odd")
    with refusable(ValueError) as outcome, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        outcome.value = odd.chat(
            talk,
            thinking=thinking,
            budget=budget,
            sampling=Sampling(temperature=temperature),
            seed=budget,
            max_new_tokens=24,
        )
    chat = outcome.value
    if chat is None:
        return
    written = thinking_written(lab.tokenizer, chat.prompt_ids, chat.token_ids, chat.forced.tolist())
    assert written <= budget
    if talk[-1]["role"] == "user":
        text = rendered(odd.tokenizer, talk, thinking, generation=True)
        assert chat.prompt_ids == lab.tokenizer.encode(text, add_special_tokens=False)
        thinks = thinking is False and expected_mode(odd.tokenizer, talk, thinking)
        assert any("no switch" in str(each.message) for each in caught) == bool(thinks)


GREEDY = [
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{{ 'x' * 10 ** 10 }}",
    "{{ 'x' * 10 ** 8 }}",
    "{{ 9 ** (9 ** 9) }}",
    "{{ 'x' | center(10 ** 11) }}",
    "{{ '%999999999999d' % 1 }}",
    "{% set n = namespace(t='xx') %}{% for a in range(90) %}{% set n.t = n.t ~ n.t %}{% endfor %}",
    "{{ [0] * 10 ** 10 }}",
    "{{ messages * 10 ** 8 }}",
]


@fuzz("templates", 0.03)
@given(greedy=st.sampled_from(GREEDY), around=templates(), first=st.booleans())
def test_templates_that_loop_or_fill_memory_are_ended(tiny_tokenizer, greedy, around, first):
    hostile = greedy + around if first else greedy
    seconds, template_process._PROCESS.seconds = template_process._PROCESS.seconds, 1
    start = time.monotonic()
    try:
        with refusable() as outcome:
            outcome.value = render(with_template(tiny_tokenizer, hostile), ASKED)
    finally:
        template_process._PROCESS.seconds = seconds
    assert outcome.refusal is not None
    assert time.monotonic() - start < 30
    assert render(tiny_tokenizer, ASKED) == rendered(tiny_tokenizer, ASKED, True, generation=True)
