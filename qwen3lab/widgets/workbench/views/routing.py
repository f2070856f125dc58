"""The routing view: a layer's map, one token in every layer, one expert, and the load."""

import html
from collections.abc import Sequence

import ipywidgets as w

from qwen3lab.generation.reply import Chat
from qwen3lab.translation import later, tr
from qwen3lab.widgets.components.canvas import Canvas
from qwen3lab.widgets.components.error_display import shows_drawing_errors
from qwen3lab.widgets.components.number_picker import NumberPicker
from qwen3lab.widgets.components.picking import on_pick
from qwen3lab.widgets.explorers.chat_compute import DENSE, routing_heatmap
from qwen3lab.widgets.explorers.controls import Pickers
from qwen3lab.widgets.explorers.replies import answers_html
from qwen3lab.widgets.explorers.routing_compute import (
    chips_html,
    comparison_note,
    experts_by_layer_heatmap,
    load_heatmap,
    routed_summary,
    routed_tokens,
    router_notes,
)
from qwen3lab.widgets.workbench.changes import UNCHANGED
from qwen3lab.widgets.workbench.state import answers
from qwen3lab.widgets.workbench.views.view import (
    WAITING,
    View,
    column,
    pane,
    row,
    scroller,
    side_by_side,
)

NO_TOKEN = later("Click a token to see its experts in every layer.")
NO_EXPERT = later("Click an expert in a plot to see the tokens routed to it.")


