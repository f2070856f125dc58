"""The drawer of the workbench: saves and exports the view, and shows its Python code."""

import html
from collections.abc import Callable
from pathlib import Path

import ipywidgets as w

from qwen3lab.translation import tr
from qwen3lab.widgets.components.error_display import sentence
from qwen3lab.widgets.components.saver import Saver
from qwen3lab.widgets.explorers.controls import WIDE, Bindings
from qwen3lab.widgets.workbench.keep.restoring import SHOWN
from qwen3lab.widgets.workbench.views.view import ViewedBench, row

CODE_ROWS = 9


class KeepDrawer:
    """A button beside the tabs that opens a card over the stage: files of the view, and its code.

    Args:
        bench: the workbench.

    Attributes:
        open: the button.
        card: what it opens.
    """

    def __init__(self, bench: ViewedBench) -> None:
        self.bench, self.state, self.bindings = bench, bench.state, Bindings(bench.state)
        self.open = w.ToggleButton(
            description=tr("Keep"),
            icon="floppy-o",
            tooltip=tr("Save or export this view, or copy it as Python"),
        ).add_class("q3-keep-open")
        self.name = w.Text(
            "view",
            description=tr("name"),
            tooltip=tr("Name of the files, without ending; they are written beside the notebook"),
            continuous_update=False,
            style=WIDE,
        )
        self.code = w.Textarea(
            rows=CODE_ROWS, disabled=True, tooltip=tr("Python code that makes this view again")
        )
        self.said, self.saver = w.HTML(), Saver()
        self.buttons = [self._button(*each) for each in self._files()]
        self.card = self._arrange()
        self.open.observe(lambda _: self.draw(), "value")
        self.name.observe(lambda _: self.draw(), "value")
        self.saver.observe(lambda change: self.say(change["new"]), "said")
        self.bindings.watch(lambda _: self.draw(), [*SHOWN, "recording", "notes", "asked"])
        self.draw()

    def draw(self) -> None:
        """Show the card if it is open, with the code of the view."""
        self.card.layout.display = "" if self.open.value else "none"
        self.saver.name = self.name.value
        if self.open.value:
            self.code.value = self.saver.text = self.bench.code

    def write(self, ending: str, export: Callable[[Path], None]) -> None:
        """Write one file of the view, and say its name, or why it was not written."""
        name = self.name.value.strip()
        path = Path(f"{name}{ending}")
        try:
            if not name or name != Path(name).name or "\\" in name or name.startswith("."):
                raise ValueError(tr("the name of a file has no folder: type a word such as view"))
            export(path)
        except (ValueError, OSError) as error:
            self.say(sentence(error))
        else:
            self.say(tr("{path} is written in {cwd}.", path=path, cwd=Path.cwd()))

    def say(self, text: str) -> None:
        """Show what was done, in one line."""
        self.said.value = f'<div class="q3-hint" role="status">{html.escape(text)}</div>'

    def _files(self) -> list[tuple[str, str, str, Callable[[Path], None]]]:
        bench = self.bench
        reopened = tr("Save the view and its recording; Workbench.open_view opens them")
        offline = tr("One page of this run, which works without Python and without a network")
        return [
            (tr("Save view"), reopened, ".json", bench.save),
            (tr("HTML page"), offline, ".html", bench.export_html),
            ("CSV", tr("The numbers of the tab that is shown"), ".csv", bench.export_csv),
        ]

    def _button(
        self, text: str, tooltip: str, ending: str, export: Callable[[Path], None]
    ) -> w.Button:
        found = w.Button(description=text, tooltip=tooltip)
        found.on_click(lambda _: self.write(ending, export))
        return found

    def _arrange(self) -> w.VBox:
        title = w.HTML('<span class="q3-heading">' + tr("Keep this view") + "</span>")
        found = [title, self.name, row(*self.buttons), self.code, self.saver, self.said]
        return w.VBox(found).add_class("q3-card").add_class("q3-keep")
