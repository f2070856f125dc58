"""Keyword options of recording and generation, each declared once with its default.

`accepts` adds the options to a method: its signature and help list them, so that completion
works; missing options get their default; an unknown name raises an error with the nearest option.
"""

import difflib
import functools
import inspect
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast, get_type_hints

from typing_extensions import TypedDict

from qwen3lab.arguments import argument
from qwen3lab.generation.option_checks import checked_option
from qwen3lab.generation.reply import ChatStep
from qwen3lab.generation.sampling import Sampling
from qwen3lab.generation.thinking_control import Extension, Steering
from qwen3lab.hooks.edits import AnyEdits
from qwen3lab.translation import tr

OnStep = Callable[[ChatStep], None]
"""Called with every generated token."""

HookNames = str | Iterable[str]
"""Hooks to record: an exact name, a glob, "all", or several of these."""

Method = TypeVar("Method", bound=Callable[..., Any])


class StoreOptions(TypedDict, total=False):
    """Options of every recording, in memory or on disk.

    Attributes:
        capture: hooks to record in addition to logits, attention and routing: exact names, globs,
            or "all".
        attention: False leaves out the queries and keys that attention patterns are rendered from:
            two values for each layer, head and head dimension of a token, most of the recording of
            a model with many layers. A corpus for routing does not need them.
        thinking: for chat messages, whether the prompt is rendered in thinking mode; None leaves
            the template's default.
        dtype: of the stored activations, such as "bfloat16" for half of float32's memory; None
            keeps the dtype of the forward pass.
    """

    capture: HookNames
    attention: bool
    thinking: bool | None
    dtype: str | None


class DiskOptions(StoreOptions, total=False):
    """Options of a recording on disk.

    Attributes:
        progress: show a progress bar.
    """

    progress: bool


class RecordOptions(StoreOptions, total=False):
    """Options of a recording.

    Attributes:
        edits: hook names or globs mapped to functions that replace activations; an intervention,
            such as those of `interventions.rerouting`; or several, applied in order.
    """

    edits: AnyEdits | None


class ReplyOptions(TypedDict, total=False):
    """Options of generation.

    Attributes:
        max_new_tokens: maximum number of tokens, thinking and answer together; the context length
            is a limit, too. None is the length of the model's generation config; without one, 256
            in `generate`, and that of `lab.suggested` in `chat`.
        sampling: temperature and filters of sampling; None is greedy in `generate`, and the
            published sampling of the mode in `chat`.
        seed: makes sampling reproducible.
        stop: a string that ends the reply, or several; the text does not contain them. In a chat
            they end the answer; the thinking is not searched.
        record: True to record attention and routing of prompt and reply during generation, or
            hook names to record in addition.
        edits: as in `Lab.record`, active during the whole reply.
        on_step: called after every token. After an interrupt, text that was held back (for a stop
            string, or an incomplete character) comes as one more step of the last token.
        cancel: an event; when another thread sets it, generation stops and keeps its tokens.
    """

    max_new_tokens: int | None
    sampling: Sampling | None
    seed: int | None
    stop: str | Sequence[str]
    record: bool | HookNames
    edits: AnyEdits | None
    on_step: OnStep | None
    cancel: threading.Event | None


class ControlOptions(ReplyOptions, total=False):
    """Options of a reply that may think.

    Attributes:
        budget: maximum number of thinking tokens, after which the early-stop sentence is inserted;
            None for no limit.
        extend: replaces an early `</think>` by a text, so that the thinking continues.
        steering: ends or extends the thinking from another thread.
    """

    budget: int | None
    extend: Extension | None
    steering: Steering | None


class ChatOptions(ControlOptions, total=False):
    """Options of a chat.

    Attributes:
        thinking: False answers without thinking, if the chat template has a switch for it; None
            leaves the template's default. `/think` and `/no_think` in a message are text that the
            model reads; they do not change the prompt.
    """

    thinking: bool | None


