"""What is wrong with a thing that the course shows; pure functions of what was read in the page."""

import re
from collections.abc import Iterator, Sequence
from typing import TypedDict

from qwen3lab.tiny.world.families import FAMILIES
from qwen3lab.tiny.world.settings import WORLDS
from qwen3lab.translation import tr

WORD = re.compile(r"[A-Za-z][A-Za-z'’-]*[A-Za-z]")
HAN = re.compile(r"[\u3400-\u9fff]+")
TOKEN = re.compile(r"\d+ \S+")
"""A token with its position, as on the axis of a map."""

QUOTED = re.compile(r"（[A-Za-z -]+）|“[^”]*”|‘[^’]*’|'[^'\n]*'|\"[^\"\n]*\"|`[^`]*`")
CODE = re.compile(r"[\w.+-]*[_=(\[{<>/\\@|][\w.=,:(\[{<>/\\)\]}_@|\"'*+-]*|\b\w+\.\w[\w.]*")
NAMES = frozenset(
    WORD.findall(
        """
        tiny-moe tiny-dense Qwen MoE MLP OV QK KV KL RMSNorm NPMI REAP SVD softmax top-k logit CI
        GiB GB MB MiB KiB kB TB ms min FLOP FLOPs Esc Ctrl Enter Home End Page Up Down Shift Python
        JSON CSV HTML PNG SVG PDF arXiv Hugging Face GPU CPU CUDA float int bfloat bool nats hook
        pos resid English Wait assistant user system Wilson right wrong natural
        """
    )
)
"""Names of the field, of things and of values: they are the same in both languages."""

UNSET = (
    r"[\u3400-\u9fff”）][,:;?!] ?[\u3400-\u9fff]",
    r"\d: ?[\u3400-\u9fff]",
    r"[，。：；！？、] +[^\s·|]",
    r"\S +[，。：；！？、（]",
)
"""Half-width punctuation between Chinese characters, and spaces beside full-width punctuation."""

BEGINNINGS = {"right": "Right.", "wrong": "Not yet."}


class Read(TypedDict):
    """What a script in the page has read of one thing that is shown."""

    texts: list[str]
    wide: list[str]
    cut: list[str]
    empty: bool


def of_output(read: Read, language: str, source: str) -> list[str]:
    """Findings on the output of a cell with this source."""
    found = ["it is empty"] if read["empty"] else []
    found += [f"wider than its place: {each}" for each in read["wide"]]
    found += read["cut"]
    if language == "zh":
        found += [
            f"not set as Chinese is: {part}" for each in read["texts"] for part in unset(each)
        ]
    return found + [
        f"not in the language: {words} (in: {text[:120]})"
        for text in read["texts"]
        if (words := foreign(text, language, source))
    ]


def foreign(text: str, language: str, source: str = "") -> str:
    """The words of a text that are in the other language, and neither code nor the model's."""
    own = "" if TOKEN.fullmatch(text) else QUOTED.sub(" ", text)
    if language == "en":
        return " ".join(word for word in HAN.findall(own) if word not in f"{source}中文")
    known = {word.lower() for word in (*NAMES, *FAMILIES, *WORD.findall(source), *world())}
    words = WORD.findall(CODE.sub(" ", own))
    return " ".join(word for word in words if word.lower() not in known)


def unset(text: str) -> list[str]:
    """Parts of a text whose punctuation is not that of Chinese."""
    return [found[0] for pattern in UNSET for found in re.finditer(pattern, text)]


def world() -> Iterator[str]:
    """English words of the embedded world: names, objects, places."""
    for words in WORLDS["en"].vocabulary:
        yield from WORD.findall(words)


def of_kinds(kinds: Sequence[tuple[str, str]]) -> list[str]:
    """Findings on the kinds of a cell's outputs: errors and what went to stderr."""
    bad = ("error", "stderr")
    return [f"{kind}: {text[:300]}" for kind, text in kinds if kind in bad]


def of_verdict(what: str, text: str) -> list[str]:
    """Findings on what an exercise says after a wrong answer, a hint or a right answer."""
    expected = _beginning(what)
    return [] if text.startswith(expected) else [f"expected “{expected}…”, it says: {text[:120]}"]


def _beginning(what: str) -> str:
    if what.startswith("hint "):
        hint = tr("Hint {n} of {all}: {text}", n=int(what[5:]), all=3, text="")
        return tr("{mark} {reason}", mark="…", reason=hint).rstrip()
    return tr(BEGINNINGS[what])
