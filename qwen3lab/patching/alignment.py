"""Which token of one prompt corresponds to which token of another one."""

from collections.abc import Mapping, Sequence

from qwen3lab.analysis.alignment import matching_tokens
from qwen3lab.arguments import checked
from qwen3lab.display import one_line
from qwen3lab.lab import Lab
from qwen3lab.text.tokenizer import token_texts
from qwen3lab.translation import tr

Align = str | Mapping[str, str] | Sequence[tuple[int, int]]
"""How tokens of the clean prompt correspond to tokens of the corrupt one.

- `"position"`: both prompts have the same number of tokens, and a position corresponds to itself;
- `"tokens"`: a longest common subsequence of the tokens corresponds, and so do tokens that were
  replaced by as many others between two of its tokens; inserted tokens correspond to none;
- `{"text in the clean prompt": "text in the corrupt prompt"}`: named spans, each found once, of
  whole tokens, and as many tokens in both; other tokens correspond to none;
- `[(3, 5), (4, 6)]`: positions in the clean and in the corrupt prompt, such as steps of two
  thinkings.
"""

Pairs = tuple[tuple[int, int], ...]
"""A position in the clean and one in the corrupt prompt, in the order of the corrupt one."""


@checked
def aligned(lab: Lab, clean: Sequence[int], corrupt: Sequence[int], align: Align) -> Pairs:
    """The positions of two prompts that correspond to each other.

    Args:
        lab: whose tokenizer gives the texts of tokens.
        clean: token ids.
        corrupt: token ids.
        align: the rule.

    Raises:
        ValueError: the prompts do not fit the rule, or there is no such rule.
    """
    if align == "position":
        pairs = _by_position(clean, corrupt)
    elif align == "tokens":
        pairs = matching_tokens(clean, corrupt)
    elif isinstance(align, Mapping):
        pairs = _by_spans(lab, clean, corrupt, align)
    elif isinstance(align, str):
        raise ValueError(
            tr(
                'there is no alignment {align!r}: expected "position", "tokens", a '
                "mapping of spans, or pairs of positions",
                align=align,
            )
        )
    else:
        pairs = [_checked_pair(pair, len(clean), len(corrupt)) for pair in align]
    _check_once(pairs)
    return tuple(sorted(pairs, key=lambda pair: pair[1]))


def _by_position(clean: Sequence[int], corrupt: Sequence[int]) -> list[tuple[int, int]]:
    if len(clean) != len(corrupt):
        raise ValueError(
            tr(
                "the clean prompt has {n_clean} tokens and the corrupt one {n_corrupt}: "
                "give prompts of equal length, or say with align= which tokens "
                'correspond, as in "tokens"',
                n_clean=len(clean),
                n_corrupt=len(corrupt),
            )
        )
    return [(place, place) for place in range(len(clean))]


def _by_spans(
    lab: Lab, clean: Sequence[int], corrupt: Sequence[int], spans: Mapping[str, str]
) -> list[tuple[int, int]]:
    pairs: list[tuple[int, int]] = []
    for one, other in spans.items():
        there, here = _span(lab, clean, one, "clean"), _span(lab, corrupt, other, "corrupt")
        if len(there) != len(here):
            raise ValueError(
                tr(
                    "the span {shown} has {n_there} tokens and {other} has {n_here}: "
                    "expected as many in both",
                    shown=_shown(one),
                    n_there=len(there),
                    other=_shown(other),
                    n_here=len(here),
                )
            )
        pairs += zip(there, here, strict=True)
    return pairs


def _span(lab: Lab, ids: Sequence[int], text: object, which: str) -> range:
    """The positions of the tokens of a text that a prompt has once."""
    texts = token_texts(lab.tokenizer, ids)
    whole = "".join(texts)
    if not isinstance(text, str) or not text or whole.count(text) != 1:
        n = whole.count(text) if isinstance(text, str) and text else 0
        raise ValueError(
            tr(
                "the span {shown} is {n} times in the {which} prompt: expected once",
                shown=_shown(text),
                n=n,
                which=which,
            )
        )
    start = whole.index(text)
    ends = [0]
    for each in texts:
        ends.append(ends[-1] + len(each))
    if start not in ends or start + len(text) not in ends:
        raise ValueError(
            tr(
                "the span {shown} begins or ends inside of a token of the {which} "
                "prompt: its tokens are {listed}",
                shown=_shown(text),
                which=which,
                listed=", ".join(_shown(each) for each in texts),
            )
        )
    return range(ends.index(start), ends.index(start + len(text)))


def _checked_pair(pair: tuple[int, int], n_clean: int, n_corrupt: int) -> tuple[int, int]:
    there, here = pair
    for place, n, which in ((there, n_clean, "clean"), (here, n_corrupt, "corrupt")):
        if not -n <= place < n:
            raise ValueError(
                tr(
                    "position {place} does not exist: the {which} prompt has tokens 0 to {last}",
                    place=place,
                    which=which,
                    last=n - 1,
                )
            )
    return there % n_clean, here % n_corrupt


def _check_once(pairs: Sequence[tuple[int, int]]) -> None:
    if not pairs:
        raise ValueError(
            tr("no token of one prompt corresponds to one of the other: nothing to patch")
        )
    for which, places in zip(("clean", "corrupt"), zip(*pairs, strict=True), strict=True):
        twice = [place for place in places if places.count(place) > 1]
        if twice:
            raise ValueError(
                tr(
                    "token {twice} of the {which} prompt corresponds to two others: expected one",
                    twice=twice[0],
                    which=which,
                )
            )


def _shown(text: object) -> str:
    return f"“{one_line(text, width=24)}”" if isinstance(text, str) else repr(text)[:24]
