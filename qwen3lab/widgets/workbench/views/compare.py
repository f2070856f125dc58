"""The compare view: the run beside a second one, their texts and a map of what differs."""

import html
from collections.abc import Sequence

import ipywidgets as w

from qwen3lab.analysis.alignment import Alignment
from qwen3lab.translation import later, tr
from qwen3lab.widgets.components.canvas import Canvas
from qwen3lab.widgets.components.error_display import shows_drawing_errors
from qwen3lab.widgets.components.layout import Alert
from qwen3lab.widgets.components.picking import on_pick
from qwen3lab.widgets.explorers.compare_compute import (
    aligned_note,
    difference_heatmap,
    page_of,
    pair_note,
    texts_html,
)
from qwen3lab.widgets.explorers.compare_state import (
    ATTENTION,
    BY_SPANS,
    BY_TOKENS,
    COMPARE,
    COMPARED,
    NOTHING,
    OTHER_BUDGET,
    OTHER_MODEL,
    OTHER_QUESTION,
    PREDICTION,
    ROUTING,
    WITHOUT_CHANGES,
)
from qwen3lab.widgets.explorers.controls import WIDE, Pickers
from qwen3lab.widgets.workbench.views.view import (
    WAITING,
    View,
    pane,
    row,
    scroller,
    show_only,
    side_by_side,
)

CHOOSE = later("Choose above what to compare the run with.")
ASK_QUESTION = later("Type the other question above, and press Enter.")
NO_LAB = later(
    "There is no model to ask: create the workbench with a lab, or show a reply you have."
)
NO_SECOND_RUN = later("There is no second run.")
NO_PAIR = later("No token of one run is in the other.")


