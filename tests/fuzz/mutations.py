"""Hypothesis strategies that damage bytes and JSON documents in the ways files get damaged."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from hypothesis import strategies as st

# Values that a field of a JSON document is replaced by.
ODD_VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**63,
    -(2**63) - 1,
    10**400,
    0.5,
    -0.0,
    1e308,
    5e-324,
    float("nan"),
    float("inf"),
    "",
    "0",
    "nan",
    "../../etc/passwd",
    "/dev/zero",
    "a\x00b",
    "\ud800",
    "\u2028",
    "x" * 5_000,
    "<script>alert(1)</script>",
    [],
    [[]],
    {},
    {"a": {"b": []}},
]

Bytes = Callable[[bytes], bytes]
Document = Callable[[Any], Any]


def _flip(place: float, bit: int) -> Bytes:
    def change(data: bytes) -> bytes:
        if not data:
            return data
        at = min(int(place * len(data)), len(data) - 1)
        return data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :]

    return change


def _cut(place: float) -> Bytes:
    return lambda data: data[: int(place * len(data))]


def _insert(place: float, piece: bytes) -> Bytes:
    return lambda data: data[: int(place * len(data))] + piece + data[int(place * len(data)) :]


def _overwrite(place: float, piece: bytes) -> Bytes:
    def change(data: bytes) -> bytes:
        at = int(place * len(data))
        return data[:at] + piece + data[at + len(piece) :]

    return change


def _repeat(start: float, length: float) -> Bytes:
    def change(data: bytes) -> bytes:
        first = int(start * len(data))
        last = first + int(length * (len(data) - first))
        return data[:last] + data[first:last] + data[last:]

    return change


def _remove(start: float, length: float) -> Bytes:
    def change(data: bytes) -> bytes:
        first = int(start * len(data))
        return data[:first] + data[first + int(length * (len(data) - first)) :]

    return change


_PLACES = st.floats(0, 1)
_PIECES = st.one_of(st.binary(min_size=1, max_size=16), st.sampled_from([b"\0" * 64, b"\xff" * 8]))


def byte_mutations(head: float = 1.0) -> st.SearchStrategy[Bytes]:
    """One to three changes of a file's bytes.

    Args:
        head: the share of the file, from its start, where changes begin; a small share aims at
            the header of a file whose tensors are long.
    """
    places = st.floats(0, head)
    one = st.one_of(
        st.builds(_flip, places, st.integers(0, 7)),
        st.builds(_cut, _PLACES),
        st.builds(_insert, places, _PIECES),
        st.builds(_overwrite, places, _PIECES),
        st.builds(_repeat, places, st.floats(0, 0.2)),
        st.builds(_remove, places, st.floats(0, 0.2)),
    )
    return st.lists(one, min_size=1, max_size=3).map(_in_turn)


def _in_turn(changes: list[Bytes]) -> Bytes:
    def change(data: bytes) -> bytes:
        for one in changes:
            data = one(data)
        return data

    return change


def paths_of(document: Any) -> list[tuple[Any, ...]]:
    """The path of every value inside a JSON document, the document's own `()` left out."""
    items = (
        document.items()
        if isinstance(document, dict)
        else enumerate(document)
        if isinstance(document, list)
        else ()
    )
    return [(key, *rest) for key, value in items for rest in [(), *paths_of(value)]]


@st.composite
def json_mutations(draw: Any, document: Any, changes: int = 2) -> Any:
    """A copy of `document` in which one to `changes` fields are replaced, removed or renamed."""
    changed = deepcopy(document)
    for _ in range(draw(st.integers(1, changes))):
        paths = paths_of(changed)
        if not paths:
            break
        *way, key = draw(st.sampled_from(paths))
        place = changed
        for step in way:
            place = place[step]
        _change_field(draw, place, key)
    return changed


def _change_field(draw: Any, place: Any, key: Any) -> None:
    kind = draw(st.sampled_from(["replace", "replace", "remove", "swap", "rename", "nudge"]))
    if kind == "remove":
        del place[key]
    elif kind == "swap":
        other = draw(st.sampled_from(list(place) if isinstance(place, dict) else range(len(place))))
        place[key], place[other] = place[other], place[key]
    elif kind == "rename" and isinstance(place, dict):
        place[key + draw(st.sampled_from(["_", " ", "s", "\u200b"]))] = place.pop(key)
    elif kind == "nudge" and type(place[key]) in (int, float) and abs(place[key]) < 1e300:
        place[key] += draw(st.sampled_from([-1, 1, 7, 1e-3]))
    else:
        value = draw(st.sampled_from(ODD_VALUES) | st.text(max_size=8) | st.integers())
        place[key] = deepcopy(value)  # Later changes must not reach ODD_VALUES.


@st.composite
def mostly(draw: Any, usual: st.SearchStrategy[Any], odd: st.SearchStrategy[Any]) -> Any:
    """A value of `usual` in seven of eight draws (`|` would weigh by the number of its parts)."""
    return draw(odd if draw(st.integers(0, 7)) == 7 else usual)
