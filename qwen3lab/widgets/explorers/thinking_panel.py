"""Widgets of the thinking explorer: panes that follow the state. Computes nothing."""

from collections.abc import Callable, Sequence

import ipywidgets as w

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.generation.reply import Chat
from qwen3lab.thinking.pieces import why_no_thinking
from qwen3lab.widgets.components.error_display import shows_drawing_errors
from qwen3lab.widgets.components.layout import GAP, card, columns, heading, page
from qwen3lab.widgets.explorers.controls import WIDE
from qwen3lab.widgets.explorers.replies import answers_html, mode_name
from qwen3lab.widgets.explorers.reply_panel import ReplyPanel
from qwen3lab.widgets.explorers.thinking_compute import marker_html, place_of, steps_html
from qwen3lab.widgets.explorers.thinking_state import ThinkingState

NO_THINKING = "Run a question with “think first” to see the answer at each point of the thinking."

MORE_THINKING = (
    "During the thinking: allow more tokens, and replace the next </think> by “Wait”. "
    "After the run: ask again, and replace one more </think>"
)


class ThinkingPanel(ReplyPanel):
    """Controls and reply, a slider that cuts the thinking, and the reply without thinking."""

    state: ThinkingState

    def __init__(
        self, name: str, config: Qwen3Config, state: ThinkingState, examples: Sequence[str]
    ) -> None:
        super().__init__(config, state, examples)
        self._make_controls()
        self.answer_here, self.table, self.replies = w.HTML(), w.HTML(), w.HTML()
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
        """Set the callbacks of the buttons and the slider."""
        self.stop_thinking.on_click(lambda _: stop_thinking())
        self.think_more.on_click(lambda _: think_more())
        self.everywhere.on_click(lambda _: everywhere())
        self.marker.observe(lambda change: move(change["new"]), "value")

    def _make_controls(self) -> None:
        self.stop_thinking = w.Button(
            description="Stop thinking now",
            icon="hand-paper-o",
            tooltip="Insert the early-stop sentence after the current token; the answer follows",
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
            tooltip="Keep this many thinking tokens, then answer",
            continuous_update=False,
            style=WIDE,
            layout=w.Layout(width="100%"),
        )
        self.everywhere = w.Button(
            description="Answer after every step",
            icon="list",
            tooltip="Generate the answer after each step of the thinking",
            layout=w.Layout(width="190px"),
        )

    def _follow(self) -> None:
        watch = self.bindings.watch
        watch(lambda _: self.enable(), ["status", "chips", "steps", "answering", "answers"])
        watch(lambda _: self.controls.enable(), ["answering"])
        watch(lambda _: self.draw_marker(), ["marker", "answers", "steps", "run"])
        watch(lambda _: self.draw_steps(), ["answers", "steps", "marker"])
        watch(lambda _: self.draw_replies(), ["direct_reply", "chat", "run"])

    @shows_drawing_errors
    def enable(self) -> None:
        """Disable the controls that have no effect now."""
        state = self.state
        thinks = state.status == "running" and _is_thinking(state)
        has_steps = state.status == "idle" and bool(self._steps())
        self.stop_thinking.disabled = not thinks
        self.stop_thinking.button_style = "warning" if thinks else ""
        self.think_more.disabled = not (thinks or has_steps)
        self.everywhere.disabled = self.marker.disabled = not has_steps or state.answering
        is_complete = all(step.kept in state.answers for step in self._steps())
        self.everywhere.layout.display = "none" if has_steps and is_complete else ""

    @shows_drawing_errors
    def draw_marker(self) -> None:
        """Show the answer at the marker."""
        state, steps, chat = self.state, self._steps(), self.state.current
        with self.lock:
            if chat is None or not steps or state.marker < 0:
                hint = NO_THINKING
                if chat is not None and not steps and chat.thinking_asked:
                    hint = f"No thinking: {why_no_thinking(chat)}."
                self.answer_here.value = f'<span class="q3-hint">{hint}</span>'
                self.transcript.marked = -1
                return
            self.marker.max = steps[-1].kept
            self.marker.value = state.marker
            answer = state.answers.get(state.marker)
            self.answer_here.value = marker_html(chat, steps, state.marker, answer)
            self.transcript.marked = place_of(steps, state.marker) - chat.spans["prompt"][1]

    @shows_drawing_errors
    def draw_steps(self) -> None:
        """Show the early answers, one row per step."""
        state, steps, chat = self.state, self._steps(), self.state.current
        with self.lock:
            self.table.value = (
                steps_html(steps, state.answers, state.marker, chat.answer)
                if state.answers and steps and chat is not None
                else ""
            )

    @shows_drawing_errors
    def draw_replies(self) -> None:
        """Show the replies with and without thinking side by side."""
        chat, replies = self.state.current, list[tuple[str, Chat]]()
        if chat is not None:
            replies.append(("this run", chat))
        if chat is not None and self.state.direct_reply is not None:
            direct = self.state.direct_reply
            replies.append((mode_name(direct, asked=False), direct))
        with self.lock:
            self.replies.value = answers_html(replies)

    def _steps(self) -> Sequence:
        """The steps of the latest run; empty while it goes on."""
        return self.state.steps if self.state.current is not None else ()

    def _arrange(self, name: str) -> w.VBox:
        wrap = w.Layout(flex_flow="row wrap", align_items="center", grid_gap="6px 10px")
        buttons = w.Box([self.stop_thinking, self.think_more], layout=wrap)
        conversation = card(
            "Conversation", "the thinking can be stopped or extended", buttons, self.transcript
        )
        replies = card("Replies", "this run, and one asked without thinking", self.replies)
        early_answers = card(
            "Early answers",
            "drag the slider to cut the thinking",
            self.marker,
            self.answer_here,
            w.Box([self.everywhere], layout=wrap),
            self.table,
        )
        left = w.VBox([conversation, replies], layout=w.Layout(grid_gap=GAP))
        return page(
            heading(name, self.config, title="Qwen3 thinking explorer"),
            self.controls.box(),
            self.alert,
            columns([left], early_answers),
        )


def _is_thinking(state: ThinkingState) -> bool:
    """True if the model has not finished thinking."""
    last = state.chips[-1] if state.chips else None
    if last is None:
        return state.asked_thinking
    return last.part == "thinking" and not last.forced and last.text != "</think>"
