"""The thinking view: stop or extend it, cut it at a marker, and see the answer there."""

from collections.abc import Sequence

import ipywidgets as w

from qwen3lab.generation.reply import Chat
from qwen3lab.thinking import Piece
from qwen3lab.thinking.pieces import why_no_thinking
from qwen3lab.translation import later, tr
from qwen3lab.widgets.components.error_display import shows_drawing_errors
from qwen3lab.widgets.components.picking import on_pick
from qwen3lab.widgets.components.thoughts import Thoughts
from qwen3lab.widgets.explorers.comparison import judge
from qwen3lab.widgets.explorers.controls import WIDE
from qwen3lab.widgets.explorers.replies import answers_html, mode_name
from qwen3lab.widgets.explorers.thinking_compute import (
    budget_html,
    cost_text,
    count_at,
    marker_html,
    missing,
)
from qwen3lab.widgets.explorers.thinking_state import ThinkingState
from qwen3lab.widgets.workbench.views.view import (
    View,
    column,
    pane,
    row,
    scroller,
    side_by_side,
)

NO_THINKING = later(
    "Run a question with “think first” to see the answer at each point of the thinking."
)
NO_REPLY = later(
    "A recording alone has no reply, so it has no thinking: ask a question with a lab."
)

MORE_THINKING = later(
    "During the thinking: allow more tokens, and replace the next </think> "
    "by “Wait”. After the run: ask again, and replace one more </think>"
)


