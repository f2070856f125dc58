"""Problem files with damaged lines, and graders on hostile answers.

A file gives exactly the problems of its intact lines, with a warning for each other line, or a
refusal. Graders end in bounded time, raise nothing, and treat both sides alike.
"""

import json
import re
import time
import warnings
from decimal import Decimal

import math_verify
import pytest
from hypothesis import given, strategies as st

from qwen3lab.thinking import graders, read_problems
from qwen3lab.thinking.graders import GRADERS
from tests.fuzz.cases import MAX_REFUSAL_CHARACTERS, fuzz, refusable
from tests.fuzz.mutations import ODD_VALUES, byte_mutations, json_mutations

PROBLEMS = [
    {"question": "3+2*7-1=?", "answer": "④"},
    {"question": "2+2=?", "answer": 4, "level": 2},
    {"question": "How many?", "answer": "16 - 3 = <<16-3=13>>13\n#### 1,013"},
    {
        "problem": "p\u2028q",
        "level": "Level 3",
        "solution": r"so \boxed{\frac{1}{2}}.",
        "type": "a",
    },
    {"problem": "q", "level": 5, "solution": "...", "answer": r"\sqrt{2}", "unique_id": "u"},
    {"question": "swaps", "answer": 0.5, "steps": 3},
]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("cases") / "set.jsonl"


class Duplicate(ValueError):
    """A key that stands twice."""


def each_once(pairs):
    if len(dict(pairs)) < len(pairs):
        raise Duplicate
    return dict(pairs)


def no_number(name):
    raise ValueError(name)