STORE_DEFAULTS: StoreOptions = {"capture": (), "attention": True, "thinking": None, "dtype": None}
DISK_DEFAULTS: DiskOptions = {**STORE_DEFAULTS, "progress": True}
RECORD_DEFAULTS: RecordOptions = {**STORE_DEFAULTS, "edits": None}
REPLY_DEFAULTS: ReplyOptions = {
    "max_new_tokens": None,
    "sampling": None,
    "seed": None,
    "stop": (),
    "record": False,
    "edits": None,
    "on_step": None,
    "cancel": None,
}
CONTROL_DEFAULTS: ControlOptions = {
    **REPLY_DEFAULTS,
    "budget": None,
    "extend": None,
    "steering": None,
}
CHAT_DEFAULTS: ChatOptions = {**CONTROL_DEFAULTS, "thinking": None}


def accepts(options: type, defaults: Mapping[str, Any]) -> Callable[[Method], Method]:
    """Decorator that adds options to a method with `**options: Unpack[...]`.

    The method's own keyword arguments are checked against their annotations, too.

    Args:
        options: a TypedDict; its docstring describes each option.
        defaults: a value for each option.

    Raises:
        TypeError: when the method is called with an unknown option; names the nearest one.
    """
    kinds = get_type_hints(options)
    assert kinds.keys() == defaults.keys(), "every option has a type and a default"

    def decorate(method: Method) -> Method:
        @functools.wraps(method)
        def call(*args: Any, **given: Any) -> Any:
            for name in given:
                if name not in defaults and name not in own:
                    raise TypeError(_unknown(method.__name__, name, [*own, *defaults]))
                if name in defaults:
                    given[name] = checked_option(name, given[name], kinds[name])
                elif name in own_kinds:
                    given[name] = argument(own_kinds[name], name, given[name])
            return method(*args, **{**defaults, **given})

        plain = inspect.signature(method)
        kept = [p for p in plain.parameters.values() if p.kind is not p.VAR_KEYWORD]
        own = [p.name for p in kept[1:]]
        keyword = inspect.Parameter.KEYWORD_ONLY
        own_kinds = {p.name: p.annotation for p in kept if p.kind is keyword}
        added = [
            inspect.Parameter(name, keyword, default=defaults[name], annotation=_Annotation(kind))
            for name, kind in kinds.items()
        ]
        shown: Any = call
        shown.__signature__ = plain.replace(parameters=[*kept, *added])
        shown.__doc__ = _documented(method.__doc__ or "", options)
        return cast(Method, call)

    return decorate


class _Annotation:
    """A type as a signature shows it: long aliases by their names."""

    def __init__(self, kind: Any) -> None:
        self.text = inspect.formatannotation(kind)
        for name, alias in {"AnyEdits": AnyEdits, "OnStep": OnStep, "HookNames": HookNames}.items():
            self.text = self.text.replace(inspect.formatannotation(alias), name)
        for module in ("qwen3lab.generation.sampling.", "qwen3lab.generation.thinking_control."):
            self.text = self.text.replace(module, "")

    def __repr__(self) -> str:
        return self.text


def _unknown(method: str, name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = (
        tr("did you mean {near!r}?", near=near[0])
        if near
        else tr("choose from {listed}", listed=", ".join(sorted(known)))
    )
    return tr("{method}() has no option {name!r}: {hint}", method=method, name=name, hint=hint)


def _documented(text: str, options: type) -> str:
    """A method's docstring with the options' descriptions in place of `{options}`."""
    lines: list[str] = []
    for kind in reversed(_ancestors(options)):
        attributes = inspect.cleandoc(kind.__doc__ or "").partition("Attributes:\n")[2]
        lines += [f"        {line}" for line in attributes.splitlines()]
    return text.replace("            {options}", "\n".join(lines))


def _ancestors(options: type) -> list[Any]:
    """A TypedDict and its base TypedDicts; its `__mro__` does not contain them."""
    kinds, queue = [], [options]
    while queue:
        kind = queue.pop(0)
        kinds.append(kind)
        queue += [
            base for base in getattr(kind, "__orig_bases__", ()) if hasattr(base, "__total__")
        ]
    return kinds
