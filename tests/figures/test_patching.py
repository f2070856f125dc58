"""Maps of patches show the effects that they were given, and escape text."""

import pytest
import torch

from qwen3lab import figures
from qwen3lab.patching.results import Ablated, Agreement, Patched

HOSTILE = "<b>$x$"
SHARED = {
    "model_name": HOSTILE,
    "method": "patching",
    "metric": "logit “8” - logit “<i>”",
    "unit": "logits",
    "layers": (1, 4),
    "start": -2.0,
}


def patched(values, axes, **changes):
    values = torch.tensor(values)
    options = {
        "site": "resid_post",
        "axes": axes,
        "tokens": ("3", HOSTILE),
        "positions": (0, 7),
        "values": values,
        "raw": -2 + 4 * values,
        "direction": "denoise",
        "clean": 2.0,
        "corrupt": -2.0,
        "clean_tokens": ("3", "a"),
        "corrupt_tokens": ("3", HOSTILE),
    }
    return Patched(**(SHARED | options | changes))


def ablated():
    return Ablated(
        **SHARED,
        site="z",
        axes=("layer", "head"),
        tokens=("a",),
        positions=(0,),
        values=torch.tensor([[0.5, -3.0], [0.0, 0.25]]),
        raw=torch.tensor([[-1.5, -5.0], [-2.0, -1.75]]),
        how="mean",
    )


BY_TOKEN = patched([[0.25, -0.5], [float("nan"), 1.0]], ("layer", "token"))


def only_trace(figure):
    (trace,) = figure.data
    return trace


def test_each_cell_is_the_effect_at_its_layer_and_token():
    trace = only_trace(figures.patching_map(BY_TOKEN))
    assert [list(row) for row in trace.z] == [[0.25, -0.5], [None, 1.0]]
    assert list(trace.y) == ["1", "4"]
    assert list(trace.x) == ["0 3", "7 &lt;b&gt;&#36;x&#36;"]
    assert trace.customdata[0][1] == "-4.000" and trace.customdata[1][0] == ""


def test_the_colours_are_symmetric_around_no_effect():
    trace = only_trace(figures.patching_map(BY_TOKEN))
    assert (trace.zmin, trace.zmax) == (-1.0, 1.0)


def test_noise_is_shown_as_the_change_from_the_clean_run():
    noised = patched([[1.0, 0.25], [1.0, 1.5]], ("layer", "token"), direction="noise", start=2.0)
    figure = figures.patching_map(noised)
    assert [list(row) for row in only_trace(figure).z] == [[0.0, -0.75], [0.0, 0.5]]
    assert "corrupt into clean" in figure.layout.title.subtitle.text


def test_heads_at_tokens_have_a_row_for_each_layer_and_head():
    values = [[[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]], [[0.7, 0.8], [0.9, 1.0], [1.1, 1.2]]]
    figure = figures.patching_map(patched(values, ("layer", "kv_head", "token")))
    trace = only_trace(figure)
    assert list(trace.y) == ["1.0", "1.1", "1.2", "4.0", "4.1", "4.2"]
    assert trace.z[4][1] == pytest.approx(1.0)
    assert figure.layout.yaxis.title.text == "layer.key/value head"


def test_a_path_to_mlps_is_one_column():
    trace = only_trace(figures.patching_map(patched([0.5, 0.25], ("layer",), site="mlp 0 to mlp")))
    assert [list(row) for row in trace.z] == [[0.5], [0.25]]
    assert list(trace.x) == ["mlp 0 to mlp"]


def test_an_ablation_is_in_the_unit_of_the_metric():
    figure = figures.patching_map(ablated())
    trace = only_trace(figure)
    assert trace.z[0][1] == -3.0 and trace.zmax == 3.0
    assert trace.colorbar.title.text == "change of the metric (logits)"
    assert figure.layout.title.text.startswith("Ablation: z")


def test_text_is_escaped_and_the_agreement_is_shown():
    measured = Agreement(0.875, 0.9, 12)
    figure = figures.patching_map(
        patched([[0.0, 0.0], [0.0, 0.0]], ("layer", "token"), measured=measured)
    )
    title, subtitle = figure.layout.title.text, figure.layout.title.subtitle.text
    assert "&lt;b&gt;&#36;x&#36;" in title and "<b>" not in title
    assert "&lt;i&gt;" in subtitle
    assert "correlation 0.88, same sign 90%, on 12 cells" in subtitle