def text_of(value):
    """A field as text; None if it is neither a string nor a number."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return str(value).strip()


def expected_problem(line):
    """Question, answer, level and grader of a line, as `read_problems` documents; or None."""
    try:
        fields = json.loads(
            line.decode("utf-8"), parse_constant=no_number, object_pairs_hook=each_once
        )
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict):
        return None
    first = [text_of(fields.get(name)) for name in ("question", "problem")]
    question = next((text for text in first if text is not None), "")
    levels = [text_of(fields.get(name)) for name in ("level", "steps")]
    level = next((text for text in levels if text is not None), "")
    answer, grader = text_of(fields.get("answer")) or "", "exact"
    if "####" in answer:
        answer, grader = answer.split("####")[-1].strip(), "last number"
    elif "problem" in fields:
        solution = text_of(fields.get("solution")) or ""
        answer, grader = last_box(answer) or answer or last_box(solution), "boxed"
    texts = question + answer + level
    if not question or not answer or re.search("[\ud800-\udfff]", texts):
        return None
    return question, answer, level, grader


def last_box(text):
    """The content of the last box by a stack of braces, without whitespace."""
    starts = [match.end() for match in re.finditer(r"\\(?:boxed|fbox)[^{]*\{", text)]
    if not starts or not re.search(r"\\(?:boxed|fbox)", text):
        return ""
    last = max(text.rfind("\\boxed"), text.rfind("\\fbox"))
    start = text.find("{", last) + 1
    if start == 0:
        return ""
    open_braces, at = 1, start
    while at < len(text) and open_braces:
        open_braces += (text[at] == "{") - (text[at] == "}")
        at += 1
    return re.sub(r"\s", "", text[start : at - 1]) if not open_braces else ""


def check(path, data):
    path.write_bytes(data)
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    expected = [expected_problem(line) for line in lines if line.strip()]
    right = [each for each in expected if each is not None]
    with refusable(ValueError) as outcome, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        outcome.value = read_problems(path)
    if outcome.refusal is not None:
        assert not right
        assert "set.jsonl contains no problem" in outcome.refusal
        return
    assert [(p.question, p.answer, p.level, p.grader) for p in outcome.value] == right
    assert len(caught) == len(expected) - len(right)
    for warning in caught:
        sentence = str(warning.message)
        assert sentence.startswith("line ") and len(sentence) <= MAX_REFUSAL_CHARACTERS
        assert sentence.isprintable(), repr(sentence)


def as_lines(documents, *, ascii_only=False):
    return b"\n".join(json.dumps(each, ensure_ascii=ascii_only).encode() for each in documents)


@fuzz("problem_files", 0.3)
@given(change=byte_mutations(), ascii_only=st.booleans())
def test_problem_files_with_other_bytes(path, change, ascii_only):
    check(path, change(as_lines(PROBLEMS, ascii_only=ascii_only)))


@fuzz("problem_files", 0.25)
@given(document=json_mutations(PROBLEMS, changes=4), start=st.sampled_from([b"", b"\xef\xbb\xbf"]))
def test_problem_files_with_other_fields(path, document, start):
    check(
        path,
        start + as_lines(document if isinstance(document, list) else [document], ascii_only=True),
    )


@fuzz("problem_files", 0.1)
@given(
    lines=st.lists(
        st.sampled_from([json.dumps(value).encode() for value in [*ODD_VALUES, *PROBLEMS]])
        | st.binary(max_size=20).map(lambda data: data.replace(b"\n", b"")),
        max_size=6,
    ),
    end=st.sampled_from([b"\n", b"\r\n", b"\n\n"]),
)
def test_problem_files_of_other_lines(path, lines, end):
    check(path, end.join(lines))


NUMBERS = st.one_of(
    st.integers(-(10**9), 10**9).map(str),
    st.sampled_from(
        ["0", "1", "2", "0.5", "1e1000000", "-1E-999999999", "9" * 5000, "1/0", "10^9"]
    ),
    st.decimals(allow_nan=False, allow_infinity=False).map(str),
)
ATOMS = NUMBERS | st.sampled_from(
    [
        "x",
        "y",
        r"\pi",
        "e",
        "i",
        r"\infty",
        r"-\infty",
        r"\emptyset",
        r"\text{cm}",
        "",
        " ",
        "\\",
        "{",
        "$",
    ]
)


def filled(form, first, second):
    return form.replace("#1", first).replace("#2", second)


FORMS = [
    "#1+#2",
    "#1-#2",
    r"#1\cdot #2",
    "#1=#2",
    "#1,#2",
    "#1^{#2}",
    "{#1}!",
    r"\frac{#1}{#2}",
    r"\sqrt{#1}",
    r"\sqrt[#1]{#2}",
    r"\binom{#1}{#2}",
    "[#1,#2)",
    "(#1,#2]",
    r"(#1,#2)\cup[#2,\infty)",
    r"\{#1,#2\}",
    r"\begin{pmatrix}#1&#2\\#2&#1\end{pmatrix}",
    r"\left(#1\right)",
    r"\left|#1\right|",
    r"\lfloor #1\rfloor",
    r"\log_{#1}{#2}",
    r"\sin(#1)",
    r"\int_{#1}^{#2} x^{#1} dx",
    r"\sum_{n=1}^{#1} n^{#2}",
    r"\prod_{n=#1}^{#2} n",
    r"x \in #1",
    r"#1 \le x < #2",
    r"\text{#1}",
    r"#1\%",
    r"#1^\circ",
    r"\boxed{#1}",
    "$#1$",
    "#1 or #2",
]
expressions = st.recursive(
    ATOMS,
    lambda inner: st.builds(filled, st.sampled_from(FORMS), inner, inner),
    max_leaves=12,
)


def nested(form, depth, text):
    """The form around itself; a form that doubles its length ends early."""
    once = form.replace("#2", "2")
    for _ in range(depth):
        if len(text) > 20_000:
            break
        text = once.replace("#1", text)
    return text


NESTED = st.builds(
    nested,
    st.sampled_from([form for form in FORMS if "#1" in form]),
    st.sampled_from([3, 30, 300, 3000]),
    st.sampled_from(["9", "x", "1000000"]),
)
OTHERS = sorted(set(GRADERS) - {"equivalent"})


@fuzz("problem_files", 0.2)
@given(
    a=expressions | NESTED | st.text(max_size=20),
    b=expressions | NUMBERS,
    name=st.sampled_from(OTHERS),
)
def test_graders_end_and_treat_both_sides_alike(a, b, name):
    grader = GRADERS[name]
    start = time.monotonic()
    for one, other in ((a, b), (b, a), (a, a)):
        assert isinstance(grader.grade(one, other), bool)
    left, right = grader.read(a), grader.read(b)
    if left and right:
        assert grader.grade(a, b) == grader.grade(b, a)
    if left:
        assert grader.grade(a, a)
    assert time.monotonic() - start < 10


# What may take long to compute: the library itself is asked only about expressions without it.
SLOW = re.compile(r"\^|!|binom|\d[eE]|\d{7}|sum|prod|int|log|sqrt")


@fuzz("problem_files", 0.1)
@given(a=expressions | NESTED, b=expressions | NUMBERS, same=st.booleans())
def test_the_comparison_of_expressions_ends_and_is_that_of_the_library(a, b, same):
    """As in the library, sides are not alike: `0=0` is right for `0`, not the reverse."""
    worker = graders._MATH
    seconds, worker.seconds = worker.seconds, 2
    try:
        equivalent = GRADERS["equivalent"]
        answer = a + " " if same else b
        found = equivalent.same(a, answer)
        ended = worker.process is None
        assert isinstance(equivalent.grade(rf"so \boxed{{{answer}}}", a), bool)
    finally:
        worker.seconds = seconds
    if a != answer and not ended and len(a + answer) < 200 and not SLOW.search(a + answer):
        assert found == by_library(answer, a)
    assert equivalent.grade(r"\boxed{\frac{2}{4}}", "0.5")


def by_library(answer, given):
    try:
        right, reply = (
            math_verify.parse(f"${side}$", parsing_timeout=None) for side in (answer, given)
        )
        return bool(math_verify.verify(right, reply, timeout_seconds=None))
    except Exception:
        return False


@fuzz("problem_files", 0.05)
@given(value=st.decimals(allow_nan=False, allow_infinity=False) | st.integers().map(Decimal))
def test_a_plain_number_equals_itself_however_it_is_written(value):
    plain = f"{value:f}" if abs(value.adjusted()) < 200 else str(value)
    for name in ("last number", "equivalent"):
        assert GRADERS[name].grade(f"\\boxed{{{plain}}}", plain)
    assert GRADERS["last number"].grade(f"so it is {value:e}.", plain)
    other = value + 1 if abs(value.adjusted()) < 20 else Decimal(3)
    assert not GRADERS["last number"].grade(f"so it is {other:f}", plain)
