"""Explains the picked token, and changes the reply, for the why view."""

import threading
from collections.abc import Callable
from dataclasses import replace

from qwen3lab.generation.reply import Chat
from qwen3lab.hooks.points import resolve_hooks
from qwen3lab.translation import tr
from qwen3lab.widgets.components.error_display import sentence, shows_problems
from qwen3lab.widgets.explorers.why_compute import (
    effects,
    explain,
    needed,
    part_name,
    recording_of,
)
from qwen3lab.widgets.explorers.why_edits import patched, removal, steered
from qwen3lab.widgets.workbench.changes import Change, edits_of, in_force, titles, with_change
from qwen3lab.widgets.workbench.parts.part import AskingBench, Part

MAX_AUTOMATIC_PARAMETERS = 10_000_000
"""Largest model whose map of effects is computed without a click."""

SPARE_TOKENS = 32
"""A changed reply has room for twice the tokens of the reply beside it, and these: a change can
make a model write on without end, to the end of its context."""

TAB_OF = {"head": "attention", "expert": "routing"}
"""The view that shows more of a part, by its kind."""


class ExplanationPart(Part):
    """The explanation of the picked token, the map of effects, and replies with a part changed.

    They need activations that a run records only if this view is shown; else the conversation is
    run once more, without writing, to record them.
    """

    name = "why"

    def __init__(self, bench: AskingBench) -> None:
        super().__init__(bench)
        self.explainer, self.measurer, self.editor = (self._worker() for _ in range(3))
        self.is_picking = False  # The first token of the answer, to explain it.
        self.complete: Chat | None = None  # The reply with all hooks that are needed.
        self.state.observe(lambda _: self._changed(), ["token", "other_token", "lens"])

    def hooks(self) -> tuple[str, ...]:
        """What an explanation reads."""
        return needed(self.lab) if self.is_open else ()

    def started(self) -> None:
        """Discard the explanation of the run before."""
        super().started()
        state = self.state
        self.complete = None
        state.explained = state.effects = state.edited = state.edited_change = None
        state.problem, state.part, state.measuring_effects = "", (), False

    def finished(self, chat: Chat | None, *, stopped: bool) -> None:
        """Explain the picked token, or the first one of the answer, when the tab is shown."""
        self.needs = chat is not None and self.bench.asks
        self.work_if_open()

    def work(self) -> None:
        """Explain the picked token, or the first one of the answer."""
        chat = self.state.current
        if chat is not None and self.state.token < 0:
            self.is_picking = True
            self.state.token = first_of_answer(chat)
            self.is_picking = False
        self.explain()

    def stop(self) -> None:
        """Stop the map of effects and the changed reply."""
        self.measurer.stop()
        self.editor.stop()

    def _changed(self) -> None:
        """Explain the picked token, if the tab is shown; discard that of another token, if not."""
        state, found = self.state, self.state.explained
        if state.current is None or self.is_picking or self.bench.is_showing or not self.bench.asks:
            return
        if self.is_open and not self.bench.closed:
            self.explain()
            return
        self.needs = True
        if found is not None and found.position != state.token:
            self.measurer.stop()
            state.explained = state.effects = None

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
            raise ValueError(tr("no token is explained yet: click a token of the reply first"))
        run, state = self.state.run, self.state
        effect, other = state.effect, state.other_question
        if state.asked_changes:
            raise ValueError(
                tr(
                    "this map is computed without the changes in force ({titles}): remove "
                    "them and ask again to compute it",
                    titles=titles(state.asked_changes),
                )
            )

        def job(cancel: threading.Event) -> None:
            if cancel.is_set():
                return
            self._set(run, measuring_effects=True)
            try:
                for partial in effects(self.lab, chat, found, effect, other):
                    if cancel.is_set():
                        return
                    self._set(run, effects=partial)
            except Exception as error:
                self._set(run, problem=sentence(error))
            finally:
                self._set(run, measuring_effects=False)

        state.problem, state.effects = "", None
        self.measurer.start(job)

    @shows_problems
    def take_away(self) -> None:
        """Ask the same question again without the picked part."""
        if not self.state.part:
            raise ValueError(tr("no part is picked: click a cell of the map of effects first"))
        change = removal(self.state.part)
        self._ask_edited(tr("without {part}", part=part_name(self.state.part)), lambda: change)

    @shows_problems
    def patch(self) -> None:
        """Ask again with the stream of the other question at the picked layer and token."""
        chat, part, other = self.state.current, self.state.part, self.state.other_question
        if chat is None or not part:
            raise ValueError(tr("no layer and token is picked: click a cell of the map of effects"))
        name = tr("{part} from “{other}”", part=part_name(part), other=other)
        self._ask_edited(name, lambda: patched(self.lab, chat, part, other))

    @shows_problems
    def steer(self) -> None:
        """Ask again with the stream pushed from the picked token to the other one, at a layer."""
        chat, found, state = self.state.current, self.state.explained, self.state
        if chat is None or found is None:
            raise ValueError(tr("no token is explained yet: click a token of the reply first"))
        layer, strength = state.layer, state.strength
        towards = found.token if strength < 0 else found.other
        name = tr(
            "steered towards “{towards}” at layer {layer}, strength {strength:g}",
            towards=towards,
            layer=layer,
            strength=abs(strength),
        )

        def change() -> Change:
            return steered(
                self.lab,
                self._completed(chat),
                (found.token_id, found.other_id),
                layer=layer,
                position=found.position,
                strength=strength,
                text=towards,
            )

        self._ask_edited(name, change)

    @shows_problems
    def keep(self) -> None:
        """Put the change of the latest changed reply in force for the runs that follow."""
        change = self.state.edited_change
        if change is None:
            raise ValueError(
                tr("nothing has been changed yet: take a part away, patch or steer first")
            )
        self.state.changes = with_change(self.state.changes, change)

    @shows_problems
    def open_part(self) -> None:
        """Show the picked head in the attention view, or the picked expert in the routing view."""
        kind, layer, number = self.state.part or ("", -1, -1)
        if kind not in TAB_OF:
            raise ValueError(
                tr("neither a head nor an expert is picked: click one in a plot first")
            )
        if kind == "head":
            self.state.layer, self.state.head = layer, number
        else:
            self.state.routing_layer, self.state.expert = layer, number
        self.state.tab = TAB_OF[kind]

    def _explanation(self, chat: Chat, run: int, token: int) -> Callable[[threading.Event], None]:
        other, lens = self.state.other_token, self.state.lens

        def job(cancel: threading.Event) -> None:
            if cancel.is_set():
                return
            try:
                found = explain(self.lab, self._completed(chat), token, other, lens)
                _ = found.probability, found.leads  # Of a large vocabulary, they take seconds.
            except Exception as error:
                self._refuse(run, token, sentence(error))
                return
            if not cancel.is_set() and token == self.state.token:
                self._set(run, explained=found, effects=None, problem="")
                is_quick = self.lab.config.n_params <= MAX_AUTOMATIC_PARAMETERS
                if is_quick and not self.state.asked_changes:
                    self.measure()

        return job

    def _completed(self, chat: Chat) -> Chat:
        """The reply with the hooks that are needed, recorded in one more pass if some are not."""
        recording = recording_of(chat)
        hooks = needed(self.lab)
        if all(hook in recording for hook in resolve_hooks(hooks, self.lab.config)):
            return chat
        complete = self.complete
        if complete is None or complete.token_ids is not chat.token_ids:
            again = self.lab.record(
                recording.token_ids.tolist(),
                capture=list(hooks),
                edits=in_force(self.lab, self.state.asked_changes),
            )
            again = replace(again, spans=recording.spans)
            complete = self.complete = replace(chat, recording=again)
        return complete

    def _refuse(self, run: int, token: int, problem: str) -> None:
        """Say why there is no explanation; keep that of the same token compared with another."""
        old = self.state.explained
        if old is not None and old.position == token:
            self._set(run, problem=problem)
        else:
            self._set(run, explained=None, effects=None, problem=problem)

    def _ask_edited(self, name: str, change: Callable[[], Change]) -> None:
        run, question, options = self.state.run, self.state.asked, dict(self.bench.asked_options)
        chat = self.state.current
        if chat is not None:
            room = 2 * len(chat.tokens) + SPARE_TOKENS
            options["max_new_tokens"] = min(options["max_new_tokens"], room)

        def job(cancel: threading.Event) -> None:
            new = change()
            edits = edits_of(self.lab, with_change(self.state.asked_changes, new))
            edited = self.bench.reply(question, cancel=cancel, **options, **edits)
            if not cancel.is_set():
                self._set(run, edited_name=name, edited_change=new, edited=edited)

        self.state.problem = ""
        self._beside(self.editor, job, lambda e: self._set(run, problem=sentence(e)))


def first_of_answer(chat: Chat) -> int:
    """Position of the answer's first token that is no whitespace; -1 without an answer."""
    start, end = chat.spans["answer"]
    n_prompt = chat.spans["prompt"][1]
    for position in range(start, end):
        if chat.tokens[position - n_prompt].strip():
            return position
    return -1
