"""What a long run has done, kept in a JSON Lines file: its plan first, then result by result."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, get_args, get_type_hints

from qwen3lab.config.qwen3_config import Qwen3Config

P = TypeVar("P")
R = TypeVar("R")
KIND = "qwen3lab"


class Store(Generic[P, R]):
    """A file that holds a plan and the results so far; a line that was cut short is passed over.

    Args:
        path: of the file.
        plan_type: the dataclass of the plan.
        result_type: the dataclass of a result.
    """

    def __init__(self, path: str | Path, plan_type: type[P], result_type: type[R]) -> None:
        self.path = Path(path)
        self.plan_type, self.result_type = plan_type, result_type

    def resume(self, plan: P) -> list[R]:
        """The results in the file, if it is of this plan; begins the file if there is none.

        Raises:
            ValueError: the file is of another plan, or none of this kind.
        """
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(_line({"kind": self._kind, **_plain(plan)}), "utf-8")
            return []
        old = self.plan()
        if old != plan:
            names = [field.name for field in fields(plan)]  # type: ignore[arg-type]
            changed = [name for name in names if getattr(old, name) != getattr(plan, name)]
            raise ValueError(
                f"{self.path.name} holds another run, with other {', '.join(changed)}: "
                "give another path, or remove the file"
            )
        self._mend()
        return self.results()

    def add(self, results: Sequence[R]) -> None:
        """Put results at the end of the file."""
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(_line(_plain(result)) for result in results)

    def plan(self) -> P:
        """The plan in the file.

        Raises:
            ValueError: the file does not begin with a plan.
        """
        with self.path.open(encoding="utf-8") as file:
            first = file.readline()
        try:
            found = json.loads(first)
            assert found.pop("kind") == self._kind
            return _built(self.plan_type, found)
        except (ValueError, AssertionError, KeyError, TypeError, AttributeError):
            raise ValueError(
                f"{self.path.name} does not begin as a file of {self._kind} does: "
                "expected one that this package wrote"
            ) from None

    def results(self) -> list[R]:
        """The results in the file, but for a last line that was cut short."""
        lines = self.path.read_text("utf-8").split("\n")
        # What follows the last line break was cut short.
        return [_built(self.result_type, json.loads(line)) for line in lines[1:-1]]

    @property
    def _kind(self) -> str:
        return f"{KIND} {self.result_type.__name__.lower()}s"

    def _mend(self) -> None:
        """Remove a last line that was cut short, so that the next begins on its own."""
        text = self.path.read_text("utf-8")
        if not text.endswith("\n"):
            self.path.write_text(text[: text.rfind("\n") + 1], "utf-8")


def digest(parts: Sequence[Any]) -> str:
    """A short mark that tells one list of texts from another."""
    return hashlib.sha256(json.dumps(list(parts)).encode()).hexdigest()[:16]


def _line(values: Any) -> str:
    return json.dumps(values, ensure_ascii=False) + "\n"


def _plain(value: Any) -> Any:
    """Dataclasses as dicts, a model's config as in its `config.json`."""
    if isinstance(value, Qwen3Config):
        return value.to_dict()
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _built(kind: Any, value: Any) -> Any:
    """What `_plain` took apart, by the types that the dataclasses declare."""
    if value is None:
        return None
    options = [option for option in get_args(kind) if option is not type(None)]
    if type(None) in get_args(kind):
        return _built(options[0], value)
    if kind is Qwen3Config:
        return Qwen3Config.from_dict(value)
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return kind(**{name: _built(hints[name], item) for name, item in value.items()})  # type: ignore[operator]
    if getattr(kind, "__origin__", None) is tuple:
        return tuple(_built(options[0], item) for item in value)
    return value