class ComparePane(View):
    """What to compare with, the words of both replies, and a signed map of what differs."""

    name, title = "compare", later("Compare")

    def build(self) -> Sequence[w.Widget]:
        """Make the menus, the texts and the map."""
        self._lists, self._page = False, (0, 0)  # First and end of the aligned tokens shown.
        self._make_choice()
        self._make_map()
        self.problem, self.texts, self.note, self.pair = Alert(), w.HTML(), w.HTML(), w.HTML()
        self._follow()
        return self._arrange()

    def _make_choice(self) -> None:
        self.compare = w.Dropdown(
            description=tr("compare with"),
            tooltip=tr("What differs in the second run; it is made again after each run"),
            style=WIDE,
            layout=w.Layout(width="270px"),
        )
        self.budget = w.BoundedIntText(
            min=0,
            max=max(self.state.longest_budget, self.state.compare_budget),
            description=tr("budget"),
            tooltip=tr("Thinking tokens of the second run before its early stop"),
            continuous_update=False,
            style=WIDE,
            layout=w.Layout(width="130px"),
        )
        self.question = w.Text(
            placeholder=tr("Type the other question and press Enter"),
            tooltip=tr("The question of the second run"),
            continuous_update=False,
            layout=w.Layout(flex="1 1 240px", width="auto"),
        )
        self.model = w.Dropdown(
            options=[(name, name) for name in self.bench.others],
            description=tr("model"),
            tooltip=tr("The model of the second run"),
            style=WIDE,
            layout=w.Layout(width="260px"),
        )
        self.again = w.Button(
            icon="refresh",
            tooltip=tr("Make the second run again, or stop it"),
            layout={"width": "130px"},
        )
        self.bindings.bind("compare_budget", self.budget)
        self.bindings.bind("other_question", self.question)
        self.bindings.bind("compare_model", self.model)
        self.compare.observe(lambda change: self.choose(change["new"]), "value")
        self.again.on_click(lambda _: self.run_or_stop())

    def _make_jump(self) -> None:
        self.most = w.Button(
            description=tr("largest change"),
            icon="arrow-up",
            tooltip=tr("Pick the token whose prediction differs most; again, the next one"),
            layout=w.Layout(width="150px"),
        )
        self.most.on_click(lambda _: self.bench.compare.jump())
        self.changed = w.HTML()
        self.follow(self.draw_changed, ["changed_most"])

    def draw_changed(self) -> None:
        """Say which token's prediction differs most."""
        said = html.escape(self.state.changed_most)
        self.changed.value = f'<span class="q3-jumped" role="status">{said}</span>'

    def _make_map(self) -> None:
        self._make_jump()
        self.pickers = Pickers(self.state, self.config, self.follow)
        self.parts = [self.pickers]
        offered = [each for each in COMPARED if self.config.is_moe or each != ROUTING]
        self.compared = w.Dropdown(
            options=[(tr(each), each) for each in offered],
            tooltip=tr(
                "What the map shows the difference of; KL: divergence of the next-token "
                "distributions"
            ),
            layout=w.Layout(width="165px"),
        )
        self.align = w.Dropdown(
            options=[(tr("by token"), BY_TOKENS), (tr("by span"), BY_SPANS)],
            description=tr("aligned"),
            tooltip=tr(
                "By token: a longest common subsequence, and what was replaced between; "
                "by span: prompt, thinking and answer, each from its start"
            ),
            style=WIDE,
            layout=w.Layout(width="150px"),
        )
        self.bindings.bind("compared", self.compared)
        self.bindings.bind("align", self.align)
        self.map = Canvas(height=160, fills=True)
        self.colours = self.follow_colours(self.map)

    def _follow(self) -> None:
        run = ["recording", "run", "other"]
        progress = ["comparing", "compared_tokens", "compare_problem", "status"]
        picks = ["compared", "layer", "head", "routing_layer", "align"]
        asked = ["compare", "other_question"]
        self.follow(self.list_kinds, ["compare", "asked_changes"])
        self.follow(
            self.enable, ["compare", "compared", "comparing", "status", "chat", "run", "other"]
        )
        self.follow(self.draw_texts, ["chat", *run])
        self.follow(self.draw_map, [*run, *picks, *progress, *asked])
        self.follow(self.turn_page, ["token"])
        self.follow(self.mark, [*run, "token", "compared", "align", "expert", "routing_layer"])
        self.follow(self.draw_problem, ["compare_problem"])
        on_pick(self.map, "selected", lambda cell: self.pick(*cell))

    def list_kinds(self) -> None:
        """Offer what the run can be compared with; what is chosen stays in the list."""
        state = self.state
        lacks = {
            WITHOUT_CHANGES: not state.asked_changes,
            OTHER_MODEL: not self.bench.others,
        }
        offered = [each for each in COMPARE if each == state.compare or not lacks.get(each)]
        self._lists = True  # Another list chooses its first item: that is no choice of a person.
        options = tuple((tr(each), each) for each in offered)
        if self.compare.options != options:
            self.compare.options = options
        self.compare.value = state.compare
        self._lists = False

    def choose(self, kind: str | None) -> None:
        """Compare the run with something else."""
        if kind and not self._lists:
            self.state.compare = kind

    def run_or_stop(self) -> None:
        """Make the second run again; stop it if it goes on."""
        compare = self.bench.compare
        (compare.stop if self.state.comparing else compare.start)()

    def enable(self) -> None:
        """Show the controls that the choices need."""
        state = self.state
        show_only(state.compare == OTHER_BUDGET, self.budget)
        show_only(state.compare == OTHER_QUESTION, self.question)
        show_only(state.compare == OTHER_MODEL, self.model)
        show_only(state.compare != NOTHING, self.again)
        self.again.description = tr("Stop") if state.comparing else tr("Run the other")
        self.again.icon = "stop" if state.comparing else "refresh"
        self.again.disabled = not self.bench.asks or state.current is None
        self.most.disabled = state.other is None
        show_only(state.compared == ATTENTION, self.pickers.layer, self.pickers.head)
        show_only(state.compared == ROUTING, self.pickers.routing_layer)

    @shows_drawing_errors
    def draw_texts(self) -> None:
        """Show both replies, marked where their words differ."""
        state, chat = self.state, self.state.current
        if chat is None or state.other is None:
            self.texts.value = f'<span class="q3-hint">{tr("The two replies appear here.")}</span>'
        else:
            self.texts.value = texts_html(
                [(state.this_name, chat), (state.other_name, state.other)]
            )

    @shows_drawing_errors
    def draw_map(self) -> None:
        """Draw the difference, or say why there is none."""
        missing = self._missing()
        if missing:
            self._say(missing)
            return
        try:
            aligned, found = self.bench.compare.alignment(), self.bench.compare.difference()
        except ValueError as error:  # What two runs do not share, or lack.
            self._say(tr("{text}.", text=f"{str(error)[:1].upper()}{str(error)[1:]}"))
            return
        if aligned is None or found is None or not len(aligned):
            self._say(NO_PAIR)
            return
        self._page = page_of(aligned, self.state.token)
        self.map.show(difference_heatmap(found, self._page[0]))
        note = html.escape(aligned_note(aligned, self._page))
        self.note.value = f'<span class="q3-hint">{note}</span>'

    def turn_page(self) -> None:
        """Draw the page of the picked token, if it is another one."""
        aligned = self._aligned()
        if aligned is not None and page_of(aligned, self.state.token) != self._page:
            self.draw_map()

    @shows_drawing_errors
    def mark(self) -> None:
        """Mark the picked token on the map, and say what it corresponds to."""
        state, aligned = self.state, self._aligned()
        self.pair.value = ""
        if aligned is None or self.map.heatmap is None:
            return
        place = aligned.place_of(state.token) if state.token >= 0 else -1
        rows = {ATTENTION: [place, -1], ROUTING: [state.expert, place], PREDICTION: [-1, place]}
        self.map.marked = rows[state.compared]
        note = html.escape(pair_note(aligned, state.token))
        self.pair.value = f'<div class="q3-notes">{note}</div>'

    def draw_problem(self) -> None:
        """Say why there is no second run."""
        self.problem.say(self.state.compare_problem)

    def pick(self, row: int, column: int) -> None:
        """Pick the token of a clicked cell: of attention the query, of routing its expert, too."""
        aligned = self._aligned()
        if aligned is None or min(row, column) < 0:
            return
        place = row if self.state.compared == ATTENTION else column
        if place >= len(aligned):
            return  # A click on the map of the run before.
        with self.state.hold_trait_notifications():
            self.state.token = aligned.pairs[place][0]
            if self.state.compared == ROUTING:
                self.state.expert = row

    def _aligned(self) -> Alignment | None:
        """The two runs; None while there is only one, or where they cannot be aligned."""
        try:
            return self.bench.compare.alignment()
        except ValueError:
            return None

    def _missing(self) -> str:
        """What is missing for a map; empty if there is all."""
        state = self.state
        if state.shown is None:
            return WAITING
        if state.other is not None:
            return ""
        if state.comparing:
            return tr(
                "Running the other one: {n:,} tokens so far …",
                n=state.compared_tokens,
            )
        if not self.bench.asks:
            return NO_LAB
        if state.compare == NOTHING:
            return CHOOSE
        if state.compare == OTHER_QUESTION and not state.other_question.strip():
            return ASK_QUESTION
        return NO_SECOND_RUN

    def _say(self, text: str) -> None:
        self.map.show_nothing(tr(text))
        self.note.value = ""

    def _arrange(self) -> list[w.Widget]:
        choice = row(self.compare, self.budget, self.question, self.model, self.again, self.colours)
        texts = pane(tr("Replies"), tr("what differs is marked"), scroller(self.texts))
        tools = row(
            self.compared,
            self.pickers.layer,
            self.pickers.head,
            self.pickers.routing_layer,
            self.most,
            self.changed,
        )
        body = (tools, self.map, self.note, self.pair)
        differs = pane(tr("Difference"), tr("click a cell"), *body, tools=[self.align])
        return [choice, self.problem, side_by_side(texts, differs, wide="last")]