class RoutingPane(View):
    """The experts of the picked token, the tokens of the picked expert, and the load of all."""

    name, title = "routing", later("Routing")

    def build(self) -> Sequence[w.Widget]:
        """Make the maps, the pickers and the buttons."""
        config = self.config
        self.pickers = Pickers(self.state, config, self.follow)
        self.parts = [self.pickers]
        self.expert = NumberPicker(
            tr("expert"),
            range(-1, max(1, config.n_experts)),
            tr("Expert of the layer; -1 for none"),
        )
        self.bindings.bind("expert", self.expert, follow=self.follow)
        layers = len(config.moe_layers)
        self.routing = Canvas(height=max(130, min(460, 60 + 3 * config.n_experts)), fills=True)
        least = max(110, min(400, 60 + 3 * layers))
        self.by_layer = Canvas(height=least, fills=True)
        self.load = Canvas(height=least, fills=True)
        self.colours = self.follow_colours(self.routing, self.by_layer, self.load)
        self._make_controls()
        self._make_texts()
        self._follow()
        return self._arrange()

    def close(self) -> None:
        """Take every widget out of the page, and follow no computation."""
        self.bench.experts.on_effect = lambda: None
        super().close()

    def _make_controls(self) -> None:
        self.compare = w.Button(
            description=tr("Compare …"),
            icon="columns",
            tooltip=tr(
                "Compare this run with another mode, budget, question or model, in its own tab"
            ),
            layout=w.Layout(width="120px"),
        )
        self.compare.on_click(lambda _: setattr(self.state, "tab", "compare"))
        self.switch = w.Button(
            icon="power-off",
            tooltip=tr("Switch this expert off or on, and ask the same question again"),
            layout=w.Layout(width="200px"),
        )
        self.write = w.Button(
            description=tr("Direct logit effect"),
            icon="pencil",
            tooltip=tr(
                "The next tokens that its mean output in this run makes more or less likely"
            ),
            layout=w.Layout(width="160px"),
        )
        experts = self.bench.experts
        self.switch.on_click(lambda _: experts.switch())
        self.write.on_click(lambda _: experts.write())
        experts.on_effect = self.draw_effect

    def _make_texts(self) -> None:
        self.routed, self.logit_effect = w.HTML(), w.HTML()
        self.replies, self.note = w.HTML(), w.HTML()

    def _follow(self) -> None:
        run = ["recording", "run"]
        self.follow(self.draw_routing, ["recording", "routing_layer"])
        self.follow(self.draw_token, [*run, "token"])
        self.follow(self.draw_expert, [*run, "expert", "routing_layer"])
        self.follow(self.draw_effect, [])
        self.follow(self.enable_switches, [*run, "expert", "routing_layer", "changes", "status"])
        self.follow(self.draw_load, ["recording", "other", "baseline"])
        self.follow(self.draw_answers, ["recording", "baseline"])
        self.follow(self.mark_token, [*run, "token", "expert"])
        self.follow(self.mark_layer, [*run, "token", "routing_layer", "expert"])
        on_pick(self.routing, "selected", lambda cell: self.pick_token_and_expert(*cell))
        on_pick(self.by_layer, "selected", lambda cell: self.pick_expert(*cell))
        on_pick(self.load, "selected", lambda cell: self.pick_expert(*cell))

    @shows_drawing_errors
    def draw_routing(self) -> None:
        """Draw the routing of the picked layer."""
        recording = self.state.recording
        if not self.config.is_moe:
            self.routing.show_nothing(tr(DENSE))
        elif recording is None:
            self.routing.show_nothing(tr(WAITING))
        else:
            self.routing.show(routing_heatmap(recording, self.state.routing_layer))

    @shows_drawing_errors
    def draw_token(self) -> None:
        """Draw the picked token's experts in every layer."""
        recording, token = self.state.shown, self.state.token
        if recording is None or token < 0 or not self.config.is_moe:
            self.by_layer.show_nothing(tr(NO_TOKEN if self.config.is_moe else DENSE))
        else:
            self.by_layer.show(experts_by_layer_heatmap(recording, token))

    def choice(self) -> str:
        """The picked token's experts in the picked layer, with router entropy and margin."""
        recording, token = self.state.shown, self.state.token
        if recording is None or token < 0 or not self.config.is_moe:
            return ""
        return "\n".join(router_notes(recording, token, self.state.routing_layer))

    @shows_drawing_errors
    def draw_expert(self) -> None:
        """Show the tokens routed to the picked expert, in this run and in the corpus."""
        recording = self.state.shown
        layer, expert = self.state.routing_layer, self.state.expert
        if recording is None or expert < 0:
            self.routed.value = f'<span class="q3-hint">{tr(NO_EXPERT)}</span>'
            return
        name = tr("Expert {expert} of layer {layer}", expert=expert, layer=layer)
        in_corpus = tr("in the corpus, with share of occurrences routed here")
        chips = chips_html(routed_tokens(recording, layer, expert))
        self.routed.value = (
            f"<div><b>{name}</b>{tr(': ')}{routed_summary(recording, layer, expert)}</div>"
            f'<div class="q3-hint">{tr("in this run, with routing weight")}</div>{chips}'
            f'<div class="q3-hint">{in_corpus}</div>'
            f"{self.bench.experts.routed_in_corpus(layer, expert)}"
        )

    def draw_effect(self) -> None:
        """Show what the picked expert writes, if that was computed."""
        self.logit_effect.value = self.bench.experts.logit_effect

    def enable_switches(self) -> None:
        """Set labels and states of the buttons for the picked expert."""
        state = self.state
        has_expert = state.shown is not None and state.expert >= 0 and self.bench.asks
        self.switch.disabled = self.write.disabled = state.status != "idle" or not has_expert
        is_off = state.is_off(state.routing_layer, state.expert)
        on, off = tr("Switch on and ask again"), tr("Switch off and ask again")
        self.switch.description = on if is_off else off
        colour = "success" if is_off else "warning"
        self.switch.button_style = "" if self.switch.disabled else colour

    @shows_drawing_errors
    def draw_load(self) -> None:
        """Draw the load of every expert, or its difference from a second run."""
        recording, other = self.state.recording, self._second()
        if recording is None or not self.config.is_moe:
            self.load.show_nothing(tr(WAITING if self.config.is_moe else DENSE))
            return
        name = (
            tr("the run {unchanged}", unchanged=tr(UNCHANGED))
            if other is self.state.baseline
            else self.state.other_name
        )
        reference = other.recording if other is not None else None
        self.load.show(load_heatmap(recording, reference, name))
        note = comparison_note(recording, reference) if reference is not None else ""
        self.note.value = f'<span class="q3-hint">{html.escape(note)}</span>'

    def _second(self) -> Chat | None:
        """The reply of the compare tab, if its model has the same experts, or the baseline."""
        other = self.state.other
        if other is None or other.recording is None:
            return self.state.baseline
        sizes = [
            (each.moe_layers, each.n_experts) for each in (self.config, other.recording.config)
        ]
        return other if sizes[0] == sizes[1] else self.state.baseline

    @shows_drawing_errors
    def draw_answers(self) -> None:
        """Show the replies side by side, if there are several."""
        found = answers(self.state)
        self.replies.value = answers_html(found) if len(found) > 1 else ""

    def mark_token(self) -> None:
        """Mark the picked token and expert on the layer's map."""
        self.routing.marked = [self.state.expert, self.state.token]

    @shows_drawing_errors
    def mark_layer(self) -> None:
        """Mark the picked layer and expert, and say the choice of the layer's router."""
        state, layers = self.state, self.config.moe_layers
        row = layers.index(state.routing_layer) if state.routing_layer in layers else -1
        with self.by_layer.hold_sync():
            self.by_layer.marked, self.by_layer.caption = [row, state.expert], self.choice()
        self.load.marked = [row, state.expert]

    def pick_token_and_expert(self, expert: int, token: int) -> None:
        """Pick the token and the expert of a clicked cell."""
        if self.state.shown is not None and min(expert, token) >= 0:
            with self.state.hold_trait_notifications():
                self.state.token, self.state.expert = token, expert

    def pick_expert(self, row: int, expert: int) -> None:
        """Pick an expert of a layer, given the row of the layer."""
        if self.state.shown is not None and min(row, expert) >= 0:
            with self.state.hold_trait_notifications():
                self.state.routing_layer = self.config.moe_layers[row]
                self.state.expert = expert

    def _arrange(self) -> list[w.Widget]:
        comparison = row(self.colours, self.compare)
        layer = pane(
            tr("Expert routing"), tr("each column: the experts of one token"), self.routing
        )
        load = pane(tr("Load"), tr("each row: one layer; click an expert"), self.load, self.note)
        token = pane(tr("Selected token"), tr("its experts in every layer"), self.by_layer)
        expert = pane(
            tr("Selected expert"),
            tr("the tokens routed to it"),
            row(self.switch, self.write),
            scroller(self.logit_effect, self.replies, self.routed),
        )
        pickers = row(self.pickers.routing_layer, self.expert)
        return [
            row(pickers, comparison),
            side_by_side(column(layer, load), column(token, expert)),
        ]
