"""Graders: extract the answer from a reply, and compare it with the right answer."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from importlib.util import find_spec
from pathlib import Path

from qwen3lab.device.worker_process import WorkerProcess
from qwen3lab.translation import tr

_CJK = "\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef"
"""Chinese, Japanese and Korean characters, which stand beside a number without a space."""
NUMBER_PATTERN = re.compile(
    rf"(?<!\.)(?<![^\W{_CJK}])[-−]?\$?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?"
)
MAX_INTEGER_DIGITS = 1000
"""Integers with more digits are written with an exponent, as 1E+5000."""
SECONDS = 5
"""Time limit of comparing two expressions."""
MAX_MEMORY_BYTES = 2**31
BOX_COMMANDS = ("\\boxed", "\\fbox")


@dataclass(frozen=True)
class Grader:
    """A pair of functions that extract and compare answers.

    Attributes:
        name: name of the grader.
        read: returns the normalised answer in a reply; empty if there is none.
        same: True if an answer equals the right answer, both normalised by `read`.
    """

    name: str
    read: Callable[[str], str]
    same: Callable[[str, str], bool]

    def grade(self, reply: str, answer: str) -> bool:
        """True if the answer in a reply equals `answer`."""
        given = self.read(reply)
        return bool(given) and self.same(given, self.read(answer) or answer.strip())


def last_number(text: str) -> str:
    """The last number of a text, normalised: `$1,250.0` gives `1250`; empty if there is none."""
    numbers = NUMBER_PATTERN.findall(text)
    return _normalise_number(numbers[-1]) if numbers else ""


def _normalise_number(text: str) -> str:
    try:
        value = Decimal(text.replace(",", "").replace("$", "").replace("−", "-"))
    except InvalidOperation:
        return text
    sign, digits, exponent = value.as_tuple()
    if not value or not isinstance(exponent, int):
        return "0"
    # Decimal.normalize would round to 28 digits.
    significant = "".join(map(str, digits)).lstrip("0")
    stripped = significant.rstrip("0")
    exponent += len(significant) - len(stripped)
    if exponent < 0:
        return str(Decimal((sign, tuple(map(int, stripped)), exponent)))
    is_short = len(stripped) + exponent <= MAX_INTEGER_DIGITS
    number = stripped + "0" * exponent if is_short else f"{stripped}E+{exponent}"
    return f"-{number}" if sign else number


def boxed(text: str) -> str:
    """The content of the last `\\boxed{...}` or `\\fbox{...}` of a text, without whitespace."""
    start = max(text.rfind(box) for box in BOX_COMMANDS)
    brace = text.find("{", start) if start >= 0 else -1
    if brace < 0:
        return ""
    depth = 0
    for index in range(brace, len(text)):
        depth += {"{": 1, "}": -1}.get(text[index], 0)
        if depth == 0:
            return "".join(text[brace + 1 : index].split())
    return ""


def _boxed_or_text(text: str) -> str:
    """The content of the last box; without a box, the text."""
    return boxed(text) or text.strip()


_MATH = WorkerProcess(
    Path(__file__).with_name("math_worker.py"), seconds=SECONDS, max_memory_bytes=MAX_MEMORY_BYTES
)


def equivalent(found: str, answer: str) -> bool:
    """True if the library `math-verify` finds two expressions mathematically equal.

    The sides are not alike, as in the library: `0=0` is found equal to the answer `0`, but `0` is
    not found equal to the answer `0=0`. The comparison runs in a process of its own. One that
    exceeds 5 seconds or 2 GiB counts as not equal.

    Raises:
        ImportError: the library is not installed; the message says how to install it.
    """
    if find_spec("math_verify") is None:
        raise ImportError(
            tr(
                "comparing expressions needs the library math-verify: pip install "
                "'qwen3lab[math]', or choose the grader “boxed”"
            )
        )
    return found == answer or _MATH.ask(json.dumps([answer, found])) == "1"


def _equal(found: str, answer: str) -> bool:
    return found == answer


def _equal_without_whitespace(found: str, answer: str) -> bool:
    return found == "".join(answer.split())


GRADERS = {
    grader.name: grader
    for grader in (
        Grader("exact", str.strip, _equal),
        Grader("last number", last_number, _equal),
        Grader("boxed", boxed, _equal_without_whitespace),
        Grader("equivalent", _boxed_or_text, equivalent),
    )
}
"""Graders by name. They compare the complete answer, its last number, the content of its last box,
or its mathematical value."""


def grader_of(name: str) -> Grader:
    """The grader with this name.

    Raises:
        ValueError: no grader has this name.
    """
    if name not in GRADERS:
        raise ValueError(
            tr(
                "there is no grader {name!r}: choose from {graders}",
                name=name,
                graders=", ".join(GRADERS),
            )
        )
    return GRADERS[name]
