"""A picture of the last view as plain HTML, which a saved notebook shows without a kernel."""

import base64
import html
import threading
import uuid
from typing import Any

import ipywidgets as w
import numpy as np
from IPython.core.getipython import get_ipython
from IPython.display import HTML, DisplayHandle

from qwen3lab.analysis.map_windows import window
from qwen3lab.errors import RecordingError
from qwen3lab.figures.scales import ScaleChoice
from qwen3lab.figures.theme import SEQUENTIAL, visible
from qwen3lab.recording.recording import Recording
from qwen3lab.translation import later, tr
from qwen3lab.widgets.components.error_display import shows_drawing_errors
from qwen3lab.widgets.explorers.attention_compute import text_page
from qwen3lab.widgets.explorers.chat_compute import token_notes
from qwen3lab.widgets.explorers.controls import Bindings
from qwen3lab.widgets.explorers.text_compute import Shades, of_reply
from qwen3lab.widgets.workbench.keep.notes import note_at, token_notes_of
from qwen3lab.widgets.workbench.keep.png import map_png
from qwen3lab.widgets.workbench.keep.restoring import KeptBench
from qwen3lab.widgets.workbench.state import PICKS, WorkbenchState

SECONDS_OF_REST = 0.6
"""The picture is made when nothing has changed for so long."""

MAX_SIDE = 320
"""Rows and columns of the map, in pixels."""

MAX_EXACT_TOKENS = 2_000
"""Longest text whose map is computed in full."""

HINT = later("The last view of the workbench, without Python. Run the cell to use it.")
WIDGET = "> .jp-OutputArea-output.lm-Panel"
"""In JupyterLab, the output of a widget alone is a panel, also where its model is gone."""


class StaticPicture:
    """A second output below the workbench, hidden while the workbench is alive.

    Args:
        bench: the workbench.

    Attributes:
        hider: a widget that hides the picture as long as it is on the page.
    """

    def __init__(self, bench: KeptBench) -> None:
        self.bench, self.state, self.bindings = bench, bench.state, Bindings(bench.state)
        self.name = f"q3-kept-{uuid.uuid4().hex[:12]}"
        style = f"<style>.{self.name} {{ display: none; }}</style>"
        self.hider = w.HTML(style, layout=w.Layout(display="none"))
        self.handle: DisplayHandle | None = None
        self.timer: threading.Timer | None = None
        self.lock = threading.Lock()

    def show(self) -> None:
        """Display the picture, empty before the first run, and make it again after changes."""
        if get_ipython() is None:
            return
        self.handle = DisplayHandle()
        self.handle.display(HTML(""))
        self.bindings.watch(self._later, [*PICKS, "recording", "notes", "colours"])
        self._later()

    @shows_drawing_errors
    def draw(self) -> None:
        """Make the picture of the state of now."""
        handle, recording = self.handle, self.state.shown
        if handle is not None and recording is not None:
            handle.update(HTML(picture_html(self.state, recording, self.name)))

    def close(self) -> None:
        """Make no further pictures; the last one stays in the notebook."""
        with self.lock:
            if self.timer is not None:
                self.timer.cancel()
            self.handle = None

    def _later(self, _: Any = None) -> None:
        with self.lock:
            if self.timer is not None:
                self.timer.cancel()
            if self.handle is None:
                return
            self.timer = threading.Timer(SECONDS_OF_REST, self.draw)
            self.timer.daemon = True
            self.timer.start()


def picture_html(state: WorkbenchState, recording: Recording, name: str) -> str:
    """The picture: the question, the shaded tokens, the picked token's values, the map.

    Styles stand in the elements: an untrusted notebook loses its style sheets.

    Args:
        state: of the workbench.
        recording: that it shows.
        name: class that the living workbench hides.
    """
    lines = [f"<i>{tr(HINT)}</i>"]
    if state.asked:
        lines.append(f"<b>{html.escape(state.asked)}</b>")
    shades = _surprisal(state, recording)
    lines.append(_tokens(state, recording, shades))
    if shades is not None:
        lines.append(html.escape(_about_shades(state, shades)))
    lines += map(html.escape, token_notes(recording, state.current, state))
    found = [note_at(state.notes, kind, state) for kind in ("token", "head", "expert")]
    lines += [
        html.escape(f"✎ {note.name}{tr(': ')}{note.text}") for note in found if note is not None
    ]
    body = "".join(
        f'<div style="margin: 4px 0">{line}</div>' for line in [*lines, _map(state, recording)]
    )
    return f'{_hides_the_error(name)}<div class="{name} q3-kept">{body}</div>'


def _tokens(state: WorkbenchState, recording: Recording, shades: Shades | None) -> str:
    """The tokens with their shades; the picked one has a frame."""
    first, end = text_page(recording, state.token)
    noted = token_notes_of(state.notes, recording)
    shares = _shares(state, recording, shades)
    found = []
    for at in range(first, end):
        style = f"background-color: rgba(230, 159, 0, {shares[at]:.2f})" if shares[at] else ""
        style += "; border: 2px solid #d55e00" if at == state.token else ""
        mark = "<sup>✎</sup>" if str(at) in noted else ""
        tip = html.escape(tr("token {at}", at=at))
        text = html.escape(visible(recording.tokens[at]))
        found.append(f'<span style="{style}" title="{tip}">{text}{mark}</span><wbr>')
        found.append("<br>" if "\n" in recording.tokens[at] else "")
    return f'<code style="line-height: 1.8">{"".join(found)}</code>'


def _surprisal(state: WorkbenchState, recording: Recording) -> Shades | None:
    """Surprisal of each token; None where it is not known."""
    try:
        return of_reply(recording, state.current, "surprisal")
    except RecordingError:  # The logits were not recorded.
        return None


def _shares(state: WorkbenchState, recording: Recording, shades: Shades | None) -> list[float]:
    """How dark each token is, from 0 to 1; 0 where nothing is known."""
    if shades is None:
        return [0.0] * len(recording)
    places = shades.scale(state.colours).places(shades.values.double().numpy())
    return np.nan_to_num(places).tolist()


def _about_shades(state: WorkbenchState, shades: Shades) -> str:
    """What the shades are, and their scale if there is something to say of it."""
    note = shades.scale(state.colours).note()
    colours = tr("; colours: {note}", note=note) if note else ""
    return tr("shaded by {title}{colours}", title=shades.title, colours=colours)


def _map(state: WorkbenchState, recording: Recording) -> str:
    """The attention map of the picked head, as a picture in the page."""
    if state.layer not in recording.attention.layers:
        return ""
    sampled = len(recording) > MAX_EXACT_TOKENS
    shown = window(recording, state.layer, state.head, max_side=MAX_SIDE, sampled=sampled)
    scale = ScaleChoice.named(state.colours).scale(shown.values)
    data = base64.b64encode(map_png(shown.values, scale, SEQUENTIAL)).decode()
    title = tr("Attention of layer {layer}, head {head}", layer=state.layer, head=state.head)
    note = tr("; colours: {note}", note=scale.note()) if scale.note() else ""
    about = tr("{title}, queries downwards, keys to the right{note}", title=title, note=note)
    return (
        f'{about}<br><img alt="{title}" width="320" '
        f'src="data:image/png;base64,{data}" style="image-rendering: pixelated">'
    )


def _hides_the_error(name: str) -> str:
    """A style that hides "model not found" of the workbench that is gone, not a living one."""
    area = f".jp-OutputArea:has(.{name}):not(:has(.q3-bench))"
    return f"<style>{area} > .jp-OutputArea-child:has({WIDGET}) {{ display: none; }}</style>"
