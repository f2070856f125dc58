"""The why explorer: which layer knew a token, what wrote it, and what happens without that."""

import threading
from collections.abc import Callable, MutableMapping
from typing import Any, ClassVar
from weakref import WeakValueDictionary

from qwen3lab.generation.reply import Chat
from qwen3lab.lab import Lab
from qwen3lab.widgets.components.error_display import sentence, shows_errors, shows_problems
from qwen3lab.widgets.components.worker import Worker
from qwen3lab.widgets.explorers.explorer import Explorer
from qwen3lab.widgets.explorers.state import ExplorerState
from qwen3lab.widgets.explorers.why_compute import (
    effects,
    explain,
    needed,
    offered_lenses,
    part_name,
)
from qwen3lab.widgets.explorers.why_edits import patched, removal, steered
from qwen3lab.widgets.explorers.why_links import explorer_of
from qwen3lab.widgets.explorers.why_panel import WhyPanel
from qwen3lab.widgets.explorers.why_part import EXPLORERS
from qwen3lab.widgets.explorers.why_state import WhyState

MAX_AUTOMATIC_PARAMETERS = 10_000_000
"""Largest model whose map of effects is computed without a click."""


class WhyExplorer(Explorer):
    """Asks a model a question, and shows why it wrote the token that you click.

    The lens shows after which layer the model would have written it. The attribution splits its
    logit, minus that of another token, into what each head, MLP and expert adds. The map of effects
    runs the model again without each part, or with the stream of another question in place. A
    picked part can be taken away, or the reply steered, and both replies are compared.

    Args:
        lab: a model in memory.
        options: keyword arguments of `Explorer`.

    Attributes:
        state: the values shown, which can be read and set: `explorer.state.token = 40`.
    """

    shown: ClassVar[MutableMapping[Any, Explorer]] = WeakValueDictionary()
    State: ClassVar[type[ExplorerState]] = WhyState
    lab: Lab
    state: WhyState

    def __init__(self, lab: Lab, **options: Any) -> None:
        super().__init__(lab, **options)
        self.explainer: Worker[None] = Worker()
        self.measurer: Worker[None] = Worker()
        self.editor: Worker[None] = Worker()
        self.linked: Explorer | None = None
        self.state.observe(lambda _: self.explain(), ["token", "other_token", "lens"])
        if self.state.current is not None:  # A reply that was given.
            self.state.token = first_of_answer(self.state.current)

    @shows_problems
    def explain(self) -> None:
        """Explain the picked token, in the background."""
        chat, token = self.state.current, self.state.token
        self.measurer.stop()
        if chat is None or token < 0:
            self.state.explained = self.state.effects = None
            return
        self.explainer.start(self._explanation(chat, self.state.run, token))

    @shows_problems
    def measure(self) -> None:
        """Compute the map of effects for the picked token, in the background."""
        chat, found = self.state.current, self.state.explained
        if chat is None or found is None:
            raise ValueError("no token is explained yet: click a token of the reply first")
        run, state = self.state.run, self.state
        effect, other = state.effect, state.other_question

        def job(cancel: threading.Event) -> None:
            self._set(run, measuring=True)
            try:
                for partial in effects(self.lab, chat, found, effect, other):
                    if cancel.is_set():
                        return
                    self._set(run, effects=partial)
            except Exception as error:
                self._set(run, problem=sentence(error))
            finally:
                self._set(run, measuring=False)

        state.problem, state.effects = "", None
        self.measurer.start(job)

    @shows_problems
    def take_away(self) -> None:
        """Ask the same question again without the picked part."""
        if not self.state.part:
            raise ValueError("no part is picked: click a cell of the map of effects first")
        edits = removal(self.state.part)
        self._ask_edited(f"without {part_name(self.state.part)}", lambda: edits)

    @shows_problems
    def patch(self) -> None:
        """Ask again with the stream of the other question at the picked layer and token."""
        chat, part, other = self.state.current, self.state.part, self.state.other_question
        if chat is None or not part:
            raise ValueError("no layer and token is picked: click a cell of the map of effects")
        name = f"{part_name(part)} from “{other}”"
        self._ask_edited(name, lambda: patched(self.lab, chat, part, other))

    @shows_problems
    def steer(self) -> None:
        """Ask again with the stream pushed from the picked token to the other one, at a layer."""
        chat, found, state = self.state.current, self.state.explained, self.state
        if chat is None or found is None:
            raise ValueError("no token is explained yet: click a token of the reply first")
        layer, strength = state.layer, state.strength
        edits = steered(
            self.lab,
            chat,
            (found.token_id, found.other_id),
            layer=layer,
            position=found.position,
            strength=strength,
        )
        towards = found.token if strength < 0 else found.other
        name = f"steered towards “{towards}” at layer {layer}, strength {abs(strength):g}"
        self._ask_edited(name, lambda: edits)

    @shows_problems
    def open_part(self) -> None:
        """Show the reply below, in the explorer of heads or experts, at the picked part."""
        if self.state.current is None or not isinstance(self.view, WhyPanel):
            raise ValueError("there is no reply yet: run a question first")
        self.close_part()
        found = explorer_of(self.lab, self.state.current, self.state, self.max_new_tokens)
        self.linked, self.state.problem = found, ""
        kind = EXPLORERS[self.state.part[0]]
        self.view.show_link(f"{kind}, from {part_name(self.state.part)}, same reply", found.open())

    def close_part(self) -> None:
        """Remove the explorer that `open_part` opened."""
        if self.linked is not None:
            if isinstance(self.view, WhyPanel):
                self.view.show_link("", None)
            self.linked.close()
            self.linked = None

    @shows_errors
    def stop(self) -> None:
        """Stop the run, the map of effects, and the changed reply."""
        self.measurer.stop()
        self.editor.stop()
        super().stop()

    def close(self) -> None:
        """Stop all work, and remove the explorer from the page."""
        self.close_part()
        super().close()
        for worker in (self.explainer, self.measurer, self.editor):
            worker.stop()

    def wait(self) -> Chat | None:
        """Wait for the run and everything that follows from it; return the reply."""
        chat = super().wait()
        for worker in (self.explainer, self.measurer, self.editor):
            worker.wait()
        return chat

    def _explanation(self, chat: Chat, run: int, token: int) -> Callable[[threading.Event], None]:
        other, lens = self.state.other_token, self.state.lens

        def job(cancel: threading.Event) -> None:
            if cancel.is_set():
                return
            try:
                found = explain(self.lab, chat, token, other, lens)
                _ = found.probability, found.leads  # Of a large vocabulary, they take seconds.
            except Exception as error:
                self._refuse(run, token, sentence(error))
                return
            if not cancel.is_set() and token == self.state.token:
                self._set(run, explained=found, effects=None, problem="")
                if self.lab.config.n_params <= MAX_AUTOMATIC_PARAMETERS:
                    self.measure()

        return job

    def _refuse(self, run: int, token: int, problem: str) -> None:
        """Say why there is no explanation; keep that of the same token compared with another."""
        old = self.state.explained
        if old is not None and old.position == token:
            self._set(run, problem=problem)
        else:
            self._set(run, explained=None, effects=None, problem=problem)

    def _ask_edited(self, name: str, edits: Callable[[], Any]) -> None:
        run, question = self.state.run, self.state.asked
        options = self._options()

        def job(cancel: threading.Event) -> None:
            try:
                edited = self._reply(question, cancel=cancel, edits=edits(), **options)
            except Exception as error:
                self._set(run, problem=sentence(error))
                return
            if not cancel.is_set():
                self._set(run, edited_name=name, edited=edited)

        self.state.problem = ""
        self.editor.start(job)

    def _recorded(self) -> bool | tuple[str, ...]:
        return needed(self.lab)

    def _view(self) -> WhyPanel:
        view = WhyPanel(
            self.lab.name, self.lab.config, self.state, self.examples, offered_lenses(self.lab)
        )
        view.connect(measure=self.measure, close_link=self.close_part)
        view.part.connect(
            take_away=self.take_away, patch=self.patch, steer=self.steer, open_part=self.open_part
        )
        return view

    def _start(self) -> None:
        self._check()
        with self.lock:
            for worker in (self.explainer, self.measurer, self.editor):
                worker.stop()
            self.close_part()
            state = self.state
            state.explained = state.effects = state.edited = None
            state.problem = ""
            state.part = ()
            super()._start()

    def _finish(self, run: int, chat: Chat | None = None, *, error: str = "") -> None:
        with self.lock:
            super()._finish(run, chat, error=error)
            if chat is not None and run == self.state.run and self.state.token < 0:
                self.state.token = first_of_answer(chat)

    def _set(self, run: int, /, **values: Any) -> None:
        """Set values of a run, unless there is a newer one."""
        with self.lock:
            if run == self.state.run:
                for name, value in values.items():
                    setattr(self.state, name, value)


def first_of_answer(chat: Chat) -> int:
    """Position of the answer's first token that is no whitespace; -1 without an answer."""
    start, end = chat.spans["answer"]
    n_prompt = chat.spans["prompt"][1]
    for position in range(start, end):
        if chat.tokens[position - n_prompt].strip():
            return position
    return -1
