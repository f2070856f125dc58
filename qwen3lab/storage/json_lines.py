"""Reads one line of a JSON Lines file; everything that JSON does not allow is refused."""

import json
from typing import Any


def parse_json_line(line: bytes) -> Any:
    """The value in one line.

    Raises:
        ValueError: the line is no UTF-8 text, no JSON, or ambiguous: a key stands twice. The
            message continues "line 3 of file ...".
    """
    try:
        return json.loads(
            line.decode(), parse_constant=_refuse_constant, object_pairs_hook=_each_key_once
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON ({error.msg} at column {error.colno})") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 text ({error.reason} at byte {error.start + 1})") from None
    except RecursionError:
        raise ValueError("is not JSON that can be read (it is nested too deeply)") from None
    except ValueError as error:  # Integers of thousands of digits, and the two below.
        raise ValueError(f"is not JSON that can be read ({error})") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in values if names.count(name) > 1)
        raise ValueError(f"the key {twice[:40]!r} stands in one object twice")
    return values
