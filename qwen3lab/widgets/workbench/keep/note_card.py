"""Notes in the card of the picked token: those on what is picked, and a field to write one."""

import html

import ipywidgets as w

from qwen3lab.translation import tr
from qwen3lab.widgets.components.error_display import sentence
from qwen3lab.widgets.explorers.controls import Bindings
from qwen3lab.widgets.workbench.keep.notes import KINDS, Kind, note_at
from qwen3lab.widgets.workbench.state import PICKS
from qwen3lab.widgets.workbench.views.view import ViewedBench


class NoteCard:
    """The notes on the picked token, head and expert, and a field with a button to write one.

    Args:
        bench: the workbench.
    """

    def __init__(self, bench: ViewedBench) -> None:
        self.bench, self.state, self.bindings = bench, bench.state, Bindings(bench.state)
        self.lines = w.HTML().add_class("q3-said-notes")
        self.on = w.Dropdown(
            options=[(tr(kind), kind) for kind in (KINDS if bench.config.is_moe else KINDS[:-1])],
            tooltip=tr("What the note is on: the picked token, head or expert"),
            layout=w.Layout(width="76px"),
        )
        self.text = w.Text(
            placeholder=tr("note on what is picked"),
            tooltip=tr("A short note; without text, the button removes the note"),
            layout=w.Layout(width="auto"),
        )
        self.button = w.Button(
            icon="pencil",
            tooltip=tr("Write the note; it is kept with the view"),
            layout=w.Layout(width="32px"),
        )
        self.row = w.Box([self.on, self.text, self.button]).add_class("q3-noting")
        self.button.on_click(lambda _: self.write())
        self.text.on_msg(lambda _, message, __: message.get("event") == "submit" and self.write())
        self.on.observe(lambda _: self.draw(), "value")
        self.bindings.watch(lambda _: self.draw(), [*PICKS, "notes", "recording"])
        self.draw()

    @property
    def kind(self) -> Kind:
        """What the next note is on."""
        return KINDS[self.on.index or 0]

    def write(self) -> None:
        """Write the note of the field on what is picked, or remove it if the field is empty."""
        try:
            self.bench.note(self.text.value, on=self.kind)
        except ValueError as error:
            self.state.pick_error = sentence(error)
        else:
            self.state.pick_error = ""

    def draw(self) -> None:
        """Show the notes on what is picked, and that of the chosen kind in the field."""
        here = {kind: note_at(self.state.notes, kind, self.state) for kind in KINDS}
        lines = [f"{note.name}{tr(': ')}{note.text}" for note in here.values() if note is not None]
        self.lines.value = "".join(
            f'<div class="q3-note-line">{html.escape(line)}</div>' for line in lines
        )
        note = here[self.kind]
        self.text.value = "" if note is None else note.text
