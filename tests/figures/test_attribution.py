"""Figures of direct attribution sum to the logit, and hold the parts that they were given."""

import pytest

from qwen3lab import figures
from qwen3lab.attribution.direct import DirectAttribution, Part

PARTS = (
    Part("embedding", None, None, 0.5),
    Part("head", 0, 0, 1.0),
    Part("head", 0, 1, -2.0),
    Part("mlp", 0, None, 0.25),
    Part("head", 1, 0, 4.0),
    Part("head", 1, 1, 0.125),
    Part("expert", 1, 7, -1.5),
    Part("expert", 1, 9, 3.0),
    Part("remainder", None, None, -0.25),
)
TOTAL = 5.125
DIRECT = DirectAttribution("<b>", "logit “<i>”", 3, "=<u>", PARTS, TOTAL)


def test_a_waterfall_has_the_strongest_parts_in_order_the_rest_and_the_total():
    (trace,) = figures.attribution_waterfall(DIRECT, most=3).data
    assert list(trace.x) == ["head 0.1", "head 1.0", "expert 1.9", "6 other parts", "total"]
    assert list(trace.y[:-1]) == pytest.approx([-2.0, 4.0, 3.0, 0.125])
    assert list(trace.measure) == [*["relative"] * 4, "total"]
    assert sum(trace.y) == pytest.approx(TOTAL) and trace.text[-1] == "5.12"


def test_a_waterfall_of_all_parts_has_no_rest():
    (trace,) = figures.attribution_waterfall(DIRECT).data
    assert list(trace.x) == [*(part.name for part in PARTS), "total"]


def test_layers_are_stacks_of_heads_and_mlps_or_experts():
    figure = figures.attribution_layers(DIRECT)
    bars = {bar.name: dict(zip(bar.x, bar.y, strict=True)) for bar in figure.data}
    assert bars == {
        "embedding": {"embedding": 0.5},
        "remainder": {"remainder": -0.25},
        "heads": {"0": -1.0, "1": 4.125},
        "MLP": {"0": 0.25, "1": 0.0},
        "experts": {"0": 0.0, "1": 1.5},
    }
    assert sum(sum(bar.values()) for bar in bars.values()) == pytest.approx(TOTAL)
    assert figure.layout.barmode == "relative"
    assert list(figure.layout.xaxis.categoryarray) == ["embedding", "0", "1", "remainder"]


@pytest.mark.parametrize("draw", [figures.attribution_waterfall, figures.attribution_layers])
def test_text_of_the_model_is_escaped(draw):
    title = draw(DIRECT).layout.title
    assert "&lt;i&gt;" in title.text and "&lt;b&gt;" in title.text
    assert "=&lt;u&gt;" in title.subtitle.text and "total 5.12 logits" in title.subtitle.text


@pytest.mark.parametrize("draw", [figures.attribution_waterfall, figures.attribution_layers])
def test_no_parts_are_said_to_be_none(draw):
    figure = draw(DirectAttribution("m", "logit", 0, "a", (), 0.0))
    assert "no parts" in figure.layout.annotations[0].text
