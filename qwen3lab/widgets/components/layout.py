"""Page layout of the explorers: headings, cards, two columns if the page is wide enough."""

import html
from collections.abc import Sequence
from pathlib import Path

import ipywidgets as w

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.translation import tr, tr_count

GAP = "12px"
STYLE = "\n".join(
    (Path(__file__).parent / name).read_text("utf-8")
    for name in ("style.css", "answers.css", "workbench.css", "find.css")
)


def heading(name: str, config: Qwen3Config, *, title: str = "") -> w.HTML:
    """The title, with the model's name and sizes."""
    parts = [
        _model_name(name),
        tr_count("{n} layer", "{n} layers", config.n_layers),
        tr_count("{n} head", "{n} heads", config.n_heads),
    ]
    if config.is_moe:
        parts.append(
            tr(
                "{n_experts} experts, {n_experts_per_token} active",
                n_experts=config.n_experts,
                n_experts_per_token=config.n_experts_per_token,
            )
        )
    parts.append(tr("{n_params:,.1f} M parameters", n_params=config.n_params / 1e6))
    head = f'<span class="q3-title">{title or tr("Qwen3 explorer")}</span>'
    sizes = " · ".join(parts[1:])
    about = f"{parts[0]} · {sizes}"
    return w.HTML(f'{head}<span title="{sizes}" class="q3-subtitle">{about}</span>')


def _model_name(name: str) -> str:
    """A model's name; of a folder its last part, with the whole path on hover."""
    if not Path(name).is_absolute():
        return html.escape(name)
    return f'<span title="{html.escape(name)}">{html.escape(Path(name).name)}</span>'


def card(
    title: str,
    hint: str,
    *body: w.Widget,
    pickers: Sequence[w.Widget] = (),
    grows: bool = False,
) -> w.VBox:
    """A frame with a title, a hint, pickers and a body.

    Args:
        title: heading of the card.
        hint: one line that says what the card shows or how to use it.
        body: widgets of the card, from the top.
        pickers: controls that choose what the card shows, to the right of the title.
        grows: True if the card fills the free height of its column.
    """
    text = f'<span class="q3-heading">{title}</span> <span class="q3-hint">{hint}</span>'
    wrap = w.Layout(flex_flow="row wrap", align_items="center", justify_content="space-between")
    head = w.Box([w.HTML(text), w.Box(list(pickers))], layout=wrap)
    layout = w.Layout(flex="1 1 auto" if grows else "0 0 auto")
    return w.VBox([head, *body], layout=layout).add_class("q3-card")


def columns(left: Sequence[w.Widget], right: w.Widget) -> w.GridBox:
    """Two columns of equal width; stacked if the page is narrow."""
    stack = w.VBox(list(left), layout=w.Layout(grid_gap=GAP))
    template = "repeat(auto-fit, minmax(min(440px, 100%), 1fr))"
    return w.GridBox([stack, right], layout=w.Layout(grid_template_columns=template, grid_gap=GAP))


def page(*rows: w.Widget) -> w.VBox:
    """The whole explorer: rows from the top, with the style sheet."""
    style = w.HTML(f"<style>{STYLE}</style>", layout=w.Layout(display="none"))
    return w.VBox([style, *rows]).add_class("q3-explorer")


class Alert(w.HTML):
    """A box that shows one error message as plain text; hidden without a message."""

    def __init__(self) -> None:
        super().__init__(layout=w.Layout(display="none"))

    def say(self, message: str) -> None:
        """Show the message, or hide the box if it is empty."""
        escaped = html.escape(message)
        self.value = f'<div class="q3-alert" role="alert">{escaped}</div>' if message else ""
        self.layout.display = "" if message else "none"


def close_tree(widget: w.Widget) -> None:
    """Close a widget, its children, and their layout and style widgets."""
    for child in getattr(widget, "children", ()):
        close_tree(child)
    for name in ("layout", "style"):
        part = getattr(widget, name, None)
        if isinstance(part, w.Widget):
            part.close()
    widget.close()


def close_widgets_of(*owners: object) -> None:
    """Close all widgets that are attributes of these objects, displayed or not."""
    for owner in owners:
        for value in vars(owner).values():
            if isinstance(value, w.Widget):
                close_tree(value)