class ThinkingPane(View):
    """The thinking with its budget, a marker that cuts it, and the answers at each point."""

    name, title = "thinking", later("Thinking")

    def build(self) -> Sequence[w.Widget]:
        """Make the buttons, the marker and the text."""
        self._make_controls()
        self.budget = w.HTML()
        self.answer_here, self.replies, self.thoughts = w.HTML(), w.HTML(), Thoughts()
        self.thoughts.add_class("q3-fill")
        self._follow()
        return self._arrange()

    def _make_controls(self) -> None:
        self.stop_thinking = w.Button(
            description=tr("Stop thinking now"),
            icon="hand-paper-o",
            tooltip=tr(
                "Insert the early-stop sentence after the current token; the answer follows"
            ),
            layout=w.Layout(width="170px"),
        )
        self.think_more = w.Button(
            description=tr("Think more"),
            icon="plus",
            tooltip=tr(MORE_THINKING),
            layout=w.Layout(width="130px"),
        )
        self.marker = w.IntSlider(
            min=0,
            max=1,
            description=tr("thinking tokens kept"),
            tooltip=tr("Keep this many thinking tokens, then answer"),
            continuous_update=False,
            style=WIDE,
            layout=w.Layout(width="100%"),
        )
        self.ask = w.Button(
            description=tr("Ask here"),
            icon="question",
            tooltip=tr("Generate the answer at the marker"),
            layout=w.Layout(width="110px"),
        )
        self.everywhere = w.Button(
            icon="list",
            tooltip=tr("Generate the answer after each step of the thinking that has none yet"),
            layout=w.Layout(width="auto"),
        )
        self.cancel = w.Button(
            description=tr("Cancel"),
            icon="times",
            button_style="warning",
            tooltip=tr("Stop the early answers; complete ones are kept"),
            layout=w.Layout(width="100px"),
        )
        part = self.bench.thinking
        self.stop_thinking.on_click(lambda _: part.stop_thinking())
        self.think_more.on_click(lambda _: part.think_more())
        self.ask.on_click(lambda _: part.ask_here())
        self.everywhere.on_click(lambda _: part.ask_everywhere())
        self.cancel.on_click(lambda _: part.cancel_answers())
        self.marker.observe(lambda change: part.move(change["new"]), "value")

    def _follow(self) -> None:
        asked = ["answers", "answering", "asking", "answer_error", "marker"]
        self.follow(self.draw_budget, ["status", "chips", "chat", "asked_budget"])
        self.follow(self.draw_thoughts, ["steps", "run"])
        self.follow(self.enable, ["status", "chips", "steps", *asked])
        self.follow(self.draw_answers, ["answers", "steps"])
        self.follow(self.draw_marker, ["steps", "run", "recording", *asked])
        self.follow(self.move_to_token, ["token"], locked=False)
        self.follow(self.draw_replies, ["direct_reply", "chat", "run"])
        on_pick(self.thoughts, "picked", self.bench.thinking.move)

    @shows_drawing_errors
    def draw_budget(self) -> None:
        """Show how much of the budget the thinking takes."""
        self.budget.value = budget_html(self.state)

    @shows_drawing_errors
    def enable(self) -> None:
        """Disable the controls that have no effect now, and hide those that have none here."""
        state = self.state
        thinks = state.status == "running" and _is_thinking(state)
        has_steps = state.status == "idle" and bool(self._steps()) and self.bench.asks
        self.stop_thinking.disabled = not thinks
        self.stop_thinking.button_style = "warning" if thinks else ""
        self.think_more.disabled = not (thinks or has_steps)
        self.everywhere.disabled = not has_steps or state.answering
        self.marker.disabled = not has_steps
        self._show_requests(has_steps)

    def _show_requests(self, has_steps: bool) -> None:
        """Show the buttons that ask for answers which are missing, or the one that cancels."""
        state, chat = self.state, self.state.current
        points = missing(self._steps(), state.answers)
        seconds = len(points) * state.pace * (chat.answer_tokens if chat is not None else 0)
        cost = f" ({cost_text(len(points), seconds)})" if has_steps else ""
        self.everywhere.description = tr("Answer after every step{cost}", cost=cost)
        can_ask = has_steps and not state.answering and state.marker not in state.answers
        for button, is_shown in (
            (self.ask, can_ask),
            (self.everywhere, not has_steps or (bool(points) and not state.answering)),
            (self.cancel, state.answering),
        ):
            button.layout.display = "" if is_shown else "none"

    @shows_drawing_errors
    def draw_thoughts(self) -> None:
        """Show the thinking of the latest run, and everything that belongs to it."""
        with self.lock:
            self.marker.max = max(1, self._last())
            self.thoughts.show(self.state.thoughts if self._steps() else ())

    @shows_drawing_errors
    def draw_marker(self) -> None:
        """Show the marker, and the answer there."""
        state, steps, chat = self.state, self._steps(), self.state.current
        with self.lock:
            if chat is None or not steps or state.marker < 0:
                hint = tr(NO_THINKING if self.bench.asks or chat is not None else NO_REPLY)
                if chat is not None and not steps and chat.thinking_asked:
                    hint = tr("No thinking: {why}.", why=why_no_thinking(chat))
                self.answer_here.value = f'<span class="q3-hint">{hint}</span>'
                return
            self.marker.value = self.thoughts.marker = state.marker
            self.thoughts.asking = state.asking
            self.answer_here.value = marker_html(
                chat,
                state.marker,
                self._last(),
                answer=state.answers.get(state.marker),
                is_asking=state.asking == state.marker,
                error=state.answer_error,
            )

    @shows_drawing_errors
    def draw_answers(self) -> None:
        """Show the early answers beside their steps."""
        chat = self.state.current
        final = chat.answer if chat is not None else ""
        with self.lock:
            self.thoughts.show_answers(
                {
                    kept: (answer.text or tr("(no answer)"), judge(answer.text, final).same)
                    for kept, answer in self.state.answers.items()
                }
            )

    def move_to_token(self) -> None:
        """Move the marker to the picked token, if it is in the thinking."""
        kept = count_at(self._steps(), self.state.thoughts, self.state.token)
        if self.state.token >= 0 and kept >= 0:
            self.bench.thinking.move(kept)

    @shows_drawing_errors
    def draw_replies(self) -> None:
        """Show the replies with and without thinking side by side."""
        chat, replies = self.state.current, list[tuple[str, Chat]]()
        if chat is not None:
            replies.append((tr("this run"), chat))
        if chat is not None and self.state.direct_reply is not None:
            direct = self.state.direct_reply
            replies.append((mode_name(direct, asked=False), direct))
        with self.lock:
            self.replies.value = answers_html(replies)

    def _steps(self) -> Sequence[Piece]:
        """The steps of the latest run; empty while it goes on."""
        return self.state.steps if self.state.current is not None else ()

    def _last(self) -> int:
        """Number of thinking tokens of the latest run."""
        steps = self._steps()
        return steps[-1].kept if steps else 0

    def _arrange(self) -> list[w.Widget]:
        left = pane(
            tr("Early answers"),
            tr("what would it answer at the marker?"),
            self.marker,
            self.thoughts,
            row(self.ask, self.everywhere, self.cancel),
        )
        here = pane(tr("At the marker"), tr("if the thinking ends there"), self.answer_here)
        replies = pane(
            tr("Replies"), tr("this run, and one without thinking"), scroller(self.replies)
        )
        buttons = row(self.stop_thinking, self.think_more, self.budget)
        return [buttons, side_by_side(left, column(here, replies), wide="first")]


def _is_thinking(state: ThinkingState) -> bool:
    """True if the model has not finished thinking."""
    last = state.chips[-1] if state.chips else None
    if last is None:
        return state.asked_thinking
    return last.part == "thinking" and not last.forced and last.text != "</think>"
