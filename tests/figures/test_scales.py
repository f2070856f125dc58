"""Colour scales are linear for few values; for many, the values decide, and the bar says how."""

import numpy as np
import plotly.graph_objects as go
import pytest
import torch

from qwen3lab.figures.scales import ColourScale, ScaleChoice, add_key, colouring, scale_for


def uniform_attention(n: int, *, sink: float = 0.0) -> torch.Tensor:
    """Each query attends equally to all keys so far, apart from the sink's share."""
    counts = torch.arange(1, n + 1)[:, None]
    table = ((1 - sink) / counts * torch.ones(n, n)).tril()
    table[:, 0] += sink
    return table.masked_fill(torch.ones(n, n).triu(1) > 0, torch.nan)


def test_few_values_are_linear_from_low_to_high_whatever_they_are() -> None:
    values = torch.full((60, 60), 1e-6)
    values[0, 0] = 1.0
    assert scale_for(values) == ColourScale("linear", 0.0, 1.0)


@pytest.mark.parametrize("n", [500, 2000])
@pytest.mark.parametrize("sink", [0.0, 0.6, 0.95])
def test_a_sink_leaves_the_other_weights_of_a_long_text_distinguishable(n, sink) -> None:
    table = uniform_attention(n, sink=sink)
    scale = scale_for(table)
    assert scale.kind in ("square root", "logarithm")
    middle = float(table[n // 2, n // 4])
    # Twice the weight of a middle key differs by 10 of the 255 colours or more.
    one, two = scale.places(np.array([middle, 2 * middle]))
    assert 255 * (two - one) >= 10 and one > 0.02
    if sink:
        assert scale.places(np.array([float(table[n - 1, 0])]))[0] >= min(1.0, two + 0.1)


def test_values_of_similar_size_stay_linear() -> None:
    values = 0.01 * (0.5 + torch.rand(80, 80, generator=torch.Generator().manual_seed(0)))
    assert scale_for(values, high=0.015) == ColourScale("linear", 0.0, 0.015)


def test_the_clipping_quantile_is_computed_from_the_values() -> None:
    values = torch.linspace(0.01, 0.02, 10_000).reshape(100, 100)
    values[0, :10] = 0.9  # 10 of 10,000: above the 99.5 % quantile
    scale = scale_for(values)
    assert scale.clipped
    assert scale.high == pytest.approx(float(np.quantile(values.double().numpy(), 0.995)))
    assert "clipped at the 99.5% quantile" in scale.note()
    assert scale.ticks()[-1][1].startswith("≥ ")


def test_signed_values_stay_symmetric_about_zero() -> None:
    values = torch.randn(100, 100, generator=torch.Generator().manual_seed(1))
    values[3, 4] = -300.0
    scale = scale_for(values, low=-300.0, high=300.0)
    assert scale.kind == "linear" and scale.low == -scale.high and 2 < scale.high < 4
    assert scale.places(np.array([0.0]))[0] == pytest.approx(0.5)


def test_infinite_and_missing_values_do_not_decide() -> None:
    values = torch.full((100, 100), 0.5)
    values[0, 0], values[1] = torch.inf, torch.nan
    assert scale_for(values).kind == "linear"
    assert scale_for(torch.full((100, 100), torch.nan)) == ColourScale("linear", 0.0, 1.0)


@pytest.mark.parametrize(
    "scale",
    [
        ColourScale("linear", -2.0, 3.0),
        ColourScale("square root", 0.0, 0.04, clipped=True),
        ColourScale("logarithm", 1e-4, 1.0),
    ],
)
def test_places_and_values_are_inverse_and_ticks_are_inside(scale) -> None:
    values = np.linspace(scale.low, scale.high, 7)
    np.testing.assert_allclose(scale.values(scale.places(values)), values, rtol=1e-9, atol=1e-12)
    assert scale.places(np.array([scale.low - 1, scale.high + 1])).tolist() == [0.0, 1.0]
    places = [place for place, _ in scale.ticks()]
    assert places == sorted(places) and (places[0], places[-1]) == (0.0, 1.0)
    for place, text in scale.ticks()[1:-1]:
        assert float(text) == pytest.approx(float(scale.values(np.array([place]))[0]), rel=0.06)


def test_a_bent_palette_gives_each_value_the_colour_of_its_place() -> None:
    scale = ColourScale("square root", 0.0, 0.04)
    drawn = colouring(scale, "Viridis", "weight")
    assert (drawn["zmin"], drawn["zmax"]) == (0.0, 0.04) and drawn["showscale"] is False
    quarter = [colour for place, colour in drawn["colorscale"] if place == pytest.approx(0.25)]
    straight = colouring(ColourScale("square root", 0.0, 0.04), "Viridis", "weight")["colorscale"]
    # A quarter of the top is half way along a square root: stop 64 of 0 to 128.
    assert quarter == [straight[64][1]]
    figure = add_key(go.Figure(), scale, "Viridis", "weight")
    (key,) = figure.data
    assert key.marker.colorbar.title.text == "weight; square root"
    assert key.x == (None,) and key.marker.colorbar.ticktext[-1] == "0.04"


def test_a_chosen_scale_is_used_for_few_values_too_and_is_named() -> None:
    values = torch.tensor([[0.0, 0.25, 1.0]])
    for kind, expected in (("linear", 0.25), ("square root", 0.5)):
        scale = ScaleChoice.named(kind).scale(values)
        assert scale.places(np.array([0.25]))[0] == pytest.approx(expected)
        assert scale.note() == kind


def test_a_chosen_logarithm_starts_at_the_smallest_value_that_is_not_0() -> None:
    scale = ScaleChoice.named("logarithm").scale(torch.tensor([[0.0, 0.01, 0.1, 1.0]]))
    places = scale.places(np.array([0.0, 0.01, 0.1, 1.0]))
    assert places == pytest.approx([0, 0, 0.5, 1], abs=1e-6)
    assert scale.note() == "logarithm"


def test_a_chosen_quantile_is_that_of_the_values_and_is_stated() -> None:
    values = torch.linspace(0.01, 1.0, 100)[None]
    scale = ScaleChoice.named("square root, clipped at 97.5%").scale(values)
    assert scale.clipped and scale.high == pytest.approx(np.quantile(values.numpy(), 0.975))
    assert scale.note() == "square root, clipped at the 97.5% quantile"
    assert ScaleChoice.named("linear, clipped at 90%").scale(torch.ones(1, 9)).note() == "linear"


def test_signed_values_stay_linear_and_are_clipped_at_both_ends() -> None:
    values = torch.linspace(-1, 1, 201)[None]
    scale = ScaleChoice.named("logarithm, clipped at 90%").scale(values, low=-1.0)
    assert (scale.kind, scale.low) == ("linear", -scale.high)
    assert scale.high == pytest.approx(np.quantile(values[values != 0].abs().numpy(), 0.9))


def test_a_map_without_values_can_have_any_scale() -> None:
    scale = ScaleChoice.named("logarithm").scale(torch.full((2, 2), torch.nan))
    assert np.isnan(scale.places(np.full(3, np.nan))).all()


@pytest.mark.parametrize(
    "text",
    ["", "log", "linear, clipped at 3%", "linear, clipped at x%", "automatic, clipped at 99%"],
)
def test_a_text_that_is_no_scale_is_refused_with_those_that_are(text) -> None:
    with pytest.raises(ValueError, match="is no colour scale: expected automatic, or linear"):
        ScaleChoice.named(text)
