"""The figure of two aligned runs."""

from dataclasses import replace

import pytest
import torch

from qwen3lab import figures
from qwen3lab.analysis.alignment import Alignment, alignment
from qwen3lab.analysis.differences import Difference, attention_difference, routing_difference
from qwen3lab.figures.theme import traces
from tests.analysis.test_alignment import run

NAMES = ("<b>four</b>", "five")


def aligned() -> Alignment:
    """The fourth of five tokens was replaced: `&` by `<`."""
    return alignment(run("3+ &?"), run("3+ <?!"), names=NAMES)


def attention() -> Difference:
    return attention_difference(aligned(), 2, 1)


def routing() -> Difference:
    return routing_difference(aligned(), 3)


def prediction() -> Difference:
    values = torch.tensor([[torch.nan, 0.5, -2.0, 0.0, 1.0], [torch.nan, 0.1, 0.0, 0.2, 0.3]])
    found = aligned()
    return Difference(
        "the prediction of each token",
        "difference (nats)",
        values,
        ("a", "b"),
        "measure",
        found,
        "-",
    )


@pytest.mark.parametrize("made", [attention, routing, prediction])
def test_a_difference_is_drawn_on_a_scale_that_is_symmetric_around_zero(made) -> None:
    found = made()
    (trace,) = traces(figures.difference(found))
    shown = torch.tensor([[float("nan") if v is None else float(v) for v in r] for r in trace.z])
    torch.testing.assert_close(shown, found.values, equal_nan=True, check_dtype=False)
    largest = float(found.values.nan_to_num().abs().max())
    assert trace.zmax == -trace.zmin == pytest.approx(largest)
    middle = trace.colorscale[len(trace.colorscale) // 2]
    assert middle[0] == 0.5 and middle[1] == "rgb(247,247,247)"


def test_the_title_names_both_runs_and_the_subtitle_says_what_the_colours_mean() -> None:
    layout = figures.difference(attention()).layout
    assert layout.title.text == "Attention of layer 2, head 1: &lt;b&gt;four&lt;/b&gt; minus five"
    assert "red: higher in &lt;b&gt;four&lt;/b&gt;; blue: higher in five" in (
        layout.title.subtitle.text
    )
    assert layout.xaxis.title.text == "key token" and layout.yaxis.title.text == "query token"


def test_a_label_has_the_tokens_of_both_runs_only_where_they_differ() -> None:
    (trace,) = traces(figures.difference(routing()))
    assert list(trace.x) == ["0 3", "1 +", "2 ·", "3 &amp; ≠ &lt;", "4 ?"]
    assert list(trace.y) == ["0", "1", "2", "3", "4", "5"]
    assert trace.hovertemplate.startswith("expert %{y}<br>token %{x}<br>difference of routing")


def test_runs_without_a_common_token_give_a_sentence_in_place_of_a_map() -> None:
    nothing = attention_difference(alignment(run("ab"), run("xyz")), 0, 0)
    figure = figures.difference(nothing)
    assert "no token of one run is in the other" in figure.layout.annotations[0].text


def test_too_many_tokens_are_refused_with_the_way_to_select_some() -> None:
    found = aligned()
    long = replace(found, pairs=found.pairs[:1] * 513)
    wide = replace(routing(), values=torch.zeros(6, 513), aligned=long)
    with pytest.raises(ValueError, match=r"513 tokens are aligned.*aligned.part\(0, 500\)"):
        figures.difference(wide)
