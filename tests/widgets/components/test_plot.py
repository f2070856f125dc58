"""The plot widget without a browser: messages to the page and from it."""

import json

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from qwen3lab.widgets.components.plot import Plot


def line(*heights: float) -> go.Figure:
    return go.Figure(go.Scatter(y=heights), layout={"height": 200})


def test_show_sends_the_figure_to_the_page() -> None:
    plot = Plot(line(1, 2))
    plot.show(line(3, 4, 5), kind="second")
    sent = json.loads(plot.figure)
    assert sent["data"][0]["y"] == [3, 4, 5]
    assert sent["layout"]["height"] == 200
    assert sent["layout"]["uirevision"] == "second"
    assert list(plot.shown.data[0].y) == [3, 4, 5]


def test_showing_a_figure_does_not_change_it() -> None:
    figure = line(1, 2)
    Plot(figure).show(figure, kind="any")
    assert figure.layout.uirevision is None


def test_plotly_js_is_sent_to_the_page_so_that_no_network_is_needed(monkeypatch) -> None:
    sent: list[tuple[dict, list[bytes]]] = []
    monkeypatch.setattr(Plot, "send", lambda _, content, buffers: sent.append((content, buffers)))
    plot = Plot(line(1))
    assert plot.is_sent and len(sent) == 1
    plot._handle_custom_msg({"kind": "library"}, [])  # from a reloaded page
    assert [content for content, _ in sent] == [{"kind": "library"}] * 2
    assert all(code.decode() == get_plotlyjs() for _, (code,) in sent)
    assert f"plotly.js v{plot.version}" in get_plotlyjs()[:100]


def test_a_click_calls_the_handler_and_malformed_messages_do_not() -> None:
    clicks: list[float] = []
    plot = Plot(line(1, 2))
    plot.on_click(clicks.append)
    for content in ({"kind": "click", "x": 7}, {"kind": "click", "x": "7"}, {"kind": "click"}, {}):
        plot._handle_custom_msg(content, [])
    assert clicks == [7]


def test_a_click_on_an_axis_of_names_calls_the_handler_with_the_name() -> None:
    names: list[str] = []
    plot = Plot(line(1, 2))
    plot.on_name(names.append)
    for content in ({"kind": "click", "x": "head 3.0"}, {"kind": "click", "x": 7}, {}):
        plot._handle_custom_msg(content, [])
    assert names == ["head 3.0"]
