"""The plot widget without a browser: what it would send there, and what it makes of answers."""

import json

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from qwen3lab.widgets.components.plot import Plot


def line(*heights: float) -> go.Figure:
    return go.Figure(go.Scatter(y=heights), layout={"height": 200})


def test_the_page_is_sent_the_figure_that_is_shown() -> None:
    plot = Plot(line(1, 2))
    plot.show(line(3, 4, 5), kind="second")
    sent = json.loads(plot.figure)
    assert sent["data"][0]["y"] == [3, 4, 5]
    assert sent["layout"]["height"] == 200
    assert sent["layout"]["uirevision"] == "second"
    assert list(plot.shown.data[0].y) == [3, 4, 5]


def test_a_figure_that_is_shown_is_not_changed() -> None:
    figure = line(1, 2)
    Plot(figure).show(figure, kind="any")
    assert figure.layout.uirevision is None


def test_the_page_is_sent_plotly_itself_for_there_may_be_no_network(monkeypatch) -> None:
    sent: list[tuple[dict, list[bytes]]] = []
    monkeypatch.setattr(Plot, "send", lambda _, content, buffers: sent.append((content, buffers)))
    plot = Plot(line(1))
    assert plot.is_sent and len(sent) == 1
    plot._handle_custom_msg({"kind": "library"}, [])  # from a page that was loaded again
    assert [content for content, _ in sent] == [{"kind": "library"}] * 2
    assert all(code.decode() == get_plotlyjs() for _, (code,) in sent)
    assert f"plotly.js v{plot.version}" in get_plotlyjs()[:100]


def test_a_click_tells_its_position_and_anything_else_nothing() -> None:
    heard: list[float] = []
    plot = Plot(line(1, 2))
    plot.on_click(heard.append)
    for content in ({"kind": "click", "x": 7}, {"kind": "click", "x": "7"}, {"kind": "click"}, {}):
        plot._handle_custom_msg(content, [])
    assert heard == [7]
