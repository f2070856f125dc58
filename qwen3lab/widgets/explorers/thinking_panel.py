"""The thinking explorer on the screen: panes that follow the state. No computation, no model."""

from collections.abc import Callable, Sequence

import ipywidgets as w

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.generation.reply import Chat
from qwen3lab.widgets.components.error_display import says_undrawn
from qwen3lab.widgets.components.layout import GAP, card, columns, heading, page
from qwen3lab.widgets.explorers.controls import WIDE
from qwen3lab.widgets.explorers.replies import answers_html
from qwen3lab.widgets.explorers.reply_panel import ReplyPanel
from qwen3lab.widgets.explorers.thinking_compute import marker_html, place_of, steps_html
from qwen3lab.widgets.explorers.thinking_state import ThinkingState

NO_THINKING = (
    "A reply that thought stands here, to be stopped anywhere: run one with “think first”."
)

MORE_THINKING = (
    "While it thinks: more budget, and its next </think> is refused, with “Wait” in its place. "
    "Afterwards: ask again, and refuse one </think> more"
)


class ThinkingPanel(ReplyPanel):
    """Controls and reply, a marker along the thinking, and the answer without any."""

    state: ThinkingState

    def __init__(
        self, name: str, config: Qwen3Config, state: ThinkingState, examples: Sequence[str]
    ) -> None:
        super().__init__(config, state, examples)
        self._make_controls()
        self.here, self.table, self.replies = w.HTML(), w.HTML(), w.HTML()
        self.root = self._arrange(name)
        self._follow()
        for draw in (self.enable, self.draw_marker, self.draw_steps, self.draw_replies):
            draw()

    def connect(
        self,
        *,
        stop_thinking: Callable[[], None],
        think_more: Callable[[], None],
        move: Callable[[int], None],
        everywhere: Callable[[], None],
    ) -> None:
        """Say what the buttons and the marker do."""
        self.stop_thinking.on_click(lambda _: stop_thinking())
        self.think_more.on_click(lambda _: think_more())
        self.everywhere.on_click(lambda _: everywhere())
        self.marker.observe(lambda change: move(change["new"]), "value")

    def _make_controls(self) -> None:
        self.stop_thinking = w.Button(
            description="Stop thinking now",
            icon="hand-paper-o",
            tooltip="Insert the early-stop sentence after this token, and answer",
            layout=w.Layout(width="170px"),
        )
        self.think_more = w.Button(
            description="Think more",
            icon="plus",
            tooltip=MORE_THINKING,
            layout=w.Layout(width="130px"),
        )
        self.marker = w.IntSlider(
            min=0,
            max=1,
            description="thinking tokens kept",
            tooltip="How much of the thinking to keep",
            continuous_update=False,
            style=WIDE,
            layout=w.Layout(width="100%"),
        )
        self.everywhere = w.Button(
            description="Ask after every step",
            icon="list",
            tooltip="What would it answer after each step of its thinking?",
            layout=w.Layout(width="190px"),
        )

    def _follow(self) -> None:
        watch = self.ties.watch
        watch(lambda _: self.enable(), ["status", "chips", "steps", "looking", "answers"])
        watch(lambda _: self.controls.enable(), ["looking"])
        watch(lambda _: self.draw_marker(), ["marker", "answers", "steps", "run"])
        watch(lambda _: self.draw_steps(), ["answers", "steps", "marker"])
        watch(lambda _: self.draw_replies(), ["at_once", "chat", "run"])

    @says_undrawn
    def enable(self) -> None:
        """Grey out what has no effect now."""
        state = self.state
        thinks = state.status == "running" and _is_thinking(state)
        looked_at = state.status == "idle" and bool(self._steps())
        self.stop_thinking.disabled = not thinks
        self.stop_thinking.button_style = "warning" if thinks else ""
        self.think_more.disabled = not (thinks or looked_at)
        self.everywhere.disabled = self.marker.disabled = not looked_at or state.looking
        known = all(step.kept in state.answers for step in self._steps())
        self.everywhere.layout.display = "none" if looked_at and known else ""

    @says_undrawn
    def draw_marker(self) -> None:
        """Show what would be answered at the marker."""
        state, steps, chat = self.state, self._steps(), self.state.current
        with self.lock:
            if chat is None or not steps or state.marker < 0:
                self.here.value = f'<span class="q3-hint">{NO_THINKING}</span>'
                self.transcript.marked = -1
                return
            self.marker.max = steps[-1].kept
            self.marker.value = state.marker
            answer = state.answers.get(state.marker)
            self.here.value = marker_html(chat, steps, state.marker, answer)
            self.transcript.marked = place_of(steps, state.marker) - chat.spans["prompt"][1]

    @says_undrawn
    def draw_steps(self) -> None:
        """List the answers that are known, step by step."""
        state, steps, chat = self.state, self._steps(), self.state.current
        with self.lock:
            known = bool(state.answers) and bool(steps) and chat is not None
            self.table.value = (
                steps_html(steps, state.answers, state.marker, chat.answer)
                if known and chat is not None
                else ""
            )

    @says_undrawn
    def draw_replies(self) -> None:
        """Lay the replies with and without thinking side by side."""
        chat, shown = self.state.current, list[tuple[str, Chat]]()
        if chat is not None:
            shown.append(("as asked", chat))
        if chat is not None and self.state.at_once is not None:
            shown.append(("without thinking", self.state.at_once))
        with self.lock:
            self.replies.value = answers_html(shown)

    def _steps(self) -> Sequence:
        """The steps of the run that is shown; none while another goes on."""
        return self.state.steps if self.state.current is not None else ()

    def _arrange(self, name: str) -> w.VBox:
        wrap = w.Layout(flex_flow="row wrap", align_items="center", grid_gap="6px 10px")
        buttons = w.Box([self.stop_thinking, self.think_more], layout=wrap)
        asked = card("Conversation", "it can be stopped while it thinks", buttons, self.transcript)
        beside = card("Side by side", "the same question without thinking", self.replies)
        along = card(
            "If it had stopped here",
            "drag the marker along the thinking",
            self.marker,
            self.here,
            w.Box([self.everywhere], layout=wrap),
            self.table,
        )
        left = w.VBox([asked, beside], layout=w.Layout(grid_gap=GAP))
        return page(
            heading(name, self.config, title="Qwen3 thinking explorer"),
            self.controls.box(),
            self.alert,
            columns([left], along),
        )


def _is_thinking(state: ThinkingState) -> bool:
    """Whether the last token that came was of a thinking that goes on."""
    last = state.chips[-1] if state.chips else None
    if last is None:
        return state.asked_thinking
    return last.part == "thinking" and not last.forced and last.text != "</think>"
